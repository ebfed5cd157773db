//! Every claim of SECURITY.md is held by a test that exists.

use std::{collections::BTreeSet, fs};

/// `file::name` of everything between back-ticks that looks like it.
fn references(text: &str) -> BTreeSet<(String, String)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|word| word.split_once(".rs::"))
        .map(|(file, name)| (format!("{file}.rs"), name.to_owned()))
        .collect()
}

/// Whether `source` has a test function of this name, or a type of this name whose example must not compile.
fn holds(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim_start).collect();
    let declared = |keyword: &str| {
        lines.iter().position(|line| {
            let declared = line.split_once(keyword).and_then(|(before, rest)| {
                let is_start = before.chars().all(|c| c.is_ascii_lowercase() || c == ' ');
                is_start.then_some(rest)
            });
            declared
                .and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    // attributes and comments directly above the declaration
    let above = |at: usize| {
        lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"))
    };
    let is_test = |at| above(at).any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    let is_example = |at| above(at).any(|line| line.contains("```compile_fail"));
    declared("fn ").is_some_and(is_test) || declared("struct ").is_some_and(is_example)
}

#[test]
fn every_test_that_the_security_page_names_exists() {
    let page = fs::read_to_string("SECURITY.md").unwrap();
    let references = references(&page);
    assert!(references.len() > 50, "only {} references were found", references.len());
    let missing: Vec<_> = references
        .into_iter()
        .filter(|(file, name)| !fs::read_to_string(file).is_ok_and(|source| holds(&source, name)))
        .map(|(file, name)| format!("{file}::{name}"))
        .collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:#?}");
}

#[test]
fn every_claim_of_the_security_page_names_a_test() {
    let page = fs::read_to_string("SECURITY.md").unwrap();
    let mut claims = 0;
    let mut within = false;
    for line in page.lines() {
        match line {
            "| Claim | Held by |" => within = true,
            line if !line.starts_with('|') => within = false,
            line if within && !line.starts_with("|---") => {
                claims += 1;
                assert!(!references(line).is_empty(), "no test holds: {line}");
            }
            _ => {}
        }
    }
    assert!(claims > 40, "only {claims} claims were found");
}

#[test]
fn every_limit_of_the_security_page_is_where_it_says() {
    let page = fs::read_to_string("SECURITY.md").unwrap();
    let limits = page.split("## Limits").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let words: Vec<_> = limits.split('`').skip(1).step_by(2).collect();
    let sources: String = words
        .iter()
        .filter(|word| word.ends_with(".rs"))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let names: Vec<_> =
        words.iter().filter(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_')).collect();
    assert!(names.len() >= 5);
    for name in names {
        assert!(
            sources.contains(&format!("const {name}:")),
            "{name} is not in the files that the table names"
        );
    }
}

#[test]
fn a_name_that_is_no_test_is_noticed() {
    let source = "/// ```compile_fail,E0277\n/// ```\npub struct Key;\n#[test]\nfn proven() {}\n\n#[tokio::test(flavor = \"x\")]\n\
                  async fn later() {}\nfn helper() {}\n/// It is.\npub struct Other;\n";
    for (name, want) in [
        ("proven", true),
        ("later", true),
        ("helper", false),
        ("prove", false),
        ("Key", true),
        ("Other", false),
    ] {
        assert_eq!(holds(source, name), want, "{name}");
    }
}

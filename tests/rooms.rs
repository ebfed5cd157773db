//! The arrows between rooms: what `docs/design/rooms.md` does not allow, no file may use.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by ending")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Rooms that every other may use.
const EVERYWHERE: [&str; 2] = ["api", "world"];

/// The table of `docs/design/rooms.md`: room → rooms it may use. `None` means every room below it.
fn table() -> Vec<(String, Option<BTreeSet<String>>)> {
    let text = fs::read_to_string("docs/design/rooms.md").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [room, _, may] = cells[..] else { panic!("a row of three cells: {row}") };
        let may = (may != "everything below").then(|| quoted(may).collect());
        (room.trim_matches('`').trim_end_matches('/').to_owned(), may)
    })
    .collect()
}

/// The words between back-ticks.
fn quoted(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The rooms that a source file uses, outside comments and its test module.
fn used(source: &str) -> BTreeSet<String> {
    let code: String = source
        .lines()
        .map(str::trim_start)
        // test modules stand at the end of a file and may use more
        .take_while(|line| !line.starts_with("mod tests {"))
        .filter(|line| !line.starts_with("//"))
        .collect::<Vec<_>>()
        .join(" ");
    let mut rooms = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            rooms.extend(heads(group));
        } else {
            rooms.extend(word(rest));
        }
    }
    rooms
}

/// The first words of the elements of `{…}`, whose `{` is gone.
fn heads(group: &str) -> BTreeSet<String> {
    let (mut depth, mut heads, mut at_head) = (0, BTreeSet::new(), true);
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            c if c.is_whitespace() => {}
            _ if at_head => {
                heads.extend(word(&group[index..]));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // a folder or file of tests is compiled for tests only
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn no_room_uses_one_that_it_may_not() {
    let table = table();
    let names: Vec<_> = table.iter().map(|(room, _)| room.clone()).collect();
    let mut wrong = BTreeMap::new();
    for (index, (room, may)) in table.iter().enumerate() {
        let may = may.clone().unwrap_or_else(|| names[index + 1..].iter().cloned().collect());
        for file in sources(&Path::new("src").join(room)) {
            for target in used(&fs::read_to_string(&file).unwrap()) {
                let is_allowed = target == *room || EVERYWHERE.contains(&&*target) || may.contains(&target);
                if names.contains(&target) && !is_allowed {
                    wrong.entry(format!("{room} → {target}")).or_insert_with(Vec::new).push(file.clone());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that docs/design/rooms.md does not allow: {wrong:#?}");
}

#[test]
fn every_room_is_in_the_table_and_every_row_is_a_room() {
    let listed: BTreeSet<_> = table().into_iter().map(|(room, _)| room).collect();
    let rooms: BTreeSet<_> = fs::read_dir("src")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, rooms);
}

#[test]
fn arrows_only_point_down() {
    let table = table();
    let position = |room: &str| table.iter().position(|(name, _)| name == room).unwrap();
    for (room, may) in &table {
        for target in may.iter().flatten() {
            assert!(position(target) > position(room), "{room} → {target} points up");
        }
    }
}

#[test]
fn only_crypto_holds_unsafe_code() {
    for file in sources(Path::new("src")) {
        let is_crypto = file.starts_with("src/crypto");
        let source = fs::read_to_string(&file).unwrap();
        let holds =
            source.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"));
        assert!(is_crypto || !holds, "{}", file.display());
    }
}

#[test]
fn imports_are_read_in_every_form() {
    let source = "//! crate::cli::X\nuse crate::{\n    api::{self, Name},\n    store::Record,\n};\nuse crate::pki;\n\
                  fn f() { crate::crypto::harden() }\n#[cfg(test)]\nmod tests {\n use crate::operator::X;\n}\n";
    assert_eq!(used(source), ["api", "crypto", "pki", "store"].map(str::to_owned).into());
}

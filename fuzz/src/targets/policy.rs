//! Policies decide as a naive matcher does, and survive being written and read.

use kes::{
    api::{
        EnclaveName, Identity,
        message::{self, Matching},
    },
    authz::{Decision, Policy, Role, Rule, action::ListKeys, authorize},
};

use super::glob;

/// The first line is the path; each other begins with `+` (allow), `-` (deny) or `p` (match by prefix).
pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let path = lines.next().unwrap_or_default();
    let mut policy = message::Policy::default();
    for line in lines {
        match line.chars().next() {
            Some('+') => policy.allow.push(line[1..].to_owned()),
            Some('-') => policy.deny.push(line[1..].to_owned()),
            Some('p') => policy.matching = Matching::Prefix,
            _ => {}
        }
    }
    let matches = |pattern: &String| match policy.matching {
        Matching::Glob => glob::matches(pattern, path),
        Matching::Prefix => by_prefix(pattern, path),
    };
    let allow: Option<Vec<bool>> = policy.allow.iter().map(matches).collect();
    let deny: Option<Vec<bool>> = policy.deny.iter().map(matches).collect();

    let compiled = Policy::compile(&policy);
    let (Some(allow), Some(deny)) = (allow, deny) else {
        let error = compiled.expect_err("a malformed pattern is refused");
        assert!(error.error.position <= error.error.pattern.len());
        assert!(error.error.pattern.is_char_boundary(error.error.position), "{error}");
        return;
    };
    let compiled = compiled.expect("well-formed patterns are accepted");
    if policy.matching == Matching::Glob
        && policy.allow.iter().chain(&policy.deny).any(|p| glob::meets_slash(p))
    {
        for (pattern, may) in policy.allow.iter().zip(allow).chain(policy.deny.iter().zip(deny)) {
            let alone = message::Policy { allow: vec![pattern.clone()], ..message::Policy::default() };
            let alone = Policy::compile(&alone).expect("well-formed patterns are accepted");
            assert!(may || alone.decide(path) == Decision::Deny(None), "{pattern:?} on {path:?}");
        }
        return;
    }
    let want = match (deny.iter().position(|hit| *hit), allow.iter().position(|hit| *hit)) {
        (Some(index), _) => Decision::Deny(Some(index)),
        (None, Some(index)) => Decision::Allow(index),
        (None, None) => Decision::Deny(None),
    };
    assert_eq!(compiled.decide(path), want, "{policy:?} on {path:?}");

    // what is decided is what is authorised
    let (identity, enclave) = (Identity::new("app").expect("a name"), EnclaveName::default_enclave());
    let proof = authorize::<ListKeys>(&identity, &enclave, Role::Assigned(&compiled), path);
    match (want, proof) {
        (Decision::Allow(index), Ok(proof)) => assert_eq!(proof.rule(), Rule::Allow(index)),
        (Decision::Deny(Some(index)), Err(denied)) => assert_eq!(denied.rule, Rule::Deny(index)),
        (Decision::Deny(None), Err(denied)) => assert_eq!(denied.rule, Rule::Default),
        (want, _) => panic!("{want:?} was not what happened"),
    }
    for role in [Role::Unknown, Role::SystemAdmin, Role::Assigned(&Policy::EMPTY)] {
        assert!(authorize::<ListKeys>(&identity, &enclave, role, path).is_err(), "{role:?}");
    }

    let written = serde_json::to_string(&policy).expect("a policy is JSON");
    let read: message::Policy = serde_json::from_str(&written).expect("what was written is read");
    assert_eq!(read, policy);
}

/// A `*` at the end matches any rest; one elsewhere is malformed.
fn by_prefix(pattern: &str, path: &str) -> Option<bool> {
    match pattern.split('*').collect::<Vec<_>>()[..] {
        [exact] => Some(exact == path),
        [prefix, ""] => {
            Some(path.len() >= prefix.len() && path.as_bytes()[..prefix.len()] == *prefix.as_bytes())
        }
        _ => None,
    }
}

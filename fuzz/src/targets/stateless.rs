//! Configuration files of stateless KES: read or refused with a sentence, what was understood is understood again, and
//! nothing in it lets in whom the file does not name.

use std::collections::BTreeSet;

use kes::{api::message::Policy as Rules, authz::Policy, cli::probe};
use serde_json::{Value, json};

use super::config::is_a_sentence;

/// The bytes are the file.
pub(super) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let understood = match probe::stateless_config(text) {
        Err(message) => return is_a_sentence(&message),
        Ok(understood) => understood,
    };
    let again = probe::stateless_config(&understood.to_string());
    assert_eq!(again.as_ref(), Ok(&understood), "{text}");
    let admin = understood["admin"]["identity"].as_str().expect("there is an admin");
    assert!(!admin.is_empty(), "{text}");
    let mut seen = BTreeSet::from([admin]);
    for (name, policy) in understood["policy"].as_object().expect("policies are by name") {
        let rules: Rules = serde_json::from_value(policy.clone()).expect("a policy is JSON");
        Policy::compile(&rules).unwrap_or_else(|error| panic!("{name} was accepted: {error}"));
        for identity in strings(&policy["identities"]) {
            assert!(seen.insert(identity), "{identity} has two roles");
        }
    }
    let proxy = &understood["tls"]["proxy"];
    let proxies: Vec<_> = strings(&proxy["identities"]).collect();
    assert!(proxies.is_empty() || proxy["header"]["cert"] != json!(null), "a proxy without a header");
    assert!(!proxies.contains(&admin), "a proxy is the admin");
    for (path, route) in understood["api"].as_object().expect("routes are by path") {
        assert!(route["skip_auth"] != json!(true) || !CLOSED.contains(&path.as_str()), "{path} is open");
    }
}

/// Routes by which somebody without rights could do harm or learn what is in the server.
const CLOSED: [&str; 14] = [
    "/v1/key/create/",
    "/v1/key/import/",
    "/v1/key/delete/",
    "/v1/key/generate/",
    "/v1/key/encrypt/",
    "/v1/key/decrypt/",
    "/v1/key/bulk/decrypt/",
    "/v1/key/hmac/",
    "/v1/key/list/",
    "/v1/policy/write/",
    "/v1/policy/assign/",
    "/v1/identity/list/",
    "/v1/log/audit",
    "/v1/sys/seal",
];

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

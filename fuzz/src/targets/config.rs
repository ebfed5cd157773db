//! Configuration files: read or refused with a sentence, and what was understood is understood again.

use std::collections::BTreeSet;

use kes::{authz::Policy, cli::probe};
use serde_json::{Value, json};

/// The first byte chooses `init.yml` or `config.yml`, the rest is the file.
pub(super) fn run(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if kind % 2 == 0 { init(text) } else { server(text) }
}

fn server(text: &str) {
    match probe::server_config(text) {
        Err(message) => is_a_sentence(&message),
        Ok(understood) => {
            let again = probe::server_config(&understood.to_string());
            assert_eq!(again.as_ref(), Ok(&understood), "{text}");
        }
    }
}

fn init(text: &str) {
    let plan = match probe::init_config(text) {
        Err(message) => return is_a_sentence(&message),
        Ok(plan) => plan,
    };
    assert!(!plan.enclaves.is_empty() && plan.cluster_id.is_none());
    for enclave in &plan.enclaves {
        assert_ne!(enclave.admin, plan.system_admin, "roles stay apart");
        let mut seen = BTreeSet::from([&enclave.admin, &plan.system_admin]);
        for (name, policy, identities) in &enclave.policies {
            Policy::compile(policy).unwrap_or_else(|error| panic!("{name} was accepted: {error}"));
            for identity in identities {
                assert!(seen.insert(identity), "{identity} has two roles");
            }
        }
    }
    let written = render(&plan);
    let again = probe::init_config(&written.to_string()).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!(render(&again), written);
}

/// The plan as an `init.yml`; JSON is YAML.
fn render(plan: &kes::service::bootstrap::Plan) -> Value {
    let mut file = plan.settings.clone();
    let enclaves: serde_json::Map<_, _> = plan
        .enclaves
        .iter()
        .map(|enclave| {
            let policies: serde_json::Map<_, _> = enclave
                .policies
                .iter()
                .map(|(name, policy, identities)| {
                    let mut policy = serde_json::to_value(policy).expect("a policy is JSON");
                    policy["identities"] = json!(identities);
                    (name.to_string(), policy)
                })
                .collect();
            (enclave.name.to_string(), json!({ "admin": { "identity": enclave.admin }, "policy": policies }))
        })
        .collect();
    if file["tls"]["verify"] == json!(true) {
        file["tls"]["client"] = json!({ "verify_cert": "on" });
    }
    file["version"] = json!("v1");
    file["system"] = json!({ "admin": { "identity": plan.system_admin } });
    file["enclave"] = enclaves.into();
    file
}

/// What, why, and what next; the parser's picture of the line, which may show a password, is not among it.
pub(super) fn is_a_sentence(message: &str) {
    assert!(message.starts_with("Error: "), "{message}");
    assert!(message.lines().count() <= 3 + message.matches("\\n").count(), "{message}");
}

//! The rules of the schema, by the interpreter that kube brings; `tests/e2e/invalid_specs.rs` asks the real API server.

use kube::core::cel::{validate_cel, validate_cel_update};

use super::*;

fn cluster(spec: &str) -> KesCluster {
    let text = format!(
        "{{apiVersion: kes-operator.io/v1alpha1, kind: KesCluster, metadata: {{name: vault, namespace: keys}}, spec: {spec}}}"
    );
    serde_saphyr::from_str(&text).unwrap()
}

/// The messages of the rules that `after` breaks, as a new resource or as a change of `before`.
fn broken(before: Option<&KesCluster>, after: &KesCluster) -> Vec<String> {
    let outcome = before.map_or_else(|| validate_cel(after), |before| validate_cel_update(after, before));
    outcome.err().into_iter().flatten().map(|error| error.message).collect()
}

#[test]
fn a_resource_within_the_rules_breaks_none() {
    let fine = [
        "{}",
        "{replicas: 3}",
        "{storage: {size: 2.5Gi, storageClassName: fast}}",
        "{enclaves: [{name: default}, {name: team-a}], tenants: [{name: t, namespace: n, keyName: k, enclave: default}]}",
        "{enclaves: [{name: default}], tenantSelector: {matchLabels: {a: b}}}",
        "{enclaves: [{name: team-a}]}",
        "{seal: {secretRef: {name: mine}}}",
    ];
    for spec in fine {
        let cluster = cluster(spec);
        assert_eq!(broken(None, &cluster), Vec::<String>::new(), "{spec}");
        assert_eq!(broken(Some(&cluster), &cluster), Vec::<String>::new(), "{spec}");
    }
}

/// Specs of a new resource, each with the one rule that it breaks.
fn new_resources() -> Vec<(&'static str, &'static str)> {
    vec![
        ("{replicas: 2}", "spec.replicas must be odd"),
        ("{replicas: 6}", "spec.replicas must be odd"),
        ("{storage: {size: '0'}}", "spec.storage.size must be greater than 0"),
        ("{storage: {size: 0.0Ki}}", "spec.storage.size must be greater than 0"),
        // also one that exists: MinIO cannot choose it
        (
            "{enclaves: [{name: default}, {name: other}], tenants: [{name: t, namespace: n, keyName: k, enclave: other}]}",
            "spec.tenants[].enclave must be 'default'",
        ),
        (
            "{enclaves: [{name: default}, {name: other}], tenantSelector: {matchLabels: {a: b}, enclave: other}}",
            "spec.tenantSelector.enclave must be 'default'",
        ),
        (
            "{enclaves: [{name: other}], tenants: [{name: t, namespace: n, keyName: k}]}",
            "spec.enclaves must have one called 'default'",
        ),
        (
            "{enclaves: [{name: other}], tenantSelector: {matchLabels: {a: b}}}",
            "spec.enclaves must have one called 'default'",
        ),
        ("{tenantSelector: {}}", "spec.tenantSelector needs matchLabels or matchExpressions"),
        (
            "{tenantSelector: {matchExpressions: [{key: a, operator: In}]}}",
            "values are needed for In and NotIn",
        ),
        (
            "{tenantSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
            "values are needed for In and NotIn",
        ),
        (
            "{tls: {serverSecretRef: {name: mine}, issuerRef: {name: ours}}}",
            "spec.tls takes serverSecretRef or issuerRef, not both",
        ),
    ]
}

#[test]
fn each_rule_about_a_new_resource_refuses_what_it_names() {
    for (spec, message) in new_resources() {
        let found = broken(None, &cluster(spec));
        assert!(found.len() == 1 && found[0].starts_with(message), "{spec}: {found:?}");
    }
}

/// Changes, each with the one rule that it breaks.
fn changes() -> Vec<(String, String, &'static str)> {
    let same_size = "size: 1Gi";
    vec![
        ("{}".to_owned(), "{seal: {secretRef: {name: mine}}}".to_owned(), "spec.seal cannot be changed"),
        ("{seal: {secretRef: {name: mine}}}".into(), "{}".into(), "spec.seal cannot be changed"),
        (
            "{seal: {secretRef: {name: mine}}}".into(),
            "{seal: {secretRef: {name: other}}}".into(),
            "spec.seal cannot be changed",
        ),
        (
            "{storage: {size: 1Gi}}".into(),
            "{storage: {size: 1000Mi}}".into(),
            "spec.storage.size cannot shrink",
        ),
        (
            format!("{{storage: {{{same_size}, storageClassName: fast}}}}"),
            format!("{{storage: {{{same_size}, storageClassName: slow}}}}"),
            "spec.storage.storageClassName cannot be changed",
        ),
        (
            format!("{{storage: {{{same_size}}}}}"),
            format!("{{storage: {{{same_size}, storageClassName: slow}}}}"),
            "spec.storage.storageClassName cannot be changed",
        ),
    ]
}

#[test]
fn each_rule_about_a_change_refuses_what_it_names() {
    for (before, after, message) in changes() {
        let found = broken(Some(&cluster(&before)), &cluster(&after));
        assert!(found.len() == 1 && found[0].starts_with(message), "{before} → {after}: {found:?}");
    }
    for (before, after) in [
        ("{storage: {size: 1Gi}}", "{storage: {size: 1024Mi}}"),
        ("{storage: {size: 1Gi}}", "{storage: {size: 2Gi}}"),
    ] {
        assert_eq!(
            broken(Some(&cluster(before)), &cluster(after)),
            Vec::<String>::new(),
            "{before} → {after}"
        );
    }
}

/// Names, each with the one rule that it breaks.
fn names() -> Vec<(String, &'static str)> {
    vec![
        ("n".repeat(41), "metadata.name must be 40 characters or fewer"),
        ("1st".into(), "metadata.name must begin with a letter"),
        ("a.b".into(), "metadata.name must begin with a letter"),
        ("minio".into(), "metadata.name must not begin with 'minio'"),
        ("minio-kms".into(), "metadata.name must not begin with 'minio'"),
    ]
}

#[test]
fn a_name_that_no_service_could_have_or_that_minio_would_take_for_its_own_is_refused() {
    for (name, message) in names() {
        let mut cluster = cluster("{}");
        cluster.metadata.name = Some(name.clone());
        let found = broken(None, &cluster);
        assert!(found.len() == 1 && found[0].starts_with(message), "{name}: {found:?}");
    }
}

/// The messages of all rules in a schema.
fn messages(schema: &serde_json::Value, found: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.extend(rule["message"].as_str().map(str::to_owned));
    }
    match schema {
        serde_json::Value::Object(fields) => fields.values().for_each(|field| messages(field, found)),
        serde_json::Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
        _ => {}
    }
}

#[test]
fn every_rule_of_the_definition_is_broken_in_the_table_here_and_in_that_of_the_real_api_server() {
    /// Enough of a message to tell it from all others.
    const BEGINNING: usize = 24;
    let mut all = Vec::new();
    messages(&serde_json::to_value(KesCluster::crd()).unwrap(), &mut all);
    all.sort();
    all.dedup();
    assert!(all.len() >= 13, "{all:#?}");
    let mut here: Vec<_> = new_resources().into_iter().map(|(_, message)| message).collect();
    here.extend(changes().into_iter().map(|(_, _, message)| message));
    here.extend(names().into_iter().map(|(_, message)| message));
    let there = include_str!("../../tests/e2e/invalid_specs.rs");
    for message in all {
        assert!(here.iter().any(|known| message.starts_with(known)), "not broken here: {message}");
        assert!(there.contains(&message[..BEGINNING]), "not broken on the real API server: {message}");
    }
}

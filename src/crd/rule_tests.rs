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

#[test]
fn each_rule_about_a_new_resource_refuses_what_it_names() {
    for (spec, message) in [
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
    ] {
        let found = broken(None, &cluster(spec));
        assert!(found.len() == 1 && found[0].starts_with(message), "{spec}: {found:?}");
    }
}

#[test]
fn each_rule_about_a_change_refuses_what_it_names() {
    let same_size = "size: 1Gi";
    for (before, after, message) in [
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
    ] {
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

#[test]
fn a_name_that_no_service_could_have_is_refused() {
    for (name, message) in [
        ("n".repeat(41), "metadata.name must be 40 characters or fewer"),
        ("1st".into(), "metadata.name must begin with a letter"),
        ("a.b".into(), "metadata.name must begin with a letter"),
    ] {
        let mut cluster = cluster("{}");
        cluster.metadata.name = Some(name.clone());
        let found = broken(None, &cluster);
        assert!(found.len() == 1 && found[0].starts_with(message), "{name}: {found:?}");
    }
}

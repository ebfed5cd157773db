//! Every rule, broken once.

use super::{fixture::*, *};
use crate::api::EnclaveName;

type Change = Box<dyn FnOnce(&mut KesCluster)>;

fn refusal(change: impl FnOnce(&mut KesCluster)) -> (String, String) {
    let mut cluster = cluster();
    change(&mut cluster);
    match validate(&cluster, &defaults()) {
        Err(Rule::InvalidSpec { field, problem }) => (field, problem),
        other => panic!("{other:?}"),
    }
}

fn select(cluster: &mut KesCluster, selector: &str) {
    cluster.spec.tenant_selector = Some(serde_saphyr::from_str(selector).unwrap());
}

#[test]
fn every_broken_rule_names_its_field() {
    let cases: Vec<(&str, Change)> = vec![
        ("metadata.name", Box::new(|c| c.metadata.name = Some("1st".into()))),
        ("metadata.name", Box::new(|c| c.metadata.name = Some("n".repeat(41)))),
        ("metadata.name", Box::new(|c| c.metadata.name = Some("minio-kms".into()))),
        ("metadata.uid", Box::new(|c| c.metadata.uid = None)),
        ("spec.replicas", Box::new(|c| c.spec.replicas = 2)),
        ("spec.replicas", Box::new(|c| c.spec.replicas = 0)),
        ("spec.replicas", Box::new(|c| c.spec.replicas = 3)),
        ("spec.image", Box::new(|c| c.spec.image = Some(String::new()))),
        ("spec.storage.size", Box::new(|c| c.spec.storage.size = "much".into())),
        ("spec.storage.size", Box::new(|c| c.spec.storage.size = "0".into())),
        ("spec.storage.size", Box::new(|c| c.spec.storage.size = "1e3".into())),
        (
            "spec.enclaves",
            Box::new(|c| {
                c.spec.enclaves.clear();
                c.spec.tenants.clear();
            }),
        ),
        ("spec.enclaves[0].name", Box::new(|c| c.spec.enclaves[0].name = "a b".into())),
        ("spec.enclaves[1]", Box::new(|c| c.spec.enclaves.push(c.spec.enclaves[0].clone()))),
        ("spec.enclaves[0].keys[0].name", Box::new(|c| c.spec.enclaves[0].keys[0].name = "a/b".into())),
        (
            "spec.enclaves[0].policies[0].name",
            Box::new(|c| c.spec.enclaves[0].policies[0].name = String::new()),
        ),
        (
            "spec.enclaves[0].policies[0].deny[0]",
            Box::new(|c| c.spec.enclaves[0].policies[0].deny[0] = "v1/*".into()),
        ),
        (
            "spec.enclaves[0].identities[0].policy",
            Box::new(|c| c.spec.enclaves[0].identities[0].policy = "none".into()),
        ),
        (
            "spec.enclaves[0].identities[0].secretName",
            Box::new(|c| c.spec.enclaves[0].identities[0].secret_name = "A".into()),
        ),
        (
            "spec.enclaves[0].identities[0].secretName",
            Box::new(|c| c.spec.enclaves[0].identities[0].secret_name = "vault-ca".into()),
        ),
        (
            "spec.seal.secretRef.name",
            Box::new(|c| c.spec.seal = serde_saphyr::from_str("{secretRef: {name: vault-ca}}").unwrap()),
        ),
        (
            "spec.tls.serverSecretRef.name",
            Box::new(|c| {
                c.spec.tls = serde_saphyr::from_str("{serverSecretRef: {name: vault-server-tls}}").unwrap();
            }),
        ),
        ("spec.tenants[0].enclave", Box::new(|c| c.spec.tenants[0].enclave = "other".into())),
        (
            "spec.tenants[0].enclave",
            Box::new(|c| {
                // one that exists, but MinIO cannot choose it
                let second = crd::Enclave { name: "second".into(), ..c.spec.enclaves[0].clone() };
                c.spec.enclaves.push(crd::Enclave { identities: Vec::new(), ..second });
                c.spec.tenants[0].enclave = "second".into();
            }),
        ),
        ("spec.tenants[0].keyName", Box::new(|c| c.spec.tenants[0].key_name = "k".repeat(81))),
        ("spec.tenants[0].namespace", Box::new(|c| c.spec.tenants[0].namespace = "No".into())),
        ("spec.tenants[0].policy", Box::new(|c| c.spec.tenants[0].policy = Some("none".into()))),
        (
            "spec.tls",
            Box::new(|c| {
                let both = "{serverSecretRef: {name: mine}, issuerRef: {name: ours}}";
                c.spec.tls = serde_saphyr::from_str(both).unwrap();
            }),
        ),
        (
            "spec.tls.validityDays",
            Box::new(|c| c.spec.tls = serde_saphyr::from_str("{validityDays: 0}").unwrap()),
        ),
        (
            "spec.tls.validityDays",
            Box::new(|c| c.spec.tls = serde_saphyr::from_str("{validityDays: 3651}").unwrap()),
        ),
        ("spec.tenantSelector", Box::new(|c| select(c, "{}"))),
        (
            "spec.tenantSelector.matchExpressions",
            Box::new(|c| select(c, "{matchExpressions: [{key: a, operator: In}]}")),
        ),
        ("spec.tenantSelector.enclave", Box::new(|c| select(c, "{matchLabels: {a: b}, enclave: other}"))),
        ("spec.tenantSelector.keyName", Box::new(|c| select(c, "{matchLabels: {a: b}, keyName: a/b}"))),
        ("spec.tenantSelector.policy", Box::new(|c| select(c, "{matchLabels: {a: b}, policy: none}"))),
        ("spec.tenants[1]", Box::new(|c| c.spec.tenants.push(c.spec.tenants[0].clone()))),
    ];
    for (wanted, change) in cases {
        let (field, problem) = refusal(change);
        assert_eq!(field, wanted, "{problem}");
    }
}

#[test]
fn every_rule_that_is_broken_is_found_and_the_first_of_them_is_the_refusal() {
    let mut cluster = cluster();
    let spec = &mut cluster.spec;
    spec.replicas = 3;
    spec.storage.size = "much".into();
    let enclave = &mut spec.enclaves[0];
    enclave.keys.push(crd::Key { name: "a/b".into() });
    enclave.policies[0].allow = vec!["v1/*".into(), "v2/*".into()];
    enclave.identities[0].secret_name = "vault-ca".into();
    enclave.identities.push(crd::IdentityGrant {
        name: "app-2".into(),
        policy: "none".into(),
        secret_name: "vault-ca".into(),
    });
    spec.tenants[0].policy = Some("none".into());
    spec.tenants[0].key_name = String::new();
    spec.tenants.push(spec.tenants[0].clone());
    select(&mut cluster, "{matchLabels: {a: b}, keyName: a/b, policy: none}");
    let rules = examine(&cluster, &defaults()).unwrap_err();
    let fields = rules.iter().map(|rule| match rule {
        Rule::InvalidSpec { field, .. } => field.as_str(),
        other => panic!("{other:?}"),
    });
    // what is wrong in one place is there for whoever refers to it, and has its other rules looked at
    assert_eq!(
        fields.collect::<Vec<_>>(),
        [
            "spec.replicas",
            "spec.storage.size",
            "spec.enclaves[0].keys[1].name",
            "spec.enclaves[0].policies[0].allow[0]",
            "spec.enclaves[0].policies[0].allow[1]",
            "spec.enclaves[0].identities[1].policy",
            "spec.tenants[1]",
            "spec.tenants[0].policy",
            "spec.tenants[0].keyName",
            "spec.tenantSelector.policy",
            "spec.tenantSelector.keyName",
            "spec.enclaves[0].identities[0].secretName",
            "spec.enclaves[0].identities[1].secretName",
        ]
    );
    assert_eq!(validate(&cluster, &defaults()).err(), rules.into_iter().next());
}

#[test]
fn more_than_one_member_is_refused_with_the_way_out() {
    let (_, problem) = refusal(|c| c.spec.replicas = 3);
    assert!(problem.contains("later release") && problem.contains("set it to 1"), "{problem}");
}

#[test]
fn what_is_absent_gets_its_default() {
    let wanted = wanted();
    assert_eq!(wanted.image, "localhost/kes:dev");
    assert_eq!(
        wanted.seal,
        Seal { secret: "vault-seal".into(), key: "KES_UNSEAL_KEY".into(), generated: true }
    );
    assert_eq!(wanted.endpoint(), "https://vault.keys.svc.cluster.local:7373");
    assert_eq!(wanted.tenants[0].enclave, EnclaveName::default_enclave());
    let secrets: Vec<_> = wanted.purposes().iter().map(|purpose| purpose.secret("vault")).collect();
    assert_eq!(
        secrets,
        [
            "vault-ca",
            "vault-server-tls",
            "vault-seal",
            "vault-system-admin",
            "vault-enclave-default-admin",
            "app-1-kes",
            "vault-tenant-tenant-lite.myminio",
        ]
    );
}

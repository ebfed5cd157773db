//! Tables for every rule of `plan`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::{
    super::{material, observe::Apis, validate::fixture::wanted},
    *,
};
use crate::{
    crd::{Bootstrap, IssuedSecret},
    world::System,
};

/// A cluster whose Secrets all exist and are recorded.
fn complete() -> (Wanted, KesClusterStatus, Seen) {
    let wanted = wanted();
    let mut ring = Keyring::default();
    let mut secrets = BTreeMap::new();
    let mut status = KesClusterStatus::default();
    for purpose in wanted.purposes() {
        let secret = material::make(&wanted, &purpose, &ring, Timestamp::now(), &System).unwrap();
        let name = purpose.secret(&wanted.name);
        if !purpose.is_replaceable() {
            let fingerprint = keyring::fingerprint(&purpose, &secret).unwrap();
            status.secrets.push(IssuedSecret { name: name.clone(), fingerprint });
        }
        secrets.insert(name, secret.clone());
        ring.insert(purpose, secret);
    }
    let seen = Seen {
        secrets,
        seal: None,
        server_source: None,
        selected: Default::default(),
        expandable: None,
        apis: Apis::default(),
        stateful_set: None,
        pod: None,
        volumes: Vec::new(),
        member: Member::Absent,
    };
    (wanted, status, seen)
}

fn bootstrap(phase: BootstrapPhase) -> Option<Bootstrap> {
    Some(Bootstrap { cluster_id: "ours".into(), phase, completed_at: None })
}

fn go(wanted: &Wanted, status: &KesClusterStatus, seen: &Seen) -> Go {
    match plan(wanted, false, status, seen, Timestamp::now()) {
        Plan::Go(go) => *go,
        Plan::Halt(rule) => panic!("halted: {rule}"),
    }
}

fn halt(wanted: &Wanted, status: &KesClusterStatus, seen: &Seen) -> String {
    match plan(wanted, false, status, seen, Timestamp::now()) {
        Plan::Halt(rule) => rule.reason(),
        Plan::Go(go) => panic!("{go:?}"),
    }
}

#[test]
fn bootstrap_happens_exactly_once() {
    use BootstrapPhase::{Completed, Started};
    let initialised = |id: &str| Member::Initialised { cluster_id: id.into(), sealed: false };
    let sealed = Member::Initialised { cluster_id: "ours".into(), sealed: true };
    let (wanted, mut status, mut seen) = complete();
    let cases = [
        (Member::Absent, None, "WaitingForPod"),
        (Member::Silent("refused".into()), None, "WaitingForServer"),
        (Member::Empty, None, "Start"),
        (Member::Empty, Some(Started), "Tell(\"ours\")"),
        (Member::Empty, Some(Completed), "DataLost"),
        (initialised("ours"), Some(Started), "Complete(\"ours\")"),
        (initialised("ours"), Some(Completed), "Converge"),
        (initialised("other"), Some(Started), "OtherCluster"),
        (initialised("other"), Some(Completed), "OtherCluster"),
        // a retained volume is taken up again
        (initialised("kept"), None, "Complete(\"kept\")"),
        (sealed, Some(Completed), "Sealed"),
    ];
    for (member, phase, expected) in cases {
        seen.member = member.clone();
        status.bootstrap = phase.and_then(bootstrap);
        let step = match go(&wanted, &status, &seen).member {
            MemberStep::Hold(rule) => rule.reason(),
            step => format!("{step:?}"),
        };
        assert_eq!(step, expected, "{member:?} {phase:?}");
    }
}

/// A restore brings Secrets and Tenants back, but neither a status nor the keys' volume: new keys under the old names
/// would look well.
#[test]
fn what_was_bootstrapped_is_known_also_when_the_status_is_lost() {
    let (wanted, _, mut seen) = complete();
    let initialised = |id: &str| Member::Initialised { cluster_id: id.into(), sealed: false };
    let admin = seen.secrets.get_mut("vault-system-admin").unwrap();
    admin.annotations_mut().insert(names::BOOTSTRAPPED_ANNOTATION.into(), "ours".into());
    for (member, expected) in [
        (Member::Empty, "DataLost"),
        (initialised("ours"), "Complete(\"ours\")"),
        (initialised("other"), "OtherCluster"),
    ] {
        seen.member = member.clone();
        let step = match go(&wanted, &KesClusterStatus::default(), &seen).member {
            MemberStep::Hold(rule) => rule.reason(),
            step => format!("{step:?}"),
        };
        assert_eq!(step, expected, "{member:?}");
    }
}

#[test]
fn a_new_cluster_makes_everything_with_the_authority_first() {
    let (wanted, _, mut seen) = complete();
    seen.secrets.clear();
    let go = go(&wanted, &KesClusterStatus::default(), &seen);
    let mut made = go.make.clone();
    assert_eq!(go.make[0], Purpose::Authority);
    assert_eq!(go.certificate.step, certificate::Step::Make);
    made.insert(1, Purpose::ServerCertificate);
    assert_eq!(made, wanted.purposes());
}

#[test]
fn a_lost_secret_is_never_replaced() {
    for (secret, reason) in [
        ("vault-ca", "AuthoritySecretLost"),
        ("vault-seal", "SealSecretLost"),
        ("vault-system-admin", "SystemAdminSecretLost"),
        ("vault-enclave-default-admin", "EnclaveAdminSecretLost"),
    ] {
        let (wanted, status, mut seen) = complete();
        seen.secrets.remove(secret);
        assert_eq!(halt(&wanted, &status, &seen), reason);
    }
}

#[test]
fn a_volume_that_exists_forbids_a_new_unseal_key_even_without_a_record() {
    let (wanted, _, mut seen) = complete();
    seen.secrets.clear();
    seen.volumes
        .push(serde_json::from_value(serde_json::json!({"metadata": {"name": "data-vault-0"}})).unwrap());
    assert_eq!(halt(&wanted, &KesClusterStatus::default(), &seen), "AuthoritySecretLost");
}

#[test]
fn a_lost_secret_of_an_application_stops_only_that_application() {
    let (wanted, status, mut seen) = complete();
    seen.secrets.remove("app-1-kes");
    seen.secrets.remove("vault-tenant-tenant-lite.myminio");
    let go = go(&wanted, &status, &seen);
    let reasons: Vec<_> = go.lost.iter().map(|(_, rule)| rule.reason()).collect();
    assert_eq!(reasons, ["IdentitySecretLost", "TenantSecretLost"]);
    assert!(go.make.is_empty());
}

#[test]
fn an_exchanged_secret_is_noticed() {
    let (wanted, mut status, seen) = complete();
    for secret in &mut status.secrets {
        if secret.name == "vault-seal" {
            secret.fingerprint = "another".into();
        }
    }
    assert_eq!(halt(&wanted, &status, &seen), "SealSecretChanged");
}

#[test]
fn a_key_that_does_not_match_its_certificate_is_unreadable() {
    let (wanted, status, mut seen) = complete();
    let other = seen.secrets["app-1-kes"].data.clone().unwrap()["tls.key"].clone();
    let admin = seen.secrets.get_mut("vault-system-admin").unwrap();
    admin.data.as_mut().unwrap().insert("tls.key".into(), other);
    assert_eq!(halt(&wanted, &status, &seen), "SecretUnreadable");
}

#[test]
fn a_lost_server_certificate_is_made_anew_and_nothing_else_is() {
    let (wanted, status, mut seen) = complete();
    assert_eq!(go(&wanted, &status, &seen).certificate.step, certificate::Step::Keep);
    seen.secrets.remove("vault-server-tls").unwrap();
    let go = go(&wanted, &status, &seen);
    assert_eq!((go.certificate.step, go.make), (certificate::Step::Make, Vec::new()));
}

#[test]
fn an_issuer_without_cert_manager_is_named() {
    let (mut wanted, status, seen) = complete();
    let issuer = serde_saphyr::from_str("{name: ca}").unwrap();
    wanted.tls = Tls::Issuer { issuer, secret: "vault-issued-tls".into() };
    assert_eq!(halt(&wanted, &status, &seen), "CertManagerMissing");
}

#[test]
fn a_users_unseal_key_must_be_there_and_have_32_bytes() {
    let (mut wanted, status, mut seen) = complete();
    wanted.seal.generated = false;
    wanted.seal.secret = "mine".into();
    assert_eq!(halt(&wanted, &status, &seen), "SealSecretUnusable");
    for (text, usable) in
        [("c2hvcnQ=", false), ("?", false), ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", true)]
    {
        let data = BTreeMap::from([("KES_UNSEAL_KEY".to_owned(), k8s_openapi::ByteString(text.into()))]);
        seen.seal = Some(Secret { data: Some(data), ..Secret::default() });
        assert_eq!(
            matches!(plan(&wanted, false, &status, &seen, Timestamp::now()), Plan::Go(_)),
            usable,
            "{text}"
        );
    }
}

#[test]
fn a_paused_cluster_is_left_alone() {
    let (wanted, status, seen) = complete();
    assert!(matches!(plan(&wanted, true, &status, &seen, Timestamp::now()), Plan::Halt(Rule::Paused)));
}

/// The claim of the first member with `size`.
fn claim(size: &str) -> PersistentVolumeClaim {
    serde_json::from_value(serde_json::json!({"metadata": {"name": "data-vault-0"},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}}}))
    .unwrap()
}

#[test]
fn volumes_grow_by_enlarging_claims_and_then_making_the_stateful_set_anew() {
    let (mut wanted, status, mut seen) = complete();
    let basis = super::super::build::Basis {
        system_admin: &crate::api::Identity::new("a").unwrap(),
        storage: &wanted.storage,
        apis: seen.apis,
        operator_namespace: "ops",
    };
    let objects = super::super::build::build(&wanted, &basis);
    seen.stateful_set = Some(objects.stateful_set);
    seen.volumes = vec![claim("1Gi")];
    let same = go(&wanted, &status, &seen).volumes;
    assert_eq!((same.template.size.as_str(), same.enlarge.len(), same.replace), ("1Gi", 0, None));

    wanted.storage.size = "5Gi".into();
    seen.expandable = Some(false);
    let refused = go(&wanted, &status, &seen).volumes;
    assert_eq!(refused.template.size, "1Gi");
    assert_eq!(refused.refused.unwrap().reason(), "ExpansionRefused");

    // unknown, where the class may not be read: the API server says it when the claim is changed
    for expandable in [Some(true), None] {
        seen.expandable = expandable;
        let grows = go(&wanted, &status, &seen).volumes;
        assert_eq!(
            (grows.template.size.as_str(), grows.enlarge.as_slice()),
            ("5Gi", &["data-vault-0".into()][..])
        );
        assert!(grows.replace.is_some() && grows.refused.is_none());
    }
    // crashed in between: the claims are large, the template is not
    seen.volumes = vec![claim("5Gi")];
    let rest = go(&wanted, &status, &seen).volumes;
    assert!(rest.enlarge.is_empty() && rest.replace.is_some());
    // or the StatefulSet is gone
    seen.stateful_set = None;
    let rest = go(&wanted, &status, &seen).volumes;
    assert_eq!((rest.template.size.as_str(), rest.replace), ("5Gi", None));
}

#[test]
fn a_pod_that_does_not_run_is_explained_with_its_last_words() {
    let (wanted, status, mut seen) = complete();
    seen.pod = Some(
        serde_json::from_value(serde_json::json!({"metadata": {"name": "vault-0"}, "status": {"phase": "Running", "containerStatuses": [{
            "name": "kes", "image": "", "imageID": "", "ready": false, "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "message": "Error: KES_UNSEAL_KEY does not open this directory\n"}}}]}}))
        .unwrap(),
    );
    let MemberStep::Hold(rule) = go(&wanted, &status, &seen).member else { panic!() };
    assert_eq!(
        rule.to_string(),
        "waiting for pod vault-0: CrashLoopBackOff; exit code 1: Error: KES_UNSEAL_KEY does not open this directory"
    );
}

#[test]
fn a_cluster_made_anew_over_its_volumes_gets_no_other_admin_of_an_enclave() {
    let (wanted, _, mut seen) = complete();
    seen.secrets.remove("vault-enclave-default-admin");
    // a new cluster whose volumes do not exist yet makes it
    let fresh = KesClusterStatus::default();
    assert!(
        go(&wanted, &fresh, &seen).make.iter().any(|purpose| matches!(purpose, Purpose::EnclaveAdmin(_)))
    );
    seen.volumes
        .push(serde_json::from_value(serde_json::json!({"metadata": {"name": "data-vault-0"}})).unwrap());
    assert_eq!(halt(&wanted, &fresh, &seen), "EnclaveAdminSecretLost");
}

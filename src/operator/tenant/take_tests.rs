//! The writes to a Tenant, against an API server in memory.

use super::*;
use crate::{
    crd::MountKind,
    operator::{cluster::validate::fixture, context::Scope, fake_api::FakeApi, metrics::Metrics},
};

const TENANT: &str = "/apis/minio.min.io/v2/namespaces/tenant-lite/tenants/myminio";

fn injected() -> Injected {
    Injected {
        endpoint: "https://vault.keys.svc.cluster.local:7373".into(),
        key_name: "minio-default-key".into(),
        mount: MountKind::ClientCertSecrets,
        path: "/tmp/certs/client-0".into(),
        patched_at: None,
        restarted: false,
        approved: false,
        intended: false,
        repeats: 0,
        verified_pods: None,
    }
}

/// Patches the fixture's Tenant on an API server of which nothing else is known.
async fn patched(api: &FakeApi) -> Reached {
    let live = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": {"env": []},
        "metadata": {"name": "myminio", "namespace": "tenant-lite", "uid": "u"}});
    api.put(TENANT, live);
    let tenant = serde_json::from_value(api.get(TENANT).unwrap()).unwrap();
    let context = context(api);
    let seen = Seen { installed: true, tenant: Some(tenant), ..Seen::default() };
    let fields = json!({"env": [{"name": "A", "value": "1"}], "externalClientCertSecrets": [{"name": "kes-client-vault"}]});
    let fields = fields.as_object().unwrap().clone();
    write(&context, &fixture::wanted().tenants[0], &seen, fields, injected()).await
}

#[tokio::test]
async fn a_tenant_is_written_once_and_the_record_says_when() {
    let api = FakeApi::default();
    let reached = patched(&api).await;
    assert_eq!(reached.phase, TenantPhase::Patched);
    assert!(reached.injected.unwrap().patched_at.is_some());
    assert_eq!(api.writes(), [format!("PATCH {TENANT}")]);
}

#[tokio::test]
async fn a_definition_that_would_drop_the_certificate_is_found_out_before_anything_is_written() {
    let api = FakeApi::default();
    api.forget_field("externalClientCertSecrets");
    let reached = patched(&api).await;
    assert_eq!(reached.phase, TenantPhase::Blocked);
    assert_eq!(reached.rule, Rule::FieldsUnknown { fields: vec!["spec.externalClientCertSecrets".into()] });
    assert_eq!(api.writes(), Vec::<String>::new());
    assert_eq!(api.get(TENANT).unwrap()["spec"], json!({"env": []}));
}

fn context(api: &FakeApi) -> Context {
    Context::new(
        api.client(),
        fixture::defaults(),
        Metrics::new(),
        &Scope { operator: "ops", namespaces: &[] },
    )
}

#[tokio::test]
async fn a_patch_that_is_refused_waits_for_a_person_and_one_that_failed_for_the_next_pass() {
    for (code, phase) in [
        (403, TenantPhase::Blocked),
        (422, TenantPhase::Blocked),
        (409, TenantPhase::Prepared),
        (500, TenantPhase::Prepared),
    ] {
        let api = FakeApi::default();
        api.refuse(http::Method::PATCH, "/tenants/myminio", code);
        let reached = patched(&api).await;
        assert_eq!(reached.phase, phase, "{code}");
        let rule = if code == 409 { "TenantChanged" } else { "ApiRefused" };
        assert_eq!(reached.rule.reason(), rule, "{code}");
        assert_eq!(reached.injected, None, "{code}");
    }
}

#[tokio::test]
async fn a_restart_that_is_refused_again_and_again_is_announced_once() {
    let api = FakeApi::default();
    let context = context(&api);
    api.refuse(http::Method::DELETE, "/pods/p", 403);
    let wanted = fixture::wanted();
    let once = async |refused_before| {
        let pods = vec![PodId { name: "p".into(), uid: "u".into() }];
        restart(&context, &fixture::cluster(), &wanted.tenants[0], pods, injected(), refused_before).await
    };
    let reached = once(false).await;
    assert_eq!((reached.phase, reached.rule.reason()), (TenantPhase::Blocked, "ApiRefused"));
    assert_eq!(api.events().len(), 1);
    // as the next pass finds it in the status
    once(reached.rule.reason() == REFUSED).await;
    assert_eq!(api.events().len(), 1, "nobody is told every few seconds of a restart that does not happen");
}

#[test]
fn a_tenant_that_is_wired_keeps_its_certificate_also_in_a_conflict() {
    let hold = |phase, rule, injected| needs_secret(&Step::Hold(phase, rule, injected));
    assert!(hold(TenantPhase::Conflict, Rule::BuiltInKes, Some(injected())));
    assert!(hold(TenantPhase::Pending, Rule::KeyServiceNotReady { why: String::new() }, Some(injected())));
    assert!(!hold(TenantPhase::Conflict, Rule::BuiltInKes, None), "nothing is put where nothing is wired");
    assert!(!hold(TenantPhase::Pending, Rule::TenantDeleting, Some(injected())));
}

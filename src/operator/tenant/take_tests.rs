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
        repeats: 0,
    }
}

/// Patches the fixture's Tenant on an API server of which nothing else is known.
async fn patched(api: &FakeApi) -> Reached {
    let live = json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant", "spec": {"env": []},
        "metadata": {"name": "myminio", "namespace": "tenant-lite", "uid": "u"}});
    api.put(TENANT, live);
    let tenant = serde_json::from_value(api.get(TENANT).unwrap()).unwrap();
    let scope = Scope { operator: "ops", namespaces: &[] };
    let context = Context::new(api.client(), fixture::defaults(), Metrics::new(), &scope);
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

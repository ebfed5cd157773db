//! The copy of a tenant's certificate: what it is, and what it never replaces.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::*;
use crate::operator::{
    cluster::{purpose::Purpose, validate::fixture},
    context::Scope,
    fake_api::FakeApi,
    metrics::Metrics,
};

const COPY: &str = "/api/v1/namespaces/tenant-lite/secrets/kes-client-vault";

/// A Secret of the cluster with these bytes, which nobody parses here.
fn original(data: &[(&str, &str)]) -> Secret {
    let data = data.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
    Secret { data: Some(data.collect()), ..Secret::default() }
}

fn ring(key: &str) -> Keyring {
    let mut ring = Keyring::default();
    let purpose = Purpose::Tenant { namespace: "tenant-lite".into(), name: "myminio".into() };
    ring.insert(purpose, original(&[(CERTIFICATE, "the tenant's certificate"), (PRIVATE_KEY, key)]));
    let server = [(AUTHORITY, "whom to trust"), (CERTIFICATE, "the server's"), (PRIVATE_KEY, "the server's")];
    ring.insert(Purpose::ServerCertificate, original(&server));
    ring
}

fn owner() -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "minio.min.io/v2", "kind": "Tenant",
        "metadata": {"name": "myminio", "namespace": "tenant-lite", "uid": "u"}, "spec": {}}))
    .unwrap()
}

/// What becomes of what is there, if anything is.
async fn projected(api: &FakeApi, ring: &Keyring) -> Result<(), (TenantPhase, Rule)> {
    let scope = Scope { operator: "ops", namespaces: &[] };
    let context = Context::new(api.client(), fixture::defaults(), Metrics::new(), &scope);
    let wanted = fixture::wanted();
    let secret = api.get(COPY).map(|live| serde_json::from_value(live).unwrap());
    let seen = Seen { installed: true, tenant: Some(owner()), secret, ..Seen::default() };
    project(&context, &wanted, &wanted.tenants[0], ring, &seen).await
}

#[test]
fn the_copy_is_as_recorded() {
    let wanted = fixture::wanted();
    let copy = copy(&wanted, &wanted.tenants[0], &ring("the tenant's key"), &owner()).unwrap();
    insta::assert_yaml_snapshot!("copy", copy);
}

#[tokio::test]
async fn a_copy_is_made_once_and_comes_back_as_it_was() {
    let (api, ring) = (FakeApi::default(), ring("the tenant's key"));
    projected(&api, &ring).await.unwrap();
    assert_eq!(api.writes(), [format!("PATCH {COPY}")]);
    let first = api.get(COPY).unwrap()["data"].clone();
    projected(&api, &ring).await.unwrap();
    assert_eq!(api.writes(), Vec::<String>::new(), "what is right is not written again");
    api.remove(COPY);
    projected(&api, &ring).await.unwrap();
    assert_eq!(api.get(COPY).unwrap()["data"], first, "the identity that MinIO is known by");
}

#[tokio::test]
async fn a_copy_that_somebody_edited_is_put_right_unless_its_key_is_another() {
    let (api, ring) = (FakeApi::default(), ring("the tenant's key"));
    projected(&api, &ring).await.unwrap();
    let first = api.get(COPY).unwrap();
    for file in [AUTHORITY, CERTIFICATE, "public.crt", "private.key"] {
        let mut edited = first.clone();
        edited["data"][file] = "bm8=".into();
        api.put(COPY, edited);
        projected(&api, &ring).await.unwrap();
        assert_eq!(api.get(COPY).unwrap()["data"], first["data"], "{file}");
    }
}

#[tokio::test]
async fn a_secret_of_that_name_that_is_not_ours_is_told_and_never_overwritten() {
    let label = |cluster: &str, namespace: &str| {
        json!({"kes-operator.io/cluster": cluster, "kes-operator.io/cluster-namespace": namespace,
            "app.kubernetes.io/managed-by": "kes-operator"})
    };
    for (whose, labels) in [
        ("a person's", json!({})),
        ("another KesCluster's of that namespace", label("other", "keys")),
        ("a KesCluster's of that name in another namespace", label("vault", "elsewhere")),
    ] {
        let api = FakeApi::default();
        api.put(
            COPY,
            json!({"apiVersion": "v1", "kind": "Secret", "data": {"tls.key": "dGhlaXJz"},
                "metadata": {"name": "kes-client-vault", "namespace": "tenant-lite", "labels": labels}}),
        );
        let before = api.get(COPY);
        let (phase, rule) = projected(&api, &ring("the tenant's key")).await.unwrap_err();
        assert_eq!(phase, TenantPhase::Conflict, "{whose}");
        assert_eq!(rule, Rule::SecretTaken { secret: "kes-client-vault".into() }, "{whose}");
        assert_eq!(api.writes(), Vec::<String>::new(), "{whose}");
        assert_eq!(api.get(COPY), before, "{whose}");
    }
}

#[tokio::test]
async fn a_copy_with_the_key_that_minio_is_known_by_survives_an_original_that_was_made_anew() {
    let api = FakeApi::default();
    projected(&api, &ring("key-material-1")).await.unwrap();
    api.writes();
    let before = api.get(COPY);
    let (phase, rule) = projected(&api, &ring("key-material-2")).await.unwrap_err();
    assert_eq!((phase, rule.reason()), (TenantPhase::Blocked, "CertificateLost"));
    let text = rule.to_string();
    assert!(
        text.contains("tenant-lite/kes-client-vault") && text.contains("vault-tenant-tenant-lite"),
        "{text}"
    );
    assert!(!text.contains("key-material"), "{text}");
    assert_eq!((api.writes(), api.get(COPY)), (Vec::new(), before));
}

#[tokio::test]
async fn without_the_original_nothing_is_copied_and_what_is_there_stays() {
    for there in [false, true] {
        let api = FakeApi::default();
        if there {
            projected(&api, &ring("the tenant's key")).await.unwrap();
            api.writes();
        }
        let before = api.get(COPY);
        let (phase, rule) = projected(&api, &Keyring::default()).await.unwrap_err();
        assert_eq!((phase, rule.reason()), (TenantPhase::Pending, "CertificateLost"));
        assert_eq!((api.writes(), api.get(COPY)), (Vec::new(), before));
    }
}

#[tokio::test]
async fn a_refusal_of_the_api_server_names_the_secret() {
    let api = FakeApi::default();
    api.refuse(http::Method::PATCH, "/secrets/kes-client-vault", 403);
    let (phase, rule) = projected(&api, &ring("the tenant's key")).await.unwrap_err();
    assert_eq!((phase, rule.reason()), (TenantPhase::Pending, "ApiRefused"));
    assert!(rule.to_string().contains("write Secret tenant-lite/kes-client-vault"), "{rule}");
    assert_eq!(api.get(COPY).map_or(Value::Null, |copy| copy["data"].clone()), Value::Null);
}

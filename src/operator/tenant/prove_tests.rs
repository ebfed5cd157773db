//! The proof against a real key server that the operator filled, with the certificate that the operator made.

use k8s_openapi::ByteString;

use super::*;
use crate::operator::{
    Context,
    cluster::{
        self,
        keyring::{AUTHORITY, CERTIFICATE, PRIVATE_KEY},
        validate::fixture,
    },
    context::Scope,
    fake_api::FakeApi,
    metrics::Metrics,
    tests::{self, member::Member},
};

const CLUSTER: &str = "/apis/kes-operator.io/v1alpha1/namespaces/keys/kesclusters/vault";
const ORIGINAL: &str = "/api/v1/namespaces/keys/secrets/vault-tenant-tenant-lite.myminio";

/// A key service with everything that the fixture asks for.
async fn filled() -> (FakeApi, Member) {
    let api = FakeApi::default();
    api.put(CLUSTER, serde_json::to_value(fixture::cluster()).unwrap());
    let scope = Scope { operator: "ops", namespaces: &[] };
    let context = Context::new(api.client(), fixture::defaults(), Metrics::new(), &scope);
    cluster::reconcile(&context, &fixture::cluster()).await.unwrap();
    let member = Member::start(&api).await;
    cluster::reconcile(&context, &fixture::cluster()).await.unwrap();
    (api, member)
}

fn secret(api: &FakeApi, path: &str) -> Secret {
    serde_json::from_value(api.get(path).unwrap()).unwrap()
}

fn address(member: &Member, trust: &Secret) -> Address {
    Address {
        endpoint: fixture::wanted().endpoint(),
        connect_to: Some((member.address(), crate::api::API_PORT).into()),
        trust: keyring::bytes(trust, AUTHORITY).unwrap().to_vec(),
    }
}

fn key(name: &str) -> KeyName {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_key_service_is_proved_with_one_identity_on_one_key_and_by_one_authority() {
    let (api, member) = filled().await;
    let server = secret(&api, "/api/v1/namespaces/keys/secrets/vault-server-tls");
    let address = address(&member, &server);
    let tenant = secret(&api, ORIGINAL);
    prove(&address, &tenant, &key("minio-default-key")).await.unwrap();

    let failed = async |address: &Address, secret: &Secret, name: &str| {
        prove(address, secret, &key(name)).await.unwrap_err().to_string()
    };
    // the tenant's own policy is for its own key
    let text = failed(&address, &tenant, "first-key").await;
    assert!(text.starts_with("failed to generate a data key: ") && text.contains("not authorized"), "{text}");
    // an application that may do other things
    let other = secret(&api, "/api/v1/namespaces/keys/secrets/app-1-kes");
    let text = failed(&address, &other, "minio-default-key").await;
    assert!(text.contains("not authorized"), "{text}");
    let elsewhere =
        Address { connect_to: Some((tests::address(), crate::api::API_PORT).into()), ..address.clone() };
    let text = failed(&elsewhere, &tenant, "minio-default-key").await;
    assert!(text.starts_with("failed to generate a data key: "), "{text}");
    let other_name =
        Address { endpoint: "https://other.keys.svc.cluster.local:7373".into(), ..address.clone() };
    failed(&other_name, &tenant, "minio-default-key").await;
    let authority =
        crate::pki::self_signed_client("no authority", std::time::Duration::from_secs(60)).unwrap();
    let stranger = Address { trust: authority.certificate.into_bytes(), ..address.clone() };
    failed(&stranger, &tenant, "minio-default-key").await;
    // each of them failed for its own reason
    prove(&address, &tenant, &key("minio-default-key")).await.unwrap();
}

#[tokio::test]
async fn a_certificate_and_a_key_that_do_not_belong_together_prove_nothing() {
    let (api, member) = filled().await;
    let server = secret(&api, "/api/v1/namespaces/keys/secrets/vault-server-tls");
    let address = address(&member, &server);
    let mut mixed = secret(&api, ORIGINAL);
    let other = secret(&api, "/api/v1/namespaces/keys/secrets/app-1-kes");
    let data = mixed.data.as_mut().unwrap();
    data.insert(PRIVATE_KEY.into(), ByteString(keyring::bytes(&other, PRIVATE_KEY).unwrap().to_vec()));
    let error = prove(&address, &mixed, &key("minio-default-key")).await.unwrap_err();
    assert!(matches!(error, Error::Certificate(_)), "{error}");
    mixed.data.as_mut().unwrap().remove(CERTIFICATE);
    let error = prove(&address, &mixed, &key("minio-default-key")).await.unwrap_err();
    assert!(error.to_string().contains("it has no key 'tls.crt'"), "{error}");
}

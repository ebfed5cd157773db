//! Certificates: renewed with the same key under load without a failed request, brought by the user, and by cert-manager.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kes::{
    api::KeyName,
    client::{Client, Config, Trust},
    crd::KesCluster,
    pki::{Authority, ClientIdentity, ServerCertificate, ServerNames, identity_of_pem},
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    forward::Forward,
    runner::{Case, Ending, Outcome},
    wait::{established, patience, until},
    world::World,
};

const CLUSTER: &str = "vault";
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_certificate_is_renewed_under_load_without_a_failed_request", renewed),
        Case::new("a_users_certificate_is_taken_over_if_clients_would_accept_it", brought),
        Case::new("an_issuer_is_asked_for_a_certificate_where_cert_manager_is_installed", issued),
    ]
}

fn data(secret: &Secret, key: &str) -> Vec<u8> {
    secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()).unwrap_or_default()
}

async fn secret(world: &World, name: &str) -> anyhow::Result<Secret> {
    Ok(world.api::<Secret>().get(name).await?)
}

/// The certificate that the server presents now, by its DER.
async fn presented(forward: &Forward) -> anyhow::Result<Vec<u8>> {
    use rustls::pki_types::ServerName;
    let stream = tokio::net::TcpStream::connect(forward.address).await?;
    let connector = tokio_rustls::TlsConnector::from(crate::forward::any_server());
    let stream = connector.connect(ServerName::try_from("vault")?.to_owned(), stream).await?;
    let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
    Ok(chain.first().map(|leaf| leaf.as_ref().to_vec()).unwrap_or_default())
}

fn der(pem: &[u8]) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem).expect("a certificate").as_ref().to_vec()
}

/// Waits until new connections see `certificate`. kubelet brings a changed Secret into pods within a minute or two.
async fn until_presented(forward: &Forward, certificate: &[u8]) -> anyhow::Result<()> {
    let wanted = der(certificate);
    let waiting = async {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            if presented(forward).await.is_ok_and(|found| found == wanted) {
                return;
            }
        }
    };
    tokio::time::timeout(patience() * 2, waiting)
        .await
        .map_err(|_| anyhow::anyhow!("the server does not present the new certificate"))
}

async fn renewed(world: World) -> Outcome {
    let spec = json!({"enclaves": [{"name": "default", "keys": [{"name": "k"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    world.ready(CLUSTER).await?;
    let pod = world.api::<Pod>().get(&format!("{CLUSTER}-0")).await?;
    let forward = Forward::to(world.api(), &format!("{CLUSTER}-0"), 7373).await?;

    // the load: a client that keeps its connection, and ones that make a new one for every request
    let admin = secret(&world, &format!("{CLUSTER}-enclave-default-admin")).await?;
    let client = |forward: &Forward| -> anyhow::Result<Client> {
        Ok(Client::new(Config {
            endpoint: format!("https://{CLUSTER}.{}.svc:7373", world.namespace),
            connect_to: Some(forward.address),
            identity: ClientIdentity::from_pem(&data(&admin, "tls.crt"), &data(&admin, "tls.key"))?,
            trust: Trust::Pem(data(&admin, "ca.crt")),
            enclave: None,
            timeout: Duration::from_secs(20),
        })?)
    };
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let key = KeyName::new("k")?;
    let steady = {
        let (client, key, stop, done) =
            (client(&forward)?, key.clone(), Arc::clone(&stop), Arc::clone(&done));
        async move {
            while !stop.load(Ordering::Relaxed) {
                client.generate(&key, b"").await?;
                done.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        }
    };
    let fresh = {
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        let (client, forward, key) = (&client, &forward, &key);
        async move {
            while !stop.load(Ordering::Relaxed) {
                client(forward)?.generate(key, b"").await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }
    };
    let exchange = async {
        // as if eight months had passed since it was made, of twelve
        let name = format!("{CLUSTER}-server-tls");
        let live = secret(&world, &name).await?;
        let authority = secret(&world, &format!("{CLUSTER}-ca")).await?;
        let authority = Authority::from_pem(
            std::str::from_utf8(&data(&authority, "tls.crt"))?,
            std::str::from_utf8(&data(&authority, "tls.key"))?,
        )?;
        let names = ServerCertificate::from_pem(&data(&live, "tls.crt"), &data(&live, "tls.key"))?;
        let (ip, dns): (Vec<_>, Vec<_>) =
            names.names().iter().cloned().partition(|name| name.parse::<std::net::IpAddr>().is_ok());
        let names = ServerNames { dns, ip: ip.iter().filter_map(|ip| ip.parse().ok()).collect() };
        let key = data(&live, "tls.key");
        let then = Timestamp::now() - SignedDuration::from_hours(250 * 24);
        let old = authority.renew_server(&names, std::str::from_utf8(&key)?, then, 365 * DAY)?;
        let patch = json!({"data": {"tls.crt": ByteString(old.certificate.clone().into_bytes())}});
        world.api::<Secret>().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;

        let renewed =
            until(world.api::<Secret>(), &name, "a renewed certificate", |secret: Option<&Secret>| {
                let secret = secret.ok_or("no Secret")?;
                let certificate = data(secret, "tls.crt");
                let is_new =
                    certificate != old.certificate.as_bytes() && certificate != data(&live, "tls.crt");
                if is_new { Ok(()) } else { Err("it is the old one".into()) }
            })
            .await?
            .expect("it is there");
        assert_eq!(data(&renewed, "tls.key"), key, "renewal keeps the key");
        assert_eq!(
            identity_of_pem(&data(&renewed, "tls.crt"))?.to_string(),
            identity_of_pem(&data(&live, "tls.crt"))?.to_string()
        );
        until_presented(&forward, &data(&renewed, "tls.crt")).await?;
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (exchange, steady, fresh) = tokio::join!(exchange, steady, fresh);
    stop.store(true, Ordering::Relaxed);
    exchange?;
    steady?;
    fresh?;
    assert!(done.load(Ordering::Relaxed) > 100, "the load was no load: {done:?}");
    let same = world.api::<Pod>().get(&format!("{CLUSTER}-0")).await?;
    assert_eq!((same.uid(), restarts(&same)), (pod.uid(), restarts(&pod)), "nothing was restarted");
    world.condition(CLUSTER, "CertificatesReady", "True", "Valid").await?;
    Ok(Ending::Held)
}

fn restarts(pod: &Pod) -> i32 {
    pod.status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .map(|one| one.restart_count)
        .sum()
}

/// A Secret with a certificate of `authority` for these names.
async fn put_certificate(
    world: &World,
    name: &str,
    authority: &Authority,
    names: Vec<String>,
) -> anyhow::Result<Vec<u8>> {
    let names = ServerNames { dns: names, ip: Vec::new() };
    let pair = authority.issue_server(&names, Timestamp::now(), 90 * DAY)?;
    let data = BTreeMap::from([
        ("tls.crt", ByteString(pair.certificate.clone().into_bytes())),
        ("tls.key", ByteString(pair.key.as_bytes().to_vec())),
        ("ca.crt", ByteString(authority.certificate_pem().as_bytes().to_vec())),
    ]);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "type": "kubernetes.io/tls", "data": data});
    let params = PatchParams::apply("kes-e2e").force();
    world.api::<Secret>().patch(name, &params, &Patch::Apply(secret)).await?;
    Ok(pair.certificate.into_bytes())
}

fn service_names(world: &World) -> Vec<String> {
    let service = format!("{CLUSTER}.{}.svc", world.namespace);
    vec![service.clone(), format!("{service}.cluster.local")]
}

async fn brought(world: World) -> Outcome {
    let authority = Authority::new("the company", Timestamp::now())?;
    let spec = json!({"tls": {"serverSecretRef": {"name": "mine"}},
        "enclaves": [{"name": "default", "policies": [{"name": "p", "allow": ["/v1/key/generate/*"]}],
            "identities": [{"name": "app", "policy": "p", "secretName": "app-kes"}]}]});
    world.create_cluster(CLUSTER, &spec).await?;
    // nothing starts before there is a certificate to start with
    let cluster = world.condition(CLUSTER, "Ready", "False", "ServerSecretUnusable").await?;
    assert!(message(&cluster, "Ready").contains("Secret mine"), "{}", message(&cluster, "Ready"));
    assert!(world.api::<Pod>().get_opt(&format!("{CLUSTER}-0")).await?.is_none());

    let first = put_certificate(&world, "mine", &authority, service_names(&world)).await?;
    world.ready(CLUSTER).await?;
    let forward = Forward::to(world.api(), &format!("{CLUSTER}-0"), 7373).await?;
    until_presented(&forward, &first).await?;
    let trust = data(&secret(&world, "app-kes").await?, "ca.crt");
    let ours = authority.certificate_pem();
    assert!(String::from_utf8(trust)?.contains(ours.trim()), "applications are told whom to trust");

    // one that clients would refuse never reaches the servers
    put_certificate(&world, "mine", &authority, vec!["elsewhere.example".into()]).await?;
    let cluster = world.condition(CLUSTER, "CertificatesReady", "False", "ServerSecretUnusable").await?;
    assert!(message(&cluster, "CertificatesReady").contains("does not have that name"));
    world.ready(CLUSTER).await?;
    assert_eq!(data(&secret(&world, &format!("{CLUSTER}-server-tls")).await?, "tls.crt"), first);

    let second = put_certificate(&world, "mine", &authority, service_names(&world)).await?;
    world.condition(CLUSTER, "CertificatesReady", "True", "Valid").await?;
    until_presented(&forward, &second).await?;
    Ok(Ending::Held)
}

fn message(cluster: &KesCluster, kind: &str) -> String {
    let conditions = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().find(|found| found.type_ == kind).map(|found| found.message.clone()).unwrap_or_default()
}

/// cert-manager itself is not here: its definition is, and the test does what it would do.
async fn issued(world: World) -> Outcome {
    let spec = json!({"tls": {"issuerRef": {"name": "company", "kind": "ClusterIssuer"}}});
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let name = "certificates.cert-manager.io";
    if definitions.get_opt(name).await?.is_none() {
        world.create_cluster(CLUSTER, &spec).await?;
        world.condition(CLUSTER, "Ready", "False", "CertManagerMissing").await?;
        let definition = json!({"metadata": {"name": name}, "spec": {"group": "cert-manager.io", "scope": "Namespaced",
            "names": {"kind": "Certificate", "plural": "certificates"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
        definitions.create(&PostParams::default(), &serde_json::from_value(definition)?).await?;
        established(&world.client, name).await?;
    } else {
        world.create_cluster(CLUSTER, &spec).await?;
    }
    world.condition(CLUSTER, "Ready", "False", "WaitingForCertificate").await?;
    let kind = GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate");
    let resource = ApiResource::from_gvk_with_plural(&kind, "certificates");
    let requests: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    let request = until(requests.clone(), CLUSTER, "a request for a certificate", |found| {
        found.map(drop).ok_or_else(|| "none".into())
    })
    .await?
    .expect("it is there");
    assert_eq!(
        request.data["spec"]["issuerRef"],
        json!({"name": "company", "kind": "ClusterIssuer", "group": "cert-manager.io"})
    );
    assert_eq!(request.data["spec"]["privateKey"]["rotationPolicy"], "Never");
    let names: Vec<String> = serde_json::from_value(request.data["spec"]["dnsNames"].clone())?;
    let secret_name = request.data["spec"]["secretName"].as_str().unwrap_or_default().to_owned();
    let authority = Authority::new("company", Timestamp::now())?;
    let certificate = put_certificate(&world, &secret_name, &authority, names).await?;
    world.ready(CLUSTER).await?;
    let forward = Forward::to(world.api(), &format!("{CLUSTER}-0"), 7373).await?;
    until_presented(&forward, &certificate).await?;

    // back to our own authority, which was trusted all the time; the request goes
    world.replace_spec(CLUSTER, &json!({})).await?;
    world.ready(CLUSTER).await?;
    crate::wait::gone(requests, CLUSTER).await?;
    Ok(Ending::Held)
}

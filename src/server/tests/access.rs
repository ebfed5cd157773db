//! Open routes, proxies and verified chains, on real connections.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ED25519,
};
use rustls::{ClientConfig, RootCertStore};

use super::tls::{Client, Running, running_with, trusting};
use crate::{api::Identity, server::Access};

const HEADER: &str = "X-Tls-Client-Cert";

fn trusting_a_proxy(proxy: &Client) -> Access {
    let mut access = Access::default();
    access.trust_proxies(vec![proxy.identity()], HEADER).unwrap();
    access
}

/// The header line with which a proxy forwards `client`.
fn forwarding(client: &Client) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let der = STANDARD.encode(&client.chain[0]);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    format!("{HEADER}: {}\r\n", utf8_percent_encode(&pem, NON_ALPHANUMERIC))
}

impl Running {
    /// The newest audit record of a request with these header lines: identity and address.
    async fn audited(&self, config: &Arc<ClientConfig>, headers: &str) -> (Option<String>, String) {
        let before = self.lines.0.lock().unwrap().len();
        self.get_with(config, "/version", headers).await.unwrap();
        loop {
            if let Some(line) = self.lines.0.lock().unwrap().get(before) {
                let text = |name: &str| line["request"][name].as_str().map(str::to_owned);
                return (text("identity"), text("ip").unwrap());
            }
            tokio::task::yield_now().await;
        }
    }
}

fn text(identity: Identity) -> Option<String> {
    Some(identity.to_string())
}

#[tokio::test]
async fn a_proxy_speaks_for_its_client_and_nobody_else_does() {
    let [proxy, app, other] = [Client::ed25519(), Client::ed25519(), Client::ed25519()];
    let server = running_with(trusting_a_proxy(&proxy)).await;
    let directory = server.directory.path();
    let as_proxy = proxy.config(directory, b"http/1.1");

    let from = "X-Forwarded-For: 192.0.2.7:4711, 10.0.0.1\r\n";
    let seen = server.audited(&as_proxy, &(forwarding(&app) + from)).await;
    assert_eq!(seen, (text(app.identity()), "192.0.2.7".into()));

    // the same from somebody who is no proxy: its own identity counts, and its own address
    let as_other = other.config(directory, b"http/1.1");
    let seen = server.audited(&as_other, &(forwarding(&app) + from)).await;
    assert_eq!(seen, (text(other.identity()), "127.0.0.1".into()));

    // a proxy is nobody itself
    let answer = server.get(&as_proxy, "/version").await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("no client certificate is present"),
        "{answer}"
    );
    let twice = forwarding(&app) + &forwarding(&other);
    let answer = server.get_with(&as_proxy, "/version", &twice).await.unwrap();
    assert!(answer.contains("too many client certificates are present"), "{answer}");
    let nonsense = format!("{HEADER}: nonsense\r\n");
    let answer = server.get_with(&as_proxy, "/version", &nonsense).await.unwrap();
    assert!(answer.contains("invalid client certificate"), "{answer}");
}

#[tokio::test]
async fn on_one_connection_of_a_proxy_each_request_is_its_own_clients() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let [proxy, one, two] = [Client::ed25519(), Client::ed25519(), Client::ed25519()];
    let server = running_with(trusting_a_proxy(&proxy)).await;
    let as_proxy = proxy.config(server.directory.path(), b"http/1.1");
    let mut stream = server.connect(as_proxy).await.unwrap();
    for header in [forwarding(&one), forwarding(&two), String::new()] {
        let request = format!("GET /version HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status = if header.is_empty() { "HTTP/1.1 400 " } else { "HTTP/1.1 200 " };
        assert!(head.starts_with(status), "{head}");
        let length = head.to_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        stream.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
    }
    let seen = || -> Vec<_> {
        let lines = server.lines.0.lock().unwrap();
        lines.iter().map(|line| line["request"]["identity"].as_str().unwrap_or_default().to_owned()).collect()
    };
    while seen().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(seen(), [one.identity().to_string(), two.identity().to_string(), String::new()]);
}

#[tokio::test]
async fn whoever_a_proxy_forwards_has_its_own_rights_and_not_the_proxys() {
    let [proxy, app] = [Client::ed25519(), Client::ed25519()];
    let server = running_with(trusting_a_proxy(&proxy)).await;
    let as_proxy = proxy.config(server.directory.path(), b"http/1.1");
    let answer = server.get_with(&as_proxy, "/v1/key/list/", &forwarding(&app)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn an_open_route_answers_without_a_certificate_and_no_other_does() {
    let mut access = Access::default();
    access.open("/v1/status").unwrap();
    access.open("/v1/metrics").unwrap();
    let server = running_with(access).await;
    let nobody = Arc::new(trusting(server.directory.path()).with_no_client_auth());
    for path in ["/v1/status", "/v1/metrics", "/version"] {
        let answer = server.get(&nobody, path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    for path in ["/v1/ready", "/v1/api", "/v1/key/list/", "/v1/log/audit", "/v1/identity/self/describe"] {
        let answer = server.get(&nobody, path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        assert!(answer.contains("no client certificate is present"), "{path}: {answer}");
    }
    // nor does a certificate that nobody knows open more
    let stranger = Client::ed25519().config(server.directory.path(), b"http/1.1");
    assert!(server.get(&stranger, "/v1/status").await.unwrap().starts_with("HTTP/1.1 200 "));
    assert!(server.get(&stranger, "/v1/ready").await.unwrap().starts_with("HTTP/1.1 403 "));
}

/// A client whose certificate `issuer` signed.
fn signed(issuer: &Issuer<'_, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> Client {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut parameters = CertificateParams::default();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut parameters);
    let chain = vec![parameters.signed_by(&key, issuer).unwrap().der().clone()];
    Client { chain, key }
}

#[tokio::test]
async fn where_chains_are_verified_only_an_authoritys_clients_are_let_in() {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(parameters.self_signed(&key).unwrap().der().clone()).unwrap();
    let issuer = Issuer::new(parameters, key);
    let mut access = Access::default();
    access.verify_clients(roots).unwrap();
    let server = running_with(access).await;

    let good = signed(&issuer, |_| ());
    let config = good.config(server.directory.path(), b"http/1.1");
    for _ in 0..2 {
        assert_eq!(server.who_is(&config).await, Ok(text(good.identity())));
    }
    let stream = server.connect(config).await.unwrap();
    let kind = stream.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(rustls::HandshakeKind::Full), "a resumed session's chain would not be looked at");

    let expired = signed(&issuer, |parameters| parameters.not_after = rcgen::date_time_ymd(2002, 1, 1));
    let for_servers = signed(&issuer, |parameters| {
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (what, client) in
        [("self-signed", Client::ed25519()), ("expired", expired), ("server's", for_servers)]
    {
        let config = client.config(server.directory.path(), b"http/1.1");
        let answer = server.get(&config, "/version").await;
        assert!(answer.as_ref().map_or(true, String::is_empty), "{what}: {answer:?}");
    }
}

//! The listener with real sockets: certificates, both HTTP versions, reload, health, shutdown, errors.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Lines, service};
use crate::{
    api::{Identity, message::Generation},
    audit::AuditLog,
    pki::{SelfSigned, Usage, identity_of_spki, self_signed},
    server::{Access, Error, Options, Server, metrics},
};

pub(super) struct Running {
    pub(super) address: std::net::SocketAddr,
    health: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
    pub(super) directory: tempfile::TempDir,
    pub(super) lines: Lines,
}

fn write_certificate(directory: &Path) {
    let pair = self_signed(&SelfSigned {
        common_name: "server".into(),
        dns: vec!["localhost".into()],
        ip: vec![],
        validity: Duration::from_secs(3600),
        usage: Usage::Server,
    })
    .unwrap();
    std::fs::write(directory.join("public.crt"), &pair.certificate).unwrap();
    std::fs::write(directory.join("private.key"), pair.key.as_bytes()).unwrap();
}

async fn options(directory: &Path, shutdown: oneshot::Receiver<()>) -> Options {
    let (service, data) = service().await;
    Options {
        address: "127.0.0.1:0".parse().unwrap(),
        health: Some("127.0.0.1:0".parse().unwrap()),
        certificate: directory.join("public.crt"),
        key: directory.join("private.key"),
        password: None,
        service,
        audit: AuditLog::none(),
        metrics: metrics(),
        memory_locked: false,
        generation: Generation::default(),
        access: Access::default(),
        shutdown: Box::pin(async move {
            let _ = shutdown.await;
            drop(data);
        }),
    }
}

pub(super) async fn running() -> Running {
    running_with(Access::default()).await
}

pub(super) async fn running_with(access: Access) -> Running {
    let directory = tempfile::tempdir().unwrap();
    write_certificate(directory.path());
    let (stop, shutdown) = oneshot::channel();
    let lines = Lines::default();
    let audit = AuditLog::new(lines.clone()).unwrap();
    let options = Options { audit, access, ..options(directory.path(), shutdown).await };
    let server = Server::bind(options).await.unwrap();
    let (address, health) = (server.address().unwrap(), server.health_address().unwrap());
    Running { address, health, stop, ended: tokio::spawn(server.serve()), directory, lines }
}

/// A client's certificate, chain first, and its key.
pub(super) struct Client {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
}

impl Client {
    pub(super) fn new(key: KeyPair) -> Self {
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        Self { chain: vec![certificate.der().clone()], key }
    }

    pub(super) fn ed25519() -> Self {
        Self::new(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    pub(super) fn identity(&self) -> Identity {
        identity_of_spki(&rcgen::PublicKeyData::subject_public_key_info(&self.key))
    }

    fn certified(&self) -> CertifiedKey {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        CertifiedKey::new(self.chain.clone(), aws_lc_rs::sign::any_supported_type(&key).unwrap())
    }

    pub(super) fn config(&self, directory: &Path, alpn: &[u8]) -> Arc<ClientConfig> {
        #[derive(Debug)]
        struct Always(Arc<CertifiedKey>);
        impl ResolvesClientCert for Always {
            fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
                Some(Arc::clone(&self.0))
            }
            fn has_certs(&self) -> bool {
                true
            }
        }
        let mut config =
            trusting(directory).with_client_cert_resolver(Arc::new(Always(Arc::new(self.certified()))));
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    }
}

pub(super) fn trusting(
    directory: &Path,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(directory.join("public.crt")).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

impl Running {
    pub(super) async fn connect(&self, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// One request on a connection of its own over HTTP/1.1; an error when the server refuses the handshake.
    pub(super) async fn get(&self, config: &Arc<ClientConfig>, path: &str) -> std::io::Result<String> {
        self.get_with(config, path, "").await
    }

    /// The same with more header lines, each of which ends with a line break.
    pub(super) async fn get_with(
        &self,
        config: &Arc<ClientConfig>,
        path: &str,
        more: &str,
    ) -> std::io::Result<String> {
        let mut stream = self.connect(Arc::clone(config)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    async fn health(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.health).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn every_kind_of_key_is_accepted_also_self_signed_and_expired() {
    let server = running().await;
    for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut parameters = CertificateParams::default();
        parameters.not_before = rcgen::date_time_ymd(2001, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2002, 1, 1);
        let chain = vec![parameters.self_signed(&key).unwrap().der().clone()];
        let client = Client { chain, key };
        let config = client.config(server.directory.path(), b"http/1.1");
        let answer = server.get(&config, "/version").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{algorithm:?}: {answer}");
    }
}

#[tokio::test]
async fn many_streams_share_one_http2_connection() {
    let server = running().await;
    let client = Client::ed25519();
    let stream = server.connect(client.config(server.directory.path(), b"h2")).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let requests = (0..300).map(|_| {
        let mut sender = sender.clone();
        async move {
            let request = ::http::Request::builder()
                .uri("https://localhost/version")
                .body(Full::<Bytes>::default())
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap().to_bytes()
        }
    });
    let answers = futures::future::join_all(requests).await;
    assert!(answers.iter().all(|body| body.starts_with(b"{\"version\":")));
}

#[tokio::test]
async fn a_changed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    write_certificate(directory.path());
    let (certificate, key) = (directory.path().join("public.crt"), directory.path().join("private.key"));
    let server = crate::server::tls::Certificate::load(certificate.clone(), key, None).unwrap();
    assert!(!server.reload().unwrap(), "nothing changed");
    let before = server.current();
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::fs::write(&certificate, "garbage").unwrap();
    assert!(server.reload().is_err());
    assert_eq!(server.current(), before, "the old one stays");
    write_certificate(directory.path());
    assert!(server.reload().unwrap());
    assert_ne!(server.current(), before);
    assert!(!server.reload().unwrap());
}

#[tokio::test]
async fn health_answers_over_plain_http() {
    let server = running().await;
    assert!(server.health("/livez").await.ends_with("\r\n\r\nok\n"));
    assert!(server.health("/readyz").await.starts_with("HTTP/1.1 200 "));
    assert!(
        server
            .health("/metrics")
            .await
            .contains("\nkes_requests_total{action=\"GenerateKey\",code=\"2xx\"} 0\n")
    );
    assert!(server.health("/v1/status").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn stopping_ends_idle_connections_at_once_and_frees_the_port() {
    let server = running().await;
    let client = Client::ed25519();
    let mut idle = server.connect(client.config(server.directory.path(), b"http/1.1")).await.unwrap();
    idle.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut some = [0; 16];
    idle.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200 OK\r");
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), server.ended).await.expect("it ends soon").unwrap();
    let _ = idle.read_to_end(&mut Vec::new()).await;
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let server = running().await;
    let client = Client::ed25519();
    let mut stream = server.connect(client.config(server.directory.path(), b"http/1.1")).await.unwrap();
    let request = format!("GET /version HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_taken_port_and_an_unusable_certificate_say_what_to_do() {
    let server = running().await;
    let directory = server.directory.path();
    let (_stop, shutdown) = oneshot::channel();
    let taken = Options { address: server.address, ..options(directory, shutdown).await };
    let error = Server::bind(taken).await.err().unwrap();
    assert!(matches!(error, Error::Listen { .. }));
    let text = error.to_string();
    assert!(text.starts_with(&format!("failed to listen on {}: ", server.address)), "{text}");
    assert!(text.contains("another process has port"), "{text}");

    for (certificate, want) in [("", "no PEM block 'CERTIFICATE'"), ("no SAN", "names no host")] {
        let directory = tempfile::tempdir().unwrap();
        write_certificate(directory.path());
        if certificate.is_empty() {
            std::fs::write(directory.path().join("public.crt"), "").unwrap();
        } else {
            let pair = crate::pki::self_signed_client("x", Duration::from_secs(60)).unwrap();
            std::fs::write(directory.path().join("public.crt"), &pair.certificate).unwrap();
            std::fs::write(directory.path().join("private.key"), pair.key.as_bytes()).unwrap();
        }
        let (_stop, shutdown) = oneshot::channel();
        let text = Server::bind(options(directory.path(), shutdown).await).await.err().unwrap().to_string();
        assert!(text.contains(want), "{text}");
    }
    let (_stop, shutdown) = oneshot::channel();
    let text = Server::bind(options(Path::new("/nowhere"), shutdown).await).await.err().unwrap().to_string();
    assert!(
        text.contains("failed to read server certificate '/nowhere/public.crt'")
            && text.contains("Check that"),
        "{text}"
    );
}

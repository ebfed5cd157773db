//! The client against a server of a few lines that says what each test wants it to say.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::*;
use crate::{
    api::{ApiError, KeyName, message::Policy},
    pki::{PemPair, SelfSigned, Usage, self_signed, self_signed_client},
};

/// What one request gets.
#[derive(Clone)]
enum Say {
    Answer(u16, &'static str, &'static str),
    /// Close the connection instead of answering.
    Hang,
    /// Never answer.
    Wait,
}

const JSON: &str = "application/json";

/// A server that gives its answers in order and repeats the last one.
struct Scripted {
    address: SocketAddr,
    pair: PemPair,
    connections: Arc<AtomicUsize>,
    /// Method, path with query, and body of each request.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(alpn: &'static [u8], script: Vec<Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pair = self_signed(&SelfSigned {
            common_name: "server".into(),
            dns: vec!["kes.test".into()],
            ip: vec![],
            validity: Duration::from_secs(3600),
            usage: Usage::Server,
        })
        .unwrap();
        let certificate =
            crate::pki::ServerCertificate::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes())
                .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                (*certificate.certified_key()).clone(),
            )));
        tls.alpn_protocols = vec![alpn.to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let connections = Arc::new(AtomicUsize::new(0));
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (count, record, script) = (Arc::clone(&connections), Arc::clone(&seen), Arc::new(script));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, record, script) = (acceptor.clone(), Arc::clone(&record), Arc::clone(&script));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service =
                        service_fn(move |request| answer(request, Arc::clone(&record), Arc::clone(&script)));
                    let io = TokioIo::new(stream);
                    if alpn == b"h2" {
                        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await;
                    } else {
                        let _ =
                            hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                    }
                });
            }
        });
        Self { address, pair, connections, seen }
    }

    fn client(&self, trust: Trust, timeout: Duration) -> Client {
        let identity = self_signed_client("test", Duration::from_secs(3600)).unwrap();
        Client::new(Config {
            endpoint: format!("https://kes.test:{}", self.address.port()),
            connect_to: Some(self.address),
            identity: ClientIdentity::from_pem(identity.certificate.as_bytes(), identity.key.as_bytes())
                .unwrap(),
            trust,
            enclave: Some(EnclaveName::new("tenant").unwrap()),
            timeout,
        })
        .unwrap()
    }

    fn trusting(&self) -> Client {
        self.client(Trust::Pem(self.pair.certificate.clone().into_bytes()), Duration::from_secs(10))
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(
    request: http::Request<Incoming>,
    seen: Arc<Mutex<Vec<String>>>,
    script: Arc<Vec<Say>>,
) -> Result<http::Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let target = head.uri.path_and_query().unwrap();
    let index = {
        let mut seen = seen.lock().unwrap();
        seen.push(format!("{} {target} {}", head.method, String::from_utf8_lossy(&body)).trim_end().into());
        seen.len() - 1
    };
    match script.get(index).or(script.last()).unwrap().clone() {
        Say::Answer(status, kind, body) => Ok(http::Response::builder()
            .status(status)
            .header("content-type", kind)
            .body(Full::from(body))
            .unwrap()),
        Say::Hang => Err(std::io::Error::other("as the test wants it")),
        Say::Wait => Ok(std::future::pending::<Result<_, Infallible>>().await.unwrap()),
    }
}

fn name() -> KeyName {
    KeyName::new("k").unwrap()
}

#[tokio::test]
async fn one_connection_carries_all_calls_on_both_protocols() {
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let server = Scripted::start(alpn, vec![Say::Answer(200, JSON, "")]).await;
        let client = server.trusting();
        for _ in 0..3 {
            client.create_key(&name()).await.unwrap();
        }
        client
            .write_policy(&"p".parse().unwrap(), &Policy { allow: vec!["/a".into()], ..Policy::default() })
            .await
            .unwrap();
        assert_eq!(server.connections(), 1);
        assert_eq!(server.seen()[0], "POST /v1/key/create/k?enclave=tenant");
        assert_eq!(server.seen()[3], r#"POST /v1/policy/write/p?enclave=tenant {"allow":["/a"],"deny":[]}"#);
    }
}

#[tokio::test]
async fn calls_about_the_server_select_no_enclave() {
    let server = Scripted::start(b"h2", vec![Say::Answer(200, JSON, r#"{"version":"1"}"#)]).await;
    assert_eq!(server.trusting().version().await.unwrap().version, "1");
    assert_eq!(server.seen(), ["GET /version"]);
}

#[tokio::test]
async fn a_broken_connection_and_a_503_are_tried_again_and_a_refusal_is_final() {
    for first in [Say::Hang, Say::Answer(503, JSON, r#"{"message":"request timeout exceeded"}"#)] {
        for alpn in [&b"h2"[..], b"http/1.1"] {
            let script = vec![first.clone(), first.clone(), Say::Answer(200, JSON, "")];
            let server = Scripted::start(alpn, script).await;
            server.trusting().create_key(&name()).await.unwrap();
            assert_eq!(server.seen().len(), 3);
        }
    }
    let always = Scripted::start(b"h2", vec![Say::Answer(503, JSON, r#"{"message":"m"}"#)]).await;
    let error = always.trusting().create_key(&name()).await.unwrap_err();
    assert_eq!((error.api().unwrap().status(), always.seen().len()), (503, 3));

    let refusal = r#"{"message":"key already exists"}"#;
    let script = vec![Say::Hang, Say::Answer(400, JSON, refusal)];
    let server = Scripted::start(b"h2", script).await;
    let error = server.trusting().create_key(&name()).await.unwrap_err();
    assert_eq!(error.api(), Some(&ApiError::KEY_EXISTS));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn the_timeout_bounds_a_call_and_names_the_server() {
    let server = Scripted::start(b"h2", vec![Say::Wait]).await;
    let client =
        server.client(Trust::Pem(server.pair.certificate.clone().into_bytes()), Duration::from_millis(100));
    let error = client.create_key(&name()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_no_request() {
    let server = Scripted::start(b"h2", vec![Say::Answer(200, JSON, "")]).await;
    let other = self_signed_client("other", Duration::from_secs(60)).unwrap();
    let patience = Duration::from_secs(10);
    let distrusting = server.client(Trust::Pem(other.certificate.into_bytes()), patience);
    let error = distrusting.create_key(&name()).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    assert_eq!((server.connections(), server.seen().len()), (1, 0));
    server.client(Trust::Insecure, patience).create_key(&name()).await.unwrap();
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let identity = self_signed_client("test", Duration::from_secs(60)).unwrap();
    let client = Client::new(Config {
        endpoint: format!("https://{address}"),
        connect_to: None,
        identity: ClientIdentity::from_pem(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap(),
        trust: Trust::Insecure,
        enclave: None,
        timeout: Duration::from_secs(10),
    })
    .unwrap();
    let error = client.version().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn listings_are_read_in_the_shapes_of_both_generations() {
    const LINES: &str = "{\"name\":\"a\",\"id\":\"1\",\"created_at\":\"2026-01-01T00:00:00Z\"}\n\
                         {\"name\":\"b\",\"created_at\":\"2026-01-01T00:00:00Z\"}\n";
    const BROKEN: &str =
        "{\"name\":\"a\",\"created_at\":\"2026-01-01T00:00:00Z\"}\n{\"error\":\"disk\",\"name\":\"\"}\n";
    let ndjson = "application/x-ndjson";
    let script = vec![
        Say::Answer(200, ndjson, LINES),
        Say::Answer(200, JSON, r#"{"names":["a","b"],"continue_at":""}"#),
        Say::Answer(200, "text/plain", ""),
        Say::Answer(200, ndjson, BROKEN),
    ];
    let server = Scripted::start(b"h2", script).await;
    let client = server.trusting();
    for pattern in ["*", ""] {
        let keys = client.list_keys(pattern).await.unwrap();
        assert_eq!(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
    assert!(client.list_keys("*").await.unwrap().is_empty());
    let error = client.list_keys("*").await.unwrap_err().to_string();
    assert!(error.contains("listing is incomplete: disk"), "{error}");
    assert_eq!(server.seen()[1], "GET /v1/key/list/*?enclave=tenant");
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_not_shown() {
    let script = vec![Say::Answer(200, JSON, r#"{"plaintext":12345}"#)];
    let server = Scripted::start(b"h2", script).await;
    let error = server.trusting().generate(&name(), b"context").await.err().unwrap().to_string();
    assert!(error.contains("unexpected JSON at line 1"), "{error}");
    assert!(!error.contains("12345"), "{error}");
}

#[tokio::test]
async fn each_verb_asks_with_its_method_path_and_body() {
    let server = Scripted::start(b"h2", vec![Say::Answer(200, JSON, "")]).await;
    let client = server.trusting();
    let (secret, enclave) = ("s".parse().unwrap(), "e".parse().unwrap());
    client.create_secret(&secret, b"value").await.unwrap();
    client.delete_secret(&secret).await.unwrap();
    client.create_enclave(&enclave, &"admin".parse().unwrap()).await.unwrap();
    client.delete_enclave(&enclave).await.unwrap();
    client.seal().await.unwrap();
    // these want an answer that they do not get
    let _ = client.read_secret(&secret).await;
    let _ = client.describe_secret(&secret).await;
    let _ = client.hmac(&name(), b"hello").await;
    let _ = client.bulk_decrypt(&name(), &[]).await;
    let _ = client.list_secrets("").await;
    let _ = client.list_enclaves("e").await;
    assert_eq!(
        server.seen(),
        [
            r#"POST /v1/secret/create/s?enclave=tenant {"bytes":"dmFsdWU="}"#,
            "DELETE /v1/secret/delete/s?enclave=tenant",
            r#"POST /v1/enclave/create/e {"admin":"admin"}"#,
            "DELETE /v1/enclave/delete/e",
            "POST /v1/sys/seal",
            "GET /v1/secret/read/s?enclave=tenant",
            "GET /v1/secret/describe/s?enclave=tenant",
            r#"PUT /v1/key/hmac/k?enclave=tenant {"message":"aGVsbG8="}"#,
            "POST /v1/key/bulk/decrypt/k?enclave=tenant []",
            "GET /v1/secret/list/*?enclave=tenant",
            "GET /v1/enclave/list/e",
        ]
    );
}

#[tokio::test]
async fn lines_are_read_as_they_come_however_the_answer_is_cut() {
    let many: String = (0..3000)
        .map(|n| format!("{{\"name\":\"key-{n}\",\"created_at\":\"2026-01-01T00:00:00Z\"}}\n"))
        .collect();
    let many: &'static str = many.leak();
    let refusal = r#"{"message":"not authorized: insufficient permissions"}"#;
    let ndjson = "application/x-ndjson";
    let script = vec![
        Say::Answer(200, ndjson, many),
        Say::Answer(200, ndjson, "\n{\"message\":\"one\"}\n\n{\"message\":\"two\"}"),
        Say::Answer(200, ndjson, "{\"error\":\"disk\"}\n"),
        Say::Answer(403, JSON, refusal),
    ];
    let server = Scripted::start(b"h2", script).await;
    let client = server.trusting();
    let mut keys = client.stream_keys("").await.unwrap();
    for n in 0..3000 {
        assert_eq!(keys.next().await.unwrap().unwrap().name.as_str(), format!("key-{n}"));
    }
    assert!(keys.next().await.unwrap().is_none());
    let mut errors = client.error_log().await.unwrap();
    for message in ["one", "two"] {
        assert_eq!(errors.next().await.unwrap().unwrap().message, message);
    }
    assert!(errors.next().await.unwrap().is_none());
    let mut broken = client.audit_log().await.unwrap();
    assert!(broken.next().await.unwrap_err().to_string().contains("disk"));
    let refused = client.audit_log().await.err().unwrap();
    assert_eq!(refused.api(), Some(&ApiError::NOT_ALLOWED));
    assert_eq!(server.seen()[3], "GET /v1/log/audit?enclave=tenant");
}

/// A port of this machine at which nobody listens.
fn nobody() -> String {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("https://localhost:{}", address.port())
}

impl Scripted {
    /// A client of several addresses, one of which is this server's.
    fn among(&self, endpoint: String) -> Client {
        Client::new(Config {
            endpoint,
            connect_to: None,
            identity: self_signed_identity(),
            trust: Trust::Insecure,
            enclave: None,
            timeout: Duration::from_secs(10),
        })
        .unwrap()
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.address.port())
    }
}

fn self_signed_identity() -> crate::pki::ClientIdentity {
    let pair = self_signed_client("client", Duration::from_secs(3600)).unwrap();
    crate::pki::ClientIdentity::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).unwrap()
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_away_and_from_then_on() {
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let server = Scripted::start(alpn, vec![Say::Answer(200, JSON, "")]).await;
        let client = server.among(format!("{}, {}, {}", nobody(), nobody(), server.url()));
        let began = std::time::Instant::now();
        for _ in 0..3 {
            client.create_key(&name()).await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for those who are away");
        assert_eq!(server.seen().len(), 3, "each call reaches it once");
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_refusal_is_final_also_where_another_server_could_be_asked() {
    let json = r#"{"message":"key already exists"}"#;
    let refusing = Scripted::start(b"h2", vec![Say::Answer(400, JSON, json)]).await;
    let other = Scripted::start(b"h2", vec![Say::Answer(200, JSON, "")]).await;
    let client = refusing.among(format!("{},{}", refusing.url(), other.url()));
    let error = client.create_key(&name()).await.unwrap_err();
    assert!(matches!(&error, Error::Api(refusal) if *refusal == ApiError::KEY_EXISTS), "{error}");
    assert_eq!((refusing.seen().len(), other.seen().len()), (1, 0));
}

#[tokio::test]
async fn when_all_are_away_it_is_said() {
    let server = Scripted::start(b"h2", vec![Say::Answer(200, JSON, "")]).await;
    let client = server.among(format!("{},{}", nobody(), nobody()));
    let error = client.create_key(&name()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

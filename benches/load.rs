//! Load on the data plane of any KES-compatible server: requests per second, latencies, and CPU per request.
//!
//! ```text
//! cargo bench --bench load -- --server 127.0.0.1:7373 --cert c.crt --key c.key --name my-key \
//!     --http 2 --connections 1 --streams 64 --seconds 5 --pid $(pidof kes)
//! ```
//! CPU is the server's own, user and system, from `/proc/PID/stat`; without `--pid` it is not told. One line of JSON comes
//! out, so that a script can put servers side by side. The server's certificate is not verified.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::net::TcpStream;

#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Address of the server.
    #[arg(long)]
    server: SocketAddr,
    /// Client certificate (PEM).
    #[arg(long)]
    cert: PathBuf,
    /// Its key (PEM).
    #[arg(long)]
    key: PathBuf,
    /// Name of the key; with `--names`, the prefix of names.
    #[arg(long, default_value = "my-key")]
    name: String,
    /// Use NAME-0 … NAME-(N-1) in turn.
    #[arg(long)]
    names: Option<usize>,
    /// `generate`, `decrypt` or `create`.
    #[arg(long, default_value = "generate")]
    call: String,
    /// HTTP version, 1 or 2.
    #[arg(long, default_value_t = 2)]
    http: u8,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests in flight on each connection (HTTP/2 only).
    #[arg(long, default_value_t = 64)]
    streams: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Process id of the server.
    #[arg(long)]
    pid: Option<u32>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn ask(&mut self, request: http::Request<Full<Bytes>>) -> (u16, Bytes) {
        let response = match self {
            Self::One(sender) => {
                sender.ready().await.expect("the connection stays open");
                sender.send_request(request).await
            }
            Self::Two(sender) => sender.send_request(request).await,
        };
        let (head, body) = response.expect("the server answers").into_parts();
        (head.status.as_u16(), body.collect().await.expect("the body ends").to_bytes())
    }
}

fn tls(arguments: &Arguments) -> Arc<ClientConfig> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(&arguments.cert).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&arguments.key).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![if arguments.http == 2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Arc::new(config)
}

async fn connect(arguments: &Arguments, config: &Arc<ClientConfig>) -> Vec<Sender> {
    let stream = TcpStream::connect(arguments.server).await.expect("the server listens");
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream =
        tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, stream).await.expect("handshake");
    if arguments.http == 2 {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        (0..arguments.streams).map(|_| Sender::Two(sender.clone())).collect()
    } else {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        vec![Sender::One(sender)]
    }
}

/// User and system time of a process in seconds (`proc_pid_stat(5)`, fields 14 and 15; 100 ticks a second on Linux).
fn cpu(pid: Option<u32>) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid?)).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?) / 100.0)
}

fn request(arguments: &Arguments, path: &str, body: &Bytes) -> http::Request<Full<Bytes>> {
    let uri = if arguments.http == 2 { format!("https://localhost{path}") } else { path.to_owned() };
    http::Request::post(uri).header("host", "localhost").body(Full::new(body.clone())).unwrap()
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let config = tls(&arguments);
    let mut senders = Vec::new();
    for _ in 0..arguments.connections {
        senders.extend(connect(&arguments, &config).await);
    }
    let name = |index: usize| match arguments.names {
        Some(names) => format!("{}-{}", arguments.name, index % names),
        None => arguments.name.clone(),
    };
    let body = match &*arguments.call {
        "decrypt" => {
            let path = format!("/v1/key/generate/{}", name(0));
            let (status, body) = senders[0].ask(request(&arguments, &path, &Bytes::from_static(b"{}"))).await;
            assert_eq!(status, 200, "{body:?}");
            let key: serde_json::Value = serde_json::from_slice(&body).unwrap();
            Bytes::from(format!(r#"{{"ciphertext":{}}}"#, key["ciphertext"]))
        }
        "create" => Bytes::new(),
        _ => Bytes::from_static(b"{}"),
    };
    let path = |index: usize| {
        if arguments.call == "create" {
            format!("/v1/key/create/{}-{index}", arguments.name)
        } else {
            format!("/v1/key/{}/{}", arguments.call, name(index))
        }
    };

    let workers = senders.len();
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (began, cpu_before) = (Instant::now(), cpu(arguments.pid));
    let end = began + Duration::from_secs_f64(arguments.seconds);
    let path = &path;
    let tasks = senders.into_iter().map(|mut sender| {
        let (next, arguments, body) = (Arc::clone(&next), &arguments, &body);
        async move {
            let (mut latencies, mut failed) = (Vec::new(), 0_u64);
            while Instant::now() < end {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let request = request(arguments, &path(index), body);
                let sent = Instant::now();
                let (status, _) = sender.ask(request).await;
                latencies.push(sent.elapsed());
                failed += u64::from(status != 200);
            }
            (latencies, failed)
        }
    });
    let results = futures::future::join_all(tasks).await;
    let took = began.elapsed().as_secs_f64();
    let used = cpu(arguments.pid).zip(cpu_before).map(|(after, before)| after - before);

    let failed: u64 = results.iter().map(|(_, failed)| failed).sum();
    let mut latencies: Vec<_> = results.into_iter().flat_map(|(latencies, _)| latencies).collect();
    latencies.sort_unstable();
    let count = latencies.len().max(1);
    let at = |quantile: f64| {
        latencies.get((count as f64 * quantile) as usize).map_or(0.0, |l| l.as_secs_f64() * 1e3)
    };
    println!(
        "{}",
        serde_json::json!({
            "call": arguments.call, "http": arguments.http, "in_flight": workers, "requests": count, "failed": failed,
            "per_second": (count as f64 / took).round(), "p50_ms": at(0.5), "p99_ms": at(0.99),
            "cpu_us_per_request": used.map(|used| used * 1e6 / count as f64),
        })
    );
}

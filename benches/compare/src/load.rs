//! One measured load: so many requests in flight for so long, and how long each took.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::client::{Client, Http, Sender};

/// What MinIO binds a data key to, in size.
const CONTEXT: &[u8] = br#"{"bucket":"bucket/some/object-1"}"#;

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    Generate,
    Decrypt,
    Create,
    /// All keys under a prefix.
    List,
}

/// Which keys are named.
#[derive(Clone, Debug)]
pub(crate) enum Names {
    /// Always this one.
    One(String),
    /// Each of `prefix-0` to `prefix-(n-1)` once; then the load ends.
    Each(String, usize),
    /// `prefix-0`, `prefix-1` and so on.
    Fresh(String),
    /// `prefix-A` to `prefix-B` again and again, with this at the end.
    Cycle(String, std::ops::Range<usize>, &'static str),
}

/// Where requests wait for each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) http: Http,
    pub(crate) connections: usize,
    /// Requests in flight on each connection; more than one only with HTTP/2.
    pub(crate) streams: usize,
    /// Whether every request has a connection, and so a handshake, of its own.
    pub(crate) reconnect: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) call: Call,
    pub(crate) names: Names,
    pub(crate) shape: Shape,
    pub(crate) seconds: f64,
    /// What to decrypt under each name of [`Names::Each`], as [`ciphertexts`] made it. Without it everything is one
    /// ciphertext of the first name.
    pub(crate) bodies: Option<Arc<Vec<Bytes>>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) failed: u64,
    /// Ascending, in units of 100 ns: there may be ten millions of them.
    latencies: Vec<u32>,
}

impl Measured {
    pub(crate) fn requests(&self) -> usize {
        self.latencies.len()
    }

    /// In milliseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let index = (self.latencies.len() as f64 * quantile) as usize;
        self.latencies.get(index).map_or(0.0, |&latency| f64::from(latency) / 1e4)
    }
}

impl Call {
    pub(crate) fn path(self, name: &str) -> String {
        let verb = match self {
            Self::Generate => "generate",
            Self::Decrypt => "decrypt",
            Self::Create => "create",
            Self::List => "list",
        };
        format!("/v1/key/{verb}/{name}")
    }

    fn method(self) -> &'static str {
        if self == Self::List { "GET" } else { "POST" }
    }
}

impl Names {
    /// The name of the request with this number, unless there is none left.
    fn at(&self, index: usize) -> Option<String> {
        match self {
            Self::One(name) => Some(name.clone()),
            Self::Each(prefix, count) => (index < *count).then(|| format!("{prefix}-{index}")),
            Self::Fresh(prefix) => Some(format!("{prefix}-{index}")),
            Self::Cycle(prefix, range, end) => {
                Some(format!("{prefix}-{}{end}", range.start + index % range.len()))
            }
        }
    }
}

/// Connects, and only then calls `begin`, starts the load, and calls `end` when the last answer is there.
pub(crate) async fn run<T>(client: &Client, load: &Load, gauge: impl Fn() -> T) -> Result<(Measured, T, T)> {
    let body = body(client, load).await?;
    let mut senders: Vec<Option<Sender>> = Vec::new();
    for _ in 0..load.shape.connections {
        if load.shape.reconnect {
            senders.push(None);
        } else {
            let connected = client.connect(load.shape.http, load.shape.streams).await?;
            senders.extend(connected.into_iter().map(Some));
        }
    }
    let next = AtomicUsize::new(0);
    let before = gauge();
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(load.seconds);
    let workers = senders.into_iter().map(|sender| work(client, load, sender, &body, &next, end));
    let results = futures::future::join_all(workers).await;
    let seconds = began.elapsed().as_secs_f64();
    let after = gauge();

    let mut measured = Measured { seconds, ..Measured::default() };
    for (latencies, failed) in results {
        measured.latencies.extend(latencies);
        measured.failed += failed;
    }
    measured.latencies.sort_unstable();
    Ok((measured, before, after))
}

fn generate_body() -> Bytes {
    Bytes::from(format!(r#"{{"context":"{}"}}"#, STANDARD.encode(CONTEXT)))
}

/// What to ask to decrypt what was answered to a generate.
fn decrypt_body(answer: &[u8]) -> Result<Bytes> {
    let key: serde_json::Value = serde_json::from_slice(answer)?;
    ensure!(key["ciphertext"].is_string(), "no ciphertext in the answer to generate");
    let context = STANDARD.encode(CONTEXT);
    Ok(Bytes::from(format!(r#"{{"ciphertext":{},"context":"{context}"}}"#, key["ciphertext"])))
}

async fn body(client: &Client, load: &Load) -> Result<Bytes> {
    Ok(match load.call {
        Call::Generate => generate_body(),
        Call::Create | Call::List => Bytes::new(),
        Call::Decrypt if load.bodies.is_some() => Bytes::new(),
        Call::Decrypt => {
            let name = load.names.at(0).context("no name")?;
            decrypt_body(&client.once("POST", &Call::Generate.path(&name), &generate_body()).await?)?
        }
    })
}

/// A request to decrypt for each of `prefix-0` to `prefix-(count-1)`, asked for one after the other.
pub(crate) async fn ciphertexts(client: &Client, prefix: &str, count: usize) -> Result<Vec<Bytes>> {
    let mut senders = client.connect(Http::One, 1).await?;
    let sender = senders.first_mut().context("no connection")?;
    let (mut bodies, question) = (Vec::with_capacity(count), generate_body());
    for index in 0..count {
        let path = Call::Generate.path(&format!("{prefix}-{index}"));
        let (status, answer) = sender.ask("POST", &path, &question).await?;
        ensure!(status == 200, "{path}: {status} {}", String::from_utf8_lossy(&answer).trim());
        bodies.push(decrypt_body(&answer)?);
    }
    Ok(bodies)
}

/// One request after the other until `end`; a broken connection ends the worker.
async fn work(
    client: &Client,
    load: &Load,
    mut sender: Option<Sender>,
    body: &Bytes,
    next: &AtomicUsize,
    end: Instant,
) -> (Vec<u32>, u64) {
    let (mut latencies, mut failed) = (Vec::new(), 0);
    while Instant::now() < end {
        let index = next.fetch_add(1, Relaxed);
        let Some(name) = load.names.at(index) else { break };
        let body = load.bodies.as_ref().and_then(|bodies| bodies.get(index)).unwrap_or(body);
        let path = load.call.path(&name);
        let sent = Instant::now();
        if load.shape.reconnect {
            sender = client.connect(load.shape.http, 1).await.ok().and_then(|mut senders| senders.pop());
        }
        let Some(open) = &mut sender else {
            failed += 1;
            break;
        };
        match open.ask(load.call.method(), &path, body).await {
            Ok((200, _)) => {
                latencies.push(u32::try_from(sent.elapsed().as_nanos() / 100).unwrap_or(u32::MAX));
            }
            Ok(_) => failed += 1,
            Err(_) => {
                failed += 1;
                break;
            }
        }
    }
    (latencies, failed)
}

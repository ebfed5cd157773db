//! One measured load: so many requests in flight for so long, and how long each took.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
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
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) failed: u64,
    /// Ascending.
    latencies: Vec<Duration>,
}

impl Measured {
    pub(crate) fn requests(&self) -> usize {
        self.latencies.len()
    }

    /// In milliseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let index = (self.latencies.len() as f64 * quantile) as usize;
        self.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}

impl Call {
    pub(crate) fn path(self, name: &str) -> String {
        let verb = match self {
            Self::Generate => "generate",
            Self::Decrypt => "decrypt",
            Self::Create => "create",
        };
        format!("/v1/key/{verb}/{name}")
    }
}

impl Names {
    /// The name of the request with this number, unless there is none left.
    fn at(&self, index: usize) -> Option<String> {
        match self {
            Self::One(name) => Some(name.clone()),
            Self::Each(prefix, count) => (index < *count).then(|| format!("{prefix}-{index}")),
            Self::Fresh(prefix) => Some(format!("{prefix}-{index}")),
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

async fn body(client: &Client, load: &Load) -> Result<Bytes> {
    let context = STANDARD.encode(CONTEXT);
    let generate = Bytes::from(format!(r#"{{"context":"{context}"}}"#));
    Ok(match load.call {
        Call::Generate => generate,
        Call::Create => Bytes::new(),
        Call::Decrypt => {
            let name = load.names.at(0).context("no name")?;
            let key = client.once("POST", &Call::Generate.path(&name), &generate).await?;
            let key: serde_json::Value = serde_json::from_slice(&key)?;
            ensure!(key["ciphertext"].is_string(), "no ciphertext in the answer to generate");
            Bytes::from(format!(r#"{{"ciphertext":{},"context":"{context}"}}"#, key["ciphertext"]))
        }
    })
}

/// One request after the other until `end`; a broken connection ends the worker.
async fn work(
    client: &Client,
    load: &Load,
    mut sender: Option<Sender>,
    body: &Bytes,
    next: &AtomicUsize,
    end: Instant,
) -> (Vec<Duration>, u64) {
    let (mut latencies, mut failed) = (Vec::new(), 0);
    while Instant::now() < end {
        let Some(name) = load.names.at(next.fetch_add(1, Relaxed)) else { break };
        let path = load.call.path(&name);
        let sent = Instant::now();
        if load.shape.reconnect {
            sender = client.connect(load.shape.http, 1).await.ok().and_then(|mut senders| senders.pop());
        }
        let Some(open) = &mut sender else {
            failed += 1;
            break;
        };
        match open.ask("POST", &path, body).await {
            Ok((200, _)) => latencies.push(sent.elapsed()),
            Ok(_) => failed += 1,
            Err(_) => {
                failed += 1;
                break;
            }
        }
    }
    (latencies, failed)
}

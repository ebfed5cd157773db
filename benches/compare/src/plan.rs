//! What is measured: the loads in their order, and the settings that say how long and how often.

use anyhow::{Context as _, Result};

use crate::{
    client::Http,
    load::{Call, Load, Names, Shape},
};

/// Keys that are read from disk, each at most once, in the cold loads.
pub(crate) const COLD_KEYS: usize = 20_000;
/// What their names begin with.
pub(crate) const COLD: &str = "bench-cold";
/// The key of all warm loads.
pub(crate) const KEY: &str = "bench-key";

/// From the environment; see `make help`.
pub(crate) struct Settings {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    /// Keys that ours is filled with.
    pub(crate) keys: usize,
    /// Keys that others are filled with.
    pub(crate) peer_keys: usize,
    /// Ids, or parts of ids; empty for everything.
    only: Vec<String>,
}

/// One row of the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// For some seconds, on one key.
    Warm(Call, Shape),
    /// For some seconds, a new key each time.
    Create(Shape),
    /// Keys that the server has on disk and not in memory, each once; at most twice as long as others.
    Cold(Call, Shape),
    /// The names under one prefix after the other, 1,111 each, of the keys of the cold loads.
    List(Shape),
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Self> {
        fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
            match std::env::var(name) {
                Ok(text) => {
                    text.parse().ok().with_context(|| format!("{name} is '{text}'; a number is expected"))
                }
                Err(_) => Ok(default),
            }
        }
        let full = std::env::var("BENCH_FULL").is_ok_and(|value| !value.is_empty() && value != "0");
        let only = std::env::var("BENCH_ONLY").unwrap_or_default();
        Ok(Self {
            seconds: number("BENCH_SECONDS", 2.0)?,
            rounds: number("BENCH_ROUNDS", 3_usize)?.max(1),
            keys: number("BENCH_KEYS", if full { 10_000_000 } else { 1_000_000 })?,
            peer_keys: number("BENCH_PEER_KEYS", 50_000)?,
            only: only.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        })
    }

    pub(crate) fn wants(&self, id: &str) -> bool {
        let is_whole = |part: &str| SCENARIOS.iter().any(|scenario| scenario.id == part);
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|part| if is_whole(part) { id == part } else { id.contains(part.as_str()) })
    }
}

impl Scenario {
    /// What to do in round `round`.
    pub(crate) fn load(&self, round: usize, seconds: f64) -> Load {
        let bodies = None;
        match self.kind {
            Kind::Warm(call, shape) => Load { call, names: Names::One(KEY.into()), shape, seconds, bodies },
            Kind::Create(shape) => {
                let names = Names::Fresh(format!("bench-{}-{round}", self.id));
                Load { call: Call::Create, names, shape, seconds, bodies }
            }
            Kind::Cold(call, shape) => {
                let names = Names::Each(COLD.into(), COLD_KEYS);
                Load { call, names, shape, seconds: 2.0 * seconds, bodies }
            }
            Kind::List(shape) => {
                let names = Names::Cycle(COLD.into(), 10..20, "");
                Load { call: Call::List, names, shape, seconds, bodies }
            }
        }
    }

    /// Whether the server must have the 20,000 keys.
    pub(crate) fn needs_keys(&self) -> bool {
        matches!(self.kind, Kind::Cold(..) | Kind::List(_))
    }
}

const fn h1(connections: usize) -> Shape {
    Shape { http: Http::One, connections, streams: 1, reconnect: false }
}

const fn h2(connections: usize, streams: usize) -> Shape {
    Shape { http: Http::Two, connections, streams, reconnect: false }
}

const HANDSHAKES: Shape = Shape { http: Http::One, connections: 4, streams: 1, reconnect: true };

/// Everything, the most important first.
#[rustfmt::skip]
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { id: "generate-h2-64", title: "generate, HTTP/2, 1 × 64 streams (as MinIO calls)", kind: Kind::Warm(Call::Generate, h2(1, 64)) },
    Scenario { id: "decrypt-h2-64", title: "decrypt, HTTP/2, 1 × 64 streams", kind: Kind::Warm(Call::Decrypt, h2(1, 64)) },
    Scenario { id: "generate-h2-1", title: "generate, HTTP/2, 1 × 1 stream", kind: Kind::Warm(Call::Generate, h2(1, 1)) },
    Scenario { id: "generate-h1-1", title: "generate, HTTP/1.1, 1 connection", kind: Kind::Warm(Call::Generate, h1(1)) },
    Scenario { id: "generate-h1-16", title: "generate, HTTP/1.1, 16 connections", kind: Kind::Warm(Call::Generate, h1(16)) },
    Scenario { id: "generate-h1-64", title: "generate, HTTP/1.1, 64 connections", kind: Kind::Warm(Call::Generate, h1(64)) },
    Scenario { id: "decrypt-h1-1", title: "decrypt, HTTP/1.1, 1 connection", kind: Kind::Warm(Call::Decrypt, h1(1)) },
    Scenario { id: "decrypt-h1-16", title: "decrypt, HTTP/1.1, 16 connections", kind: Kind::Warm(Call::Decrypt, h1(16)) },
    Scenario { id: "decrypt-h1-64", title: "decrypt, HTTP/1.1, 64 connections", kind: Kind::Warm(Call::Decrypt, h1(64)) },
    Scenario { id: "handshake", title: "a new mTLS connection for each generate", kind: Kind::Warm(Call::Generate, HANDSHAKES) },
    Scenario { id: "create-1", title: "durable create, 1 client", kind: Kind::Create(h2(1, 1)) },
    Scenario { id: "create-64", title: "durable create, 64 clients (HTTP/2, 1 × 64)", kind: Kind::Create(h2(1, 64)) },
    Scenario { id: "create-512", title: "durable create, 512 clients (HTTP/2, 8 × 64)", kind: Kind::Create(h2(8, 64)) },
    Scenario { id: "create-h1-512", title: "durable create, 512 clients (HTTP/1.1, 512 connections)", kind: Kind::Create(h1(512)) },
    Scenario { id: "list-1111", title: "list 1,111 of 20,000 names, HTTP/1.1, 1 connection", kind: Kind::List(h1(1)) },
    Scenario { id: "cold-generate-h2-64", title: "20,000 cold keys: generate, HTTP/2, 1 × 64", kind: Kind::Cold(Call::Generate, h2(1, 64)) },
    Scenario { id: "cold-generate-h1-1", title: "20,000 cold keys: generate, HTTP/1.1, 1 connection", kind: Kind::Cold(Call::Generate, h1(1)) },
    Scenario { id: "cold-generate-h1-16", title: "20,000 cold keys: generate, HTTP/1.1, 16 connections", kind: Kind::Cold(Call::Generate, h1(16)) },
    Scenario { id: "cold-generate-h1-64", title: "20,000 cold keys: generate, HTTP/1.1, 64 connections", kind: Kind::Cold(Call::Generate, h1(64)) },
    Scenario { id: "cold-decrypt-h2-64", title: "20,000 cold keys: decrypt, HTTP/2, 1 × 64", kind: Kind::Cold(Call::Decrypt, h2(1, 64)) },
    Scenario { id: "cold-decrypt-h1-1", title: "20,000 cold keys: decrypt, HTTP/1.1, 1 connection", kind: Kind::Cold(Call::Decrypt, h1(1)) },
    Scenario { id: "cold-decrypt-h1-16", title: "20,000 cold keys: decrypt, HTTP/1.1, 16 connections", kind: Kind::Cold(Call::Decrypt, h1(16)) },
    Scenario { id: "cold-decrypt-h1-64", title: "20,000 cold keys: decrypt, HTTP/1.1, 64 connections", kind: Kind::Cold(Call::Decrypt, h1(64)) },
];

//! Tests of the whole room.

mod access;
mod differences;
mod enclaves;
mod endpoints;
mod http;
mod identity;
mod matrix;
mod streams;
mod tls;
mod wire;

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    body::Body,
    call::{self, Peer, RequestIds, Shared},
    changes::Changes,
    http::respond,
    memory::Memory,
    metrics,
    reply::Outgoing,
};
use crate::{
    api::{ApiError, EnclaveName, Identity, message::Generation},
    audit::{AuditLog, Sink},
    crypto::{Layout, seal},
    service::{
        CACHED_KEYS, Service, Setup,
        bootstrap::{self, EnclavePlan, Plan},
    },
    world::{Random, System},
};

/// The identities of the tests.
pub(super) const SYSTEM: &str = "system-admin";
pub(super) const ADMIN: &str = "enclave-admin";

/// A service on a directory of its own, whose system admin is [`SYSTEM`] and whose enclave `default` is [`ADMIN`]'s.
async fn service() -> (Service, tempfile::TempDir) {
    service_with(Arc::new(System)).await
}

/// As [`service`], with randomness that the test knows.
async fn service_with(random: Arc<dyn Random>) -> (Service, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("unseal"), "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=").unwrap();
    let seal = Arc::new(seal::File::new(directory.path().join("unseal")));
    let dir = directory.path().join("data");
    let default =
        EnclavePlan { name: EnclaveName::default_enclave(), admin: id(ADMIN), policies: Vec::new() };
    let plan = Plan {
        cluster_id: Some("test".into()),
        system_admin: id(SYSTEM),
        settings: serde_json::Value::Null,
        enclaves: vec![default],
    };
    bootstrap::init(&dir, seal.clone(), plan).await.unwrap();
    let clock = Arc::new(System);
    let setup = Setup {
        dir,
        seal,
        previous_seal: None,
        await_bootstrap: None,
        layout: Layout::Raw,
        cached_keys: CACHED_KEYS,
        clock,
        random,
    };
    (Service::open(setup).await.unwrap(), directory)
}

fn id(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

/// Keeps audit lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<serde_json::Value>>>);

impl Sink for Lines {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        self.0.lock().unwrap().extend(lines.map(|line| serde_json::from_slice(line).unwrap()));
        Ok(())
    }
}

/// A server without sockets.
struct Bare {
    shared: Arc<Shared>,
    lines: Lines,
    _directory: tempfile::TempDir,
}

struct Got {
    status: u16,
    headers: ::http::HeaderMap,
    body: String,
    rest: Option<Outgoing>,
}

impl Bare {
    async fn new() -> Self {
        Self::with(service().await, |lines| AuditLog::new(lines).unwrap())
    }

    /// As [`Self::new`] with a service and an audit log of the test's.
    fn with(
        (service, directory): (Service, tempfile::TempDir),
        audit: impl FnOnce(Lines) -> AuditLog,
    ) -> Self {
        let lines = Lines::default();
        let shared = Shared {
            service,
            audit: audit(lines.clone()),
            metrics: metrics(),
            default_enclave: EnclaveName::default_enclave(),
            nobody: call::nobody(),
            access: ArcSwap::default(),
            memory_locked: false,
            generation: Generation::default(),
            errors: Arc::default(),
            draining: CancellationToken::new(),
            memory: Memory::new(),
            changes: Changes::new(100),
            ids: RequestIds::new(&System),
        };
        Self { shared: Arc::new(shared), lines, _directory: directory }
    }

    async fn ask(&self, who: &str, method: &str, path: &str, body: &str) -> Got {
        self.ask_as(Ok(id(who)), method, path, body).await
    }

    async fn ask_as(
        &self,
        identity: Result<Identity, ApiError>,
        method: &str,
        path: &str,
        body: &str,
    ) -> Got {
        let body = Body::Fixed(Bytes::copy_from_slice(body.as_bytes()));
        self.send(identity, method, path, body).await
    }

    /// As [`Self::ask`], with a body that comes when somebody sends it.
    async fn ask_slowly(&self, who: &str, method: &str, path: &str, body: oneshot::Receiver<Bytes>) -> Got {
        self.send(Ok(id(who)), method, path, Body::Awaited(body)).await
    }

    async fn send(&self, identity: Result<Identity, ApiError>, method: &str, path: &str, body: Body) -> Got {
        let response = self.begin(identity, method, path, body).await;
        let (head, body) = response.into_parts();
        let mut got = Got {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::new(),
            rest: Some(body),
        };
        // what comes without waiting: all of it, unless it is without end
        while got.more().now_or_never().is_some_and(|more| more) {}
        got
    }

    /// An answer whose body was not looked at yet.
    async fn begin(
        &self,
        identity: Result<Identity, ApiError>,
        method: &str,
        path: &str,
        body: Body,
    ) -> ::http::Response<Outgoing> {
        let request = ::http::Request::builder().method(method).uri(path).body(()).unwrap();
        let peer = Arc::new(Peer {
            ip: [127, 0, 0, 1].into(),
            identity,
            proxy: None,
            guest: None,
            allowance: Arc::new(self.shared.memory.allowance()),
        });
        respond(Arc::clone(&self.shared), peer, request.into_parts().0, body).await
    }

    /// As [`Self::ask`], for what must succeed.
    async fn must(&self, who: &str, method: &str, path: &str, body: &str) -> Got {
        let got = self.ask(who, method, path, body).await;
        assert_eq!(got.status, 200, "{who} {method} {path}: {}", got.body);
        got
    }
}

impl Got {
    /// Waits for another part of the body; whether there was one.
    async fn more(&mut self) -> bool {
        let Some(rest) = &mut self.rest else { return false };
        let Some(frame) = rest.frame().await else {
            self.rest = None;
            return false;
        };
        self.body.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        true
    }

    fn is(&self, error: &ApiError) -> bool {
        self.status == error.status()
            && self.body == format!("{{\"message\":{}}}", serde_json::json!(error.message()))
    }
}

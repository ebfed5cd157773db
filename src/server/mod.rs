//! HTTP ends here: sockets, TLS, limits, one table of routes, one way from errors to statuses.
//!
//! ```text
//! accept ─► connection (handshake, identity) ─► http (route, method, body limit, enclave, audit, metrics)
//!                                                 └─► route ─► call::admit (authz) ─► handle ─► service
//! ```
//! The order of checks is that of KES (contract §1.2): method, body limit, enclave, rights, name, existence, body.

mod access;
mod activity;
mod admission;
mod backlog;
mod body;
mod call;
mod changes;
mod connection;
mod error;
mod files;
mod handle;
mod health;
mod http;
mod memory;
pub mod probe;
mod reload;
mod reply;
mod route;
mod target;
mod tls;

#[cfg(test)]
mod tests;

pub use access::{Access, AccessError};
pub use error::Error;
pub use reload::{ReadAgain, Reload};

use std::{
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::admission::{Crowd, Door, Limits};
use crate::{
    api::{EnclaveName, message::Generation},
    audit::{AuditLog, Feed},
    pki::Password,
    service::{Service, damaged_records_met},
    telemetry::Metrics,
    world::System,
};

/// Connections at once, if the limit of open files allows as many.
const CONNECTIONS: usize = 10_000;
/// Connections among them that were allowed nothing yet.
const STRANGERS: usize = 1_000;
/// The part of them that one identity may have.
const ONE_IDENTITY: usize = 4;
/// Changes on their way at once, all clients together: as many with a body as may wait for the log, and without one.
const CHANGES: u32 = 4_096;
/// How long requests in flight may take after the server was asked to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// And how long changes may take to be noted after that.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a server needs to run.
pub struct Options {
    /// Where the key API listens; port 0 takes any.
    pub address: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` listen, over plain HTTP; `None` for nowhere.
    pub health: Option<SocketAddr>,
    /// PEM file with the server's certificate chain; read again when it changes.
    pub certificate: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    /// The password of that key, if it has one.
    pub password: Option<Password>,
    /// What answers.
    pub service: Service,
    /// Where every decision is recorded.
    pub audit: AuditLog,
    /// What counts; see [`metrics`].
    pub metrics: Arc<Metrics>,
    /// Whether secret memory is locked, for the status.
    pub memory_locked: bool,
    /// Whose shapes are written where clients of the two generations of KES contradict each other.
    pub generation: Generation,
    /// Who gets in besides clients that show a certificate of their own.
    pub access: Access,
    /// Resolves when the server shall stop, e.g. [`termination`].
    pub shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A server whose ports are taken and whose certificate is read.
pub struct Server {
    listener: TcpListener,
    health: Option<TcpListener>,
    certificate: Arc<tls::Certificate>,
    tls: Arc<ArcSwap<ServerConfig>>,
    shared: Arc<call::Shared>,
    reload: Reload,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Serves until `options.shutdown` resolves, then drains and closes the service.
///
/// # Errors
/// See [`Server::bind`].
pub async fn run(options: Options) -> Result<(), Error> {
    Server::bind(options).await?.serve().await;
    Ok(())
}

/// Metrics that tell this room's actions apart.
#[must_use]
pub fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(route::ROUTES.iter().map(|route| route.handler.action())))
}

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be listened for.
pub fn termination() -> std::io::Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }))
}

impl Server {
    /// Reads the certificate and takes the ports.
    ///
    /// # Errors
    /// The certificate cannot be used, or a port cannot be had.
    pub async fn bind(options: Options) -> Result<Self, Error> {
        let Options {
            address,
            health,
            certificate,
            key,
            password,
            service,
            audit,
            metrics,
            memory_locked,
            generation,
            access,
            shutdown,
        } = options;
        let certificate =
            Arc::new(tls::Certificate::load(certificate, key, password).map_err(Error::Certificate)?);
        let config = tls::config(Arc::clone(&certificate), &access).map_err(Error::Tls)?;
        let listen = |address| async move {
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
        };
        let listener = listen(address).await?;
        let health = match health {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let dropped = audit.clone();
        metrics.counter("kes_audit_dropped_total", "Audit records that were lost.", move || {
            dropped.dropped() as f64
        });
        metrics.counter("kes_damaged_records_total", "Times that a record did not open.", || {
            damaged_records_met() as f64
        });
        let memory = memory::Memory::new();
        let (now, ever) = (Arc::clone(&memory.backlogs), Arc::clone(&memory.backlogs));
        metrics.gauge(
            "kes_unread_bytes",
            "What requests and answers that clients keep waiting hold in memory, beyond a small part per connection.",
            move || now.bytes() as f64,
        );
        metrics.counter(
            "kes_connections_closed_for_memory_total",
            "Connections that were closed because answers that nobody read took too much memory.",
            move || ever.closed() as f64,
        );
        let errors = Arc::new(Feed::default());
        let feeds = [Arc::clone(audit.feed()), Arc::clone(&errors)];
        metrics.counter("kes_log_stream_dropped_total", "Lines that followers of a log missed.", move || {
            feeds.iter().map(|feed| feed.dropped()).sum::<u64>() as f64
        });
        let shared = Arc::new(call::Shared {
            service,
            audit,
            metrics,
            default_enclave: EnclaveName::default_enclave(),
            nobody: call::nobody(),
            access: ArcSwap::from_pointee(access),
            memory_locked,
            generation,
            errors,
            draining: CancellationToken::new(),
            memory,
            changes: changes::Changes::new(CHANGES),
            ids: call::RequestIds::new(&System),
        });
        let (tls, reload) = (Arc::new(ArcSwap::from_pointee(config)), Reload::never());
        Ok(Self { listener, health, certificate, tls, shared, reload, shutdown })
    }

    /// Reads the certificate, and what else can change while it runs, also when `reload` says so.
    #[must_use]
    pub fn with_reload(self, reload: Reload) -> Self {
        Self { reload, ..self }
    }

    /// Where the key API listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where health listens, if it does.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until it is asked to stop; then takes no more connections, gives requests in flight ten seconds, and closes
    /// the service and the audit log.
    pub async fn serve(self) {
        let Self { listener, health, certificate, tls, shared, reload, shutdown } = self;
        let (draining, stopped) = (shared.draining.clone(), CancellationToken::new());
        if let Some(listener) = health {
            tokio::spawn(health::serve(listener, Arc::clone(&shared), draining.clone(), stopped.clone()));
        }
        let changing = reload::Changing { certificate, tls: Arc::clone(&tls), shared: Arc::clone(&shared) };
        tokio::spawn(reload::run(changing, reload, stopped.clone()));

        let connections = TaskTracker::new();
        let mut door = Door::new(listener, crowd(&shared.metrics));
        let mut shutdown = shutdown;
        loop {
            let (stream, address, guest) = tokio::select! {
                accepted = door.next() => accepted,
                () = &mut shutdown => break,
            };
            let (shared, acceptor, draining) =
                (Arc::clone(&shared), tls.load_full().into(), draining.clone());
            connections.spawn(connection::serve(shared, acceptor, stream, address, guest, draining));
        }

        drop(door);
        let began = Instant::now();
        tracing::info!(
            connections = connections.len(),
            "stopping: no new connections, requests in flight are answered"
        );
        draining.cancel();
        connections.close();
        let idle = async {
            connections.wait().await;
            shared.changes.over().await;
        };
        let drained = tokio::time::timeout(DRAIN, idle).await.is_ok();
        shared.service.close().await;
        // of clients that went away: what was made is to be noted, and what was not fails now, or still waits for a body
        let _ = tokio::time::timeout(GOODBYE, shared.changes.over()).await;
        let audit = shared.audit.clone();
        let audited =
            tokio::task::spawn_blocking(move || audit.close(Duration::from_secs(5))).await.unwrap_or(false);
        stopped.cancel();
        tracing::info!(drained, audited, millis = began.elapsed().as_millis() as u64, "stopped");
    }
}

/// Room for as many connections as open files allow.
fn crowd(metrics: &Metrics) -> Arc<Crowd> {
    let files = files::raise_limit();
    let total = files::connections(files, CONNECTIONS);
    let limits =
        Limits { total, strangers: STRANGERS.min(total / 2), identity: (total / ONE_IDENTITY).max(1) };
    tracing::info!(
        files,
        connections = limits.total,
        strangers = limits.strangers,
        "limits of open files and connections"
    );
    let crowd = Crowd::new(limits);
    let (now, ever) = (Arc::clone(&crowd), Arc::clone(&crowd));
    metrics.gauge("kes_connections", "Connections to the key API.", move || now.count().0 as f64);
    metrics.counter(
        "kes_connections_closed_for_room_total",
        "Connections that were closed because there were too many.",
        move || ever.closed() as f64,
    );
    crowd
}

//! Keeps the certificate as its files are, and the rest as the configuration is: looks at the files now and then, and at
//! everything at once when somebody asks.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use rustls::ServerConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    access::Access,
    call::Shared,
    tls::{self, Certificate},
};

/// How often the certificate's files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Reads the configuration again, takes what the server itself knows nothing of, and returns the rest; or says why the
/// old one stays.
pub type ReadAgain = Box<dyn Fn() -> BoxFuture<'static, Result<Access, String>> + Send + Sync>;

/// What makes a server read its files at once, and which besides the certificate.
pub struct Reload {
    signal: Option<Signal>,
    configuration: Option<ReadAgain>,
}

impl Reload {
    /// Nothing: the certificate is looked at now and then only.
    #[must_use]
    pub fn never() -> Self {
        Self { signal: None, configuration: None }
    }

    /// SIGHUP. From now on it does not end the process any more.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn on_hangup() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(|signal| Self { signal: Some(signal), configuration: None })
    }

    /// Also reads the configuration, when it is asked to.
    #[must_use]
    pub fn with(self, configuration: ReadAgain) -> Self {
        Self { configuration: Some(configuration), ..self }
    }

    async fn asked(&mut self) {
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        // nobody can ask any more
        std::future::pending().await
    }
}

/// What may change while the server runs.
pub(super) struct Changing {
    pub(super) certificate: Arc<Certificate>,
    pub(super) tls: Arc<ArcSwap<ServerConfig>>,
    pub(super) shared: Arc<Shared>,
}

/// Runs until `stop` is cancelled.
pub(super) async fn run(changing: Changing, mut asked: Reload, stop: CancellationToken) {
    let mut failed = false;
    loop {
        let by_hand = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => false,
            () = asked.asked() => true,
        };
        let certificate = &changing.certificate;
        match if by_hand { certificate.read_again().map(|()| true) } else { certificate.reload() } {
            Ok(false) => {}
            Ok(true) => {
                failed = false;
                tracing::info!(asked = by_hand, "server certificate reloaded");
            }
            Err(error) => {
                // said once, but to everybody who asks
                if !std::mem::replace(&mut failed, true) || by_hand {
                    tracing::error!(%error, next = error.next_step(), "the changed certificate is not used; the old one stays");
                }
            }
        }
        if by_hand && let Some(configuration) = &asked.configuration {
            match configuration().await {
                Ok(access) => changing.admit_by(access),
                Err(error) => {
                    tracing::error!(%error, "the changed configuration is not used; the old one stays")
                }
            }
        }
    }
}

impl Changing {
    /// From the next request and the next connection on. Connections that are open go on: who has no rights any more gets
    /// none with the next request.
    fn admit_by(&self, access: Access) {
        match tls::config(Arc::clone(&self.certificate), &access) {
            Ok(config) => {
                self.shared.access.store(Arc::new(access));
                self.tls.store(Arc::new(config));
                tracing::info!("configuration reloaded");
            }
            Err(error) => tracing::error!(%error, "the changed configuration is not used; the old one stays"),
        }
    }
}

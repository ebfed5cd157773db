//! Keeps the certificate as its files are: looks at them now and then, and at once when somebody asks.

use std::{io, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::tls::Certificate;

/// How often the certificate's files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// What makes a server read its certificate's files at once.
pub struct Reload(Option<Signal>);

impl Reload {
    /// Nothing: the files are looked at now and then only.
    #[must_use]
    pub fn never() -> Self {
        Self(None)
    }

    /// SIGHUP. From now on it does not end the process any more.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn on_hangup() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(|signal| Self(Some(signal)))
    }

    async fn asked(&mut self) {
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        // nobody can ask any more
        std::future::pending().await
    }
}

/// Runs until `stop` is cancelled.
pub(super) async fn run(certificate: Arc<Certificate>, mut asked: Reload, stop: CancellationToken) {
    let mut failed = false;
    loop {
        let by_hand = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => false,
            () = asked.asked() => true,
        };
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
    }
}

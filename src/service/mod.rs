//! The rules of keys, policies, identities, enclaves and the seal. Knows neither HTTP nor Kubernetes.
//!
//! A caller brings an [`Authorized`](crate::authz::Authorized) value for what it wants; reads are answered from
//! this member's own state, changes are sealed here and proposed to `consensus`.

pub mod bootstrap;
mod core;
mod enclaves;
mod error;
mod identities;
mod keys;
mod policies;
mod record;
#[cfg(test)]
mod tests;
mod view;

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;

use self::core::Core;
pub use self::error::Error;
pub use crate::crypto::{Algorithm, SecretKey};
use crate::{
    api::{EnclaveName, Identity, message},
    authz::{Authorized, Role, action},
    crypto::{Layout, SealProvider},
    store::Directory,
    world::{Clock, Random},
};

/// Whether requests can be served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// The directory is empty: the operator must bootstrap.
    Uninitialised,
    /// The root key is not in memory.
    Sealed,
    /// Everything works.
    Ready,
}

/// What the service is made of; decided by whoever starts it.
pub struct Setup {
    /// The data directory.
    pub dir: PathBuf,
    /// Where the unseal key comes from.
    pub seal: Arc<dyn SealProvider>,
    /// Who may bootstrap an empty directory; also the system admin from then on. Without it an empty directory is an
    /// error.
    pub await_bootstrap: Option<Identity>,
    /// How new ciphertexts are written.
    pub layout: Layout,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives randomness.
    pub random: Arc<dyn Random>,
}

/// The key service of this member. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    setup: Setup,
    core: ArcSwapOption<Core>,
    bootstrapping: tokio::sync::Mutex<()>,
}

impl Service {
    /// Opens the directory and unseals it, or waits for bootstrap when it is empty and that was asked for.
    ///
    /// # Errors
    /// When the directory cannot be used, or the unseal key is missing or wrong.
    pub async fn open(setup: Setup) -> Result<Self, Error> {
        let waits = setup.await_bootstrap.is_some() && !Directory::is_initialised(&setup.dir);
        let core = if waits {
            Directory::check_absent(&setup.dir)?;
            None
        } else {
            Some(Core::open(&setup).await?)
        };
        let inner =
            Inner { setup, core: ArcSwapOption::from(core), bootstrapping: tokio::sync::Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether requests can be served.
    #[must_use]
    pub fn state(&self) -> State {
        if self.inner.core.load().is_some() { State::Ready } else { State::Uninitialised }
    }

    /// Calls `f` with what `identity` is in `enclave`.
    ///
    /// # Errors
    /// [`Error::NotInitialised`]; [`Error::EnclaveNotFound`] unless the identity is the system admin.
    pub fn with_role<R>(
        &self,
        enclave: &EnclaveName,
        identity: &Identity,
        f: impl FnOnce(Role<'_>) -> R,
    ) -> Result<R, Error> {
        let core = self.inner.core.load();
        let Some(core) = core.as_ref() else {
            return match &self.inner.setup.await_bootstrap {
                Some(admin) if admin == identity => Ok(f(Role::SystemAdmin)),
                _ => Err(Error::NotInitialised),
            };
        };
        core.with_role(enclave, identity, f)
    }

    /// Makes the cluster, once. Asking again with the same id is fine.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] when there is a cluster with another id.
    pub async fn bootstrap(
        &self,
        proof: &Authorized<'_, action::Bootstrap>,
        cluster_id: &str,
    ) -> Result<(), Error> {
        let _one_at_a_time = self.inner.bootstrapping.lock().await;
        if let Some(core) = self.inner.core.load().as_ref() {
            return if core.cluster_id() == cluster_id { Ok(()) } else { Err(Error::OtherCluster) };
        }
        let setup = &self.inner.setup;
        let plan = bootstrap::Plan {
            cluster_id: Some(cluster_id.into()),
            system_admin: proof.identity().clone(),
            settings: serde_json::Value::Null,
            enclaves: Vec::new(),
        };
        bootstrap::create(setup, plan).await?;
        self.inner.core.store(Some(Core::open(setup).await?));
        Ok(())
    }

    /// What the operator and `kes status` want to know of the cluster.
    #[must_use]
    pub fn cluster(&self, _proof: &Authorized<'_, action::DescribeCluster>) -> message::Cluster {
        let core = self.inner.core.load();
        let core = core.as_ref();
        message::Cluster {
            cluster_id: core.map(|c| c.cluster_id().to_owned()),
            initialised: core.is_some(),
            sealed: false,
            version: env!("CARGO_PKG_VERSION").into(),
            member_id: core.map(|c| format!("{:016x}", c.member_id())),
            leader_id: core.and_then(|c| c.consensus.leader()).map(|id| format!("{id:016x}")),
            applied: core.map_or(0, |c| c.consensus.applied()),
        }
    }

    /// Stops cleanly: what was acknowledged is on disk already, this only spares the next start the replay.
    pub async fn close(&self) {
        if let Some(core) = self.inner.core.load_full() {
            core.consensus.close().await;
        }
    }

    fn core(&self) -> Result<Arc<Core>, Error> {
        self.inner.core.load_full().ok_or(Error::NotInitialised)
    }
}

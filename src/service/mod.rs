//! The rules of keys, policies, identities, enclaves and the seal. Knows neither HTTP nor Kubernetes.
//!
//! A caller brings an [`Authorized`](crate::authz::Authorized) value for what it wants; reads are answered from
//! this member's own state, changes are sealed here and proposed to `consensus`.

pub mod bootstrap;
mod cache;
mod core;
mod enclaves;
mod error;
mod identities;
mod keys;
mod listing;
mod policies;
mod record;
mod rotation;
mod secrets;
#[cfg(test)]
mod tests;
mod view;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use self::core::Core;
pub use self::{
    error::{Error, damaged_records_met},
    listing::Pages,
};
pub use crate::crypto::{Algorithm, SecretKey, UnknownAlgorithm};
use crate::{
    api::{ApiError, EnclaveName, Identity, message},
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

/// Expanded keys that are kept in memory unless somebody decides otherwise.
pub const CACHED_KEYS: usize = 100_000;

/// What the service is made of; decided by whoever starts it.
pub struct Setup {
    /// The data directory.
    pub dir: PathBuf,
    /// Where the unseal key comes from.
    pub seal: Arc<dyn SealProvider>,
    /// Where the unseal key came from before, if it is being changed: what only this opens is wrapped anew at open.
    pub previous_seal: Option<Arc<dyn SealProvider>>,
    /// Who may bootstrap an empty directory; also the system admin from then on. Without it an empty directory is an
    /// error.
    pub await_bootstrap: Option<Identity>,
    /// How new ciphertexts are written.
    pub layout: Layout,
    /// Expanded keys that are kept in memory, of about 600 bytes each; the least useful make room.
    pub cached_keys: usize,
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
    /// Set when the root key was given up, for good.
    sealed: OnceLock<Sealed>,
    /// What was sealed, for as long as it lives.
    #[cfg(test)]
    given_up: OnceLock<std::sync::Weak<Core>>,
    bootstrapping: tokio::sync::Mutex<()>,
}

/// What a sealed service still knows: nothing secret.
struct Sealed {
    cluster_id: String,
    member_id: u64,
    system_admin: Identity,
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
        let inner = Inner {
            setup,
            core: ArcSwapOption::from(core),
            sealed: OnceLock::new(),
            #[cfg(test)]
            given_up: OnceLock::new(),
            bootstrapping: tokio::sync::Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether requests can be served.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.inner.core.load().is_some(), self.inner.sealed.get()) {
            (_, Some(_)) => State::Sealed,
            (true, None) => State::Ready,
            (false, None) => State::Uninitialised,
        }
    }

    /// Whether `identity` is the system admin, or may become it by bootstrapping.
    #[must_use]
    pub fn is_system_admin(&self, identity: &Identity) -> bool {
        if let Some(sealed) = self.inner.sealed.get() {
            return *identity == sealed.system_admin;
        }
        match &*self.inner.core.load() {
            Some(core) => *identity == core.system_admin,
            None => self.inner.setup.await_bootstrap.as_ref() == Some(identity),
        }
    }

    /// Calls `f` with what `identity` is in `enclave`.
    ///
    /// # Errors
    /// [`Error::NotInitialised`]; [`ApiError::SEALED`]; [`ApiError::ENCLAVE_NOT_FOUND`] unless the identity is the system
    /// admin.
    pub fn with_role<R>(
        &self,
        enclave: &EnclaveName,
        identity: &Identity,
        f: impl FnOnce(Role<'_>) -> R,
    ) -> Result<R, Error> {
        match &*self.inner.core.load() {
            Some(core) => core.with_role(enclave, identity, f),
            None if self.state() == State::Uninitialised && self.is_system_admin(identity) => {
                Ok(f(Role::SystemAdmin))
            }
            None => Err(self.closed()),
        }
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
        let (service, cluster_id) = (self.clone(), cluster_id.to_owned());
        let system_admin = proof.identity().clone();
        // in a task of its own: a time limit or a client that goes away must not leave half of it
        let task = tokio::spawn(async move { service.bootstrap_to_the_end(system_admin, &cluster_id).await });
        task.await
            .unwrap_or_else(|_| Err(ApiError::new(crate::api::Fault::Internal, "internal error").into()))
    }

    async fn bootstrap_to_the_end(&self, system_admin: Identity, cluster_id: &str) -> Result<(), Error> {
        let _one_at_a_time = self.inner.bootstrapping.lock().await;
        if let Some(core) = self.inner.core.load().as_ref() {
            return if core.cluster_id() == cluster_id { Ok(()) } else { Err(Error::OtherCluster) };
        }
        if self.state() == State::Sealed {
            return Err(ApiError::SEALED.into());
        }
        let setup = &self.inner.setup;
        let plan = bootstrap::Plan {
            cluster_id: Some(cluster_id.into()),
            system_admin,
            settings: serde_json::Value::Null,
            enclaves: Vec::new(),
        };
        // one that was made before and could not be opened then
        let is_made = Directory::is_initialised(&setup.dir)
            && Directory::read_manifest(&setup.dir)?.cluster_id == cluster_id;
        if !is_made {
            bootstrap::create(setup, plan).await?;
        }
        self.inner.core.store(Some(Core::open(setup).await?));
        Ok(())
    }

    /// What the operator and `kes status` want to know of the cluster.
    #[must_use]
    pub fn cluster(&self, _proof: &Authorized<'_, action::DescribeCluster>) -> message::Cluster {
        let core = self.inner.core.load();
        let core = core.as_ref();
        let sealed = self.inner.sealed.get();
        let cluster_id = core.map(|c| c.cluster_id()).or(sealed.map(|s| &*s.cluster_id));
        let member_id = core.map(|c| c.member_id()).or(sealed.map(|s| s.member_id));
        message::Cluster {
            cluster_id: cluster_id.map(ToOwned::to_owned),
            initialised: cluster_id.is_some(),
            sealed: sealed.is_some(),
            version: env!("CARGO_PKG_VERSION").into(),
            member_id: member_id.map(|id| format!("{id:016x}")),
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

    /// Gives up the root key and everything under it until the process is started again. Requests in flight end as they
    /// may; the last of them takes the keys along.
    ///
    /// # Errors
    /// [`ApiError::SEALED`] when it was sealed before.
    pub async fn seal(&self, _proof: &Authorized<'_, action::Seal>) -> Result<(), Error> {
        let core = self.core()?;
        let sealed = Sealed {
            cluster_id: core.cluster_id().to_owned(),
            member_id: core.member_id(),
            system_admin: core.system_admin.clone(),
        };
        self.inner.sealed.set(sealed).map_err(|_| ApiError::SEALED)?;
        #[cfg(test)]
        let _ = self.inner.given_up.set(Arc::downgrade(&core));
        self.inner.core.store(None);
        core.consensus.close().await;
        tracing::warn!("sealed: keys are no longer in memory; restart the server to unseal it");
        Ok(())
    }

    /// Whether key material is in memory: also for as long as a request that began before the seal holds it.
    #[cfg(test)]
    pub(crate) fn holds_keys(&self) -> bool {
        self.inner.core.load().is_some()
            || self.inner.given_up.get().is_some_and(|core| core.strong_count() > 0)
    }

    /// How long it takes to read a record, as a sign of the volume's health.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn probe(&self, _proof: &Authorized<'_, action::Status>) -> Result<std::time::Duration, Error> {
        let core = self.core()?;
        let began = std::time::Instant::now();
        core.consensus.records().get(&rotation::cluster_record())?;
        Ok(began.elapsed())
    }

    fn core(&self) -> Result<Arc<Core>, Error> {
        self.inner.core.load_full().ok_or_else(|| self.closed())
    }

    /// Why there is no core.
    fn closed(&self) -> Error {
        match self.inner.sealed.get() {
            Some(_) => ApiError::SEALED.into(),
            None => Error::NotInitialised,
        }
    }
}

/// Go's zero time, which clients expect where there is none.
fn zero_time() -> Timestamp {
    // seconds from 1970 back to the year 1
    Timestamp::from_second(-62_135_596_800).unwrap_or_default()
}

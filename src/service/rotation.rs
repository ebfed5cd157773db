//! New versions of the keys that seal records, and sealing again in the background what the former ones sealed.
//!
//! ```text
//! rotate   one change adds a version to the enclave's keys (or one record a version of the root key); it seals from then on
//! floor    one change notes it as the lowest that new records may be sealed under: a change that was on its way is refused
//! seal     page by page: open, seal again, `Replace` what is still what was opened; whoever died goes on at the next start
//! retire   when no record is left that needs a former version, one change drops them
//! ```
//! Nothing but the presence of a former version says that there is work, so nothing can be forgotten. A record that does
//! not open keeps the version that it was sealed under alive: it may be mended from a backup one day.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::try_join_all;
use tokio::sync::Notify;

use super::{
    Error, Service,
    core::{CLUSTER, Core, ROOT},
    record::{EnclaveBody, EnclaveKey},
};
use crate::{
    api::{ApiError, EnclaveName, message},
    authz::{Authorized, action},
    crypto::{SealProvider, SealingKeys, SecretKey, sealed_under},
    store::{Change, EnclaveId, Kind, Outcome, RecordKey, digest},
};

/// Records that are on their way at the same time.
const PAGE: usize = 256;
/// How long to wait after something failed, e.g. because the volume is full.
const RETRY: Duration = Duration::from_secs(1);
/// How often to look whether a rotation began whose beginning was not confirmed.
const IDLE: Duration = Duration::from_secs(60);
/// How long to wait when records do not open.
const DAMAGED: Duration = Duration::from_secs(3600);

/// How far the work is, since the start of the process.
#[derive(Default)]
pub(super) struct Progress {
    /// Told when there is something to do.
    pub(super) wake: Notify,
    resealed: AtomicU64,
    damaged: AtomicU64,
}

/// Ends the background task with the core.
pub(super) struct Background(tokio::task::AbortHandle);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the background task of `core`.
pub(super) fn start(core: &Arc<Core>) -> Background {
    Background(tokio::spawn(run(Arc::downgrade(core), Arc::clone(&core.rotation))).abort_handle())
}

async fn run(core: Weak<Core>, progress: Arc<Progress>) {
    loop {
        let Some(living) = core.upgrade() else { return };
        let pause = match living.finish_rotations().await {
            Ok(0) => IDLE,
            Ok(damaged) => {
                tracing::error!(damaged, "records do not open: the former versions of their keys are kept");
                DAMAGED
            }
            Err(error) => {
                tracing::warn!(%error, "records could not be sealed again yet");
                RETRY
            }
        };
        drop(living);
        tokio::select! {
            () = progress.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Service {
    /// Gives an enclave a new version of its key. It seals what is written from now on; what is there is sealed again in
    /// the background.
    ///
    /// # Errors
    /// [`ApiError::ENCLAVE_NOT_FOUND`]; [`ApiError::ROTATION_UNDER_WAY`] until the last rotation is through.
    pub async fn rotate_enclave(
        &self,
        _proof: &Authorized<'_, action::RotateEnclave>,
        name: &EnclaveName,
    ) -> Result<(), Error> {
        let core = self.core()?;
        let key = RecordKey::of_cluster(Kind::Enclave, name.as_str());
        let sealed = core.consensus.records().get(&key)?.ok_or(ApiError::ENCLAVE_NOT_FOUND)?;
        let root = core.root.load_full();
        let mut body: EnclaveBody = core.sealer().open_body(&root, &key, &sealed)?;
        if body.keys.len() > 1 {
            return Err(ApiError::ROTATION_UNDER_WAY.into());
        }
        let newest = body.keys.iter().map(|key| key.version).max().unwrap_or(0);
        body.keys.push(EnclaveKey::generate(newest + 1, &*core.random));
        let value = core.sealer().seal_body(&root, &key, &body, &*core.random)?;
        let change = Change::Replace { was: digest(&sealed), key, value };
        core.propose(change, ApiError::ROTATION_UNDER_WAY, ApiError::ENCLAVE_NOT_FOUND).await?;
        core.rotation.wake.notify_one();
        Ok(())
    }

    /// Makes a new root key. Enclaves are sealed again under it in the background.
    ///
    /// # Errors
    /// [`ApiError::ROTATION_UNDER_WAY`] until the last rotation is through; or the unseal key that this process would read
    /// now does not open the present root key.
    pub async fn rotate_root(&self, _proof: &Authorized<'_, action::RotateRoot>) -> Result<(), Error> {
        let core = self.core()?;
        let root = core.root.load_full();
        if root.versions().count() > 1 {
            return Err(ApiError::ROTATION_UNDER_WAY.into());
        }
        let seal = &*core.seal;
        // the file may hold another key by now: both versions must open at the next start
        for (_, wrapped) in core.wrapped_roots()? {
            seal.unwrap(&wrapped, core.cluster_id())?;
        }
        let (version, new) = (root.newest() + 1, SecretKey::generate(&*core.random));
        let value = seal.wrap(&new, core.cluster_id(), &*core.random)?;
        let key = RecordKey { version, ..RecordKey::of_cluster(Kind::Root, ROOT) };
        let under_way = ApiError::ROTATION_UNDER_WAY;
        if let Err(error) = core.propose(Change::Create { key, value }, under_way.clone(), under_way).await {
            // it may have been made all the same
            core.rotation.wake.notify_one();
            return Err(error);
        }
        let former = root.versions().map(|(version, key)| (version, SecretKey::from_bytes(*key.expose())));
        if let Some(both) = SealingKeys::from_versions(former.chain([(version, new)])) {
            core.root.store(Arc::new(both));
        }
        core.rotation.wake.notify_one();
        Ok(())
    }

    /// Which versions there are, and how far the work is.
    ///
    /// # Errors
    /// [`ApiError::SEALED`].
    pub fn rotation(
        &self,
        _proof: &Authorized<'_, action::DescribeRotation>,
    ) -> Result<message::Rotation, Error> {
        let core = self.core()?;
        let versions = |keys: &SealingKeys| {
            let mut all = keys.versions().map(|(version, _)| version);
            (all.next().unwrap_or(0), all.collect())
        };
        let (root_version, root_former) = versions(&core.root.load());
        let mut enclaves = core.view.all(|name, enclave| {
            let (version, former) = versions(&enclave.secret);
            Some(message::EnclaveRotation { name: name.clone(), version, former })
        });
        enclaves.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(message::Rotation {
            root: message::RootRotation { version: root_version, former: root_former },
            enclaves,
            resealed: core.rotation.resealed.load(Ordering::Relaxed),
            damaged: core.rotation.damaged.load(Ordering::Relaxed),
        })
    }
}

impl Core {
    /// The root key's versions as they are on the volume.
    pub(super) fn wrapped_roots(&self) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        wrapped_roots(self.consensus.records())
    }

    /// Does what is to be done. Returns how many records do not open.
    async fn finish_rotations(&self) -> Result<u64, Error> {
        let mut damaged = self.finish_root().await?;
        for (name, secret, id) in
            self.view.all(|name, enclave| Some((name.clone(), Arc::clone(&enclave.secret), enclave.id)))
        {
            if secret.versions().count() > 1 {
                damaged += self.finish_enclave(&name, id, &secret).await?;
            }
        }
        self.rotation.damaged.store(damaged, Ordering::Relaxed);
        Ok(damaged)
    }

    /// Takes up a version of the root key that is on the volume only: nobody heard that its rotation began.
    fn adopt_root(&self) -> Result<(), Error> {
        let wrapped = self.wrapped_roots()?;
        let newest = wrapped.iter().map(|(version, _)| *version).max();
        if newest <= Some(self.root.load().newest()) {
            return Ok(());
        }
        let (root, _) = unwrap_roots(&wrapped, self.cluster_id(), &*self.seal, None, &*self.random)?;
        if let Some(root) = root {
            tracing::info!(
                version = root.newest(),
                "a rotation of the root key that was not confirmed goes on"
            );
            self.root.store(Arc::new(root));
        }
        Ok(())
    }

    async fn finish_root(&self) -> Result<u64, Error> {
        self.adopt_root()?;
        let root = self.root.load_full();
        if root.versions().count() < 2 {
            return Ok(0);
        }
        self.raise_floor(EnclaveId::CLUSTER, root.newest()).await?;
        let mut damaged = 0;
        for kind in [Kind::Cluster, Kind::Enclave] {
            damaged += self.reseal(kind, EnclaveId::CLUSTER, &root).await?;
        }
        if damaged == 0 {
            for (version, _) in root.versions().skip(1) {
                let key = RecordKey { version, ..RecordKey::of_cluster(Kind::Root, ROOT) };
                self.settle(Change::Delete { key }).await?;
            }
            let newest = root.versions().take(1);
            let newest = newest.map(|(version, key)| (version, SecretKey::from_bytes(*key.expose())));
            if let Some(newest) = SealingKeys::from_versions(newest) {
                self.root.store(Arc::new(newest));
            }
            tracing::info!(version = root.newest(), "everything is sealed under the new root key");
        }
        Ok(damaged)
    }

    async fn finish_enclave(
        &self,
        name: &EnclaveName,
        id: EnclaveId,
        secret: &Arc<SealingKeys>,
    ) -> Result<u64, Error> {
        self.raise_floor(id, secret.newest()).await?;
        let mut damaged = 0;
        for kind in Kind::OF_ENCLAVE {
            damaged += self.reseal(kind, id, secret).await?;
        }
        if damaged > 0 {
            return Ok(damaged);
        }
        let key = RecordKey::of_cluster(Kind::Enclave, name.as_str());
        let Some(sealed) = self.consensus.records().get(&key)? else { return Ok(0) };
        let root = self.root.load_full();
        let mut body: EnclaveBody = self.sealer().open_body(&root, &key, &sealed)?;
        // an enclave of the same name may have been made meanwhile
        if body.id == id {
            body.keys.retain(|key| key.version >= secret.newest());
            let value = self.sealer().seal_body(&root, &key, &body, &*self.random)?;
            self.settle(Change::Replace { was: digest(&sealed), key, value }).await?;
            tracing::info!(enclave = %name, version = secret.newest(), "everything is sealed under the new key");
        }
        Ok(0)
    }

    /// From now on no record gets in that is sealed under an older version.
    async fn raise_floor(&self, owner: EnclaveId, version: u32) -> Result<(), Error> {
        let key = RecordKey::floor_of(owner);
        let value = version.to_le_bytes().to_vec();
        if self.consensus.records().get(&key)?.as_ref() == Some(&value) {
            return Ok(());
        }
        self.settle(Change::Put { key, value }).await
    }

    /// Seals every record of `kind` again that is not under the newest version. Returns how many do not open.
    async fn reseal(&self, kind: Kind, enclave: EnclaveId, keys: &SealingKeys) -> Result<u64, Error> {
        let (mut after, mut damaged) = (None::<String>, 0);
        loop {
            let (mut old, mut last, mut is_over) = (Vec::new(), None::<String>, true);
            let visit = |key: RecordKey, sealed: &[u8]| {
                // all versions of a name are on one page
                if old.len() >= PAGE && last.as_ref() != Some(&key.name) {
                    is_over = false;
                    return false;
                }
                last = Some(key.name.clone());
                if sealed_under(sealed) != Ok(keys.newest()) {
                    old.push((key, sealed.to_vec()));
                }
                true
            };
            self.consensus.records().visit_after(kind, enclave, "", after.as_deref(), visit)?;
            let mut changes = Vec::with_capacity(old.len());
            for (key, sealed) in old {
                match self.sealer().open(keys, &key, &sealed) {
                    Ok(body) => {
                        let value = self.sealer().seal(keys, &key, &body, &*self.random);
                        changes.push(Change::Replace { was: digest(&sealed), key, value });
                    }
                    Err(error) => {
                        tracing::error!(%error, "a record cannot be sealed again");
                        damaged += 1;
                    }
                }
            }
            let count = changes.len() as u64;
            try_join_all(changes.into_iter().map(|change| self.settle(change))).await?;
            self.rotation.resealed.fetch_add(count, Ordering::Relaxed);
            if is_over {
                return Ok(damaged);
            }
            after = last;
            tokio::task::yield_now().await;
        }
    }

    /// Makes a change that may have become superfluous: the record is gone, or was written anew, under the new version.
    async fn settle(&self, change: Change) -> Result<(), Error> {
        match self.consensus.propose(change).await? {
            Outcome::Done | Outcome::Missing | Outcome::Changed | Outcome::NoEnclave => Ok(()),
            Outcome::Exists | Outcome::Stale => Err(Error::Stale),
            Outcome::Unreadable => Err(Error::Unreadable),
        }
    }
}

/// One record per version of the root key.
pub(super) fn wrapped_roots(records: &crate::store::Records) -> Result<Vec<(u32, Vec<u8>)>, Error> {
    let mut wrapped = Vec::new();
    records.visit(Kind::Root, EnclaveId::CLUSTER, ROOT, |key, value| {
        wrapped.push((key.version, value.to_vec()));
        true
    })?;
    Ok(wrapped)
}

/// Opens the root key's versions, and wraps those again that only `previous` opens. What is to be replaced is given
/// back, for whoever makes the change.
pub(super) fn unwrap_roots(
    wrapped: &[(u32, Vec<u8>)],
    cluster: &str,
    seal: &dyn SealProvider,
    previous: Option<&dyn SealProvider>,
    random: &dyn crate::world::Random,
) -> Result<(Option<SealingKeys>, Vec<Change>), Error> {
    let (mut root, mut changes) = (Vec::new(), Vec::new());
    for (version, sealed) in wrapped {
        let opened = match (seal.unwrap(sealed, cluster), previous) {
            (Err(crate::crypto::SealError::WrongKey { .. }), Some(previous)) => {
                let opened = previous.unwrap(sealed, cluster)?;
                let key = RecordKey { version: *version, ..RecordKey::of_cluster(Kind::Root, ROOT) };
                let value = seal.wrap(&opened, cluster, random)?;
                changes.push(Change::Replace { was: digest(sealed), key, value });
                opened
            }
            (opened, _) => opened?,
        };
        root.push((*version, opened));
    }
    Ok((SealingKeys::from_versions(root), changes))
}

/// Where the cluster's own facts are.
pub(super) fn cluster_record() -> RecordKey {
    RecordKey::of_cluster(Kind::Cluster, CLUSTER)
}

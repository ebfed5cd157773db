//! An unsealed cluster member: the directory it holds, its log, what it keeps in memory.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::{
    Error, Setup,
    cache::Cache,
    keys::StoredKey,
    record::{ClusterBody, Sealer},
    rotation::{self, Background, Progress},
    view::View,
};
use crate::{
    api::{ApiError, EnclaveName, Identity},
    authz::Role,
    consensus::{Consensus, Observer, Owner},
    crypto::{Layout, SealProvider, SealingKeys},
    store::{Change, Directory, EnclaveId, Kind, Outcome, RecordKey},
    world::{Clock, Random},
};

/// Name of the root key's record.
pub(super) const ROOT: &str = "root";
/// Name of the cluster's record.
pub(super) const CLUSTER: &str = "cluster";

pub(super) struct Core {
    directory: Directory,
    pub(super) consensus: Consensus,
    pub(super) view: View,
    pub(super) keys: Cache<StoredKey>,
    pub(super) root: Arc<ArcSwap<SealingKeys>>,
    pub(super) seal: Arc<dyn SealProvider>,
    pub(super) rotation: Arc<Progress>,
    background: OnceLock<Background>,
    pub(super) system_admin: Identity,
    pub(super) layout: Layout,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
}

/// What an applied change means for what is kept in memory.
#[derive(Debug, Eq, PartialEq)]
enum Effect {
    /// An enclave, a policy or an identity is to be read again.
    Refresh(RecordKey),
    /// A key is gone.
    Forget(RecordKey),
    /// An enclave is gone with all its keys.
    ForgetAll(RecordKey, EnclaveId),
}

impl Effect {
    /// The effect of `change`, if it has one.
    fn of(change: &Change, outcome: Outcome) -> Option<Self> {
        if outcome != Outcome::Done {
            return None;
        }
        match change {
            Change::DeleteEnclave { id, .. } => Some(Self::ForgetAll(change.key(), *id)),
            Change::CreateEnclave { .. } => Some(Self::Refresh(change.key())),
            Change::Create { key, .. }
            | Change::Put { key, .. }
            | Change::Replace { key, .. }
            | Change::Delete { key } => match key.kind {
                Kind::Key if matches!(change, Change::Delete { .. }) => Some(Self::Forget(key.clone())),
                Kind::Enclave | Kind::Policy | Kind::Identity => Some(Self::Refresh(key.clone())),
                Kind::Key
                | Kind::Root
                | Kind::Cluster
                | Kind::Secret
                | Kind::EnclaveId
                | Kind::Remains
                | Kind::Floor => None,
            },
        }
    }
}

/// Keeps memory in step with the records.
#[derive(Default)]
struct Follower {
    state: Mutex<Following>,
}

#[derive(Default)]
enum Following {
    /// Nothing is in memory yet.
    #[default]
    Idle,
    /// Memory is being filled: what is applied meanwhile is done afterwards.
    Noting(Vec<Effect>),
    /// Memory is filled.
    Live(Weak<Core>),
}

impl Follower {
    fn state(&self) -> MutexGuard<'_, Following> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing is missed.
    fn note(&self) {
        *self.state() = Following::Noting(Vec::new());
    }

    /// Does what was noted, and from then on everything at once.
    fn follow(&self, core: &Arc<Core>) {
        let mut state = self.state();
        if let Following::Noting(effects) = &mut *state {
            effects.drain(..).for_each(|effect| core.take(effect));
        }
        *state = Following::Live(Arc::downgrade(core));
    }
}

impl Observer for Follower {
    fn applied(&self, change: &Change, outcome: Outcome) {
        let Some(effect) = Effect::of(change, outcome) else { return };
        match &mut *self.state() {
            Following::Idle => {}
            Following::Noting(effects) => effects.push(effect),
            Following::Live(core) => {
                if let Some(core) = core.upgrade() {
                    core.take(effect);
                }
            }
        }
    }
}

impl Core {
    pub(super) async fn open(setup: &Setup) -> Result<Arc<Self>, Error> {
        let directory = Directory::open(&setup.dir)?;
        let cluster_id = directory.manifest().cluster_id.clone();
        let follower = Arc::new(Follower::default());
        let consensus = Consensus::open(
            &setup.dir,
            &Owner { cluster: cluster_id.clone(), member: directory.manifest().member_id },
            Arc::clone(&follower) as Arc<dyn Observer>,
        )
        .await?;
        let opened = Self::unseal(setup, &cluster_id, &consensus, &follower).await;
        let (root, system_admin, view) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                consensus.close().await;
                return Err(error);
            }
        };
        let core = Arc::new(Self {
            directory,
            consensus,
            view,
            keys: Cache::new(setup.cached_keys),
            root,
            seal: Arc::clone(&setup.seal),
            rotation: Arc::default(),
            background: OnceLock::new(),
            system_admin,
            layout: setup.layout,
            clock: Arc::clone(&setup.clock),
            random: Arc::clone(&setup.random),
        });
        follower.follow(&core);
        // what an earlier life did not finish
        let _ = core.background.set(rotation::start(&core));
        Ok(core)
    }

    async fn unseal(
        setup: &Setup,
        cluster_id: &str,
        consensus: &Consensus,
        follower: &Follower,
    ) -> Result<(Arc<ArcSwap<SealingKeys>>, Identity, View), Error> {
        consensus.recover().await?;
        follower.note();
        let records = consensus.records();
        let wrapped = rotation::wrapped_roots(records)?;
        let (root, rewrapped) = rotation::unwrap_roots(
            &wrapped,
            cluster_id,
            &*setup.seal,
            setup.previous_seal.as_deref(),
            &*setup.random,
        )?;
        let no_cluster = || Error::NoCluster(setup.dir.display().to_string());
        let root = root.ok_or_else(no_cluster)?;
        let key = RecordKey::of_cluster(Kind::Cluster, CLUSTER);
        let cluster = records.get(&key)?.ok_or_else(no_cluster)?;
        let cluster: ClusterBody = Sealer { cluster: cluster_id }.open_body(&root, &key, &cluster)?;
        // only now is it certain that this is the root key
        let is_changed = !rewrapped.is_empty();
        for change in rewrapped {
            match consensus.propose(change).await? {
                Outcome::Done => {}
                // the start fails: whoever saw it succeed would give the previous unseal key up
                outcome => return Err(Error::NotRewrapped(format!("{outcome:?}"))),
            }
        }
        if is_changed {
            tracing::info!(
                place = setup.seal.describe(),
                "every root key is wrapped under the new unseal key; the previous one is not needed any more"
            );
        }
        let root = Arc::new(ArcSwap::from_pointee(root));
        let view = View::load(cluster_id, Arc::clone(&root), records.clone())?;
        Ok((root, cluster.system_admin, view))
    }

    pub(super) fn cluster_id(&self) -> &str {
        &self.directory.manifest().cluster_id
    }

    pub(super) fn member_id(&self) -> u64 {
        self.directory.manifest().member_id
    }

    pub(super) fn sealer(&self) -> Sealer<'_> {
        Sealer { cluster: self.cluster_id() }
    }

    pub(super) fn with_role<R>(
        &self,
        enclave: &EnclaveName,
        identity: &Identity,
        f: impl FnOnce(Role<'_>) -> R,
    ) -> Result<R, Error> {
        if *identity == self.system_admin {
            return Ok(f(Role::SystemAdmin));
        }
        self.view.with(enclave, |e| e.role(identity).map(f))?
    }

    /// Makes what `read` makes of an enclave and its key; again when the key was rotated meanwhile.
    pub(super) fn with_secret<R>(
        &self,
        enclave: &EnclaveName,
        read: impl Fn(EnclaveId, &SealingKeys) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let now = || self.view.with(enclave, |enclave| (enclave.id, Arc::clone(&enclave.secret)));
        let (id, secret) = now()?;
        match read(id, &secret) {
            Err(Error::Damaged(damage)) => match now()? {
                (id, newer) if !Arc::ptr_eq(&secret, &newer) => read(id, &newer),
                _ => Err(damage.into()),
            },
            result => result,
        }
    }

    pub(super) async fn propose(
        &self,
        change: Change,
        exists: ApiError,
        missing: ApiError,
    ) -> Result<(), Error> {
        super::error::outcome(self.consensus.propose(change).await?, exists, missing)
    }

    fn take(&self, effect: Effect) {
        let refresh = |key: &RecordKey| {
            if let Err(error) = self.view.refresh(key) {
                tracing::error!(%error, "a change was applied but not taken into memory");
            }
        };
        match effect {
            Effect::Refresh(key) => refresh(&key),
            Effect::Forget(key) => self.forget(&key),
            Effect::ForgetAll(key, enclave) => {
                refresh(&key);
                self.forget_all(enclave);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_done_and_what_is_kept_in_memory_has_an_effect() {
        let id = EnclaveId::from_random([1; 8]);
        let (key, policy) =
            (RecordKey::of_enclave(Kind::Key, id, "k"), RecordKey::of_enclave(Kind::Policy, id, "p"));
        let create = |key: &RecordKey| Change::Create { key: key.clone(), value: vec![] };
        let delete = |key: &RecordKey| Change::Delete { key: key.clone() };
        let remove = Change::DeleteEnclave { name: "e".into(), id };
        let enclave = RecordKey::of_cluster(Kind::Enclave, "e");
        for (change, effect) in [
            (create(&key), None),
            (delete(&key), Some(Effect::Forget(key.clone()))),
            (create(&policy), Some(Effect::Refresh(policy.clone()))),
            (delete(&policy), Some(Effect::Refresh(policy.clone()))),
            (remove, Some(Effect::ForgetAll(enclave, id))),
        ] {
            assert_eq!(Effect::of(&change, Outcome::Missing), None);
            assert_eq!(Effect::of(&change, Outcome::Done), effect);
        }
    }
}

//! An unsealed cluster member: the directory it holds, its log, what it keeps in memory.

use std::sync::{Arc, OnceLock, Weak};

use quick_cache::sync::Cache;

use super::{
    Error, Setup,
    keys::StoredKey,
    record::{ClusterBody, Sealer},
    view::View,
};
use crate::{
    api::{ApiError, EnclaveName, Identity, KeyName},
    authz::Role,
    consensus::{Consensus, Observer},
    crypto::{Layout, SecretKey},
    store::{Change, Directory, Kind, Outcome, RecordKey},
    world::{Clock, Random},
};

/// Expanded keys that are kept in memory; the least useful make room.
const CACHED_KEYS: usize = 100_000;

/// Name of the root key's record.
pub(super) const ROOT: &str = "root";
/// Name of the cluster's record.
pub(super) const CLUSTER: &str = "cluster";

pub(super) struct Core {
    directory: Directory,
    pub(super) consensus: Consensus,
    pub(super) view: View,
    /// By enclave id and name, so that an enclave made anew under an old name starts empty.
    pub(super) keys: Cache<(u64, KeyName), Arc<StoredKey>>,
    pub(super) root: Arc<SecretKey>,
    pub(super) system_admin: Identity,
    pub(super) layout: Layout,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
}

/// Keeps memory in step with the records. Deaf until the core exists, which then loads everything itself.
#[derive(Default)]
struct Follower {
    core: OnceLock<Weak<Core>>,
}

impl Core {
    pub(super) async fn open(setup: &Setup) -> Result<Arc<Self>, Error> {
        let directory = Directory::open(&setup.dir)?;
        let cluster_id = directory.manifest().cluster_id.clone();
        let follower = Arc::new(Follower::default());
        let consensus = Consensus::open(
            &setup.dir,
            directory.manifest().member_id,
            Arc::clone(&follower) as Arc<dyn Observer>,
        )
        .await?;
        let opened = Self::unseal(setup, &cluster_id, &consensus).await;
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
            keys: Cache::new(CACHED_KEYS),
            root,
            system_admin,
            layout: setup.layout,
            clock: Arc::clone(&setup.clock),
            random: Arc::clone(&setup.random),
        });
        let _ = follower.core.set(Arc::downgrade(&core));
        Ok(core)
    }

    async fn unseal(
        setup: &Setup,
        cluster_id: &str,
        consensus: &Consensus,
    ) -> Result<(Arc<SecretKey>, Identity, View), Error> {
        consensus.recover().await?;
        let records = consensus.records();
        let first = |kind, name: &str| {
            let found = records.get(&RecordKey::of_cluster(kind, name))?;
            found.ok_or_else(|| Error::NoCluster(setup.dir.display().to_string()))
        };
        let root = Arc::new(setup.seal.unwrap(&first(Kind::Root, ROOT)?, cluster_id)?);
        let cluster: ClusterBody = Sealer { cluster: cluster_id }.open_body(
            &root,
            &RecordKey::of_cluster(Kind::Cluster, CLUSTER),
            &first(Kind::Cluster, CLUSTER)?,
        )?;
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
        self.view.with(enclave, |e| f(e.role(identity)))
    }

    pub(super) async fn propose(
        &self,
        change: Change,
        exists: ApiError,
        missing: ApiError,
    ) -> Result<(), Error> {
        super::error::outcome(self.consensus.propose(change).await?, exists, missing)
    }
}

impl Observer for Follower {
    fn applied(&self, change: &Change, outcome: Outcome) {
        let Some(core) = self.core.get().and_then(Weak::upgrade) else { return };
        if outcome != Outcome::Done {
            return;
        }
        let key = change.key();
        match key.kind {
            Kind::Key if matches!(change, Change::Delete { .. }) => core.forget(&key),
            Kind::Enclave | Kind::Policy | Kind::Identity => {
                if let Err(error) = core.view.refresh(&key) {
                    tracing::error!(%error, "a change was applied but not taken into memory");
                }
            }
            Kind::Key | Kind::Root | Kind::Cluster | Kind::Secret => {}
        }
    }
}

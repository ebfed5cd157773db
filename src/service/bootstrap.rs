//! The birth of a cluster: the first records, written once into a directory that appears only when complete.

use std::{path::Path, sync::Arc};

use super::{
    Error, Setup,
    core::{CLUSTER, ROOT},
    enclaves::new_enclave,
    error::outcome,
    record::{ClusterBody, IdentityBody, PolicyBody, Sealer, hex},
};
use crate::{
    api::{ApiError, EnclaveName, Identity, PolicyName, message},
    authz::Policy,
    consensus::{Consensus, Member, Observer, Owner},
    crypto::{SealProvider, SealingKeys, SecretKey},
    store::{Change, Directory, FORMAT, Kind, Manifest, Outcome, RecordKey},
    world::System,
};

/// What a new cluster starts with.
pub struct Plan {
    /// Its id; random when absent.
    pub cluster_id: Option<String>,
    /// Who manages enclaves.
    pub system_admin: Identity,
    /// How `kes server` was told to run; kept in the manifest, opaque here.
    pub settings: serde_json::Value,
    /// Its first enclaves.
    pub enclaves: Vec<EnclavePlan>,
}

/// What a new enclave starts with.
pub struct EnclavePlan {
    /// Its name.
    pub name: EnclaveName,
    /// Who manages it.
    pub admin: Identity,
    /// Policies, and who gets each.
    pub policies: Vec<(PolicyName, message::Policy, Vec<Identity>)>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Id of the cluster.
    pub cluster_id: String,
}

/// Makes a cluster in `dir`.
///
/// # Errors
/// When something is in `dir`, the unseal key is missing, or a policy is malformed; then nothing is left in `dir`.
pub async fn init(dir: &Path, seal: Arc<dyn SealProvider>, plan: Plan) -> Result<Summary, Error> {
    let setup = Setup {
        dir: dir.into(),
        seal,
        previous_seal: None,
        await_bootstrap: None,
        layout: crate::crypto::Layout::default(),
        cached_keys: super::CACHED_KEYS,
        clock: Arc::new(System),
        random: Arc::new(System),
    };
    create(&setup, plan).await
}

pub(super) async fn create(setup: &Setup, plan: Plan) -> Result<Summary, Error> {
    Directory::check_absent(&setup.dir)?;
    let random = &*setup.random;
    let cluster_id = plan.cluster_id.clone().unwrap_or_else(|| {
        let mut id = [0; 16];
        random.fill(&mut id);
        hex(&id)
    });
    let mut member = [0; 8];
    random.fill(&mut member);
    let member_id = u64::from_be_bytes(member);
    let changes = first_changes(setup, &plan, &cluster_id)?;
    let manifest =
        Manifest { format: FORMAT, cluster_id: cluster_id.clone(), member_id, settings: plan.settings };
    Directory::create(&setup.dir, &manifest, async |staging: &Path| {
        let owner = Owner { cluster: cluster_id.clone(), member: member_id };
        let consensus = Consensus::create(staging, &owner, Arc::new(Nobody)).await?;
        // boxed: callers nest this deep already
        let written = Box::pin(write_first(&consensus, changes)).await;
        // also when that failed: a member that is left running holds the files of a directory that is about to go
        consensus.close().await;
        written
    })
    .await?;
    Ok(Summary { cluster_id })
}

async fn write_first(consensus: &Consensus, changes: Vec<Change>) -> Result<(), Error> {
    consensus.bootstrap(Member::default()).await?;
    for change in changes {
        // nothing else is there yet, so only what the plan has twice can exist
        let made = consensus.propose(change).await?;
        outcome(made, ApiError::ENCLAVE_EXISTS, ApiError::ENCLAVE_NOT_FOUND)?;
    }
    Ok(())
}

fn first_changes(setup: &Setup, plan: &Plan, cluster_id: &str) -> Result<Vec<Change>, Error> {
    let (random, now) = (&*setup.random, setup.clock.now());
    let sealer = Sealer { cluster: cluster_id };
    let root = SecretKey::generate(random);
    let mut changes = vec![Change::Create {
        key: RecordKey::of_cluster(Kind::Root, ROOT),
        value: setup.seal.wrap(&root, cluster_id, random)?,
    }];
    let root = SealingKeys::new(root);
    let key = RecordKey::of_cluster(Kind::Cluster, CLUSTER);
    let body = ClusterBody { system_admin: plan.system_admin.clone(), created_at: now };
    changes.push(Change::Create { value: sealer.seal_body(&root, &key, &body, random)?, key });
    for enclave in &plan.enclaves {
        let key = RecordKey::of_cluster(Kind::Enclave, enclave.name.as_str());
        let body = new_enclave(&enclave.admin, &plan.system_admin, now, random);
        let secret = body.sealing_keys().ok_or_else(|| Error::damaged(&key, "a new enclave has no key"))?;
        let id = body.id;
        let value = sealer.seal_body(&root, &key, &body, random)?;
        changes.push(Change::CreateEnclave { name: key.name, id, value });
        for (name, policy, identities) in &enclave.policies {
            Policy::compile(policy)?;
            let key = RecordKey::of_enclave(Kind::Policy, id, name.as_str());
            let body = PolicyBody {
                allow: policy.allow.clone(),
                deny: policy.deny.clone(),
                matching: policy.matching,
                created_at: now,
                created_by: plan.system_admin.to_string(),
            };
            changes.push(Change::Put { value: sealer.seal_body(&secret, &key, &body, random)?, key });
            for identity in identities {
                let key = RecordKey::of_enclave(Kind::Identity, id, identity.as_str());
                let body = IdentityBody { policy: name.clone(), created_at: now, created_by: String::new() };
                changes.push(Change::Put { value: sealer.seal_body(&secret, &key, &body, random)?, key });
            }
        }
    }
    Ok(changes)
}

/// Nobody listens while a cluster is born.
struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _change: &Change, _outcome: Outcome) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::seal::File;

    fn enclave(name: &str) -> EnclavePlan {
        EnclavePlan { name: name.parse().unwrap(), admin: "admin".parse().unwrap(), policies: Vec::new() }
    }

    fn plan(enclaves: &[&str]) -> Plan {
        Plan {
            cluster_id: None,
            system_admin: "system".parse().unwrap(),
            settings: serde_json::Value::Null,
            enclaves: enclaves.iter().map(|name| enclave(name)).collect(),
        }
    }

    /// Whether this process has files open below `dir`, also such as were removed.
    fn holds_files_of(dir: &Path) -> bool {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|file| file.starts_with(dir))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_fails_to_be_made_is_said_and_leaves_nothing_on_disk_or_in_memory() {
        let temporary = tempfile::tempdir().unwrap();
        let (dir, unseal) = (temporary.path().join("data"), temporary.path().join("unseal"));
        std::fs::write(&unseal, "dzbJd+OH71qeASPi7FUrNu7LKHhLl06Ylpu0V8gfBPg=").unwrap();
        let seal: Arc<dyn SealProvider> = Arc::new(File::new(unseal));
        let error = init(&dir, Arc::clone(&seal), plan(&["one", "two", "one"])).await.unwrap_err();
        assert_eq!(error.to_api(), ApiError::ENCLAVE_EXISTS);
        let left: Vec<_> =
            std::fs::read_dir(temporary.path()).unwrap().flatten().map(|f| f.file_name()).collect();
        assert_eq!(left, ["unseal"]);
        let closed = async {
            while holds_files_of(temporary.path()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), closed).await.expect("files are still open");
        init(&dir, seal, plan(&["one", "two"])).await.unwrap();
    }
}

//! The birth of a cluster: the first records, written once into a directory that appears only when complete.

use std::{path::Path, sync::Arc};

use super::{
    Error, Setup,
    core::{CLUSTER, ROOT},
    enclaves::new_enclave,
    record::{ClusterBody, IdentityBody, PolicyBody, Sealer, hex},
};
use crate::{
    api::{EnclaveName, Identity, PolicyName, message},
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
        consensus.bootstrap(Member::default()).await?;
        for change in changes {
            consensus.propose(change).await?;
        }
        consensus.close().await;
        Ok::<(), Error>(())
    })
    .await?;
    Ok(Summary { cluster_id })
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

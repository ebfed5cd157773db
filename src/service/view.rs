//! Enclaves, policies and identities in memory: what every request consults, without a lock and without the disk.
//!
//! Readers take the current maps; a change makes new ones. They are persistent (hash array mapped tries), so the new
//! map shares all but a handful of nodes with the old one: a change among 200,000 identities costs microseconds, and
//! whoever still reads the old map has the policies and identities of one moment.
//!
//! A record that does not open is kept as damaged: what depends on it is refused with its id, everything else works.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use imbl::HashMap;
use jiff::Timestamp;

use super::{
    Error,
    error::Damage,
    record::{EnclaveBody, IdentityBody, PolicyBody, Sealer},
};
use crate::{
    api::{ApiError, EnclaveName, Identity, PolicyName, message},
    authz::{Policy, Role},
    crypto::SealingKeys,
    store::{EnclaveId, Kind, RecordKey, Records},
};

pub(super) struct StoredPolicy {
    pub(super) body: PolicyBody,
    compiled: Policy,
}

/// A record in memory, or why it is not.
type Loaded<T> = Result<Arc<T>, Damage>;

/// One enclave as it is now.
#[derive(Clone)]
pub(super) struct Enclave {
    pub(super) id: EnclaveId,
    pub(super) secret: Arc<SealingKeys>,
    pub(super) admin: Identity,
    pub(super) created_at: Timestamp,
    pub(super) created_by: Identity,
    policies: HashMap<PolicyName, Loaded<StoredPolicy>>,
    identities: HashMap<Identity, Loaded<IdentityBody>>,
}

impl Enclave {
    /// What `identity` is here. When the record that says so is damaged nothing is granted.
    pub(super) fn role(&self, identity: &Identity) -> Result<Role<'_>, Error> {
        if *identity == self.admin {
            return Ok(Role::EnclaveAdmin);
        }
        let assigned = match self.identities.get(identity) {
            None => return Ok(Role::Unknown),
            Some(Ok(assigned)) => assigned,
            Some(Err(damage)) => return Err(damage.clone().into()),
        };
        match self.policies.get(&assigned.policy) {
            None => Ok(Role::Assigned(const { &Policy::EMPTY })),
            Some(Ok(policy)) => Ok(Role::Assigned(&policy.compiled)),
            Some(Err(damage)) => Err(damage.clone().into()),
        }
    }

    pub(super) fn identity(&self, identity: &Identity) -> Result<&IdentityBody, Error> {
        match self.identities.get(identity) {
            None => Err(ApiError::IDENTITY_NOT_FOUND.into()),
            Some(loaded) => loaded.as_deref().map_err(|damage| damage.clone().into()),
        }
    }

    pub(super) fn policy(&self, name: &PolicyName) -> Result<&StoredPolicy, Error> {
        match self.policies.get(name) {
            None => Err(ApiError::POLICY_NOT_FOUND.into()),
            Some(loaded) => loaded.as_deref().map_err(|damage| damage.clone().into()),
        }
    }

    /// All identities that can be read, in no order.
    pub(super) fn identities(&self) -> impl Iterator<Item = (&Identity, &IdentityBody)> {
        self.identities.iter().filter_map(|(name, loaded)| Some((name, loaded.as_deref().ok()?)))
    }

    /// All policies that can be read, in no order.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&PolicyName, &StoredPolicy)> {
        self.policies.iter().filter_map(|(name, loaded)| Some((name, loaded.as_deref().ok()?)))
    }
}

#[derive(Clone, Default)]
struct Enclaves {
    by_name: HashMap<EnclaveName, Loaded<Enclave>>,
    names: HashMap<EnclaveId, EnclaveName>,
}

impl Enclaves {
    fn insert(&mut self, name: EnclaveName, enclave: Loaded<Enclave>) {
        self.remove(&name);
        if let Ok(enclave) = &enclave {
            self.names.insert(enclave.id, name.clone());
        }
        self.by_name.insert(name, enclave);
    }

    fn remove(&mut self, name: &EnclaveName) {
        if let Some(Ok(old)) = self.by_name.remove(name) {
            self.names.remove(&old.id);
        }
    }
}

/// All enclaves as they are now.
pub(super) struct View {
    enclaves: ArcSwap<Enclaves>,
    /// One writer at a time.
    writer: Mutex<()>,
    cluster_id: String,
    root: Arc<SealingKeys>,
    records: Records,
}

impl View {
    pub(super) fn load(cluster_id: &str, root: Arc<SealingKeys>, records: Records) -> Result<Self, Error> {
        let view = Self {
            enclaves: ArcSwap::default(),
            writer: Mutex::new(()),
            cluster_id: cluster_id.into(),
            root,
            records,
        };
        for key in view.keys(Kind::Enclave, EnclaveId::CLUSTER)? {
            view.refresh(&key)?;
        }
        Ok(view)
    }

    pub(super) fn get(&self, enclave: &EnclaveName) -> Result<Arc<Enclave>, Error> {
        self.with(enclave, Arc::clone)
    }

    pub(super) fn with<R>(
        &self,
        enclave: &EnclaveName,
        f: impl FnOnce(&Arc<Enclave>) -> R,
    ) -> Result<R, Error> {
        match self.enclaves.load().by_name.get(enclave) {
            None => Err(ApiError::ENCLAVE_NOT_FOUND.into()),
            Some(Ok(enclave)) => Ok(f(enclave)),
            Some(Err(damage)) => Err(damage.clone().into()),
        }
    }

    /// What `f` makes of each enclave that can be read, in no order.
    pub(super) fn all<R>(&self, f: impl Fn(&EnclaveName, &Enclave) -> Option<R>) -> Vec<R> {
        let readable = |(name, loaded): (&_, &Loaded<Enclave>)| f(name, loaded.as_ref().ok()?);
        self.enclaves.load().by_name.iter().filter_map(readable).collect()
    }

    /// Reads `key` again and replaces what depends on it.
    pub(super) fn refresh(&self, key: &RecordKey) -> Result<(), Error> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut enclaves = Enclaves::clone(&self.enclaves.load());
        match key.kind {
            Kind::Enclave => {
                let name = name_of(key, EnclaveName::new(&key.name))?;
                match keep_damage(self.read_enclave(key))? {
                    Some(enclave) => enclaves.insert(name, enclave),
                    None => enclaves.remove(&name),
                }
            }
            Kind::Policy | Kind::Identity => {
                let Some(name) = enclaves.names.get(&key.enclave).cloned() else { return Ok(()) };
                let Some(Ok(enclave)) = enclaves.by_name.get(&name) else { return Ok(()) };
                let mut changed = Enclave::clone(enclave);
                if key.kind == Kind::Policy {
                    self.load_policy(&mut changed, key)?;
                } else {
                    self.load_identity(&mut changed, key)?;
                }
                enclaves.by_name.insert(name, Ok(Arc::new(changed)));
            }
            Kind::Root | Kind::Cluster | Kind::Key | Kind::Secret | Kind::EnclaveId => return Ok(()),
        }
        self.enclaves.store(Arc::new(enclaves));
        Ok(())
    }

    fn load_policy(&self, enclave: &mut Enclave, key: &RecordKey) -> Result<(), Error> {
        let name = name_of(key, PolicyName::new(&key.name))?;
        match keep_damage(self.read_policy(&enclave.secret, key))? {
            Some(policy) => enclave.policies.insert(name, policy),
            None => enclave.policies.remove(&name),
        };
        Ok(())
    }

    fn load_identity(&self, enclave: &mut Enclave, key: &RecordKey) -> Result<(), Error> {
        let name = name_of(key, Identity::new(&key.name))?;
        match keep_damage(self.read_body(&enclave.secret, key))? {
            Some(identity) => enclave.identities.insert(name, identity),
            None => enclave.identities.remove(&name),
        };
        Ok(())
    }

    fn read_enclave(&self, key: &RecordKey) -> Result<Option<Enclave>, Error> {
        let Some(body) = self.read_body::<EnclaveBody>(&self.root, key)? else { return Ok(None) };
        let secret = body.sealing_keys().ok_or_else(|| Error::damaged(key, "it holds no key"))?;
        let mut enclave = Enclave {
            id: body.id,
            secret: Arc::new(secret),
            admin: body.admin,
            created_at: body.created_at,
            created_by: body.created_by,
            policies: HashMap::new(),
            identities: HashMap::new(),
        };
        for key in self.keys(Kind::Policy, body.id)? {
            self.load_policy(&mut enclave, &key)?;
        }
        for key in self.keys(Kind::Identity, body.id)? {
            self.load_identity(&mut enclave, &key)?;
        }
        Ok(Some(enclave))
    }

    fn keys(&self, kind: Kind, enclave: EnclaveId) -> Result<Vec<RecordKey>, Error> {
        let mut keys = Vec::new();
        self.records.visit(kind, enclave, "", |key, _| {
            keys.push(key);
            true
        })?;
        Ok(keys)
    }

    fn read_policy(&self, secret: &SealingKeys, key: &RecordKey) -> Result<Option<StoredPolicy>, Error> {
        let Some(body) = self.read_body::<PolicyBody>(secret, key)? else { return Ok(None) };
        let PolicyBody { allow, deny, matching, .. } = body.clone();
        let wire = message::Policy { allow, deny, matching };
        let compiled = Policy::compile(&wire).map_err(|e| Error::damaged(key, e))?;
        Ok(Some(StoredPolicy { body, compiled }))
    }

    fn read_body<T: serde::de::DeserializeOwned>(
        &self,
        secret: &SealingKeys,
        key: &RecordKey,
    ) -> Result<Option<T>, Error> {
        let Some(sealed) = self.records.get(key)? else { return Ok(None) };
        Sealer { cluster: &self.cluster_id }.open_body(secret, key, &sealed).map(Some)
    }
}

/// Damage to one record is a fact to remember, everything else an error.
fn keep_damage<T>(read: Result<Option<T>, Error>) -> Result<Option<Loaded<T>>, Error> {
    match read {
        Ok(found) => Ok(found.map(|value| Ok(Arc::new(value)))),
        Err(Error::Damaged(damage)) => {
            tracing::error!(%damage, "a record cannot be used; others are not affected");
            Ok(Some(Err(damage)))
        }
        Err(error) => Err(error),
    }
}

fn name_of<T>(key: &RecordKey, name: Result<T, crate::api::NameError>) -> Result<T, Error> {
    name.map_err(|e| Error::damaged(key, e))
}

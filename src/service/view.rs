//! Enclaves, policies and identities in memory: what every request consults, without a lock and without the disk.
//!
//! Readers take the current map; a change makes a new one. Maps are shared by reference below the enclave, so one
//! assignment copies pointers, not policies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::{
    Error,
    record::{EnclaveBody, IdentityBody, PolicyBody, Sealer},
};
use crate::{
    api::{EnclaveName, Identity, PolicyName, message},
    authz::{Policy, Role},
    crypto::SecretKey,
    store::{Kind, RecordKey, Records},
};

pub(super) struct StoredPolicy {
    pub(super) body: PolicyBody,
    compiled: Policy,
}

/// One enclave as it is now.
#[derive(Clone)]
pub(super) struct Enclave {
    pub(super) id: u64,
    pub(super) secret: Arc<SecretKey>,
    pub(super) admin: Identity,
    pub(super) created_at: Timestamp,
    pub(super) created_by: Identity,
    pub(super) policies: HashMap<PolicyName, Arc<StoredPolicy>>,
    pub(super) identities: HashMap<Identity, Arc<IdentityBody>>,
}

impl Enclave {
    pub(super) fn role(&self, identity: &Identity) -> Role<'_> {
        if *identity == self.admin {
            return Role::EnclaveAdmin;
        }
        match self.identities.get(identity) {
            None => Role::Unknown,
            Some(assigned) => Role::Assigned(
                self.policies.get(&assigned.policy).map_or(const { &Policy::EMPTY }, |p| &p.compiled),
            ),
        }
    }
}

type Enclaves = HashMap<EnclaveName, Arc<Enclave>>;

/// All enclaves as they are now.
pub(super) struct View {
    enclaves: ArcSwap<Enclaves>,
    /// One writer at a time.
    writer: Mutex<()>,
    cluster_id: String,
    root: Arc<SecretKey>,
    records: Records,
}

impl View {
    pub(super) fn load(cluster_id: &str, root: Arc<SecretKey>, records: Records) -> Result<Self, Error> {
        let view = Self {
            enclaves: ArcSwap::default(),
            writer: Mutex::new(()),
            cluster_id: cluster_id.into(),
            root,
            records,
        };
        let mut names = Vec::new();
        view.records.visit(Kind::Enclave, "", "", |key, _| {
            names.push(key.name);
            true
        })?;
        for name in names {
            view.refresh(&RecordKey::of_cluster(Kind::Enclave, &name))?;
        }
        Ok(view)
    }

    pub(super) fn get(&self, enclave: &EnclaveName) -> Result<Arc<Enclave>, Error> {
        let enclaves = self.enclaves.load();
        enclaves.get(enclave).cloned().ok_or_else(|| crate::api::ApiError::ENCLAVE_NOT_FOUND.into())
    }

    pub(super) fn with<R>(&self, enclave: &EnclaveName, f: impl FnOnce(&Enclave) -> R) -> Result<R, Error> {
        let enclaves = self.enclaves.load();
        enclaves.get(enclave).map(|e| f(e)).ok_or_else(|| crate::api::ApiError::ENCLAVE_NOT_FOUND.into())
    }

    /// What `f` makes of each enclave, in no order.
    pub(super) fn all<R>(&self, f: impl Fn(&EnclaveName, &Enclave) -> Option<R>) -> Vec<R> {
        self.enclaves.load().iter().filter_map(|(name, enclave)| f(name, enclave)).collect()
    }

    /// Reads `key` again and replaces what depends on it.
    pub(super) fn refresh(&self, key: &RecordKey) -> Result<(), Error> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut enclaves = Enclaves::clone(&self.enclaves.load());
        match key.kind {
            Kind::Enclave => {
                let name = name_of(key, EnclaveName::new(&key.name))?;
                match self.read_enclave(key)? {
                    Some(enclave) => enclaves.insert(name, Arc::new(enclave)),
                    None => enclaves.remove(&name),
                };
            }
            Kind::Policy | Kind::Identity => {
                let name = name_of(key, EnclaveName::new(&key.enclave))?;
                let Some(enclave) = enclaves.get_mut(&name) else { return Ok(()) };
                let mut changed = Enclave::clone(enclave);
                if key.kind == Kind::Policy {
                    let name = name_of(key, PolicyName::new(&key.name))?;
                    match self.read_policy(&changed.secret, key)? {
                        Some(policy) => changed.policies.insert(name, Arc::new(policy)),
                        None => changed.policies.remove(&name),
                    };
                } else {
                    let name = name_of(key, Identity::new(&key.name))?;
                    match self.read_body(&changed.secret, key)? {
                        Some(identity) => changed.identities.insert(name, Arc::new(identity)),
                        None => changed.identities.remove(&name),
                    };
                }
                *enclave = Arc::new(changed);
            }
            Kind::Root | Kind::Cluster | Kind::Key | Kind::Secret => return Ok(()),
        }
        self.enclaves.store(Arc::new(enclaves));
        Ok(())
    }

    fn read_enclave(&self, key: &RecordKey) -> Result<Option<Enclave>, Error> {
        let Some(body) = self.read_body::<EnclaveBody>(&self.root, key)? else { return Ok(None) };
        let mut enclave = Enclave {
            id: body.id,
            secret: Arc::new(SecretKey::from_bytes(body.key)),
            admin: body.admin,
            created_at: body.created_at,
            created_by: body.created_by,
            policies: HashMap::new(),
            identities: HashMap::new(),
        };
        for key in self.names(Kind::Policy, &key.name)? {
            if let Some(policy) = self.read_policy(&enclave.secret, &key)? {
                enclave.policies.insert(name_of(&key, PolicyName::new(&key.name))?, Arc::new(policy));
            }
        }
        for key in self.names(Kind::Identity, &key.name)? {
            if let Some(identity) = self.read_body(&enclave.secret, &key)? {
                enclave.identities.insert(name_of(&key, Identity::new(&key.name))?, Arc::new(identity));
            }
        }
        Ok(Some(enclave))
    }

    fn names(&self, kind: Kind, enclave: &str) -> Result<Vec<RecordKey>, Error> {
        let mut keys = Vec::new();
        self.records.visit(kind, enclave, "", |key, _| {
            keys.push(key);
            true
        })?;
        Ok(keys)
    }

    fn read_policy(&self, secret: &SecretKey, key: &RecordKey) -> Result<Option<StoredPolicy>, Error> {
        let Some(body) = self.read_body::<PolicyBody>(secret, key)? else { return Ok(None) };
        let PolicyBody { allow, deny, matching, .. } = body.clone();
        let wire = message::Policy { allow, deny, matching };
        let compiled = Policy::compile(&wire).map_err(|e| Error::damaged(key, e))?;
        Ok(Some(StoredPolicy { body, compiled }))
    }

    fn read_body<T: serde::de::DeserializeOwned>(
        &self,
        secret: &SecretKey,
        key: &RecordKey,
    ) -> Result<Option<T>, Error> {
        let Some(sealed) = self.records.get(key)? else { return Ok(None) };
        Sealer { cluster: &self.cluster_id }.open_body(secret, key, &sealed).map(Some)
    }
}

fn name_of<T>(key: &RecordKey, name: Result<T, crate::api::NameError>) -> Result<T, Error> {
    name.map_err(|e| Error::damaged(key, e))
}

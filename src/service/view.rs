//! Enclaves, policies and identities in memory: what every request consults, without a lock and without the disk.
//!
//! Readers take the current maps; a change makes new ones. They are persistent (hash array mapped tries), so the new
//! map shares all but a handful of nodes with the old one: a change among 200,000 identities costs microseconds, and
//! whoever still reads the old map has the policies and identities of one moment.
//!
//! A record that does not open is kept as damaged: what depends on it is refused with its id, everything else works. One
//! that the volume does not let be read is refused too, and read again when somebody asks for anything: it may pass.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

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
    store::{EnclaveId, Kind, RecordKey, Records, StoreError},
};

/// How often at most a volume that could not be read is tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);

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
    /// Why it is not known which policies and identities there are, if it is not.
    unknown: Option<Damage>,
}

impl Enclave {
    /// What to say of something that is not in memory.
    fn missing(&self, refusal: ApiError) -> Error {
        self.unknown.clone().map_or_else(|| refusal.into(), Error::Damaged)
    }

    /// What `identity` is here. When the record that says so is damaged nothing is granted.
    pub(super) fn role(&self, identity: &Identity) -> Result<Role<'_>, Error> {
        if *identity == self.admin {
            return Ok(Role::EnclaveAdmin);
        }
        let assigned = match self.identities.get(identity) {
            None if self.unknown.is_none() => return Ok(Role::Unknown),
            None => return Err(self.missing(ApiError::IDENTITY_NOT_FOUND)),
            Some(Ok(assigned)) => assigned,
            Some(Err(damage)) => return Err(damage.clone().into()),
        };
        match self.policies.get(&assigned.policy) {
            None if self.unknown.is_none() => Ok(Role::Assigned(const { &Policy::EMPTY })),
            None => Err(self.missing(ApiError::POLICY_NOT_FOUND)),
            Some(Ok(policy)) => Ok(Role::Assigned(&policy.compiled)),
            Some(Err(damage)) => Err(damage.clone().into()),
        }
    }

    pub(super) fn identity(&self, identity: &Identity) -> Result<&IdentityBody, Error> {
        match self.identities.get(identity) {
            None => Err(self.missing(ApiError::IDENTITY_NOT_FOUND)),
            Some(loaded) => loaded.as_deref().map_err(|damage| damage.clone().into()),
        }
    }

    pub(super) fn policy(&self, name: &PolicyName) -> Result<&StoredPolicy, Error> {
        match self.policies.get(name) {
            None => Err(self.missing(ApiError::POLICY_NOT_FOUND)),
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
    /// Why it is not known which enclaves there are, if it is not.
    unknown: Option<Damage>,
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
    root: Arc<ArcSwap<SealingKeys>>,
    records: Records,
    has_unread: AtomicBool,
    unread: Mutex<Unread>,
}

/// What the volume did not let be read.
#[derive(Default)]
struct Unread {
    /// Records, and with an empty name all of a kind.
    keys: Vec<RecordKey>,
    tried: Option<Instant>,
}

impl View {
    pub(super) fn load(
        cluster_id: &str,
        root: Arc<ArcSwap<SealingKeys>>,
        records: Records,
    ) -> Result<Self, Error> {
        let view = Self {
            enclaves: ArcSwap::default(),
            writer: Mutex::new(()),
            cluster_id: cluster_id.into(),
            root,
            records,
            has_unread: AtomicBool::new(false),
            unread: Mutex::default(),
        };
        let (keys, unknown) = view.keys(Kind::Enclave, EnclaveId::CLUSTER);
        view.enclaves.store(Arc::new(Enclaves { unknown, ..Enclaves::default() }));
        for key in keys {
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
        if self.has_unread.load(Ordering::Acquire) {
            self.read_again();
        }
        let enclaves = self.enclaves.load();
        match (enclaves.by_name.get(enclave), &enclaves.unknown) {
            (Some(Ok(enclave)), _) => Ok(f(enclave)),
            (Some(Err(damage)), _) | (None, Some(damage)) => Err(damage.clone().into()),
            (None, None) => Err(ApiError::ENCLAVE_NOT_FOUND.into()),
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
                match self.keep_damage(key, self.read_enclave(key))? {
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
            Kind::Root
            | Kind::Cluster
            | Kind::Key
            | Kind::Secret
            | Kind::EnclaveId
            | Kind::Remains
            | Kind::Floor => return Ok(()),
        }
        self.enclaves.store(Arc::new(enclaves));
        Ok(())
    }

    fn load_policy(&self, enclave: &mut Enclave, key: &RecordKey) -> Result<(), Error> {
        let name = name_of(key, PolicyName::new(&key.name))?;
        match self.keep_damage(key, self.read_policy(&enclave.secret, key))? {
            Some(policy) => enclave.policies.insert(name, policy),
            None => enclave.policies.remove(&name),
        };
        Ok(())
    }

    fn load_identity(&self, enclave: &mut Enclave, key: &RecordKey) -> Result<(), Error> {
        let name = name_of(key, Identity::new(&key.name))?;
        match self.keep_damage(key, self.read_body(&enclave.secret, key))? {
            Some(identity) => enclave.identities.insert(name, identity),
            None => enclave.identities.remove(&name),
        };
        Ok(())
    }

    fn read_enclave(&self, key: &RecordKey) -> Result<Option<Enclave>, Error> {
        let Some(body) = self.read_body::<EnclaveBody>(&self.root.load(), key)? else { return Ok(None) };
        let secret = body.sealing_keys().ok_or_else(|| Error::damaged(key, "it holds no key"))?;
        // its key was rotated, or sealed again: what is in it is in memory
        if let Some(Ok(known)) = self.enclaves.load().by_name.get(&name_of(key, EnclaveName::new(&key.name))?)
            && known.id == body.id
        {
            return Ok(Some(Enclave { secret: Arc::new(secret), ..Enclave::clone(known) }));
        }
        let mut enclave = Enclave {
            id: body.id,
            secret: Arc::new(secret),
            admin: body.admin,
            created_at: body.created_at,
            created_by: body.created_by,
            policies: HashMap::new(),
            identities: HashMap::new(),
            unknown: None,
        };
        let (policies, unknown) = self.keys(Kind::Policy, body.id);
        enclave.unknown = unknown;
        for key in policies {
            self.load_policy(&mut enclave, &key)?;
        }
        let (identities, unknown) = self.keys(Kind::Identity, body.id);
        enclave.unknown = enclave.unknown.or(unknown);
        for key in identities {
            self.load_identity(&mut enclave, &key)?;
        }
        Ok(Some(enclave))
    }

    /// Which records there are, as far as the volume can be read, and why not all, if not.
    fn keys(&self, kind: Kind, enclave: EnclaveId) -> (Vec<RecordKey>, Option<Damage>) {
        let mut keys = Vec::new();
        let visited = self.records.visit(kind, enclave, "", |key, _| {
            keys.push(key);
            true
        });
        let unknown = visited.err().map(|error| {
            tracing::error!(%error, ?kind, %enclave, "some records cannot be listed: what depends on them is refused");
            let all = RecordKey::of_enclave(kind, enclave, "");
            if error.is_passing() {
                let damage = Damage::passing(&all, &error);
                self.note_unread(all);
                return damage;
            }
            Damage::new(&all, error)
        });
        (keys, unknown)
    }

    fn read_policy(&self, secret: &SealingKeys, key: &RecordKey) -> Result<Option<StoredPolicy>, Error> {
        let Some(body) = self.read_body::<PolicyBody>(secret, key)? else { return Ok(None) };
        let PolicyBody { allow, deny, matching, .. } = body.clone();
        let wire = message::Policy { allow, deny, matching };
        let compiled = Policy::compile(&wire).map_err(|e| Error::damaged(key, e))?;
        Ok(Some(StoredPolicy { body, compiled }))
    }

    /// Damage to one record is a fact to remember, and so is that it could not be read, until it can.
    fn keep_damage<T>(
        &self,
        key: &RecordKey,
        read: Result<Option<T>, Error>,
    ) -> Result<Option<Loaded<T>>, Error> {
        match read {
            Ok(found) => Ok(found.map(|value| Ok(Arc::new(value)))),
            Err(Error::Store(error)) if error.is_passing() => {
                tracing::error!(%error, "a record cannot be read now; what depends on it is refused until it can");
                self.note_unread(key.clone());
                Ok(Some(Err(Damage::passing(key, &error))))
            }
            Err(Error::Store(StoreError::Unreadable { record, source })) => {
                let damage = Damage { record, why: source.to_string(), is_passing: false };
                tracing::error!(%damage, "a record cannot be read; others are not affected");
                Ok(Some(Err(damage)))
            }
            Err(Error::Damaged(damage)) => {
                tracing::error!(%damage, "a record cannot be used; others are not affected");
                Ok(Some(Err(damage)))
            }
            Err(error) => Err(error),
        }
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        // a list of names is whole at any time
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_unread(&self, key: RecordKey) {
        let mut unread = self.unread();
        if !unread.keys.contains(&key) {
            unread.keys.push(key);
        }
        self.has_unread.store(true, Ordering::Release);
    }

    /// Reads what could not be read before; what still cannot is noted again on the way.
    fn read_again(&self) {
        let mut unread = self.unread();
        if unread.tried.is_some_and(|tried| tried.elapsed() < READ_AGAIN) {
            return;
        }
        unread.tried = Some(Instant::now());
        self.has_unread.store(false, Ordering::Release);
        let keys = std::mem::take(&mut unread.keys);
        drop(unread);
        for key in keys {
            let again = if key.name.is_empty() { self.list_again(&key) } else { self.refresh(&key) };
            if let Err(error) = again {
                tracing::error!(%error, %key, "a record is not taken into memory");
            }
        }
    }

    /// Finds out again which enclaves there are, or which policies and identities an enclave has.
    fn list_again(&self, all: &RecordKey) -> Result<(), Error> {
        let kinds: &[Kind] =
            if all.kind == Kind::Enclave { &[Kind::Enclave] } else { &[Kind::Policy, Kind::Identity] };
        let mut unknown = None;
        for kind in kinds {
            let (keys, why) = self.keys(*kind, all.enclave);
            for key in keys {
                self.refresh(&key)?;
            }
            unknown = unknown.or(why);
        }
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut enclaves = Enclaves::clone(&self.enclaves.load());
        if all.kind == Kind::Enclave {
            enclaves.unknown = unknown;
        } else if let Some(name) = enclaves.names.get(&all.enclave).cloned()
            && let Some(Ok(enclave)) = enclaves.by_name.get(&name)
        {
            let changed = Enclave { unknown, ..Enclave::clone(enclave) };
            enclaves.by_name.insert(name, Ok(Arc::new(changed)));
        }
        self.enclaves.store(Arc::new(enclaves));
        Ok(())
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

fn name_of<T>(key: &RecordKey, name: Result<T, crate::api::NameError>) -> Result<T, Error> {
    name.map_err(|e| Error::damaged(key, e))
}

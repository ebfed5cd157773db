//! The load: workers that change everything a server keeps, each its own things, and check them after a restart.

use std::collections::BTreeMap;

use kes::{
    api::{
        ApiError, EnclaveName, Identity, KeyName, PolicyName, SecretName,
        message::{DataKey, ImportKey, Matching, Policy},
    },
    client::{Client, Error},
};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    oracle::{Dice, Key, Known},
    process::Place,
};

/// Bound to every data key.
const CONTEXT: &[u8] = b"{\"bucket\":\"b\"}";
/// Policies and identities of each worker: few, so that they are changed again and again.
const FEW: u64 = 4;

/// A key, and what was once encrypted under it.
struct KeyFact {
    state: Known<Key>,
    proof: Option<DataKey>,
}

/// Keys of one enclave, by name.
#[derive(Default)]
struct Keys(BTreeMap<KeyName, KeyFact>);

/// An enclave that comes and goes.
struct Enclave {
    name: EnclaveName,
    client: Client,
    exists: Known<bool>,
    keys: Keys,
}

/// Changes its own things and knows what must have become of them.
pub(crate) struct Worker {
    number: usize,
    dice: Dice,
    next: u64,
    keys: Keys,
    policies: BTreeMap<PolicyName, Known<Option<u64>>>,
    identities: BTreeMap<Identity, Known<Option<PolicyName>>>,
    secrets: BTreeMap<SecretName, Known<Option<Vec<u8>>>>,
    enclave: Option<Enclave>,
    touched: Vec<KeyName>,
    pub(crate) acknowledged: u64,
}

/// The clients that all workers share during one life of the server.
pub(crate) struct Clients {
    pub(crate) admin: Client,
    pub(crate) system: Client,
    pub(crate) admin_identity: Identity,
}

/// What became of a change, as far as the client can know.
enum Answer<T> {
    Done(T),
    Refused(ApiError),
    /// The server died, or may have.
    Open,
}

async fn ask<T>(dead: &CancellationToken, call: impl Future<Output = Result<T, Error>>) -> Answer<T> {
    match dead.run_until_cancelled(call).await {
        Some(Ok(value)) => Answer::Done(value),
        Some(Err(Error::Api(refusal))) if refusal.status() < 500 => Answer::Refused(refusal),
        // while it stops
        Some(Err(Error::Api(refusal))) if refusal.status() == 503 => Answer::Open,
        Some(Err(Error::Api(refusal))) => panic!("the server failed: {refusal}"),
        Some(Err(_)) | None => Answer::Open,
    }
}

/// Sends a change of `fact` to `next` and takes note of the answer. `Ok(false)`: it is open.
async fn change<T: crate::oracle::Fits + Clone + std::fmt::Debug>(
    dead: &CancellationToken,
    fact: &mut Known<T>,
    next: T,
    refusal: Option<ApiError>,
    call: impl Future<Output = Result<(), Error>>,
) -> bool {
    fact.sent(next.clone());
    match (ask(dead, call).await, refusal) {
        (Answer::Open, _) => return false,
        (Answer::Done(()), None) => fact.acknowledged(),
        (Answer::Refused(got), Some(wanted)) if got == wanted => fact.refused(),
        (Answer::Done(()), Some(wanted)) => panic!("{next:?} was made where '{wanted}' was due"),
        (Answer::Refused(got), _) => panic!("{next:?} was refused: {got}"),
    }
    true
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: String) -> T {
    text.parse().unwrap()
}

/// The policy whose every line says `number`, so that half of another would show.
fn policy(number: u64) -> Policy {
    let line = |verb: &str| format!("/v1/key/{verb}/v{number}");
    Policy {
        allow: ["create", "generate", "decrypt", "delete"].map(line).into(),
        deny: vec![line("import")],
        matching: Matching::default(),
    }
}

fn number_of(policy: &Policy) -> Option<u64> {
    let number = policy.allow.first()?.strip_prefix("/v1/key/create/v")?.parse().ok()?;
    (*policy == self::policy(number)).then_some(number)
}

impl Worker {
    pub(crate) fn new(number: usize, place: &Place, with_enclave: bool) -> Self {
        let things = || (0..FEW).map(|n| format!("w{number}-{n}"));
        let enclave = with_enclave.then(|| {
            let enclave: EnclaveName = name(format!("enclave-{number}"));
            let client = place.admin(Some(enclave.clone()));
            Enclave { name: enclave, client, exists: Known::new(false), keys: Keys::default() }
        });
        Self {
            number,
            dice: Dice::new(number as u64 + 1),
            next: 0,
            keys: Keys::default(),
            policies: things().map(|n| (name(n), Known::new(None))).collect(),
            identities: things().map(|n| (name(n), Known::new(None))).collect(),
            secrets: things().map(|n| (name(n), Known::new(None))).collect(),
            enclave,
            touched: Vec::new(),
            acknowledged: 0,
        }
    }

    /// Changes things until the server is dead.
    pub(crate) async fn run(&mut self, clients: &Clients, dead: &CancellationToken) {
        while !dead.is_cancelled() && self.step(clients, dead).await {
            self.acknowledged += 1;
        }
    }

    /// One change; false when its answer is open.
    async fn step(&mut self, clients: &Clients, dead: &CancellationToken) -> bool {
        match self.dice.below(100) {
            0..45 => {
                let key = self.new_key();
                self.touched.push(key.clone());
                self.keys.create(&clients.admin, key, dead).await
            }
            45..53 => {
                let (key, material) = (self.new_key(), self.dice.below(u64::MAX));
                self.touched.push(key.clone());
                self.keys.import(&clients.admin, key, material, dead).await
            }
            53..58 => self.race(&clients.admin, dead).await,
            58..70 => {
                let (key, what) = (self.some_key(), self.dice.below(3));
                let Some(key) = key else { return true };
                self.touched.push(key.clone());
                self.keys.again(&clients.admin, key, what, dead).await
            }
            70..85 => self.rights(&clients.admin, dead).await,
            85..92 => self.secret(&clients.admin, dead).await,
            _ => self.in_enclave(clients, dead).await,
        }
    }

    fn new_key(&mut self) -> KeyName {
        self.next += 1;
        name(format!("key-{}-{}", self.number, self.next))
    }

    fn some_key(&mut self) -> Option<KeyName> {
        let number = self.dice.below(self.next.max(1)) + 1;
        let key: KeyName = name(format!("key-{}-{number}", self.number));
        self.keys.0.contains_key(&key).then_some(key)
    }

    /// Two creates of one name at the same time: at most one is made.
    async fn race(&mut self, admin: &Client, dead: &CancellationToken) -> bool {
        let key = self.new_key();
        self.touched.push(key.clone());
        let fact = self.keys.fact(&key);
        fact.state.sent(Key::Unseen);
        let answers =
            futures::future::join(ask(dead, admin.create_key(&key)), ask(dead, admin.create_key(&key))).await;
        let exists = |refusal: &ApiError| *refusal == ApiError::KEY_EXISTS;
        match answers {
            (Answer::Done(()), Answer::Done(())) => panic!("{key} was created twice"),
            (Answer::Refused(a), Answer::Refused(b)) => panic!("{key} was refused twice: {a}, {b}"),
            (Answer::Done(()), Answer::Refused(refusal)) | (Answer::Refused(refusal), Answer::Done(())) => {
                assert!(exists(&refusal), "{refusal}");
                fact.state.acknowledged();
                true
            }
            // the other one was told that it exists, so it does
            (Answer::Refused(refusal), Answer::Open) | (Answer::Open, Answer::Refused(refusal)) => {
                assert!(exists(&refusal), "{refusal}");
                fact.state.acknowledged();
                false
            }
            (Answer::Done(()), Answer::Open) | (Answer::Open, Answer::Done(())) => {
                fact.state.acknowledged();
                false
            }
            (Answer::Open, Answer::Open) => false,
        }
    }

    /// Writes or deletes a policy, gives one to an identity, or takes the identity away.
    async fn rights(&mut self, admin: &Client, dead: &CancellationToken) -> bool {
        let n = self.dice.below(FEW);
        let (policy_name, identity): (PolicyName, Identity) = (
            name(format!("w{}-{n}", self.number)),
            name(format!("w{}-{}", self.number, self.dice.below(FEW))),
        );
        self.next += 1;
        let written = self.policies.get_mut(&policy_name).unwrap();
        let assigned = self.identities.get_mut(&identity).unwrap();
        let missing = |is_absent: bool, refusal| is_absent.then_some(refusal);
        match self.dice.below(10) {
            0..5 => {
                let policy = policy(self.next);
                let call = admin.write_policy(&policy_name, &policy);
                change(dead, written, Some(self.next), None, call).await
            }
            5 => {
                let refusal = missing(written.sure() == Some(&None), ApiError::POLICY_NOT_FOUND);
                change(dead, written, None, refusal, admin.delete_policy(&policy_name)).await
            }
            6..9 => {
                let next = Some(policy_name.clone());
                change(dead, assigned, next, None, admin.assign_policy(&policy_name, &identity)).await
            }
            _ => {
                let refusal = missing(assigned.sure() == Some(&None), ApiError::IDENTITY_NOT_FOUND);
                change(dead, assigned, None, refusal, admin.delete_identity(&identity)).await
            }
        }
    }

    /// Keeps a secret, or destroys it. Secrets are never overwritten.
    async fn secret(&mut self, admin: &Client, dead: &CancellationToken) -> bool {
        let secret: SecretName = name(format!("w{}-{}", self.number, self.dice.below(FEW)));
        let (length, byte) = (self.dice.below(5_000) as usize, self.dice.below(256) as u8);
        let fact = self.secrets.get_mut(&secret).unwrap();
        let is_absent = fact.sure() == Some(&None);
        if self.dice.below(2) == 0 {
            let value = vec![byte; length];
            let refusal = (!is_absent).then_some(ApiError::SECRET_EXISTS);
            return change(dead, fact, Some(value.clone()), refusal, admin.create_secret(&secret, &value))
                .await;
        }
        let refusal = is_absent.then_some(ApiError::SECRET_NOT_FOUND);
        change(dead, fact, None, refusal, admin.delete_secret(&secret)).await
    }

    /// Makes the worker's enclave, makes keys in it, or deletes it with all of them.
    async fn in_enclave(&mut self, clients: &Clients, dead: &CancellationToken) -> bool {
        let key = self.new_key();
        let Some(enclave) = &mut self.enclave else { return true };
        let exists = enclave.exists.sure() == Some(&true);
        if !exists {
            let call = clients.system.create_enclave(&enclave.name, &clients.admin_identity);
            return change(dead, &mut enclave.exists, true, None, call).await;
        }
        if self.dice.below(4) > 0 {
            return enclave.keys.create(&enclave.client, key, dead).await;
        }
        let call = clients.system.delete_enclave(&enclave.name);
        let known = change(dead, &mut enclave.exists, false, None, call).await;
        if known {
            enclave.keys.0.clear();
        }
        known
    }

    /// Compares what the server has with what it must have: what was touched since the last time, or everything.
    pub(crate) async fn check(&mut self, clients: &Clients, all: bool) {
        let touched = std::mem::take(&mut self.touched);
        let names: Vec<_> = if all { self.keys.0.keys().cloned().collect() } else { touched };
        for key in names {
            self.keys.check(&clients.admin, &key).await;
        }
        for (policy_name, fact) in &mut self.policies {
            let seen = match clients.admin.read_policy(policy_name).await {
                Ok(body) => {
                    let whole = Policy { allow: body.allow, deny: body.deny, matching: body.matching };
                    let number = number_of(&whole);
                    Some(number.unwrap_or_else(|| panic!("policy {policy_name} is half there: {whole:?}")))
                }
                Err(Error::Api(refusal)) if refusal == ApiError::POLICY_NOT_FOUND => None,
                Err(error) => panic!("policy {policy_name}: {error}"),
            };
            fact.seen(seen).unwrap_or_else(|e| panic!("policy {policy_name}: {e}"));
        }
        for (identity, fact) in &mut self.identities {
            let seen = match clients.admin.describe_identity(identity).await {
                Ok(info) => Some(name(info.policy)),
                Err(Error::Api(refusal)) if refusal == ApiError::IDENTITY_NOT_FOUND => None,
                Err(error) => panic!("identity {identity}: {error}"),
            };
            fact.seen(seen).unwrap_or_else(|e| panic!("identity {identity}: {e}"));
        }
        for (secret, fact) in &mut self.secrets {
            let seen = match clients.admin.read_secret(secret).await {
                Ok(found) => Some(found.bytes.as_ref().to_vec()),
                Err(Error::Api(refusal)) if refusal == ApiError::SECRET_NOT_FOUND => None,
                Err(error) => panic!("secret {secret}: {error}"),
            };
            fact.seen(seen).unwrap_or_else(|e| panic!("secret {secret}: {e}"));
        }
        if let Some(enclave) = &mut self.enclave {
            enclave.check(clients).await;
        }
    }

    /// The keys that the server must list for this worker in the enclave `default`.
    pub(crate) fn present(&self) -> impl Iterator<Item = &KeyName> {
        self.keys.present()
    }
}

impl Enclave {
    async fn check(&mut self, clients: &Clients) {
        let seen = match clients.system.describe_enclave(&self.name).await {
            Ok(_) => true,
            Err(Error::Api(refusal)) if refusal == ApiError::ENCLAVE_NOT_FOUND => false,
            Err(error) => panic!("enclave {}: {error}", self.name),
        };
        self.exists.seen(seen).unwrap_or_else(|e| panic!("enclave {}: {e}", self.name));
        if !seen {
            self.keys.0.clear();
            return;
        }
        let names: Vec<_> = self.keys.0.keys().cloned().collect();
        for key in names {
            self.keys.check(&self.client, &key).await;
        }
        let listed = self.client.list_keys("*").await.unwrap();
        assert!(
            listed.iter().map(|info| &info.name).eq(self.keys.present()),
            "enclave {} lists keys that it must not have, or not all",
            self.name
        );
    }
}

impl Keys {
    fn fact(&mut self, key: &KeyName) -> &mut KeyFact {
        let fresh = || KeyFact { state: Known::new(Key::Absent), proof: None };
        self.0.entry(key.clone()).or_insert_with(fresh)
    }

    fn present(&self) -> impl Iterator<Item = &KeyName> {
        self.0.iter().filter(|(_, fact)| fact.state.sure() != Some(&Key::Absent)).map(|(name, _)| name)
    }

    async fn create(&mut self, client: &Client, key: KeyName, dead: &CancellationToken) -> bool {
        let fact = self.fact(&key);
        if !change(dead, &mut fact.state, Key::Unseen, None, client.create_key(&key)).await {
            return false;
        }
        match ask(dead, client.generate(&key, CONTEXT)).await {
            Answer::Done(proof) => fact.proof = Some(proof),
            Answer::Refused(refusal) => panic!("{key} was made and cannot be used: {refusal}"),
            Answer::Open => return false,
        }
        true
    }

    async fn import(&mut self, client: &Client, key: KeyName, seed: u64, dead: &CancellationToken) -> bool {
        let material: [u8; 32] = Sha256::digest(seed.to_le_bytes()).into();
        let id = Sha256::digest(material).iter().take(16).map(|b| format!("{b:02x}")).collect();
        let import = ImportKey { bytes: material.to_vec().into(), ..ImportKey::default() };
        change(dead, &mut self.fact(&key).state, Key::Id(id), None, client.import_key(&key, &import)).await
    }

    /// A change of a key that was once made: deletes it, or tries to make it again.
    async fn again(&mut self, client: &Client, key: KeyName, what: u64, dead: &CancellationToken) -> bool {
        let fact = self.fact(&key);
        let Some(state) = fact.state.sure().cloned() else { return true };
        let is_absent = state == Key::Absent;
        if what == 0 {
            let refusal = is_absent.then_some(ApiError::KEY_NOT_FOUND);
            if !change(dead, &mut fact.state, Key::Absent, refusal, client.delete_key(&key)).await {
                return false;
            }
            fact.proof = None;
            return true;
        }
        if is_absent {
            return self.create(client, key, dead).await;
        }
        // refused or not answered: in both cases nothing may change
        match ask(dead, client.create_key(&key)).await {
            Answer::Done(()) => panic!("{key} was overwritten"),
            Answer::Refused(refusal) => assert_eq!(refusal, ApiError::KEY_EXISTS, "{key}"),
            Answer::Open => return false,
        }
        true
    }

    /// The key is what it must be, and opens what it once encrypted.
    async fn check(&mut self, client: &Client, key: &KeyName) {
        let Some(fact) = self.0.get_mut(key) else { return };
        let seen = match client.describe_key(key).await {
            Ok(info) => Key::Id(info.id),
            Err(Error::Api(refusal)) if refusal == ApiError::KEY_NOT_FOUND => Key::Absent,
            Err(error) => panic!("{key}: {error}"),
        };
        let is_present = seen != Key::Absent;
        fact.state.seen(seen).unwrap_or_else(|e| panic!("{key}: {e}"));
        if !is_present {
            fact.proof = None;
            return;
        }
        match &fact.proof {
            Some(proof) => {
                let opened = client.decrypt(key, proof.ciphertext.as_ref(), CONTEXT).await;
                let opened =
                    opened.unwrap_or_else(|e| panic!("{key} no longer opens what it encrypted: {e}"));
                assert!(opened == proof.plaintext, "{key} opens something else than it encrypted");
            }
            None => fact.proof = Some(client.generate(key, CONTEXT).await.unwrap()),
        }
    }
}

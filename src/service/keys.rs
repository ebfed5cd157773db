//! Keys: made, described, listed, and used. Using one touches only memory once it was read.

use std::sync::Arc;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{
    Error, Service,
    cache::Entry,
    core::Core,
    listing::{Entries, Pages},
    record::KeyBody,
    zero_time,
};
use crate::{
    api::{
        ApiError, EnclaveName, KeyName,
        message::{self, KeyInfo},
    },
    authz::{Authorized, action},
    crypto::{Algorithm, Key, SealingKeys, SecretKey, hmac_sha256},
    store::{Change, EnclaveId, Kind, RecordKey},
};

/// A key ready for use.
pub(super) struct StoredKey {
    key: Key,
    hmac: SecretKey,
    created_at: Timestamp,
    created_by: String,
}

impl StoredKey {
    fn new(body: KeyBody) -> Self {
        Self {
            key: Key::new(body.key, body.algorithm),
            hmac: body.hmac,
            created_at: body.created_at,
            created_by: body.created_by,
        }
    }

    fn info(&self, name: KeyName) -> KeyInfo {
        KeyInfo {
            name,
            id: self.key.id().to_owned(),
            algorithm: self.key.algorithm().map(|a| a.to_string()).unwrap_or_default(),
            created_at: self.created_at,
            created_by: self.created_by.clone(),
        }
    }
}

impl Service {
    /// Makes a key of fresh random bytes. Never overwrites.
    ///
    /// # Errors
    /// [`ApiError::KEY_EXISTS`], or the change could not be made.
    pub async fn create_key(
        &self,
        proof: &Authorized<'_, action::CreateKey>,
        name: &KeyName,
    ) -> Result<(), Error> {
        let core = self.core()?;
        let key = SecretKey::generate(&*core.random);
        let algorithm = Some(Algorithm::default_for_cpu());
        core.store_key(proof.enclave(), name, key, algorithm, proof.identity().as_str()).await
    }

    /// Makes a key of the given bytes. Never overwrites.
    ///
    /// # Errors
    /// [`ApiError::KEY_EXISTS`], or the change could not be made.
    pub async fn import_key(
        &self,
        proof: &Authorized<'_, action::ImportKey>,
        name: &KeyName,
        key: SecretKey,
        algorithm: Option<Algorithm>,
    ) -> Result<(), Error> {
        self.core()?.store_key(proof.enclave(), name, key, algorithm, proof.identity().as_str()).await
    }

    /// Destroys a key: nothing encrypted under it can be read again.
    ///
    /// # Errors
    /// [`ApiError::KEY_NOT_FOUND`], or the change could not be made.
    pub async fn delete_key(
        &self,
        proof: &Authorized<'_, action::DeleteKey>,
        name: &KeyName,
    ) -> Result<(), Error> {
        let core = self.core()?;
        let id = core.view.with(proof.enclave(), |enclave| enclave.id)?;
        let key = RecordKey::of_enclave(Kind::Key, id, name.as_str());
        let missing = ApiError::KEY_NOT_FOUND;
        core.propose(Change::Delete { key }, ApiError::KEY_EXISTS, missing).await
    }

    /// What is known about a key, without the key.
    ///
    /// # Errors
    /// [`ApiError::KEY_NOT_FOUND`].
    pub fn describe_key(
        &self,
        proof: &Authorized<'_, action::DescribeKey>,
        name: &KeyName,
    ) -> Result<KeyInfo, Error> {
        Ok(self.core()?.key(proof.enclave(), name)?.info(name.clone()))
    }

    /// Keys whose names match `pattern`, by name: empty or `*` means all, without `*` it is a prefix.
    ///
    /// # Errors
    /// [`ApiError::INVALID_PATTERN`], [`ApiError::PATTERN_TOO_LONG`].
    pub fn list_keys(
        &self,
        proof: &Authorized<'_, action::ListKeys>,
        pattern: &str,
    ) -> Result<Pages<KeyInfo>, Error> {
        Pages::new(self, proof.enclave(), pattern, LISTED)
    }

    /// A fresh data key, in clear and encrypted under the named key.
    ///
    /// # Errors
    /// [`ApiError::KEY_NOT_FOUND`].
    pub fn generate(
        &self,
        proof: &Authorized<'_, action::GenerateKey>,
        name: &KeyName,
        context: &[u8],
    ) -> Result<message::DataKey, Error> {
        let core = self.core()?;
        let key = core.key(proof.enclave(), name)?;
        let (plaintext, ciphertext) = key.key.generate(core.layout, context, &*core.random);
        Ok(message::DataKey { plaintext: plaintext.to_vec().into(), ciphertext: ciphertext.into() })
    }

    /// Encrypts `plaintext`, bound to `context`.
    ///
    /// # Errors
    /// [`ApiError::KEY_NOT_FOUND`].
    pub fn encrypt(
        &self,
        proof: &Authorized<'_, action::EncryptKey>,
        name: &KeyName,
        plaintext: &[u8],
        context: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let core = self.core()?;
        let key = core.key(proof.enclave(), name)?;
        Ok(key.key.seal(core.layout, plaintext, context, &*core.random))
    }

    /// Decrypts a ciphertext of any KES layout.
    ///
    /// # Errors
    /// [`ApiError::KEY_NOT_FOUND`], [`ApiError::DECRYPT`].
    pub fn decrypt(
        &self,
        proof: &Authorized<'_, action::DecryptKey>,
        name: &KeyName,
        ciphertext: &[u8],
        context: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let key = self.core()?.key(proof.enclave(), name)?;
        Ok(key.key.open(ciphertext, context).map_err(|_| ApiError::DECRYPT)?)
    }

    /// HMAC-SHA-256 of `message` under the key's own HMAC key.
    ///
    /// # Errors
    /// [`ApiError::KEY_NOT_FOUND`].
    pub fn hmac(
        &self,
        proof: &Authorized<'_, action::Hmac>,
        name: &KeyName,
        message: &[u8],
    ) -> Result<[u8; 32], Error> {
        let key = self.core()?.key(proof.enclave(), name)?;
        Ok(hmac_sha256(&key.hmac, message))
    }

    /// Decrypts many; all or nothing.
    ///
    /// # Errors
    /// As for one.
    pub fn bulk_decrypt(
        &self,
        proof: &Authorized<'_, action::BulkDecrypt>,
        name: &KeyName,
        items: &[message::Decrypt],
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
        let key = self.core()?.key(proof.enclave(), name)?;
        let open = |item: &message::Decrypt| key.key.open(&item.ciphertext.0, &item.context.0);
        Ok(items.iter().map(open).collect::<Result<_, _>>().map_err(|_| ApiError::DECRYPT)?)
    }
}

impl Core {
    async fn store_key(
        &self,
        enclave: &EnclaveName,
        name: &KeyName,
        key: SecretKey,
        algorithm: Option<Algorithm>,
        created_by: &str,
    ) -> Result<(), Error> {
        let enclave = self.view.get(enclave)?;
        let record = RecordKey::of_enclave(Kind::Key, enclave.id, name.as_str());
        let body = KeyBody {
            algorithm,
            key,
            hmac: SecretKey::generate(&*self.random),
            created_at: self.clock.now(),
            created_by: created_by.to_owned(),
        };
        let value = self.sealer().seal(&enclave.secret, &record, &body.encode(), &*self.random);
        drop(body);
        self.propose(Change::Create { key: record, value }, ApiError::KEY_EXISTS, ApiError::KEY_NOT_FOUND)
            .await
    }

    /// The key, from memory or from disk.
    fn key(&self, enclave: &EnclaveName, name: &KeyName) -> Result<Arc<Entry<StoredKey>>, Error> {
        let id = match self.view.with(enclave, |enclave| self.keys.get(enclave.id, name).ok_or(enclave.id))? {
            Ok(key) => return Ok(key),
            Err(id) => id,
        };
        self.keys.fill(id, name, || {
            self.with_secret(enclave, |now, secret| {
                if now == id { self.read_key(secret, id, name) } else { Err(ApiError::KEY_NOT_FOUND.into()) }
            })
        })
    }

    fn read_key(&self, secret: &SealingKeys, enclave: EnclaveId, name: &KeyName) -> Result<StoredKey, Error> {
        let key = RecordKey::of_enclave(Kind::Key, enclave, name.as_str());
        let sealed = self.consensus.records().get(&key)?.ok_or(ApiError::KEY_NOT_FOUND)?;
        self.open_key(secret, &key, &sealed)
    }

    fn open_key(&self, secret: &SealingKeys, key: &RecordKey, sealed: &[u8]) -> Result<StoredKey, Error> {
        let body = self.sealer().open(secret, key, sealed)?;
        Ok(StoredKey::new(KeyBody::decode(&body).map_err(|e| Error::damaged(key, e))?))
    }

    /// Drops a deleted key from memory.
    pub(super) fn forget(&self, key: &RecordKey) {
        if let Ok(name) = KeyName::new(&key.name) {
            self.keys.remove(key.enclave, &name);
        }
    }

    /// Drops all keys of a deleted enclave from memory.
    pub(super) fn forget_all(&self, enclave: EnclaveId) {
        self.keys.remove_all(enclave);
    }
}

/// How keys are listed.
const LISTED: Entries<KeyInfo> = Entries {
    kind: Kind::Key,
    open: |core, secret, key, sealed| {
        let name = KeyName::new(&key.name).map_err(|error| Error::damaged(key, error))?;
        Ok(core.open_key(secret, key, sealed)?.info(name))
    },
    damaged: |name| {
        Some(KeyInfo {
            name: KeyName::new(name).ok()?,
            id: String::new(),
            algorithm: String::new(),
            created_at: zero_time(),
            created_by: String::new(),
        })
    },
};

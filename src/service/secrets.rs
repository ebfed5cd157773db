//! Secrets: small values that applications keep here, sealed like keys. They are never changed, and never cached.

use super::{
    Error, Service,
    listing::{Entries, Pages},
    record::SecretHead,
    zero_time,
};
use crate::{
    api::{
        ApiError, EnclaveName, Fault, SecretName,
        message::{CreateSecret, Secret, SecretEntry, SecretInfo},
    },
    authz::{Authorized, action},
    store::{Change, EnclaveId, Kind, RecordKey},
};

/// The only type there is.
const GENERIC: &str = "generic";

impl Service {
    /// Keeps a value under a new name. Never overwrites.
    ///
    /// # Errors
    /// [`ApiError::SECRET_EXISTS`], an unknown type, or the change could not be made.
    pub async fn create_secret(
        &self,
        proof: &Authorized<'_, action::CreateSecret>,
        name: &SecretName,
        secret: CreateSecret,
    ) -> Result<(), Error> {
        let CreateSecret { bytes, kind } = secret;
        if !kind.is_empty() && kind != GENERIC {
            return Err(ApiError::new(Fault::BadRequest, format!("unsupported secret type '{kind}'")).into());
        }
        let core = self.core()?;
        let enclave = core.view.get(proof.enclave())?;
        let key = record(enclave.id, name);
        let head = SecretHead { created_at: core.clock.now(), created_by: proof.identity().to_string() };
        let body = head.encode(bytes.as_ref()).map_err(|error| Error::damaged(&key, error))?;
        let value = core.sealer().seal(&enclave.secret, &key, &body, &*core.random);
        drop((bytes, body));
        core.propose(Change::Create { key, value }, ApiError::SECRET_EXISTS, ApiError::SECRET_NOT_FOUND).await
    }

    /// A secret with its value.
    ///
    /// # Errors
    /// [`ApiError::SECRET_NOT_FOUND`].
    pub fn read_secret(
        &self,
        proof: &Authorized<'_, action::ReadSecret>,
        name: &SecretName,
    ) -> Result<Secret, Error> {
        self.secret(proof.enclave(), name, |info, value| Secret { info, bytes: value.to_vec().into() })
    }

    /// What is known about a secret, without its value.
    ///
    /// # Errors
    /// [`ApiError::SECRET_NOT_FOUND`].
    pub fn describe_secret(
        &self,
        proof: &Authorized<'_, action::DescribeSecret>,
        name: &SecretName,
    ) -> Result<SecretInfo, Error> {
        self.secret(proof.enclave(), name, |info, _| info)
    }

    /// Secrets whose names match `pattern`, by name.
    ///
    /// # Errors
    /// [`ApiError::INVALID_PATTERN`], [`ApiError::PATTERN_TOO_LONG`].
    pub fn list_secrets(
        &self,
        proof: &Authorized<'_, action::ListSecrets>,
        pattern: &str,
    ) -> Result<Pages<SecretEntry>, Error> {
        Pages::new(self, proof.enclave(), pattern, LISTED)
    }

    /// Destroys a secret.
    ///
    /// # Errors
    /// [`ApiError::SECRET_NOT_FOUND`], or the change could not be made.
    pub async fn delete_secret(
        &self,
        proof: &Authorized<'_, action::DeleteSecret>,
        name: &SecretName,
    ) -> Result<(), Error> {
        let core = self.core()?;
        let id = core.view.with(proof.enclave(), |enclave| enclave.id)?;
        let change = Change::Delete { key: record(id, name) };
        core.propose(change, ApiError::SECRET_EXISTS, ApiError::SECRET_NOT_FOUND).await
    }

    /// What `f` makes of a secret.
    fn secret<R>(
        &self,
        enclave: &EnclaveName,
        name: &SecretName,
        f: impl FnOnce(SecretInfo, &[u8]) -> R,
    ) -> Result<R, Error> {
        let core = self.core()?;
        let (SecretHead { created_at, created_by }, body) = core.with_secret(enclave, |id, secret| {
            let key = record(id, name);
            let sealed = core.consensus.records().get(&key)?.ok_or(ApiError::SECRET_NOT_FOUND)?;
            let body = core.sealer().open(secret, &key, &sealed)?;
            let (head, _) = SecretHead::decode(&body).map_err(|error| Error::damaged(&key, error))?;
            Ok((head, body))
        })?;
        let (_, value) = SecretHead::decode(&body)
            .map_err(|error| Error::damaged(&record(EnclaveId::CLUSTER, name), error))?;
        Ok(f(SecretInfo { kind: GENERIC.into(), created_at, mod_time: created_at, created_by }, value))
    }
}

fn record(enclave: EnclaveId, name: &SecretName) -> RecordKey {
    RecordKey::of_enclave(Kind::Secret, enclave, name.as_str())
}

/// How secrets are listed.
const LISTED: Entries<SecretEntry> = Entries {
    kind: Kind::Secret,
    open: |core, secret, key, sealed| {
        let name = SecretName::new(&key.name).map_err(|error| Error::damaged(key, error))?;
        let body = core.sealer().open(secret, key, sealed)?;
        let (SecretHead { created_at, created_by }, _) =
            SecretHead::decode(&body).map_err(|error| Error::damaged(key, error))?;
        Ok(SecretEntry { name, created_at, mod_time: created_at, created_by })
    },
    damaged: |name| {
        let (created_at, mod_time) = (zero_time(), zero_time());
        Some(SecretEntry {
            name: SecretName::new(name).ok()?,
            created_at,
            mod_time,
            created_by: String::new(),
        })
    },
};

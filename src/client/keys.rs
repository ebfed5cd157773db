//! Keys: create, import, look at, list, delete, and use.

use http::Method;

use super::{
    Client, Error, Lines,
    call::{Scope, path},
    listing::zero_time,
};
use crate::api::{
    KeyName,
    message::{
        Base64, Ciphertext, DataKey, Decrypt, Encrypt, GenerateKey, Hmac, ImportKey, KeyInfo, Mac, Plaintext,
    },
};

impl Client {
    /// Creates a key from the server's randomness.
    ///
    /// # Errors
    /// [`crate::api::ApiError::KEY_EXISTS`] also when an earlier attempt of this very call created it.
    pub async fn create_key(&self, name: &KeyName) -> Result<(), Error> {
        self.act(Method::POST, Scope::Enclave, &path("/v1/key/create/", name.as_str())).await
    }

    /// Creates a key from given material.
    ///
    /// # Errors
    /// As [`Self::create_key`], and [`crate::api::ApiError::INVALID_KEY_SIZE`].
    pub async fn import_key(&self, name: &KeyName, key: &ImportKey) -> Result<(), Error> {
        self.change(Scope::Enclave, &path("/v1/key/import/", name.as_str()), key).await
    }

    /// What is known about a key.
    ///
    /// # Errors
    /// [`crate::api::ApiError::KEY_NOT_FOUND`].
    pub async fn describe_key(&self, name: &KeyName) -> Result<KeyInfo, Error> {
        self.get(Scope::Enclave, &path("/v1/key/describe/", name.as_str())).await
    }

    /// Deletes a key; what it encrypted is lost.
    ///
    /// # Errors
    /// [`crate::api::ApiError::KEY_NOT_FOUND`].
    pub async fn delete_key(&self, name: &KeyName) -> Result<(), Error> {
        self.act(Method::DELETE, Scope::Enclave, &path("/v1/key/delete/", name.as_str())).await
    }

    /// All keys whose name matches `pattern`, in the server's order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_keys(&self, pattern: &str) -> Result<Vec<KeyInfo>, Error> {
        self.list(Scope::Enclave, "/v1/key/list/", pattern, |name| {
            Some(KeyInfo {
                name: KeyName::new(&name).ok()?,
                id: String::new(),
                algorithm: String::new(),
                created_at: zero_time(),
                created_by: String::new(),
            })
        })
        .await
    }

    /// As [`Self::list_keys`], one at a time, for listings that do not fit into memory. Only from servers that answer in
    /// lines: KES v0.22.3 and ours.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream_keys(&self, pattern: &str) -> Result<Lines<KeyInfo>, Error> {
        let pattern = if pattern.is_empty() { "*" } else { pattern };
        self.open(Scope::Enclave, &path("/v1/key/list/", pattern)).await
    }

    /// A new data key, in clear and encrypted under the key `name`.
    ///
    /// # Errors
    /// [`crate::api::ApiError::KEY_NOT_FOUND`].
    pub async fn generate(&self, name: &KeyName, context: &[u8]) -> Result<DataKey, Error> {
        let body = GenerateKey { context: context.to_vec().into() };
        self.post(&path("/v1/key/generate/", name.as_str()), &body).await
    }

    /// Encrypts under the key `name`.
    ///
    /// # Errors
    /// [`crate::api::ApiError::KEY_NOT_FOUND`].
    pub async fn encrypt(&self, name: &KeyName, plaintext: &[u8], context: &[u8]) -> Result<Base64, Error> {
        let body = Encrypt { plaintext: plaintext.to_vec().into(), context: context.to_vec().into() };
        let Ciphertext { ciphertext } = self.post(&path("/v1/key/encrypt/", name.as_str()), &body).await?;
        Ok(ciphertext)
    }

    /// Decrypts under the key `name`.
    ///
    /// # Errors
    /// [`crate::api::ApiError::DECRYPT`] for another key, another context or changed bytes.
    pub async fn decrypt(&self, name: &KeyName, ciphertext: &[u8], context: &[u8]) -> Result<Base64, Error> {
        let body = Decrypt { ciphertext: ciphertext.to_vec().into(), context: context.to_vec().into() };
        let Plaintext { plaintext } = self.post(&path("/v1/key/decrypt/", name.as_str()), &body).await?;
        Ok(plaintext)
    }

    /// Decrypts up to 1000 ciphertexts under the key `name`, all or nothing, in their order.
    ///
    /// # Errors
    /// As [`Self::decrypt`]; also [`crate::api::ApiError::UNKNOWN_ROUTE`] from KES of 2024 and later.
    pub async fn bulk_decrypt(&self, name: &KeyName, items: &[Decrypt]) -> Result<Vec<Base64>, Error> {
        let plaintexts: Vec<Plaintext> =
            self.post(&path("/v1/key/bulk/decrypt/", name.as_str()), &items).await?;
        Ok(plaintexts.into_iter().map(|item| item.plaintext).collect())
    }

    /// HMAC-SHA-256 of `message` under the key's own HMAC key: 32 bytes. Not portable between servers.
    ///
    /// # Errors
    /// [`crate::api::ApiError::KEY_NOT_FOUND`]; [`crate::api::ApiError::UNKNOWN_ROUTE`] from KES before 2024.
    pub async fn hmac(&self, name: &KeyName, message: &[u8]) -> Result<Base64, Error> {
        let body = self.encode(&Hmac { message: message.to_vec().into() })?;
        let path = path("/v1/key/hmac/", name.as_str());
        let answer = self.send(Method::PUT, Scope::Enclave, &path, body).await?;
        let Mac { hmac } = self.parse(answer.body())?;
        Ok(hmac)
    }
}

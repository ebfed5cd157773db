//! Keys: create, import, look at, list, delete, and use.

use http::Method;

use super::{
    Client, Error,
    call::{Scope, path},
    listing::zero_time,
};
use crate::api::{
    KeyName,
    message::{Base64, Ciphertext, DataKey, Decrypt, Encrypt, GenerateKey, ImportKey, KeyInfo, Plaintext},
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
        self.list("/v1/key/list/", pattern, |name| {
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
}

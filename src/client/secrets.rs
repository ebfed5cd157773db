//! Secrets: create, read, look at, list, delete.

use http::Method;

use super::{
    Client, Error,
    call::{Scope, path},
    listing::zero_time,
};
use crate::api::{
    SecretName,
    message::{CreateSecret, Secret, SecretEntry, SecretInfo},
};

impl Client {
    /// Keeps a value under a new name.
    ///
    /// # Errors
    /// [`crate::api::ApiError::SECRET_EXISTS`] also when an earlier attempt of this very call created it.
    pub async fn create_secret(&self, name: &SecretName, value: &[u8]) -> Result<(), Error> {
        let body = CreateSecret { bytes: value.to_vec().into(), kind: String::new() };
        self.change(Scope::Enclave, &path("/v1/secret/create/", name.as_str()), &body).await
    }

    /// A secret with its value.
    ///
    /// # Errors
    /// [`crate::api::ApiError::SECRET_NOT_FOUND`].
    pub async fn read_secret(&self, name: &SecretName) -> Result<Secret, Error> {
        self.get(Scope::Enclave, &path("/v1/secret/read/", name.as_str())).await
    }

    /// What is known about a secret, without its value.
    ///
    /// # Errors
    /// [`crate::api::ApiError::SECRET_NOT_FOUND`].
    pub async fn describe_secret(&self, name: &SecretName) -> Result<SecretInfo, Error> {
        self.get(Scope::Enclave, &path("/v1/secret/describe/", name.as_str())).await
    }

    /// Deletes a secret.
    ///
    /// # Errors
    /// [`crate::api::ApiError::SECRET_NOT_FOUND`].
    pub async fn delete_secret(&self, name: &SecretName) -> Result<(), Error> {
        self.act(Method::DELETE, Scope::Enclave, &path("/v1/secret/delete/", name.as_str())).await
    }

    /// All secrets whose name matches `pattern`, in the server's order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_secrets(&self, pattern: &str) -> Result<Vec<SecretEntry>, Error> {
        self.list(Scope::Enclave, "/v1/secret/list/", pattern, |name| {
            let name = SecretName::new(&name).ok()?;
            let (created_at, mod_time) = (zero_time(), zero_time());
            Some(SecretEntry { name, created_at, mod_time, created_by: String::new() })
        })
        .await
    }
}

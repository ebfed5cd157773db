//! The server itself: version, state, metrics, enclaves, bootstrap.

use bytes::Bytes;
use http::Method;

use super::{
    Client, Error,
    call::{Scope, path},
};
use crate::api::{
    EnclaveName, Identity,
    message::{
        ApiRoute, Bootstrap, Cluster, CreateEnclave, EnclaveInfo, EnclaveList, Rotation, Status, Version,
    },
};

impl Client {
    /// Release and commit of the server.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn version(&self) -> Result<Version, Error> {
        self.get(Scope::Server, "/version").await
    }

    /// Succeeds when the server can answer key requests.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ready(&self) -> Result<(), Error> {
        self.act(Method::GET, Scope::Enclave, "/v1/ready").await
    }

    /// Uptime, memory and machine of the server.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status, Error> {
        self.get(Scope::Enclave, "/v1/status").await
    }

    /// The routes that the server offers.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn api(&self) -> Result<Vec<ApiRoute>, Error> {
        self.get(Scope::Enclave, "/v1/api").await
    }

    /// Metrics as Prometheus text.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metrics(&self) -> Result<String, Error> {
        let answer = self.send(Method::GET, Scope::Enclave, "/v1/metrics", Bytes::new()).await?;
        String::from_utf8(answer.into_body().into()).map_err(|_| self.protocol("metrics are no text"))
    }

    /// The cluster that the server belongs to.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.get(Scope::Server, "/v1/sys/cluster").await
    }

    /// Makes an empty server a cluster of one; the same id again changes nothing.
    ///
    /// # Errors
    /// [`crate::api::ApiError::OTHER_CLUSTER`] under another id.
    pub async fn bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), Error> {
        self.change(Scope::Server, "/v1/sys/bootstrap", bootstrap).await
    }

    /// Creates an enclave with its admin.
    ///
    /// # Errors
    /// [`crate::api::ApiError::ENCLAVE_EXISTS`].
    pub async fn create_enclave(&self, name: &EnclaveName, admin: &Identity) -> Result<(), Error> {
        let body = CreateEnclave { admin: admin.clone() };
        self.change(Scope::Server, &path("/v1/enclave/create/", name.as_str()), &body).await
    }

    /// What is known about an enclave.
    ///
    /// # Errors
    /// [`crate::api::ApiError::ENCLAVE_NOT_FOUND`].
    pub async fn describe_enclave(&self, name: &EnclaveName) -> Result<EnclaveInfo, Error> {
        self.get(Scope::Server, &path("/v1/enclave/describe/", name.as_str())).await
    }

    /// Deletes an enclave with everything in it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_enclave(&self, name: &EnclaveName) -> Result<(), Error> {
        self.act(Method::DELETE, Scope::Server, &path("/v1/enclave/delete/", name.as_str())).await
    }

    /// All enclaves whose name matches `pattern`. Only the system admin may ask.
    ///
    /// # Errors
    /// [`crate::api::ApiError::UNKNOWN_ROUTE`] from KES.
    pub async fn list_enclaves(&self, pattern: &str) -> Result<Vec<EnclaveInfo>, Error> {
        let pattern = if pattern.is_empty() { "*" } else { pattern };
        let list: EnclaveList = self.get(Scope::Server, &path("/v1/enclave/list/", pattern)).await?;
        Ok(list.enclaves)
    }

    /// Makes the server forget its keys until it is started again. Only the system admin may.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn seal(&self) -> Result<(), Error> {
        self.act(Method::POST, Scope::Server, "/v1/sys/seal").await
    }

    /// Gives an enclave's records a new key. Only the system admin may.
    ///
    /// # Errors
    /// [`crate::api::ApiError::ROTATION_UNDER_WAY`], [`crate::api::ApiError::ENCLAVE_NOT_FOUND`].
    pub async fn rotate_enclave(&self, name: &EnclaveName) -> Result<(), Error> {
        self.act(Method::POST, Scope::Server, &path("/v1/enclave/rotate/", name.as_str())).await
    }

    /// Makes a new root key. Only the system admin may.
    ///
    /// # Errors
    /// [`crate::api::ApiError::ROTATION_UNDER_WAY`].
    pub async fn rotate_root(&self) -> Result<(), Error> {
        self.act(Method::POST, Scope::Server, "/v1/sys/rotate").await
    }

    /// Which versions of root and enclave keys there are.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rotation(&self) -> Result<Rotation, Error> {
        self.get(Scope::Server, "/v1/sys/rotation").await
    }
}

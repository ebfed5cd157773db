//! Identities: who is known in an enclave, and with which policy.

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Client, Error,
    call::{Scope, path},
    listing::zero_time,
};
use crate::api::{
    Identity,
    message::{IdentityInfo, SelfInfo},
};

/// One line of an identity listing.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IdentityEntry {
    /// Who.
    pub identity: Identity,
    /// Whether it is the enclave's admin.
    #[serde(default)]
    pub admin: bool,
    /// Name of its policy, or empty.
    #[serde(default)]
    pub policy: String,
    /// When it was assigned.
    pub created_at: Timestamp,
    /// Who assigned it, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
}

impl Client {
    /// What is known about an identity.
    ///
    /// # Errors
    /// [`crate::api::ApiError::IDENTITY_NOT_FOUND`].
    pub async fn describe_identity(&self, identity: &Identity) -> Result<IdentityInfo, Error> {
        self.get(Scope::Enclave, &path("/v1/identity/describe/", identity.as_str())).await
    }

    /// What is known about the caller.
    ///
    /// # Errors
    /// [`crate::api::ApiError::IDENTITY_NOT_FOUND`].
    pub async fn describe_self(&self) -> Result<SelfInfo, Error> {
        self.get(Scope::Enclave, "/v1/identity/self/describe").await
    }

    /// All identities that match `pattern`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_identities(&self, pattern: &str) -> Result<Vec<IdentityEntry>, Error> {
        self.list(Scope::Enclave, "/v1/identity/list/", pattern, |name| {
            Some(IdentityEntry {
                identity: Identity::new(&name).ok()?,
                admin: false,
                policy: String::new(),
                created_at: zero_time(),
                created_by: String::new(),
            })
        })
        .await
    }

    /// Forgets an identity; it is refused from then on.
    ///
    /// # Errors
    /// [`crate::api::ApiError::IDENTITY_NOT_FOUND`].
    pub async fn delete_identity(&self, identity: &Identity) -> Result<(), Error> {
        self.act(Method::DELETE, Scope::Enclave, &path("/v1/identity/delete/", identity.as_str())).await
    }
}

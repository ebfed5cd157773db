//! Policies: write, read, list, assign, delete.

use http::Method;

use super::{
    Client, Error,
    call::{Scope, path},
    listing::zero_time,
};
use crate::api::{
    Identity, PolicyName,
    message::{AssignPolicy, Policy, PolicyBody, PolicyInfo},
};

impl Client {
    /// Creates or replaces a policy.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write_policy(&self, name: &PolicyName, policy: &Policy) -> Result<(), Error> {
        self.change(Scope::Enclave, &path("/v1/policy/write/", name.as_str()), policy).await
    }

    /// A policy's rules.
    ///
    /// # Errors
    /// [`crate::api::ApiError::POLICY_NOT_FOUND`].
    pub async fn read_policy(&self, name: &PolicyName) -> Result<PolicyBody, Error> {
        self.get(Scope::Enclave, &path("/v1/policy/read/", name.as_str())).await
    }

    /// When and by whom a policy was written.
    ///
    /// # Errors
    /// [`crate::api::ApiError::POLICY_NOT_FOUND`].
    pub async fn describe_policy(&self, name: &PolicyName) -> Result<PolicyInfo, Error> {
        self.get(Scope::Enclave, &path("/v1/policy/describe/", name.as_str())).await
    }

    /// All policies whose name matches `pattern`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_policies(&self, pattern: &str) -> Result<Vec<PolicyInfo>, Error> {
        self.list(Scope::Enclave, "/v1/policy/list/", pattern, |name| {
            let name = PolicyName::new(&name).ok()?;
            Some(PolicyInfo { name: Some(name), created_at: zero_time(), created_by: String::new() })
        })
        .await
    }

    /// Deletes a policy; identities that have it are refused from then on.
    ///
    /// # Errors
    /// [`crate::api::ApiError::POLICY_NOT_FOUND`].
    pub async fn delete_policy(&self, name: &PolicyName) -> Result<(), Error> {
        self.act(Method::DELETE, Scope::Enclave, &path("/v1/policy/delete/", name.as_str())).await
    }

    /// Gives `identity` this policy, and only this one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn assign_policy(&self, name: &PolicyName, identity: &Identity) -> Result<(), Error> {
        let body = AssignPolicy { identity: identity.clone() };
        self.change(Scope::Enclave, &path("/v1/policy/assign/", name.as_str()), &body).await
    }
}

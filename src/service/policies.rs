//! Policies: written, read, listed, and given to identities.

use super::{
    Error, Service,
    listing::Filter,
    record::{IdentityBody, PolicyBody},
};
use crate::{
    api::{ApiError, Identity, PolicyName, message},
    authz::{Authorized, Policy, action},
    store::{Change, Kind, RecordKey},
};

impl Service {
    /// Writes a policy, replacing one of the same name.
    ///
    /// # Errors
    /// When a pattern is malformed, or the change could not be made.
    pub async fn write_policy(
        &self,
        proof: &Authorized<'_, action::WritePolicy>,
        name: &PolicyName,
        policy: &message::Policy,
    ) -> Result<(), Error> {
        Policy::compile(policy)?;
        let core = self.core()?;
        let enclave = core.view.get(proof.enclave())?;
        let key = RecordKey::of_enclave(Kind::Policy, enclave.id, name.as_str());
        let body = PolicyBody {
            allow: policy.allow.clone(),
            deny: policy.deny.clone(),
            matching: policy.matching,
            created_at: core.clock.now(),
            created_by: proof.identity().to_string(),
        };
        let value = core.sealer().seal_body(&enclave.secret, &key, &body, &*core.random)?;
        core.propose(Change::Put { key, value }, ApiError::POLICY_NOT_FOUND, ApiError::POLICY_NOT_FOUND).await
    }

    /// Removes a policy; identities that have it are refused everything from then on.
    ///
    /// # Errors
    /// [`ApiError::POLICY_NOT_FOUND`], or the change could not be made.
    pub async fn delete_policy(
        &self,
        proof: &Authorized<'_, action::DeletePolicy>,
        name: &PolicyName,
    ) -> Result<(), Error> {
        let core = self.core()?;
        let id = core.view.with(proof.enclave(), |enclave| enclave.id)?;
        let key = RecordKey::of_enclave(Kind::Policy, id, name.as_str());
        let missing = ApiError::POLICY_NOT_FOUND;
        core.propose(Change::Delete { key }, missing.clone(), missing).await
    }

    /// A policy as it was written.
    ///
    /// # Errors
    /// [`ApiError::POLICY_NOT_FOUND`].
    pub fn read_policy(
        &self,
        proof: &Authorized<'_, action::ReadPolicy>,
        name: &PolicyName,
    ) -> Result<message::PolicyBody, Error> {
        let enclave = self.core()?.view.get(proof.enclave())?;
        Ok(wire(&enclave.policy(name)?.body))
    }

    /// When and by whom a policy was written.
    ///
    /// # Errors
    /// [`ApiError::POLICY_NOT_FOUND`].
    pub fn describe_policy(
        &self,
        proof: &Authorized<'_, action::DescribePolicy>,
        name: &PolicyName,
    ) -> Result<message::PolicyInfo, Error> {
        let enclave = self.core()?.view.get(proof.enclave())?;
        Ok(info(name, &enclave.policy(name)?.body))
    }

    /// Policies whose names match `pattern`, by name.
    ///
    /// # Errors
    /// When the pattern is malformed.
    pub fn list_policies(
        &self,
        proof: &Authorized<'_, action::ListPolicies>,
        pattern: &str,
    ) -> Result<Vec<message::PolicyInfo>, Error> {
        let filter = Filter::parse(pattern)?;
        let enclave = self.core()?.view.get(proof.enclave())?;
        let mut found: Vec<_> =
            enclave.policies().filter(|(name, _)| filter.matches(name.as_str())).collect();
        found.sort_by_key(|(name, _)| *name);
        Ok(found.into_iter().map(|(name, policy)| info(name, &policy.body)).collect())
    }

    /// Gives an identity a policy, in place of any it had. The policy need not exist yet.
    ///
    /// # Errors
    /// When the identity is the caller or an admin, or the change could not be made.
    pub async fn assign_policy(
        &self,
        proof: &Authorized<'_, action::AssignPolicy>,
        name: &PolicyName,
        identity: &Identity,
    ) -> Result<(), Error> {
        let core = self.core()?;
        let enclave = core.view.get(proof.enclave())?;
        if *identity == core.system_admin {
            return Err(ApiError::ASSIGN_SYSTEM_ADMIN.into());
        }
        if identity == proof.identity() {
            return Err(ApiError::SELF_ASSIGN.into());
        }
        if *identity == enclave.admin {
            return Err(ApiError::ASSIGN_ADMIN.into());
        }
        let key = RecordKey::of_enclave(Kind::Identity, enclave.id, identity.as_str());
        let body =
            IdentityBody { policy: name.clone(), created_at: core.clock.now(), created_by: String::new() };
        let value = core.sealer().seal_body(&enclave.secret, &key, &body, &*core.random)?;
        let missing = ApiError::IDENTITY_NOT_FOUND;
        core.propose(Change::Put { key, value }, missing.clone(), missing).await
    }
}

fn info(name: &PolicyName, body: &PolicyBody) -> message::PolicyInfo {
    message::PolicyInfo {
        name: Some(name.clone()),
        created_at: body.created_at,
        created_by: body.created_by.clone(),
    }
}

pub(super) fn wire(body: &PolicyBody) -> message::PolicyBody {
    message::PolicyBody {
        allow: body.allow.clone(),
        deny: body.deny.clone(),
        matching: body.matching,
        created_at: body.created_at,
        created_by: body.created_by.clone(),
    }
}

//! Identities: described, listed, removed. They come to be by assigning a policy.

use super::{Error, Service, listing::Filter, policies::wire, zero_time};
use crate::{
    api::{ApiError, Identity, message},
    authz::{Authorized, action},
    store::{Change, Kind, RecordKey},
};

impl Service {
    /// What an identity is in the enclave.
    ///
    /// # Errors
    /// [`ApiError::IDENTITY_NOT_FOUND`].
    pub fn describe_identity(
        &self,
        proof: &Authorized<'_, action::DescribeIdentity>,
        identity: &Identity,
    ) -> Result<message::IdentityInfo, Error> {
        let enclave = self.core()?.view.get(proof.enclave())?;
        if *identity == enclave.admin {
            return Ok(message::IdentityInfo {
                admin: true,
                policy: String::new(),
                created_at: enclave.created_at,
                created_by: enclave.created_by.to_string(),
            });
        }
        let body = enclave.identity(identity)?;
        Ok(message::IdentityInfo {
            admin: false,
            policy: body.policy.to_string(),
            created_at: body.created_at,
            created_by: body.created_by.clone(),
        })
    }

    /// What the caller is, and its policy.
    ///
    /// # Errors
    /// [`ApiError::IDENTITY_NOT_FOUND`]; [`ApiError::POLICY_NOT_FOUND`] when its policy is not there.
    pub fn describe_self(
        &self,
        proof: &Authorized<'_, action::DescribeSelf>,
    ) -> Result<message::SelfInfo, Error> {
        let enclave = self.core()?.view.get(proof.enclave())?;
        let identity = proof.identity();
        if *identity == enclave.admin {
            return Ok(message::SelfInfo {
                identity: identity.clone(),
                admin: true,
                policy_name: String::new(),
                created_at: enclave.created_at,
                created_by: enclave.created_by.to_string(),
                policy: message::PolicyBody {
                    allow: Vec::new(),
                    deny: Vec::new(),
                    matching: message::Matching::default(),
                    created_at: zero_time(),
                    created_by: String::new(),
                },
            });
        }
        let body = enclave.identity(identity)?;
        Ok(message::SelfInfo {
            identity: identity.clone(),
            admin: false,
            policy_name: body.policy.to_string(),
            created_at: body.created_at,
            created_by: body.created_by.clone(),
            policy: wire(&enclave.policy(&body.policy)?.body),
        })
    }

    /// Identities whose names match `pattern`, by name. The admin is not among them.
    ///
    /// # Errors
    /// When the pattern is malformed.
    pub fn list_identities(
        &self,
        proof: &Authorized<'_, action::ListIdentities>,
        pattern: &str,
    ) -> Result<Vec<(Identity, message::IdentityInfo)>, Error> {
        let filter = Filter::parse(pattern)?;
        let enclave = self.core()?.view.get(proof.enclave())?;
        let mut found: Vec<_> = enclave.identities().filter(|(id, _)| filter.matches(id.as_str())).collect();
        found.sort_by_key(|(id, _)| *id);
        let info = |(id, body): (&Identity, &super::record::IdentityBody)| {
            let info = message::IdentityInfo {
                admin: false,
                policy: body.policy.to_string(),
                created_at: body.created_at,
                created_by: body.created_by.clone(),
            };
            (id.clone(), info)
        };
        Ok(found.into_iter().map(info).collect())
    }

    /// Removes an identity: it may do nothing from then on.
    ///
    /// # Errors
    /// [`ApiError::IDENTITY_NOT_FOUND`], [`ApiError::DELETE_ADMIN`], [`ApiError::DELETE_SYSTEM_ADMIN`], or the change could not be made.
    pub async fn delete_identity(
        &self,
        proof: &Authorized<'_, action::DeleteIdentity>,
        identity: &Identity,
    ) -> Result<(), Error> {
        let core = self.core()?;
        if *identity == core.system_admin {
            return Err(ApiError::DELETE_SYSTEM_ADMIN.into());
        }
        let enclave = core.view.get(proof.enclave())?;
        if *identity == enclave.admin {
            return Err(ApiError::DELETE_ADMIN.into());
        }
        let key = RecordKey::of_enclave(Kind::Identity, enclave.id, identity.as_str());
        let missing = ApiError::IDENTITY_NOT_FOUND;
        core.propose(Change::Delete { key }, missing.clone(), missing).await
    }
}

//! The decision, and the value that proves it.

use std::{fmt, marker::PhantomData};

use super::{
    action::{Action, Scope},
    policy::{Decision, Policy},
};
use crate::api::{EnclaveName, Identity};

/// What an identity is in an enclave (contract §3.3).
#[derive(Clone, Copy, Debug)]
pub enum Role<'p> {
    /// The one identity that manages enclaves; it has no rights inside them.
    SystemAdmin,
    /// The one identity that manages an enclave; policies do not bind it.
    EnclaveAdmin,
    /// An identity with a policy. Where the policy no longer exists it is [`Policy::EMPTY`].
    Assigned(&'p Policy),
    /// Anybody, also without a certificate, at a route that the server's configuration opens to everybody. Of no use for
    /// actions that [`may_be_open`] refuses.
    Guest,
    /// Anybody else.
    Unknown,
}

/// Whether the configuration may open an action to everybody: only what tells of the server and of nothing in it. KES
/// takes any route, also `/v1/key/create/`, against its own documentation.
#[must_use]
pub fn may_be_open(scope: Scope, action: &str) -> bool {
    scope == Scope::Public || matches!(action, "Ready" | "Status" | "Metrics" | "Api")
}

/// What decided: for the audit record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// The action is open to every caller.
    Public,
    /// The configuration opens the action to everybody.
    Open,
    /// The action is open to every identity of the enclave.
    Known,
    /// The caller is the enclave's admin.
    EnclaveAdmin,
    /// The caller is the system admin.
    SystemAdmin,
    /// The allow pattern with this index matched and no deny pattern did.
    Allow(usize),
    /// The deny pattern with this index matched.
    Deny(usize),
    /// Nothing permits it.
    Default,
}

/// Proof that `identity` may do `A` in `enclave`.
///
/// Only [`authorize`] makes one:
/// ```compile_fail,E0451
/// use kes::{api::{EnclaveName, Identity}, authz::{Authorized, Rule, action::CreateKey}};
/// fn forge<'r>(identity: &'r Identity, enclave: &'r EnclaveName) -> Authorized<'r, CreateKey> {
///     Authorized { identity, enclave, rule: Rule::SystemAdmin, action: std::marker::PhantomData }
/// }
/// ```
/// and one for another action does not do:
/// ```compile_fail,E0308
/// use kes::authz::{Authorized, action::{DecryptKey, EncryptKey}};
/// fn encrypt(proof: Authorized<'_, EncryptKey>) {}
/// fn decrypt(proof: Authorized<'_, DecryptKey>) { encrypt(proof) }
/// ```
/// nor is there one by default or by cloning:
/// ```compile_fail,E0277
/// use kes::authz::{Authorized, action::CreateKey};
/// fn make<T: Default>() {}
/// make::<Authorized<'static, CreateKey>>();
/// ```
#[must_use = "an authorisation that nobody uses guards nothing"]
pub struct Authorized<'r, A> {
    identity: &'r Identity,
    enclave: &'r EnclaveName,
    rule: Rule,
    action: PhantomData<fn() -> A>,
}

/// The refusal. Its text is the contract's and does not say why; the rule is for the audit record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not authorized: insufficient permissions")]
pub struct Denied {
    /// What decided: [`Rule::Deny`] or [`Rule::Default`].
    pub rule: Rule,
}

/// Decides whether `caller`, who has `role` in `enclave`, may do `A`, and proves it.
///
/// `path` is the request's path after percent-decoding, as policies see it. It is not looked at outside
/// [`Scope::Enclave`].
///
/// # Errors
/// [`Denied`] with the rule that decided.
pub fn authorize<'r, A: Action>(
    caller: &'r Identity,
    enclave: &'r EnclaveName,
    role: Role<'_>,
    path: &str,
) -> Result<Authorized<'r, A>, Denied> {
    let rule = match role {
        Role::Guest if may_be_open(A::SCOPE, A::NAME) => Rule::Open,
        role => decide(A::SCOPE, role, path)?,
    };
    Ok(Authorized { identity: caller, enclave, rule, action: PhantomData })
}

fn decide(scope: Scope, role: Role<'_>, path: &str) -> Result<Rule, Denied> {
    match (scope, role) {
        (Scope::Public, _) => Ok(Rule::Public),
        (Scope::Caller, Role::EnclaveAdmin | Role::Assigned(_)) => Ok(Rule::Known),
        (Scope::Enclave, Role::EnclaveAdmin) => Ok(Rule::EnclaveAdmin),
        (Scope::Enclave, Role::Assigned(policy)) => match policy.decide(path) {
            Decision::Allow(index) => Ok(Rule::Allow(index)),
            Decision::Deny(Some(index)) => Err(Denied { rule: Rule::Deny(index) }),
            Decision::Deny(None) => Err(Denied { rule: Rule::Default }),
        },
        (Scope::System, Role::SystemAdmin) => Ok(Rule::SystemAdmin),
        (Scope::Caller | Scope::Enclave, Role::SystemAdmin | Role::Guest | Role::Unknown)
        | (Scope::System, Role::EnclaveAdmin | Role::Assigned(_) | Role::Guest | Role::Unknown) => {
            Err(Denied { rule: Rule::Default })
        }
    }
}

impl<'r, A> Authorized<'r, A> {
    /// Who asked.
    #[must_use]
    pub fn identity(&self) -> &'r Identity {
        self.identity
    }

    /// Where it was asked for. For [`Scope::System`] and [`Scope::Public`] whatever the request named.
    #[must_use]
    pub fn enclave(&self) -> &'r EnclaveName {
        self.enclave
    }

    /// What permitted it.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }
}

impl<A: Action> fmt::Debug for Authorized<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {} in {} by {}", A::NAME, self.identity, self.enclave, self.rule)
    }
}

impl Rule {
    /// What it is called and, for a pattern, its place in its list.
    #[must_use]
    pub fn parts(self) -> (&'static str, Option<usize>) {
        match self {
            Self::Public => ("public", None),
            Self::Open => ("open", None),
            Self::Known => ("known", None),
            Self::EnclaveAdmin => ("enclave-admin", None),
            Self::SystemAdmin => ("system-admin", None),
            Self::Allow(index) => ("allow", Some(index)),
            Self::Deny(index) => ("deny", Some(index)),
            Self::Default => ("default", None),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (word, None) => f.write_str(word),
            (word, Some(index)) => write!(f, "{word}[{index}]"),
        }
    }
}

impl From<Denied> for crate::api::ApiError {
    fn from(_: Denied) -> Self {
        Self::NOT_ALLOWED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::message, authz::action};

    #[test]
    fn roles_and_scopes_meet_as_in_the_contract() {
        let policy = Policy::compile(&message::Policy {
            allow: vec!["/v1/key/*/x".into()],
            deny: vec!["/v1/key/delete/*".into()],
            ..message::Policy::default()
        })
        .unwrap();
        let refuse = |rule| Err(Denied { rule });
        for (scope, path, system, enclave, assigned, unknown) in [
            (
                Scope::Public,
                "/version",
                Ok(Rule::Public),
                Ok(Rule::Public),
                Ok(Rule::Public),
                Ok(Rule::Public),
            ),
            (
                Scope::Caller,
                "/v1/identity/self/describe",
                refuse(Rule::Default),
                Ok(Rule::Known),
                Ok(Rule::Known),
                refuse(Rule::Default),
            ),
            (
                Scope::Enclave,
                "/v1/key/create/x",
                refuse(Rule::Default),
                Ok(Rule::EnclaveAdmin),
                Ok(Rule::Allow(0)),
                refuse(Rule::Default),
            ),
            (
                Scope::Enclave,
                "/v1/key/delete/x",
                refuse(Rule::Default),
                Ok(Rule::EnclaveAdmin),
                refuse(Rule::Deny(0)),
                refuse(Rule::Default),
            ),
            (
                Scope::Enclave,
                "/v1/status",
                refuse(Rule::Default),
                Ok(Rule::EnclaveAdmin),
                refuse(Rule::Default),
                refuse(Rule::Default),
            ),
            (
                Scope::System,
                "/v1/key/create/x",
                Ok(Rule::SystemAdmin),
                refuse(Rule::Default),
                refuse(Rule::Default),
                refuse(Rule::Default),
            ),
        ] {
            assert_eq!(decide(scope, Role::SystemAdmin, path), system, "system admin {scope:?} {path}");
            assert_eq!(decide(scope, Role::EnclaveAdmin, path), enclave, "enclave admin {scope:?} {path}");
            assert_eq!(decide(scope, Role::Assigned(&policy), path), assigned, "assigned {scope:?} {path}");
            assert_eq!(decide(scope, Role::Unknown, path), unknown, "unknown {scope:?} {path}");
        }
    }

    #[test]
    fn an_identity_whose_policy_is_gone_is_known_but_may_nothing() {
        assert_eq!(decide(Scope::Caller, Role::Assigned(&Policy::EMPTY), "/"), Ok(Rule::Known));
        assert!(decide(Scope::Enclave, Role::Assigned(&Policy::EMPTY), "/v1/status").is_err());
    }

    #[test]
    fn a_proof_carries_who_where_and_why() {
        let (identity, enclave) = (Identity::new("someone").unwrap(), EnclaveName::default_enclave());
        let proof =
            authorize::<action::CreateKey>(&identity, &enclave, Role::EnclaveAdmin, "/v1/key/create/x")
                .unwrap();
        assert_eq!(
            (proof.identity(), proof.enclave(), proof.rule()),
            (&identity, &enclave, Rule::EnclaveAdmin)
        );
        assert_eq!(format!("{proof:?}"), "CreateKey for someone in default by enclave-admin");
        let denied = authorize::<action::Seal>(&identity, &enclave, Role::EnclaveAdmin, "/").unwrap_err();
        assert_eq!(crate::api::ApiError::from(denied), crate::api::ApiError::NOT_ALLOWED);
        assert_eq!(denied.to_string(), crate::api::ApiError::NOT_ALLOWED.message());
    }
}

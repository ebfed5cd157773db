//! Brings enclaves, policies, identities and keys up to date through the key API. Reads first, writes only what differs.
//!
//! Order: the enclave, since all else is in it; policies before identities that get them; keys last. Nothing is
//! deleted: what leaves the spec stays, and a key always does.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    keyring::{self, Keyring},
    purpose::Purpose,
    validate::{Enclave, Grant, Tenant, Wanted},
};
use crate::{
    api::{ApiError, EnclaveName, Fault, Identity, KeyName, PolicyName, message::Policy},
    client,
    operator::{key_service::Address, names},
};

/// Which step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to {step}: {source}")]
    Call { step: String, source: client::Error },
    #[error("failed to use the certificate of {purpose}: {source}")]
    Certificate { purpose: String, source: keyring::Error },
}

impl Error {
    /// The step and the problem apart, for the status.
    pub(crate) fn parts(&self) -> (String, String) {
        match self {
            Self::Call { step, source } => (step.clone(), source.to_string()),
            Self::Certificate { purpose, source } => {
                (format!("use the certificate of {purpose}"), source.to_string())
            }
        }
    }
}

/// What was found and done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Contents {
    /// Keys of the spec and its tenants, all of which exist.
    pub(crate) keys: usize,
    /// What was changed, in words.
    pub(crate) changes: Vec<String>,
}

/// What one enclave shall hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) enclave: EnclaveName,
    pub(crate) policies: BTreeMap<PolicyName, Policy>,
    pub(crate) assignments: BTreeMap<Identity, PolicyName>,
    pub(crate) keys: BTreeSet<KeyName>,
}

/// The target of each enclave. Applications whose Secret is lost are left out.
pub(crate) fn targets(wanted: &Wanted, ring: &Keyring) -> Vec<Target> {
    wanted.enclaves.iter().map(|enclave| target(wanted, enclave, ring)).collect()
}

fn target(wanted: &Wanted, enclave: &Enclave, ring: &Keyring) -> Target {
    let Enclave { name: enclave_name, keys, policies, identities } = enclave;
    let mut target = Target {
        enclave: enclave_name.clone(),
        policies: policies.clone(),
        assignments: BTreeMap::new(),
        keys: keys.clone(),
    };
    for Grant { name, policy, secret } in identities {
        let purpose =
            Purpose::Identity { enclave: enclave_name.clone(), name: name.clone(), secret: secret.clone() };
        if let Ok(identity) = ring.identity(&purpose) {
            target.assignments.insert(identity, policy.clone());
        }
    }
    for tenant in wanted.tenants.iter().filter(|tenant| tenant.enclave == *enclave_name) {
        target.keys.insert(tenant.key.clone());
        let policy = tenant.policy.clone().unwrap_or_else(|| {
            let name = names::tenant_policy(&tenant.namespace, &tenant.name);
            target.policies.insert(name.clone(), tenant_policy(tenant, &wanted.tenants));
            name
        });
        let purpose = Purpose::Tenant { namespace: tenant.namespace.clone(), name: tenant.name.clone() };
        if let Ok(identity) = ring.identity(&purpose) {
            target.assignments.insert(identity, policy);
        }
    }
    target
}

/// What MinIO needs, minus two things.
///
/// It may not create its default key: MinIO does that when the key is missing, and on a key store that was emptied
/// or exchanged it would get other key material under the old name, after which nothing written before can be read.
/// The operator creates the key. And it may not use the default keys of the other tenants, since MinIO cannot
/// choose an enclave and so all tenants share one. A stricter policy can be named in `spec.tenants[].policy`.
fn tenant_policy(tenant: &Tenant, tenants: &[Tenant]) -> Policy {
    let allow = [
        "/v1/key/create/*",
        "/v1/key/generate/*",
        "/v1/key/decrypt/*",
        "/v1/key/describe/*",
        "/v1/key/list/*",
        "/v1/status",
        "/v1/api",
        "/v1/metrics",
    ];
    let mut deny = BTreeSet::from([format!("/v1/key/create/{}", tenant.key)]);
    for other in tenants.iter().filter(|other| other.enclave == tenant.enclave && other.key != tenant.key) {
        for action in ["create", "generate", "decrypt", "describe"] {
            deny.insert(format!("/v1/key/{action}/{}", other.key));
        }
    }
    Policy { allow: allow.map(str::to_owned).into(), deny: deny.into_iter().collect(), ..Policy::default() }
}

/// Converges all enclaves.
///
/// # Errors
/// The first step that fails; the next pass begins anew, since every step may be repeated.
pub(crate) async fn converge(
    address: &Address,
    ring: &Keyring,
    targets: &[Target],
) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    for target in targets {
        ensure_enclave(address, ring, &target.enclave, &mut contents).await?;
        let admin = Purpose::EnclaveAdmin(target.enclave.clone());
        let client = connect(address, ring, &admin, Some(&target.enclave))?;
        fill(&client, target, &mut contents).await?;
        contents.keys += target.keys.len();
    }
    Ok(contents)
}

async fn ensure_enclave(
    address: &Address,
    ring: &Keyring,
    enclave: &EnclaveName,
    contents: &mut Contents,
) -> Result<(), Error> {
    let system = connect(address, ring, &Purpose::SystemAdmin, None)?;
    let found = absent_is_none(system.describe_enclave(enclave).await);
    if found.map_err(call(format!("read enclave {enclave}")))?.is_some() {
        return Ok(());
    }
    let purpose = Purpose::EnclaveAdmin(enclave.clone());
    let admin = ring.identity(&purpose).map_err(certificate(&purpose))?;
    exists_is_fine(system.create_enclave(enclave, &admin).await, &ApiError::ENCLAVE_EXISTS)
        .map_err(call(format!("create enclave {enclave}")))?;
    contents.changes.push(format!("created enclave {enclave}"));
    Ok(())
}

async fn fill(client: &client::Client, target: &Target, contents: &mut Contents) -> Result<(), Error> {
    let Target { enclave, policies, assignments, keys } = target;
    for (name, policy) in policies {
        let found =
            absent_is_none(client.read_policy(name).await).map_err(call(format!("read policy {name}")))?;
        if found.is_none_or(|found| found.allow != policy.allow || found.deny != policy.deny) {
            client.write_policy(name, policy).await.map_err(call(format!("write policy {name}")))?;
            contents.changes.push(format!("wrote policy {name} in enclave {enclave}"));
        }
    }
    for (identity, policy) in assignments {
        let found = absent_is_none(client.describe_identity(identity).await)
            .map_err(call(format!("read identity {identity}")))?;
        if found.is_none_or(|found| found.policy != policy.as_str()) {
            client
                .assign_policy(policy, identity)
                .await
                .map_err(call(format!("assign policy {policy} to identity {identity}")))?;
            contents.changes.push(format!("assigned policy {policy} to identity {identity}"));
        }
    }
    for key in keys {
        let found =
            absent_is_none(client.describe_key(key).await).map_err(call(format!("read key {key}")))?;
        if found.is_none() {
            exists_is_fine(client.create_key(key).await, &ApiError::KEY_EXISTS)
                .map_err(call(format!("create key {key}")))?;
            contents.changes.push(format!("created key {key} in enclave {enclave}"));
        }
    }
    Ok(())
}

fn connect(
    address: &Address,
    ring: &Keyring,
    purpose: &Purpose,
    enclave: Option<&EnclaveName>,
) -> Result<client::Client, Error> {
    let identity = ring.client(purpose).map_err(certificate(purpose))?;
    address.client(identity, enclave).map_err(call(format!("connect as {purpose}")))
}

fn call(step: String) -> impl FnOnce(client::Error) -> Error {
    |source| Error::Call { step, source }
}

fn certificate(purpose: &Purpose) -> impl FnOnce(keyring::Error) -> Error {
    let purpose = purpose.to_string();
    |source| Error::Certificate { purpose, source }
}

/// 404 is an answer, not a failure.
fn absent_is_none<T>(answer: Result<T, client::Error>) -> Result<Option<T>, client::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.api().is_some_and(|error| error.fault() == Fault::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Somebody else was faster, or an answer to us was lost.
fn exists_is_fine(answer: Result<(), client::Error>, exists: &ApiError) -> Result<(), client::Error> {
    match answer {
        Err(error) if error.api().is_some_and(|error| error.message() == exists.message()) => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::validate::fixture, *};

    #[test]
    fn a_tenant_cannot_create_its_default_key_anew_nor_use_those_of_others() {
        let mut wanted = fixture::wanted();
        let mut second = wanted.tenants[0].clone();
        second.name = "other".into();
        second.key = KeyName::new("other-key").unwrap();
        wanted.tenants.push(second);
        let targets = targets(&wanted, &Keyring::default());
        let policy = &targets[0].policies[&names::tenant_policy("tenant-lite", "myminio")];
        insta::assert_yaml_snapshot!("tenant_policy", policy);
        assert!(targets[0].keys.contains(&KeyName::new("minio-default-key").unwrap()));
    }

    #[test]
    fn a_tenant_with_a_policy_of_its_own_gets_no_other() {
        let mut wanted = fixture::wanted();
        wanted.tenants[0].policy = Some(PolicyName::new("reader").unwrap());
        let targets = targets(&wanted, &Keyring::default());
        assert_eq!(targets[0].policies.len(), 1);
    }
}

//! Brings enclaves, policies, identities and keys up to date through the key API. Reads first, writes only what differs.
//!
//! Order: the enclave, since all else is in it; policies before identities that get them; keys; and last what left the
//! spec. Of that, identities and policies go, because they can be made again. Keys and enclaves never do: what was
//! encrypted with them could not be read any more. Only what the operator itself put there is ever taken away.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    keyring::{self, Keyring},
    purpose::Purpose,
    wanted::{Enclave, Grant, Standing, Tenant, Wanted},
};
use crate::{
    api::{
        ApiError, EnclaveName, Fault, Identity, KeyName, PolicyName,
        message::{Policy, PolicyBody},
    },
    client,
    crd::{EnclaveContents, IssuedSecret},
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
    /// What is there now because of us.
    pub(crate) record: Vec<EnclaveContents>,
    /// What left the spec and is kept, in words.
    pub(crate) kept: Vec<String>,
    /// Keys of the spec that existed and are gone, in words.
    pub(crate) lost: Vec<String>,
}

/// What one enclave shall hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) enclave: EnclaveName,
    pub(crate) policies: BTreeMap<PolicyName, Policy>,
    pub(crate) assignments: BTreeMap<Identity, PolicyName>,
    pub(crate) keys: BTreeSet<KeyName>,
    /// Of applications and tenants that still run with what they have: not written, and not taken away.
    pub(crate) untouched: Untouched,
}

/// What is in use although nothing is to be written about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Untouched {
    pub(crate) identities: BTreeSet<String>,
    pub(crate) policies: BTreeSet<String>,
}

/// The target of each enclave. Applications whose Secret is lost are known by its record only.
pub(crate) fn targets(wanted: &Wanted, ring: &Keyring, secrets: &[IssuedSecret]) -> Vec<Target> {
    wanted.enclaves.iter().map(|enclave| target(wanted, enclave, ring, secrets)).collect()
}

fn target(wanted: &Wanted, enclave: &Enclave, ring: &Keyring, secrets: &[IssuedSecret]) -> Target {
    let Enclave { name: enclave_name, keys, policies, identities } = enclave;
    let mut target = Target {
        enclave: enclave_name.clone(),
        policies: policies.clone(),
        assignments: BTreeMap::new(),
        keys: keys.clone(),
        untouched: Untouched::default(),
    };
    let recorded = |purpose: &Purpose| {
        let name = purpose.secret(&wanted.name);
        secrets.iter().find(|known| known.name == name).map(|known| known.fingerprint.clone())
    };
    for Grant { name, policy, secret } in identities {
        let purpose =
            Purpose::Identity { enclave: enclave_name.clone(), name: name.clone(), secret: secret.clone() };
        match ring.identity(&purpose) {
            Ok(identity) => drop(target.assignments.insert(identity, policy.clone())),
            Err(_) => target.untouched.identities.extend(recorded(&purpose)),
        }
    }
    for tenant in wanted.tenants.iter().filter(|tenant| tenant.enclave == *enclave_name) {
        target.keys.insert(tenant.key.clone());
        let purpose = Purpose::Tenant { namespace: tenant.namespace.clone(), name: tenant.name.clone() };
        if tenant.standing != Standing::Wanted {
            // as long as MinIO runs with it, it keeps what it had
            target.untouched.identities.extend(recorded(&purpose));
            let policy = names::tenant_policy(&tenant.namespace, &tenant.name);
            target.untouched.policies.insert(policy.to_string());
            continue;
        }
        let policy = tenant.policy.clone().unwrap_or_else(|| {
            let name = names::tenant_policy(&tenant.namespace, &tenant.name);
            target.policies.insert(name.clone(), tenant_policy(tenant, &wanted.tenants, keys));
            name
        });
        match ring.identity(&purpose) {
            Ok(identity) => drop(target.assignments.insert(identity, policy)),
            Err(_) => target.untouched.identities.extend(recorded(&purpose)),
        }
    }
    target
}

/// What MinIO needs, minus two things.
///
/// It may not create its default key: MinIO does that when the key is missing, and on a key store that was emptied
/// or exchanged it would get other key material under the old name, after which nothing written before can be read.
/// The operator creates the key. And it may not use the default keys of the other tenants, nor those that the
/// spec has for applications, since MinIO cannot choose an enclave and so all of them share one. A stricter policy can be named in `spec.tenants[].policy`.
fn tenant_policy(tenant: &Tenant, tenants: &[Tenant], applications: &BTreeSet<KeyName>) -> Policy {
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
    let others = tenants.iter().filter(|other| other.enclave == tenant.enclave).map(|other| &other.key);
    for key in others.chain(applications).filter(|key| **key != tenant.key) {
        for action in ["create", "generate", "decrypt", "describe"] {
            deny.insert(format!("/v1/key/{action}/{key}"));
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
    before: &[EnclaveContents],
) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    for target in targets {
        ensure_enclave(address, ring, &target.enclave, &mut contents).await?;
        let admin = Purpose::EnclaveAdmin(target.enclave.clone());
        let client = connect(address, ring, &admin, Some(&target.enclave))?;
        let before = before.iter().find(|known| known.enclave == target.enclave.as_str());
        let existed = before.map(|before| before.keys.as_slice()).unwrap_or_default();
        contents.keys += fill(&client, target, existed, &mut contents).await?;
        let record = tidy(&client, target, before, &mut contents).await?;
        contents.record.push(record);
    }
    for left in
        before.iter().filter(|known| !targets.iter().any(|target| target.enclave.as_str() == known.enclave))
    {
        contents.kept.push(format!("enclave {} with everything in it", left.enclave));
        contents.record.push(left.clone());
    }
    Ok(contents)
}

/// The keys of `targets`, as if they had been made.
pub(crate) fn expected(targets: &[Target]) -> Vec<EnclaveContents> {
    let keys = |target: &Target| target.keys.iter().map(ToString::to_string).collect();
    targets
        .iter()
        .map(|target| EnclaveContents {
            enclave: target.enclave.to_string(),
            keys: keys(target),
            ..EnclaveContents::default()
        })
        .collect()
}

/// Takes away what the operator put there and the spec no longer asks for. Returns what is there now because of us.
async fn tidy(
    client: &client::Client,
    target: &Target,
    before: Option<&EnclaveContents>,
    contents: &mut Contents,
) -> Result<EnclaveContents, Error> {
    let Target { enclave, policies, assignments, keys, untouched } = target;
    let mut record = EnclaveContents {
        enclave: enclave.to_string(),
        keys: keys.iter().map(ToString::to_string).collect(),
        policies: policies.keys().map(ToString::to_string).collect(),
        identities: assignments.keys().map(ToString::to_string).collect(),
    };
    record.policies.extend(untouched.policies.iter().cloned());
    record.identities.extend(untouched.identities.iter().cloned());
    let left = |before: &[String], now: &[String]| -> Vec<String> {
        before.iter().filter(|name| !now.contains(name)).cloned().collect()
    };
    let empty = EnclaveContents::default();
    let before = before.unwrap_or(&empty);
    for identity in left(&before.identities, &record.identities) {
        let Ok(identity) = Identity::new(&identity) else { continue };
        absent_is_none(client.delete_identity(&identity).await)
            .map_err(call(format!("forget identity {identity}")))?;
        contents.changes.push(format!("forgot identity {identity} of enclave {enclave}"));
    }
    let policies = left(&before.policies, &record.policies);
    if !policies.is_empty() {
        let used =
            client.list_identities("*").await.map_err(call(format!("list identities of {enclave}")))?;
        for policy in policies {
            if used.iter().any(|entry| entry.policy == policy) {
                contents.kept.push(format!(
                    "policy {policy} of enclave {enclave}, which identities have that others gave it to"
                ));
                record.policies.push(policy);
                continue;
            }
            let Ok(name) = PolicyName::new(&policy) else { continue };
            absent_is_none(client.delete_policy(&name).await)
                .map_err(call(format!("delete policy {policy}")))?;
            contents.changes.push(format!("deleted policy {policy} of enclave {enclave}"));
        }
    }
    for key in left(&before.keys, &record.keys) {
        let Ok(name) = KeyName::new(&key) else { continue };
        let found =
            absent_is_none(client.describe_key(&name).await).map_err(call(format!("read key {key}")))?;
        if found.is_some() {
            contents.kept.push(format!("key {key} of enclave {enclave}"));
            record.keys.push(key);
        }
    }
    for names in [&mut record.keys, &mut record.policies, &mut record.identities] {
        names.sort();
        names.dedup();
    }
    Ok(record)
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

/// Writes what differs. `existed` are keys that were there after an earlier pass; the answer is how many are there now.
async fn fill(
    client: &client::Client,
    target: &Target,
    existed: &[String],
    contents: &mut Contents,
) -> Result<usize, Error> {
    let mut there = 0;
    let Target { enclave, policies, assignments, keys, untouched: _ } = target;
    for (name, policy) in policies {
        let found =
            absent_is_none(client.read_policy(name).await).map_err(call(format!("read policy {name}")))?;
        if found.is_none_or(|found| !is_same(&found, policy)) {
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
        if found.is_none() && existed.iter().any(|known| known == key.as_str()) {
            contents.lost.push(format!("{key} of enclave {enclave}"));
            continue;
        }
        there += 1;
        if found.is_none() {
            exists_is_fine(client.create_key(key).await, &ApiError::KEY_EXISTS)
                .map_err(call(format!("create key {key}")))?;
            contents.changes.push(format!("created key {key} in enclave {enclave}"));
        }
    }
    Ok(there)
}

/// Whether a policy says what is wanted.
fn is_same(found: &PolicyBody, wanted: &Policy) -> bool {
    let Policy { allow, deny, matching } = wanted;
    found.allow == *allow && found.deny == *deny && found.matching == *matching
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
        let targets = targets(&wanted, &Keyring::default(), &[]);
        let policy = &targets[0].policies[&names::tenant_policy("tenant-lite", "myminio")];
        insta::assert_yaml_snapshot!("tenant_policy", policy);
        assert!(targets[0].keys.contains(&KeyName::new("minio-default-key").unwrap()));
    }

    /// What a volume that is taken up again lacks counts as lost: nobody knows whether it was there.
    #[test]
    fn every_key_of_the_spec_and_of_its_tenants_is_expected() {
        let expected = expected(&targets(&fixture::wanted(), &Keyring::default(), &[]));
        let keys: Vec<_> = expected.iter().flat_map(|enclave| &enclave.keys).collect();
        assert_eq!(expected[0].enclave, "default");
        assert!(keys.contains(&&"minio-default-key".to_owned()), "{keys:?}");
        assert!(expected.iter().all(|enclave| enclave.policies.is_empty() && enclave.identities.is_empty()));
    }

    #[test]
    fn a_tenant_with_a_policy_of_its_own_gets_no_other() {
        let mut wanted = fixture::wanted();
        wanted.tenants[0].policy = Some(PolicyName::new("reader").unwrap());
        let targets = targets(&wanted, &Keyring::default(), &[]);
        assert_eq!(targets[0].policies.len(), 1);
    }

    #[test]
    fn what_still_runs_is_neither_written_nor_taken_away() {
        let mut wanted = fixture::wanted();
        wanted.tenants[0].standing = Standing::Left { unwire: false };
        let record =
            |name: &str| IssuedSecret { name: name.into(), fingerprint: format!("identity of {name}") };
        let secrets = [record("vault-tenant-tenant-lite.myminio"), record("app-1-kes")];
        let target = &targets(&wanted, &Keyring::default(), &secrets)[0];
        assert_eq!(target.policies.keys().map(ToString::to_string).collect::<Vec<_>>(), ["reader"]);
        assert!(target.assignments.is_empty());
        let Untouched { identities, policies } = &target.untouched;
        assert_eq!(policies, &["tenant-tenant-lite_myminio".to_owned()].into());
        let expected = ["identity of app-1-kes", "identity of vault-tenant-tenant-lite.myminio"];
        assert_eq!(identities, &expected.map(str::to_owned).into());
    }
}

//! Brings enclaves, policies, identities and keys up to date through the key API. Reads first, writes only what differs.
//!
//! Order: the enclave, since all else is in it; policies before identities that get them; keys; and last what left the
//! spec. Of that, identities and policies go, because they can be made again. Keys and enclaves never do: what was
//! encrypted with them could not be read any more. Only what the operator itself put there is ever taken away.

use super::{
    keyring::{self, Keyring},
    purpose::Purpose,
    target::{OfTenant, Target},
};
use crate::{
    api::{
        ApiError, EnclaveName, Fault, Identity, KeyName, PolicyName,
        message::{Policy, PolicyBody},
    },
    client,
    crd::EnclaveContents,
    operator::{key_service::Address, requests::TenantRef, rule::Rule},
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
    /// Whether the key API understood and said no, so that it may say yes to something else.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.api().is_some())
    }

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
    /// What the key API refused; the rest went on.
    pub(crate) refused: Vec<Refused>,
}

/// A step that the key API refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refused {
    pub(crate) concerns: Concerns,
    pub(crate) step: String,
    pub(crate) problem: String,
}

/// Whom a refusal is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Concerns {
    /// What the spec has for applications.
    Spec,
    /// These tenants and nobody else.
    Tenants(Vec<TenantRef>),
    /// Something that left the spec.
    Leftover,
}

impl Contents {
    /// Collects what was refused; anything else ends the pass.
    fn refuse(&mut self, error: Error, concerns: Concerns) -> Result<(), Error> {
        if !error.is_answer() {
            return Err(error);
        }
        let (step, problem) = error.parts();
        self.refused.push(Refused { concerns, step, problem });
        Ok(())
    }
}

/// What the key API refused, by whom it stops.
#[derive(Default)]
pub(crate) struct Refusals {
    /// What the spec has for applications: the cluster is not as it shall be.
    pub(crate) spec: Option<Rule>,
    pub(crate) tenants: Vec<(TenantRef, String)>,
    pub(crate) notes: Vec<Rule>,
}

pub(crate) fn refusals(contents: &Contents) -> Refusals {
    let mut refusals = Refusals::default();
    for Refused { concerns, step, problem } in &contents.refused {
        let rule = Rule::ContentsRefused { step: step.clone(), problem: problem.clone() };
        match concerns {
            Concerns::Spec => refusals.spec = refusals.spec.or(Some(rule)),
            Concerns::Leftover => refusals.notes.push(rule),
            Concerns::Tenants(tenants) => {
                refusals.tenants.extend(tenants.iter().map(|tenant| (tenant.clone(), rule.to_string())));
                refusals.notes.push(rule);
            }
        }
    }
    refusals
}

/// The tenants that something is made for; without any it is the spec's.
fn whose(target: &Target, is_its: impl Fn(&OfTenant) -> bool) -> Concerns {
    let tenants = target.tenants.iter().filter(|tenant| is_its(tenant));
    let tenants: Vec<_> = tenants.map(|tenant| (tenant.namespace.clone(), tenant.name.clone())).collect();
    if tenants.is_empty() { Concerns::Spec } else { Concerns::Tenants(tenants) }
}

/// Converges all enclaves.
///
/// # Errors
/// The first step that gets no answer, or without which nothing else can be done; the next pass begins anew, since every
/// step may be repeated. A step that is refused stops only those that it is about.
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
        let empty = EnclaveContents::default();
        let before = before.unwrap_or(&empty);
        let there = fill(&client, target, before, &mut contents).await?;
        let record = tidy(&client, target, before, there, &mut contents).await?;
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

/// Takes away what the operator put there and the spec no longer asks for. Returns what is there now because of us, of which
/// `record` has what the spec asks for.
async fn tidy(
    client: &client::Client,
    target: &Target,
    before: &EnclaveContents,
    mut record: EnclaveContents,
    contents: &mut Contents,
) -> Result<EnclaveContents, Error> {
    let enclave = &target.enclave;
    let left = |before: &[String], now: &[String]| -> Vec<String> {
        before.iter().filter(|name| !now.contains(name)).cloned().collect()
    };
    for identity in left(&before.identities, &record.identities) {
        let Ok(parsed) = Identity::new(&identity) else { continue };
        let gone = absent_is_none(client.delete_identity(&parsed).await)
            .map_err(call(format!("forget identity {identity}")));
        match gone {
            Ok(_) => contents.changes.push(format!("forgot identity {identity} of enclave {enclave}")),
            Err(error) => {
                contents.refuse(error, Concerns::Leftover)?;
                record.identities.push(identity);
            }
        }
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
            let gone = absent_is_none(client.delete_policy(&name).await)
                .map_err(call(format!("delete policy {policy}")));
            match gone {
                Ok(_) => contents.changes.push(format!("deleted policy {policy} of enclave {enclave}")),
                Err(error) => {
                    contents.refuse(error, Concerns::Leftover)?;
                    record.policies.push(policy);
                }
            }
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
    record.key_owners = target.key_owners(&record.keys, before);
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

/// Writes what differs. Returns what the spec asks for and is there now, or was before and may be.
async fn fill(
    client: &client::Client,
    target: &Target,
    before: &EnclaveContents,
    contents: &mut Contents,
) -> Result<EnclaveContents, Error> {
    let Target { enclave, policies, assignments, keys, tenants: _, applications, untouched } = target;
    let mut there = EnclaveContents { enclave: enclave.to_string(), ..EnclaveContents::default() };
    for (name, policy) in policies {
        let changed = fill_policy(client, name, policy).await;
        match changed {
            Ok(true) => contents.changes.push(format!("wrote policy {name} in enclave {enclave}")),
            Ok(false) => {}
            Err(error) => {
                contents.refuse(error, whose(target, |tenant| tenant.policy.as_ref() == Some(name)))?;
                // what was not written by us may be somebody else's
                if !before.policies.iter().any(|known| known == name.as_str()) {
                    continue;
                }
            }
        }
        there.policies.push(name.to_string());
    }
    for (identity, policy) in assignments {
        match fill_identity(client, identity, policy).await {
            Ok(true) => contents.changes.push(format!("assigned policy {policy} to identity {identity}")),
            Ok(false) => {}
            Err(error) => {
                contents.refuse(error, whose(target, |tenant| tenant.identity.as_ref() == Some(identity)))?;
                if !before.identities.iter().any(|known| known == identity.as_str()) {
                    continue;
                }
            }
        }
        there.identities.push(identity.to_string());
    }
    for key in keys {
        let existed = before.keys.iter().any(|known| known == key.as_str());
        match fill_key(client, key, existed).await {
            Ok(Filled::Lost) => contents.lost.push(format!("{key} of enclave {enclave}")),
            Ok(Filled::There) => contents.keys += 1,
            Ok(Filled::Made) => {
                contents.keys += 1;
                contents.changes.push(format!("created key {key} in enclave {enclave}"));
            }
            Err(error) => {
                let is_shared = applications.contains(key);
                contents.refuse(error, whose(target, |tenant| !is_shared && tenant.key == *key))?;
                // one that was not made must not count as lost later
                if !existed {
                    continue;
                }
            }
        }
        there.keys.push(key.to_string());
    }
    there.policies.extend(untouched.policies.iter().cloned());
    there.identities.extend(untouched.identities.iter().cloned());
    Ok(there)
}

/// Whether it had to be written.
async fn fill_policy(client: &client::Client, name: &PolicyName, policy: &Policy) -> Result<bool, Error> {
    let found =
        absent_is_none(client.read_policy(name).await).map_err(call(format!("read policy {name}")))?;
    if found.is_some_and(|found| is_same(&found, policy)) {
        return Ok(false);
    }
    client.write_policy(name, policy).await.map_err(call(format!("write policy {name}")))?;
    Ok(true)
}

/// Whether it had to be assigned.
async fn fill_identity(
    client: &client::Client,
    identity: &Identity,
    policy: &PolicyName,
) -> Result<bool, Error> {
    let found = absent_is_none(client.describe_identity(identity).await)
        .map_err(call(format!("read identity {identity}")))?;
    if found.is_some_and(|found| found.policy == policy.as_str()) {
        return Ok(false);
    }
    let assigned = client.assign_policy(policy, identity).await;
    assigned.map_err(call(format!("assign policy {policy} to identity {identity}")))?;
    Ok(true)
}

/// How a key is after a pass.
enum Filled {
    There,
    Made,
    /// It existed after an earlier pass and is gone. It is not made anew.
    Lost,
}

async fn fill_key(client: &client::Client, key: &KeyName, existed: bool) -> Result<Filled, Error> {
    let found = absent_is_none(client.describe_key(key).await).map_err(call(format!("read key {key}")))?;
    match found {
        Some(_) => Ok(Filled::There),
        None if existed => Ok(Filled::Lost),
        None => {
            exists_is_fine(client.create_key(key).await, &ApiError::KEY_EXISTS)
                .map_err(call(format!("create key {key}")))?;
            Ok(Filled::Made)
        }
    }
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
#[path = "contents_tests.rs"]
mod tests;

//! target: what each enclave shall hold, from the spec, its tenants, and what is remembered of those that left. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    keyring::Keyring,
    purpose::Purpose,
    wanted::{Enclave, Grant, Standing, Tenant, Wanted},
};
use crate::{
    api::{EnclaveName, Identity, KeyName, PolicyName, message::Policy},
    crd::{EnclaveContents, IssuedSecret, KeyOwners},
    operator::names,
};

/// What one enclave shall hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) enclave: EnclaveName,
    pub(crate) policies: BTreeMap<PolicyName, Policy>,
    pub(crate) assignments: BTreeMap<Identity, PolicyName>,
    pub(crate) keys: BTreeSet<KeyName>,
    /// What is made for each tenant, so that what the key API refuses about one stops no other.
    pub(crate) tenants: Vec<OfTenant>,
    /// Keys that the spec has for applications.
    pub(crate) applications: BTreeSet<KeyName>,
    /// Of applications and tenants that still run with what they have: not written, and not taken away.
    pub(crate) untouched: Untouched,
}

/// What is made for one tenant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OfTenant {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) key: KeyName,
    pub(crate) policy: Option<PolicyName>,
    pub(crate) identity: Option<Identity>,
}

impl OfTenant {
    /// As it is remembered with its keys.
    fn owner(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Target {
    /// Whose the keys in `there` are: those that have them now, and those that `before` remembers.
    pub(crate) fn key_owners(&self, there: &[String], before: &EnclaveContents) -> Vec<KeyOwners> {
        let mut owners: BTreeMap<&str, BTreeSet<String>> =
            self.applications.iter().map(|key| (key.as_str(), BTreeSet::new())).collect();
        for tenant in &self.tenants {
            owners.entry(tenant.key.as_str()).or_default().insert(tenant.owner());
        }
        for KeyOwners { key, tenants } in &before.key_owners {
            owners.entry(key).or_default().extend(tenants.iter().cloned());
        }
        let there = owners.into_iter().filter(|(key, _)| there.iter().any(|known| known == key));
        there
            .map(|(key, tenants)| KeyOwners { key: key.into(), tenants: tenants.into_iter().collect() })
            .collect()
    }
}

/// What is in use although nothing is to be written about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Untouched {
    pub(crate) identities: BTreeSet<String>,
    pub(crate) policies: BTreeSet<String>,
}

/// The target of each enclave. Applications whose Secret is lost are known by its record only.
pub(crate) fn targets(
    wanted: &Wanted,
    ring: &Keyring,
    secrets: &[IssuedSecret],
    before: &[EnclaveContents],
) -> Vec<Target> {
    let nothing = EnclaveContents::default();
    let target = |enclave: &Enclave| {
        let before = before.iter().find(|known| known.enclave == enclave.name.as_str());
        target(wanted, enclave, ring, secrets, before.unwrap_or(&nothing))
    };
    wanted.enclaves.iter().map(target).collect()
}

fn target(
    wanted: &Wanted,
    enclave: &Enclave,
    ring: &Keyring,
    secrets: &[IssuedSecret],
    before: &EnclaveContents,
) -> Target {
    let Enclave { name: enclave_name, keys, policies, identities } = enclave;
    let mut target = Target {
        enclave: enclave_name.clone(),
        policies: policies.clone(),
        assignments: BTreeMap::new(),
        keys: keys.clone(),
        tenants: Vec::new(),
        applications: keys.clone(),
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
        let Tenant { namespace, name, key, .. } = tenant;
        let mut of_tenant = OfTenant {
            namespace: namespace.clone(),
            name: name.clone(),
            key: key.clone(),
            policy: None,
            identity: None,
        };
        let purpose = Purpose::Tenant { namespace: tenant.namespace.clone(), name: tenant.name.clone() };
        if tenant.standing != Standing::Wanted {
            // as long as MinIO runs with it, it keeps what it had
            target.untouched.identities.extend(recorded(&purpose));
            let policy = names::tenant_policy(&tenant.namespace, &tenant.name);
            target.untouched.policies.insert(policy.to_string());
            target.tenants.push(of_tenant);
            continue;
        }
        let policy = tenant.policy.clone().unwrap_or_else(|| {
            let name = names::tenant_policy(&tenant.namespace, &tenant.name);
            target.policies.insert(name.clone(), tenant_policy(tenant, &wanted.tenants, keys, before));
            of_tenant.policy = Some(name.clone());
            name
        });
        match ring.identity(&purpose) {
            Ok(identity) => {
                of_tenant.identity = Some(identity.clone());
                target.assignments.insert(identity, policy);
            }
            Err(_) => target.untouched.identities.extend(recorded(&purpose)),
        }
        target.tenants.push(of_tenant);
    }
    target
}

/// What MinIO needs, minus two things.
///
/// It may not create its default key: MinIO does that when the key is missing, and on a key store that was emptied
/// or exchanged it would get other key material under the old name, after which nothing written before can be read.
/// The operator creates the key. And it may not use the default keys of the other tenants, nor those that the spec has for
/// applications, since MinIO cannot choose an enclave and so all of them share one; also when they left the spec, since
/// their keys are kept. What was its own once stays usable: it encrypted with it. A stricter policy can be named in
/// `spec.tenants[].policy`.
fn tenant_policy(
    tenant: &Tenant,
    tenants: &[Tenant],
    applications: &BTreeSet<KeyName>,
    before: &EnclaveContents,
) -> Policy {
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
    let own = format!("{}/{}", tenant.namespace, tenant.name);
    let had = |key: &str| {
        let mut known = before.key_owners.iter();
        known.any(|known| known.key == key && known.tenants.contains(&own))
    };
    let others = tenants.iter().filter(|other| other.enclave == tenant.enclave).map(|other| &other.key);
    let now = others.chain(applications).map(KeyName::as_str);
    let kept = before.key_owners.iter().map(|known| known.key.as_str());
    for key in now.chain(kept).filter(|key| *key != tenant.key.as_str() && !had(key)) {
        for action in ["create", "generate", "decrypt", "describe"] {
            deny.insert(format!("/v1/key/{action}/{key}"));
        }
    }
    Policy { allow: allow.map(str::to_owned).into(), deny: deny.into_iter().collect(), ..Policy::default() }
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
        let targets = targets(&wanted, &Keyring::default(), &[], &[]);
        let policy = &targets[0].policies[&names::tenant_policy("tenant-lite", "myminio")];
        insta::assert_yaml_snapshot!("tenant_policy", policy);
        assert!(targets[0].keys.contains(&KeyName::new("minio-default-key").unwrap()));
    }

    /// What a volume that is taken up again lacks counts as lost: nobody knows whether it was there.
    #[test]
    fn every_key_of_the_spec_and_of_its_tenants_is_expected() {
        let expected = expected(&targets(&fixture::wanted(), &Keyring::default(), &[], &[]));
        let keys: Vec<_> = expected.iter().flat_map(|enclave| &enclave.keys).collect();
        assert_eq!(expected[0].enclave, "default");
        assert!(keys.contains(&&"minio-default-key".to_owned()), "{keys:?}");
        assert!(expected.iter().all(|enclave| enclave.policies.is_empty() && enclave.identities.is_empty()));
    }

    #[test]
    fn a_tenant_with_a_policy_of_its_own_gets_no_other() {
        let mut wanted = fixture::wanted();
        wanted.tenants[0].policy = Some(PolicyName::new("reader").unwrap());
        let targets = targets(&wanted, &Keyring::default(), &[], &[]);
        assert_eq!(targets[0].policies.len(), 1);
    }

    #[test]
    fn what_still_runs_is_neither_written_nor_taken_away() {
        let mut wanted = fixture::wanted();
        wanted.tenants[0].standing = Standing::Left { unwire: false };
        let record =
            |name: &str| IssuedSecret { name: name.into(), fingerprint: format!("identity of {name}") };
        let secrets = [record("vault-tenant-tenant-lite.myminio"), record("app-1-kes")];
        let target = &targets(&wanted, &Keyring::default(), &secrets, &[])[0];
        assert_eq!(target.policies.keys().map(ToString::to_string).collect::<Vec<_>>(), ["reader"]);
        assert!(target.assignments.is_empty());
        let Untouched { identities, policies } = &target.untouched;
        assert_eq!(policies, &["tenant-tenant-lite_myminio".to_owned()].into());
        let expected = ["identity of app-1-kes", "identity of vault-tenant-tenant-lite.myminio"];
        assert_eq!(identities, &expected.map(str::to_owned).into());
    }

    fn owners(key: &str, tenants: &[&str]) -> KeyOwners {
        KeyOwners { key: key.into(), tenants: tenants.iter().map(ToString::to_string).collect() }
    }

    fn denied(before: &EnclaveContents) -> Vec<String> {
        let targets = targets(&fixture::wanted(), &Keyring::default(), &[], std::slice::from_ref(before));
        let policy = &targets[0].policies[&names::tenant_policy("tenant-lite", "myminio")];
        let decrypt = policy.deny.iter().filter_map(|path| path.strip_prefix("/v1/key/decrypt/"));
        decrypt.map(str::to_owned).collect()
    }

    #[test]
    fn keys_of_those_that_left_stay_denied_and_what_was_its_own_once_does_not() {
        let before = EnclaveContents {
            enclave: "default".into(),
            keys: ["of-gone", "of-app", "former", "minio-default-key", "early"].map(str::to_owned).into(),
            key_owners: vec![
                owners("of-gone", &["team/gone"]),
                owners("of-app", &[]),
                owners("former", &["team/gone", "tenant-lite/myminio"]),
                owners("minio-default-key", &["team/gone"]),
            ],
            ..EnclaveContents::default()
        };
        // first-key is the spec's for applications; nobody knows whose 'early' was
        assert_eq!(denied(&before), ["first-key", "of-app", "of-gone"]);
        // an object that an earlier release wrote says nothing about owners
        assert_eq!(denied(&EnclaveContents { key_owners: Vec::new(), ..before }), ["first-key"]);
    }

    #[test]
    fn whose_a_key_is_stays_known_as_long_as_the_key_is_there() {
        let target = &targets(&fixture::wanted(), &Keyring::default(), &[], &[])[0];
        let before = EnclaveContents {
            key_owners: vec![owners("of-gone", &["team/gone"]), owners("deleted", &["team/gone"])],
            ..EnclaveContents::default()
        };
        let there = ["first-key", "minio-default-key", "of-gone", "early"].map(str::to_owned);
        assert_eq!(
            target.key_owners(&there, &before),
            [
                owners("first-key", &[]),
                owners("minio-default-key", &["tenant-lite/myminio"]),
                owners("of-gone", &["team/gone"]),
            ]
        );
    }
}

//! Reads `spec.enclaves`: names, keys, policies and who has them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    broken::Broken,
    field::{is_object_name, named, unique},
};
use crate::{
    api::{
        EnclaveName, KeyName, PolicyName,
        message::{Matching, Policy},
    },
    crd,
    operator::cluster::wanted::{Enclave, Grant},
};

/// An enclave; `field` is where it stands. One whose contents break rules is given all the same, for who refers to it.
pub(super) fn parse_enclave(field: &str, enclave: &crd::Enclave, broken: &mut Broken) -> Option<Enclave> {
    let crd::Enclave { name, keys, policies, identities } = enclave;
    let name = broken.keep(named(&format!("{field}.name"), EnclaveName::new(name)));
    let keys: BTreeSet<_> = unique(keys, &format!("{field}.keys"), |key| key.name.clone(), broken)
        .into_iter()
        .filter_map(|(field, key)| broken.keep(named(&format!("{field}.name"), KeyName::new(&key.name))))
        .collect();
    let policies: BTreeMap<_, _> =
        unique(policies, &format!("{field}.policies"), |policy| policy.name.clone(), broken)
            .into_iter()
            .filter_map(|(field, policy)| parse_policy(&field, policy, broken))
            .collect();
    let identities =
        unique(identities, &format!("{field}.identities"), |identity| identity.name.clone(), broken)
            .into_iter()
            .filter_map(|(field, grant)| parse_grant(&field, grant, &policies, broken))
            .collect();
    Some(Enclave { name: name?, keys, policies, identities })
}

fn parse_grant(
    field: &str,
    grant: &crd::IdentityGrant,
    policies: &BTreeMap<PolicyName, Policy>,
    broken: &mut Broken,
) -> Option<Grant> {
    let crd::IdentityGrant { name, policy, secret_name } = grant;
    let policy = known_policy(&format!("{field}.policy"), policy, policies, broken);
    if !is_object_name(secret_name) {
        broken.refuse(&format!("{field}.secretName"), format!("{secret_name:?} is no name of a Secret"));
    }
    Some(Grant { name: name.clone(), policy: policy?, secret: secret_name.clone() })
}

fn parse_policy(field: &str, rules: &crd::PolicyRules, broken: &mut Broken) -> Option<(PolicyName, Policy)> {
    let crd::PolicyRules { name, allow, deny, matching } = rules;
    for (list, patterns) in [("allow", allow), ("deny", deny)] {
        for (index, pattern) in patterns.iter().enumerate() {
            // a pattern without the slash matches no path: a deny that never denies must not pass silently
            if !pattern.starts_with('/') {
                let field = format!("{field}.{list}[{index}]");
                broken.refuse(&field, format!("{pattern:?} must begin with '/', as every path does"));
            }
        }
    }
    let name = broken.keep(named(&format!("{field}.name"), PolicyName::new(name)))?;
    let matching = match matching {
        crd::Matching::Glob => Matching::Glob,
        crd::Matching::Prefix => Matching::Prefix,
    };
    Some((name, Policy { allow: allow.clone(), deny: deny.clone(), matching }))
}

/// A policy, refused if it is not among `policies`, and given all the same.
pub(super) fn known_policy(
    field: &str,
    name: &str,
    policies: &BTreeMap<PolicyName, Policy>,
    broken: &mut Broken,
) -> Option<PolicyName> {
    let name = broken.keep(named(field, PolicyName::new(name)))?;
    if !policies.contains_key(&name) {
        broken.refuse(field, format!("the enclave has no policy {name}"));
    }
    Some(name)
}

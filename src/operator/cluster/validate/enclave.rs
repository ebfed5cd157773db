//! Reads `spec.enclaves`: names, keys, policies and who has them.

use std::collections::{BTreeMap, BTreeSet};

use super::field::{invalid, is_object_name, named, unique};
use crate::{
    api::{
        EnclaveName, KeyName, PolicyName,
        message::{Matching, Policy},
    },
    crd,
    operator::{
        cluster::wanted::{Enclave, Grant},
        rule::Rule,
    },
};

/// An enclave; `field` is where it stands.
pub(super) fn parse_enclave(field: &str, enclave: &crd::Enclave) -> Result<Enclave, Rule> {
    let crd::Enclave { name, keys, policies, identities } = enclave;
    let name = named(&format!("{field}.name"), EnclaveName::new(name))?;
    let keys = unique(keys, &format!("{field}.keys"), |key| key.name.clone())?
        .map(|(field, key)| named(&format!("{field}.name"), KeyName::new(&key.name)))
        .collect::<Result<BTreeSet<_>, _>>()?;
    let policies = unique(policies, &format!("{field}.policies"), |policy| policy.name.clone())?
        .map(|(field, policy)| parse_policy(&field, policy))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let identities = unique(identities, &format!("{field}.identities"), |identity| identity.name.clone())?
        .map(|(field, crd::IdentityGrant { name, policy, secret_name })| {
            let policy = known_policy(&format!("{field}.policy"), policy, &policies)?;
            if !is_object_name(secret_name) {
                return Err(invalid(
                    &format!("{field}.secretName"),
                    format!("{secret_name:?} is no name of a Secret"),
                ));
            }
            Ok(Grant { name: name.clone(), policy, secret: secret_name.clone() })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Enclave { name, keys, policies, identities })
}

fn parse_policy(field: &str, rules: &crd::PolicyRules) -> Result<(PolicyName, Policy), Rule> {
    let crd::PolicyRules { name, allow, deny, matching } = rules;
    for (list, patterns) in [("allow", allow), ("deny", deny)] {
        for (index, pattern) in patterns.iter().enumerate() {
            // a pattern without the slash matches no path: a deny that never denies must not pass silently
            if !pattern.starts_with('/') {
                let field = format!("{field}.{list}[{index}]");
                return Err(invalid(&field, format!("{pattern:?} must begin with '/', as every path does")));
            }
        }
    }
    let name = named(&format!("{field}.name"), PolicyName::new(name))?;
    let matching = match matching {
        crd::Matching::Glob => Matching::Glob,
        crd::Matching::Prefix => Matching::Prefix,
    };
    Ok((name, Policy { allow: allow.clone(), deny: deny.clone(), matching }))
}

/// A policy that is among `policies`.
pub(super) fn known_policy(
    field: &str,
    name: &str,
    policies: &BTreeMap<PolicyName, Policy>,
) -> Result<PolicyName, Rule> {
    let name = named(field, PolicyName::new(name))?;
    if policies.contains_key(&name) {
        Ok(name)
    } else {
        Err(invalid(field, format!("the enclave has no policy {name}")))
    }
}

//! validate: parses the spec into [`Wanted`], the only input of the steps behind it. Pure; every error names a field.

mod enclave;
mod field;
#[cfg(test)]
pub(crate) mod fixture;
mod tenant;
#[cfg(test)]
mod tests;

pub(crate) use field::is_label;

use std::{collections::BTreeMap, time::Duration};

use kube::Resource;

use self::{
    enclave::parse_enclave,
    field::{invalid, is_quantity, is_service_name, unique},
    tenant::{parse_selector, parse_tenant},
};
use super::{
    purpose::Purpose,
    wanted::{Seal, Tls, Wanted},
};
use crate::{
    crd::{self, KesCluster},
    operator::{names, rule::Rule},
};

/// Longest name of a cluster; names of Services and Secrets are made from it.
const MAX_CLUSTER_NAME: usize = 40;

/// What the operator knows besides the spec.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Defaults {
    /// The operator's own image.
    pub(crate) image: String,
    /// DNS domain of the Kubernetes cluster.
    pub(crate) domain: String,
}

/// Parses `cluster`.
///
/// # Errors
/// The first rule that is broken, with the field.
pub(crate) fn validate(cluster: &KesCluster, defaults: &Defaults) -> Result<Wanted, Rule> {
    let crd::KesClusterSpec {
        replicas,
        image,
        image_pull_policy,
        storage,
        deletion_policy,
        seal,
        enclaves,
        tenants,
        tenant_selector,
        tls,
        network_policy,
        monitoring,
        paused: _,
        pod,
    } = &cluster.spec;
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let namespace = cluster.metadata.namespace.clone().unwrap_or_default();
    if name.len() > MAX_CLUSTER_NAME || !is_service_name(&name) {
        return Err(invalid(
            "metadata.name",
            "it must begin with a letter, consist of a-z, 0-9 and '-', and have 40 characters at most",
        ));
    }
    if name.starts_with("minio") {
        // a MinIO that starts with MINIO_…_SERVICE_HOST differs from its peers and does not join them
        return Err(invalid(
            "metadata.name",
            "it must not begin with 'minio': Kubernetes makes variables MINIO_… of a Service's name in the pods beside it, and \
             MinIO takes those for settings of its own",
        ));
    }
    if *replicas < 1 || replicas % 2 == 0 {
        return Err(invalid(
            "spec.replicas",
            format!("{replicas} is no odd number from 1, so there is no majority"),
        ));
    }
    if *replicas != 1 {
        return Err(invalid(
            "spec.replicas",
            format!("{replicas} members need replication, which comes with a later release; set it to 1"),
        ));
    }
    if !is_quantity(&storage.size) {
        return Err(invalid("spec.storage.size", format!("{:?} is no size such as 1Gi", storage.size)));
    }
    let image = match image.as_deref().unwrap_or(&defaults.image) {
        "" => {
            return Err(invalid(
                "spec.image",
                "neither it nor the operator's --image is set, so the image is unknown",
            ));
        }
        image => image.to_owned(),
    };
    let seal = match seal {
        None => Seal { secret: names::seal_secret(&name), key: "KES_UNSEAL_KEY".into(), generated: true },
        Some(crd::Seal { secret_ref: crd::SecretKeyReference { name: secret, key } }) => {
            Seal { secret: secret.clone(), key: key.clone(), generated: false }
        }
    };

    let enclaves = unique(enclaves, "spec.enclaves", |enclave| enclave.name.clone())?
        .map(|(field, enclave)| parse_enclave(&field, enclave))
        .collect::<Result<Vec<_>, _>>()?;
    if enclaves.is_empty() {
        return Err(invalid("spec.enclaves", "there must be one at least"));
    }
    let tenants = unique(tenants, "spec.tenants", |tenant| format!("{}/{}", tenant.namespace, tenant.name))?
        .map(|(field, tenant)| parse_tenant(&field, tenant, &enclaves))
        .collect::<Result<Vec<_>, _>>()?;
    let selection =
        tenant_selector.as_ref().map(|selector| parse_selector(selector, &enclaves)).transpose()?;
    let tls = parse_tls(&name, tls.as_ref())?;

    let wanted = Wanted {
        owner: cluster.controller_owner_ref(&()).ok_or_else(|| invalid("metadata.uid", "it is missing"))?,
        guarded: !tenants.is_empty() || selection.is_some(),
        name,
        namespace,
        domain: defaults.domain.clone(),
        replicas: *replicas,
        image,
        pull_policy: *image_pull_policy,
        storage: storage.clone(),
        deletion: *deletion_policy,
        seal,
        enclaves,
        tenants,
        selection,
        tls,
        network: network_policy.clone().unwrap_or_default(),
        monitoring: monitoring.clone().unwrap_or_default(),
        pod: pod.clone().unwrap_or_default(),
    };
    secrets_are_distinct(&wanted)?;
    Ok(wanted)
}

fn parse_tls(cluster: &str, tls: Option<&crd::Tls>) -> Result<Tls, Rule> {
    const DAY: Duration = Duration::from_secs(86_400);
    let Some(crd::Tls { server_secret_ref, issuer_ref, validity_days }) = tls else {
        return Ok(Tls::Own { validity: DAY * 365 });
    };
    let days = u32::try_from(*validity_days).ok().filter(|days| (1..=3650).contains(days));
    let days = days.ok_or_else(|| invalid("spec.tls.validityDays", "it must be between 1 and 3650"))?;
    match (server_secret_ref, issuer_ref) {
        (None, None) => Ok(Tls::Own { validity: DAY * days }),
        (Some(reference), None) => Ok(Tls::Secret { name: reference.name.clone() }),
        (None, Some(issuer)) => {
            Ok(Tls::Issuer { issuer: issuer.clone(), secret: names::issued_secret(cluster) })
        }
        (Some(_), Some(_)) => {
            Err(invalid("spec.tls", "it takes serverSecretRef or issuerRef, not both; remove one of them"))
        }
    }
}

/// One Secret cannot hold two key pairs. The refusal names the field by which the Secret was chosen.
fn secrets_are_distinct(wanted: &Wanted) -> Result<(), Rule> {
    let mut meant: Vec<(String, Option<String>, String)> = Vec::new();
    if !wanted.seal.generated {
        let field = "spec.seal.secretRef.name".to_owned();
        meant.push((wanted.seal.secret.clone(), Some(field), "the unseal key".into()));
    }
    match &wanted.tls {
        Tls::Own { .. } => {}
        Tls::Secret { name } => {
            let field = "spec.tls.serverSecretRef.name".to_owned();
            meant.push((name.clone(), Some(field), "the servers' certificate, yours".into()));
        }
        Tls::Issuer { secret, .. } => meant.push((secret.clone(), None, "what cert-manager issues".into())),
    }
    for purpose in wanted.purposes() {
        meant.push((purpose.secret(&wanted.name), chosen_by(wanted, &purpose), purpose.to_string()));
    }
    let mut seen: BTreeMap<String, (Option<String>, String)> = BTreeMap::new();
    for (secret, field, what) in meant {
        if let Some((earlier, other)) = seen.get(&secret) {
            let field = field.or_else(|| earlier.clone()).unwrap_or_else(|| "metadata.name".into());
            return Err(invalid(
                &field,
                format!("Secret {secret} is meant for two things: {other}, and {what}"),
            ));
        }
        seen.insert(secret, (field, what));
    }
    Ok(())
}

/// The field that names the Secret of `purpose`, where one does.
fn chosen_by(wanted: &Wanted, purpose: &Purpose) -> Option<String> {
    let Purpose::Identity { enclave, name, .. } = purpose else { return None };
    let at = wanted.enclaves.iter().position(|known| known.name == *enclave)?;
    let identity = wanted.enclaves[at].identities.iter().position(|known| known.name == *name)?;
    Some(format!("spec.enclaves[{at}].identities[{identity}].secretName"))
}

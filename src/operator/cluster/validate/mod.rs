//! validate: parses the spec into [`Wanted`], the only input of the steps behind it. Pure; every error names a field.

mod broken;
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
    broken::Broken,
    enclave::parse_enclave,
    field::{invalid, is_quantity, is_service_name, unique},
    tenant::{parse_selector, parse_tenant},
};
use super::{
    purpose::Purpose,
    wanted::{Enclave, Seal, Selection, Tenant, Tls, Wanted},
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
    // there is one at least
    let first = |rules: Vec<Rule>| rules.into_iter().next();
    examine(cluster, defaults)
        .map_err(|rules| first(rules).unwrap_or_else(|| invalid("spec", "it cannot be read")))
}

/// Parses `cluster` to its end, whatever is wrong with it.
///
/// # Errors
/// Every rule that is broken, each with its field; one at least.
pub(crate) fn examine(cluster: &KesCluster, defaults: &Defaults) -> Result<Wanted, Vec<Rule>> {
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
    let mut broken = Broken::default();
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let namespace = cluster.metadata.namespace.clone().unwrap_or_default();
    check_name(&name, &mut broken);
    check_replicas(*replicas, &mut broken);
    if !is_quantity(&storage.size) {
        broken.refuse("spec.storage.size", format!("{:?} is no size such as 1Gi", storage.size));
    }
    let image = image.as_deref().unwrap_or(&defaults.image).to_owned();
    if image.is_empty() {
        broken.refuse("spec.image", "neither it nor the operator's --image is set, so the image is unknown");
    }
    let seal = match seal {
        None => Seal { secret: names::seal_secret(&name), key: "KES_UNSEAL_KEY".into(), generated: true },
        Some(crd::Seal { secret_ref: crd::SecretKeyReference { name: secret, key } }) => {
            Seal { secret: secret.clone(), key: key.clone(), generated: false }
        }
    };
    let (enclaves, tenants, selection) =
        parse_contents(enclaves, tenants, tenant_selector.as_ref(), &mut broken);
    let tls = parse_tls(&name, tls.as_ref(), &mut broken);
    let owner = cluster.controller_owner_ref(&()).ok_or_else(|| invalid("metadata.uid", "it is missing"));
    let Some(owner) = broken.keep(owner) else {
        return Err(broken.into_rules());
    };

    let wanted = Wanted {
        owner,
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
    check_secrets(&wanted, &mut broken);
    let rules = broken.into_rules();
    if rules.is_empty() { Ok(wanted) } else { Err(rules) }
}

fn check_name(name: &str, broken: &mut Broken) {
    if name.len() > MAX_CLUSTER_NAME || !is_service_name(name) {
        broken.refuse(
            "metadata.name",
            "it must begin with a letter, consist of a-z, 0-9 and '-', and have 40 characters at most",
        );
    } else if name.starts_with("minio") {
        // a MinIO that starts with MINIO_…_SERVICE_HOST differs from its peers and does not join them
        broken.refuse(
            "metadata.name",
            "it must not begin with 'minio': Kubernetes makes variables MINIO_… of a Service's name in the pods beside it, and \
             MinIO takes those for settings of its own",
        );
    }
}

fn check_replicas(replicas: i32, broken: &mut Broken) {
    if replicas < 1 || replicas % 2 == 0 {
        broken
            .refuse("spec.replicas", format!("{replicas} is no odd number from 1, so there is no majority"));
    } else if replicas != 1 {
        broken.refuse(
            "spec.replicas",
            format!("{replicas} members need replication, which comes with a later release; set it to 1"),
        );
    }
}

/// What the key service holds, and for whom.
fn parse_contents(
    enclaves: &[crd::Enclave],
    tenants: &[crd::Tenant],
    selector: Option<&crd::TenantSelector>,
    broken: &mut Broken,
) -> (Vec<Enclave>, Vec<Tenant>, Option<Selection>) {
    if enclaves.is_empty() {
        broken.refuse("spec.enclaves", "there must be one at least");
    }
    let enclaves: Vec<_> = unique(enclaves, "spec.enclaves", |enclave| enclave.name.clone(), broken)
        .into_iter()
        .filter_map(|(field, enclave)| parse_enclave(&field, enclave, broken))
        .collect();
    let name = |tenant: &crd::Tenant| format!("{}/{}", tenant.namespace, tenant.name);
    let tenants = unique(tenants, "spec.tenants", name, broken)
        .into_iter()
        .filter_map(|(field, tenant)| parse_tenant(&field, tenant, &enclaves, broken))
        .collect();
    let selection = selector.and_then(|selector| parse_selector(selector, &enclaves, broken));
    (enclaves, tenants, selection)
}

fn parse_tls(cluster: &str, tls: Option<&crd::Tls>, broken: &mut Broken) -> Tls {
    const DAY: Duration = Duration::from_secs(86_400);
    let Some(crd::Tls { server_secret_ref, issuer_ref, validity_days }) = tls else {
        return Tls::Own { validity: DAY * 365 };
    };
    let days = u32::try_from(*validity_days).ok().filter(|days| (1..=3650).contains(days));
    if days.is_none() {
        broken.refuse("spec.tls.validityDays", "it must be between 1 and 3650");
    }
    if server_secret_ref.is_some() && issuer_ref.is_some() {
        broken.refuse("spec.tls", "it takes serverSecretRef or issuerRef, not both; remove one of them");
    }
    match (server_secret_ref, issuer_ref) {
        (Some(reference), _) => Tls::Secret { name: reference.name.clone() },
        (None, Some(issuer)) => Tls::Issuer { issuer: issuer.clone(), secret: names::issued_secret(cluster) },
        (None, None) => Tls::Own { validity: DAY * days.unwrap_or(1) },
    }
}

/// One Secret cannot hold two key pairs. The refusal names the field by which the Secret was chosen.
fn check_secrets(wanted: &Wanted, broken: &mut Broken) {
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
            broken.refuse(&field, format!("Secret {secret} is meant for two things: {other}, and {what}"));
        } else {
            seen.insert(secret, (field, what));
        }
    }
}

/// The field that names the Secret of `purpose`, where one does.
fn chosen_by(wanted: &Wanted, purpose: &Purpose) -> Option<String> {
    let Purpose::Identity { enclave, name, .. } = purpose else { return None };
    let at = wanted.enclaves.iter().position(|known| known.name == *enclave)?;
    let identity = wanted.enclaves[at].identities.iter().position(|known| known.name == *name)?;
    Some(format!("spec.enclaves[{at}].identities[{identity}].secretName"))
}

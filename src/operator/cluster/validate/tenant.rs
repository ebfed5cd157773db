//! Reads `spec.tenants` and `spec.tenantSelector`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::Selector;

use super::{
    broken::Broken,
    enclave::known_policy,
    field::{invalid, is_label, named},
};
use crate::{
    api::{EnclaveName, KeyName, PolicyName},
    crd::{self, LabelOperator},
    operator::cluster::wanted::{Enclave, Selection, Standing, Tenant},
};

/// A tenant by name; `field` is where it stands.
pub(super) fn parse_tenant(
    field: &str,
    tenant: &crd::Tenant,
    enclaves: &[Enclave],
    broken: &mut Broken,
) -> Option<Tenant> {
    let crd::Tenant { name, namespace, enclave, key_name, restart_policy, mount, mode, policy } = tenant;
    for (part, text) in [("name", name), ("namespace", namespace)] {
        if text.len() > 63 || !is_label(text) {
            broken.refuse(&format!("{field}.{part}"), format!("{text:?} is no DNS label"));
        }
    }
    let place = parse_place(field, enclave, policy.as_deref(), enclaves, broken);
    let key = broken.keep(named(&format!("{field}.keyName"), KeyName::new(key_name)));
    let (enclave, policy) = place?;
    Some(Tenant {
        namespace: namespace.clone(),
        name: name.clone(),
        enclave,
        key: key?,
        restart: *restart_policy,
        mount: *mount,
        mode: *mode,
        policy,
        standing: Standing::Wanted,
    })
}

/// Tenants by label.
pub(super) fn parse_selector(
    selector: &crd::TenantSelector,
    enclaves: &[Enclave],
    broken: &mut Broken,
) -> Option<Selection> {
    const FIELD: &str = "spec.tenantSelector";
    let crd::TenantSelector {
        match_labels,
        match_expressions,
        namespaces,
        enclave,
        key_name,
        restart_policy,
        mount,
        mode,
        policy,
    } = selector;
    if match_labels.is_empty() && match_expressions.is_empty() {
        broken.refuse(FIELD, "it needs matchLabels or matchExpressions, else it would select every Tenant");
    }
    let requirements = match_expressions.iter().map(|crd::LabelExpression { key, operator, values }| {
        let operator = match operator {
            LabelOperator::In => "In",
            LabelOperator::NotIn => "NotIn",
            LabelOperator::Exists => "Exists",
            LabelOperator::DoesNotExist => "DoesNotExist",
        };
        LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.into(),
            values: (!values.is_empty()).then(|| values.clone()),
        }
    });
    let labels = LabelSelector {
        match_expressions: Some(requirements.collect()),
        match_labels: Some(match_labels.clone()),
    };
    let labels = Selector::try_from(labels)
        .map_err(|error| invalid(&format!("{FIELD}.matchExpressions"), error.to_string()));
    let labels = broken.keep(labels);
    let place = parse_place(FIELD, enclave, policy.as_deref(), enclaves, broken);
    let key = key_name.as_ref().map(|key| named(&format!("{FIELD}.keyName"), KeyName::new(key))).transpose();
    let key = broken.keep(key)?;
    let (enclave, policy) = place?;
    Some(Selection {
        labels: labels?.to_string(),
        namespaces: namespaces.clone(),
        enclave,
        key,
        restart: *restart_policy,
        mount: *mount,
        mode: *mode,
        policy,
    })
}

/// The enclave of a tenant, and its policy if it names one.
fn parse_place(
    field: &str,
    enclave: &str,
    policy: Option<&str>,
    enclaves: &[Enclave],
    broken: &mut Broken,
) -> Option<(EnclaveName, Option<PolicyName>)> {
    let name = broken.keep(named(&format!("{field}.enclave"), EnclaveName::new(enclave)))?;
    if name != EnclaveName::default_enclave() {
        let problem = "MinIO cannot choose an enclave and always uses 'default'; set it to that";
        broken.refuse(&format!("{field}.enclave"), problem);
        return None;
    }
    let Some(enclave) = enclaves.iter().find(|known| known.name == name) else {
        broken.refuse(&format!("{field}.enclave"), format!("spec.enclaves has no enclave {name}"));
        return None;
    };
    let policy =
        policy.and_then(|policy| known_policy(&format!("{field}.policy"), policy, &enclave.policies, broken));
    Some((name, policy))
}

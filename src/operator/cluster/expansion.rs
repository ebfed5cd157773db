//! expansion: makes volumes grow. Pure, but for the two writes at the end.
//!
//! A StatefulSet's claim template cannot be changed. So: enlarge the claims, delete the StatefulSet while its pods live on
//! as orphans, and let the next apply make it anew with the larger template. Nothing restarts.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, VolumeResourceRequirements},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use serde_json::json;

use super::{apply, observe::Seen, wanted::Wanted};
use crate::{
    crd,
    operator::{names, quantity::units as bytes, rule::Rule},
};

/// What the volumes are, and what happens to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Volumes {
    /// Size and class of the claim template as it shall be.
    pub(crate) template: crd::Storage,
    /// As it is; as it shall be, where there is none.
    pub(crate) live: crd::Storage,
    /// Claims that are smaller than asked for.
    pub(crate) enlarge: Vec<String>,
    /// The StatefulSet has another template and must be made anew over its pods.
    pub(crate) replace: Option<Preconditions>,
    /// Why they stay as they are.
    pub(crate) refused: Option<Rule>,
}

/// Decides.
pub(crate) fn decide(wanted: &Wanted, seen: &Seen) -> Volumes {
    let Some(template) = template(seen) else {
        return Volumes {
            template: wanted.storage.clone(),
            live: wanted.storage.clone(),
            enlarge: Vec::new(),
            replace: None,
            refused: None,
        };
    };
    let live = template.clone();
    let keep = |refused| Volumes {
        template: live.clone(),
        live: live.clone(),
        enlarge: Vec::new(),
        replace: None,
        refused,
    };
    let asked = bytes(&wanted.storage.size);
    if asked <= bytes(&template.size) && !is_asked_for(wanted, &seen.volumes) {
        return keep(None);
    }
    let class = class(&seen.volumes).unwrap_or_else(|| "of the cluster's default".into());
    if seen.expandable == Some(false) {
        let problem = format!("StorageClass {class} does not allow expansion (allowVolumeExpansion)");
        return keep(Some(Rule::ExpansionRefused { class, problem }));
    }
    let smaller = seen.volumes.iter().filter(|claim| request(claim) < asked).map(ResourceExt::name_any);
    let set = seen.stateful_set.as_ref().filter(|_| bytes(&template.size) != asked);
    Volumes {
        live: live.clone(),
        template: crd::Storage { size: wanted.storage.size.clone(), ..template },
        enlarge: smaller.collect(),
        replace: set.map(|set| Preconditions { uid: set.uid(), resource_version: None }),
        refused: None,
    }
}

/// Whether some volume is smaller than the spec asks for.
pub(crate) fn is_asked_for(wanted: &Wanted, volumes: &[PersistentVolumeClaim]) -> bool {
    volumes.iter().any(|claim| request(claim) < bytes(&wanted.storage.size))
}

/// The class of the volumes.
pub(crate) fn class(volumes: &[PersistentVolumeClaim]) -> Option<String> {
    volumes.iter().find_map(|claim| claim.spec.as_ref()?.storage_class_name.clone())
}

/// Enlarges claims, then makes room for a StatefulSet with the new template. A refusal of the API server is a rule.
pub(crate) async fn carry_out(
    client: &Client,
    wanted: &Wanted,
    seen: &Seen,
    volumes: &Volumes,
) -> Result<Option<Rule>, apply::Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &wanted.namespace);
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    for name in &volumes.enlarge {
        let patch = json!({"spec": {"resources": {"requests": {"storage": wanted.storage.size}}}});
        match claims.patch(name, &params, &Patch::Merge(patch)).await {
            Ok(_) => tracing::info!(claim = name, size = wanted.storage.size, "enlarged a volume claim"),
            Err(kube::Error::Api(status)) if [403, 422].contains(&status.code) => {
                let class = class(&seen.volumes).unwrap_or_default();
                return Ok(Some(Rule::ExpansionRefused { class, problem: status.message.clone() }));
            }
            Err(source) => {
                return Err(apply::Error::Write { object: format!("PersistentVolumeClaim {name}"), source });
            }
        }
    }
    if let Some(only_this) = &volumes.replace {
        let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &wanted.namespace);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            preconditions: Some(only_this.clone()),
            ..DeleteParams::default()
        };
        match sets.delete(&wanted.name, &params).await {
            Ok(_) => tracing::info!(cluster = wanted.name, "makes the StatefulSet anew for larger volumes"),
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
            Err(source) => {
                return Err(apply::Error::Write { object: format!("StatefulSet {}", wanted.name), source });
            }
        }
    }
    Ok(None)
}

/// Size and class of the claim template that exists.
fn template(seen: &Seen) -> Option<crd::Storage> {
    let spec = seen.stateful_set.as_ref()?.spec.as_ref()?;
    let claim = spec.volume_claim_templates.as_ref()?.first()?.spec.as_ref()?;
    let size = requested(claim.resources.as_ref())?;
    Some(crd::Storage { size: size.0.clone(), storage_class_name: claim.storage_class_name.clone() })
}

fn request(claim: &PersistentVolumeClaim) -> u128 {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    // a claim that says nothing is none of ours to enlarge
    requested(resources).map_or(u128::MAX, |size| bytes(&size.0))
}

fn requested(resources: Option<&VolumeResourceRequirements>) -> Option<&Quantity> {
    resources?.requests.as_ref().and_then(|requests: &BTreeMap<String, Quantity>| requests.get("storage"))
}

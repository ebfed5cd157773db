//! The finalizer: a `KesCluster` that MinIO tenants depend on is not deleted under them.
//!
//! While tenants are or may be wired, nothing is owned by the `KesCluster`, so that no way of deleting it, a foreground
//! deletion included, collects the key service first. When the deletion is let through, owners are set as
//! `spec.deletionPolicy` says, the finalizer goes, and Kubernetes collects the rest.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    apply::owner_patch,
    build::{CERTIFICATE, PROMETHEUS_RULE, SERVICE_MONITOR},
    purpose::Purpose,
};
use crate::{
    crd::{DeletionPolicy, KesCluster},
    operator::names,
};

/// What Kubernetes waits for before a `KesCluster` is gone.
pub(crate) const FINALIZER: &str = "kes-operator.io/tenants";

/// Why owners or the finalizer were not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to list the objects of the cluster: {0}")]
    List(#[source] kube::Error),
    #[error("failed to let {object} go with the KesCluster: {source}")]
    Own { object: String, source: kube::Error },
}

pub(crate) fn is_set(cluster: &KesCluster) -> bool {
    cluster.finalizers().iter().any(|name| name == FINALIZER)
}

/// The finalizers that `cluster` shall have, if they differ from those that it has. A cluster that is being deleted gets
/// none any more.
pub(crate) fn wanted(cluster: &KesCluster, guarded: bool) -> Option<Vec<String>> {
    let has = is_set(cluster);
    if has == guarded || (guarded && cluster.metadata.deletion_timestamp.is_some()) {
        return None;
    }
    let mut finalizers: Vec<_> =
        cluster.finalizers().iter().filter(|name| *name != FINALIZER).cloned().collect();
    if guarded {
        finalizers.push(FINALIZER.into());
    }
    Some(finalizers)
}

/// Makes what shall go with `cluster` owned by it. What `Retain` keeps stays without an owner.
pub(crate) async fn hand_over(client: &Client, cluster: &KesCluster) -> Result<(), Error> {
    let Some(owner) = cluster.controller_owner_ref(&()) else { return Ok(()) };
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let ours = ListParams::default().labels(&names::instance_selector(&name));
    own::<StatefulSet>(client, &namespace, &ours, &owner, |_| true).await?;
    own::<Service>(client, &namespace, &ours, &owner, |_| true).await?;
    own::<ConfigMap>(client, &namespace, &ours, &owner, |_| true).await?;
    own::<ServiceAccount>(client, &namespace, &ours, &owner, |_| true).await?;
    own::<PodDisruptionBudget>(client, &namespace, &ours, &owner, |_| true).await?;
    own::<NetworkPolicy>(client, &namespace, &ours, &owner, |_| true).await?;
    for kind in [&SERVICE_MONITOR, &PROMETHEUS_RULE, &CERTIFICATE] {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind.resource());
        match own_all(&api, &kind.resource().kind, &ours, &owner, |_| true).await {
            // nothing of a kind that nobody knows, or that we never might make
            Err(Error::List(kube::Error::Api(status))) if [403, 404].contains(&status.code) => {}
            outcome => outcome?,
        }
    }
    let all = cluster.spec.deletion_policy == DeletionPolicy::Delete;
    // the one Secret that can be made anew
    let certificate = Purpose::ServerCertificate.secret(&name);
    own::<Secret>(client, &namespace, &ours, &owner, |secret| all || secret == certificate).await?;
    let of_pods = ListParams::default().labels(&names::pod_selector(&name));
    own::<PersistentVolumeClaim>(client, &namespace, &of_pods, &owner, |_| all).await
}

async fn own<K>(
    client: &Client,
    namespace: &str,
    which: &ListParams,
    owner: &OwnerReference,
    goes: impl Fn(&str) -> bool,
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    own_all(&Api::<K>::namespaced(client.clone(), namespace), &K::kind(&()), which, owner, goes).await
}

async fn own_all<K>(
    api: &Api<K>,
    kind: &str,
    which: &ListParams,
    owner: &OwnerReference,
    goes: impl Fn(&str) -> bool,
) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    for object in api.list_metadata(which).await.map_err(Error::List)? {
        let object: PartialObjectMeta<K> = object;
        let name = object.name_any();
        // also taken away: the policy may have become Retain while nothing could be done about it
        if let Some(patch) = owner_patch(&object, owner, goes(&name)) {
            api.patch_metadata(&name, &params, &Patch::Merge(patch))
                .await
                .map_err(|source| Error::Own { object: format!("{kind} {name}"), source })?;
        }
    }
    Ok(())
}

/// The change of a `KesCluster`'s metadata to these finalizers, guarded by its version.
pub(crate) fn patch(cluster: &KesCluster, finalizers: &[String]) -> serde_json::Value {
    json!({"metadata": {"resourceVersion": cluster.resource_version(), "finalizers": finalizers}})
}

#[cfg(test)]
mod tests {
    use super::{super::validate::fixture, *};

    #[test]
    fn the_finalizer_comes_before_the_first_tenant_and_goes_with_the_last() {
        let mut cluster = fixture::cluster();
        cluster.metadata.finalizers = Some(vec!["other".into()]);
        assert_eq!(wanted(&cluster, false), None);
        let with = wanted(&cluster, true).unwrap();
        assert_eq!(with, ["other", FINALIZER]);
        cluster.metadata.finalizers = Some(with);
        assert_eq!(wanted(&cluster, true), None);
        assert_eq!(wanted(&cluster, false).unwrap(), ["other"]);
    }

    #[test]
    fn a_cluster_that_is_being_deleted_gets_no_finalizer_any_more() {
        let mut cluster = fixture::cluster();
        cluster.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-25T10:00:00Z")).unwrap();
        assert_eq!(wanted(&cluster, true), None);
    }
}

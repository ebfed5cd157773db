//! apply: writes what was built, in an order with reasons, and only where it differs from what is there.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{PersistentVolumeClaim, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    build::{Objects, secret::is_owned},
    observe::Seen,
    purpose::Purpose,
    validate::Wanted,
};
use crate::{crd::DeletionPolicy, operator::names};

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to read {object}: {source}")]
    Read { object: String, source: kube::Error },
    #[error("failed to write {object}: {source}")]
    Write { object: String, source: kube::Error },
    #[error("failed to write {object} as JSON: {source}")]
    Encode { object: String, source: serde_json::Error },
}

impl Error {
    /// The object and the problem, if the API server understood the request and refused it: time alone will not help.
    pub(crate) fn refusal(&self) -> Option<(String, String)> {
        match self {
            Self::Write { object, source: kube::Error::Api(status) }
                if (400..500).contains(&status.code) && ![409, 429].contains(&status.code) =>
            {
                Some((object.clone(), status.message.clone()))
            }
            _ => None,
        }
    }
}

/// Brings every object up to date. Returns the number of writes.
///
/// # Errors
/// The first object that cannot be written; those behind it are left for the next pass.
pub(crate) async fn apply(client: &Client, objects: Objects) -> Result<usize, Error> {
    // without `..`: an object that is built but not applied shall not compile
    let Objects { service_account, config_map, headless_service, service, stateful_set } = objects;
    let mut writes = 0;
    // the account before the pods that run under it
    writes += apply_one(client, service_account).await?;
    // the configuration before the pods that read it, else they are replaced twice
    writes += apply_one(client, config_map).await?;
    // the names before the pods that are found by them
    writes += apply_one(client, headless_service).await?;
    writes += apply_one(client, service).await?;
    writes += apply_one(client, stateful_set).await?;
    Ok(writes)
}

/// Creates a Secret with key material. One that exists is never overwritten: the API server decides, not a look at
/// what was there before. Only the server's certificate may be exchanged.
pub(crate) async fn create_secret(client: &Client, purpose: &Purpose, secret: &Secret) -> Result<(), Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let failed = |source| Error::Write { object: describe(secret), source };
    if purpose.is_replaceable() {
        let params = PatchParams::apply(names::MANAGER).force();
        api.patch(&secret.name_any(), &params, &Patch::Apply(secret)).await.map_err(failed)?;
    } else {
        let params = PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() };
        api.create(&params, secret).await.map_err(failed)?;
    }
    Ok(())
}

/// Makes Secrets and volumes follow `spec.deletionPolicy`: owned means deleted together with the `KesCluster`.
/// Returns the number of writes.
pub(crate) async fn settle_owners(client: &Client, wanted: &Wanted, seen: &Seen) -> Result<usize, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &wanted.namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &wanted.namespace);
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    let mut writes = 0;
    for purpose in wanted.purposes() {
        let Some(secret) = seen.secrets.get(&purpose.secret(&wanted.name)) else { continue };
        if let Some(patch) = owner_patch(secret, &wanted.owner, is_owned(wanted, &purpose)) {
            let failed = |source| Error::Write { object: describe(secret), source };
            secrets.patch(&secret.name_any(), &params, &Patch::Merge(patch)).await.map_err(failed)?;
            writes += 1;
        }
    }
    for claim in &seen.volumes {
        if let Some(patch) = owner_patch(claim, &wanted.owner, wanted.deletion == DeletionPolicy::Delete) {
            let failed = |source| Error::Write {
                object: format!("PersistentVolumeClaim {}", claim.name_any()),
                source,
            };
            claims.patch_metadata(&claim.name_any(), &params, &Patch::Merge(patch)).await.map_err(failed)?;
            writes += 1;
        }
    }
    Ok(writes)
}

/// The change to `object`'s owners, if one is needed. Owners that others put there stay.
fn owner_patch(object: &impl ResourceExt, owner: &OwnerReference, owned: bool) -> Option<Value> {
    let mut owners = object.owner_references().to_vec();
    let is_ours = |reference: &OwnerReference| reference.kind == owner.kind && reference.name == owner.name;
    let current = owners.iter().any(|reference| reference.uid == owner.uid);
    let stale = owners.iter().any(|reference| is_ours(reference) && reference.uid != owner.uid);
    if current == owned && !stale {
        return None;
    }
    owners.retain(|reference| !is_ours(reference));
    if owned {
        owners.push(owner.clone());
    }
    Some(json!({"metadata": {"resourceVersion": object.resource_version(), "ownerReferences": owners}}))
}

async fn apply_one<K>(client: &Client, object: K) -> Result<usize, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let name = object.name_any();
    let encoded = |source| Error::Encode { object: describe(&object), source };
    let mut wanted = serde_json::to_value(&object).map_err(encoded)?;
    let digest = names::digest(wanted.to_string().as_bytes());
    wanted["metadata"]["annotations"][names::APPLIED_ANNOTATION] = digest[..32].into();

    let live =
        api.get_opt(&name).await.map_err(|source| Error::Read { object: describe(&object), source })?;
    if let Some(live) = live {
        let live = serde_json::to_value(&live).map_err(encoded)?;
        if contains(&live, &wanted) {
            return Ok(0);
        }
    }
    let params = PatchParams::apply(names::MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(&wanted))
        .await
        .map_err(|source| Error::Write { object: describe(&object), source })?;
    tracing::info!(object = describe(&object), "applied");
    Ok(1)
}

/// Whether `live` has everything that `wanted` says. What the API server filled in beside it is no difference; the
/// digest among the annotations catches what `wanted` no longer says.
pub(crate) fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) => contains(live, wanted),
                // the API server drops empty values
                None => is_empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn describe<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_fills_in_is_no_difference_and_a_human_edit_is() {
        let wanted =
            json!({"spec": {"ports": [{"name": "api", "port": 7373}], "selector": {"a": "b"}, "empty": {}}});
        let filled = json!({"spec": {"ports": [{"name": "api", "port": 7373, "protocol": "TCP"}], "selector": {"a": "b"},
            "clusterIP": "10.0.0.1"}, "status": {}});
        assert!(contains(&filled, &wanted));
        for edited in [
            json!({"spec": {"ports": [{"name": "api", "port": 1}], "selector": {"a": "b"}}}),
            json!({"spec": {"ports": [], "selector": {"a": "b"}}}),
            json!({"spec": {"ports": [{"name": "api", "port": 7373}]}}),
        ] {
            assert!(!contains(&edited, &wanted), "{edited}");
        }
    }

    #[test]
    fn owners_follow_the_deletion_policy_and_foreign_ones_stay() {
        let owner = |kind: &str, name: &str, uid: &str| OwnerReference {
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            ..OwnerReference::default()
        };
        let ours = owner("KesCluster", "vault", "1");
        let mut secret = Secret::default();
        assert!(owner_patch(&secret, &ours, false).is_none());
        assert!(owner_patch(&secret, &ours, true).is_some());
        secret.metadata.owner_references = Some(vec![owner("App", "x", "9"), ours.clone()]);
        assert!(owner_patch(&secret, &ours, true).is_none());
        let patch = owner_patch(&secret, &ours, false).unwrap();
        assert_eq!(patch["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
        assert_eq!(patch["metadata"]["ownerReferences"][0]["kind"], "App");
        // of a former KesCluster of the same name
        secret.metadata.owner_references = Some(vec![owner("KesCluster", "vault", "0")]);
        assert!(owner_patch(&secret, &ours, false).is_some());
    }
}

//! apply: writes what was built, in an order with reasons, and only where it differs from what is there.

use std::fmt::Debug;

use k8s_openapi::{
    ByteString, NamespaceResourceScope,
    api::core::v1::{PersistentVolumeClaim, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    build::{Objects, Optional, secret::is_owned},
    keyring::{self, Keyring},
    observe::Seen,
    purpose::Purpose,
    wanted::Wanted,
};
use crate::{
    crd::DeletionPolicy,
    operator::{names, quantity, rule::Rule},
};

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to read {object}: {source}")]
    Read { object: String, source: kube::Error },
    #[error("failed to write {object}: {source}")]
    Write { object: String, source: kube::Error },
    #[error("{object} exists and was not made by the operator")]
    Taken { object: String },
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
            Self::Taken { object } => Some((
                object.clone(),
                "one of that name exists that the operator did not make, and it is not overwritten; remove or rename it, \
                 or give the KesCluster another name"
                    .into(),
            )),
            _ => None,
        }
    }
}

/// Brings every object up to date. Returns what could not be done and stops nothing.
///
/// # Errors
/// The first object that cannot be written; those behind it are left for the next pass.
pub(crate) async fn apply(client: &Client, objects: Objects) -> Result<Vec<Rule>, Error> {
    // without `..`: an object that is built but not applied shall not compile
    let Objects {
        service_account,
        config_map,
        headless_service,
        service,
        network_policy,
        disruption_budget,
        stateful_set,
        optional,
    } = objects;
    let namespace = stateful_set.namespace().unwrap_or_default();
    let name = stateful_set.name_any();
    // the account before the pods that run under it
    apply_one(client, service_account).await?;
    // the configuration before the pods that read it, else they are replaced twice
    apply_one(client, config_map).await?;
    // the names before the pods that are found by them
    apply_one(client, headless_service).await?;
    apply_one(client, service).await?;
    // closed doors before anybody is behind them
    apply_or_prune(client, &namespace, &name, network_policy).await?;
    apply_or_prune(client, &namespace, &name, disruption_budget).await?;
    // who writes the certificate, then who waits for it
    let mut notes = Vec::new();
    for object in optional {
        match apply_optional(client, &namespace, object).await {
            // the right is optional, and so is what needs it
            Err(
                Error::Read { object, source: kube::Error::Api(status) }
                | Error::Write { object, source: kube::Error::Api(status) },
            ) if status.code == 403 => {
                notes.push(Rule::ObjectRefused { object, problem: status.message.clone() });
            }
            answer => drop(answer?),
        }
    }
    apply_one(client, stateful_set).await?;
    Ok(notes)
}

/// Applies one object of a kind that not every API server knows, or takes it away.
///
/// # Errors
/// When it cannot be written.
pub(crate) async fn apply_optional(
    client: &Client,
    namespace: &str,
    Optional { kind, name, object }: Optional,
) -> Result<usize, Error> {
    let api = Api::namespaced_with(client.clone(), namespace, &kind.resource());
    let what = format!("{} {name}", kind.resource().kind);
    match object {
        Some(object) => write_one(&api, &what, &object).await,
        None => match prune(&api, &what, &name).await {
            // the right is optional: who never had it has nothing to take away
            Err(Error::Read { source: kube::Error::Api(status), .. }) if status.code == 403 => Ok(0),
            pruned => pruned,
        },
    }
}

/// Applies `object`, or takes away the one that was applied when none is wanted.
async fn apply_or_prune<K>(
    client: &Client,
    namespace: &str,
    name: &str,
    object: Option<K>,
) -> Result<usize, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    match object {
        Some(object) => apply_one(client, object).await,
        None => {
            let api: Api<K> = Api::namespaced(client.clone(), namespace);
            prune(&api, &format!("{} {name}", K::kind(&())), name).await
        }
    }
}

/// Deletes the object called `name` if it is one of ours.
async fn prune<K>(api: &Api<K>, what: &str, name: &str) -> Result<usize, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let read = |source| Error::Read { object: what.into(), source };
    let Some(found) = api.get_metadata_opt(name).await.map_err(read)? else { return Ok(0) };
    if !names::is_managed(found.labels()) || found.metadata.deletion_timestamp.is_some() {
        return Ok(0);
    }
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {
            tracing::info!(object = what, "deleted, since the spec no longer asks for it");
            Ok(1)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(0),
        Err(source) => Err(Error::Write { object: what.into(), source }),
    }
}

/// Creates a Secret with key material. One that exists is never overwritten: the API server decides, not a look at
/// what was there before. Only the server's certificate may be exchanged.
pub(crate) async fn create_secret(
    client: &Client,
    purpose: &Purpose,
    secret: &Secret,
) -> Result<Secret, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let failed = |source| Error::Write { object: describe(secret), source };
    if purpose.is_replaceable() {
        let live = api.get_metadata_opt(&secret.name_any()).await;
        let live = live.map_err(|source| Error::Read { object: describe(secret), source })?;
        if live.is_some_and(|live| !names::is_managed(live.labels())) {
            return Err(Error::Taken { object: describe(secret) });
        }
        let params = PatchParams::apply(names::MANAGER).force();
        api.patch(&secret.name_any(), &params, &Patch::Apply(secret)).await.map_err(failed)
    } else {
        let params = PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() };
        match api.create(&params, secret).await {
            // one of ours would have been seen, so it is somebody else's
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                Err(Error::Taken { object: describe(secret) })
            }
            created => created.map_err(failed),
        }
    }
}

/// Makes Secrets and volumes follow `spec.deletionPolicy`: owned means deleted together with the `KesCluster`.
/// Returns the number of writes.
pub(crate) async fn settle_owners(client: &Client, wanted: &Wanted, seen: &Seen) -> Result<usize, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &wanted.namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &wanted.namespace);
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    let mut writes = 0;
    // all of them, also those that the spec no longer names
    for secret in seen.secrets.values() {
        if let Some(patch) = owner_patch(secret, &wanted.owner, goes_along(wanted, secret)) {
            let failed = |source| Error::Write { object: describe(secret), source };
            secrets.patch(&secret.name_any(), &params, &Patch::Merge(patch)).await.map_err(failed)?;
            writes += 1;
        }
    }
    for claim in &seen.volumes {
        let goes = wanted.deletion == DeletionPolicy::Delete && !wanted.guarded;
        if let Some(patch) = owner_patch(claim, &wanted.owner, goes) {
            let failed = |source| Error::Write {
                object: format!("PersistentVolumeClaim {}", claim.name_any()),
                source,
            };
            claims.patch(&claim.name_any(), &params, &Patch::Merge(patch)).await.map_err(failed)?;
            writes += 1;
        }
    }
    Ok(writes)
}

/// Notes on the system admin's Secret which cluster it bootstrapped. Written once.
pub(crate) async fn note_cluster(
    client: &Client,
    wanted: &Wanted,
    ring: &Keyring,
    id: &str,
) -> Result<(), Error> {
    let Some(secret) = ring.get(&Purpose::SystemAdmin) else { return Ok(()) };
    if secret.annotations().get(names::BOOTSTRAPPED_ANNOTATION).is_some_and(|noted| noted == id) {
        return Ok(());
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &wanted.namespace);
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    let patch = json!({"metadata": {"annotations": {names::BOOTSTRAPPED_ANNOTATION: id}}});
    let failed = |source| Error::Write { object: describe(secret), source };
    secrets.patch(&secret.name_any(), &params, &Patch::Merge(patch)).await.map_err(failed)?;
    Ok(())
}

/// Whether Kubernetes collects a Secret together with the `KesCluster`.
fn goes_along(wanted: &Wanted, secret: &Secret) -> bool {
    let certificate = Purpose::ServerCertificate;
    let purpose =
        if secret.name_any() == certificate.secret(&wanted.name) { certificate } else { Purpose::Seal };
    is_owned(wanted, &purpose)
}

/// Whether something that cannot be made again is owned by the `KesCluster` as things are now.
pub(crate) fn is_something_owned(wanted: &Wanted, seen: &Seen) -> bool {
    let certificate = Purpose::ServerCertificate.secret(&wanted.name);
    let owned = |owners: &[OwnerReference]| owners.iter().any(|owner| owner.uid == wanted.owner.uid);
    seen.secrets.values().any(|secret| secret.name_any() != certificate && owned(secret.owner_references()))
        || seen.volumes.iter().any(|claim| owned(claim.owner_references()))
}

/// Takes owners away where `spec.deletionPolicy` no longer wants them, also when nothing else may be done: a cluster that
/// is paused or waits for a person can be deleted at any moment. Never adds one.
pub(crate) async fn disown(client: &Client, wanted: &Wanted, seen: &Seen) -> Result<(), Error> {
    if wanted.deletion == DeletionPolicy::Delete && !wanted.guarded || !is_something_owned(wanted, seen) {
        return Ok(());
    }
    settle_owners(client, wanted, seen).await.map(drop)
}

/// The change to `object`'s owners, if one is needed. Owners that others put there stay.
pub(crate) fn owner_patch(object: &impl ResourceExt, owner: &OwnerReference, owned: bool) -> Option<Value> {
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
    write_one(&api, &describe(&object), &object).await
}

/// Applies `object` unless the live one has everything that it says.
async fn write_one<K>(api: &Api<K>, what: &str, object: &K) -> Result<usize, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = object.name_any();
    let encoded = |source| Error::Encode { object: what.into(), source };
    let wanted = stamped(object).map_err(encoded)?;
    let live = api.get_opt(&name).await.map_err(|source| Error::Read { object: what.into(), source })?;
    if let Some(live) = live {
        if !names::is_managed(live.labels()) {
            return Err(Error::Taken { object: what.into() });
        }
        let live = serde_json::to_value(&live).map_err(encoded)?;
        if contains(&live, &wanted) {
            return Ok(0);
        }
    }
    let params = PatchParams::apply(names::MANAGER).force();
    api.patch(&name, &params, &Patch::Apply(&wanted))
        .await
        .map_err(|source| Error::Write { object: what.into(), source })?;
    tracing::info!(object = what, "applied");
    Ok(1)
}

/// What is sent for `object`: itself, with a digest of it.
pub(crate) fn stamped(object: &impl Serialize) -> Result<Value, serde_json::Error> {
    let mut wanted = serde_json::to_value(object)?;
    let digest = names::digest(wanted.to_string().as_bytes());
    wanted["metadata"]["annotations"][names::APPLIED_ANNOTATION] = digest[..32].into();
    Ok(wanted)
}

/// Gives every Secret with a client certificate the authorities that the servers are trusted by now. Key material is not
/// touched. Returns the number of writes.
pub(crate) async fn settle_trust(client: &Client, wanted: &Wanted, ring: &Keyring) -> Result<usize, Error> {
    let Ok(trust) = ring.trust() else { return Ok(0) };
    let api: Api<Secret> = Api::namespaced(client.clone(), &wanted.namespace);
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    let mut writes = 0;
    for (_, secret) in ring.iter().filter(|(purpose, _)| purpose.is_client()) {
        if keyring::bytes(secret, keyring::AUTHORITY).is_ok_and(|known| known == trust) {
            continue;
        }
        let patch = json!({"metadata": {"resourceVersion": secret.resource_version()},
            "data": {keyring::AUTHORITY: ByteString(trust.clone())}});
        let failed = |source| Error::Write { object: describe(secret), source };
        api.patch(&secret.name_any(), &params, &Patch::Merge(patch)).await.map_err(failed)?;
        writes += 1;
    }
    Ok(writes)
}

/// Whether `live` has everything that `wanted` says. What the API server filled in beside it is no difference; the
/// digest among the annotations catches what `wanted` no longer says.
pub(crate) fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                // the API server writes amounts in its own way
                Some(live) if AMOUNTS.contains(&key.as_str()) => contains_amounts(live, wanted),
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

/// Fields that hold amounts of things by name.
const AMOUNTS: [&str; 2] = ["limits", "requests"];

fn contains_amounts(live: &Value, wanted: &Value) -> bool {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else { return contains(live, wanted) };
    wanted.iter().all(|(name, wanted)| {
        live.get(name).is_some_and(|live| match (live, wanted) {
            (Value::String(live), Value::String(wanted)) => {
                live == wanted || quantity::are_same(live, wanted)
            }
            (live, wanted) => live == wanted,
        })
    })
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
    fn another_spelling_of_an_amount_is_no_difference_and_another_amount_is() {
        let of = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu}}, "env": [{"value": cpu}]});
        let (wanted, mut live) = (of("1000m"), of("1"));
        assert!(!contains(&live, &wanted), "elsewhere it is a text like any other");
        live["env"][0]["value"] = "1000m".into();
        assert!(contains(&live, &wanted));
        live["resources"]["limits"]["cpu"] = "2".into();
        assert!(!contains(&live, &wanted));
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

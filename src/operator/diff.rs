//! What a pass would change, asked of the API server without changing anything: every object is applied as a dry run.
//!
//! The steps are those of a pass up to build. Secrets that would be made and Tenants that would be patched are told in
//! words, since their content is not decided before it happens.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{networking::v1::NetworkPolicy, policy::v1::PodDisruptionBudget},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Context,
    cluster::{self, validate::Defaults},
    context::Scope,
    metrics::Metrics,
    names,
    requests::Requests,
    rule::Rule,
    tenant,
};
use crate::{api::Identity, crd::KesCluster};

/// Who the dry runs are to the API server: somebody who applies a manifest.
const MANAGER: &str = "kes-diff";

/// What is compared, and with what defaults.
#[derive(Clone, Debug)]
pub struct Question {
    /// The manifest of a `KesCluster`, with a namespace.
    pub manifest: Value,
    /// The operator's image, for clusters that name none. Absent: that of the pods that run.
    pub image: Option<String>,
    /// DNS domain of the Kubernetes cluster.
    pub domain: String,
    /// Where the operator runs.
    pub operator_namespace: String,
}

/// What happens to one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Kind, namespace and name.
    pub object: String,
    /// In a few words.
    pub verdict: String,
    /// One line per field: `+` added, `-` taken away, `~` changed.
    pub lines: Vec<String>,
}

/// The verdict about an object that does not change.
const SAME: &str = "stays as it is";

impl Difference {
    /// Whether something happens, or a rule forbids that it does.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.verdict != SAME
    }
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refuses the manifest, or does not answer.
    #[error("failed to try {object} at the API server: {source}")]
    Try {
        /// What was tried.
        object: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// An object cannot be read.
    #[error("failed to read {object}: {source}")]
    Read {
        /// Which one.
        object: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// An object is no JSON.
    #[error("failed to compare: {0}")]
    Json(#[from] serde_json::Error),
    /// What is there cannot be read.
    #[error("{0}")]
    Observe(String),
    /// The manifest breaks a rule.
    #[error("{0}")]
    Refused(String),
}

/// Compares.
///
/// # Errors
/// When the API server refuses or does not answer, and when the operator would refuse the manifest.
pub async fn diff(client: Client, question: Question) -> Result<Vec<Difference>, Error> {
    let Question { manifest, image, domain, operator_namespace } = question;
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let namespace = manifest["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let object = format!("KesCluster {namespace}/{name}");
    let clusters: Api<KesCluster> = Api::namespaced(client.clone(), &namespace);
    let live = clusters.get_opt(&name).await.map_err(reading(&object))?;
    // what the API server makes of it: defaults, rules, and the status that is there
    let cluster = dry_run(&client, &manifest, live.as_ref()).await.map_err(trying(&object))?;
    let mut found = vec![difference(object, live.as_ref(), &cluster)?];

    let image = match image {
        Some(image) => image,
        None => running_image(&client, &namespace, &name).await.unwrap_or_else(|| "localhost/kes:dev".into()),
    };
    let scope = Scope { operator: &operator_namespace, namespaces: &[] };
    let context = Context::new(client.clone(), Defaults { image, domain }, Metrics::new(), &scope);
    let plan =
        cluster::foresee(&context, &cluster).await.map_err(|error| Error::Observe(error.to_string()))?;
    let foreseen = match plan {
        cluster::Foresight::Refused(rule) => {
            found.push(told(format!("KesCluster {namespace}/{name}"), &rule));
            return Ok(found);
        }
        cluster::Foresight::Objects(foreseen) => *foreseen,
    };
    let cluster::Foreseen { wanted, objects, secrets, notes } = foreseen;
    for (secret, why) in secrets {
        found.push(Difference {
            object: format!("Secret {namespace}/{secret}"),
            verdict: why,
            lines: Vec::new(),
        });
    }
    let cluster::build::Objects {
        service_account,
        config_map,
        headless_service,
        service,
        network_policy,
        disruption_budget,
        stateful_set,
        optional,
    } = objects;
    found.push(compare(&client, service_account).await?);
    found.push(compare(&client, config_map).await?);
    found.push(compare(&client, headless_service).await?);
    found.push(compare(&client, service).await?);
    match network_policy {
        Some(object) => found.push(compare(&client, object).await?),
        None => {
            let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
            found.extend(goes(&api, format!("NetworkPolicy {namespace}/{name}"), &name).await?);
        }
    }
    match disruption_budget {
        Some(object) => found.push(compare(&client, object).await?),
        None => {
            let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &namespace);
            found.extend(goes(&api, format!("PodDisruptionBudget {namespace}/{name}"), &name).await?);
        }
    }
    for cluster::build::Optional { kind, name, object } in optional {
        let resource = kind.resource();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        let what = format!("{} {namespace}/{name}", resource.kind);
        match object {
            Some(object) => found.push(try_one(&api, what, object).await?),
            None => found.extend(goes(&api, what, &name).await?),
        }
    }
    found.push(compare(&client, stateful_set).await?);
    for rule in notes {
        found.push(told(format!("KesCluster {namespace}/{name}"), &rule));
    }
    let requests = Requests::of(&name, cluster.annotations());
    for (object, verdict, lines) in tenant::foresee(&context, &cluster, &wanted, &requests).await {
        found.push(Difference { object, verdict, lines });
    }
    Ok(found)
}

/// Replaces the resource for a try, so that what left the manifest goes, as with `kubectl apply`. What others keep in the
/// metadata stays.
async fn dry_run(
    client: &Client,
    manifest: &Value,
    live: Option<&KesCluster>,
) -> Result<KesCluster, kube::Error> {
    let namespace = manifest["metadata"]["namespace"].as_str().unwrap_or_default();
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &kube::api::ApiResource::erase::<KesCluster>(&()));
    let params = PostParams { dry_run: true, field_manager: Some(MANAGER.into()) };
    let mut wanted: DynamicObject =
        serde_json::from_value(manifest.clone()).map_err(kube::Error::SerdeError)?;
    let after = match live {
        None => api.create(&params, &wanted).await?,
        Some(live) => {
            let kept = live.metadata.clone();
            let metadata = &mut wanted.metadata;
            metadata.resource_version = kept.resource_version;
            metadata.finalizers = kept.finalizers;
            metadata.owner_references = kept.owner_references;
            for (name, value) in kept.annotations.into_iter().flatten() {
                metadata.annotations.get_or_insert_default().entry(name).or_insert(value);
            }
            for (name, value) in kept.labels.into_iter().flatten() {
                metadata.labels.get_or_insert_default().entry(name).or_insert(value);
            }
            api.replace(&live.name_any(), &params, &wanted).await?
        }
    };
    after.try_parse().map_err(|error| {
        kube::Error::SerdeError(<serde_json::Error as serde::de::Error>::custom(error.to_string()))
    })
}

/// An object that the spec does not ask for: it goes, if it is there and ours.
async fn goes<K>(api: &Api<K>, what: String, name: &str) -> Result<Option<Difference>, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let found = match api.get_metadata_opt(name).await {
        Err(kube::Error::Api(status)) if status.code == 403 => None,
        found => found.map_err(reading(&what))?,
    };
    let ours = found.is_some_and(|found| names::is_managed(found.labels()));
    Ok(ours.then(|| Difference { object: what, verdict: "is deleted".into(), lines: Vec::new() }))
}

/// Whom the operator would be asked as, if there is nobody yet.
pub(super) fn nobody() -> Identity {
    crate::pki::identity_of_spki(b"")
}

fn told(object: String, rule: &Rule) -> Difference {
    Difference { object, verdict: format!("{}: {rule}", rule.reason()), lines: Vec::new() }
}

/// The image of the pods that run.
async fn running_image(client: &Client, namespace: &str, name: &str) -> Option<String> {
    let sets: Api<k8s_openapi::api::apps::v1::StatefulSet> = Api::namespaced(client.clone(), namespace);
    let set = sets.get_opt(name).await.ok()??;
    set.spec?.template.spec?.containers.into_iter().next()?.image
}

async fn compare<K>(client: &Client, object: K) -> Result<Difference, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    try_one(&api, format!("{} {namespace}/{}", K::kind(&()), object.name_any()), object).await
}

async fn try_one<K>(api: &Api<K>, what: String, object: K) -> Result<Difference, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = object.name_any();
    let live = api.get_opt(&name).await.map_err(reading(&what))?;
    let params = PatchParams { dry_run: true, ..PatchParams::apply(names::MANAGER).force() };
    let wanted = cluster::stamped(&object)?;
    let after = api.patch(&name, &params, &Patch::Apply(&wanted)).await.map_err(trying(&what))?;
    difference(what, live.as_ref(), &after)
}

fn reading(object: &str) -> impl FnOnce(kube::Error) -> Error {
    let object = object.to_owned();
    |source| Error::Read { object, source: Box::new(source) }
}

fn trying(object: &str) -> impl FnOnce(kube::Error) -> Error {
    let object = object.to_owned();
    |source| Error::Try { object, source: Box::new(source) }
}

fn difference<T: Serialize>(object: String, live: Option<&T>, after: &T) -> Result<Difference, Error> {
    let after = cleaned(serde_json::to_value(after)?);
    let Some(live) = live else {
        return Ok(Difference { object, verdict: "is made".into(), lines: Vec::new() });
    };
    let mut lines = Vec::new();
    fields("", &cleaned(serde_json::to_value(live)?), &after, &mut lines);
    let verdict = if lines.is_empty() { SAME } else { "changes" };
    Ok(Difference { object, verdict: verdict.into(), lines })
}

/// Without what the API server counts and stamps.
fn cleaned(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(names::APPLIED_ANNOTATION);
            // kubectl's copy of what was applied says nothing new
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

/// One line per field that differs.
pub(super) fn fields(path: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let (before, after) = (before.get(name), after.get(name));
                fields(&path, before.unwrap_or(&Value::Null), after.unwrap_or(&Value::Null), lines);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for index in 0..before.len().max(after.len()) {
                let (before, after) = (before.get(index), after.get(index));
                let path = format!("{path}[{index}]");
                fields(&path, before.unwrap_or(&Value::Null), after.unwrap_or(&Value::Null), lines);
            }
        }
        (before, after) if before == after => {}
        (Value::Null, after) => lines.push(format!("+ {path}: {after}")),
        (before, Value::Null) => lines.push(format!("- {path}: {before}")),
        (before, after) => lines.push(format!("~ {path}: {before} → {after}")),
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;

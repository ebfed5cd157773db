//! Waiting for a condition, with a deadline and, when it passes, the last reason.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, bail};
use kube::{Api, runtime::wait::await_condition};
use serde::de::DeserializeOwned;

/// Generous: the machine may have other things to do. `KES_E2E_PATIENCE` multiplies it.
const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) fn patience() -> Duration {
    let factor = std::env::var("KES_E2E_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    PATIENCE * factor
}

/// Waits until `holds` says `Ok` about the object `name`, and returns the object as it was then.
///
/// `holds` gets nothing while there is no such object; its `Err` is the reason for waiting on.
pub(crate) async fn until<K>(
    api: Api<K>,
    name: &str,
    what: &str,
    holds: impl Fn(Option<&K>) -> Result<(), String> + Send + Sync,
) -> anyhow::Result<Option<K>>
where
    K: Clone + Debug + Send + DeserializeOwned + kube::Resource + 'static,
{
    let last = Arc::new(Mutex::new(String::from("it was not seen at all")));
    let note = Arc::clone(&last);
    let condition = move |object: Option<&K>| match holds(object) {
        Ok(()) => true,
        Err(reason) => {
            *note.lock().expect("no panic while it is held") = reason;
            false
        }
    };
    let waiting = tokio::time::timeout(patience(), await_condition(api, name, condition));
    match waiting.await {
        Ok(found) => found.with_context(|| format!("failed to watch {name} for: {what}")),
        Err(_) => {
            let last = last.lock().expect("no panic while it is held");
            bail!("{name}: {what} did not come within {:?}; last seen: {last}", patience())
        }
    }
}

/// Waits until there is no object called `name`.
pub(crate) async fn gone<K>(api: Api<K>, name: &str) -> anyhow::Result<()>
where
    K: Clone + Debug + Send + DeserializeOwned + kube::Resource + 'static,
{
    until(api, name, "its absence", |object: Option<&K>| match object {
        None => Ok(()),
        Some(object) => {
            let going = object.meta().deletion_timestamp.is_some();
            Err(format!(
                "it is {}there; finalizers {:?}",
                if going { "going but " } else { "" },
                object.meta().finalizers
            ))
        }
    })
    .await
    .map(drop)
}

/// Waits until the API server serves the kind of a definition.
pub(crate) async fn established(client: &kube::Client, name: &str) -> anyhow::Result<()> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    until(
        Api::all(client.clone()),
        name,
        "the definition established",
        |found: Option<&CustomResourceDefinition>| {
            let conditions =
                found.and_then(|found| found.status.as_ref()?.conditions.clone()).unwrap_or_default();
            let is = conditions
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True");
            if is { Ok(()) } else { Err("it is not".into()) }
        },
    )
    .await
    .map(drop)
}

/// Waits until every pod of a Deployment is of its present template and available.
pub(crate) async fn rolled_out(
    deployments: Api<k8s_openapi::api::apps::v1::Deployment>,
    name: &str,
) -> anyhow::Result<()> {
    until(deployments, name, "the rollout", |found: Option<&k8s_openapi::api::apps::v1::Deployment>| {
        let found = found.ok_or("there is no such Deployment")?;
        let wanted = found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let status = found.status.clone().unwrap_or_default();
        let counts = [status.replicas, status.updated_replicas, status.available_replicas];
        let current = status.observed_generation == found.metadata.generation;
        if current && counts.iter().all(|count| *count == Some(wanted)) {
            Ok(())
        } else {
            Err(format!("pods, new ones, available ones: {counts:?} of {wanted}"))
        }
    })
    .await
    .map(drop)
}

//! Makes the objects of every Tenant in the cluster and reports how many servers are up. Of the Tenant itself only
//! the status is ever written.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Service};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
    core::TypeMeta,
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::{Value, json};

use crate::{
    objects, statefulset, status,
    tenant::{Tenant, api_resource},
};

const FIELD_MANAGER: &str = "minio-operator-standin";

struct Context {
    client: Client,
    sidecar_image: String,
    cluster_domain: String,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to apply {what}: {source}")]
    Apply { what: String, source: kube::Error },
    #[error("failed to write the Tenant's status: {0}")]
    Status(kube::Error),
}

/// Watches Tenants and their StatefulSets until the process is told to end.
pub(crate) async fn run(client: Client) -> anyhow::Result<()> {
    let context = Arc::new(Context {
        client: client.clone(),
        sidecar_image: setting("OPERATOR_SIDECAR_IMAGE", "localhost/minio-operator-standin:test"),
        cluster_domain: setting("CLUSTER_DOMAIN", "cluster.local"),
    });
    let tenants: Api<DynamicObject> = Api::all_with(client.clone(), &api_resource());
    tracing::info!("stand-in for the MinIO Operator: watching Tenants (this is not the MinIO Operator)");
    Controller::new_with(tenants, watcher::Config::default(), api_resource())
        .owns(Api::<StatefulSet>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Service>::all(client), watcher::Config::default())
        .shutdown_on_signal()
        .run(reconcile, retry, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!("{error}");
            }
        })
        .await;
    Ok(())
}

async fn reconcile(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Error> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let status = match Tenant::parse(&object).and_then(|tenant| match tenant.refusal() {
        Some(reason) => Err(reason),
        None => Ok(tenant),
    }) {
        Err(reason) => status::refused(&reason),
        Ok(tenant) => make(&tenant, &context).await?,
    };
    report(&object, status, &context).await?;
    Ok(Action::requeue(Duration::from_secs(60)))
}

/// Applies everything in the order in which it is needed, then counts the servers.
async fn make(tenant: &Tenant, context: &Context) -> Result<Value, Error> {
    for object in objects::access(tenant).into_iter().chain(objects::services(tenant)) {
        apply(object, context).await?;
    }
    let mut ready = 0_i64;
    for pool in &tenant.spec.pools {
        let live =
            apply(statefulset::build(tenant, pool, &context.sidecar_image, &context.cluster_domain), context)
                .await?;
        ready += live.data.pointer("/status/readyReplicas").and_then(Value::as_i64).unwrap_or(0);
    }
    Ok(status::of(tenant, ready))
}

async fn apply(object: Value, context: &Context) -> Result<DynamicObject, Error> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, name, namespace) = (text("/kind"), text("/metadata/name"), text("/metadata/namespace"));
    let types = TypeMeta { api_version: text("/apiVersion"), kind: kind.clone() };
    let failed = |source| Error::Apply { what: format!("{kind} {namespace}/{name}"), source };
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await.map_err(failed)
}

/// A status that says the same is not written again: each write would wake every watcher of Tenants.
async fn report(object: &DynamicObject, status: Value, context: &Context) -> Result<(), Error> {
    let current = object.data.get("status").cloned().unwrap_or_default();
    let same = status
        .as_object()
        .is_some_and(|new| new.iter().all(|(field, value)| current.get(field) == Some(value)));
    if same {
        return Ok(());
    }
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    tracing::info!(
        "{namespace}/{name}: {} of its servers ready, {}",
        status["availableReplicas"],
        status["currentState"]
    );
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &api_resource());
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(&name, &parameters, &Patch::Merge(json!({"status": status}))).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(error) => Err(Error::Status(error)),
    }
}

fn retry(object: Arc<DynamicObject>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!("{}: {error}", object.metadata.name.as_deref().unwrap_or_default());
    Action::requeue(Duration::from_secs(2))
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

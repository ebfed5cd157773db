//! Watches Tenants where the MinIO Operator is installed, and notices when it is installed later.

use std::{collections::HashMap, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, PartialObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::observe;
use crate::operator::{controller, metrics::Metrics, names};

/// How often it is asked whether Tenants exist at all, and the pause after a broken watch.
const PAUSE: Duration = Duration::from_secs(10);

/// One item per Tenant whose spec, labels or consent changed, appeared or went. The MinIO Operator writes some statuses
/// every five seconds (minio-wiring §9, pitfall 5), so any other change is none.
pub(crate) fn watch(
    client: Client,
    namespace: Option<String>,
    metrics: Metrics,
    stop: CancellationToken,
) -> impl Stream<Item = ()> + Send + 'static {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = sender.closed() => {}
            () = follow(&client, namespace.as_deref(), &metrics, &sender) => {}
        }
    });
    controller::ticks(receiver)
}

async fn follow(client: &Client, namespace: Option<&str>, metrics: &Metrics, sender: &mpsc::Sender<()>) {
    loop {
        if observe::is_installed(client).await.unwrap_or(false) {
            follow_once(client, namespace, sender).await;
            metrics.watch_broke();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Follows until the watch breaks, as it does when the CRD goes.
async fn follow_once(client: &Client, namespace: Option<&str>, sender: &mpsc::Sender<()>) {
    let resource = observe::resource();
    let tenants: Api<PartialObjectMeta<DynamicObject>> = match namespace {
        None => Api::all_with(client.clone(), &resource),
        // an operator for some namespaces may look at no others; Tenants elsewhere are seen when a pass looks
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let mut last = HashMap::new();
    let stream = watcher(tenants, watcher::Config::default()).touched_objects();
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        let tenant = match event {
            Ok(tenant) => tenant,
            Err(error) => {
                tracing::debug!(%error, "the watch of Tenants broke");
                return;
            }
        };
        let uid = tenant.uid().unwrap_or_default();
        // what decides about it: the spec, labels that select it, and consent
        let consent = tenant.annotations().get(names::ALLOW_FROM).cloned();
        let state = (tenant.metadata.generation, tenant.labels().clone(), consent);
        let going = tenant.metadata.deletion_timestamp.is_some();
        let known = last.insert(uid, state.clone()) == Some(state);
        if !known || going {
            // one that is not taken yet says the same
            let _ = sender.try_send(());
        }
    }
}

//! Triggers passes: watches KesClusters, what belongs to them, and MinIO Tenants; slows down where passes fail.

use std::{
    collections::HashMap,
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, stream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, PartialObjectMeta},
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::ObjectRef,
        watcher,
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    Context, Error, cluster, metrics::PassResult, names, optional_watch, reach::no_answer, tenant, unreadable,
};
use crate::crd::KesCluster;

/// Passes at the same time, over different clusters.
const CONCURRENCY: u16 = 8;
/// Triggers that come together make one pass.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// No pass takes longer; one sick call must not hold a cluster for ever.
const PASS_LIMIT: Duration = Duration::from_secs(120);
/// First and longest pause after passes that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// One resource that does not fit the schema must not hide the others.
type Guarded = DeserializeGuard<KesCluster>;

/// A pass failed. Named, because the controller asks for an error type of its own.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Step(#[from] cluster::Error),
    #[error("failed to finish a pass within {PASS_LIMIT:?}")]
    TooLong,
}

struct State {
    context: Context,
    /// Passes that failed in a row, by cluster.
    failures: Mutex<HashMap<(String, String), u32>>,
    unreadable: unreadable::Told,
}

/// Checks that KesClusters can be listed, so that a missing CRD or role is one sentence at the start.
pub(super) async fn probe(context: &Context, namespaces: &[String]) -> Result<(), Error> {
    for api in apis::<KesCluster>(&context.client, namespaces) {
        api.list(&ListParams::default().limit(1)).await.map_err(|error| match no_answer(&error) {
            Some(found) => Error::Unreachable(found.clone()),
            None => Error::NotInstalled(Box::new(error)),
        })?;
    }
    Ok(())
}

/// What is cancelled by SIGTERM or SIGINT.
pub(super) fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            terminated().await;
            tracing::info!("stopping: passes under way are finished");
            stop.cancel();
        }
    });
    stop
}

/// Runs until `stop`; passes under way are finished.
pub(super) async fn run(context: Context, namespaces: &[String], stop: CancellationToken) {
    let state =
        Arc::new(State { context, failures: Mutex::default(), unreadable: unreadable::Told::default() });
    let controllers: Vec<_> = if namespaces.is_empty() {
        vec![control(Arc::clone(&state), None, stop.clone())]
    } else {
        namespaces
            .iter()
            .map(|namespace| control(Arc::clone(&state), Some(namespace), stop.clone()))
            .collect()
    };
    tracing::info!(?namespaces, "watching KesClusters");
    futures::future::join_all(controllers).await;
}

fn control(
    state: Arc<State>,
    namespace: Option<&String>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = &state.context.client;
    let ours = || watcher::Config::default().labels(names::MANAGED_SELECTOR);
    let tenants =
        tenant::watch(client.clone(), namespace.cloned(), state.context.metrics.clone(), stop.clone());
    let optional = optional_watch::watch(state.context.clone(), namespace.cloned(), stop.clone());
    let metrics = state.context.metrics.clone();
    let controller = Controller::new(api::<Guarded>(client, namespace), watcher::Config::default());
    // told to stop before it knew anything it would wait for its first list for ever; no pass has begun by then
    let (known, early) = (controller.store(), stop.clone());
    let never_began = async move {
        early.cancelled().await;
        if known.wait_until_ready().now_or_never().is_some() {
            std::future::pending::<()>().await;
        }
    };
    let acting = controller
        // by label and not by owner: what tenants depend on has none
        .watches(api::<PartialObjectMeta<StatefulSet>>(client, namespace), ours(), |set| belongs_to(&set))
        .watches(api::<PartialObjectMeta<Service>>(client, namespace), ours(), |service| belongs_to(&service))
        .watches(api::<PartialObjectMeta<ConfigMap>>(client, namespace), ours(), |map| belongs_to(&map))
        .watches(api::<PartialObjectMeta<ServiceAccount>>(client, namespace), ours(), |account| {
            belongs_to(&account)
        })
        .watches(api::<PartialObjectMeta<NetworkPolicy>>(client, namespace), ours(), |policy| {
            belongs_to(&policy)
        })
        .watches(api::<PartialObjectMeta<PodDisruptionBudget>>(client, namespace), ours(), |budget| {
            belongs_to(&budget)
        })
        // metadata only: key material never enters a cache
        .watches(api::<PartialObjectMeta<Secret>>(client, namespace), ours(), |secret| belongs_to(&secret))
        .watches(api::<PartialObjectMeta<Pod>>(client, namespace), ours(), |pod| belongs_to(&pod))
        .reconcile_all_on(tenants)
        .reconcile_all_on(optional)
        .with_config(controller::Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(reconcile, failed, Arc::clone(&state))
        .for_each(move |result| {
            if let Err(error) = result {
                if matches!(error, controller::Error::QueueError(_)) {
                    metrics.watch_broke();
                }
                // the pass itself has told already; what is left are watches
                tracing::debug!(%error, "controller");
            }
            std::future::ready(())
        });
    async move {
        tokio::select! {
            () = acting => {}
            () = never_began => {}
        }
    }
}

async fn reconcile(cluster: Arc<Guarded>, state: Arc<State>) -> Result<Action, PassError> {
    let DeserializeGuard(parsed) = &*cluster;
    let cluster = match parsed {
        Ok(cluster) => cluster,
        Err(error) => {
            tracing::warn!(%error, name = error.metadata.name, "a KesCluster cannot be read");
            let (namespace, name) = key(&*cluster);
            let told =
                unreadable::tell(&state.context, &state.unreadable, &namespace, &name, &error.error).await;
            if let Err(error) = told {
                tracing::warn!(%error, name, namespace, "failed to tell in its conditions that it cannot be read");
            }
            return Ok(Action::await_change());
        }
    };
    let began = Instant::now();
    let pass = cluster::reconcile(&state.context, cluster);
    let ended = tokio::time::timeout(PASS_LIMIT, pass).await;
    let result = match &ended {
        Ok(Ok(reached)) => reached.result,
        _ => PassResult::Failed,
    };
    state.context.metrics.pass(result, began.elapsed());
    let reached = match ended.map_err(|_| PassError::TooLong).and_then(|ended| ended.map_err(PassError::Step))
    {
        Ok(reached) => reached,
        Err(error) => {
            tell(&state, cluster, &error).await;
            return Err(error);
        }
    };
    state.forget(cluster);
    Ok(reached.next.map_or_else(Action::await_change, Action::requeue))
}

/// A pass that fails reaches the person who looks at the resource, from the second failure in a row: what one repetition
/// heals is nobody's business.
async fn tell(state: &State, cluster: &KesCluster, error: &PassError) {
    let reason = match error {
        PassError::Step(error) => error.reason(),
        PassError::TooLong => "PassTooLong",
    };
    if is_conflict(error) || (state.failures(cluster) == 0 && !matches!(error, PassError::TooLong)) {
        return;
    }
    let told = cluster::failure::tell(&state.context, cluster, reason, error.to_string()).await;
    if let Err(error) = told {
        tracing::debug!(%error, cluster = cluster.name_any(), "failed to tell in the conditions that a pass failed");
    }
}

fn failed(cluster: Arc<Guarded>, error: &PassError, state: Arc<State>) -> Action {
    let pause = state.pause(&*cluster);
    if is_conflict(error) {
        // somebody else wrote in between: look again at once
        return Action::requeue(Duration::from_millis(200));
    }
    tracing::warn!(%error, cluster = cluster.name_any(), namespace = cluster.namespace(), ?pause, "a pass failed");
    Action::requeue(pause)
}

fn is_conflict(error: &PassError) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(kube::Error::Api(status)) = error.downcast_ref() {
            return status.code == 409 && status.reason == "Conflict";
        }
        source = error.source();
    }
    false
}

impl State {
    fn pause(&self, cluster: &impl ResourceExt) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key(cluster)).or_default();
        *count = count.saturating_add(1);
        let (first, longest) = BACKOFF;
        first.saturating_mul(1 << (*count - 1).min(6)).min(longest)
    }

    fn failures(&self, cluster: &impl ResourceExt) -> u32 {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&key(cluster)).copied().unwrap_or_default()
    }

    fn forget(&self, cluster: &impl ResourceExt) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(cluster));
    }
}

fn key(cluster: &impl ResourceExt) -> (String, String) {
    (cluster.namespace().unwrap_or_default(), cluster.name_any())
}

/// The cluster that an object of ours belongs to, also where it has no owner: Secrets that outlive their cluster,
/// and the copies in tenants' namespaces.
fn belongs_to(object: &impl ResourceExt) -> Option<ObjectRef<Guarded>> {
    let labels = object.labels();
    match (labels.get(names::CLUSTER_LABEL), labels.get(names::CLUSTER_NAMESPACE_LABEL)) {
        (Some(name), Some(namespace)) => Some(ObjectRef::new(name).within(namespace)),
        _ => Some(ObjectRef::new(labels.get(names::INSTANCE_LABEL)?).within(&object.namespace()?)),
    }
}

fn apis<K>(client: &Client, namespaces: &[String]) -> Vec<Api<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    if namespaces.is_empty() {
        vec![Api::all(client.clone())]
    } else {
        namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
    }
}

fn api<K>(client: &Client, namespace: Option<&String>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Debug,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "failed to listen for a signal");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

/// Turns a channel's receiver into the stream that a controller takes.
pub(super) fn ticks(receiver: tokio::sync::mpsc::Receiver<()>) -> impl Stream<Item = ()> + Send + 'static {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|()| ((), receiver)) })
}

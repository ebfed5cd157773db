//! What every pass needs: Kubernetes, the clock, randomness, and where events go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, Recorder, Reporter},
};

use super::{
    cluster::{report::News, validate::Defaults},
    metrics::Metrics,
    names,
};
use crate::{
    crd::KesCluster,
    world::{Clock, Random, System},
};

/// Where an operator is and what it serves.
pub(crate) struct Scope<'a> {
    /// Where it runs itself.
    pub(crate) operator: &'a str,
    /// Namespaces that it serves; empty means all of them.
    pub(crate) namespaces: &'a [String],
}

/// Shared by all passes.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) defaults: Defaults,
    pub(crate) metrics: Metrics,
    pub(crate) random: Arc<dyn Random>,
    /// Whether Services can be looked up by name here, as a tenant will do.
    pub(crate) in_cluster: bool,
    /// Where the operator itself runs.
    pub(crate) operator_namespace: Arc<str>,
    /// Namespaces that the operator serves; empty means all of them.
    pub(crate) namespaces: Arc<[String]>,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
    served: Served,
}

/// Which optional parts of the API server are there, and when that was asked.
type Served = Arc<Mutex<HashMap<(&'static str, &'static str), (Instant, bool)>>>;

/// How long an answer about a part of the API server counts: nobody installs those twice a minute.
const SERVED_FOR: Duration = Duration::from_secs(30);

impl Context {
    pub(crate) fn new(client: Client, defaults: Defaults, metrics: Metrics, scope: &Scope<'_>) -> Self {
        let instance = std::env::var("POD_NAME").ok();
        let reporter = Reporter { controller: names::MANAGER.into(), instance };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            defaults,
            metrics,
            operator_namespace: scope.operator.into(),
            namespaces: scope.namespaces.into(),
            served: Served::default(),
            random: Arc::new(System),
            clock: Arc::new(System),
            in_cluster: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }

    /// Now, in whole seconds, as Kubernetes stores times.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// 128 random bits as hex.
    pub(crate) fn random_id(&self) -> String {
        let mut bytes = [0_u8; 16];
        self.random.fill(&mut bytes);
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    /// Whether the API server serves `resource` of `group_version`. No answer counts as no.
    pub(crate) async fn serves(&self, group_version: &'static str, resource: &'static str) -> bool {
        let known = self
            .served
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&(group_version, resource))
            .copied();
        if let Some((asked, served)) = known
            && asked.elapsed() < SERVED_FOR
        {
            return served;
        }
        self.serves_now(group_version, resource).await
    }

    /// The same, asked anew; passes that follow know it too.
    pub(crate) async fn serves_now(&self, group_version: &'static str, resource: &'static str) -> bool {
        let found = self.client.list_api_group_resources(group_version).await;
        let served = found.is_ok_and(|found| found.resources.iter().any(|known| known.name == resource));
        let mut all = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((group_version, resource), (Instant::now(), served));
        served
    }

    /// Who this process is among operators: a name that a person finds, and randomness, since a pod may restart.
    pub(crate) fn identity(&self) -> String {
        let name = ["POD_NAME", "HOSTNAME"].iter().find_map(|name| std::env::var(name).ok());
        format!("{}_{}", name.unwrap_or_else(|| "operator".into()), &self.random_id()[..8])
    }

    /// Publishes an event about `cluster`. A lost event is no reason to stop.
    pub(crate) async fn tell(&self, cluster: &KesCluster, news: News) {
        self.tell_about(&cluster.object_ref(&()), news).await;
    }

    /// The same about any object.
    pub(crate) async fn tell_about(&self, about: &ObjectReference, news: News) {
        let News { kind, action, reason, note } = news;
        let event = Event { type_: kind, reason, note: Some(note), action: action.into(), secondary: None };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::warn!(%error, reason = event.reason, "failed to publish an event");
        }
    }
}

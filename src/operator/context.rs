//! What every pass needs: Kubernetes, the clock, randomness, and where events go.

use std::sync::Arc;

use jiff::Timestamp;
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

/// Shared by all passes.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) defaults: Defaults,
    pub(crate) metrics: Metrics,
    pub(crate) random: Arc<dyn Random>,
    /// Whether Services can be looked up by name here, as a tenant will do.
    pub(crate) in_cluster: bool,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
}

impl Context {
    pub(crate) fn new(client: Client, defaults: Defaults, metrics: Metrics) -> Self {
        let instance = std::env::var("POD_NAME").ok();
        let reporter = Reporter { controller: names::MANAGER.into(), instance };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            defaults,
            metrics,
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

    /// Who this process is among operators: a name that a person finds, and randomness, since a pod may restart.
    pub(crate) fn identity(&self) -> String {
        let name = ["POD_NAME", "HOSTNAME"].iter().find_map(|name| std::env::var(name).ok());
        format!("{}_{}", name.unwrap_or_else(|| "operator".into()), &self.random_id()[..8])
    }

    /// Publishes an event about `cluster`. A lost event is no reason to stop.
    pub(crate) async fn tell(&self, cluster: &KesCluster, news: News) {
        let News { kind, action, reason, note } = news;
        let event = Event { type_: kind, reason, note: Some(note), action: action.into(), secondary: None };
        if let Err(error) = self.recorder.publish(&event, &cluster.object_ref(&())).await {
            tracing::warn!(%error, reason = event.reason, "failed to publish an event");
        }
    }
}

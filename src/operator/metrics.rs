//! What the operator tells about its own work, as OpenMetrics text on the health port.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use tower::{Layer, Service};

use crate::telemetry::Usage;

/// Shared by everything that counts.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    passes: Family<PassLabels, Counter>,
    pass_seconds: Histogram,
    requests: Family<RequestLabels, Counter>,
    watch_errors: Counter,
    leader: Gauge,
    ready: Family<ClusterLabels, Gauge>,
    tenants: Family<TenantLabels, Gauge>,
    resident_bytes: Gauge,
    cpu_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PassLabels {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    verb: &'static str,
    resource: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ClusterLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct TenantLabels {
    namespace: String,
    name: String,
    state: &'static str,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PassResult {
    /// Nothing is left to do.
    Settled,
    /// Something is waited for.
    Waiting,
    /// A rule wants a person to act.
    Refused,
    /// A step failed; it is tried again.
    Failed,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("kes_operator");
        let passes = Family::default();
        let pass_seconds = Histogram::new(exponential_buckets(0.005, 2.0, 14));
        let requests = Family::default();
        let watch_errors = Counter::default();
        let leader = Gauge::default();
        let ready = Family::default();
        let tenants = Family::default();
        let resident_bytes = Gauge::default();
        let cpu_seconds = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
        registry.register("reconciles", "Passes over KesClusters, by how they ended", passes.clone());
        registry.register("reconcile_duration_seconds", "How long passes take", pass_seconds.clone());
        registry.register(
            "api_requests",
            "Requests to the API server, by verb and resource",
            requests.clone(),
        );
        registry.register("watch_errors", "Watches that broke and were begun anew", watch_errors.clone());
        registry.register("leader", "1 while this process holds the lease and acts", leader.clone());
        registry.register("cluster_ready", "1 while the KesCluster is Ready", ready.clone());
        registry.register("tenants", "MinIO tenants of a KesCluster, by state", tenants.clone());
        registry.register("resident_memory_bytes", "Resident memory of the operator", resident_bytes.clone());
        registry.register("cpu_seconds", "CPU time that the operator has used", cpu_seconds.clone());
        Self(Arc::new(Inner {
            registry,
            passes,
            pass_seconds,
            requests,
            watch_errors,
            leader,
            ready,
            tenants,
            resident_bytes,
            cpu_seconds,
        }))
    }

    pub(crate) fn pass(&self, result: PassResult, took: Duration) {
        let result = match result {
            PassResult::Settled => "settled",
            PassResult::Waiting => "waiting",
            PassResult::Refused => "refused",
            PassResult::Failed => "failed",
        };
        self.0.passes.get_or_create(&PassLabels { result }).inc();
        self.0.pass_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn watch_broke(&self) {
        self.0.watch_errors.inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// What is known about a cluster now.
    pub(crate) fn cluster(
        &self,
        namespace: &str,
        name: &str,
        ready: bool,
        verified: usize,
        unverified: usize,
    ) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let labels = ClusterLabels { namespace: namespace.clone(), name: name.clone() };
        self.0.ready.get_or_create(&labels).set(i64::from(ready));
        for (state, count) in [("verified", verified), ("unverified", unverified)] {
            let labels = TenantLabels { namespace: namespace.clone(), name: name.clone(), state };
            self.0.tenants.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A cluster that is gone is not told about any more.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.0.ready.remove(&ClusterLabels { namespace: namespace.clone(), name: name.clone() });
        for state in ["verified", "unverified"] {
            self.0.tenants.remove(&TenantLabels { namespace: namespace.clone(), name: name.clone(), state });
        }
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        let usage = Usage::now();
        self.0.resident_bytes.set(i64::try_from(usage.resident_bytes).unwrap_or(i64::MAX));
        self.0.cpu_seconds.set(usage.cpu_seconds);
        let mut text = String::new();
        // writing to a String cannot fail
        let _ = encode(&mut text, &self.0.registry);
        text
    }
}

/// Counts every request that the client sends.
#[derive(Clone)]
pub(crate) struct CountRequests(pub(crate) Metrics);

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.0.clone() }
    }
}

/// See [`CountRequests`].
#[derive(Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let verb = verb(request.method(), request.uri().query().unwrap_or_default());
        let labels = RequestLabels { verb, resource: resource(request.uri().path()) };
        self.metrics.0.requests.get_or_create(&labels).inc();
        self.inner.call(request)
    }
}

fn verb(method: &Method, query: &str) -> &'static str {
    let watches = query.split('&').any(|part| part == "watch=true" || part == "watch=1");
    match method.as_str() {
        "GET" if watches => "watch",
        "GET" => "read",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

/// The resource that a path is about, with its subresource, for example `kesclusters/status`.
fn resource(path: &str) -> String {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (["api", _, rest @ ..] | ["apis", _, _, rest @ ..]) = parts.as_slice() else {
        return "other".into();
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        _ => rest,
    };
    match rest {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => "discovery".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_its_resource_and_never_under_a_name() {
        for (path, expected) in [
            ("/api/v1/namespaces/keys/secrets/vault-seal", "secrets"),
            ("/apis/kes-operator.io/v1alpha1/namespaces/keys/kesclusters/vault/status", "kesclusters/status"),
            ("/apis/kes-operator.io/v1alpha1/kesclusters", "kesclusters"),
            ("/api/v1/namespaces/keys", "namespaces"),
            ("/apis/minio.min.io/v2", "discovery"),
            ("/version", "other"),
        ] {
            assert_eq!(resource(path), expected, "{path}");
        }
        assert_eq!(verb(&Method::GET, "limit=1&watch=true"), "watch");
        assert_eq!(verb(&Method::PATCH, ""), "patch");
    }

    #[test]
    fn the_text_names_what_was_counted_and_forgets_what_is_gone() {
        let metrics = Metrics::new();
        metrics.leads(true);
        metrics.pass(PassResult::Settled, Duration::from_millis(7));
        metrics.cluster("keys", "vault", true, 2, 1);
        let text = metrics.text();
        for line in [
            "kes_operator_leader 1",
            "kes_operator_reconciles_total{result=\"settled\"} 1",
            "kes_operator_reconcile_duration_seconds_count 1",
            "kes_operator_cluster_ready{namespace=\"keys\",name=\"vault\"} 1",
            "kes_operator_tenants{namespace=\"keys\",name=\"vault\",state=\"unverified\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        metrics.forget("keys", "vault");
        assert!(!metrics.text().contains("vault"));
    }
}

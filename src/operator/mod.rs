//! Makes the Kubernetes cluster match each `KesCluster`: the key service, its contents, and the MinIO tenants that
//! encrypt with it. `cluster/` and `tenant/` are the two flows, each in one pass per trigger without waiting inside.

pub(crate) mod cluster;
mod condition;
mod context;
mod controller;
pub mod diff;
#[cfg(test)]
mod fake_api;
#[cfg(test)]
mod fixed_point_tests;
mod health;
mod key_service;
mod lease;
mod metrics;
mod names;
mod optional_watch;
#[cfg(test)]
mod pass_tests;
mod quantity;
mod reach;
mod requests;
mod rights;
mod rule;
mod tenant;
#[cfg(test)]
mod tests;
mod unreadable;

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

pub(crate) use context::Context;
pub use reach::{Unreachable, client, no_answer};

/// Options of `kes operator`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Namespace to watch for KesClusters; may be given more than once. Default: all of them.
    #[arg(
        long = "watch-namespace",
        value_name = "NAMESPACE",
        env = "KES_WATCH_NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,

    /// Image of the key servers that name none: the operator's own.
    #[arg(long, value_name = "IMAGE", env = "KES_IMAGE", default_value = "localhost/kes:dev")]
    pub image: String,

    /// Address for /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub health_addr: SocketAddr,

    /// Namespace of the lease that makes one operator act at a time.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "kes-operator")]
    pub lease_namespace: String,

    /// Name of that lease: operators that watch different namespaces each need their own.
    #[arg(long, value_name = "NAME", env = "KES_LEASE_NAME", default_value = "kes-operator")]
    pub lease_name: String,

    /// DNS domain of the Kubernetes cluster.
    #[arg(long, value_name = "DOMAIN", env = "KES_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No Kubernetes cluster is configured here.
    #[error("failed to find a Kubernetes cluster: run inside of one, or set KUBECONFIG: {0}")]
    Configuration(#[source] Box<kube::config::InferConfigError>),
    /// The client could not be made.
    #[error("failed to prepare the connection to Kubernetes: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The API server does not answer.
    #[error("{0}; check KUBECONFIG, and that the network lets this host reach that address")]
    Unreachable(#[source] Unreachable),
    /// The API server does not know the resource, or refuses to show it.
    #[error("failed to list KesClusters: {0}; apply crds/kesclusters.yaml, and check the operator's role")]
    NotInstalled(#[source] Box<kube::Error>),
    /// Rights that the operator cannot do without.
    #[error(
        "failed to start: {} {} missing: {}; apply config/rbac or the chart's roles, then the operator starts by itself",
        .0.len(),
        if .0.len() == 1 { "right is" } else { "rights are" },
        .0.join(". And ")
    )]
    Rights(Vec<String>),
    /// Another operator may act now, so this one must not.
    #[error(
        "the lease that lets one operator act is lost: {0}; this process ends at once, and Kubernetes starts it again to wait for its turn"
    )]
    LeaseLost(String),
    /// The health port cannot be used.
    #[error("failed to listen on {address} for health checks: {source}")]
    Health {
        /// What `--health-addr` says.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// Name of the Secret with the system admin's certificate.
#[must_use]
pub fn system_admin_secret(cluster: &str) -> String {
    names::system_admin_secret(cluster)
}

/// Name of the Secret with the certificate of an enclave's admin.
#[must_use]
pub fn enclave_admin_secret(cluster: &str, enclave: &crate::api::EnclaveName) -> String {
    names::enclave_admin_secret(cluster, enclave)
}

/// Name of the Secret with a generated unseal key.
#[must_use]
pub fn seal_secret(cluster: &str) -> String {
    names::seal_secret(cluster)
}

/// Label selector of a cluster's pods.
#[must_use]
pub fn pod_selector(cluster: &str) -> String {
    names::pod_selector(cluster)
}

/// A rule that the operator would refuse a `KesCluster` for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Path of the field; empty where it is about none.
    pub field: String,
    /// What is wrong, in a few words.
    pub problem: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { field, problem } = self;
        if field.is_empty() { f.write_str(problem) } else { write!(f, "{field}: {problem}") }
    }
}

/// Every rule that `cluster` breaks of those that the schema cannot express.
#[must_use]
pub fn problems(cluster: &crate::crd::KesCluster) -> Vec<Problem> {
    let mut cluster = cluster.clone();
    // what only the API server gives
    cluster.metadata.uid.get_or_insert_default();
    // its absence is said by the schema
    cluster.metadata.name.get_or_insert_with(|| "nameless".into());
    cluster.metadata.namespace.get_or_insert_with(|| "default".into());
    let defaults = cluster::validate::Defaults { image: "any".into(), domain: "cluster.local".into() };
    let rules = cluster::validate::examine(&cluster, &defaults).err().unwrap_or_default();
    let problem = |rule| match rule {
        // its sentence also says what became of a cluster that runs
        rule::Rule::InvalidSpec { field, problem } => Problem { field, problem },
        rule => Problem { field: String::new(), problem: rule.to_string() },
    };
    rules.into_iter().map(problem).collect()
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When it cannot start, and when it may no longer act. Whatever else happens later is reported in the resources and
/// tried again.
pub async fn run(options: Options) -> Result<(), Error> {
    let Options { watch_namespaces, image, health_addr, lease_namespace, lease_name, cluster_domain } =
        options;
    // an error means that a provider is installed already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let metrics = metrics::Metrics::new();
    let config = kube::Config::infer().await.map_err(|error| Error::Configuration(Box::new(error)))?;
    let naming = reach::Naming::of(&config);
    let client = kube::client::ClientBuilder::try_from(config)
        .map_err(|error| Error::Client(Box::new(error)))?
        .with_layer(&naming)
        .with_layer(&metrics::CountRequests(metrics.clone()))
        .build();
    let scope = context::Scope { operator: &lease_namespace, namespaces: &watch_namespaces };
    let defaults = cluster::validate::Defaults { image, domain: cluster_domain };
    let context = Context::new(client.clone(), defaults, metrics.clone(), &scope);

    let missing =
        rights::probe(&client, &watch_namespaces, &lease_namespace).await.map_err(Error::Unreachable)?;
    for sentence in missing.optional {
        tracing::warn!("a right is missing that not everybody needs: {sentence}");
    }
    if !missing.needed.is_empty() {
        return Err(Error::Rights(missing.needed));
    }
    controller::probe(&context, &watch_namespaces).await?;
    let listener = health::listen(health_addr).await?;
    let stop = controller::stop_on_signal();
    let contender = lease::Contender::new(client, &lease_namespace, &lease_name, context.identity());
    tokio::select! {
        outcome = act(context, &watch_namespaces, contender, stop) => outcome,
        () = health::serve(listener, metrics) => Ok(()),
    }
}

/// Waits for the lease, acts while it is held, gives it back when told to stop.
async fn act(
    context: Context,
    namespaces: &[String],
    contender: lease::Contender,
    stop: CancellationToken,
) -> Result<(), Error> {
    let metrics = context.metrics.clone();
    let mut held = tokio::select! {
        held = contender.acquire() => held,
        () = stop.cancelled() => return Ok(()),
    };
    metrics.leads(true);
    let lost = tokio::select! {
        () = controller::run(context, namespaces, stop) => None,
        lost = held.keep() => Some(lost),
    };
    metrics.leads(false);
    match lost {
        Some(lost) => Err(Error::LeaseLost(lost.to_string())),
        None => {
            held.release().await;
            Ok(())
        }
    }
}

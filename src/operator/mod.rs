//! Makes the Kubernetes cluster match each `KesCluster`: the key service, its contents, and the MinIO tenants that
//! encrypt with it. `cluster/` and `tenant/` are the two flows, each in one pass per trigger without waiting inside.

pub(crate) mod cluster;
mod condition;
mod context;
mod controller;
#[cfg(test)]
mod fake_api;
mod health;
mod key_service;
mod names;
#[cfg(test)]
mod pass_tests;
mod rule;
mod tenant;

use std::net::SocketAddr;

pub(crate) use context::Context;

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
    /// The API server does not know the resource, or refuses to show it.
    #[error("failed to list KesClusters: {0}; apply crds/kesclusters.yaml, and check the operator's role")]
    NotInstalled(#[source] Box<kube::Error>),
    /// The health port cannot be used.
    #[error("failed to listen on {address} for health checks: {source}")]
    Health {
        /// What `--health-addr` says.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When it cannot start. Whatever happens later is reported in the resources and tried again.
pub async fn run(options: Options) -> Result<(), Error> {
    let Options { watch_namespaces, image, health_addr, cluster_domain } = options;
    // an error means that a provider is installed already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = kube::Config::infer().await.map_err(|error| Error::Configuration(Box::new(error)))?;
    let client = kube::Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))?;
    let context = Context::new(client, cluster::validate::Defaults { image, domain: cluster_domain });
    controller::probe(&context, &watch_namespaces).await?;
    let listener = health::listen(health_addr).await?;
    tokio::select! {
        () = controller::run(context, &watch_namespaces) => {}
        () = health::serve(listener) => {}
    }
    Ok(())
}

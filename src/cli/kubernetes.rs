//! The way to the Kubernetes API server, as kubectl finds it.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::failure::Failure;

/// A client for the current context, or for the one that is named.
pub(super) async fn client(context: Option<&str>) -> Result<Client, Failure> {
    // an error means that a provider is installed already
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let no_cluster = |error: &dyn std::fmt::Display| {
        Failure::new(
            format!("failed to find a Kubernetes cluster: {error}"),
            "Set KUBECONFIG, or choose another context with '--context'; 'kubectl config get-contexts' lists them.",
        )
    };
    let config = match context {
        None => Config::infer().await.map_err(|error| no_cluster(&error))?,
        Some(context) => {
            let options = KubeConfigOptions { context: Some(context.into()), ..KubeConfigOptions::default() };
            let file = Kubeconfig::read().map_err(|error| no_cluster(&error))?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| no_cluster(&error))?
        }
    };
    Client::try_from(config).map_err(|error| no_cluster(&error))
}

/// What the API server said, and what helps.
pub(super) fn failed(step: &str, error: &kube::Error) -> Failure {
    let next = match error {
        kube::Error::Api(status) if status.code == 403 => {
            "Ask for that right; docs/kubectl-kes.md says which verb needs which."
        }
        kube::Error::Api(status) if status.code == 404 => "Check the names, and the namespace ('-n').",
        _ => "Check that the cluster can be reached: 'kubectl get --raw /readyz'.",
    };
    Failure::new(format!("failed to {step}: {error}"), next)
}

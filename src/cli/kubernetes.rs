//! The way to the Kubernetes API server, as kubectl finds it.

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::failure::Failure;
use crate::operator;

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
    operator::client(config).map_err(|error| no_cluster(&error))
}

/// The failure of everything that asks an API server from which no answer comes, if `error` is of that kind.
pub(super) fn away(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    operator::no_answer(error).map(|found| {
        Failure::new(
            found.to_string(),
            "Check KUBECONFIG and its context, and that the network lets you through: 'kubectl get --raw /readyz'.",
        )
    })
}

/// What the API server said, and what helps.
pub(super) fn failed(step: &str, error: &kube::Error) -> Failure {
    if let Some(failure) = away(error) {
        return failure;
    }
    let next = match error {
        kube::Error::Api(status) if status.code == 403 => {
            "Ask for that right; docs/kubectl-kes.md says which verb needs which."
        }
        kube::Error::Api(status) if status.code == 404 => "Check the names, and the namespace ('-n').",
        _ => "Check that the cluster can be reached: 'kubectl get --raw /readyz'.",
    };
    Failure::new(format!("failed to {step}: {error}"), next)
}

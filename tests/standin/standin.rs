//! A **stand-in** for the MinIO Operator, for tests on machines where its images cannot be had.
//!
//! This is *not* the MinIO Operator and contains none of its code. It was written from captured objects: for a
//! `Tenant` (minio.min.io/v2) it makes the Services, RBAC objects and StatefulSets that the real one (v7.1.1) made
//! (`captures.rs` compares them field by field), and in each pod it renders the environment file and answers the readiness probe as the real sidecar did. The
//! MinIO in those pods is the real one.
//!
//! What it leaves out, and says so in the Tenant's status where that matters: certificates of its own
//! (`requestAutoCert`), `spec.kes`, users, buckets, Prometheus, upgrades. Where the real images can be had, the
//! scripts beside the cluster kit use those instead.
//!
//! One binary, three roles: `controller` in a Deployment, `validate` in an init container, `sidecar` beside MinIO.

#[cfg(test)]
mod captures;
mod config_env;
mod controller;
mod objects;
mod sidecar;
mod statefulset;
mod status;
mod tenant;

use anyhow::{Context as _, bail};
use kube::Client;

const USAGE: &str = "usage: minio-operator-standin controller
       minio-operator-standin validate --tenant NAME
       minio-operator-standin sidecar --tenant NAME --config-name SECRET";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_ansi(false).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let role = arguments.first().map_or("controller", String::as_str);
    let client = Client::try_default().await.context("failed to find the Kubernetes API")?;
    match role {
        "controller" => controller::run(client).await,
        "validate" => sidecar::validate(client, option(&arguments, "--tenant")?).await,
        // the name of the Secret is read from the live Tenant; the flag is accepted because the pod template has it
        "sidecar" => sidecar::run(client, option(&arguments, "--tenant")?).await,
        other => bail!("unknown role {other:?}\n{USAGE}"),
    }
}

fn option(arguments: &[String], name: &str) -> anyhow::Result<String> {
    arguments
        .iter()
        .position(|argument| argument == name)
        .and_then(|at| arguments.get(at + 1))
        .cloned()
        .with_context(|| format!("{name} is missing\n{USAGE}"))
}

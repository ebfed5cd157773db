//! The way from here to a key service: a port-forward, and the admins' certificates from their Secrets. Nothing of it is
//! written to a disk.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{
    forward,
    place::{Place, names},
};
use crate::{
    api::API_PORT,
    cli::{
        connect::{self, Pem, Way},
        failure::Failure,
        kubernetes,
    },
    crd::KesCluster,
    operator,
};

/// Opens the way for the verb that follows.
pub(super) async fn open(place: &Place) -> Result<(), Failure> {
    let (client, cluster) = place.find().await?;
    connect::through(lead(&client, &cluster).await?);
    Ok(())
}

/// Finds everything that a client needs.
pub(super) async fn lead(client: &Client, cluster: &KesCluster) -> Result<Way, Failure> {
    let (namespace, name) = names(cluster);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let system = admin(&secrets, &operator::system_admin_secret(&name)).await?;
    let mut enclaves = BTreeMap::new();
    for enclave in super::enclaves(cluster) {
        // an enclave that was not made yet has no admin yet
        if let Ok(pem) = admin(&secrets, &operator::enclave_admin_secret(&name, &enclave)).await {
            enclaves.insert(enclave, pem);
        }
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pod = server(&pods, &name).await?;
    let connect_to = forward::open(pods, pod, API_PORT).await.map_err(|error| {
        Failure::new(format!("failed to open a local port: {error}"), "Close some programs and try again.")
    })?;
    let trust = system.authority.clone();
    let endpoint = format!("https://{name}.{namespace}.svc:{API_PORT}");
    Ok(Way { endpoint, connect_to, trust, system, enclaves })
}

/// A pod of the key service that is ready.
async fn server(pods: &Api<Pod>, cluster: &str) -> Result<String, Failure> {
    let which = ListParams::default().labels(&operator::pod_selector(cluster));
    let found = pods.list(&which).await;
    let found = found.map_err(|error| kubernetes::failed("list the key service's pods", &error))?;
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        pod.metadata.deletion_timestamp.is_none()
            && conditions.into_iter().any(|found| found.type_ == "Ready" && found.status == "True")
    };
    found.iter().find(is_ready).map(ResourceExt::name_any).ok_or_else(|| {
        Failure::new(
            format!("no pod of KesCluster {cluster} is ready"),
            "'kubectl kes status' shows what is waited for.",
        )
    })
}

/// The certificate of an admin.
async fn admin(secrets: &Api<Secret>, name: &str) -> Result<Pem, Failure> {
    let step = format!("read Secret {name} with the admin's certificate");
    let secret = secrets.get(name).await.map_err(|error| kubernetes::failed(&step, &error))?;
    let mut data = secret.data.unwrap_or_default();
    let mut take = |key: &str| {
        data.remove(key).map(|bytes| bytes.0).ok_or_else(|| {
            Failure::new(
                format!("Secret {name} has no '{key}'"),
                "It was changed: restore it from a backup; the operator tells about it in the KesCluster's conditions.",
            )
        })
    };
    Ok(Pem {
        certificate: take("tls.crt")?,
        key: zeroize::Zeroizing::new(take("tls.key")?),
        authority: take("ca.crt")?,
    })
}

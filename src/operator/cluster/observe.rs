//! observe: reads what is there, in Kubernetes and from the member itself. Judges nothing, writes nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod, Secret},
    storage::v1::StorageClass,
};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    build::{CERTIFICATE, SERVICE_MONITOR},
    expansion,
    keyring::{self, AUTHORITY},
    purpose::Purpose,
    wanted::Wanted,
};
use crate::{
    api::API_PORT,
    crd::KesCluster,
    operator::{
        Context,
        key_service::Address,
        names,
        tenant::{self, Selected},
    },
};

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to read {what}: {source}")]
    Read { what: &'static str, source: kube::Error },
}

/// Everything that the steps behind this one look at.
pub(crate) struct Seen {
    /// Secrets that the operator made for this cluster, by name.
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// The user's Secret with the unseal key, if the spec names one and it exists.
    pub(crate) seal: Option<Secret>,
    /// The Secret with a server certificate that somebody else keeps up to date, if the spec names one and it exists.
    pub(crate) server_source: Option<Secret>,
    /// Tenants that the spec selects by their labels, as far as they can be listed.
    pub(crate) selected: Selected,
    /// Whether volumes of the class that the members use can grow; unknown where the class cannot be read.
    pub(crate) expandable: Option<bool>,
    /// What else the API server serves.
    pub(crate) apis: Apis,
    pub(crate) stateful_set: Option<StatefulSet>,
    /// The first member's pod.
    pub(crate) pod: Option<Pod>,
    /// Volumes of the members.
    pub(crate) volumes: Vec<PersistentVolumeClaim>,
    pub(crate) member: Member,
}

/// Optional parts of the API server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Apis {
    /// The Prometheus Operator's.
    pub(crate) monitoring: bool,
    /// cert-manager's.
    pub(crate) cert_manager: bool,
}

/// What the first member says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Member {
    /// It cannot be asked yet: no address, or no certificate to ask with.
    Absent,
    /// It does not answer, or not to us.
    Silent(String),
    /// It has an empty directory and waits for the bootstrap.
    Empty,
    /// It holds the data of this cluster.
    Initialised { cluster_id: String, sealed: bool },
}

/// Reads everything about `cluster`.
///
/// # Errors
/// When the API server refuses or does not answer. A member that does not answer is no error.
pub(crate) async fn observe(
    context: &Context,
    cluster: &KesCluster,
    wanted: Option<&Wanted>,
) -> Result<Seen, Error> {
    let client = &context.client;
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let failed = |what| move |source| Error::Read { what, source };

    let secret_api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let stateful_set_api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let pod_api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let claim_api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);

    let owned = ListParams::default().labels(&names::instance_selector(name));
    let of_pods = ListParams::default().labels(&names::pod_selector(name));
    let pod_name = pod_name(name);
    let (secrets, stateful_set, pod, volumes) = tokio::join!(
        secret_api.list(&owned),
        stateful_set_api.get_opt(name),
        pod_api.get_opt(&pod_name),
        claim_api.list(&of_pods),
    );
    let secrets = secrets.map_err(failed("the cluster's Secrets"))?;
    let secrets: BTreeMap<_, _> = secrets
        .items
        .into_iter()
        .filter_map(|secret| Some((secret.metadata.name.clone()?, secret)))
        .collect();
    let seal = match cluster.spec.seal.as_ref().map(|seal| &seal.secret_ref.name) {
        None => None,
        Some(name) => match secrets.get(name) {
            Some(secret) => Some(secret.clone()),
            None => secret_api.get_opt(name).await.map_err(failed("the Secret of spec.seal"))?,
        },
    };
    let server_source = match wanted.and_then(|wanted| wanted.tls.source()) {
        None => None,
        Some(name) => secret_api.get_opt(name).await.map_err(failed("the Secret of spec.tls"))?,
    };
    let selected = match wanted.and_then(|wanted| wanted.selection.as_ref()) {
        None => Selected::default(),
        Some(selection) => tenant::select(context, selection, namespace).await,
    };
    let mut volumes = volumes.map_err(failed("the volume claims"))?.items;
    if volumes.is_empty() {
        // the first member takes up the one of its name, whether or not that has our labels
        let by_name = ListParams::default().fields(&format!("metadata.name=data-{pod_name}"));
        volumes = claim_api.list(&by_name).await.map_err(failed("the volume claims"))?.items;
    }
    let expandable = match wanted.filter(|wanted| expansion::is_asked_for(wanted, &volumes)) {
        None => None,
        Some(_) => expandable(client, &volumes).await,
    };
    // also where the spec does not ask for them: what it asked for earlier has to go
    let apis = Apis {
        monitoring: context.serves(SERVICE_MONITOR.group_version(), SERVICE_MONITOR.plural).await,
        cert_manager: context.serves(CERTIFICATE.group_version(), CERTIFICATE.plural).await,
    };
    let pod = pod.map_err(failed("the member's pod"))?;
    let member = ask(name, namespace, pod.as_ref(), &secrets).await;
    Ok(Seen {
        secrets,
        seal,
        server_source,
        selected,
        expandable,
        apis,
        // one of somebody else's is none of ours to read a size from, let alone to replace
        stateful_set: stateful_set
            .map_err(failed("the StatefulSet"))?
            .filter(|set| names::is_managed(set.labels())),
        pod,
        volumes,
        member,
    })
}

/// Whether the class of the members' volumes allows them to grow.
async fn expandable(client: &kube::Client, volumes: &[PersistentVolumeClaim]) -> Option<bool> {
    let class = expansion::class(volumes)?;
    let api: Api<StorageClass> = Api::all(client.clone());
    // who may not look is told by the API server when the claim is changed
    let class = api.get_opt(&class).await.ok().flatten()?;
    Some(class.allow_volume_expansion.unwrap_or(false))
}

/// Name of the first member's pod.
pub(crate) fn pod_name(cluster: &str) -> String {
    format!("{cluster}-0")
}

/// Where the first member is; absent while it has no address or the authority is not there.
pub(crate) fn address(
    name: &str,
    namespace: &str,
    pod: Option<&Pod>,
    secrets: &BTreeMap<String, Secret>,
) -> Option<Address> {
    // what the servers present is what their Secret says; before there is one, our own authority
    let trust = secrets
        .get(&Purpose::ServerCertificate.secret(name))
        .or_else(|| secrets.get(&Purpose::Authority.secret(name)))?;
    let ip: IpAddr = pod?.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(Address {
        endpoint: format!("https://{name}.{namespace}.svc:{API_PORT}"),
        connect_to: Some(SocketAddr::new(ip, API_PORT)),
        trust: keyring::bytes(trust, AUTHORITY).ok()?.to_vec(),
    })
}

async fn ask(name: &str, namespace: &str, pod: Option<&Pod>, secrets: &BTreeMap<String, Secret>) -> Member {
    // a container that does not run cannot answer, and its address may already belong to another pod
    if !pod.is_some_and(is_running) {
        return Member::Absent;
    }
    let Some(address) = address(name, namespace, pod, secrets) else { return Member::Absent };
    let Some(admin) = secrets.get(&Purpose::SystemAdmin.secret(name)) else { return Member::Absent };
    let client = match keyring::client(admin) {
        Ok(identity) => address.client(identity, None),
        Err(_) => return Member::Absent,
    };
    let answer = match client {
        Ok(client) => client.cluster().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => match answer.cluster_id {
            Some(cluster_id) if answer.initialised => {
                Member::Initialised { cluster_id, sealed: answer.sealed }
            }
            _ => Member::Empty,
        },
        Err(error) => Member::Silent(error.to_string()),
    }
}

/// Whether the pod's container runs and the pod is not being deleted.
pub(crate) fn is_running(pod: &Pod) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && containers.is_some_and(|containers| {
            containers
                .iter()
                .all(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
        })
}

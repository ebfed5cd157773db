//! observe: reads a Tenant and what belongs to it. Judges nothing.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};

use crate::operator::cluster::keyring;

/// Group and version of the Tenant.
pub(crate) const API_VERSION: &str = "minio.min.io/v2";
const TENANT_LABEL: &str = "v1.min.io/tenant";
const CONFIGURATION: &str = "config.env";

/// What belongs to one Tenant.
#[derive(Default)]
pub(crate) struct Seen {
    /// Whether the API server knows Tenants at all.
    pub(crate) installed: bool,
    pub(crate) tenant: Option<DynamicObject>,
    /// Text of its configuration Secret.
    pub(crate) config_env: Option<String>,
    /// The copy of the client certificate.
    pub(crate) secret: Option<Secret>,
    pub(crate) stateful_sets: Vec<StatefulSet>,
    pub(crate) pods: Vec<Pod>,
}

/// The Tenant as untyped JSON: fields that we do not know must survive.
pub(crate) fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("minio.min.io", "v2", "Tenant"), "tenants")
}

/// The API of the Tenants in `namespace`.
pub(crate) fn api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource())
}

/// Reads all of it.
///
/// # Errors
/// When the API server refuses or does not answer.
pub(crate) async fn observe(
    client: &Client,
    namespace: &str,
    name: &str,
    secret_name: &str,
) -> Result<Seen, kube::Error> {
    let Some(tenant) = api(client, namespace).get_opt(name).await? else {
        return Ok(Seen { installed: is_installed(client).await?, ..Seen::default() });
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let stateful_sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_tenant = ListParams::default().labels(&format!("{TENANT_LABEL}={name}"));
    let configuration = tenant.data["spec"]["configuration"]["name"].as_str().filter(|name| !name.is_empty());
    let (secret, configuration, stateful_sets, pods) = tokio::join!(
        secrets.get_opt(secret_name),
        async {
            match configuration {
                Some(name) => secrets.get_opt(name).await,
                None => Ok(None),
            }
        },
        stateful_sets.list(&of_tenant),
        pods.list(&of_tenant),
    );
    let config_env = configuration?.and_then(|secret| {
        let bytes = keyring::bytes(&secret, CONFIGURATION).ok()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    });
    Ok(Seen {
        installed: true,
        config_env,
        secret: secret?,
        stateful_sets: stateful_sets?.items,
        pods: pods?.items,
        tenant: Some(tenant),
    })
}

/// Whether the API server serves Tenants.
pub(crate) async fn is_installed(client: &Client) -> Result<bool, kube::Error> {
    match client.list_api_group_resources(API_VERSION).await {
        Ok(found) => Ok(found.resources.iter().any(|resource| resource.name == "tenants")),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

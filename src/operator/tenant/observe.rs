//! observe: reads a Tenant and what belongs to it. Judges nothing.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};

use crate::operator::{
    Context,
    cluster::{keyring, validate::Selection},
    requests::TenantRef,
};

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
    let Some(tenant) = find(client, namespace, name).await? else {
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

/// The Tenant, if there is one and Tenants are known at all.
pub(crate) async fn find(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<DynamicObject>, kube::Error> {
    match api(client, namespace).get(name).await {
        Ok(tenant) => Ok(Some(tenant)),
        // also the answer of an API server that serves no Tenants
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tenants with the labels of `selection`, in its namespaces, else in all that the operator serves.
///
/// # Errors
/// When the API server refuses or does not answer. Where Tenants are unknown there are none.
pub(crate) async fn select(context: &Context, selection: &Selection) -> Result<Vec<TenantRef>, kube::Error> {
    let client = &context.client;
    let namespaces: &[String] =
        if selection.namespaces.is_empty() { &context.namespaces } else { &selection.namespaces };
    let resource = resource();
    let apis: Vec<Api<DynamicObject>> = if namespaces.is_empty() {
        vec![Api::all_with(client.clone(), &resource)]
    } else {
        namespaces.iter().map(|namespace| api(client, namespace)).collect()
    };
    let which = ListParams::default().labels(&selection.labels);
    let mut found = Vec::new();
    for api in apis {
        match api.list_metadata(&which).await {
            Ok(tenants) => found.extend(
                tenants
                    .items
                    .iter()
                    .map(|tenant| (tenant.namespace().unwrap_or_default(), tenant.name_any())),
            ),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

/// Whether the API server serves Tenants.
pub(crate) async fn is_installed(client: &Client) -> Result<bool, kube::Error> {
    match client.list_api_group_resources(API_VERSION).await {
        Ok(found) => Ok(found.resources.iter().any(|resource| resource.name == "tenants")),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

//! observe: reads a Tenant and what belongs to it. Judges nothing.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Namespace, Pod, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PartialObjectMeta},
};

use super::version::{self, Version};
use crate::operator::{
    Context,
    cluster::{keyring, wanted::Selection},
    names,
    requests::TenantRef,
};

/// Group and version of the Tenant.
pub(crate) const API_VERSION: &str = "minio.min.io/v2";
const DEFINITION: &str = "tenants.minio.min.io";
const TENANT_LABEL: &str = "v1.min.io/tenant";
const CONFIGURATION: &str = "config.env";

/// What belongs to one Tenant.
#[derive(Default)]
pub(crate) struct Seen {
    /// Whether the API server knows Tenants at all.
    pub(crate) installed: bool,
    /// The MinIO Operator's release; absent where its CRD does not say it or may not be read, and where nobody asked.
    pub(crate) version: Option<Version>,
    pub(crate) tenant: Option<DynamicObject>,
    pub(crate) consent: Consent,
    /// Text of its configuration Secret.
    pub(crate) config_env: Option<String>,
    /// The copy of the client certificate.
    pub(crate) secret: Option<Secret>,
    pub(crate) stateful_sets: Vec<StatefulSet>,
    pub(crate) pods: Vec<Pod>,
}

/// Whether somebody who may write in the Tenant's namespace has agreed. Who writes a `KesCluster` need have no right there,
/// and the operator has it everywhere.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Consent {
    /// The Tenant is in the `KesCluster`'s own namespace, or it or its namespace says so.
    #[default]
    Given,
    /// Nobody has allowed it to KesClusters of this namespace.
    Missing { from: String, namespace: String },
}

/// The Tenant as untyped JSON: fields that we do not know must survive.
pub(crate) fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("minio.min.io", "v2", "Tenant"), "tenants")
}

/// The API of the Tenants in `namespace`.
pub(crate) fn api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource())
}

/// Which Tenant is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Namespace of the `KesCluster`.
    pub(crate) from: &'a str,
    /// It encrypts, so that the release of the MinIO Operator decides nothing.
    pub(crate) verified: bool,
}

/// Reads all of it.
///
/// # Errors
/// When the API server refuses or does not answer.
pub(crate) async fn observe(client: &Client, of: Of<'_>, secret_name: &str) -> Result<Seen, kube::Error> {
    let Of { namespace, name, from, verified } = of;
    let Some(tenant) = find(client, namespace, name).await? else {
        // whether there is one of that name elsewhere is nobody's business before somebody there has agreed
        let consent = consent(client, namespace, &BTreeMap::new(), from).await?;
        return Ok(Seen { installed: is_installed(client).await?, consent, ..Seen::default() });
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let stateful_sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_tenant = ListParams::default().labels(&format!("{TENANT_LABEL}={name}"));
    let configuration = tenant.data["spec"]["configuration"]["name"].as_str().filter(|name| !name.is_empty());
    let (secret, configuration, stateful_sets, pods, consent, version) = tokio::join!(
        secrets.get_opt(secret_name),
        async {
            match configuration {
                Some(name) => secrets.get_opt(name).await,
                None => Ok(None),
            }
        },
        stateful_sets.list(&of_tenant),
        pods.list(&of_tenant),
        consent(client, namespace, tenant.annotations(), from),
        async { if verified { None } else { version(client).await } },
    );
    let config_env = configuration?.and_then(|secret| {
        let bytes = keyring::bytes(&secret, CONFIGURATION).ok()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    });
    Ok(Seen {
        installed: true,
        version,
        config_env,
        secret: secret?,
        stateful_sets: stateful_sets?.items,
        pods: pods?.items,
        consent: consent?,
        tenant: Some(tenant),
    })
}

/// Asks the CRD of Tenants. Who may not read it does not know.
async fn version(client: &Client) -> Option<Version> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found = definitions.get_metadata_opt(DEFINITION).await.ok().flatten()?;
    found.annotations().get(version::ANNOTATION).and_then(|text| Version::parse(text))
}

/// Asks the annotations of the Tenant, and then its Namespace.
async fn consent(
    client: &Client,
    namespace: &str,
    tenant: &BTreeMap<String, String>,
    from: &str,
) -> Result<Consent, kube::Error> {
    if namespace == from || allows(tenant, from) {
        return Ok(Consent::Given);
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = match namespaces.get_metadata_opt(namespace).await {
        // who may not look finds no consent
        Err(kube::Error::Api(status)) if status.code == 403 => None,
        answer => answer?,
    };
    match found {
        Some(found) if allows(found.annotations(), from) => Ok(Consent::Given),
        _ => Ok(Consent::Missing { from: from.into(), namespace: namespace.into() }),
    }
}

/// Whether these annotations allow KesClusters of the namespace `from`.
fn allows(annotations: &BTreeMap<String, String>, from: &str) -> bool {
    let listed = annotations.get(names::ALLOW_FROM).map(String::as_str).unwrap_or_default();
    listed.split(',').map(str::trim).any(|item| item == "*" || (!item.is_empty() && item == from))
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

/// What a selector finds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Selected {
    pub(crate) tenants: Vec<Labelled>,
    /// Where Tenants cannot be listed, absent for everywhere, and why.
    pub(crate) unlisted: Vec<(Option<String>, String)>,
}

/// A Tenant with the labels of a selector.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Labelled {
    pub(crate) tenant: TenantRef,
    /// Whether somebody who may write there has agreed.
    pub(crate) agreed: bool,
}

type Metadata = PartialObjectMeta<DynamicObject>;

/// Lists the Tenants with the labels of `selection`, in each of its namespaces, else in all that the operator serves. Where
/// Tenants are unknown there are none.
async fn list(
    context: &Context,
    selection: &Selection,
) -> Vec<(Option<String>, Result<Vec<Metadata>, kube::Error>)> {
    let client = &context.client;
    let namespaces: &[String] =
        if selection.namespaces.is_empty() { &context.namespaces } else { &selection.namespaces };
    let resource = resource();
    let apis: Vec<(Option<String>, Api<DynamicObject>)> = if namespaces.is_empty() {
        vec![(None, Api::all_with(client.clone(), &resource))]
    } else {
        namespaces.iter().map(|namespace| (Some(namespace.clone()), api(client, namespace))).collect()
    };
    let which = ListParams::default().labels(&selection.labels);
    let mut found = Vec::new();
    for (namespace, api) in apis {
        let listed = match api.list_metadata(&which).await {
            Ok(tenants) => Ok(tenants.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        found.push((namespace, listed));
    }
    found
}

fn named(tenant: &Metadata) -> TenantRef {
    (tenant.namespace().unwrap_or_default(), tenant.name_any())
}

/// Tenants with the labels of `selection`, whether or not anybody has agreed.
///
/// # Errors
/// When the API server refuses or does not answer, wherever that is.
pub(crate) async fn labelled(
    context: &Context,
    selection: &Selection,
) -> Result<Vec<TenantRef>, kube::Error> {
    let mut found = Vec::new();
    for (_, listed) in list(context, selection).await {
        found.extend(listed?.iter().map(named));
    }
    Ok(found)
}

/// Tenants with the labels of `selection`, and who has agreed to KesClusters of the namespace `from`. What cannot be asked is
/// told, and hides nothing else.
pub(crate) async fn select(context: &Context, selection: &Selection, from: &str) -> Selected {
    let mut selected = Selected::default();
    let mut agreed = BTreeMap::new();
    for (namespace, listed) in list(context, selection).await {
        let tenants = match listed {
            Ok(tenants) => tenants,
            Err(error) => {
                selected.unlisted.push((namespace, error.to_string()));
                continue;
            }
        };
        for tenant in tenants {
            let (namespace, name) = named(&tenant);
            let mut answer = namespace == from || allows(tenant.annotations(), from);
            if !answer {
                // one question about a namespace, however many Tenants somebody makes there
                answer = match agreed.get(&namespace) {
                    Some(known) => *known,
                    None => {
                        let asked = consent(&context.client, &namespace, &BTreeMap::new(), from).await;
                        if let Err(error) = &asked {
                            selected.unlisted.push((Some(namespace.clone()), error.to_string()));
                        }
                        let known = matches!(asked, Ok(Consent::Given));
                        agreed.insert(namespace.clone(), known);
                        known
                    }
                };
            }
            selected.tenants.push(Labelled { tenant: (namespace, name), agreed: answer });
        }
    }
    selected.tenants.sort();
    selected
}

/// Whether the API server serves Tenants.
pub(crate) async fn is_installed(client: &Client) -> Result<bool, kube::Error> {
    match client.list_api_group_resources(API_VERSION).await {
        Ok(found) => Ok(found.resources.iter().any(|resource| resource.name == "tenants")),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_names_namespaces_and_nothing_counts_that_only_looks_like_one() {
        for (text, allowed) in [
            ("keys", true),
            ("*", true),
            ("other, keys", true),
            ("keys2", false),
            ("", false),
            (",", false),
            ("key*", false),
            ("keys other", false),
        ] {
            let annotations = BTreeMap::from([(names::ALLOW_FROM.to_owned(), text.to_owned())]);
            assert_eq!(allows(&annotations, "keys"), allowed, "{text:?}");
        }
        assert!(!allows(&BTreeMap::new(), "keys"));
        let blank = BTreeMap::from([(names::ALLOW_FROM.to_owned(), " , ".to_owned())]);
        assert!(!allows(&blank, ""));
    }
}

//! The copy of a tenant's client certificate in the tenant's namespace. The original stays with the cluster, so that
//! a deleted copy comes back with the same identity.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
};

use super::{
    observe::{self, Seen},
    purpose_of,
    rule::Rule,
};
use crate::{
    crd::TenantPhase,
    operator::{
        Context,
        cluster::{
            keyring::{AUTHORITY, CERTIFICATE, Keyring, PRIVATE_KEY, bytes},
            wanted::{Tenant, Wanted},
        },
        names,
    },
};

/// Writes the copy if it is missing or differs.
pub(crate) async fn project(
    context: &Context,
    wanted: &Wanted,
    tenant: &Tenant,
    ring: &Keyring,
    seen: &Seen,
) -> Result<(), (TenantPhase, Rule)> {
    let Some(owner) = &seen.tenant else { return Ok(()) };
    let Some(copy) = copy(wanted, tenant, ring, owner) else {
        let why = "the tenant's certificate is not there yet".into();
        return Err((TenantPhase::Pending, Rule::CertificateLost { why }));
    };
    if let Some(live) = &seen.secret {
        if !is_ours(live, wanted) {
            return Err((TenantPhase::Conflict, Rule::SecretTaken { secret: live.name_any() }));
        }
        if bytes(live, PRIVATE_KEY).ok() != bytes(&copy, PRIVATE_KEY).ok() {
            let original = purpose_of(tenant).secret(&wanted.name);
            let why = format!(
                "Secret {}/{} in the tenant's namespace has another key than Secret {original}, which was lost and made anew. \
                 MinIO is known by the former: put the former's tls.crt and tls.key into {original}, or delete the former if \
                 MinIO was never started with it",
                tenant.namespace,
                live.name_any()
            );
            return Err((TenantPhase::Blocked, Rule::CertificateLost { why }));
        }
        if live.data == copy.data && live.metadata.owner_references == copy.metadata.owner_references {
            return Ok(());
        }
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &tenant.namespace);
    let params = PatchParams::apply(names::MANAGER).force();
    let written = api.patch(&copy.name_any(), &params, &Patch::Apply(&copy)).await;
    written.map(|_| ()).map_err(|error| {
        let step = format!("write Secret {}/{}", tenant.namespace, copy.name_any());
        (TenantPhase::Pending, Rule::ApiRefused { step, problem: error.to_string() })
    })
}

/// Reads the copy back.
pub(crate) async fn read(context: &Context, wanted: &Wanted, tenant: &Tenant) -> Result<Secret, kube::Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &tenant.namespace);
    api.get(&names::projected_secret(&wanted.name)).await
}

/// The copy, with both spellings of the file names, so that it serves whatever type a Tenant declares for it. It goes
/// with the Tenant.
pub(crate) fn copy(
    wanted: &Wanted,
    tenant: &Tenant,
    ring: &Keyring,
    owner: &DynamicObject,
) -> Option<Secret> {
    let original = ring.get(&purpose_of(tenant))?;
    let certificate = ByteString(bytes(original, CERTIFICATE).ok()?.to_vec());
    let key = ByteString(bytes(original, PRIVATE_KEY).ok()?.to_vec());
    let data = BTreeMap::from([
        (CERTIFICATE.to_owned(), certificate.clone()),
        (PRIVATE_KEY.to_owned(), key.clone()),
        (AUTHORITY.to_owned(), ByteString(ring.trust().ok()?)),
        ("public.crt".to_owned(), certificate),
        ("private.key".to_owned(), key),
    ]);
    let mut labels = names::labels(&wanted.name, "tenant");
    labels.insert(names::CLUSTER_LABEL.into(), wanted.name.clone());
    labels.insert(names::CLUSTER_NAMESPACE_LABEL.into(), wanted.namespace.clone());
    Some(Secret {
        metadata: ObjectMeta {
            name: Some(names::projected_secret(&wanted.name)),
            namespace: Some(tenant.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![owner.owner_ref(&observe::resource())?]),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".into()),
        data: Some(data),
        ..Secret::default()
    })
}

fn is_ours(secret: &Secret, wanted: &Wanted) -> bool {
    let labels = secret.labels();
    labels.get(names::CLUSTER_LABEL) == Some(&wanted.name)
        && labels.get(names::CLUSTER_NAMESPACE_LABEL) == Some(&wanted.namespace)
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;

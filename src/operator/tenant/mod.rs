//! Wires MinIO Tenants: observe → plan → (prove, patch, restart, verify), one step per pass and tenant.

mod health;
mod observe;
mod patch;
mod plan;
mod prove;
mod rule;
mod secret;
mod watch;

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Map, Value, json};

pub(crate) use self::watch::watch;
use self::{
    observe::Seen,
    patch::Wish,
    plan::{PodId, Step},
    rule::Rule,
};
use super::{
    Context,
    cluster::{
        keyring::Keyring,
        purpose::Purpose,
        validate::{Tenant, Wanted},
    },
    condition, key_service, names,
};
use crate::{
    api::API_PORT,
    crd::{Injected, TenantPhase, TenantStatus},
};

/// Where a tenant is after a pass.
type Reached = (TenantPhase, Rule, Option<Injected>);

/// One pass over every tenant of `wanted`. What goes wrong with one is written into its status and stops no other.
pub(crate) async fn reconcile(
    context: &Context,
    wanted: &Wanted,
    ring: &Keyring,
    lost: &[(Purpose, super::rule::Rule)],
    cluster_rule: Option<&super::rule::Rule>,
    before: &[TenantStatus],
) -> Vec<TenantStatus> {
    let passes = wanted.tenants.iter().map(|tenant| {
        let before =
            before.iter().find(|known| known.name == tenant.name && known.namespace == tenant.namespace);
        async move {
            let lost = lost.iter().find(|(purpose, _)| *purpose == purpose_of(tenant)).map(|(_, rule)| rule);
            let why_not = cluster_rule.or(lost).map(ToString::to_string);
            let (uid, reached) = match lost {
                Some(rule) => {
                    let injected = before.and_then(|before| before.injected.clone());
                    let rule = Rule::CertificateLost { why: rule.to_string() };
                    (before.and_then(|before| before.uid.clone()), (TenantPhase::Blocked, rule, injected))
                }
                None => pass(context, wanted, tenant, ring, why_not, before).await,
            };
            status(tenant, before, uid, reached, context.now())
        }
    });
    futures::future::join_all(passes).await
}

async fn pass(
    context: &Context,
    wanted: &Wanted,
    tenant: &Tenant,
    ring: &Keyring,
    why_not: Option<String>,
    before: Option<&TenantStatus>,
) -> (Option<String>, Reached) {
    let kept = || before.and_then(|before| before.injected.clone());
    if let Err(rule) = plan::is_possible(tenant.enclave.as_str()) {
        return (None, (TenantPhase::Blocked, rule, kept()));
    }
    let secret_name = names::projected_secret(&wanted.name);
    let seen = match observe::observe(&context.client, &tenant.namespace, &tenant.name, &secret_name).await {
        Ok(seen) => seen,
        Err(error) => {
            let phase = before.map_or(TenantPhase::Pending, |before| before.phase);
            let rule = Rule::ApiRefused { step: "read the Tenant".into(), problem: error.to_string() };
            return (before.and_then(|before| before.uid.clone()), (phase, rule, kept()));
        }
    };
    let uid = seen.tenant.as_ref().and_then(|tenant| tenant.uid());
    let wish = Wish {
        secret: secret_name,
        endpoint: wanted.endpoint(),
        key_name: tenant.key.to_string(),
        mount: tenant.mount,
    };
    let serving = why_not.map_or(Ok(()), Err);
    let step = plan::plan(&seen, &wish, tenant.restart, before, serving, context.now());
    // what was injected stays on record when the next step does not succeed
    let kept = kept();
    let (phase, rule, injected) = take(context, wanted, tenant, ring, seen, step).await;
    (uid, (phase, rule, injected.or(kept)))
}

/// Takes `step`. No record in the answer means that the former one stands.
async fn take(
    context: &Context,
    wanted: &Wanted,
    tenant: &Tenant,
    ring: &Keyring,
    seen: Seen,
    step: Step,
) -> Reached {
    // the Secret comes first and is repaired in every phase: a pod without it cannot start
    let needs_secret = !matches!(step, Step::Hold(TenantPhase::Pending | TenantPhase::Conflict, ..));
    if needs_secret && let Err((phase, rule)) = secret::project(context, wanted, tenant, ring, &seen).await {
        let injected = match step {
            Step::Hold(_, _, injected) => injected,
            Step::ProveAndPatch(..) => None,
            Step::ProveAndRestart(_, injected) | Step::Verify(_, injected) => Some(injected),
        };
        return (phase, rule, injected);
    }
    match step {
        Step::Hold(phase, rule, injected) => (phase, rule, injected),
        Step::ProveAndPatch(fields, injected) => match proved(context, wanted, tenant).await {
            Err(rule) => (TenantPhase::Prepared, rule, None),
            Ok(()) => write(context, tenant, &seen, fields, injected).await,
        },
        Step::ProveAndRestart(pods, injected) => match proved(context, wanted, tenant).await {
            Err(rule) => (TenantPhase::Patched, rule, Some(injected)),
            Ok(()) => restart(context, tenant, pods, injected).await,
        },
        Step::Verify(pods, injected) => verify(&seen, &pods, injected).await,
    }
}

/// Proves the key service with what lies in the tenant's namespace, read back from there.
async fn proved(context: &Context, wanted: &Wanted, tenant: &Tenant) -> Result<(), Rule> {
    let refused = |step: &str| {
        let step = step.to_owned();
        |error: kube::Error| Rule::ApiRefused { step, problem: error.to_string() }
    };
    let copy =
        secret::read(context, wanted, tenant).await.map_err(refused("read the tenant's certificate"))?;
    let trust = super::cluster::keyring::bytes(&copy, super::cluster::keyring::AUTHORITY)
        .map_err(|error| Rule::ProofFailed { problem: error.to_string() })?
        .to_vec();
    let connect_to = if context.in_cluster {
        None
    } else {
        service_address(context, wanted).await.map_err(refused("read the Service"))?
    };
    let address = key_service::Address { endpoint: wanted.endpoint(), connect_to, trust };
    prove::prove(&address, &copy, &tenant.key)
        .await
        .map_err(|error| Rule::ProofFailed { problem: error.to_string() })
}

/// Outside of the cluster its names cannot be looked up; the Service's own address still goes through the Service.
async fn service_address(context: &Context, wanted: &Wanted) -> Result<Option<SocketAddr>, kube::Error> {
    let services: Api<Service> = Api::namespaced(context.client.clone(), &wanted.namespace);
    let service = services.get(&wanted.name).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).and_then(|ip| ip.parse::<IpAddr>().ok());
    Ok(address.map(|ip| SocketAddr::new(ip, API_PORT)))
}

/// The one patch: merged, guarded by the version that it was computed from, never forced.
async fn write(
    context: &Context,
    tenant: &Tenant,
    seen: &Seen,
    fields: Map<String, Value>,
    injected: Injected,
) -> Reached {
    let version = seen.tenant.as_ref().and_then(|tenant| tenant.resource_version());
    let patch = json!({"metadata": {"resourceVersion": version}, "spec": fields});
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    let api = observe::api(&context.client, &tenant.namespace);
    match api.patch(&tenant.name, &params, &Patch::Merge(patch)).await {
        Ok(patched) => {
            let patched_at = plan::patched_at(&patched).or_else(|| Some(Time(context.now())));
            tracing::info!(tenant = tenant.name, namespace = tenant.namespace, "patched the Tenant");
            let injected = Injected { patched_at, ..injected };
            (TenantPhase::Patched, Rule::WaitingForTemplate { stateful_set: None }, Some(injected))
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            (TenantPhase::Prepared, Rule::TenantChanged, None)
        }
        Err(error) => {
            let rule = Rule::ApiRefused { step: "patch the Tenant".into(), problem: error.to_string() };
            (TenantPhase::Prepared, rule, None)
        }
    }
}

/// Deletes all stale pods together: MinIO's servers wait for peers with the same environment, so one by one is the
/// longer outage.
async fn restart(context: &Context, tenant: &Tenant, pods: Vec<PodId>, injected: Injected) -> Reached {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &tenant.namespace);
    let deletions = pods.iter().map(|PodId { name, uid }| {
        let only_this = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let params = DeleteParams::default().preconditions(only_this);
        let api = &api;
        async move { api.delete(name, &params).await.map(|_| ()) }
    });
    for outcome in futures::future::join_all(deletions).await {
        match outcome {
            Ok(()) => {}
            // gone, or another pod of that name already
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => {
                let rule =
                    Rule::ApiRefused { step: "delete the tenant's pods".into(), problem: error.to_string() };
                return (TenantPhase::Patched, rule, Some(injected));
            }
        }
    }
    tracing::info!(
        tenant = tenant.name,
        namespace = tenant.namespace,
        pods = pods.len(),
        "deleted the pods together"
    );
    (TenantPhase::Restarting, Rule::PodsDeleted { pods: pods.len() }, Some(injected))
}

async fn verify(seen: &Seen, pods: &[Pod], injected: Injected) -> Reached {
    let tls = seen.tenant.as_ref().is_none_or(|tenant| uses_tls(&tenant.data["spec"]));
    let checks = pods.iter().map(|pod| async move {
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
        let problem = match ip {
            None => Some("it has no address".to_owned()),
            Some(ip) => health::check(ip, tls).await.err().map(|error| error.to_string()),
        };
        problem.map(|problem| Rule::WaitingForHealth { pod: pod.name_any(), problem })
    });
    match futures::future::join_all(checks).await.into_iter().flatten().next() {
        Some(rule) => (TenantPhase::Restarting, rule, Some(injected)),
        None => {
            let injected = Injected { restarted: true, ..injected };
            (TenantPhase::Verified, Rule::Verified { pods: pods.len() }, Some(injected))
        }
    }
}

/// Whether MinIO speaks TLS: on unless it is switched off, or with a certificate of the user's.
fn uses_tls(spec: &Value) -> bool {
    spec["requestAutoCert"].as_bool().unwrap_or(true)
        || spec["externalCertSecret"].as_array().is_some_and(|list| !list.is_empty())
}

pub(crate) fn purpose_of(tenant: &Tenant) -> Purpose {
    Purpose::Tenant { namespace: tenant.namespace.clone(), name: tenant.name.clone() }
}

fn status(
    tenant: &Tenant,
    before: Option<&TenantStatus>,
    uid: Option<String>,
    (phase, rule, injected): Reached,
    now: jiff::Timestamp,
) -> TenantStatus {
    let since =
        before.filter(|before| before.phase == phase).map_or(Time(now), |before| before.since.clone());
    TenantStatus {
        namespace: tenant.namespace.clone(),
        name: tenant.name.clone(),
        phase,
        reason: rule.reason().into(),
        message: condition::cut(rule.to_string()),
        since,
        uid,
        injected,
    }
}

//! Takes the step that was planned: the only writes to Tenants and their pods, each proved or announced before.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::events::EventType,
};
use serde_json::{Map, Value, json};

use super::{
    Around, Reached, health,
    observe::{self, Seen},
    plan::{self, PodId, Step},
    prove,
    rule::Rule,
    secret,
};
use crate::{
    api::API_PORT,
    crd::{Injected, KesCluster, TenantPhase, TenantStatus},
    operator::{
        Context,
        cluster::{
            self,
            keyring::{AUTHORITY, bytes},
            report::News,
            wanted::{Tenant, Wanted},
        },
        key_service, names,
    },
};

/// Reason of a tenant whose last step was refused: the next attempt is not announced again.
pub(super) const REFUSED: &str = "ApiRefused";

/// Takes `step`. No record in the answer means that the former one stands.
///
/// What was refused last time is not announced again.
pub(super) async fn take(
    context: &Context,
    around: &Around<'_, '_>,
    tenant: &Tenant,
    seen: Seen,
    step: Step,
    before: Option<&TenantStatus>,
) -> Reached {
    let Around { cluster, wanted, ring, .. } = *around;
    let refused_before = before.is_some_and(|before| before.reason == REFUSED);
    // the Secret comes first and is repaired in every phase: a pod without it cannot start
    let needs_secret = needs_secret(&step);
    if needs_secret && let Err((phase, rule)) = secret::project(context, wanted, tenant, ring, &seen).await {
        let injected = match step {
            Step::Hold(_, _, injected) => injected,
            Step::ProveAndTell(..) | Step::ProveAndPatch(..) => None,
            Step::ProveAndRestart(_, injected)
            | Step::ProveAndHurry(_, injected)
            | Step::Verify(_, injected) => Some(injected),
        };
        return Reached::new(phase, rule, injected);
    }
    match step {
        Step::Hold(phase, rule, injected) => Reached::new(phase, rule, injected),
        Step::ProveAndTell(rule, _) => {
            let rule = proved(context, wanted, tenant).await.err().unwrap_or(rule);
            Reached::new(TenantPhase::Prepared, rule, None)
        }
        Step::ProveAndPatch(fields, injected) => match proved(context, wanted, tenant).await {
            Err(rule) => Reached::new(TenantPhase::Prepared, rule, None),
            Ok(()) => note_and_write(context, around, tenant, &seen, fields, injected, before).await,
        },
        Step::ProveAndRestart(pods, injected) => match proved(context, wanted, tenant).await {
            Err(rule) => Reached::new(TenantPhase::Patched, rule, Some(injected)),
            Ok(()) => restart(context, cluster, tenant, pods, injected, refused_before).await,
        },
        Step::ProveAndHurry(pods, injected) => match proved(context, wanted, tenant).await {
            Err(rule) => Reached::new(TenantPhase::Restarting, rule, Some(injected)),
            // nobody is served by them, so there is no outage to announce
            Ok(()) => restart(context, cluster, tenant, pods, injected, true).await,
        },
        Step::Verify(pods, injected) => verify(&seen, &pods, injected).await,
    }
}

/// Whether the tenant's pods need the copy of the certificate, now or after this step. One that was wired needs it whatever
/// its Tenant says by now.
fn needs_secret(step: &Step) -> bool {
    match step {
        Step::Hold(_, Rule::TenantDeleting, _) => false,
        Step::Hold(TenantPhase::Pending | TenantPhase::Conflict, _, injected) => injected.is_some(),
        _ => true,
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
    let trust =
        bytes(&copy, AUTHORITY).map_err(|error| Rule::ProofFailed { problem: error.to_string() })?.to_vec();
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

/// The patch of a Tenant that was proved. It is noted first: whoever takes the tenant out of the spec or deletes the
/// `KesCluster` after a crash in between must find that it may depend on us.
async fn note_and_write(
    context: &Context,
    around: &Around<'_, '_>,
    tenant: &Tenant,
    seen: &Seen,
    fields: Map<String, Value>,
    injected: Injected,
    before: Option<&TenantStatus>,
) -> Reached {
    let uid = seen.tenant.as_ref().and_then(|tenant| tenant.uid());
    let is_noted = before.is_some_and(|before| before.uid == uid && before.injected.is_some());
    if !is_noted {
        let intended = Injected { intended: true, ..injected.clone() };
        let reached = Reached::new(TenantPhase::Prepared, Rule::Patching, Some(intended));
        let note = super::status(tenant, before, uid, reached, context.now());
        if let Err(error) = around.record.lock().await.intend(note).await {
            let step = "note in the status that the Tenant is patched".to_owned();
            let rule = Rule::ApiRefused { step, problem: error.to_string() };
            return Reached::new(TenantPhase::Prepared, rule, None);
        }
    }
    if !seen.pods.is_empty() && before.is_none_or(|before| before.reason != REFUSED) {
        // the MinIO Operator may roll the pods as soon as it sees the mount, before they are deleted together
        announce(context, around.cluster, tenant, "its key service is set now, which restarts its pods")
            .await;
    }
    let reached = write(context, tenant, seen, fields, injected).await;
    // a record of what is there for certain is not exchanged for one of what may be
    let injected = reached.injected.filter(|injected| !(is_noted && injected.intended));
    Reached { injected, ..reached }
}

/// The one patch: merged, guarded by the version that it was computed from, never forced.
pub(super) async fn write(
    context: &Context,
    tenant: &Tenant,
    seen: &Seen,
    fields: Map<String, Value>,
    injected: Injected,
) -> Reached {
    let version = seen.tenant.as_ref().and_then(|tenant| tenant.resource_version());
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "spec": fields}));
    let params = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    let api = observe::api(&context.client, &tenant.namespace);
    // what the CRD does not know is dropped without a word, and MinIO would start with half of the wiring
    let tried = api.patch(&tenant.name, &PatchParams { dry_run: true, ..params.clone() }, &patch).await;
    if let Ok(tried) = &tried {
        let dropped = dropped(&fields, &tried.data["spec"]);
        if !dropped.is_empty() {
            let rule = Rule::FieldsUnknown { fields: dropped };
            return Reached::new(TenantPhase::Blocked, rule, None);
        }
    }
    // an answer that was lost says nothing about what was done
    let unsure = tried.is_ok().then(|| Injected { intended: true, ..injected.clone() });
    let written = match tried {
        Ok(_) => api.patch(&tenant.name, &params, &patch).await,
        Err(error) => Err(error),
    };
    match written {
        Ok(patched) => {
            let patched_at = plan::patched_at(&patched).or_else(|| Some(Time(context.now())));
            tracing::info!(tenant = tenant.name, namespace = tenant.namespace, "patched the Tenant");
            let injected = Injected { patched_at, ..injected };
            let rule = Rule::WaitingForTemplate { stateful_set: None };
            Reached::new(TenantPhase::Patched, rule, Some(injected))
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Reached::new(TenantPhase::Prepared, Rule::TenantChanged, None)
        }
        Err(error) => {
            let refused = is_refusal(&error);
            let phase = if refused { TenantPhase::Blocked } else { TenantPhase::Prepared };
            let rule = Rule::ApiRefused { step: "patch the Tenant".into(), problem: error.to_string() };
            Reached::new(phase, rule, unsure.filter(|_| !refused))
        }
    }
}

/// Fields of `spec` that would not be stored as they are sent.
fn dropped(sent: &Map<String, Value>, stored: &Value) -> Vec<String> {
    let lost = sent.iter().filter(|(field, value)| !cluster::contains(&stored[field.as_str()], value));
    lost.map(|(field, _)| format!("spec.{field}")).collect()
}

/// The API server understood and said no: time alone will not help.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && ![409, 429].contains(&status.code))
}

/// Tells about an outage before it happens, so that whoever sees it finds its reason.
pub(super) async fn announce(context: &Context, cluster: &KesCluster, tenant: &Tenant, what: &str) {
    let Tenant { namespace, name, .. } = tenant;
    let note = format!("{namespace}/{name}: {what}; S3 requests fail for some seconds");
    let news = News { kind: EventType::Normal, action: "WireTenant", reason: "TenantRestart".into(), note };
    context.tell(cluster, news).await;
}

/// Deletes all stale pods together: MinIO's servers wait for peers with the same environment, so one by one is the
/// longer outage.
pub(super) async fn restart(
    context: &Context,
    cluster: &KesCluster,
    tenant: &Tenant,
    pods: Vec<PodId>,
    injected: Injected,
    refused_before: bool,
) -> Reached {
    if !refused_before {
        announce(context, cluster, tenant, "its pods are deleted together now").await;
    }
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
                let phase = if is_refusal(&error) { TenantPhase::Blocked } else { TenantPhase::Patched };
                let rule =
                    Rule::ApiRefused { step: "delete the tenant's pods".into(), problem: error.to_string() };
                return Reached::new(phase, rule, Some(injected));
            }
        }
    }
    tracing::info!(
        tenant = tenant.name,
        namespace = tenant.namespace,
        pods = pods.len(),
        "deleted the pods together"
    );
    Reached::new(TenantPhase::Restarting, Rule::PodsDeleted { pods: pods.len() }, Some(injected))
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
        Some(rule) => Reached::new(TenantPhase::Restarting, rule, Some(injected)),
        None => {
            // an approval is spent with the restart that it was given for
            let verified_pods = i32::try_from(pods.len()).ok();
            let injected = Injected { restarted: true, approved: false, verified_pods, ..injected };
            let rule = Rule::Verified { pods: pods.len(), ready: pods.len() };
            Reached::new(TenantPhase::Verified, rule, Some(injected))
        }
    }
}

/// Whether MinIO speaks TLS: on unless it is switched off, or with a certificate of the user's.
fn uses_tls(spec: &Value) -> bool {
    spec["requestAutoCert"].as_bool().unwrap_or(true)
        || spec["externalCertSecret"].as_array().is_some_and(|list| !list.is_empty())
}

#[cfg(test)]
#[path = "intent_tests.rs"]
mod intent_tests;

#[cfg(test)]
#[path = "take_tests.rs"]
mod tests;

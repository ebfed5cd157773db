//! Wires MinIO Tenants: observe → plan → (prove, patch, restart, verify), one step per pass and tenant.

mod health;
mod leave;
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
    runtime::events::EventType,
};
use serde_json::{Map, Value, json};

use self::{
    observe::Seen,
    patch::{Change, Wish},
    plan::{PodId, Step, Terms},
    rule::Rule,
};
pub(crate) use self::{observe::select, watch::watch};
use super::{
    Context,
    cluster::{
        keyring::Keyring,
        purpose::Purpose,
        report::News,
        validate::{Standing, Tenant, Wanted},
    },
    condition, key_service, names,
    requests::Requests,
};
use crate::{
    api::API_PORT,
    crd::{Injected, KesCluster, TenantPhase, TenantStatus},
};

/// Where a tenant is after a pass.
struct Reached {
    phase: TenantPhase,
    rule: Rule,
    injected: Option<Injected>,
    snippet: Option<String>,
}

impl Reached {
    fn new(phase: TenantPhase, rule: Rule, injected: Option<Injected>) -> Self {
        Self { phase, rule, injected, snippet: None }
    }
}

/// What every tenant's pass needs to know about its cluster.
pub(crate) struct Around<'a> {
    pub(crate) cluster: &'a KesCluster,
    pub(crate) wanted: &'a Wanted,
    pub(crate) ring: &'a Keyring,
    /// Secrets of applications and tenants that are lost.
    pub(crate) lost: &'a [(Purpose, super::rule::Rule)],
    pub(crate) requests: &'a Requests,
}

/// One pass over every tenant of `wanted`. What goes wrong with one is written into its status and stops no other.
pub(crate) async fn reconcile(
    context: &Context,
    around: &Around<'_>,
    cluster_rule: Option<&super::rule::Rule>,
    before: &[TenantStatus],
) -> Vec<TenantStatus> {
    let passes = around.wanted.tenants.iter().map(|tenant| {
        let before =
            before.iter().find(|known| known.name == tenant.name && known.namespace == tenant.namespace);
        async move {
            let lost =
                around.lost.iter().find(|(purpose, _)| *purpose == purpose_of(tenant)).map(|(_, rule)| rule);
            let why_not = cluster_rule.or(lost).map(ToString::to_string);
            let (uid, reached) = match (lost, tenant.standing) {
                (_, Standing::Left { unwire }) => {
                    let reached = leave(context, around, tenant, before?, unwire).await?;
                    (before.and_then(|before| before.uid.clone()), reached)
                }
                (Some(rule), Standing::Wanted) => {
                    let injected = before.and_then(|before| before.injected.clone());
                    let rule = Rule::CertificateLost { why: rule.to_string() };
                    let reached = Reached::new(TenantPhase::Blocked, rule, injected);
                    (before.and_then(|before| before.uid.clone()), reached)
                }
                (None, Standing::Wanted) => pass(context, around, tenant, why_not, before).await,
            };
            Some(status(tenant, before, uid, reached, context.now()))
        }
    });
    futures::future::join_all(passes).await.into_iter().flatten().collect()
}

/// Tenants that were wired and still are, as `namespace/name`.
///
/// # Errors
/// When the API server refuses or does not answer: then nobody knows, and nothing may be deleted.
pub(crate) async fn dependents(context: &Context, cluster: &KesCluster) -> Result<Vec<String>, kube::Error> {
    let secret = names::projected_secret(&cluster.name_any());
    let known = cluster.status.as_ref().map(|status| status.tenants.as_slice()).unwrap_or_default();
    let mut dependents = Vec::new();
    for status in known.iter().filter(|status| status.injected.is_some()) {
        let tenant = observe::find(&context.client, &status.namespace, &status.name).await?;
        if leave::depends(tenant.as_ref(), status, &secret) {
            dependents.push(format!("{}/{}", status.namespace, status.name));
        }
    }
    Ok(dependents)
}

/// What a pass would do to each tenant: the object, in a few words, and the fields. Reads only.
pub(crate) async fn foresee(
    context: &Context,
    cluster: &KesCluster,
    wanted: &Wanted,
    requests: &Requests,
) -> Vec<(String, String, Vec<String>)> {
    let known = cluster.status.as_ref().map(|status| status.tenants.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for tenant in &wanted.tenants {
        let Tenant { namespace, name, .. } = tenant;
        let object = format!("Tenant {namespace}/{name}");
        let before = known.iter().find(|known| known.name == *name && known.namespace == *namespace);
        let secret = names::projected_secret(&wanted.name);
        let seen = match look(context, &wanted.namespace, tenant, &secret).await {
            Ok(seen) => seen,
            Err(error) => {
                found.push((object, format!("cannot be read: {error}"), Vec::new()));
                continue;
            }
        };
        let mut lines = Vec::new();
        let mut show = |fields: &Map<String, Value>| {
            let spec = seen.tenant.as_ref().map(|tenant| tenant.data["spec"].clone()).unwrap_or_default();
            for (field, value) in fields {
                super::diff::fields(&format!("spec.{field}"), &spec[field], value, &mut lines);
            }
        };
        let verdict = match (tenant.standing, before) {
            (Standing::Left { unwire }, Some(before)) => match leave::plan(&seen, &secret, before, unwire) {
                leave::Step::Forget => "is forgotten".into(),
                leave::Step::Hold(_, rule, _) => format!("{}: {rule}", rule.reason()),
                leave::Step::Patch(fields, _) => {
                    show(&fields);
                    format!("loses its wiring, and its {} pods are restarted together", seen.pods.len())
                }
                leave::Step::Restart(pods, _) => format!("has {} pods restarted together", pods.len()),
            },
            (Standing::Left { .. }, None) => "is forgotten".into(),
            (Standing::Wanted, before) => {
                let wish = Wish {
                    secret,
                    endpoint: wanted.endpoint(),
                    key_name: tenant.key.to_string(),
                    mount: tenant.mount,
                };
                let approved = requests.approve.contains(&(namespace.clone(), name.clone()));
                let terms = Terms { restart: tenant.restart, mode: tenant.mode, approved };
                match plan::plan(&seen, &wish, terms, before, Ok(()), context.now()) {
                    Step::Hold(_, rule, _) => format!("{}: {rule}", rule.reason()),
                    Step::ProveAndTell(rule, fields) => {
                        show(&fields);
                        format!("{}: {rule}", rule.reason())
                    }
                    Step::ProveAndPatch(fields, _) => {
                        show(&fields);
                        format!("is patched, and its {} pods are restarted together", seen.pods.len())
                    }
                    Step::ProveAndRestart(pods, _) => format!("has {} pods restarted together", pods.len()),
                    Step::Verify(..) => "is verified".into(),
                }
            }
        };
        found.push((object, verdict, lines));
    }
    found
}

async fn pass(
    context: &Context,
    around: &Around<'_>,
    tenant: &Tenant,
    why_not: Option<String>,
    before: Option<&TenantStatus>,
) -> (Option<String>, Reached) {
    let wanted = around.wanted;
    let kept = before.and_then(|before| before.injected.clone());
    if let Err(rule) = plan::is_possible(tenant.enclave.as_str()) {
        return (
            before.and_then(|before| before.uid.clone()),
            Reached::new(TenantPhase::Blocked, rule, kept),
        );
    }
    if around.cluster.metadata.deletion_timestamp.is_some() && kept.is_none() {
        return (None, Reached::new(TenantPhase::Pending, Rule::ClusterDeleting, None));
    }
    let secret_name = names::projected_secret(&wanted.name);
    let seen = match look(context, &wanted.namespace, tenant, &secret_name).await {
        Ok(seen) => seen,
        Err(error) => return (before.and_then(|before| before.uid.clone()), unread(before, &error)),
    };
    let uid = seen.tenant.as_ref().and_then(|tenant| tenant.uid());
    let wish = Wish {
        secret: secret_name,
        endpoint: wanted.endpoint(),
        key_name: tenant.key.to_string(),
        mount: tenant.mount,
    };
    let serving = why_not.map_or(Ok(()), Err);
    let approved = around.requests.approve.contains(&(tenant.namespace.clone(), tenant.name.clone()));
    let terms = Terms { restart: tenant.restart, mode: tenant.mode, approved };
    let step = plan::plan(&seen, &wish, terms, before, serving, context.now());
    let snippet = missing(&seen, &wish);
    // what was injected stays on record when the next step does not succeed
    let refused_before = before.is_some_and(|before| before.reason == "ApiRefused");
    let reached = take(context, around, tenant, seen, step, refused_before).await;
    let tells = matches!(reached.rule, Rule::RenderPending | Rule::ManagedElsewhere { .. });
    (uid, Reached { injected: reached.injected.or(kept), snippet: snippet.filter(|_| tells), ..reached })
}

/// Everything about a tenant, for a `KesCluster` of the namespace `from`.
async fn look(context: &Context, from: &str, tenant: &Tenant, secret: &str) -> Result<Seen, kube::Error> {
    observe::observe(&context.client, &tenant.namespace, &tenant.name, secret, from).await
}

/// What is not in the Tenant yet, as YAML.
fn missing(seen: &Seen, wish: &Wish) -> Option<String> {
    let tenant = seen.tenant.as_ref()?;
    match patch::change(&tenant.data, seen.config_env.as_deref(), wish, None).ok()? {
        Change::None(_) => None,
        Change::Write(fields, _) => Some(patch::snippet(&tenant.data, &fields)),
    }
}

/// The Tenant could not be read: everything stays as it is known.
fn unread(before: Option<&TenantStatus>, error: &kube::Error) -> Reached {
    let phase = before.map_or(TenantPhase::Pending, |before| before.phase);
    let rule = Rule::ApiRefused { step: "read the Tenant".into(), problem: error.to_string() };
    Reached::new(phase, rule, before.and_then(|before| before.injected.clone()))
}

/// One pass over a tenant that the spec no longer asks for. Nothing in the answer: it is forgotten.
async fn leave(
    context: &Context,
    around: &Around<'_>,
    tenant: &Tenant,
    before: &TenantStatus,
    unwire: bool,
) -> Option<Reached> {
    let secret_name = names::projected_secret(&around.wanted.name);
    let seen = match look(context, &around.wanted.namespace, tenant, &secret_name).await {
        Ok(seen) => seen,
        Err(error) => return Some(unread(Some(before), &error)),
    };
    match leave::plan(&seen, &secret_name, before, unwire) {
        leave::Step::Forget => None,
        leave::Step::Hold(phase, rule, injected) => {
            // a pod without the Secret cannot start
            if phase == TenantPhase::Orphaned
                && let Err((_, rule)) =
                    secret::project(context, around.wanted, tenant, around.ring, &seen).await
            {
                return Some(Reached::new(phase, rule, Some(injected)));
            }
            Some(Reached::new(phase, rule, Some(injected)))
        }
        leave::Step::Patch(fields, injected) => {
            let reached = write(context, tenant, &seen, fields, injected.clone()).await;
            Some(match reached.phase {
                TenantPhase::Patched => Reached::new(TenantPhase::Unwiring, Rule::Unwired, reached.injected),
                _ => Reached::new(TenantPhase::Orphaned, reached.rule, Some(injected)),
            })
        }
        leave::Step::Restart(pods, injected) => {
            let refused_before = before.reason == "ApiRefused";
            let reached = restart(context, around.cluster, tenant, pods, injected, refused_before).await;
            Some(Reached { phase: TenantPhase::Unwiring, ..reached })
        }
    }
}

/// Takes `step`. No record in the answer means that the former one stands.
///
/// What was refused last time is not announced again.
async fn take(
    context: &Context,
    around: &Around<'_>,
    tenant: &Tenant,
    seen: Seen,
    step: Step,
    refused_before: bool,
) -> Reached {
    let Around { cluster, wanted, ring, .. } = *around;
    // the Secret comes first and is repaired in every phase: a pod without it cannot start
    let needs_secret = !matches!(step, Step::Hold(TenantPhase::Pending | TenantPhase::Conflict, ..));
    if needs_secret && let Err((phase, rule)) = secret::project(context, wanted, tenant, ring, &seen).await {
        let injected = match step {
            Step::Hold(_, _, injected) => injected,
            Step::ProveAndTell(..) | Step::ProveAndPatch(..) => None,
            Step::ProveAndRestart(_, injected) | Step::Verify(_, injected) => Some(injected),
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
            Ok(()) => {
                if !seen.pods.is_empty() && !refused_before {
                    // the MinIO Operator may roll the pods as soon as it sees the mount, before they are deleted together
                    announce(context, cluster, tenant, "its key service is set now, which restarts its pods")
                        .await;
                }
                write(context, tenant, &seen, fields, injected).await
            }
        },
        Step::ProveAndRestart(pods, injected) => match proved(context, wanted, tenant).await {
            Err(rule) => Reached::new(TenantPhase::Patched, rule, Some(injected)),
            Ok(()) => restart(context, cluster, tenant, pods, injected, refused_before).await,
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
            let rule = Rule::WaitingForTemplate { stateful_set: None };
            Reached::new(TenantPhase::Patched, rule, Some(injected))
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Reached::new(TenantPhase::Prepared, Rule::TenantChanged, None)
        }
        Err(error) => {
            let phase = if is_refusal(&error) { TenantPhase::Blocked } else { TenantPhase::Prepared };
            let rule = Rule::ApiRefused { step: "patch the Tenant".into(), problem: error.to_string() };
            Reached::new(phase, rule, None)
        }
    }
}

/// The API server understood and said no: time alone will not help.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && ![409, 429].contains(&status.code))
}

/// Tells about an outage before it happens, so that whoever sees it finds its reason.
async fn announce(context: &Context, cluster: &KesCluster, tenant: &Tenant, what: &str) {
    let Tenant { namespace, name, .. } = tenant;
    let note = format!("{namespace}/{name}: {what}; S3 requests fail for some seconds");
    let news = News { kind: EventType::Normal, action: "WireTenant", reason: "TenantRestart".into(), note };
    context.tell(cluster, news).await;
}

/// Deletes all stale pods together: MinIO's servers wait for peers with the same environment, so one by one is the
/// longer outage.
async fn restart(
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
            let injected = Injected { restarted: true, approved: false, ..injected };
            Reached::new(TenantPhase::Verified, Rule::Verified { pods: pods.len() }, Some(injected))
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
    Reached { phase, rule, injected, snippet }: Reached,
    now: jiff::Timestamp,
) -> TenantStatus {
    // whose record it is must not be forgotten before the record is
    let uid = uid.or_else(|| before.filter(|_| injected.is_some()).and_then(|before| before.uid.clone()));
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
        snippet,
    }
}

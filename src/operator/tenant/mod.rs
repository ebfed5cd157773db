//! Wires MinIO Tenants: observe → plan → (prove, patch, restart, verify), one step per pass and tenant.

mod foresee;
mod health;
mod leave;
mod observe;
mod patch;
mod plan;
mod prove;
mod rule;
mod secret;
mod take;
mod version;
mod watch;

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, api::DynamicObject};
use tokio::sync::Mutex;

pub(crate) use self::{
    foresee::foresee,
    observe::{Labelled, Selected, select},
    watch::watch,
};
use self::{
    observe::Seen,
    patch::{Change, Wish},
    plan::Terms,
    rule::Rule,
};
use super::{
    Context,
    cluster::{
        keyring::Keyring,
        purpose::Purpose,
        record::Record,
        wanted::{Standing, Tenant, Wanted},
    },
    condition, names,
    requests::{Requests, TenantRef},
};
use crate::crd::{Injected, KesCluster, TenantPhase, TenantStatus};

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
pub(crate) struct Around<'a, 'r> {
    pub(crate) cluster: &'a KesCluster,
    /// Where it is noted what a Tenant is about to get.
    pub(crate) record: &'a Mutex<&'r mut Record>,
    pub(crate) wanted: &'a Wanted,
    pub(crate) ring: &'a Keyring,
    /// Secrets of applications and tenants that are lost.
    pub(crate) lost: &'a [(Purpose, super::rule::Rule)],
    /// What the key API refused about single tenants, in words.
    pub(crate) refused: &'a [(TenantRef, String)],
    pub(crate) requests: &'a Requests,
}

/// One pass over every tenant of `wanted`. What goes wrong with one is written into its status and stops no other.
pub(crate) async fn reconcile(
    context: &Context,
    around: &Around<'_, '_>,
    cluster_rule: Option<&super::rule::Rule>,
    before: &[TenantStatus],
) -> Vec<TenantStatus> {
    let passes = around.wanted.tenants.iter().map(|tenant| {
        let before =
            before.iter().find(|known| known.name == tenant.name && known.namespace == tenant.namespace);
        async move {
            let lost =
                around.lost.iter().find(|(purpose, _)| *purpose == purpose_of(tenant)).map(|(_, rule)| rule);
            let refused = around
                .refused
                .iter()
                .find(|((namespace, name), _)| *namespace == tenant.namespace && *name == tenant.name);
            let why_not = cluster_rule.or(lost).map(ToString::to_string);
            let why_not = why_not.or_else(|| refused.map(|(_, problem)| problem.clone()));
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

/// Tenants that were wired and still are, as `namespace/name`. Also those whose Tenant alone says so: the pass that patched
/// it may have ended before that was in the status.
///
/// # Errors
/// When the API server refuses or does not answer: then nobody knows, and nothing may be deleted.
pub(crate) async fn dependents(
    context: &Context,
    cluster: &KesCluster,
    wanted: Option<&Wanted>,
) -> Result<Vec<String>, kube::Error> {
    let secret = names::projected_secret(&cluster.name_any());
    let known = cluster.status.as_ref().map(|status| status.tenants.as_slice()).unwrap_or_default();
    let mut asked: BTreeSet<TenantRef> =
        known.iter().map(|status| (status.namespace.clone(), status.name.clone())).collect();
    if let Some(wanted) = wanted {
        asked.extend(wanted.tenants.iter().map(|tenant| (tenant.namespace.clone(), tenant.name.clone())));
        if let Some(selection) = &wanted.selection {
            asked.extend(observe::labelled(context, selection).await?);
        }
    }
    let mut dependents = Vec::new();
    for (namespace, name) in asked {
        let tenant = observe::find(&context.client, &namespace, &name).await?;
        let status = known.iter().find(|known| known.namespace == namespace && known.name == name);
        let depends = match status {
            Some(status) if status.injected.as_ref().is_some_and(|injected| !injected.intended) => {
                leave::depends(tenant.as_ref(), status, &secret)
            }
            // the patch may have been sent or not
            Some(TenantStatus { injected: Some(intended), .. }) => {
                tenant.is_some_and(|tenant| is_there(&tenant, &secret, intended))
            }
            _ => tenant.is_some_and(|tenant| patch::has(&tenant.data, &secret)),
        };
        if depends {
            dependents.push(format!("{namespace}/{name}"));
        }
    }
    Ok(dependents)
}

async fn pass(
    context: &Context,
    around: &Around<'_, '_>,
    tenant: &Tenant,
    why_not: Option<String>,
    before: Option<&TenantStatus>,
) -> (Option<String>, Reached) {
    let wanted = around.wanted;
    if let Err(rule) = plan::is_possible(tenant.enclave.as_str()) {
        return (
            before.and_then(|before| before.uid.clone()),
            Reached::new(TenantPhase::Blocked, rule, before.and_then(|before| before.injected.clone())),
        );
    }
    let secret_name = names::projected_secret(&wanted.name);
    let seen = match look(context, &wanted.namespace, tenant, &secret_name, before).await {
        Ok(seen) => seen,
        Err(error) => return (before.and_then(|before| before.uid.clone()), unread(before, &error)),
    };
    let before = before.map(|before| settled(before, &seen, &secret_name));
    let before = before.as_ref();
    let kept = before.and_then(|before| before.injected.clone());
    if around.cluster.metadata.deletion_timestamp.is_some() && kept.is_none() {
        return (None, Reached::new(TenantPhase::Pending, Rule::ClusterDeleting, None));
    }
    // whether there is one is nobody's business before somebody there has agreed
    let told = kept.is_some() || plan::consent(&seen).is_ok();
    let uid = seen.tenant.as_ref().filter(|_| told).and_then(|tenant| tenant.uid());
    let wish = Wish {
        secret: secret_name,
        endpoint: wanted.endpoint(),
        key_name: tenant.key.to_string(),
        mount: tenant.mount,
    };
    let serving = why_not.map_or(Ok(()), Err);
    let approved = around.requests.approve.contains(&(tenant.namespace.clone(), tenant.name.clone()));
    // what keeps Ready away though the key service serves would make every moment the first
    let is_hidden = around.lost.iter().any(|(purpose, _)| matches!(purpose, Purpose::Identity { .. }));
    let serving_since = ready_since(around.cluster).or((!is_hidden).then(|| context.now()));
    let terms = Terms { restart: tenant.restart, mode: tenant.mode, approved, serving_since };
    let step = plan::plan(&seen, &wish, terms, before, serving, context.now());
    let snippet = missing(&seen, &wish, before);
    // what was injected stays on record when the next step does not succeed
    let reached = take::take(context, around, tenant, seen, step, before).await;
    let tells = matches!(reached.rule, Rule::RenderPending | Rule::ManagedElsewhere { .. });
    (uid, Reached { injected: reached.injected.or(kept), snippet: snippet.filter(|_| tells), ..reached })
}

/// `before` without what was only meant to be injected: it counts where the Tenant has it, and else it was never sent.
fn settled(before: &TenantStatus, seen: &Seen, secret: &str) -> TenantStatus {
    let mut settled = before.clone();
    if let Some(intended) = settled.injected.take_if(|injected| injected.intended) {
        let same = seen.tenant.as_ref().filter(|tenant| tenant.metadata.uid == before.uid);
        settled.injected = same.filter(|tenant| is_there(tenant, secret, &intended)).map(|tenant| Injected {
            intended: false,
            patched_at: plan::patched_at(tenant),
            ..intended.clone()
        });
    }
    settled
}

/// Whether anything of `injected` is in `tenant`.
fn is_there(tenant: &DynamicObject, secret: &str, injected: &Injected) -> bool {
    patch::has(&tenant.data, secret)
        || matches!(patch::removal(&tenant.data, secret, injected), patch::Removal::Write { .. })
}

/// Everything about a tenant, for a `KesCluster` of the namespace `from`.
async fn look(
    context: &Context,
    from: &str,
    tenant: &Tenant,
    secret: &str,
    before: Option<&TenantStatus>,
) -> Result<Seen, kube::Error> {
    let verified = before.is_some_and(|before| before.phase == TenantPhase::Verified);
    let of = observe::Of { namespace: &tenant.namespace, name: &tenant.name, from, verified };
    observe::observe(&context.client, of, secret).await
}

/// Since when the cluster is said to be ready; nothing while it is not.
fn ready_since(cluster: &KesCluster) -> Option<jiff::Timestamp> {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|found| found.type_ == "Ready" && found.status == "True")?;
    Some(ready.last_transition_time.0)
}

/// What is not in the Tenant yet, or not as it is wanted now, as YAML.
fn missing(seen: &Seen, wish: &Wish, before: Option<&TenantStatus>) -> Option<String> {
    let tenant = seen.tenant.as_ref()?;
    let ours = before.filter(|before| before.uid == tenant.metadata.uid);
    let record = ours.and_then(|before| before.injected.as_ref());
    match patch::change(&tenant.data, seen.config_env.as_deref(), wish, record).ok()? {
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
    around: &Around<'_, '_>,
    tenant: &Tenant,
    before: &TenantStatus,
    unwire: bool,
) -> Option<Reached> {
    let secret_name = names::projected_secret(&around.wanted.name);
    let seen = match look(context, &around.wanted.namespace, tenant, &secret_name, Some(before)).await {
        Ok(seen) => seen,
        Err(error) => return Some(unread(Some(before), &error)),
    };
    // what was only meant to be put there is looked for like what was, and forgotten where it is not
    let mut before = before.clone();
    before.injected = before.injected.map(|injected| Injected { intended: false, ..injected });
    let before = &before;
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
            if !seen.pods.is_empty() && before.reason != take::REFUSED {
                let what = "its key service is taken out now, which restarts its pods";
                take::announce(context, around.cluster, tenant, what).await;
            }
            let reached = take::write(context, tenant, &seen, fields, injected.clone()).await;
            Some(match reached.phase {
                TenantPhase::Patched => Reached::new(TenantPhase::Unwiring, Rule::Unwired, reached.injected),
                _ => Reached::new(TenantPhase::Orphaned, reached.rule, Some(injected)),
            })
        }
        leave::Step::Restart(pods, injected) => {
            let refused_before = before.reason == take::REFUSED;
            let reached =
                take::restart(context, around.cluster, tenant, pods, injected, refused_before).await;
            Some(Reached { phase: TenantPhase::Unwiring, ..reached })
        }
    }
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

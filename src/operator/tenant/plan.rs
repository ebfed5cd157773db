//! plan: decides the next step of one tenant's wiring, or names the rule that holds it. Pure.
//!
//! prove → one patch (mount and environment together) → wait for the template's content → all stale pods at once →
//! verify. Tried on a real cluster: one patch and one restart is the shortest outage (minio-wiring §9).

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, PodSpec, Volume},
};
use kube::ResourceExt;
use serde_json::{Map, Value};

use super::{
    observe::{Consent, Seen},
    patch::{self, Change, Wish},
    rule::Rule,
    version::Version,
};
use crate::{
    api::DEFAULT_ENCLAVE,
    crd::{Injected, Mode, MountKind, RestartPolicy, TenantPhase, TenantStatus},
    operator::{cluster::plan::is_ready, names},
};

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing now.
    Hold(TenantPhase, Rule, Option<Injected>),
    /// Prove the key service, and say that it is somebody else's turn: these fields of `spec` are missing.
    ProveAndTell(Rule, Map<String, Value>),
    /// Prove the key service, then write these fields of `spec`.
    ProveAndPatch(Map<String, Value>, Injected),
    /// Prove the key service once more, then delete these pods together.
    ProveAndRestart(Vec<PodId>, Injected),
    /// Prove the key service once more, then delete these pods, which serve nobody, so that they need not wait to be started
    /// again.
    ProveAndHurry(Vec<PodId>, Injected),
    /// Ask these pods, all of which started after the patch.
    Verify(Vec<Pod>, Injected),
}

/// A pod and no later one of its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PodId {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl PodId {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self { name: pod.name_any(), uid: pod.uid().unwrap_or_default() }
    }
}

/// What the spec and its author say about a tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) restart: RestartPolicy,
    pub(crate) mode: Mode,
    /// A restart was approved just now.
    pub(crate) approved: bool,
    /// Since when the key service has served without a break; nothing where nobody knows.
    pub(crate) serving_since: Option<Timestamp>,
}

/// What must hold before anything is read about a tenant.
pub(crate) fn is_possible(enclave: &str) -> Result<(), Rule> {
    if enclave == DEFAULT_ENCLAVE {
        Ok(())
    } else {
        Err(Rule::EnclaveUnsupported { enclave: enclave.into() })
    }
}

/// How often removed entries are put back within [`DAY`] before somebody else is taken to own them.
const MOST_REPEATS: i32 = 3;
const DAY: i64 = 86_400;
/// Seconds in which the MinIO Operator takes up a patch: 17 were measured (minio-wiring §9).
const TAKEN_UP: i64 = 300;

/// Decides. `before` is the status of the last pass, `serving` what the key service says about itself.
pub(crate) fn plan(
    seen: &Seen,
    wish: &Wish,
    terms: Terms,
    before: Option<&TenantStatus>,
    serving: Result<(), String>,
    now: Timestamp,
) -> Step {
    match decide(seen, wish, terms, before, serving, now) {
        Ok(step) => step,
        Err((phase, rule)) => Step::Hold(phase, rule, before.and_then(|before| before.injected.clone())),
    }
}

fn decide(
    seen: &Seen,
    wish: &Wish,
    terms: Terms,
    before: Option<&TenantStatus>,
    serving: Result<(), String>,
    now: Timestamp,
) -> Result<Step, (TenantPhase, Rule)> {
    use TenantPhase::{Conflict, Pending, Prepared};
    if !seen.installed {
        return Err((Pending, Rule::TenantApiMissing));
    }
    let Some(tenant) = &seen.tenant else {
        consent(seen).map_err(|rule| (Pending, rule))?;
        return Err((Pending, Rule::TenantMissing));
    };
    // what was injected into a former Tenant of this name says nothing about this one
    let record =
        before.filter(|before| before.uid == tenant.metadata.uid).and_then(|before| before.injected.as_ref());
    let consent = consent(seen);
    if tenant.metadata.deletion_timestamp.is_some() {
        if record.is_none() {
            consent.map_err(|rule| (Pending, rule))?;
        }
        return Err((Pending, Rule::TenantDeleting));
    }
    let change = patch::change(&tenant.data, seen.config_env.as_deref(), wish, record);
    if record.is_none() && !matches!(change, Ok(Change::None(_))) {
        // also before a conflict is told: what is in another namespace is nobody's business here
        consent.clone().map_err(|rule| (Pending, rule))?;
    }
    let injected = match change.map_err(|rule| (Conflict, rule))? {
        Change::Write(fields, injected) => {
            knows_fields(seen.version, injected.mount).map_err(|rule| (TenantPhase::Blocked, rule))?;
            // taken back: what encrypts goes on as it is, since MinIO could not read without it
            consent.clone().map_err(|rule| (TenantPhase::Blocked, rule))?;
            serving.map_err(|why| (Pending, Rule::KeyServiceNotReady { why }))?;
            if terms.mode == Mode::Render {
                return Ok(Step::ProveAndTell(Rule::RenderPending, fields));
            }
            let repeats = repeats(record, &injected, now).map_err(|rule| (TenantPhase::Blocked, rule))?;
            // the MinIO Operator begins to roll as soon as the mount is there, so the patch itself waits
            if terms.restart == RestartPolicy::Manual && !terms.approved {
                return Ok(Step::ProveAndTell(Rule::ApprovalPending { pods: seen.pods.len() }, fields));
            }
            // what was there and is gone goes back in any case: perhaps some are down because it is gone
            if record.is_none_or(|record| patch::variables(record) != patch::variables(&injected)) {
                some_but_not_all_down(&seen.pods).map_err(|rule| (Prepared, rule))?;
            }
            let approved = terms.restart == RestartPolicy::Manual;
            return Ok(Step::ProveAndPatch(fields, Injected { repeats, approved, ..injected }));
        }
        Change::None(injected) => remembered(injected, record, tenant),
    };
    Ok(follow(seen, &wish.secret, terms, before, serving, injected, now))
}

/// What becomes of a patch: the MinIO Operator takes it up, all pods start with it, and each says that it can encrypt.
fn follow(
    seen: &Seen,
    secret: &str,
    terms: Terms,
    before: Option<&TenantStatus>,
    serving: Result<(), String>,
    injected: Injected,
    now: Timestamp,
) -> Step {
    use TenantPhase::{Blocked, Patched, Restarting, Verified};
    let consent = consent(seen);
    let gave_up = |pod: &&Pod| {
        pod.metadata.deletion_timestamp.is_none()
            && pod.spec.as_ref().is_some_and(|spec| has(spec, secret))
            && terms.serving_since.is_some_and(|since| gave_up_before(pod, since))
    };
    let stuck: Vec<_> = seen.pods.iter().filter(gave_up).map(PodId::of).collect();
    if !stuck.is_empty() && serving.is_ok() && consent.is_ok() {
        return Step::ProveAndHurry(stuck, injected);
    }
    let wanted: usize = seen.stateful_sets.iter().map(replicas).sum();
    let ready = seen.pods.iter().filter(|pod| is_ready(pod)).count();
    let is_known = injected.restarted && before.is_some_and(|before| before.phase == Verified);
    if is_known && injected.verified_pods.is_some_and(|pods| usize::try_from(pods) == Ok(wanted)) {
        return Step::Hold(Verified, Rule::Verified { pods: wanted, ready }, Some(injected));
    }
    let hold = |phase, rule| Step::Hold(phase, rule, Some(injected.clone()));
    if let Some(rule) = waits_for_template(seen, secret) {
        let seconds = injected.patched_at.as_ref().map_or(0, |at| now.as_second() - at.0.as_second());
        if seconds > TAKEN_UP {
            return hold(Blocked, Rule::OperatorSilent { minutes: seconds / 60 });
        }
        return hold(Patched, rule);
    }
    let stale: Vec<&Pod> = seen
        .pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_stale(pod, secret, &injected))
        .collect();
    if !stale.is_empty() {
        if terms.restart == RestartPolicy::Manual && !terms.approved && !injected.approved {
            return hold(Patched, Rule::RestartPending { pods: stale.len() });
        }
        if let Err(rule) = some_but_not_all_down(stale.iter().copied()) {
            return hold(Blocked, rule);
        }
        if let Err(rule) = consent {
            return hold(Blocked, rule);
        }
        if let Err(why) = serving.clone() {
            return hold(Patched, Rule::KeyServiceNotReady { why });
        }
        let approved = terms.restart == RestartPolicy::Manual;
        let pods = stale.into_iter().map(PodId::of).collect();
        return Step::ProveAndRestart(pods, Injected { approved, ..injected });
    }
    if ready < wanted || seen.pods.len() != wanted || !seen.stateful_sets.iter().all(is_updated) {
        return hold(Restarting, Rule::WaitingForPods { ready, wanted });
    }
    if let Err(why) = serving {
        return hold(Restarting, Rule::KeyServiceNotReady { why });
    }
    Step::Verify(seen.pods.clone(), injected)
}

/// What the MinIO Operator has not done yet.
fn waits_for_template(seen: &Seen, secret: &str) -> Option<Rule> {
    let without = seen.stateful_sets.iter().find(|set| !template_has(set, secret)).map(ResourceExt::name_any);
    (without.is_some() || seen.stateful_sets.is_empty())
        .then_some(Rule::WaitingForTemplate { stateful_set: without })
}

/// Whether MinIO ended in `pod` before `since`, and waits for longer and longer until it is started again. Later ends are
/// not for want of a key service.
fn gave_up_before(pod: &Pod, since: Timestamp) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.into_iter().any(|container| {
        let waits = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        waits.is_some_and(|waits| waits.reason.as_deref() == Some("CrashLoopBackOff"))
            && ended.and_then(|ended| ended.finished_at.as_ref()).is_some_and(|at| at.0 < since)
    })
}

/// An operator without the lists that we write would start MinIO with our variables and without its certificate. One whose
/// version is unknown is found out by a dry run of the patch.
fn knows_fields(version: Option<Version>, mount: MountKind) -> Result<(), Rule> {
    let Some(version) = version else { return Ok(()) };
    if version < Version::FIRST {
        return Err(Rule::OperatorTooOld { version });
    }
    if mount == MountKind::AdditionalVolumes && version < Version::FIRST_WITH_VOLUMES {
        return Err(Rule::OperatorWithoutVolumes { version });
    }
    Ok(())
}

pub(crate) fn consent(seen: &Seen) -> Result<(), Rule> {
    match seen.consent.clone() {
        Consent::Given => Ok(()),
        Consent::Missing { from, namespace } => Err(Rule::NotAllowed { from, namespace }),
    }
}

/// How often these very entries were put back lately, this time included. A changed wish is a new beginning.
fn repeats(record: Option<&Injected>, injected: &Injected, now: Timestamp) -> Result<i32, Rule> {
    let lately = |record: &&Injected| {
        patch::variables(record) == patch::variables(injected)
            && record.patched_at.as_ref().is_some_and(|at| now.as_second() - at.0.as_second() < DAY)
    };
    match record.filter(lately).map_or(0, |record| record.repeats + 1) {
        repeats if repeats > MOST_REPEATS => Err(Rule::ManagedElsewhere { repeats: MOST_REPEATS }),
        repeats => Ok(repeats),
    }
}

/// Adds to what is there now when it was put there: from our record, else from the API server's own.
fn remembered(injected: Injected, record: Option<&Injected>, tenant: &kube::api::DynamicObject) -> Injected {
    if let Some(record) = record.filter(|record| patch::variables(record) == patch::variables(&injected)) {
        return Injected {
            patched_at: record.patched_at.clone(),
            restarted: record.restarted,
            approved: record.approved,
            repeats: record.repeats,
            verified_pods: record.verified_pods,
            ..injected
        };
    }
    Injected { patched_at: patched_at(tenant), ..injected }
}

/// When we last wrote `tenant`, in the time of the API server, which also stamps the pods.
pub(crate) fn patched_at(
    tenant: &kube::api::DynamicObject,
) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    tenant
        .managed_fields()
        .iter()
        .filter(|entry| entry.manager.as_deref() == Some(names::MANAGER))
        .filter_map(|entry| entry.time.clone())
        .max()
}

/// A node that is down makes a restart of the others an outage of unknown length. Where all are down nothing is lost.
pub(crate) fn some_but_not_all_down<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Result<(), Rule> {
    let (ready, down): (Vec<&Pod>, Vec<&Pod>) = pods.into_iter().partition(|pod| is_ready(pod));
    if ready.is_empty() || down.is_empty() {
        return Ok(());
    }
    Err(Rule::TenantNotReady { pods: down.iter().map(|pod| pod.name_any()).collect() })
}

/// Started before the patch, or without the mount. A pod of the same second counts as older: restarting it once
/// more is cheaper than a MinIO that does not encrypt.
fn is_stale(pod: &Pod, secret: &str, injected: &Injected) -> bool {
    let older = is_older(pod, injected);
    let without = !pod.spec.as_ref().is_some_and(|spec| has(spec, secret));
    without || (older && !injected.restarted)
}

/// Whether `pod` is not younger than the last patch, in the time of the API server.
pub(crate) fn is_older(pod: &Pod, injected: &Injected) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0);
    injected.patched_at.as_ref().is_some_and(|patched| created.as_second() <= patched.0.as_second())
}

pub(crate) fn template_has(set: &StatefulSet, secret: &str) -> bool {
    set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).is_some_and(|spec| has(spec, secret))
}

pub(crate) fn has(spec: &PodSpec, secret: &str) -> bool {
    spec.volumes.iter().flatten().any(|volume| volume_has(volume, secret))
}

fn volume_has(volume: &Volume, secret: &str) -> bool {
    let direct = volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()) == Some(secret);
    let projected = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
        .any(|source| source.secret.as_ref().is_some_and(|source| source.name == secret));
    direct || projected
}

pub(crate) fn replicas(set: &StatefulSet) -> usize {
    set.spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(1)
}

fn is_updated(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| {
        status.observed_generation >= set.metadata.generation
            && status.updated_replicas.and_then(|count| usize::try_from(count).ok()) == Some(replicas(set))
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

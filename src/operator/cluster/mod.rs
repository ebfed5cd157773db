//! Keeps one `KesCluster` as its spec says: observe → validate → plan → (make) build → apply → contents → report.

mod apply;
pub(crate) mod build;
mod contents;
pub(crate) mod keyring;
mod material;
mod observe;
pub(crate) mod plan;
pub(crate) mod purpose;
mod record;
pub(crate) mod report;
pub(crate) mod validate;

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::events::EventType};

use self::{
    contents::Contents,
    keyring::Keyring,
    observe::Seen,
    plan::{Go, MemberStep, Plan},
    purpose::Purpose,
    record::Record,
    report::{News, Outcome},
    validate::Wanted,
};
use super::{Context, metrics::PassResult, rule::Rule, tenant};
use crate::{
    api,
    crd::{KesCluster, TenantPhase},
};

/// Which step failed. The name of the step becomes the reason.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Observe(#[from] observe::Error),
    #[error(transparent)]
    Make(#[from] material::Error),
    #[error(transparent)]
    Apply(#[from] apply::Error),
    #[error(transparent)]
    Record(#[from] record::Error),
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Reached {
    /// When the next one is due; without it, when something changes.
    pub(crate) next: Option<Duration>,
    pub(crate) result: PassResult,
}

/// One pass over the cluster that `trigger` names.
///
/// # Errors
/// When the API server refuses or does not answer; the caller tries again, more slowly each time.
pub(crate) async fn reconcile(context: &Context, trigger: &KesCluster) -> Result<Reached, Error> {
    // read anew: a cache may be older than the bootstrap record in the status
    let Some(mut record) = Record::read(&context.client, trigger).await? else {
        context.metrics.forget(&trigger.namespace().unwrap_or_default(), &trigger.name_any());
        return Ok(Reached { next: None, result: PassResult::Settled });
    };
    let seen = observe::observe(&context.client, record.cluster()).await?;
    let wanted = validate::validate(record.cluster(), &context.defaults);
    let outcome = match &wanted {
        Err(rule) => halted(&record, rule.clone()),
        Ok(wanted) => match plan::plan(wanted, record.cluster().spec.paused, record.status(), &seen) {
            Plan::Halt(rule) => halted(&record, rule),
            Plan::Go(go) => pass(context, &mut record, wanted, &seen, go).await?,
        },
    };
    let rule = outcome.rule.clone();
    let now = context.now();
    let generation = record.cluster().metadata.generation;
    let status = report::status(record.status(), generation, wanted.as_ref().ok(), Some(&seen), outcome, now);
    for news in report::news(record.reported(), &status) {
        context.tell(record.cluster(), news).await;
    }
    record.write(status).await?;
    measure(context, &record);
    let next = Some(report::next(record.status(), rule.as_ref(), now));
    Ok(Reached { next, result: report::result(record.status(), rule.as_ref()) })
}

fn measure(context: &Context, record: &Record) {
    let (cluster, status) = (record.cluster(), record.status());
    let ready = status.conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True");
    let verified = status.tenants.iter().filter(|tenant| tenant.phase == TenantPhase::Verified).count();
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    context.metrics.cluster(&namespace, &name, ready, verified, status.tenants.len() - verified);
}

/// Nothing is written; what was known about the tenants stays known.
fn halted(record: &Record, rule: Rule) -> Outcome {
    Outcome { rule: Some(rule), contents: None, tenants: record.status().tenants.clone() }
}

async fn pass(
    context: &Context,
    record: &mut Record,
    wanted: &Wanted,
    seen: &Seen,
    go: Go,
) -> Result<Outcome, Error> {
    let Go { make, ring, lost, storage, member } = go;
    let ring = make_secrets(context, wanted, make, ring).await?;
    // before the bootstrap: what a member will rely on must be known as irreplaceable first
    record.remember_secrets(wanted, &ring).await?;
    let Ok(admin) = ring.identity(&Purpose::SystemAdmin) else {
        return Ok(halted(record, Rule::Bootstrapping));
    };
    if let Err(error) = apply::apply(&context.client, build::build(wanted, &admin, &storage)).await {
        let Some((object, problem)) = error.refusal() else { return Err(error.into()) };
        return Ok(halted(record, Rule::ObjectRefused { object, problem }));
    }
    apply::settle_owners(&context.client, wanted, seen).await?;

    let reached = step(context, record, wanted, seen, &ring, member).await?;
    let (rule, contents) = match reached {
        Ok(contents) if seen.pod.as_ref().is_some_and(plan::is_ready) => (None, Some(contents)),
        Ok(contents) => {
            let pod = observe::pod_name(&wanted.name);
            (Some(Rule::WaitingForReadiness { pod }), Some(contents))
        }
        Err(rule) => (Some(rule), None),
    };
    let tenants =
        tenant::reconcile(context, wanted, &ring, &lost, rule.as_ref(), &record.status().tenants).await;
    let identity_lost = lost
        .into_iter()
        .find(|(purpose, _)| matches!(purpose, Purpose::Identity { .. }))
        .map(|(_, rule)| rule);
    Ok(Outcome { rule: rule.or(identity_lost), contents, tenants })
}

/// Makes and creates what is missing.
async fn make_secrets(
    context: &Context,
    wanted: &Wanted,
    make: Vec<Purpose>,
    mut ring: Keyring,
) -> Result<Keyring, Error> {
    for purpose in make {
        let secret: Secret = material::make(wanted, &purpose, &ring, context.now(), &*context.random)?;
        apply::create_secret(&context.client, &purpose, &secret).await?;
        tracing::info!(cluster = wanted.name, namespace = wanted.namespace, %purpose, "made a Secret");
        ring.insert(purpose, secret);
    }
    Ok(ring)
}

/// Takes the member as far as it goes in one pass.
async fn step(
    context: &Context,
    record: &mut Record,
    wanted: &Wanted,
    seen: &Seen,
    ring: &Keyring,
    member: MemberStep,
) -> Result<Result<Contents, Rule>, Error> {
    let Some(address) = observe::address(&wanted.name, &wanted.namespace, seen.pod.as_ref(), &seen.secrets)
    else {
        return Ok(Err(match member {
            MemberStep::Hold(rule) => rule,
            _ => Rule::Bootstrapping,
        }));
    };
    let (tell, complete) = match member {
        MemberStep::Hold(rule) => return Ok(Err(rule)),
        MemberStep::Start => {
            // the id is on record before any member hears of it: a crash in between repeats it, never replaces it
            let id = context.random_id();
            record.bootstrap_started(&id).await?;
            (Some(id.clone()), Some(id))
        }
        MemberStep::Tell(id) => (Some(id.clone()), Some(id)),
        MemberStep::Complete(id) => (None, Some(id)),
        MemberStep::Converge => (None, None),
    };
    if let Some(cluster_id) = tell
        && let Err(problem) = bootstrap(&address, ring, cluster_id).await
    {
        return Ok(Err(Rule::ContentsRefused { step: "initialise the first member".into(), problem }));
    }
    if let Some(id) = complete {
        record.bootstrap_completed(&id, context.now()).await?;
        let note = format!("the cluster is initialised as {id}");
        let news = News { kind: EventType::Normal, action: "Bootstrap", reason: "Bootstrapped".into(), note };
        context.tell(record.cluster(), news).await;
    }
    let targets = contents::targets(wanted, ring);
    match contents::converge(&address, ring, &targets).await {
        Ok(contents) => {
            if !contents.changes.is_empty() {
                let note = super::condition::cut(contents.changes.join("; "));
                tracing::info!(cluster = wanted.name, namespace = wanted.namespace, note, "changed contents");
                let reason = "ContentsChanged".into();
                let news = News { kind: EventType::Normal, action: "Converge", reason, note };
                context.tell(record.cluster(), news).await;
            }
            Ok(Ok(contents))
        }
        Err(error) => {
            let (step, problem) = error.parts();
            Ok(Err(Rule::ContentsRefused { step, problem }))
        }
    }
}

/// The one call. Idempotent for the same id; another id is refused by the member.
async fn bootstrap(
    address: &super::key_service::Address,
    ring: &Keyring,
    cluster_id: String,
) -> Result<(), String> {
    let identity = ring.client(&Purpose::SystemAdmin).map_err(|error| error.to_string())?;
    let client = address.client(identity, None).map_err(|error| error.to_string())?;
    client.bootstrap(&api::message::Bootstrap { cluster_id }).await.map_err(|error| error.to_string())
}

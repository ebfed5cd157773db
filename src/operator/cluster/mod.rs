//! Keeps one `KesCluster` as its spec says: validate → observe → select → plan → (make) build → apply → contents → report.

mod apply;
pub(crate) mod build;
mod certificate;
mod conditions;
mod contents;
mod expansion;
pub(crate) mod failure;
mod finalizer;
mod foresee;
pub(crate) mod keyring;
mod material;
mod observe;
pub(crate) mod plan;
pub(crate) mod purpose;
pub(crate) mod record;
pub(crate) mod report;
mod select;
mod target;
pub(crate) mod validate;
pub(crate) mod wanted;

pub(crate) use apply::{contains, stamped};
pub(crate) use foresee::{Foreseen, Foresight, foresee};

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::events::EventType};
use serde_json::json;

use self::{
    contents::Contents,
    keyring::Keyring,
    observe::Seen,
    plan::{Go, MemberStep, Plan},
    purpose::Purpose,
    record::Record,
    report::{News, Outcome},
    select::Settled,
    wanted::Wanted,
};
use super::{
    Context,
    metrics::PassResult,
    requests::{ACKNOWLEDGE_DELETION, Requests},
    rule::Rule,
    tenant,
};
use crate::{
    api,
    crd::{DeletionPolicy, KesCluster, TenantPhase},
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
    #[error(transparent)]
    Release(#[from] finalizer::Error),
    #[error("failed to see which tenants depend on the KesCluster: {0}")]
    Dependents(#[source] kube::Error),
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
    take_back(context, &mut record).await?;
    let requests = Requests::of(&record.cluster().name_any(), record.cluster().annotations());
    let parsed = validate::validate(record.cluster(), &context.defaults);
    let dependents = if record.is_deleting() && !requests.delete {
        let asked = tenant::dependents(context, record.cluster(), parsed.as_ref().ok()).await;
        Some(asked.map_err(Error::Dependents)?)
    } else {
        None
    };
    let is_acknowledged = record.is_deleting() && requests.delete;
    if is_acknowledged || dependents.as_ref().is_some_and(Vec::is_empty) {
        return release(context, record).await;
    }
    let seen = observe::observe(context, record.cluster(), parsed.as_ref().ok()).await?;
    let settled =
        parsed.map(|wanted| select::settle(wanted, &seen.selected, &record.status().tenants, &requests));
    let (wanted, notes, waiting) = match settled {
        Ok(Settled { wanted, notes, waiting }) => (Ok(wanted), notes, waiting),
        Err(rule) => (Err(rule), Vec::new(), 0),
    };
    let now = context.now();
    let mut outcome = match &wanted {
        Err(rule) => Outcome::halted(record.status(), rule.clone()),
        Ok(wanted) => match plan::plan(wanted, record.cluster().spec.paused, record.status(), &seen, now) {
            Plan::Halt(rule) => {
                apply::disown(&context.client, wanted, &seen).await?;
                Outcome::halted(record.status(), rule)
            }
            Plan::Go(go) => pass(context, &mut record, wanted, &seen, *go, &requests).await?,
        },
    };
    outcome.dependents = dependents;
    outcome.degraded.extend(notes);
    outcome.waiting = waiting;
    let rule = outcome.rule.clone();
    let now = context.now();
    let generation = record.cluster().metadata.generation;
    let status = report::status(record.status(), generation, wanted.as_ref().ok(), Some(&seen), outcome, now);
    for news in report::news(record.reported(), &status) {
        context.tell(record.cluster(), news).await;
    }
    record.report(status).await?;
    measure(context, &record);
    let next = report::next(record.status(), rule.as_ref(), now);
    let next = Some(if waiting > 0 { next.min(report::AGREEING) } else { next });
    Ok(Reached { next, result: report::result(record.status(), rule.as_ref()) })
}

/// Takes an acknowledgement off that no deletion waits for, whatever else this pass may do.
async fn take_back(context: &Context, record: &mut Record) -> Result<(), Error> {
    let void = Requests::void(record.cluster().annotations(), record.is_deleting());
    if void.is_empty() {
        return Ok(());
    }
    let version = record.cluster().resource_version();
    record.patch_metadata(json!({"metadata": {"resourceVersion": version, "annotations": void}})).await?;
    let note = format!(
        "nobody has asked for the deletion of this KesCluster, so the annotation {ACKNOWLEDGE_DELETION} was taken off; set it \
         when the condition Deletable names the tenants that depend on it"
    );
    let reason = "AcknowledgementVoid".into();
    let news = News { kind: EventType::Normal, action: "Delete", reason, note };
    context.tell(record.cluster(), news).await;
    Ok(())
}

/// Lets a deletion through: what shall go is owned from now on, and Kubernetes collects it.
async fn release(context: &Context, mut record: Record) -> Result<Reached, Error> {
    finalizer::hand_over(&context.client, record.cluster()).await?;
    let note = match record.cluster().spec.deletion_policy {
        DeletionPolicy::Retain => {
            "the key service goes; its volumes and Secrets stay, and a new KesCluster of this name takes them up again"
        }
        DeletionPolicy::Delete => "the key service goes with its volumes and Secrets",
    };
    let news =
        News { kind: EventType::Normal, action: "Delete", reason: "Released".into(), note: note.into() };
    context.tell(record.cluster(), news).await;
    if let Some(finalizers) = finalizer::wanted(record.cluster(), false) {
        record.patch_metadata(finalizer::patch(record.cluster(), &finalizers)).await?;
    }
    context.metrics.forget(&record.cluster().namespace().unwrap_or_default(), &record.cluster().name_any());
    Ok(Reached { next: None, result: PassResult::Settled })
}

fn measure(context: &Context, record: &Record) {
    let (cluster, status) = (record.cluster(), record.status());
    let ready = status.conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True");
    let verified = status.tenants.iter().filter(|tenant| tenant.phase == TenantPhase::Verified).count();
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    context.metrics.cluster(&namespace, &name, ready, verified, status.tenants.len() - verified);
}

async fn pass(
    context: &Context,
    record: &mut Record,
    wanted: &Wanted,
    seen: &Seen,
    go: Go,
    requests: &Requests,
) -> Result<Outcome, Error> {
    let Go { make, ring, mut lost, certificate, volumes, member } = go;
    settle_metadata(record, wanted, seen, requests).await?;
    if let certificate::Step::Await(rule) = certificate.step {
        let asked = apply::apply_optional(&context.client, &wanted.namespace, build::request(wanted)).await;
        let rule = match asked {
            Ok(_) => rule,
            Err(error) => refused(error)?,
        };
        return Ok(Outcome::halted(record.status(), rule));
    }
    let made = make_secrets(context, record.cluster(), wanted, make, certificate.step, ring, &mut lost).await;
    let ring = match made {
        Ok(ring) => ring,
        Err(Error::Apply(error)) => return Ok(Outcome::halted(record.status(), refused(error)?)),
        Err(error) => return Err(error),
    };
    // before the bootstrap: what a member will rely on must be known as irreplaceable first
    record.remember_secrets(wanted, &ring).await?;
    let mut outcome = Outcome {
        certificate: ring
            .get(&Purpose::ServerCertificate)
            .and_then(|secret| certificate::status(wanted, secret)),
        certificate_problem: certificate.problem,
        ..Outcome::halted(record.status(), Rule::Bootstrapping)
    };
    let Ok(admin) = ring.identity(&Purpose::SystemAdmin) else { return Ok(outcome) };
    apply::settle_trust(&context.client, wanted, &ring).await?;
    outcome.degraded.extend(volumes.refused.clone());
    outcome.degraded.extend(expansion::carry_out(&context.client, wanted, seen, &volumes).await?);
    // what cannot grow stops nothing else: the StatefulSet is built as it is
    let storage = if outcome.degraded.is_empty() { &volumes.template } else { &volumes.live };
    if volumes.replace.is_some() && outcome.degraded.is_empty() {
        outcome.rule = Some(Rule::Expanding { size: wanted.storage.size.clone() });
        return Ok(outcome);
    }
    let basis = build::Basis {
        system_admin: &admin,
        storage,
        apis: seen.apis,
        operator_namespace: &context.operator_namespace,
    };
    match apply::apply(&context.client, build::build(wanted, &basis)).await {
        Ok(notes) => outcome.degraded.extend(notes),
        Err(error) => {
            outcome.rule = Some(refused(error)?);
            return Ok(outcome);
        }
    }
    apply::settle_owners(&context.client, wanted, seen).await?;

    let reached = step(context, record, wanted, seen, &ring, member).await?;
    (outcome.rule, outcome.contents) = match reached {
        Ok(contents) if seen.pod.as_ref().is_some_and(plan::is_ready) => (None, Some(contents)),
        Ok(contents) => {
            let pod = observe::pod_name(&wanted.name);
            (Some(Rule::WaitingForReadiness { pod }), Some(contents))
        }
        Err(rule) => (Some(rule), None),
    };
    let refused = outcome.contents.as_ref().map(contents::refusals).unwrap_or_default();
    outcome.degraded.extend(refused.notes);
    outcome.rule = outcome.rule.or(refused.spec);
    let (cluster, before) = (record.cluster().clone(), record.status().tenants.clone());
    let record = tokio::sync::Mutex::new(record);
    let around = tenant::Around {
        cluster: &cluster,
        record: &record,
        wanted,
        ring: &ring,
        lost: &lost,
        refused: &refused.tenants,
        requests,
    };
    outcome.tenants = tenant::reconcile(context, &around, outcome.rule.as_ref(), &before).await;
    if let Some(contents) = &outcome.contents
        && !contents.lost.is_empty()
    {
        outcome.degraded.push(Rule::KeyLost { keys: contents.lost.clone() });
    }
    let identity_lost = lost
        .into_iter()
        .find(|(purpose, _)| matches!(purpose, Purpose::Identity { .. }))
        .map(|(_, rule)| rule);
    outcome.rule = outcome.rule.or(identity_lost);
    Ok(outcome)
}

/// An object that the API server refuses is told; anything else fails the pass, and time may help.
fn refused(error: apply::Error) -> Result<Rule, Error> {
    match error.refusal() {
        Some((object, problem)) => Ok(Rule::ObjectRefused { object, problem }),
        None => Err(error.into()),
    }
}

/// The finalizer before anything depends on the cluster, and no request that was carried out already.
async fn settle_metadata(
    record: &mut Record,
    wanted: &Wanted,
    seen: &Seen,
    requests: &Requests,
) -> Result<(), Error> {
    // also where keys are owned: the policy may become Retain, and the deletion follow at once
    let held = wanted.guarded
        || wanted.deletion == DeletionPolicy::Delete
        || apply::is_something_owned(wanted, seen);
    if let Some(finalizers) = finalizer::wanted(record.cluster(), held) {
        record.patch_metadata(finalizer::patch(record.cluster(), &finalizers)).await?;
    }
    let is_wanted = |(namespace, name): &super::requests::TenantRef| wanted.has_tenant(namespace, name);
    let rest = requests.rest(record.cluster().annotations(), &record.status().tenants, is_wanted);
    if !rest.is_empty() {
        let version = record.cluster().resource_version();
        record.patch_metadata(json!({"metadata": {"resourceVersion": version, "annotations": rest}})).await?;
    }
    Ok(())
}

/// Makes and creates what is missing: the authority, the server's certificate, and then what trusts them.
async fn make_secrets(
    context: &Context,
    cluster: &KesCluster,
    wanted: &Wanted,
    make: Vec<Purpose>,
    certificate: certificate::Step,
    mut ring: Keyring,
    lost: &mut Vec<(Purpose, Rule)>,
) -> Result<Keyring, Error> {
    let (first, rest): (Vec<_>, Vec<_>) =
        make.into_iter().partition(|purpose| *purpose == Purpose::Authority);
    for purpose in first {
        make_secret(context, wanted, purpose, &mut ring).await?;
    }
    let purpose = Purpose::ServerCertificate;
    let exchanged = match certificate {
        certificate::Step::Keep | certificate::Step::Await(_) => None,
        certificate::Step::Make => {
            Some((material::make(wanted, &purpose, &ring, context.now(), &*context.random)?, "made"))
        }
        certificate::Step::Renew => match ring.get(&purpose) {
            Some(live) => {
                Some((material::renew(wanted, live, &ring, context.now())?, "renewed, with the same key"))
            }
            None => None,
        },
        certificate::Step::Copy(data) => {
            Some((build::secret::secret(wanted, &purpose, data), "taken over from the Secret of spec.tls"))
        }
    };
    if let Some((secret, what)) = exchanged {
        let secret = apply::create_secret(&context.client, &purpose, &secret).await?;
        let note = format!("the servers' certificate was {what}; they take it up without a restart");
        let news =
            News { kind: EventType::Normal, action: "Certify", reason: "CertificateChanged".into(), note };
        context.tell(cluster, news).await;
        ring.insert(purpose, secret);
    }
    for purpose in rest {
        match make_secret(context, wanted, purpose.clone(), &mut ring).await {
            // one application's trouble must not stop the others
            Err(Error::Apply(error))
                if matches!(purpose, Purpose::Identity { .. } | Purpose::Tenant { .. })
                    && error.refusal().is_some() =>
            {
                lost.push((purpose, refused(error)?));
            }
            made => made?,
        }
    }
    Ok(ring)
}

async fn make_secret(
    context: &Context,
    wanted: &Wanted,
    purpose: Purpose,
    ring: &mut Keyring,
) -> Result<(), Error> {
    let secret: Secret = material::make(wanted, &purpose, ring, context.now(), &*context.random)?;
    let secret = apply::create_secret(&context.client, &purpose, &secret).await?;
    tracing::info!(cluster = wanted.name, namespace = wanted.namespace, %purpose, "made a Secret");
    ring.insert(purpose, secret);
    Ok(())
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
    if let Some(id) = complete.as_ref().or(tell.as_ref()).or(known(record)) {
        // before the member hears of it: the status may be lost, and what relies on these Secrets is not
        apply::note_cluster(&context.client, wanted, ring, id).await?;
    }
    if let Some(cluster_id) = tell
        && let Err(problem) = bootstrap(&address, ring, cluster_id).await
    {
        return Ok(Err(Rule::ContentsRefused { step: "initialise the first member".into(), problem }));
    }
    let status = record.status();
    let targets = target::targets(wanted, ring, &status.secrets, &status.contents);
    if let Some(id) = complete {
        if record.status().bootstrap.is_none() {
            // a volume of a former KesCluster: what it lacks is not known to be new, so it is not made
            record.expect(target::expected(&targets)).await?;
        }
        record.bootstrap_completed(&id, context.now()).await?;
        let note = format!("the cluster is initialised as {id}");
        let news = News { kind: EventType::Normal, action: "Bootstrap", reason: "Bootstrapped".into(), note };
        context.tell(record.cluster(), news).await;
    }
    match contents::converge(&address, ring, &targets, &record.status().contents).await {
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

fn known(record: &Record) -> Option<&String> {
    record.status().bootstrap.as_ref().map(|bootstrap| &bootstrap.cluster_id)
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

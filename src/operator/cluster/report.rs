//! report: turns the outcome of a pass into the status, events on change, and the time of the next pass.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::EventType;

use super::{conditions, contents::Contents, observe::Seen, plan::is_ready, wanted::Wanted};
use crate::{
    crd::{CertificateStatus, KesClusterStatus, TenantPhase, TenantStatus},
    operator::{
        condition::{self, Statement},
        metrics::PassResult,
        names::{self, ALLOW_FROM},
        rule::Rule,
    },
};

/// While something is on its way: a twentieth of the time that it took so far, within these bounds, so that a hundred
/// clusters that wait for a node do not keep the API server busy.
const MOVING: (u64, u64) = (1, 30);
/// While a pod is waited for: a quarter of the time that it took so far. Its watch tells when it moves, so this is for
/// events that were lost, and a hundred clusters without a node cost no more than a hundredth of a core.
const WATCHED: (u64, u64) = (1, 120);
/// Seconds in which a new cluster is looked at often all the same.
const LOOKED_AT_CLOSELY: i64 = 60;
/// While a tenant is not wired and nothing moves, likewise.
const UNWIRED: (u64, u64) = (10, 60);
/// A rule that a person has to resolve; most resolutions are noticed by a watch before.
const REFUSED: Duration = Duration::from_secs(60);
/// While Tenants carry the labels without anybody there having agreed: a Namespace may agree, which no watch sees.
pub(crate) const AGREEING: Duration = Duration::from_secs(60);
/// Nothing to do. Watches may lose events.
const STEADY: Duration = Duration::from_secs(300);

/// What a pass came to.
pub(crate) struct Outcome {
    /// What is waited for or refused, if anything.
    pub(crate) rule: Option<Rule>,
    /// What the key API was brought to, if it was reached.
    pub(crate) contents: Option<Contents>,
    /// How far each tenant is.
    pub(crate) tenants: Vec<TenantStatus>,
    /// What the servers present, if that is known.
    pub(crate) certificate: Option<CertificateStatus>,
    /// What is wrong with the certificate that the spec asks for.
    pub(crate) certificate_problem: Option<Rule>,
    /// What a person should look at although the service goes on.
    pub(crate) degraded: Vec<Rule>,
    /// While the `KesCluster` is being deleted: tenants that depend on it.
    pub(crate) dependents: Option<Vec<String>>,
    /// How many Tenants carry the labels of the selector without anybody there having agreed.
    pub(crate) waiting: usize,
}

impl Outcome {
    /// Nothing is written; what was known about the tenants stays known.
    pub(crate) fn halted(status: &KesClusterStatus, rule: Rule) -> Self {
        Self {
            rule: Some(rule),
            contents: None,
            tenants: status.tenants.clone(),
            certificate: None,
            certificate_problem: None,
            degraded: Vec::new(),
            dependents: None,
            waiting: 0,
        }
    }
}

/// An event that is worth telling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct News {
    pub(crate) kind: EventType,
    pub(crate) action: &'static str,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// The status after this pass, on the base of the one before.
pub(crate) fn status(
    old: &KesClusterStatus,
    generation: Option<i64>,
    wanted: Option<&Wanted>,
    seen: Option<&Seen>,
    outcome: Outcome,
    now: Timestamp,
) -> KesClusterStatus {
    let Outcome { rule, contents, tenants, certificate, certificate_problem, degraded, dependents, waiting } =
        outcome;
    let mut status = old.clone();
    status.observed_generation = generation;
    if let Some(wanted) = wanted {
        status.endpoint = Some(wanted.endpoint());
        status.selector = Some(names::pod_selector(&wanted.name));
    }
    if let Some(seen) = seen {
        let ready = seen.pod.as_ref().is_some_and(is_ready);
        status.members = Some(format!("{}/{}", u8::from(ready), wanted.map_or(1, |wanted| wanted.replicas)));
        status.replicas = Some(i32::from(seen.pod.is_some()));
    }
    let kept = contents.as_ref().map(|contents| contents.kept.clone());
    if let Some(contents) = contents {
        status.keys = i64::try_from(contents.keys).ok();
        status.contents = contents.record;
    }
    if certificate.is_some() {
        status.certificate = certificate;
    }
    let asked_for: Vec<_> = tenants.iter().filter(|tenant| is_asked_for(tenant.phase)).collect();
    let verified = asked_for.iter().filter(|tenant| tenant.phase == TenantPhase::Verified).count();
    status.tenants_verified = Some(format!("{verified}/{}", asked_for.len()));
    let mut statements = vec![
        ready(rule.as_ref(), seen, old),
        progressing(rule.as_ref(), &tenants),
        conditions::degraded(rule.as_ref(), certificate_problem.as_ref(), &degraded),
        conditions::quorum_healthy(seen),
        conditions::certificates_ready(certificate_problem.as_ref(), status.certificate.as_ref()),
        tenants_wired(&asked_for, waiting),
        conditions::pruned(&old.conditions, kept.as_deref(), &tenants),
        paused(rule.as_ref()),
    ];
    statements.extend(dependents.map(|dependents| conditions::deletable(&dependents)));
    status.conditions = condition::set(&old.conditions, statements, generation, now);
    status.tenants = tenants;
    status
}

/// The status when passes fail as `rule` says; nothing when it says so already. What serves goes on, so Ready is touched only
/// where it does not hold.
pub(crate) fn failing(
    old: &KesClusterStatus,
    generation: Option<i64>,
    rule: &Rule,
    now: Timestamp,
) -> Option<KesClusterStatus> {
    let say = |kind, holds| Statement { kind, holds, reason: rule.reason(), message: rule.to_string() };
    let find = |kind: &str| old.conditions.iter().find(|known| known.type_ == kind);
    // ports, versions and times in a message are no other failure
    let plain = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    let message = plain(&condition::cut(rule.to_string()));
    if find("Degraded").is_some_and(|known| known.reason == rule.reason() && plain(&known.message) == message)
    {
        return None;
    }
    let mut statements = vec![say("Degraded", true), say("Progressing", true)];
    if find("Ready").is_none_or(|known| known.status != "True") {
        statements.push(say("Ready", false));
    }
    let changed = condition::set(&old.conditions, statements, generation, now);
    let mut status = old.clone();
    for condition in changed {
        match status.conditions.iter_mut().find(|known| known.type_ == condition.type_) {
            Some(known) => *known = condition,
            None => status.conditions.push(condition),
        }
    }
    Some(status)
}

/// Whether the spec asks for a tenant in this phase.
pub(crate) fn is_asked_for(phase: TenantPhase) -> bool {
    !matches!(phase, TenantPhase::Orphaned | TenantPhase::Unwiring)
}

fn ready(rule: Option<&Rule>, seen: Option<&Seen>, old: &KesClusterStatus) -> Statement {
    let kind = "Ready";
    match rule {
        // a paused cluster serves on; only what can be seen is said
        Some(Rule::Paused) => {
            let bootstrapped = old
                .bootstrap
                .as_ref()
                .is_some_and(|record| record.phase == crate::crd::BootstrapPhase::Completed);
            let holds = bootstrapped && seen.and_then(|seen| seen.pod.as_ref()).is_some_and(is_ready);
            Statement { kind, holds, reason: "Paused".into(), message: Rule::Paused.to_string() }
        }
        Some(rule) => Statement { kind, holds: false, reason: rule.reason(), message: rule.to_string() },
        None => Statement {
            kind,
            holds: true,
            reason: "Serving".into(),
            message: "the key service answers and holds what the spec asks for".into(),
        },
    }
}

fn progressing(rule: Option<&Rule>, tenants: &[TenantStatus]) -> Statement {
    let kind = "Progressing";
    let waiting = tenants.iter().find(|tenant| is_moving(tenant.phase));
    match (rule, waiting) {
        (Some(rule), _) => {
            Statement { kind, holds: rule.is_wait(), reason: rule.reason(), message: rule.to_string() }
        }
        (None, Some(tenant)) => Statement {
            kind,
            holds: true,
            reason: tenant.reason.clone(),
            message: format!("tenant {}/{}: {}", tenant.namespace, tenant.name, tenant.message),
        },
        (None, None) => Statement {
            kind,
            holds: false,
            reason: "UpToDate".into(),
            message: "nothing is left to do".into(),
        },
    }
}

fn tenants_wired(tenants: &[&TenantStatus], waiting: usize) -> Statement {
    let mut statement = wired(tenants);
    if waiting > 0 {
        // not which: what is in another namespace is told by whoever is there
        statement.message.push_str(&format!(
            "; the labels of spec.tenantSelector are also on Tenants of other namespaces, where nobody has agreed ({waiting}); \
             whoever may there: 'kubectl annotate namespace … {ALLOW_FROM}=…' with the namespace of this KesCluster"
        ));
    }
    statement
}

fn wired(tenants: &[&TenantStatus]) -> Statement {
    let kind = "TenantsWired";
    match tenants.iter().find(|tenant| tenant.phase != TenantPhase::Verified) {
        Some(tenant) => Statement {
            kind,
            holds: false,
            reason: tenant.reason.clone(),
            message: format!("{}/{} is {}: {}", tenant.namespace, tenant.name, tenant.phase, tenant.message),
        },
        None if tenants.is_empty() => Statement {
            kind,
            holds: true,
            reason: "NoTenants".into(),
            message: "the spec names no tenant".into(),
        },
        None => Statement {
            kind,
            holds: true,
            reason: "Verified".into(),
            message: format!("{} of {} tenants run with this key service", tenants.len(), tenants.len()),
        },
    }
}

fn paused(rule: Option<&Rule>) -> Statement {
    let holds = rule == Some(&Rule::Paused);
    let (reason, message) =
        if holds { ("Paused", Rule::Paused.to_string()) } else { ("Active", String::new()) };
    Statement { kind: "Paused", holds, reason: reason.into(), message }
}

/// Whether the operator or Kubernetes is about to do something for a tenant in this phase.
pub(crate) fn is_moving(phase: TenantPhase) -> bool {
    use TenantPhase::{Patched, Prepared, Restarting, Unwiring};
    matches!(phase, Prepared | Patched | Restarting | Unwiring)
}

/// What changed, as events. A status that stays the same tells nothing.
pub(crate) fn news(old: &KesClusterStatus, new: &KesClusterStatus) -> Vec<News> {
    let mut news = Vec::new();
    for condition in &new.conditions {
        let before = old.conditions.iter().find(|before| before.type_ == condition.type_);
        let changed = before
            .is_none_or(|before| (&before.status, &before.reason) != (&condition.status, &condition.reason));
        let told = match condition.type_.as_str() {
            "Ready" => true,
            // these are worth a word when they are bad, and when they are good again
            _ if condition.reason == "NotMadeYet" => false,
            "CertificatesReady" | "Deletable" | "Pruned" => condition.status == "False" || before.is_some(),
            _ => false,
        };
        // the same rule as in Ready needs no second event
        let is_new = !news.iter().any(|news: &News| news.reason == condition.reason);
        if changed && told && is_new {
            let alarming = is_alarming(condition) && condition.type_ != "Pruned";
            let kind = if alarming { EventType::Warning } else { EventType::Normal };
            news.push(News {
                kind,
                action: "Reconcile",
                reason: condition.reason.clone(),
                note: condition.message.clone(),
            });
        }
    }
    for tenant in &new.tenants {
        let before = old
            .tenants
            .iter()
            .find(|before| (&before.namespace, &before.name) == (&tenant.namespace, &tenant.name));
        if before.is_some_and(|before| was_taken_out(before, tenant)) {
            news.push(News {
                kind: EventType::Warning,
                action: "WireTenant",
                reason: "TenantWiringGone".into(),
                note: condition::cut(format!(
                    "{}/{}: somebody took its wiring out, so MinIO's next start would be without its keys; now: {}",
                    tenant.namespace, tenant.name, tenant.message
                )),
            });
        } else if before.is_none_or(|before| (before.phase, &before.reason) != (tenant.phase, &tenant.reason))
        {
            let kind = match tenant.phase {
                TenantPhase::Conflict | TenantPhase::Blocked | TenantPhase::Orphaned => EventType::Warning,
                _ => EventType::Normal,
            };
            news.push(News {
                kind,
                action: "WireTenant",
                reason: format!("Tenant{}", tenant.phase),
                note: condition::cut(format!("{}/{}: {}", tenant.namespace, tenant.name, tenant.message)),
            });
        }
    }
    news
}

/// Whether a tenant that was verified lacks now what it had, and nobody asked for another wiring.
fn was_taken_out(before: &TenantStatus, now: &TenantStatus) -> bool {
    use TenantPhase::{Blocked, Patched, Pending, Prepared};
    let wiring = |status: &TenantStatus| {
        let injected = status.injected.as_ref()?;
        Some((injected.endpoint.clone(), injected.key_name.clone(), injected.path.clone()))
    };
    let lacks = match now.phase {
        Prepared | Patched => true,
        Pending => now.reason == "KeyServiceNotReady",
        Blocked => ["ManagedElsewhere", "NotAllowed", "ApiRefused"].contains(&now.reason.as_str()),
        _ => false,
    };
    before.phase == TenantPhase::Verified && before.uid == now.uid && lacks && wiring(before) == wiring(now)
}

fn is_alarming(condition: &Condition) -> bool {
    let expected = ["Bootstrapping", "Paused"].contains(&condition.reason.as_str());
    condition.status != "True" && !expected && !condition.reason.starts_with("Waiting")
}

/// How the pass ended, for the metrics.
pub(crate) fn result(status: &KesClusterStatus, rule: Option<&Rule>) -> PassResult {
    let is_progressing =
        status.conditions.iter().any(|found| found.type_ == "Progressing" && found.status == "True");
    match rule {
        Some(rule) if !rule.is_wait() => PassResult::Refused,
        _ if is_progressing => PassResult::Waiting,
        _ => PassResult::Settled,
    }
}

/// When to look again.
pub(crate) fn next(status: &KesClusterStatus, rule: Option<&Rule>, now: Timestamp) -> Duration {
    let progressing = status.conditions.iter().find(|condition| condition.type_ == "Progressing");
    let moving_for = progressing
        .filter(|condition| condition.status == "True")
        .map(|condition| now.as_second() - condition.last_transition_time.0.as_second());
    let unwired_for = status
        .tenants
        .iter()
        .filter(|tenant| !matches!(tenant.phase, TenantPhase::Verified | TenantPhase::Orphaned))
        .map(|tenant| now.as_second() - tenant.since.0.as_second())
        .min();
    match (moving_for, rule, unwired_for) {
        (Some(seconds), Some(Rule::WaitingForPod { .. }), _) if seconds > LOOKED_AT_CLOSELY => {
            fraction(seconds * 5, WATCHED)
        }
        (Some(seconds), _, _) => fraction(seconds, MOVING),
        (None, Some(_), _) => REFUSED,
        // its configuration Secret may change, or its Namespace agree, which no watch sees
        (None, None, Some(seconds)) => fraction(seconds, UNWIRED),
        (None, None, None) => STEADY,
    }
}

fn fraction(seconds: i64, (least, most): (u64, u64)) -> Duration {
    Duration::from_secs((u64::try_from(seconds).unwrap_or(0) / 20).clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pass(old: &KesClusterStatus, rule: Option<Rule>, second: i64) -> KesClusterStatus {
        let outcome = Outcome { rule, ..Outcome::halted(old, Rule::Paused) };
        status(old, Some(3), None, None, outcome, at(second))
    }

    fn tenant(phase: &str, reason: &str, key: &str) -> TenantStatus {
        serde_json::from_value(
            serde_json::json!({"namespace": "team", "name": "minio", "phase": phase, "reason": reason,
            "message": "m", "since": "2026-11-25T10:00:00Z", "uid": "u",
            "injected": {"endpoint": "e", "keyName": key, "mount": "ClientCertSecrets", "path": "p"}}),
        )
        .unwrap()
    }

    #[test]
    fn a_wiring_that_vanished_is_a_warning_and_one_that_was_changed_is_none() {
        let told = |now: TenantStatus| {
            let status = |tenant| KesClusterStatus { tenants: vec![tenant], ..KesClusterStatus::default() };
            let news = news(&status(tenant("Verified", "Verified", "k")), &status(now));
            let [news] = news.as_slice() else { panic!("{news:?}") };
            (news.reason.clone(), matches!(news.kind, EventType::Warning))
        };
        for (phase, reason) in [
            ("Patched", "WaitingForTemplate"),
            ("Blocked", "ManagedElsewhere"),
            ("Prepared", "ApprovalPending"),
        ] {
            assert_eq!(told(tenant(phase, reason, "k")), ("TenantWiringGone".into(), true), "{phase}");
        }
        // the spec names another key
        assert_eq!(told(tenant("Patched", "WaitingForTemplate", "other")), ("TenantPatched".into(), false));
        // pods that restart lack nothing
        assert_eq!(told(tenant("Restarting", "WaitingForPods", "k")), ("TenantRestarting".into(), false));
    }

    #[test]
    fn a_pass_that_changes_nothing_gives_the_same_status_and_no_event() {
        let waiting = Rule::WaitingForPod { pod: "vault-0".into(), detail: "it is new".into() };
        let first = pass(&KesClusterStatus::default(), Some(waiting.clone()), 10);
        let second = pass(&first, Some(waiting), 20);
        assert_eq!(first, second);
        assert!(news(&first, &second).is_empty());
        let third = pass(&second, None, 30);
        assert_eq!(news(&second, &third).len(), 1);
        assert_eq!(news(&second, &third)[0].reason, "Serving");
    }

    #[test]
    fn conditions_say_what_is_waited_for_and_what_is_refused() {
        let waiting = pass(&KesClusterStatus::default(), Some(Rule::Bootstrapping), 10);
        let refused =
            pass(&waiting, Some(Rule::DataLost { pod: "vault-0".into(), cluster_id: "x".into() }), 20);
        insta::assert_yaml_snapshot!("waiting", waiting.conditions);
        insta::assert_yaml_snapshot!("refused", refused.conditions);
        insta::assert_yaml_snapshot!("paused", pass(&refused, Some(Rule::Paused), 30).conditions);
        insta::assert_yaml_snapshot!("serving", pass(&refused, None, 40).conditions);
    }

    #[test]
    fn the_next_pass_comes_soon_while_something_moves_and_late_otherwise() {
        let rule = Some(Rule::Bootstrapping);
        let moving = pass(&KesClusterStatus::default(), rule.clone(), 10);
        for (waited, pause) in [(1, 1), (39, 1), (60, 3), (600, 30), (86_400, 30)] {
            let pause = Duration::from_secs(pause);
            assert_eq!(next(&moving, rule.as_ref(), at(10 + waited)), pause, "after {waited} s");
        }
        // a pod is watched
        let pod = Some(Rule::WaitingForPod { pod: "vault-0".into(), detail: "no node has room".into() });
        let waiting = pass(&KesClusterStatus::default(), pod.clone(), 10);
        for (waited, pause) in [(1, 1), (60, 3), (120, 30), (600, 120), (86_400, 120)] {
            let pause = Duration::from_secs(pause);
            assert_eq!(next(&waiting, pod.as_ref(), at(10 + waited)), pause, "after {waited} s");
        }
        assert_eq!(next(&pass(&moving, None, 20), None, at(21)), STEADY);
        let refused = Some(Rule::Paused);
        assert_eq!(next(&pass(&moving, refused.clone(), 20), refused.as_ref(), at(21)), REFUSED);
    }
}

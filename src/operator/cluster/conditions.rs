//! conditions: the statements about a cluster besides Ready and Progressing. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::observe::{Member, Seen};
use crate::{
    crd::{CertificateStatus, TenantPhase, TenantStatus},
    operator::{
        condition::Statement,
        requests::{ACKNOWLEDGE_DELETION, UNWIRE},
        rule::Rule,
    },
};

/// Whether a person should look, although the service may go on.
pub(super) fn degraded(rule: Option<&Rule>, certificate: Option<&Rule>, others: &[Rule]) -> Statement {
    let kind = "Degraded";
    let refused = rule.filter(|rule| !rule.is_wait() && **rule != Rule::Paused);
    let certificate = certificate.filter(|rule| !rule.is_wait());
    match refused.or(certificate).or(others.first()) {
        Some(rule) => Statement { kind, holds: true, reason: rule.reason(), message: rule.to_string() },
        None => Statement { kind, holds: false, reason: "AsWanted".into(), message: String::new() },
    }
}

/// Whether a majority of members answers and is open.
pub(super) fn quorum_healthy(seen: Option<&Seen>) -> Statement {
    let kind = "QuorumHealthy";
    let say = |holds, reason: &str, message: &str| Statement {
        kind,
        holds,
        reason: reason.into(),
        message: message.into(),
    };
    match seen.map(|seen| &seen.member) {
        Some(Member::Initialised { sealed: false, .. }) => {
            say(true, "MajorityAnswers", "1 of 1 members answers")
        }
        Some(Member::Initialised { sealed: true, .. }) => say(false, "Sealed", "the only member is sealed"),
        Some(Member::Empty) => say(false, "NotInitialised", "the only member holds no data"),
        Some(Member::Silent(_) | Member::Absent) => {
            say(false, "NoMajority", "the only member does not answer")
        }
        None => say(false, "Unknown", "the members were not looked at"),
    }
}

/// Whether the servers present the certificate that the spec asks for, and in time.
pub(super) fn certificates_ready(problem: Option<&Rule>, known: Option<&CertificateStatus>) -> Statement {
    let kind = "CertificatesReady";
    match (problem, known) {
        (Some(rule), _) => Statement { kind, holds: false, reason: rule.reason(), message: rule.to_string() },
        (None, Some(CertificateStatus { secret: _, not_after, renewal_at })) => {
            let renewal = renewal_at.as_ref().map_or_else(
                || "whoever keeps its Secret renews it".into(),
                |at| format!("it is renewed at {}", at.0),
            );
            let message = format!("the servers' certificate is valid until {}; {renewal}", not_after.0);
            Statement { kind, holds: true, reason: "Valid".into(), message }
        }
        (None, None) => Statement {
            kind,
            holds: false,
            reason: "NotMadeYet".into(),
            message: "there is no certificate yet".into(),
        },
    }
}

/// Whether nothing is left of what the spec asked for once. `kept` is absent when the key API was not reached: then what
/// was known stays.
pub(super) fn pruned(before: &[Condition], kept: Option<&[String]>, tenants: &[TenantStatus]) -> Statement {
    let kind = "Pruned";
    let Some(kept) = kept else {
        return before.iter().find(|known| known.type_ == kind).map_or_else(
            || Statement { kind, holds: true, reason: "NothingLeft".into(), message: String::new() },
            |known| Statement {
                kind,
                holds: known.status == "True",
                reason: known.reason.clone(),
                message: known.message.clone(),
            },
        );
    };
    let orphans: Vec<_> = tenants
        .iter()
        .filter(|tenant| tenant.phase == TenantPhase::Orphaned)
        .map(|tenant| format!("{}/{}", tenant.namespace, tenant.name))
        .collect();
    let mut sentences = Vec::new();
    if !kept.is_empty() {
        sentences.push(format!(
            "these left the spec and are kept, because what was encrypted with them could not be read any more: {}. Delete \
             them with 'kes key rm' or 'kes enclave rm' if that is meant",
            kept.join(", ")
        ));
    }
    if !orphans.is_empty() {
        sentences.push(format!(
            "these tenants left the spec and stay wired, because MinIO could not read what it encrypted: {0}. Name them \
             again, or have the wiring taken out with the annotation {UNWIRE}: {1}",
            orphans.join(", "),
            orphans.join(",")
        ));
    }
    if sentences.is_empty() {
        return Statement { kind, holds: true, reason: "NothingLeft".into(), message: String::new() };
    }
    Statement { kind, holds: false, reason: "KeptForSafety".into(), message: sentences.join(". ") }
}

/// Only while somebody deletes the cluster: why it is still there.
pub(super) fn deletable(dependents: &[String]) -> Statement {
    Statement {
        kind: "Deletable",
        holds: false,
        reason: "TenantsDepend".into(),
        message: format!(
            "the deletion waits, because these MinIO tenants encrypt with this key service and could read nothing without \
             it: {}. It goes on serving. Take them out of the spec and unwire them first; or, if they shall be cut off, set \
             the annotation {ACKNOWLEDGE_DELETION} to the name of this KesCluster",
            dependents.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn orphan() -> TenantStatus {
        serde_json::from_value(
            json!({"namespace": "team", "name": "minio", "phase": "Orphaned", "reason": "",
            "message": "", "since": "2026-11-25T10:00:00Z"}),
        )
        .unwrap()
    }

    #[test]
    fn what_left_the_spec_and_is_kept_is_told_with_the_way_out() {
        let kept = ["key old of enclave default".to_owned()];
        let statement = pruned(&[], Some(&kept), &[orphan()]);
        assert!(!statement.holds);
        insta::assert_snapshot!(statement.message);
        assert!(pruned(&[], Some(&[]), &[]).holds);
    }

    #[test]
    fn what_was_kept_is_not_forgotten_while_the_key_service_is_away() {
        let known = Condition {
            type_: "Pruned".into(),
            status: "False".into(),
            reason: "KeptForSafety".into(),
            message: "a key".into(),
            last_transition_time: serde_json::from_value(json!("2026-11-25T10:00:00Z")).unwrap(),
            observed_generation: None,
        };
        let statement = pruned(&[known], None, &[]);
        assert_eq!((statement.holds, statement.message.as_str()), (false, "a key"));
    }

    #[test]
    fn a_pause_or_a_wait_is_no_degradation_and_a_refused_expansion_is() {
        assert!(!degraded(Some(&Rule::Paused), None, &[]).holds);
        assert!(!degraded(Some(&Rule::Bootstrapping), None, &[]).holds);
        let refused = Rule::ExpansionRefused { class: "fast".into(), problem: "no".into() };
        assert_eq!(degraded(None, None, &[refused]).reason, "ExpansionRefused");
    }

    #[test]
    fn a_refused_deletion_names_the_tenants_and_the_annotation() {
        insta::assert_snapshot!(deletable(&["team/minio".into()]).message);
    }
}

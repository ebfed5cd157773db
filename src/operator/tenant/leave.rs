//! leave: what happens to a tenant that the spec no longer asks for, and who depends on the key service. Pure.
//!
//! MinIO cannot read what it encrypted once the wiring is gone, so nothing is taken out before somebody asks for it. Then:
//! variables and mount out in one patch → wait for the template's content → all stale pods at once → done, and the
//! identity is forgotten. Pods are replaced and not restarted in place, since removed variables survive the latter.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Map, Value};

use super::{
    observe::Seen,
    patch::{self, Removal},
    plan::{self, PodId},
    rule::Rule,
};
use crate::crd::{Injected, TenantPhase, TenantStatus};

/// What to do next.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing of ours is left: the tenant is forgotten.
    Forget,
    /// Nothing now.
    Hold(TenantPhase, Rule, Injected),
    /// Write these fields of `spec`.
    Patch(Map<String, Value>, Injected),
    /// Delete these pods together.
    Restart(Vec<PodId>, Injected),
}

/// Decides about a tenant that was wired as `before` says and that nobody asks for any more.
pub(crate) fn plan(seen: &Seen, secret: &str, before: &TenantStatus, unwire: bool) -> Step {
    let Some(injected) = &before.injected else { return Step::Forget };
    // gone, or another Tenant of that name
    let Some(tenant) = seen.tenant.as_ref().filter(|tenant| tenant.metadata.uid == before.uid) else {
        return Step::Forget;
    };
    let hold = |phase, rule| Step::Hold(phase, rule, injected.clone());
    let removal = patch::removal(&tenant.data, secret, injected);
    let unwiring = before.phase == TenantPhase::Unwiring;
    let (fields, keeps_slot) = match removal {
        Removal::Nothing { keeps_slot } => (None, keeps_slot),
        Removal::Write { fields, keeps_slot } => (Some(fields), keeps_slot),
    };
    if let Some(fields) = fields {
        if !unwire {
            return hold(TenantPhase::Orphaned, Rule::LeftWired);
        }
        if patch::encrypts_everything(&tenant.data, seen.config_env.as_deref()) {
            return hold(TenantPhase::Orphaned, Rule::AutoEncryptionOn);
        }
        // without the others MinIO does not start with it
        if let Some(rule) = patch::left_over(&tenant.data, &fields, seen.config_env.as_deref()) {
            return hold(TenantPhase::Orphaned, rule);
        }
        if let Err(rule) = plan::consent(seen) {
            return hold(TenantPhase::Orphaned, rule);
        }
        if let Err(rule) = plan::some_but_not_all_down(&seen.pods) {
            return hold(TenantPhase::Orphaned, rule);
        }
        return Step::Patch(fields, injected.clone());
    }
    if !unwiring {
        // somebody took the entries out; pods that still have the certificate need their identity
        let runs = seen.pods.iter().any(|pod| pod.spec.as_ref().is_some_and(|spec| plan::has(spec, secret)));
        return if runs && !keeps_slot {
            hold(TenantPhase::Orphaned, Rule::PodsStillUse)
        } else {
            Step::Forget
        };
    }
    if !keeps_slot && let Some(set) = seen.stateful_sets.iter().find(|set| plan::template_has(set, secret)) {
        return hold(TenantPhase::Unwiring, Rule::WaitingForRemoval { stateful_set: set.name_any() });
    }
    let is_stale = |pod: &&Pod| {
        pod.metadata.deletion_timestamp.is_none()
            && (plan::is_older(pod, injected)
                || (!keeps_slot && pod.spec.as_ref().is_some_and(|spec| plan::has(spec, secret))))
    };
    let stale: Vec<_> = seen.pods.iter().filter(is_stale).map(PodId::of).collect();
    if !stale.is_empty() {
        if let Err(rule) = plan::consent(seen) {
            return hold(TenantPhase::Unwiring, rule);
        }
        return Step::Restart(stale, injected.clone());
    }
    let wanted = seen.stateful_sets.iter().map(plan::replicas).sum();
    let ready = seen.pods.iter().filter(|pod| crate::operator::cluster::plan::is_ready(pod)).count();
    if ready < wanted {
        return hold(TenantPhase::Unwiring, Rule::WaitingForPods { ready, wanted });
    }
    Step::Forget
}

/// Whether `tenant` is the one that was wired as `status` says, and still is.
pub(crate) fn depends(
    tenant: Option<&kube::api::DynamicObject>,
    status: &TenantStatus,
    secret: &str,
) -> bool {
    let (Some(tenant), Some(injected)) = (tenant, &status.injected) else { return false };
    // also where somebody took the entries out: its pods run with what they started with
    tenant.metadata.uid == status.uid
        && (status.phase != TenantPhase::Unwiring
            || matches!(patch::removal(&tenant.data, secret, injected), Removal::Write { .. }))
}

#[cfg(test)]
#[path = "leave_tests.rs"]
mod tests;

//! How many members a drain may take away: one, where several are there. A single member has none, since a budget would
//! only keep its node from being drained.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::super::wanted::Wanted;
use crate::operator::names;

/// Members from which on a majority is left when one is away.
const FEWEST: i32 = 3;

pub(super) fn disruption_budget(wanted: &Wanted) -> Option<PodDisruptionBudget> {
    (wanted.replicas >= FEWEST).then(|| PodDisruptionBudget {
        metadata: super::metadata(wanted, wanted.name.clone(), "server"),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector_labels(&wanted.name)),
                match_expressions: None,
            }),
            // a member that is not ready helps nobody and must not keep its node from being drained
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

//! Tells in the conditions that passes fail, and why: on change only, not once per attempt.

use kube::ResourceExt;

use super::{
    Error,
    record::{self, Record},
    report,
};
use crate::{
    crd::KesCluster,
    operator::{Context, rule::Rule},
};

impl Error {
    /// The step that failed, as a reason.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Observe(_) => "ObserveFailed",
            Self::Make(_) => "MakeFailed",
            Self::Apply(_) => "ApplyFailed",
            Self::Record(_) => "RecordFailed",
            Self::Release(_) => "ReleaseFailed",
            Self::Dependents(_) => "DependentsUnknown",
        }
    }
}

/// Puts into the status that passes over `trigger` fail, unless it says so already.
///
/// # Errors
/// When the status cannot be read or written either, which then is most likely the very failure.
pub(crate) async fn tell(
    context: &Context,
    trigger: &KesCluster,
    reason: &'static str,
    problem: String,
) -> Result<(), record::Error> {
    let Some(mut record) = Record::read(&context.client, trigger).await? else { return Ok(()) };
    let rule = Rule::PassFailed { reason, problem };
    let generation = record.cluster().metadata.generation;
    let Some(status) = report::failing(record.status(), generation, &rule, context.now()) else {
        return Ok(());
    };
    for news in report::news(record.reported(), &status) {
        context.tell(record.cluster(), news).await;
    }
    tracing::debug!(cluster = trigger.name_any(), reason, "told in the conditions that passes fail");
    record.report(status).await
}

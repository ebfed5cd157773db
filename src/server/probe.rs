//! What a request says before anything is looked up: for fuzzing. No state, no I/O.

use http::{HeaderMap, Uri};
use serde::Deserialize;

use super::{body, route, target as parts};
use crate::api::{ApiError, EnclaveName};

/// A request's route, and what policies see of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The route's path.
    pub route: &'static str,
    /// What follows it: what the handler works with.
    pub argument: String,
    /// What policies are matched against.
    pub policy_path: String,
}

/// Where a request goes; `None` when no route is there.
///
/// # Errors
/// The answer to a path that is not UTF-8.
pub fn target(uri: &Uri) -> Result<Option<Target>, ApiError> {
    let path = parts::path(uri)?;
    Ok(route::find(&path).map(|found| Target {
        route: found.route.path,
        argument: found.argument.to_owned(),
        policy_path: found.policy_path(&path).to_owned(),
    }))
}

/// The enclave that a request is about.
///
/// # Errors
/// The answer to a name that is none.
pub fn enclave(uri: &Uri, headers: &HeaderMap) -> Result<EnclaveName, ApiError> {
    parts::enclave(&parts::selector(uri, headers), &EnclaveName::default_enclave())
}

/// A body that must not be empty.
///
/// # Errors
/// The answer to a body that is not what the route expects.
pub fn body<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, ApiError> {
    body::parse_required(bytes)
}

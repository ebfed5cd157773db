//! What each route does between authorisation and answer: parse, ask `service`, render.

pub(super) mod enclave;
pub(super) mod identity;
pub(super) mod key;
pub(super) mod policy;
pub(super) mod system;

use super::reply::Reply;
use crate::{api::ApiError, service};

type Handled = Result<Reply, ApiError>;

/// A change that has nothing to tell.
fn done(result: Result<(), service::Error>) -> Handled {
    result.map(|()| Reply::Empty).map_err(|error| error.to_api())
}

/// What was asked for, as JSON.
fn json<T: serde::Serialize>(result: Result<T, service::Error>) -> Handled {
    Reply::json(&result.map_err(|error| error.to_api())?)
}

/// A listing, one JSON object per line.
fn lines<T: serde::Serialize>(result: Result<Vec<T>, service::Error>) -> Handled {
    Reply::lines(result.map_err(|error| error.to_api())?)
}

//! What each route does between authorisation and answer: parse, ask `service`, render.

pub(super) mod enclave;
pub(super) mod identity;
pub(super) mod key;
pub(super) mod log;
pub(super) mod policy;
pub(super) mod secret;
pub(super) mod system;

use super::reply::{self, Reply};
use crate::{
    api::ApiError,
    service::{self, Pages},
};

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

/// A listing that may be longer than what fits into memory. What is known before the answer begins gets a status of its
/// own; what fails later is told in a last line.
fn pages<T: serde::Serialize + 'static>(listing: Result<Pages<T>, service::Error>) -> Handled {
    let mut listing = listing.map_err(|error| error.to_api())?;
    let first = listing.next().transpose().map_err(|error| error.to_api())?.unwrap_or_default();
    let first = reply::page(first)?;
    if listing.is_over() {
        return Ok(Reply::Lines(first));
    }
    let rest = listing.map(|page| {
        let page = page.map_err(|error| error.to_api()).and_then(reply::page);
        page.unwrap_or_else(|error| {
            tracing::error!(cause = error.cause(), %error, "a listing ends early");
            reply::last_page(&error)
        })
    });
    Ok(Reply::Pages(first, Box::new(rest)))
}

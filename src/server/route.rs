//! The one table of routes: it drives dispatch, authorisation, limits, audit, `/v1/api` and the tests.
//!
//! A route's action is not written here: it is the one whose [`Authorized`] its handler takes, and a handler that takes
//! none has no place in the table.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use futures::future::BoxFuture;

use super::{
    body::Body,
    call::{Answer, Call, Received, admit},
    handle::{enclave, identity, key, log, policy, secret, system},
    reply::Reply,
};
use crate::{
    api::ApiError,
    authz::{Action, Authorized, Scope},
};

/// One endpoint.
pub(super) struct Route {
    /// Accepted methods; the first is the one to tell others.
    pub(super) methods: &'static [&'static str],
    /// The path; with a trailing slash an argument follows.
    pub(super) path: &'static str,
    pub(super) argument: Argument,
    /// Largest body in bytes; what is sent to a route that takes none is ignored, as KES does.
    pub(super) max_body: usize,
    /// Bytes that an answer may take which is larger than what it answers; zero for small ones. So much is taken of the
    /// memory for large bodies before the answer is made, and for each part of one that is made in parts.
    pub(super) answer: usize,
    /// Time limit for the whole request; zero for an answer without end.
    pub(super) timeout: Duration,
    pub(super) audit: Audited,
    pub(super) handler: &'static dyn Handler,
}

impl Route {
    /// How long the answer's beginning may take.
    pub(super) fn limit(&self) -> Duration {
        if self.timeout.is_zero() { USUAL } else { self.timeout }
    }
}

/// What follows the path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Argument {
    None,
    /// One name.
    Name,
    /// A listing pattern, which may be empty.
    Pattern,
}

/// Whether and when a request is audited (contract §7.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Audited {
    /// What monitoring asks every few seconds.
    Never,
    /// Some milliseconds later.
    Soon,
    /// Before the answer is sent, because something changes. Such a request also runs to its end when the client goes
    /// away, so that its record tells what happened.
    BeforeAnswer,
}

/// A handler behind its route, whatever its action.
pub(super) trait Handler: Sync {
    /// Name of the action.
    fn action(&self) -> &'static str;
    /// Scope of the action.
    fn scope(&self) -> Scope;
    /// Authorises, reads the body, checks the argument and handles.
    fn serve<'c>(&'static self, call: &'c Call<'c>, body: &'c mut Body) -> BoxFuture<'c, Answer>;
}

type Handled = Result<Reply, ApiError>;

/// A handler that is answered from memory.
struct Now<A>(for<'c> fn(&'c Call<'c>, &Authorized<'c, A>, &[u8]) -> Handled);

/// A handler that waits, for a change to be durable.
struct Later<A>(for<'c> fn(&'c Call<'c>, Authorized<'c, A>, bytes::Bytes) -> BoxFuture<'c, Handled>);

impl<A: Action> Handler for Now<A> {
    fn action(&self) -> &'static str {
        A::NAME
    }

    fn scope(&self) -> Scope {
        A::SCOPE
    }

    fn serve<'c>(&'static self, call: &'c Call<'c>, body: &'c mut Body) -> BoxFuture<'c, Answer> {
        Box::pin(async move {
            let (proof, body) = match received::<A>(call, body).await {
                Ok(received) => received,
                Err(refused) => return refused,
            };
            let (result, share) = match body {
                Ok(Received { bytes, share, .. }) => ((self.0)(call, &proof, &bytes), share),
                Err(error) => (Err(error), None),
            };
            Answer::allowed(proof.rule(), result, share)
        })
    }
}

impl<A: Action> Handler for Later<A> {
    fn action(&self) -> &'static str {
        A::NAME
    }

    fn scope(&self) -> Scope {
        A::SCOPE
    }

    fn serve<'c>(&'static self, call: &'c Call<'c>, body: &'c mut Body) -> BoxFuture<'c, Answer> {
        Box::pin(async move {
            let (proof, body) = match received::<A>(call, body).await {
                Ok(received) => received,
                Err(refused) => return refused,
            };
            let rule = proof.rule();
            let (result, share) = match body {
                Ok(Received { bytes, share, .. }) => ((self.0)(call, proof, bytes).await, share),
                Err(error) => (Err(error), None),
            };
            Answer::allowed(rule, result, share)
        })
    }
}

/// Authorises and then reads the body. A body that was waited for may have taken many seconds, in which the caller's
/// rights may have been withdrawn or its enclave made anew for others: then it is authorised again.
async fn received<'c, A: Action>(
    call: &'c Call<'c>,
    body: &mut Body,
) -> Result<(Authorized<'c, A>, Result<Received, ApiError>), Answer> {
    let mut proof = admit::<A>(call)?;
    let body = call.body(body).await;
    if body.as_ref().is_ok_and(|body| body.waited) {
        proof = admit::<A>(call)?;
    }
    Ok((proof, body))
}

/// Boxes an async handler, so that the table can hold it.
macro_rules! later {
    ($handler:path) => {
        &Later(|call, proof, body| Box::pin($handler(call, proof, body)))
    };
}

const GET: &[&str] = &["GET"];
const DELETE: &[&str] = &["DELETE"];
/// KES v0.22.3 takes POST, KES 2024 takes PUT and POST.
const POST: &[&str] = &["POST", "PUT"];
/// What v0.22.3 does not have, clients ask for with PUT.
const PUT: &[&str] = &["PUT", "POST"];
const MIB: usize = 1 << 20;
/// A page of a listing: 256 entries of at most 400 bytes.
const PAGE: usize = 100 << 10;
const USUAL: Duration = Duration::from_secs(15);

const fn get(path: &'static str, argument: Argument, audit: Audited, handler: &'static dyn Handler) -> Route {
    Route { methods: GET, path, argument, max_body: 0, answer: 0, timeout: USUAL, audit, handler }
}

const fn delete(path: &'static str, handler: &'static dyn Handler) -> Route {
    Route {
        methods: DELETE,
        path,
        argument: Argument::Name,
        max_body: 0,
        answer: 0,
        timeout: USUAL,
        audit: Audited::BeforeAnswer,
        handler,
    }
}

const fn post(path: &'static str, max_body: usize, audit: Audited, handler: &'static dyn Handler) -> Route {
    Route {
        methods: POST,
        path,
        argument: Argument::Name,
        max_body,
        answer: 0,
        timeout: USUAL,
        audit,
        handler,
    }
}

use Argument::{Name, None as Nothing, Pattern};
use Audited::{BeforeAnswer, Never, Soon};

/// All routes, in the order in which `/v1/api` tells them.
pub(super) static ROUTES: &[Route] = &[
    get("/version", Nothing, Soon, &Now(system::version)),
    get("/v1/ready", Nothing, Never, &Now(system::ready)),
    get("/v1/status", Nothing, Never, &Now(system::status)),
    Route { answer: PAGE, ..get("/v1/metrics", Nothing, Never, &Now(system::metrics)) },
    Route { answer: PAGE, ..get("/v1/api", Nothing, Never, &Now(system::api)) },
    post("/v1/key/create/", 0, BeforeAnswer, later!(key::create)),
    post("/v1/key/import/", MIB, BeforeAnswer, later!(key::import)),
    get("/v1/key/describe/", Name, Soon, &Now(key::describe)),
    delete("/v1/key/delete/", later!(key::delete)),
    post("/v1/key/generate/", MIB, Soon, &Now(key::generate)),
    post("/v1/key/encrypt/", MIB, Soon, &Now(key::encrypt)),
    post("/v1/key/decrypt/", MIB, Soon, &Now(key::decrypt)),
    post("/v1/key/bulk/decrypt/", MIB, Soon, &Now(key::bulk_decrypt)),
    Route { methods: PUT, ..post("/v1/key/hmac/", MIB, Soon, &Now(key::hmac)) },
    Route { answer: PAGE, ..get("/v1/key/list/", Pattern, Soon, &Now(key::list)) },
    post("/v1/secret/create/", MIB, BeforeAnswer, later!(secret::create)),
    get("/v1/secret/describe/", Name, Soon, &Now(secret::describe)),
    Route { answer: MIB, ..get("/v1/secret/read/", Name, Soon, &Now(secret::read)) },
    delete("/v1/secret/delete/", later!(secret::delete)),
    Route { answer: PAGE, ..get("/v1/secret/list/", Pattern, Soon, &Now(secret::list)) },
    get("/v1/policy/describe/", Name, Soon, &Now(policy::describe)),
    post("/v1/policy/assign/", 1024, BeforeAnswer, later!(policy::assign)),
    Route { answer: MIB, ..get("/v1/policy/read/", Name, Soon, &Now(policy::read)) },
    post("/v1/policy/write/", MIB, BeforeAnswer, later!(policy::write)),
    Route { answer: MIB, ..get("/v1/policy/list/", Pattern, Soon, &Now(policy::list)) },
    delete("/v1/policy/delete/", later!(policy::delete)),
    get("/v1/identity/describe/", Name, Soon, &Now(identity::describe)),
    get("/v1/identity/self/describe", Nothing, Soon, &Now(identity::describe_self)),
    Route { answer: MIB, ..get("/v1/identity/list/", Pattern, Soon, &Now(identity::list)) },
    delete("/v1/identity/delete/", later!(identity::delete)),
    Route { timeout: Duration::ZERO, ..get("/v1/log/error", Nothing, Never, &Now(log::error)) },
    Route { timeout: Duration::ZERO, ..get("/v1/log/audit", Nothing, Never, &Now(log::audit)) },
    post("/v1/enclave/create/", MIB, BeforeAnswer, later!(enclave::create)),
    get("/v1/enclave/describe/", Name, Soon, &Now(enclave::describe)),
    delete("/v1/enclave/delete/", later!(enclave::delete)),
    Route { answer: MIB, ..get("/v1/enclave/list/", Pattern, Soon, &Now(enclave::list)) },
    post("/v1/enclave/rotate/", 0, BeforeAnswer, later!(enclave::rotate)),
    Route { argument: Nothing, ..post("/v1/sys/rotate", 0, BeforeAnswer, later!(system::rotate)) },
    get("/v1/sys/rotation", Nothing, Never, &Now(system::rotation)),
    Route { argument: Nothing, ..post("/v1/sys/seal", 0, BeforeAnswer, later!(system::seal)) },
    Route { argument: Nothing, ..post("/v1/sys/bootstrap", 1024, BeforeAnswer, later!(system::bootstrap)) },
    get("/v1/sys/cluster", Nothing, Never, &Now(system::cluster)),
];

/// Routes by path; those with an argument also without their slash.
static INDEX: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
    let slashless = |path: &'static str| path.strip_suffix('/').unwrap_or(path);
    ROUTES
        .iter()
        .enumerate()
        .flat_map(|(index, route)| [(route.path, index), (slashless(route.path), index)])
        .collect()
});

/// A route, its index in the table, and its argument in a path.
pub(super) struct Found<'p> {
    pub(super) index: usize,
    pub(super) route: &'static Route,
    pub(super) argument: &'p str,
}

impl Found<'_> {
    /// The decoded `path` as policies see it: a route that takes an argument has its slash, as if it had been redirected
    /// there.
    pub(super) fn policy_path<'p>(&self, path: &'p str) -> &'p str {
        if path.len() < self.route.path.len() { self.route.path } else { path }
    }
}

/// The route of a decoded path.
pub(super) fn find(path: &str) -> Option<Found<'_>> {
    let found = |index: &usize, argument| Found { index: *index, route: &ROUTES[*index], argument };
    if let Some(index) = INDEX.get(path) {
        return Some(found(index, ""));
    }
    // everything after the third or fourth slash is the argument
    path.match_indices('/').skip(3).take(2).find_map(|(slash, _)| {
        let index = INDEX.get(&path[..=slash])?;
        Some(found(index, &path[slash + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_found_with_its_argument_and_without_its_slash() {
        for (index, route) in ROUTES.iter().enumerate() {
            assert_eq!(route.path.ends_with('/'), route.argument != Argument::None, "{}", route.path);
            assert_eq!(find(route.path).unwrap().index, index);
            if route.argument != Argument::None {
                let path = format!("{}some-name", route.path);
                let found = find(&path).unwrap();
                assert_eq!((found.index, found.argument), (index, "some-name"), "{path}");
                assert_eq!(find(route.path.trim_end_matches('/')).unwrap().index, index);
            }
        }
    }

    #[test]
    fn what_is_no_route_is_not_found() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v1/status/",
            "/v1/key",
            "/v1/key/",
            "/v1/keys/create/x",
            "//v1/status",
            "/v1/identity/self/describe/x",
            "/V1/status",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
        assert_eq!(find("/v1/key/create/a/b").unwrap().argument, "a/b");
        assert_eq!(find("/v1/key/bulk/decrypt/x").unwrap().route.handler.action(), "BulkDecrypt");
    }

    #[test]
    fn what_changes_something_is_audited_before_the_answer() {
        for route in ROUTES {
            let action = route.handler.action();
            let changes = ["Create", "Import", "Delete", "Write", "Assign", "Bootstrap", "Seal", "Rotate"];
            let is_change = changes.iter().any(|verb| action.starts_with(verb));
            assert_eq!(route.audit == Audited::BeforeAnswer, is_change, "{action}");
        }
    }
}

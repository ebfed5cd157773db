//! One HTTP request: find its route, run it within its limits, audit, count, answer.

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, Response, Version, header, request::Parts};
use jiff::Timestamp;

use super::{
    body::Body,
    call::{Answer, Call, Peer, RequestId, Shared},
    reply::{Outgoing, Reply, redirect, refusal},
    route::{self, Audited, Found},
    target,
};
use crate::{
    api::{ApiError, EnclaveName, Fault, message::ErrorEvent},
    audit::{Cause, Decision, Event},
    authz::{Rule, Scope},
};

/// Answers one request.
pub(super) async fn respond(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    head: Parts,
    mut body: Body,
) -> Response<Outgoing> {
    let peer = peer.behind(&shared.access.load(), &head.headers);
    let received = Received { time: Timestamp::now(), instant: Instant::now(), id: shared.ids.next() };
    let version = head.version;
    let path = match target::path(&head.uri) {
        Ok(path) => path,
        Err(error) => return finish(refusal(&error), version, &mut body).await,
    };
    let found = route::find(&path);
    // no name has a slash or begins with a dot
    if found.as_ref().is_none_or(|found| found.argument.contains('/') || found.argument.starts_with('.'))
        && let Some(location) = target::cleaned(&path, head.uri.query())
    {
        return finish(redirect(&location), version, &mut body).await;
    }
    let Some(found) = found else {
        return finish(refusal(&ApiError::UNKNOWN_ROUTE), version, &mut body).await;
    };
    if found.route.audit != Audited::BeforeAnswer {
        let _active = shared.metrics.begin();
        let response = run(&shared, &peer, &head, &path, &found, &mut body, received).await;
        return finish(response, version, &mut body).await;
    }
    // Who waits here and goes away has changed nothing.
    let places = shared.changes.of(found.route);
    let Ok(Ok(place)) = tokio::time::timeout(found.route.limit(), places.acquire_owned()).await else {
        return finish(refusal(&ApiError::TIMEOUT), version, &mut body).await;
    };
    if !shared.audit.takes_changes() {
        let (id, action) = (received.id, found.route.handler.action());
        shared.metrics.error_logged();
        tracing::error!(%id, action, "refused a change: the audit log does not keep up, see that its sink takes lines");
        return finish(refusal(&ApiError::AUDIT_BEHIND), version, &mut body).await;
    }
    // A change runs to its end, and is audited, also when the client goes away: it may be durable by then.
    let path = path.into_owned();
    let task = tokio::spawn(async move {
        let _place = place;
        let _active = shared.metrics.begin();
        let response = match route::find(&path) {
            Some(found) => run(&shared, &peer, &head, &path, &found, &mut body, received).await,
            None => refusal(&ApiError::UNKNOWN_ROUTE),
        };
        (response, body)
    });
    match task.await {
        Ok((response, mut body)) => finish(response, version, &mut body).await,
        Err(error) => {
            tracing::error!(%error, "a handler failed");
            refusal(&ApiError::new(Fault::Internal, "internal error"))
        }
    }
}

/// Leaves an HTTP/1.1 connection fit for the next request, or says that it ends: a refused request's body was not read,
/// and clients that meet a closed connection do not repeat a POST.
async fn finish(mut response: Response<Outgoing>, version: Version, body: &mut Body) -> Response<Outgoing> {
    if version < Version::HTTP_2 && !body.finish().await {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[derive(Clone, Copy)]
struct Received {
    time: Timestamp,
    instant: Instant,
    id: RequestId,
}

async fn run(
    shared: &Shared,
    peer: &Peer,
    head: &Parts,
    path: &str,
    found: &Found<'_>,
    body: &mut Body,
    received: Received,
) -> Response<Outgoing> {
    let route = found.route;
    let selector = target::selector(&head.uri, &head.headers);
    let path = found.policy_path(path);
    // what is about the server does not depend on an enclave, however it was named
    let is_within = matches!(route.handler.scope(), Scope::Enclave | Scope::Caller);
    let enclave = target::enclave(if is_within { &selector } else { "" }, &shared.default_enclave);

    let mut wrong_method = false;
    let answer = if !route.methods.contains(&head.method.as_str()) {
        wrong_method = true;
        Answer::error(ApiError::WRONG_METHOD)
    } else if route.max_body > 0 && body.is_announced_over(route.max_body) {
        Answer::error(ApiError::BODY_TOO_LARGE)
    } else {
        match &enclave {
            Err(error) => Answer::error(error.clone()),
            Ok(enclave) => {
                let (is_open, limit) = {
                    let access = shared.access.load();
                    // with something for everybody, the release is for everybody too
                    let is_public = route.handler.scope() == Scope::Public && access.takes_anybody();
                    (is_public || access.is_open(found.index), access.limit_of(found.index, route))
                };
                let call = Call { shared, peer, route, is_open, path, argument: found.argument, enclave };
                tokio::time::timeout(limit, route.handler.serve(&call, body))
                    .await
                    .unwrap_or_else(|_| Answer::error(ApiError::TIMEOUT))
            }
        }
    };

    // nor is it anybody's to follow in one
    let enclave = enclave.as_ref().ok().filter(|_| is_within);
    let outcome = Outcome { path, selector: &selector, enclave, found, received };
    let Answer { result, decision, share } = answer;
    let code = result.as_ref().map_or_else(ApiError::status, |_| 200);
    let audited = audit(shared, peer, &outcome, decision, code).await;
    let result = audited.and(result);
    let code = result.as_ref().map_or_else(ApiError::status, |_| 200);
    let took = received.instant.elapsed();
    if route.handler.action() != "Metrics" {
        shared.metrics.answered(found.index, code, took);
    }
    tracing::debug!(id = %received.id, action = route.handler.action(), code, micros = took.as_micros() as u64, "answered");
    let result = result.map_err(|error| if code >= 500 { failed(shared, &outcome, error) } else { error });
    let mut response =
        result.map_or_else(|error| refusal(&error), |reply| reply.into_http(share, &peer.allowance));
    if wrong_method {
        response.headers_mut().insert("accept", HeaderValue::from_static(route.methods[0]));
    }
    response
}

/// Logs a failure of ours, with what the client is not told, and names the request to the client where it needs the log.
fn failed(shared: &Shared, outcome: &Outcome<'_>, error: ApiError) -> ApiError {
    let Outcome { path, selector: _, enclave, found, received } = outcome;
    let (id, action, code) = (received.id, found.route.handler.action(), error.status());
    shared.metrics.error_logged();
    tracing::error!(%id, action, path, code, cause = error.cause(), %error, "request failed");
    if let Some(enclave) = enclave
        && shared.errors.is_followed()
    {
        // begins with the time, as in KES
        let time = received.time.strftime("%Y/%m/%d %H:%M:%S");
        let message = format!("{time} http: {action} {path} failed with {code}: {error} (request {id})");
        let line = Reply::json(&ErrorEvent { message }).map(Reply::into_bytes).unwrap_or_default();
        shared.errors.publish(enclave, &line);
    }
    if error.fault() == Fault::Internal { error.of_request(id) } else { error }
}

struct Outcome<'a> {
    path: &'a str,
    selector: &'a str,
    enclave: Option<&'a EnclaveName>,
    found: &'a Found<'a>,
    received: Received,
}

async fn audit(
    shared: &Shared,
    peer: &Peer,
    outcome: &Outcome<'_>,
    decision: Option<Result<Rule, crate::authz::Denied>>,
    code: u16,
) -> Result<(), ApiError> {
    let Outcome { path, selector, enclave, found, received } = outcome;
    let (decision, rule) = match decision {
        None => (None, None),
        Some(Ok(rule)) => (Some(Decision::Allow), Some(rule)),
        Some(Err(denied)) => (Some(Decision::Deny), Some(denied.rule)),
    };
    let event = Event {
        time: received.time,
        ip: peer.ip,
        selector,
        path,
        identity: peer.identity.as_ref().ok(),
        enclave: *enclave,
        action: found.route.handler.action(),
        decision,
        rule: rule.map(|rule| {
            let (word, index) = rule.parts();
            Cause { word, index }
        }),
        code,
        took: received.instant.elapsed(),
        id: received.id.0,
    };
    match found.route.audit {
        Audited::Never => {}
        Audited::Soon => shared.audit.record(&event),
        Audited::BeforeAnswer => {
            let patience = shared.access.load().limit_of(found.index, found.route);
            tokio::time::timeout(patience, shared.audit.record_now(&event))
                .await
                .map_err(|_| ApiError::TIMEOUT)?
                .map_err(|error| {
                    ApiError::new(Fault::Internal, format!("{error}; the change itself may have been made"))
                })?;
        }
    }
    Ok(())
}

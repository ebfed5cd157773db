//! One HTTP request: find its route, run it within its limits, audit, count, answer.
//!
//! ```text
//! Responding ─► route ─► body is there and the handler needs nothing else ─► answered in the first poll
//!                 └────► else: a boxed future that waits (for the body, for durability, for the audit record)
//! ```
//! Both ways make the same checks in the same order; they differ in what they have to wait for.

use std::{
    borrow::Cow,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use http::{HeaderValue, Response, request::Parts};
use jiff::Timestamp;

use super::{
    body::Body,
    call::{Answer, Call, Peer, Shared},
    memory::Share,
    reply::{Outgoing, Reply, refusal},
    route::{self, Audited, Found, Route},
    target,
};
use crate::{
    api::{ApiError, EnclaveName, Fault, message::ErrorEvent},
    audit::{Cause, Decision, Event},
    authz::{Denied, Rule, Scope},
};

/// The answer to one request. Small, because it is moved about before it is first polled.
pub(super) struct Responding<G>(State<G>);

enum State<G> {
    /// Not looked at yet.
    Arrived(Option<Arrival<G>>),
    Waiting(BoxFuture<'static, Response<Outgoing>>),
}

struct Arrival<G> {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    head: Parts,
    body: Body,
    guard: G,
}

impl<G: Send + Unpin + 'static> Responding<G> {
    /// Will answer; `guard` is dropped when the answer is complete.
    pub(super) fn new(shared: Arc<Shared>, peer: Arc<Peer>, head: Parts, body: Body, guard: G) -> Self {
        Self(State::Arrived(Some(Arrival { shared, peer, head, body, guard })))
    }
}

impl<G: Send + Unpin + 'static> Future for Responding<G> {
    type Output = Result<Response<Outgoing>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                State::Waiting(waiting) => return waiting.as_mut().poll(cx).map(Ok),
                State::Arrived(arrival) => {
                    let Some(arrival) = arrival.take() else { return Poll::Pending };
                    match arrival.answer_now(cx) {
                        Ok(response) => return Poll::Ready(Ok(response)),
                        Err(waiting) => self.0 = State::Waiting(waiting),
                    }
                }
            }
        }
    }
}

impl<G: Send + 'static> Arrival<G> {
    /// The response, or the future of one that has to wait.
    fn answer_now(
        mut self,
        cx: &mut Context<'_>,
    ) -> Result<Response<Outgoing>, BoxFuture<'static, Response<Outgoing>>> {
        let received = Received { time: Timestamp::now(), instant: Instant::now() };
        let answered = {
            let Self { shared, peer, head, body, .. } = &mut self;
            let path = match target::path(&head.uri) {
                Ok(path) => path,
                Err(error) => return Ok(refusal(&error)),
            };
            let Some(found) = route::find(&path) else { return Ok(refusal(&ApiError::UNKNOWN_ROUTE)) };
            let is_over = body.is_announced_over(found.route.max_body);
            match found.route.handler.immediate() {
                // what has arrived is taken; whether the caller may send it is decided before anybody looks at it
                Some(handler) => body.arrived(found.route.max_body, cx).map(|body| {
                    let _active = shared.metrics.begin();
                    let asked = Asked::new(shared, peer, head, &path, &found, received);
                    let answer = match asked.admissible(is_over) {
                        Ok(call) => handler.answer(&call, body),
                        Err(error) => Answer::error(error),
                    };
                    asked.conclude(answer)
                }),
                None => Poll::Pending,
            }
        };
        match answered {
            Poll::Ready(response) => Ok(response.map(|body| body.holding(self.guard))),
            Poll::Pending => Err(Box::pin(self.wait(received))),
        }
    }

    async fn wait(self, received: Received) -> Response<Outgoing> {
        let Self { shared, peer, head, body, guard } = self;
        respond(shared, peer, head, body, received).await.map(|body| body.holding(guard))
    }
}

/// Answers one request that has to wait for something.
async fn respond(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    head: Parts,
    body: Body,
    received: Received,
) -> Response<Outgoing> {
    let path = match target::path(&head.uri) {
        Ok(path) => path.into_owned(),
        Err(error) => return refusal(&error),
    };
    let Some(found) = route::find(&path) else { return refusal(&ApiError::UNKNOWN_ROUTE) };
    let is_change = found.route.audit == Audited::BeforeAnswer;
    let changes = Arc::clone(&shared.changes);
    let run = async move {
        let _active = shared.metrics.begin();
        match route::find(&path) {
            Some(found) => run(&shared, &peer, &head, &path, &found, body, received).await,
            None => refusal(&ApiError::UNKNOWN_ROUTE),
        }
    };
    if !is_change {
        return run.await;
    }
    // Who waits here and goes away has changed nothing.
    let Ok(place) = changes.acquire_owned().await else { return refusal(&ApiError::TIMEOUT) };
    // A change runs to its end, and is audited, also when the client goes away: it may be durable by then.
    let run = async move {
        let _place = place;
        run.await
    };
    tokio::spawn(run).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a handler failed");
        refusal(&ApiError::new(Fault::Internal, "internal error"))
    })
}

#[derive(Clone, Copy)]
struct Received {
    time: Timestamp,
    instant: Instant,
}

async fn run(
    shared: &Shared,
    peer: &Peer,
    head: &Parts,
    path: &str,
    found: &Found<'_>,
    body: Body,
    received: Received,
) -> Response<Outgoing> {
    let route = found.route;
    let asked = Asked::new(shared, peer, head, path, found, received);
    let answer = match asked.admissible(body.is_announced_over(route.max_body)) {
        Ok(call) => tokio::time::timeout(route.limit(), route.handler.serve(&call, body))
            .await
            .unwrap_or_else(|_| Answer::error(ApiError::TIMEOUT)),
        Err(error) => Answer::error(error),
    };
    if route.audit != Audited::BeforeAnswer {
        return asked.conclude(answer);
    }
    let event = asked.event(&answer, received.instant.elapsed());
    let audited = match tokio::time::timeout(route.limit(), shared.audit.record_now(&event)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            Err(ApiError::new(Fault::Internal, format!("{error}; the change itself may have been made")))
        }
        Err(_) => Err(ApiError::TIMEOUT),
    };
    let Answer { result, decision: _, share } = answer;
    asked.respond(audited.and(result), share, received.instant.elapsed())
}

/// A request whose route is known, with what its URI and headers say.
struct Asked<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    head: &'a Parts,
    /// As policies see it.
    path: &'a str,
    found: &'a Found<'a>,
    selector: Cow<'a, str>,
    enclave: Result<Cow<'a, EnclaveName>, ApiError>,
    received: Received,
}

impl<'a> Asked<'a> {
    fn new(
        shared: &'a Shared,
        peer: &'a Peer,
        head: &'a Parts,
        path: &'a str,
        found: &'a Found<'a>,
        received: Received,
    ) -> Self {
        let selector = target::selector(&head.uri, &head.headers);
        let path = found.policy_path(path);
        let enclave = target::enclave(&selector, &shared.default_enclave);
        Self { shared, peer, head, path, found, selector, enclave, received }
    }

    fn is_wrong_method(&self) -> bool {
        !self.found.route.methods.contains(&self.head.method.as_str())
    }

    /// The call, if nothing speaks against it before the caller is known (contract §1.2).
    fn admissible(&self, is_over: bool) -> Result<Call<'_>, ApiError> {
        let Self { shared, peer, path, found, .. } = *self;
        if self.is_wrong_method() {
            return Err(ApiError::WRONG_METHOD);
        }
        if is_over {
            return Err(ApiError::BODY_TOO_LARGE);
        }
        let enclave = self.enclave.as_ref().map_err(ApiError::clone)?;
        Ok(Call { shared, peer, route: found.route, path, argument: found.argument, enclave })
    }

    /// The enclave that the request is about. What is about the server is nobody's to follow in an enclave.
    fn within(&self) -> Option<&EnclaveName> {
        let is_within = matches!(self.found.route.handler.scope(), Scope::Enclave | Scope::Caller);
        self.enclave.as_deref().ok().filter(|_| is_within)
    }

    fn event(&self, answer: &Answer, took: Duration) -> Event<'_> {
        let (decision, rule) = match answer.decision {
            None => (None, None),
            Some(Ok(rule)) => (Some(Decision::Allow), Some(rule)),
            Some(Err(Denied { rule })) => (Some(Decision::Deny), Some(rule)),
        };
        Event {
            time: self.received.time,
            ip: self.peer.ip,
            selector: &self.selector,
            path: self.path,
            identity: self.peer.identity.as_ref().ok(),
            enclave: self.within(),
            action: self.found.route.handler.action(),
            decision,
            rule: rule.map(cause),
            code: code(&answer.result),
            took,
        }
    }

    /// Audits what need not be audited before the answer, and responds.
    fn conclude(&self, answer: Answer) -> Response<Outgoing> {
        let took = self.received.instant.elapsed();
        if self.found.route.audit == Audited::Soon {
            self.shared.audit.record(&self.event(&answer, took));
        }
        self.respond(answer.result, answer.share, took)
    }

    /// Counts, logs what failed, and makes the response.
    fn respond(
        &self,
        result: Result<Reply, ApiError>,
        share: Option<Share>,
        took: Duration,
    ) -> Response<Outgoing> {
        let Self { shared, found, path, received, .. } = *self;
        let (route, code) = (found.route, code(&result));
        if route.handler.action() != "Metrics" {
            shared.metrics.answered(found.index, code, took);
        }
        if code >= 500 {
            shared.metrics.error_logged();
            if let Err(error) = &result {
                tracing::error!(action = route.handler.action(), path, code, %error, "request failed");
                if let Some(enclave) = self.within()
                    && shared.errors.is_followed()
                {
                    shared.errors.publish(enclave, &failure(route, path, code, error, received));
                }
            }
        }
        let mut response = result.map_or_else(|error| refusal(&error), |reply| reply.into_http(share));
        if self.is_wrong_method() {
            response.headers_mut().insert("accept", HeaderValue::from_static(route.methods[0]));
        }
        response
    }
}

fn code(result: &Result<Reply, ApiError>) -> u16 {
    result.as_ref().map_or_else(ApiError::status, |_| 200)
}

fn cause(rule: Rule) -> Cause {
    let (word, index) = rule.parts();
    Cause { word, index }
}

/// A line of the error log, beginning with the time as in KES.
fn failure(route: &Route, path: &str, code: u16, error: &ApiError, received: Received) -> Vec<u8> {
    let time = received.time.strftime("%Y/%m/%d %H:%M:%S");
    let message = format!("{time} http: {} {path} failed with {code}: {error}", route.handler.action());
    Reply::json(&ErrorEvent { message }).map(Reply::into_bytes).unwrap_or_default().into()
}

//! `/livez`, `/readyz` and `/metrics` over plain HTTP, on a port of their own. No key material passes here.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    admission::{Crowd, Door, Limits},
    call::Shared,
    handle::system::unready,
};
use crate::service::State;

/// Connections at once; the oldest leaves for a new one, so that slow ones cannot keep the kubelet's probes out.
const CONNECTIONS: usize = 64;
/// How long a request's header may take.
const HEADER: Duration = Duration::from_secs(5);
/// A connection lives no longer than this.
const LIFETIME: Duration = Duration::from_secs(120);

/// Answers until `stop` is cancelled. From `draining` on the server is not ready any more.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    draining: CancellationToken,
    stop: CancellationToken,
) {
    let mut door = Door::new(
        listener,
        Crowd::new(Limits { total: 2 * CONNECTIONS, strangers: CONNECTIONS, identity: 1 }),
    );
    loop {
        let (stream, _, guest) = tokio::select! {
            accepted = door.next() => accepted,
            () = stop.cancelled() => return,
        };
        let (shared, draining, stop) = (Arc::clone(&shared), draining.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(&request, shared.service.state(), draining.is_cancelled(), &shared);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER)
                .max_header_size(8 << 10)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // a probe that breaks off is no news
                _ = tokio::time::timeout(LIFETIME, connection) => {}
                () = stop.cancelled() => {}
                () = guest.asked_to_leave() => {}
            }
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    state: State,
    draining: bool,
    shared: &Shared,
) -> Response<Full<Bytes>> {
    let text = |code, text: String| {
        let mut response = Response::new(Full::new(text.into()));
        *response.status_mut() = code;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        );
        response
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".into());
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => match readiness(state, draining) {
            Ok(()) => text(StatusCode::OK, "ok\n".into()),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" => text(StatusCode::OK, shared.metrics.text()),
        _ => text(StatusCode::NOT_FOUND, "try /livez, /readyz or /metrics\n".into()),
    }
}

fn readiness(state: State, draining: bool) -> Result<(), &'static str> {
    if draining {
        return Err("server is shutting down");
    }
    unready(state).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_ready_says_why() {
        assert_eq!(readiness(State::Ready, false), Ok(()));
        assert_eq!(readiness(State::Ready, true), Err("server is shutting down"));
        assert_eq!(readiness(State::Sealed, false), Err("system is sealed"));
        assert_eq!(readiness(State::Uninitialised, false), Err("cluster is not initialised yet"));
    }
}

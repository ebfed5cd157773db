//! One connection from its handshake to its end.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    activity::{Activity, Busy, Look, Watched},
    admission::Guest,
    backlog::Backlog,
    body::Body,
    call::{Peer, Shared},
    http::respond,
    reply::until_taken,
    tls,
};

/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be without a request.
const IDLE: Duration = Duration::from_secs(90);
/// How long a request's header may take. Looked at every so often, so up to twice as long.
const HEADER: Duration = Duration::from_secs(5);
/// How long a connection that is idle or has to make room may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Requests that one HTTP/2 connection may have in flight. Go's servers advertise 250, and MinIO opens further connections
/// only beyond that (contract §8.4).
const STREAMS: u32 = 500;
/// Requests of one connection that are answered before others have their turn.
const TURN: usize = 64;
/// Bytes of requests that a connection may have sent before they are looked at; what a body holds after that is counted
/// in `memory`.
const UNREAD: u32 = 64 << 10;
/// Largest request header in bytes.
const HEADER_BYTES: usize = 16 << 10;

/// Serves `stream` until the client leaves, is idle for too long, or `stop` is cancelled and its requests are answered.
pub(super) async fn serve(
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    guest: Guest,
    stop: CancellationToken,
) {
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
    let stream = tokio::select! {
        done = handshake => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%address, "TLS handshake took too long"),
        },
        () = stop.cancelled() => return,
        () = guest.asked_to_leave() => return,
    };
    let (_, session) = stream.get_ref();
    let identity = tls::identity(session.peer_certificates());
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let allowance = Arc::new(shared.memory.allowance());
    let (ip, guest, small) = (address.ip().to_canonical(), Arc::new(guest), allowance.small.clone());
    // over HTTP/1.1 there is one request at a time
    let backlog = is_http2.then(|| Backlog::new(&shared.memory.backlogs, small.clone(), Arc::clone(&guest)));
    let peer = Arc::new(Peer { ip, identity, proxy: None, guest: Some(guest), allowance });
    let ends = Ends { stop, peer: Arc::clone(&peer) };

    let activity = Arc::new(Activity::new());
    let requests = Arc::clone(&activity);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (shared, peer, busy) = (Arc::clone(&shared), Arc::clone(&peer), Busy::new(&requests));
        let counted = is_http2.then(|| small.request(size(&request)));
        async move {
            let (head, body) = request.into_parts();
            let response = respond(shared, peer, head, Body::Wire(body)).await;
            Ok::<_, std::convert::Infallible>(until_taken(response, busy, counted))
        }
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), is_http2));
    let ended = if let Some(backlog) = backlog {
        let arrived = Arrived::default();
        let connection = http2::Builder::new(arrived.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_BYTES as u32)
            .initial_connection_window_size(UNREAD)
            .initial_stream_window_size(UNREAD)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .serve_connection(io, service);
        let connection = Batched {
            connection: Box::pin(connection),
            arrived,
            batch: Vec::new(),
            waiting: FuturesUnordered::new(),
            backlog,
        };
        watch(connection, |mut batched| batched.connection.as_mut().graceful_shutdown(), &activity, &ends)
            .await
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // hyper's own limit would also end connections that are idle between requests
            .header_read_timeout(None)
            .max_header_size(HEADER_BYTES)
            .max_buf_size(UNREAD as usize)
            .serve_connection(io, service);
        watch(connection, http1::Connection::graceful_shutdown, &activity, &ends).await
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection ended early");
    }
}

/// Bytes of its header, about.
fn size(request: &http::Request<Incoming>) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter();
    path + headers.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
}

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Requests of an HTTP/2 connection that arrived and were not looked at yet.
///
/// hyper wants to give each a task. That costs more than the answer: a wake-up of another thread, a lock that the
/// connection holds too, and a write of its own to the socket. Nearly every request of the data plane is complete in its
/// first poll, since its body came with its header and the answer is in memory.
#[derive(Clone, Default)]
struct Arrived(Arc<Mutex<Vec<Request>>>);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Arrived {
    fn execute(&self, request: F) {
        let request = Box::pin(request.map(drop));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }
}

/// An HTTP/2 connection that answers, in its own task, all requests that arrived together, and then writes all answers
/// together. A request that has to wait, mostly for its body, does that here too; a change to the store has a task of
/// its own, which goes on when the connection ends.
struct Batched<C> {
    connection: Pin<Box<C>>,
    arrived: Arrived,
    /// Empty between polls, unless more than a turn's came.
    batch: Vec<Request>,
    waiting: FuturesUnordered<Request>,
    backlog: Backlog,
}

impl<C: Future> Future for Batched<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let Self { connection, arrived, batch, waiting, backlog } = self.get_mut();
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            batch.append(&mut *arrived.0.lock().unwrap_or_else(PoisonError::into_inner));
            let mut is_quiet = batch.is_empty();
            let turn = batch.len().min(TURN);
            for mut request in batch.drain(..turn) {
                // whoever waits is polled again below, with a waker
                if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                    waiting.push(request);
                }
            }
            while let Poll::Ready(Some(())) = waiting.poll_next_unpin(cx) {
                is_quiet = false;
            }
            if !batch.is_empty() {
                cx.waker().wake_by_ref();
            } else if !is_quiet {
                continue;
            }
            backlog.settle();
            return Poll::Pending;
        }
    }
}

/// Why a connection ends that did nothing to deserve it.
struct Ends {
    /// The server stops.
    stop: CancellationToken,
    /// Others need the room.
    peer: Arc<Peer>,
}

impl Ends {
    async fn asked_to_leave(&self) {
        match &self.peer.guest {
            Some(guest) => guest.asked_to_leave().await,
            None => std::future::pending().await,
        }
    }

    fn may_say_goodbye(&self) -> bool {
        self.peer.guest.as_ref().is_some_and(|guest| guest.may_say_goodbye())
    }
}

/// Drives `connection`; ends it in good order at `stop` or when it is idle, and at once when a header takes too long.
async fn watch<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    end: impl Fn(Pin<&mut C>),
    activity: &Activity,
    ends: &Ends,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    let mut look = tokio::time::interval(HEADER);
    let mut begun = None;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => return ended,
            () = ends.stop.cancelled() => {
                end(connection.as_mut());
                return connection.await;
            }
            () = ends.asked_to_leave() => {
                if !ends.may_say_goodbye() {
                    return Ok(());
                }
                end(connection.as_mut());
                return tokio::time::timeout(GOODBYE, connection).await.unwrap_or(Ok(()));
            }
            _ = look.tick() => {}
        }
        if ends.peer.allowance.is_overdrawn() {
            return Ok(());
        }
        match activity.look() {
            Look::Busy => begun = None,
            Look::Header(number) => {
                if begun.is_none_or(|(which, _)| which != number) {
                    begun = Some((number, Instant::now()));
                }
                let since = begun.map_or(Duration::ZERO, |(_, since): (u64, Instant)| since.elapsed());
                if since >= HEADER.mul_f32(0.9) {
                    return Ok(());
                }
            }
            Look::Idle => {
                begun = None;
                if activity.idle_for() >= IDLE {
                    end(connection.as_mut());
                    return tokio::time::timeout(GOODBYE, connection).await.unwrap_or(Ok(()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn watched(activity: &Activity, stop: CancellationToken) -> Duration {
        let began = Instant::now();
        let connection = std::future::pending::<hyper::Result<()>>();
        let peer = Arc::new(Peer {
            ip: [127, 0, 0, 1].into(),
            identity: Err(crate::api::ApiError::NO_CERTIFICATE),
            proxy: None,
            guest: None,
            allowance: Arc::new(super::super::memory::Memory::new().allowance()),
        });
        let _ = watch(connection, |_| (), activity, &Ends { stop, peer }).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_never_ends_is_cut_off_after_5_to_10_seconds() {
        let activity = Activity::new();
        activity.begin_header(1);
        let took = watched(&activity, CancellationToken::new()).await;
        assert!((HEADER.mul_f32(0.9)..=HEADER * 2).contains(&took), "{took:?}");
        // over HTTP/2 other requests may be on their way
        let activity = Arc::new(Activity::new());
        let _request = Busy::new(&activity);
        activity.begin_header(7);
        let took = watched(&activity, CancellationToken::new()).await;
        assert!((HEADER.mul_f32(0.9)..=HEADER * 2).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_header_after_the_other_is_no_slow_one() {
        let activity = Activity::new();
        let headers = async {
            for number in 1..100 {
                activity.begin_header(number);
                tokio::time::sleep(HEADER / 2).await;
            }
        };
        tokio::select! {
            () = headers => {}
            took = watched(&activity, CancellationToken::new()) => panic!("ended after {took:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_90_seconds_and_a_busy_one_is_not() {
        let idle = Activity::new();
        let took = watched(&idle, CancellationToken::new()).await;
        assert!((IDLE..=IDLE + HEADER + GOODBYE).contains(&took), "{took:?}");

        let busy = Arc::new(Activity::new());
        let request = Busy::new(&busy);
        let watch = watched(&busy, CancellationToken::new());
        assert!(tokio::time::timeout(IDLE * 10, watch).await.is_err());
        drop(request);
        assert!(busy.idle_for() < Duration::from_secs(1), "the end of the request counts");
    }
}

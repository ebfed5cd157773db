//! `/livez`, `/readyz` and `/metrics` of the operator process: it is alive while its loop turns, also while another one
//! holds the lease.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{Error, metrics::Metrics};

pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Health { address, source })
}

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener, metrics: Metrics) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // out of file descriptors: others must close some first
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            // a broken probe connection concerns nobody
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, kind, text) = match request.uri().path() {
        "/livez" | "/readyz" => (StatusCode::OK, PLAIN, "ok\n".into()),
        "/metrics" => (StatusCode::OK, OPEN_METRICS, metrics.text()),
        _ => (StatusCode::NOT_FOUND, PLAIN, "not found\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

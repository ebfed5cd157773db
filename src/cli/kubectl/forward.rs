//! A local port that leads to a pod through the API server, as `kubectl port-forward` does.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::net::{TcpListener, TcpStream};

/// Opens it, for as long as the process lives. Each connection gets a stream of its own.
pub(super) async fn open(pods: Api<Pod>, pod: String, port: u16) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((local, _)) = listener.accept().await {
            tokio::spawn(carry(pods.clone(), pod.clone(), port, local));
        }
    });
    Ok(address)
}

async fn carry(pods: Api<Pod>, pod: String, port: u16, mut local: TcpStream) {
    let opened = pods.portforward(&pod, &[port]).await;
    let remote = opened.map(|mut forwarder| forwarder.take_stream(port).map(|stream| (forwarder, stream)));
    match remote {
        Ok(Some((_forwarder, mut remote))) => {
            // either end may close; the call that used it tells
            let _ = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
        }
        Ok(None) => {}
        // the caller sees a connection that ends at once; this is the reason
        Err(error) => eprintln!("Warning: failed to forward to pod {pod}: {error}"),
    }
}

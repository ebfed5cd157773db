//! What the operator's tests run against besides the API server in memory: a key server and a MinIO pod, both with sockets.

pub(crate) mod member;
pub(crate) mod minio;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::net::TcpListener;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address of this machine that no other test has. Pods are asked at ports that are always the same, so what differs
/// between them is the address, as in Kubernetes: Linux answers at all of 127.0.0.0/8.
pub(crate) fn address() -> IpAddr {
    let number =
        std::process::id().wrapping_mul(2_654_435_761).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    // the upper half of the block, and nothing that somebody would choose by hand
    Ipv4Addr::from_bits(0x7F80_0000 | (number & 0x007F_FFFF)).into()
}

/// Listens at `port` of an address of its own.
async fn listen(port: u16) -> TcpListener {
    for _ in 0..16 {
        if let Ok(listener) = TcpListener::bind((address(), port)).await {
            return listener;
        }
    }
    panic!("no address of 16 is free at port {port}");
}

//! The server itself: release, state, metrics, routes, cluster.

use bytes::Bytes;

use super::{Handled, done, json};
use crate::{
    api::{
        ApiError, Fault,
        message::{ApiRoute, Bootstrap, Status, Version},
    },
    authz::{Authorized, action},
    server::{body::parse_required, call::Call, reply::Reply, route::ROUTES},
    service::State,
    telemetry::Usage,
};

/// Release of the server.
pub(in crate::server) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(in crate::server) fn version(_: &Call<'_>, _: &Authorized<'_, action::Version>, _: &[u8]) -> Handled {
    Reply::json(&Version {
        version: VERSION.into(),
        commit: option_env!("KES_COMMIT").unwrap_or_default().into(),
    })
}

pub(in crate::server) fn ready(call: &Call<'_>, _: &Authorized<'_, action::Ready>, _: &[u8]) -> Handled {
    match unready(call.shared.service.state()) {
        None => Ok(Reply::Empty),
        Some(reason) => Err(ApiError::new(Fault::Unavailable, reason)),
    }
}

/// Why a server in `state` takes no requests, if it does not.
pub(in crate::server) fn unready(state: State) -> Option<&'static str> {
    match state {
        State::Ready => None,
        State::Sealed => Some("system is sealed"),
        State::Uninitialised => Some("cluster is not initialised yet"),
    }
}

pub(in crate::server) fn status(
    call: &Call<'_>,
    proof: &Authorized<'_, action::Status>,
    _: &[u8],
) -> Handled {
    let latency = call.shared.service.probe(proof).ok();
    let usage = Usage::now();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Reply::json(&Status {
        version: VERSION.into(),
        os: std::env::consts::OS.into(),
        arch: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .into(),
        uptime: call.shared.metrics.uptime().as_secs(),
        num_cpu: cpus,
        num_cpu_used: cpus,
        mem_heap_used: usage.heap_bytes,
        mem_stack_used: usage.stack_bytes,
        mem_locked: Some(call.shared.memory_locked),
        // clients read nanoseconds, and 0 as "not known"
        keystore_latency: latency.map(|latency| u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1)),
        keystore_unreachable: latency.is_none(),
        keystore_unavailable: latency.is_none(),
    })
}

pub(in crate::server) fn metrics(call: &Call<'_>, _: &Authorized<'_, action::Metrics>, _: &[u8]) -> Handled {
    Ok(Reply::Metrics(call.shared.metrics.kes_text(call.shared.audit.events())))
}

pub(in crate::server) fn api(call: &Call<'_>, _: &Authorized<'_, action::Api>, _: &[u8]) -> Handled {
    let access = call.shared.access.load();
    let routes: Vec<_> = ROUTES
        .iter()
        .enumerate()
        .map(|(index, route)| ApiRoute {
            method: route.methods[0].into(),
            path: route.path.into(),
            max_body: route.max_body as u64,
            timeout: access.timeout(index).unwrap_or(route.timeout).as_secs(),
        })
        .collect();
    Reply::json(&routes)
}

pub(in crate::server) async fn bootstrap(
    call: &Call<'_>,
    proof: Authorized<'_, action::Bootstrap>,
    body: Bytes,
) -> Handled {
    let Bootstrap { cluster_id } = parse_required(&body)?;
    done(call.shared.service.bootstrap(&proof, &cluster_id).await)
}

pub(in crate::server) fn cluster(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DescribeCluster>,
    _: &[u8],
) -> Handled {
    Reply::json(&call.shared.service.cluster(proof))
}

pub(in crate::server) async fn seal(
    call: &Call<'_>,
    proof: Authorized<'_, action::Seal>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.seal(&proof).await)
}

pub(in crate::server) async fn rotate(
    call: &Call<'_>,
    proof: Authorized<'_, action::RotateRoot>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.rotate_root(&proof).await)
}

pub(in crate::server) fn rotation(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DescribeRotation>,
    _: &[u8],
) -> Handled {
    json(call.shared.service.rotation(proof))
}

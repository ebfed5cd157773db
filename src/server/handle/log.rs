//! The log streams of an enclave: endless, and only for as long as the caller may follow them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use tokio_util::sync::CancellationToken;

use super::Handled;
use crate::{
    api::{ApiError, EnclaveName, Fault, Identity},
    audit::{Feed, Subscription},
    authz::{Action, Authorized, Role, action, authorize},
    server::{call::Call, reply::Reply},
    service::Service,
};

/// How often the caller's rights are looked at when there are no lines.
const RECHECK: Duration = Duration::from_secs(10);
/// About how many bytes are sent together.
const TOGETHER: usize = 32 << 10;

pub(in crate::server) fn audit(
    call: &Call<'_>,
    proof: &Authorized<'_, action::AuditLog>,
    _: &[u8],
) -> Handled {
    follow(call, proof, call.shared.audit.feed())
}

pub(in crate::server) fn error(
    call: &Call<'_>,
    proof: &Authorized<'_, action::ErrorLog>,
    _: &[u8],
) -> Handled {
    follow(call, proof, &call.shared.errors)
}

/// A stream, and what must be looked at again before each line: the enclave may be made anew for somebody else, and rights
/// may be withdrawn, while it is open.
struct Following {
    lines: Subscription,
    service: Service,
    identity: Identity,
    enclave: EnclaveName,
    path: String,
    stop: CancellationToken,
}

fn follow<A: Action>(call: &Call<'_>, proof: &Authorized<'_, A>, feed: &Arc<Feed>) -> Handled {
    let lines =
        feed.follow(proof.enclave()).map_err(|error| ApiError::new(Fault::Unavailable, error.to_string()))?;
    let following = Following {
        lines,
        service: call.shared.service.clone(),
        identity: proof.identity().clone(),
        enclave: proof.enclave().clone(),
        path: call.path.to_owned(),
        stop: call.shared.draining.clone(),
    };
    let rest = stream::unfold(following, async |mut following| {
        let lines = following.next::<A>().await?;
        Some((lines, following))
    });
    Ok(Reply::Stream(Box::pin(rest)))
}

impl Following {
    async fn next<A: Action>(&mut self) -> Option<Bytes> {
        loop {
            let lines = tokio::select! {
                lines = self.lines.next(TOGETHER) => lines,
                () = tokio::time::sleep(RECHECK) => Bytes::new(),
                () = self.stop.cancelled() => return None,
            };
            if !self.may::<A>() {
                return None;
            }
            if !lines.is_empty() {
                return Some(lines);
            }
        }
    }

    fn may<A: Action>(&self) -> bool {
        let Self { service, identity, enclave, path, .. } = self;
        let may = |role: Role<'_>| authorize::<A>(identity, enclave, role, path).is_ok();
        service.with_role(enclave, identity, may).unwrap_or(false)
    }
}

//! One request on its way through the checks.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use super::{
    access::{Access, Forwarded},
    admission::Guest,
    body::Body,
    changes::Changes,
    memory::{Allowance, Memory, Share},
    reply::Reply,
    route::{Argument, Route},
};
use crate::{
    api::{ApiError, EnclaveName, Identity, NameError, message::Generation},
    audit::{AuditLog, Feed},
    authz::{Action, Authorized, Denied, Role, Rule, Scope, authorize},
    service::Service,
    telemetry::Metrics,
    world::Random,
};

/// What all connections share.
pub(super) struct Shared {
    pub(super) service: Service,
    pub(super) audit: AuditLog,
    pub(super) metrics: Arc<Metrics>,
    pub(super) default_enclave: EnclaveName,
    /// Who came without a certificate to what is open to everybody.
    pub(super) nobody: Identity,
    /// Who else gets in.
    pub(super) access: ArcSwap<Access>,
    /// Whether secret memory is locked, for the status.
    pub(super) memory_locked: bool,
    /// Whose shapes are written where clients contradict each other.
    pub(super) generation: Generation,
    /// What fails, for whoever follows it.
    pub(super) errors: Arc<Feed>,
    /// Cancelled when the server stops, so that endless answers end.
    pub(super) draining: CancellationToken,
    /// For large bodies.
    pub(super) memory: Memory,
    /// Places for changes on their way.
    pub(super) changes: Changes,
    pub(super) ids: RequestIds,
}

/// Tells one request from all others in logs and audit records; 16 hex digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RequestId(pub(super) u64);

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Numbers requests from a random start, so that those of different processes do not meet.
pub(super) struct RequestIds(AtomicU64);

impl RequestIds {
    pub(super) fn new(random: &dyn Random) -> Self {
        let mut start = [0; 8];
        random.fill(&mut start);
        Self(AtomicU64::new(u64::from_be_bytes(start)))
    }

    pub(super) fn next(&self) -> RequestId {
        RequestId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Who is at the other end of a connection.
pub(super) struct Peer {
    pub(super) ip: IpAddr,
    /// The identity, or what to answer instead.
    pub(super) identity: Result<Identity, ApiError>,
    /// The proxy that speaks for it, if one does.
    pub(super) proxy: Option<Identity>,
    /// The connection's place among all; none in tests without sockets.
    pub(super) guest: Option<Arc<Guest>>,
    /// How much memory the connection's large bodies may take.
    pub(super) allowance: Arc<Allowance>,
}

/// An identity that nobody can have, since it is no hash.
pub(super) fn nobody() -> Identity {
    #[expect(clippy::expect_used, reason = "a letter or two are a name")]
    Identity::new("nobody").expect("it is a name")
}

/// A request whose route is known.
pub(super) struct Call<'c> {
    pub(super) shared: &'c Shared,
    pub(super) peer: &'c Peer,
    pub(super) route: &'static Route,
    /// Whether the configuration opens the route to everybody.
    pub(super) is_open: bool,
    /// The decoded path as policies see it.
    pub(super) path: &'c str,
    /// What follows the route's path.
    pub(super) argument: &'c str,
    pub(super) enclave: &'c EnclaveName,
}

/// A request's body.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    /// The memory that it takes, if it is large.
    pub(super) share: Option<Share>,
    /// Whether it was not there at once, so that what was known before may have changed.
    pub(super) waited: bool,
}

/// What came of a request.
pub(super) struct Answer {
    pub(super) result: Result<Reply, ApiError>,
    /// What authorisation said, if the request got that far.
    pub(super) decision: Option<Result<Rule, Denied>>,
    /// The memory of a large body, until the answer has left.
    pub(super) share: Option<Share>,
}

impl Answer {
    pub(super) fn allowed(rule: Rule, result: Result<Reply, ApiError>, share: Option<Share>) -> Self {
        Self { result, decision: Some(Ok(rule)), share }
    }

    pub(super) fn error(error: ApiError) -> Self {
        Self { result: Err(error), decision: None, share: None }
    }
}

impl Peer {
    /// Who asks this: the peer, or whom it speaks for when it is a proxy.
    pub(super) fn behind(self: Arc<Self>, access: &Access, headers: &HeaderMap) -> Arc<Self> {
        let Ok(sender) = &self.identity else { return self };
        let Some(Forwarded { identity, ip }) = access.forwarded(sender, headers) else { return self };
        Arc::new(Self {
            ip: ip.unwrap_or(self.ip),
            identity,
            proxy: Some(sender.clone()),
            guest: self.guest.clone(),
            allowance: Arc::clone(&self.allowance),
        })
    }

    /// Notes that its identity was allowed something by `rule`: from then on its connection is no stranger's.
    pub(super) fn was_allowed(&self, rule: Rule) {
        if let (Some(guest), Ok(identity)) = (&self.guest, &self.identity)
            && !matches!(rule, Rule::Public | Rule::Open)
        {
            // it is the proxy's connection, whoever it speaks for
            guest.known_as(self.proxy.as_ref().unwrap_or(identity));
        }
    }
}

impl Call<'_> {
    /// The body, after the argument was checked; empty for a route that takes none, whatever a client sent. Memory for a
    /// large answer is waited for here as well.
    pub(super) async fn body(&self, body: &mut Body) -> Result<Received, ApiError> {
        match self.route.argument {
            Argument::None => {}
            Argument::Name => crate::api::name::check_name(self.argument)?,
            Argument::Pattern => check_pattern(self.argument)?,
        }
        if self.route.max_body == 0 && self.route.answer == 0 {
            return Ok(Received { bytes: Bytes::new(), share: None, waited: false });
        }
        let mut read = std::pin::pin!(async {
            match self.route.answer {
                0 => body.read(self.route.max_body, &self.peer.allowance).await,
                answer => Ok((Bytes::new(), self.peer.allowance.take(answer).await)),
            }
        });
        let (waited, read) = match futures::poll!(&mut read) {
            Poll::Ready(read) => (false, read),
            Poll::Pending => (true, read.await),
        };
        read.map(|(bytes, share)| Received { bytes, share, waited })
    }

    /// The argument as the name that the handler wants.
    pub(super) fn name<N: std::str::FromStr<Err = NameError>>(&self) -> Result<N, ApiError> {
        self.argument.parse().map_err(ApiError::from)
    }
}

/// Authorises the caller for `A`, in the order of contract §1.2: certificate, state, enclave, rights.
pub(super) fn admit<'c, A: Action>(call: &'c Call<'c>) -> Result<Authorized<'c, A>, Answer> {
    let Call { shared, peer, enclave, path, is_open, .. } = call;
    if *is_open {
        let who = peer.identity.as_ref().unwrap_or(&shared.nobody);
        return authorize(who, enclave, Role::Guest, path).map_err(|denied| Answer {
            result: Err(denied.into()),
            decision: Some(Err(denied)),
            share: None,
        });
    }
    let identity = peer.identity.as_ref().map_err(|error| Answer::error(error.clone()))?;
    let decide = |role: Role<'_>| authorize::<A>(identity, enclave, role, path);
    let decision = match A::SCOPE {
        Scope::Public => Ok(decide(Role::Unknown)),
        // the cluster's affairs do not depend on an enclave, nor on keys being in memory
        Scope::System if shared.service.is_system_admin(identity) => Ok(decide(Role::SystemAdmin)),
        Scope::System => Ok(decide(Role::Unknown)),
        Scope::Caller | Scope::Enclave => shared.service.with_role(enclave, identity, decide),
    };
    match decision {
        Ok(Ok(proof)) => {
            peer.was_allowed(proof.rule());
            Ok(proof)
        }
        Ok(Err(denied)) => {
            // who asks only about itself is told that nobody knows it
            let error = if A::SCOPE == Scope::Caller { ApiError::IDENTITY_NOT_FOUND } else { denied.into() };
            Err(Answer { result: Err(error), decision: Some(Err(denied)), share: None })
        }
        Err(error) => Err(Answer::error(error.to_api())),
    }
}

fn check_pattern(pattern: &str) -> Result<(), ApiError> {
    if pattern.len() > crate::api::name::MAX_NAME_LEN {
        return Err(ApiError::PATTERN_TOO_LONG);
    }
    if !pattern.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*')) {
        return Err(ApiError::INVALID_PATTERN);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_at_most_a_name_with_stars() {
        for good in ["", "*", "app-*", "a*b_", &"x".repeat(80)] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        assert_eq!(check_pattern(&"x".repeat(81)), Err(ApiError::PATTERN_TOO_LONG));
        for bad in ["a b", "a/b", "?", "[a]"] {
            assert_eq!(check_pattern(bad), Err(ApiError::INVALID_PATTERN), "{bad}");
        }
    }
}

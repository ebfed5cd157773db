//! Identities.

use bytes::Bytes;

use super::{Handled, done, json, lines};
use crate::{
    api::{
        Identity,
        message::{Generation, IdentityInfo},
    },
    authz::{Authorized, action},
    server::{call::Call, reply::Reply},
};

pub(in crate::server) fn describe(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DescribeIdentity>,
    _: &[u8],
) -> Handled {
    json(call.shared.service.describe_identity(proof, &call.name()?))
}

pub(in crate::server) fn describe_self(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DescribeSelf>,
    _: &[u8],
) -> Handled {
    let info = call.shared.service.describe_self(proof).map_err(|error| error.to_api())?;
    match call.shared.generation {
        Generation::V022 => Reply::json(&info),
        Generation::V2025 => Reply::json(&info.keyed()),
    }
}

pub(in crate::server) fn list(
    call: &Call<'_>,
    proof: &Authorized<'_, action::ListIdentities>,
    _: &[u8],
) -> Handled {
    let listed = call.shared.service.list_identities(proof, call.argument);
    lines(listed.map(|listed| listed.into_iter().map(Line::new).collect()))
}

/// One line of a listing. Unlike in a description `admin` is never left out (contract §1.5).
#[derive(serde::Serialize)]
struct Line {
    identity: Identity,
    admin: bool,
    policy: String,
    created_at: jiff::Timestamp,
    #[serde(skip_serializing_if = "String::is_empty")]
    created_by: String,
}

impl Line {
    fn new((identity, info): (Identity, IdentityInfo)) -> Self {
        let IdentityInfo { admin, policy, created_at, created_by } = info;
        Self { identity, admin, policy, created_at, created_by }
    }
}

pub(in crate::server) async fn delete(
    call: &Call<'_>,
    proof: Authorized<'_, action::DeleteIdentity>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.delete_identity(&proof, &call.name()?).await)
}

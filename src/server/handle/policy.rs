//! Policies.

use bytes::Bytes;

use super::{Handled, done, json, lines};
use crate::{
    api::message::{AssignPolicy, Generation, Policy},
    authz::{Authorized, action},
    server::{
        body::{parse, parse_required},
        call::Call,
        reply::Reply,
    },
};

pub(in crate::server) async fn write(
    call: &Call<'_>,
    proof: Authorized<'_, action::WritePolicy>,
    body: Bytes,
) -> Handled {
    let policy: Policy = parse(&body)?;
    done(call.shared.service.write_policy(&proof, &call.name()?, &policy).await)
}

pub(in crate::server) fn read(
    call: &Call<'_>,
    proof: &Authorized<'_, action::ReadPolicy>,
    _: &[u8],
) -> Handled {
    let name = call.name()?;
    let policy = call.shared.service.read_policy(proof, &name).map_err(|error| error.to_api())?;
    match call.shared.generation {
        Generation::V022 => Reply::json(&policy),
        Generation::V2025 => Reply::json(&policy.keyed(&name)),
    }
}

pub(in crate::server) fn describe(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DescribePolicy>,
    _: &[u8],
) -> Handled {
    json(call.shared.service.describe_policy(proof, &call.name()?))
}

pub(in crate::server) async fn assign(
    call: &Call<'_>,
    proof: Authorized<'_, action::AssignPolicy>,
    body: Bytes,
) -> Handled {
    let AssignPolicy { identity } = parse_required(&body)?;
    done(call.shared.service.assign_policy(&proof, &call.name()?, &identity).await)
}

pub(in crate::server) fn list(
    call: &Call<'_>,
    proof: &Authorized<'_, action::ListPolicies>,
    _: &[u8],
) -> Handled {
    lines(call.shared.service.list_policies(proof, call.argument))
}

pub(in crate::server) async fn delete(
    call: &Call<'_>,
    proof: Authorized<'_, action::DeletePolicy>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.delete_policy(&proof, &call.name()?).await)
}

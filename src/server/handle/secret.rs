//! Secrets.

use bytes::Bytes;

use super::{Handled, done, json, pages};
use crate::{
    api::message::CreateSecret,
    authz::{Authorized, action},
    server::{body::parse, call::Call},
};

pub(in crate::server) async fn create(
    call: &Call<'_>,
    proof: Authorized<'_, action::CreateSecret>,
    body: Bytes,
) -> Handled {
    let secret: CreateSecret = parse(&body)?;
    done(call.shared.service.create_secret(&proof, &call.name()?, secret).await)
}

pub(in crate::server) fn read(
    call: &Call<'_>,
    proof: &Authorized<'_, action::ReadSecret>,
    _: &[u8],
) -> Handled {
    json(call.shared.service.read_secret(proof, &call.name()?))
}

pub(in crate::server) fn describe(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DescribeSecret>,
    _: &[u8],
) -> Handled {
    json(call.shared.service.describe_secret(proof, &call.name()?))
}

pub(in crate::server) fn list(
    call: &Call<'_>,
    proof: &Authorized<'_, action::ListSecrets>,
    _: &[u8],
) -> Handled {
    pages(call.shared.service.list_secrets(proof, call.argument))
}

pub(in crate::server) async fn delete(
    call: &Call<'_>,
    proof: Authorized<'_, action::DeleteSecret>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.delete_secret(&proof, &call.name()?).await)
}

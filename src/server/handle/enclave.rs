//! Enclaves, for the system admin.

use bytes::Bytes;

use super::{Handled, done, json};
use crate::{
    api::message::{CreateEnclave, EnclaveList},
    authz::{Authorized, action},
    server::{body::parse_required, call::Call},
};

pub(in crate::server) async fn create(
    call: &Call<'_>,
    proof: Authorized<'_, action::CreateEnclave>,
    body: Bytes,
) -> Handled {
    let CreateEnclave { admin } = parse_required(&body)?;
    done(call.shared.service.create_enclave(&proof, &call.name()?, &admin).await)
}

pub(in crate::server) fn describe(
    call: &Call<'_>,
    proof: &Authorized<'_, action::DescribeEnclave>,
    _: &[u8],
) -> Handled {
    json(call.shared.service.describe_enclave(proof, &call.name()?))
}

pub(in crate::server) async fn delete(
    call: &Call<'_>,
    proof: Authorized<'_, action::DeleteEnclave>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.delete_enclave(&proof, &call.name()?).await)
}

pub(in crate::server) fn list(
    call: &Call<'_>,
    proof: &Authorized<'_, action::ListEnclaves>,
    _: &[u8],
) -> Handled {
    json(call.shared.service.list_enclaves(proof, call.argument).map(|enclaves| {
        let names = enclaves.iter().map(|enclave| enclave.name.clone()).collect();
        EnclaveList { names, continue_at: String::new(), enclaves }
    }))
}

pub(in crate::server) async fn rotate(
    call: &Call<'_>,
    proof: Authorized<'_, action::RotateEnclave>,
    _: Bytes,
) -> Handled {
    done(call.shared.service.rotate_enclave(&proof, &call.name()?).await)
}

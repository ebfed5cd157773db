//! The Secrets with generated key material.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::super::{purpose::Purpose, wanted::Wanted};
use crate::crd::DeletionPolicy;

/// The Secret for `purpose`. Under `Retain` it has no owner: a volume without the key that opens it, or an enclave
/// without its admin, is worthless. The server's certificate can be made anew and always goes.
pub(crate) fn secret(wanted: &Wanted, purpose: &Purpose, data: BTreeMap<String, ByteString>) -> Secret {
    let mut metadata = super::metadata(wanted, purpose.secret(&wanted.name), purpose.component());
    metadata.owner_references = is_owned(wanted, purpose).then(|| vec![wanted.owner.clone()]);
    Secret {
        metadata,
        type_: Some(if *purpose == Purpose::Seal { "Opaque" } else { "kubernetes.io/tls" }.into()),
        data: Some(data),
        ..Secret::default()
    }
}

/// Whether it is deleted together with the `KesCluster`.
pub(crate) fn is_owned(wanted: &Wanted, purpose: &Purpose) -> bool {
    let goes = match wanted.deletion {
        DeletionPolicy::Delete => true,
        DeletionPolicy::Retain => purpose.is_replaceable(),
    };
    goes && !wanted.guarded
}

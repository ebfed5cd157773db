//! The Secrets with generated key material.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::super::{purpose::Purpose, validate::Wanted};
use crate::crd::DeletionPolicy;

/// The Secret for `purpose`. Under `Retain` it has no owner: a volume without the key that opens it, or an enclave
/// without its admin, is worthless. The server's certificate can be made anew and always goes.
pub(crate) fn secret(wanted: &Wanted, purpose: &Purpose, data: BTreeMap<String, ByteString>) -> Secret {
    let mut metadata = super::metadata(wanted, purpose.secret(&wanted.name), purpose.component());
    if !is_owned(wanted, purpose) {
        metadata.owner_references = None;
    }
    Secret {
        metadata,
        type_: Some(if *purpose == Purpose::Seal { "Opaque" } else { "kubernetes.io/tls" }.into()),
        data: Some(data),
        ..Secret::default()
    }
}

/// Whether it is deleted together with the `KesCluster`.
pub(crate) fn is_owned(wanted: &Wanted, purpose: &Purpose) -> bool {
    match wanted.deletion {
        DeletionPolicy::Delete => true,
        DeletionPolicy::Retain => purpose.is_replaceable(),
    }
}

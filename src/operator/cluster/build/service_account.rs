//! The identity of the pods towards Kubernetes: one that may do nothing and has no token.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::super::wanted::Wanted;

pub(super) fn service_account(wanted: &Wanted) -> ServiceAccount {
    ServiceAccount {
        metadata: super::metadata(wanted, wanted.name.clone(), "server"),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

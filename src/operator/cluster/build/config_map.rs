//! The configuration of the key server.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::super::wanted::Wanted;
use crate::{
    api::{API_PORT, HEALTH_PORT, Identity},
    operator::names,
};

/// File name of the configuration.
pub(super) const FILE: &str = "config.yml";

/// Directory that it and the certificates are mounted at.
pub(super) const DIRECTORY: &str = "/etc/kes";

/// The text of the configuration. `bootstrap: await` makes an empty directory wait for the operator's one call
/// instead of failing.
pub(crate) fn server_config(system_admin: &Identity) -> String {
    format!(
        "\
address: 0.0.0.0:{API_PORT}
health: 0.0.0.0:{HEALTH_PORT}
bootstrap: await
system:
  admin:
    identity: {system_admin}
tls:
  cert: {DIRECTORY}/tls/tls.crt
  key: {DIRECTORY}/tls/tls.key
unseal:
  environment:
    name: KES_UNSEAL_KEY
"
    )
}

pub(super) fn config_map(wanted: &Wanted, config: &str) -> ConfigMap {
    ConfigMap {
        metadata: super::metadata(wanted, names::config_map(&wanted.name), "server"),
        data: Some(BTreeMap::from([(FILE.to_owned(), config.to_owned())])),
        ..ConfigMap::default()
    }
}

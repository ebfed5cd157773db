//! The request to cert-manager for the servers' certificate.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde_json::json;

use super::super::{
    material,
    wanted::{Tls, Wanted},
};
use crate::crd::IssuerReference;

/// The request, if the spec names an issuer. The key stays when the certificate is renewed.
pub(super) fn certificate(wanted: &Wanted) -> Option<DynamicObject> {
    let Tls::Issuer { issuer: IssuerReference { name, kind, group }, secret } = &wanted.tls else {
        return None;
    };
    let names = material::server_names(wanted);
    let addresses: Vec<String> = names.ip.iter().map(ToString::to_string).collect();
    Some(super::dynamic(
        wanted,
        &super::CERTIFICATE.resource(),
        wanted.name.clone(),
        &BTreeMap::new(),
        json!({"spec": {
            "secretName": secret,
            "issuerRef": {"name": name, "kind": kind.as_str(), "group": group},
            "dnsNames": names.dns,
            "ipAddresses": addresses,
            "usages": ["digital signature", "server auth", "client auth"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
        }}),
    ))
}

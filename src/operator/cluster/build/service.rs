//! Two Services: one that clients use and never changes its name, one that gives each member a name of its own.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::super::wanted::Wanted;
use crate::{
    api::{API_PORT, HEALTH_PORT, PEER_PORT},
    operator::names,
};

/// What clients use. Only ready members are behind it.
pub(super) fn client(wanted: &Wanted) -> Service {
    Service {
        metadata: super::metadata(wanted, wanted.name.clone(), "server"),
        spec: Some(ServiceSpec {
            selector: Some(names::selector_labels(&wanted.name)),
            ports: Some(vec![port("api", API_PORT)]),
            type_: Some("ClusterIP".into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// What members and the operator use. A member must be found before it is ready, since it becomes ready by being
/// bootstrapped and, later, by finding the others.
pub(super) fn headless(wanted: &Wanted) -> Service {
    Service {
        metadata: super::metadata(wanted, names::headless_service(&wanted.name), "server"),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector_labels(&wanted.name)),
            ports: Some(vec![port("api", API_PORT), port("peer", PEER_PORT), port("health", HEALTH_PORT)]),
            type_: Some("ClusterIP".into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number.into(),
        target_port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}

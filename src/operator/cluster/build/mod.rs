//! build: makes every object that belongs to a cluster. Pure; one file per Kubernetes kind.

mod certificate;
pub(crate) mod config_map;
mod disruption_budget;
mod monitoring;
mod network_policy;
pub(crate) mod secret;
mod service;
mod service_account;
mod stateful_set;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    api::{ApiResource, GroupVersionKind},
    core::DynamicObject,
};
use serde_json::Value;

use super::{observe::Apis, wanted::Wanted};
use crate::{api::Identity, crd::Storage, operator::names};

/// What is built besides the Secrets, which are made once and never rebuilt.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    pub(crate) service_account: ServiceAccount,
    pub(crate) config_map: ConfigMap,
    pub(crate) headless_service: Service,
    pub(crate) service: Service,
    pub(crate) network_policy: Option<NetworkPolicy>,
    pub(crate) disruption_budget: Option<PodDisruptionBudget>,
    pub(crate) stateful_set: StatefulSet,
    pub(crate) optional: Vec<Optional>,
}

/// An object of a kind that not every API server knows.
#[derive(Clone, Debug)]
pub(crate) struct Optional {
    pub(crate) kind: &'static Kind,
    /// Name that it has or would have.
    pub(crate) name: String,
    /// What shall be there; nothing where it shall not.
    pub(crate) object: Option<DynamicObject>,
}

/// A kind that is known by name only.
#[derive(Debug)]
pub(crate) struct Kind {
    group: &'static str,
    version: &'static str,
    group_version: &'static str,
    kind: &'static str,
    pub(crate) plural: &'static str,
}

pub(crate) static SERVICE_MONITOR: Kind = Kind {
    group: "monitoring.coreos.com",
    version: "v1",
    group_version: "monitoring.coreos.com/v1",
    kind: "ServiceMonitor",
    plural: "servicemonitors",
};
pub(crate) static PROMETHEUS_RULE: Kind = Kind {
    group: "monitoring.coreos.com",
    version: "v1",
    group_version: "monitoring.coreos.com/v1",
    kind: "PrometheusRule",
    plural: "prometheusrules",
};
pub(crate) static CERTIFICATE: Kind = Kind {
    group: "cert-manager.io",
    version: "v1",
    group_version: "cert-manager.io/v1",
    kind: "Certificate",
    plural: "certificates",
};

impl Kind {
    pub(crate) fn resource(&self) -> ApiResource {
        let Self { group, version, group_version: _, kind, plural } = self;
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// As discovery calls it.
    pub(crate) fn group_version(&self) -> &'static str {
        self.group_version
    }
}

/// What the objects depend on besides the spec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basis<'a> {
    /// Who may create enclaves.
    pub(crate) system_admin: &'a Identity,
    /// Size and class that the volumes have or get, which may differ from what the spec asks for.
    pub(crate) storage: &'a Storage,
    /// What the API server knows.
    pub(crate) apis: Apis,
    /// Where the operator runs.
    pub(crate) operator_namespace: &'a str,
}

/// Builds all of them.
pub(crate) fn build(wanted: &Wanted, basis: &Basis<'_>) -> Objects {
    let Basis { system_admin, storage, apis, operator_namespace } = basis;
    let config = config_map::server_config(system_admin);
    let name = || wanted.name.clone();
    let mut optional = Vec::new();
    if apis.monitoring {
        let wants = |object| wanted.monitoring.enabled.then_some(object);
        let (monitor, rule) = (monitoring::service_monitor(wanted), monitoring::prometheus_rule(wanted));
        optional.push(Optional { kind: &SERVICE_MONITOR, name: name(), object: wants(monitor) });
        optional.push(Optional { kind: &PROMETHEUS_RULE, name: name(), object: wants(rule) });
    }
    if apis.cert_manager {
        optional.push(request(wanted));
    }
    Objects {
        service_account: service_account::service_account(wanted),
        config_map: config_map::config_map(wanted, &config),
        headless_service: service::headless(wanted),
        service: service::client(wanted),
        network_policy: network_policy::network_policy(wanted, operator_namespace),
        disruption_budget: disruption_budget::disruption_budget(wanted),
        stateful_set: stateful_set::stateful_set(wanted, &config, storage),
        optional,
    }
}

/// The request for the servers' certificate, which has to be there before they can start.
pub(crate) fn request(wanted: &Wanted) -> Optional {
    Optional { kind: &CERTIFICATE, name: wanted.name.clone(), object: certificate::certificate(wanted) }
}

/// An object of a kind that is known by name only.
fn dynamic(
    wanted: &Wanted,
    resource: &ApiResource,
    name: String,
    labels: &BTreeMap<String, String>,
    data: Value,
) -> DynamicObject {
    let mut object = DynamicObject::new(&name, resource).data(data);
    object.metadata = metadata(wanted, name.clone(), "server");
    // ours win: by them an object is known to be ours
    let all = object.metadata.labels.get_or_insert_default();
    for (label, value) in labels {
        all.entry(label.clone()).or_insert_with(|| value.clone());
    }
    object
}

/// Metadata of an object that goes with the `KesCluster`, unless tenants depend on it.
fn metadata(wanted: &Wanted, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(wanted.namespace.clone()),
        labels: Some(names::labels(&wanted.name, component)),
        owner_references: wanted.owners(),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;

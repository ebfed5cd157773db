//! Who may reach the members: clients the API, anyone the health port, and only members each other.
//!
//! What members may reach is left open: an upstream key service may be anywhere.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::super::wanted::Wanted;
use crate::{
    api::{API_PORT, HEALTH_PORT, PEER_PORT},
    crd,
    operator::names,
};

/// Label that every namespace has: its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The policy, unless the spec wants none.
pub(super) fn network_policy(wanted: &Wanted, operator_namespace: &str) -> Option<NetworkPolicy> {
    let crd::NetworkPolicy { enabled, from } = &wanted.network;
    if !enabled {
        return None;
    }
    // without a word of the user's every client may come: each has to show a certificate
    let clients = (!from.is_empty()).then(|| {
        let mut peers = from.clone();
        let mut namespaces: Vec<&str> =
            wanted.tenants.iter().map(|tenant| tenant.namespace.as_str()).collect();
        namespaces.push(operator_namespace);
        namespaces.sort_unstable();
        namespaces.dedup();
        peers.extend(namespaces.into_iter().map(namespace));
        peers.push(members(wanted));
        peers
    });
    Some(NetworkPolicy {
        metadata: super::metadata(wanted, wanted.name.clone(), "server"),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(wanted)),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![
                rule(API_PORT, clients),
                rule(PEER_PORT, Some(vec![members(wanted)])),
                rule(HEALTH_PORT, None),
            ]),
            egress: None,
        }),
    })
}

fn rule(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port.into())),
            protocol: Some("TCP".into()),
            end_port: None,
        }]),
    }
}

fn members(wanted: &Wanted) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selector(wanted)), ..NetworkPolicyPeer::default() }
}

fn namespace(name: &str) -> NetworkPolicyPeer {
    let labels = [(NAMESPACE_NAME.to_owned(), name.to_owned())].into();
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector { match_labels: Some(labels), match_expressions: None }),
        ..NetworkPolicyPeer::default()
    }
}

fn selector(wanted: &Wanted) -> LabelSelector {
    LabelSelector { match_labels: Some(names::selector_labels(&wanted.name)), match_expressions: None }
}

//! Builds the Services and RBAC objects of a Tenant, as captured. Pure.

use serde_json::{Value, json};

use crate::tenant::Tenant;

/// Metadata of an object that goes when its Tenant goes.
pub(crate) fn metadata(tenant: &Tenant, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": tenant.namespace,
        "ownerReferences": [{
            "apiVersion": "minio.min.io/v2", "kind": "Tenant", "name": tenant.name, "uid": tenant.uid,
            "controller": true, "blockOwnerDeletion": true,
        }],
    })
}

pub(crate) fn console_port(tenant: &Tenant) -> u16 {
    if tenant.tls() { 9443 } else { 9090 }
}

/// Where the Service `minio` listens.
pub(crate) fn s3_port(tenant: &Tenant) -> u16 {
    if tenant.tls() { 443 } else { 80 }
}

/// The ServiceAccount, Role and RoleBinding that let the sidecar read the Tenant and its Secret.
pub(crate) fn access(tenant: &Tenant) -> Vec<Value> {
    let (account, role) = (format!("{}-sa", tenant.name), format!("{}-role", tenant.name));
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(tenant, &account)}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata(tenant, &role),
            "rules": [
                {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": [""], "resources": ["services"], "verbs": ["create", "delete", "get"]},
                {"apiGroups": ["minio.min.io"], "resources": ["tenants"], "verbs": ["get", "list", "watch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": metadata(tenant, &format!("{}-binding", tenant.name)),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": tenant.namespace}],
        }),
    ]
}

/// The Service `minio` for S3 clients, the console's, and the headless one by which servers find each other.
pub(crate) fn services(tenant: &Tenant) -> Vec<Value> {
    let scheme = tenant.scheme();
    let console = console_port(tenant);
    let selector = json!({"v1.min.io/tenant": tenant.name});
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(tenant, name), "spec": spec});
    vec![
        service(
            "minio",
            json!({
                "type": "ClusterIP", "selector": selector,
                "ports": [{"name": format!("{scheme}-minio"), "port": s3_port(tenant), "protocol": "TCP", "targetPort": 9000}],
            }),
        ),
        service(
            &format!("{}-console", tenant.name),
            json!({
                "type": "ClusterIP", "selector": selector,
                "ports": [{"name": format!("{scheme}-console"), "port": console, "protocol": "TCP", "targetPort": console}],
            }),
        ),
        service(
            &format!("{}-hl", tenant.name),
            json!({
                "clusterIP": "None", "publishNotReadyAddresses": true, "selector": selector,
                "ports": [{"name": format!("{scheme}-minio"), "port": 9000, "protocol": "TCP", "targetPort": 9000}],
            }),
        ),
    ]
}

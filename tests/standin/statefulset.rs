//! Builds the StatefulSet of one pool, as captured: the init container that validates, MinIO, its sidecar, and the
//! projected volume in which list positions become paths. Pure.

use serde_json::{Map, Value, json};

use crate::objects::{console_port, metadata};
use crate::tenant::{CertRef, Pool, Tenant};

/// The StatefulSet of `pool`; a change of its template is what makes Kubernetes roll the pods.
pub(crate) fn build(tenant: &Tenant, pool: &Pool, sidecar_image: &str, cluster_domain: &str) -> Value {
    let labels = json!({
        "v1.min.io/console": format!("{}-console", tenant.name),
        "v1.min.io/pool": pool.name,
        "v1.min.io/tenant": tenant.name,
    });
    let mut object_metadata = metadata(tenant, &tenant.statefulset_name(pool));
    object_metadata["labels"] = json!({"v1.min.io/pool": pool.name, "v1.min.io/tenant": tenant.name});
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": object_metadata,
        "spec": {
            "podManagementPolicy": tenant.spec.pod_management_policy.as_deref().unwrap_or("Parallel"),
            "replicas": pool.servers,
            "selector": {"matchLabels": labels},
            "serviceName": format!("{}-hl", tenant.name),
            "updateStrategy": {"type": "RollingUpdate"},
            "volumeClaimTemplates": claims(pool),
            "template": {
                "metadata": {
                    "labels": merged(&pool.labels, &labels),
                    "annotations": merged(&pool.annotations, &json!({"min.io/revision": "0"})),
                },
                "spec": pod(tenant, pool, sidecar_image, cluster_domain),
            },
        },
    })
}

fn pod(tenant: &Tenant, pool: &Pool, sidecar_image: &str, cluster_domain: &str) -> Value {
    let mut volumes = vec![json!({"name": "cfg-vol", "emptyDir": {}})];
    let certificates = certificate_sources(tenant);
    if !certificates.is_empty() {
        volumes.push(json!({"name": format!("{}-tls", tenant.name), "projected": {"sources": certificates}}));
    }
    let configuration = tenant.spec.configuration.clone().unwrap_or_default().name;
    volumes.push(
        json!({"name": "configuration", "projected": {"sources": [{"secret": {"name": configuration}}]}}),
    );
    let (extra_volumes, extra_mounts) = additional(tenant);
    volumes.extend(extra_volumes.iter().cloned());

    let sidecar_mounts = || {
        let mut mounts = vec![
            json!({"name": "cfg-vol", "mountPath": "/tmp/minio/"}),
            json!({"name": "configuration", "mountPath": "/tmp/minio-config"}),
        ];
        mounts.extend(extra_mounts.iter().cloned());
        mounts
    };
    let container = |name: &str, image: &str, args: Value, env: Value, mounts: Vec<Value>| {
        json!({
            "name": name, "image": image, "args": args, "env": env, "volumeMounts": mounts,
            "imagePullPolicy": tenant.spec.image_pull_policy.as_deref().unwrap_or("IfNotPresent"),
            "securityContext": pool.container_security_context.clone().unwrap_or_else(|| {
                json!({"runAsGroup": 1000, "runAsNonRoot": true, "runAsUser": 1000})
            }),
        })
    };
    let domain = json!([{"name": "CLUSTER_DOMAIN", "value": cluster_domain}]);
    let init = container(
        "validate-arguments",
        sidecar_image,
        json!(["validate", "--tenant", tenant.name]),
        domain.clone(),
        sidecar_mounts(),
    );
    let mut minio = container(
        "minio",
        &tenant.spec.image,
        json!([
            "server",
            "--certs-dir",
            "/tmp/certs",
            "--console-address",
            format!(":{}", console_port(tenant))
        ]),
        json!([{"name": "MINIO_CONFIG_ENV_FILE", "value": "/tmp/minio/config.env"}]),
        minio_mounts(tenant, pool, !certificates.is_empty(), extra_mounts),
    );
    minio["ports"] = json!([
        {"name": "minio-port", "containerPort": 9000, "protocol": "TCP"},
        {"name": "console-port", "containerPort": console_port(tenant), "protocol": "TCP"},
    ]);
    for (field, value) in [
        ("resources", &pool.resources),
        ("readinessProbe", &tenant.spec.readiness),
        ("livenessProbe", &tenant.spec.liveness),
        ("startupProbe", &tenant.spec.startup),
    ] {
        if let Some(value) = value {
            minio[field] = value.clone();
        }
    }
    let mut sidecar = container(
        "sidecar",
        sidecar_image,
        json!(["sidecar", "--tenant", tenant.name, "--config-name", configuration]),
        domain,
        sidecar_mounts(),
    );
    sidecar["readinessProbe"] = json!({
        "httpGet": {"path": "/ready", "port": 4444, "scheme": "HTTP"},
        "initialDelaySeconds": 5, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 1,
    });
    let mut spec = json!({
        "serviceAccountName": format!("{}-sa", tenant.name),
        "securityContext": pool.security_context.clone().unwrap_or_else(|| json!({
            "fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch",
            "runAsGroup": 1000, "runAsNonRoot": true, "runAsUser": 1000,
        })),
        "initContainers": [init],
        "containers": [minio, sidecar],
        "volumes": volumes,
    });
    for (field, value) in [
        ("nodeSelector", &pool.node_selector),
        ("affinity", &pool.affinity),
        ("tolerations", &pool.tolerations),
    ] {
        if let Some(value) = value {
            spec[field] = value.clone();
        }
    }
    spec
}

fn minio_mounts(tenant: &Tenant, pool: &Pool, certificates: bool, extra: &[Value]) -> Vec<Value> {
    let mut mounts = vec![json!({"name": "cfg-vol", "mountPath": "/tmp/minio/"})];
    mounts.extend((0..pool.volumes_per_server).map(|index| {
        json!({"name": format!("{}{index}", claim_name(pool)), "mountPath": tenant.export_path(pool, index)})
    }));
    if certificates {
        mounts.push(json!({"name": format!("{}-tls", tenant.name), "mountPath": "/tmp/certs"}));
    }
    mounts.extend(extra.iter().cloned());
    mounts
}

/// The additional lists count only when both have the same length and there is a mount; otherwise both are ignored
/// without a word, which is the real one's behaviour and a trap that our operator must see.
fn additional(tenant: &Tenant) -> (&[Value], &[Value]) {
    let (volumes, mounts) = (&tenant.spec.additional_volumes, &tenant.spec.additional_volume_mounts);
    if mounts.is_empty() || volumes.len() != mounts.len() { (&[], &[]) } else { (volumes, mounts) }
}

fn claim_name(pool: &Pool) -> &str {
    pool.volume_claim_template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("data")
}

fn claims(pool: &Pool) -> Vec<Value> {
    let spec = pool.volume_claim_template.get("spec").cloned().unwrap_or_else(|| json!({}));
    (0..pool.volumes_per_server)
        .map(|index| {
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": format!("{}{index}", claim_name(pool))},
                "spec": spec,
            })
        })
        .collect()
}

/// The sources of the one projected volume at `/tmp/certs`: server certificates, then client certificates by list
/// position, then certificate authorities by list position.
fn certificate_sources(tenant: &Tenant) -> Vec<Value> {
    let mut sources = Vec::new();
    for (index, reference) in tenant.spec.external_cert_secret.iter().enumerate() {
        sources.push(server_source(index, reference));
    }
    if tenant.auto_cert() {
        let made = CertRef { name: format!("{}-tls", tenant.name), kind: "Opaque".to_owned() };
        sources.push(server_source(tenant.spec.external_cert_secret.len(), &made));
    }
    for (index, reference) in tenant.spec.external_client_cert_secrets.iter().enumerate() {
        let keys = Keys::of(reference);
        let mut items = vec![
            (keys.certificate, format!("client-{index}/client.crt")),
            (keys.private, format!("client-{index}/client.key")),
        ];
        items.extend(keys.authority.map(|key| (key, format!("CAs/client-ca-{index}.crt"))));
        sources.push(source(reference, &items));
    }
    for (index, reference) in tenant.spec.external_ca_cert_secret.iter().enumerate() {
        let keys = Keys::of(reference);
        sources.push(source(
            reference,
            &[(keys.authority.unwrap_or(keys.certificate), format!("CAs/ca-{index}.crt"))],
        ));
    }
    sources
}

/// The server certificate at position `index`: the first lies where MinIO looks first.
fn server_source(index: usize, reference: &CertRef) -> Value {
    let keys = Keys::of(reference);
    let (folder, authority) = match index {
        0 => (String::new(), "CAs/public.crt".to_owned()),
        n => (format!("hostname-{n}/"), format!("CAs/hostname-{n}.crt")),
    };
    source(
        reference,
        &[
            (keys.certificate, format!("{folder}public.crt")),
            (keys.private, format!("{folder}private.key")),
            (keys.authority.unwrap_or(keys.certificate), authority),
        ],
    )
}

fn source(reference: &CertRef, items: &[(&str, String)]) -> Value {
    let items: Vec<Value> = items.iter().map(|(key, path)| json!({"key": key, "path": path})).collect();
    json!({"secret": {"name": reference.name, "items": items}})
}

/// Which keys of a Secret hold what, by the type the Tenant declares for it.
struct Keys {
    certificate: &'static str,
    private: &'static str,
    authority: Option<&'static str>,
}

impl Keys {
    fn of(reference: &CertRef) -> Self {
        match reference.kind.as_str() {
            "kubernetes.io/tls" => Self { certificate: "tls.crt", private: "tls.key", authority: None },
            kind if kind.starts_with("cert-manager.io/") => {
                Self { certificate: "tls.crt", private: "tls.key", authority: Some("ca.crt") }
            }
            _ => Self { certificate: "public.crt", private: "private.key", authority: None },
        }
    }
}

fn merged(user: &Map<String, Value>, ours: &Value) -> Value {
    let mut all = user.clone();
    all.extend(ours.as_object().cloned().unwrap_or_default());
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::Spec;

    fn tenant(spec: Value) -> Tenant {
        let spec: Spec = serde_json::from_value(spec).expect("a spec");
        Tenant { name: "t".to_owned(), namespace: "ns".to_owned(), uid: "u".to_owned(), spec }
    }

    fn paths(tenant: &Tenant) -> Vec<String> {
        let of = |source: &Value| source["secret"]["items"].as_array().cloned().unwrap_or_default();
        certificate_sources(tenant)
            .iter()
            .flat_map(of)
            .map(|item| {
                format!("{}={}", item["path"].as_str().unwrap_or(""), item["key"].as_str().unwrap_or(""))
            })
            .collect()
    }

    #[test]
    fn the_declared_type_decides_the_keys_and_the_position_the_paths() {
        let tenant = tenant(json!({
            "requestAutoCert": false,
            "externalClientCertSecrets": [
                {"name": "a", "type": "Opaque"}, {"name": "b", "type": "kubernetes.io/tls"}, {"name": "c", "type": "cert-manager.io/v1"},
            ],
            "externalCaCertSecret": [{"name": "d", "type": "kubernetes.io/tls"}],
        }));
        assert_eq!(
            paths(&tenant),
            [
                "client-0/client.crt=public.crt",
                "client-0/client.key=private.key",
                "client-1/client.crt=tls.crt",
                "client-1/client.key=tls.key",
                "client-2/client.crt=tls.crt",
                "client-2/client.key=tls.key",
                "CAs/client-ca-2.crt=ca.crt",
                "CAs/ca-0.crt=tls.crt",
            ]
        );
    }

    #[test]
    fn additional_lists_of_different_length_are_both_ignored() {
        let tenant = tenant(json!({
            "additionalVolumes": [{"name": "a"}, {"name": "b"}], "additionalVolumeMounts": [{"name": "a"}],
        }));
        assert_eq!(additional(&tenant), (&[][..], &[][..]));
    }
}

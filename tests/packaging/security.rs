//! The operator's pod is what the restricted Pod Security Standard asks for, however the chart is set.

use serde_json::Value;

use crate::render::{Objects, Tools};

fn pod(objects: &Objects) -> &Value {
    &objects["Deployment kes-operator/kes-operator"]["spec"]["template"]["spec"]
}

fn assert_restricted(pod: &Value) {
    for field in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        assert!(pod[field].is_null(), "{field}");
    }
    let security = &pod["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_ne!(security["runAsUser"].as_i64().unwrap(), 0);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}));
        assert!(security["privileged"].is_null());
        for resource in ["requests", "limits"] {
            assert!(container["resources"][resource]["memory"].is_string(), "{resource}");
        }
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
        assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    }
}

#[test]
fn the_pod_is_restricted_with_every_set_of_values() {
    let Some(tools) = Tools::find("pod security") else { return };
    let hardened = ["--values", "charts/kes-operator/values-hardened.yaml"];
    for arguments in [&[][..], &hardened] {
        assert_restricted(pod(&tools.chart("charts/kes-operator", arguments).unwrap()));
    }
    for folder in ["config/default", "config/namespace-scoped"] {
        let objects = tools.kustomization(folder);
        assert_restricted(pod(&objects));
        let namespace = &objects["Namespace -/kes-operator"]["metadata"]["labels"];
        assert_eq!(namespace["pod-security.kubernetes.io/enforce"], "restricted");
    }
}

#[test]
fn the_hardened_values_add_objects_and_take_none_away() {
    let Some(tools) = Tools::find("hardened values") else { return };
    let plain = tools.chart("charts/kes-operator", &[]).unwrap();
    let hardened = tools
        .chart("charts/kes-operator", &["--values", "charts/kes-operator/values-hardened.yaml"])
        .unwrap();
    let added: Vec<_> = hardened.keys().filter(|key| !plain.contains_key(*key)).map(String::as_str).collect();
    assert_eq!(
        added,
        [
            "NetworkPolicy kes-operator/kes-operator",
            "PodDisruptionBudget kes-operator/kes-operator",
            "Service kes-operator/kes-operator-metrics",
            "ValidatingAdmissionPolicy -/kes-operator-tenants",
            "ValidatingAdmissionPolicyBinding -/kes-operator-tenants",
        ]
    );
    assert!(plain.keys().all(|key| hardened.contains_key(key)));
}

#[test]
fn the_image_is_named_by_version_by_tag_or_by_digest() {
    let Some(tools) = Tools::find("image names") else { return };
    let digest = format!("sha256:{}", "0a".repeat(32));
    let repository = "image.repository=registry.example.com:5000/team/kes";
    for (set, image) in [
        (vec![], format!("localhost/kes:{}", env!("CARGO_PKG_VERSION"))),
        (vec![repository, "image.tag=v9"], "registry.example.com:5000/team/kes:v9".into()),
        (
            vec![repository, "image.tag=v9", &format!("image.digest={digest}")],
            format!("registry.example.com:5000/team/kes@{digest}"),
        ),
    ] {
        let arguments: Vec<_> = set.iter().flat_map(|value| ["--set", value]).collect();
        let objects = tools.chart("charts/kes-operator", &arguments).unwrap();
        let container = &pod(&objects)["containers"][0];
        assert_eq!(container["image"], *image);
        let given = container["env"].as_array().unwrap().iter().find(|one| one["name"] == "KES_IMAGE");
        assert_eq!(given.unwrap()["value"], *image, "the key servers run the operator's image");
    }
}

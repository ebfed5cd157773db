//! The chart and `config/` install the same.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    render::{Objects, Tools, comparable},
    repository,
};

const CHART: &str = "charts/kes-operator";
/// `config/` is for a checkout and names the image that `make demo` makes; the chart names the release's.
const IMAGE: [&str; 2] = ["--set", "image.tag=dev"];

/// Fails with each object that only one has, and each place where two differ.
fn assert_same(chart: Objects, mut kustomize: Objects) {
    // Helm makes the namespace by itself, and only kustomize can label it
    kustomize.retain(|_, object| object["kind"] != "Namespace");
    let (chart, kustomize) = (comparable(chart), comparable(kustomize));
    let mut differences = Vec::new();
    for (key, object) in &chart {
        match kustomize.get(key) {
            None => differences.push(format!("{key}: only the chart has it")),
            Some(other) => differ(key, object, other, &mut differences),
        }
    }
    let only_there = kustomize.keys().filter(|key| !chart.contains_key(*key));
    differences.extend(only_there.map(|key| format!("{key}: only config/ has it")));
    assert!(differences.is_empty(), "chart (left) and config/ (right):\n{}", differences.join("\n"));
}

fn differ(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(one), Value::Object(two)) => {
            let mut keys: Vec<_> = one.keys().chain(two.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                differ(&format!("{path}.{key}"), &left[key], &right[key], found);
            }
        }
        (Value::Array(one), Value::Array(two)) if one.len() == two.len() => {
            for (index, (left, right)) in one.iter().zip(two).enumerate() {
                differ(&format!("{path}[{index}]"), left, right, found);
            }
        }
        _ if left == right => {}
        _ => found.push(format!("{path}: {left} | {right}")),
    }
}

fn chart(tools: &Tools, arguments: &[&str]) -> Objects {
    tools.chart(CHART, &[&IMAGE[..], arguments].concat()).unwrap()
}

#[test]
fn both_install_the_same_for_all_namespaces() {
    let Some(tools) = Tools::find("equality for all namespaces") else { return };
    assert_same(chart(&tools, &[]), tools.kustomization("config/default"));
}

#[test]
fn both_install_the_same_for_one_namespace() {
    let Some(tools) = Tools::find("equality for one namespace") else { return };
    let objects = chart(&tools, &["--set", "watchNamespaces={kes}"]);
    let broad: Vec<_> =
        objects.keys().filter(|key| key.starts_with("ClusterRoleBinding")).map(String::as_str).collect();
    assert_eq!(
        broad,
        [
            "ClusterRoleBinding -/kes-operator-storage-classes",
            "ClusterRoleBinding -/kes-operator-tenant-definition"
        ]
    );
    assert_same(objects, tools.kustomization("config/namespace-scoped"));
}

#[test]
fn both_install_the_same_options() {
    let Some(tools) = Tools::find("equality of options") else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("overlay");
    fs::create_dir_all(&folder).unwrap();
    // kustomize takes folders relative to the overlay only
    let folder = folder.canonicalize().unwrap();
    let up = "../".repeat(folder.components().count() - 1);
    let config = format!("{up}{}/config", repository().canonicalize().unwrap().display()).replace("//", "/");
    let parts = ["default", "admission-policy", "network-policy", "prometheus"]
        .map(|part| format!("  - {config}/{part}\n"));
    let overlay = format!("resources:\n{}", parts.concat());
    fs::write(folder.join("kustomization.yaml"), overlay).unwrap();
    let values =
        ["admissionPolicy.enabled=true", "networkPolicy.enabled=true", "metrics.serviceMonitor.enabled=true"]
            .map(|value| ["--set", value]);
    assert_same(chart(&tools, &values.concat()), tools.kustomization(folder.to_str().unwrap()));
}

#[test]
fn a_difference_is_found_wherever_it_is() {
    let one = serde_json::json!({"rules": [{"verbs": ["get", "list"]}], "kind": "Role"});
    for (other, path) in [
        (serde_json::json!({"rules": [{"verbs": ["get"]}], "kind": "Role"}), ".rules[0].verbs"),
        (serde_json::json!({"rules": [{"verbs": ["get", "watch"]}], "kind": "Role"}), ".rules[0].verbs[1]"),
        (serde_json::json!({"rules": [{"verbs": ["get", "list"]}]}), ".kind"),
        (serde_json::json!({"rules": [{"verbs": ["get", "list"]}], "kind": "Role", "more": 1}), ".more"),
    ] {
        let mut found = Vec::new();
        differ("", &one, &other, &mut found);
        assert_eq!(found.len(), 1, "{other}");
        assert!(found[0].starts_with(path), "{found:?}");
    }
}

//! The definitions in the chart are those in `crds/`, and the charts have the version of the program.

use std::fs;

use serde_json::Value;

use crate::{documents, render::Tools, repository, text};

const CHART: &str = "charts/kes-operator-crds";

/// The files of the definitions.
fn definitions() -> Vec<String> {
    let names = fs::read_dir(repository().join("crds")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "kustomization.yaml");
    names.sort();
    names
}

#[test]
fn the_chart_and_config_have_every_definition_of_crds() {
    let names = definitions();
    assert!(!names.is_empty());
    let listed = documents(&text("crds/kustomization.yaml")).remove(0);
    assert_eq!(listed["resources"], Value::from(names.clone()), "crds/kustomization.yaml");
    let files = fs::read_dir(repository().join(CHART).join("files")).unwrap();
    assert_eq!(files.count(), names.len(), "{CHART}/files has others than crds/");
    for name in names {
        let copy = text(format!("{CHART}/files/{name}"));
        assert!(copy == text(format!("crds/{name}")), "{CHART}/files/{name} is stale: `make crds` writes it");
    }
}

/// Writes 7.0 as 7, as Helm does; to the API server they are the same.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, whole(value))).collect(),
        other => other,
    }
}

#[test]
fn the_chart_renders_the_definitions_unchanged_and_to_stay() {
    let Some(tools) = Tools::find("definitions") else { return };
    let policy = "helm.sh/resource-policy";
    for chart in [CHART, "charts/kes-operator"] {
        let rendered = tools.chart(chart, &[]).unwrap();
        for name in definitions() {
            let mut wanted = whole(documents(&text(format!("crds/{name}"))).remove(0));
            wanted["metadata"]["annotations"][policy] = "keep".into();
            let key = format!("CustomResourceDefinition -/{}", wanted["metadata"]["name"].as_str().unwrap());
            assert!(rendered.get(&key) == Some(&wanted), "{chart} renders another {key} than crds/{name}");
        }
    }
    let rendered = tools.chart(CHART, &["--set", "keep=false"]).unwrap();
    assert!(rendered.values().all(|definition| definition["metadata"]["annotations"][policy].is_null()));
    let rendered = tools.chart("charts/kes-operator", &["--set", "crds.enabled=false"]).unwrap();
    assert!(rendered.keys().all(|key| !key.starts_with("CustomResourceDefinition")));
}

#[test]
fn the_charts_have_the_version_of_the_program() {
    let version = Value::from(env!("CARGO_PKG_VERSION"));
    for chart in [CHART, "charts/kes-operator"] {
        let chart = documents(&text(format!("{chart}/Chart.yaml"))).remove(0);
        assert_eq!((&chart["version"], &chart["appVersion"]), (&version, &version), "{}", chart["name"]);
        for dependency in chart["dependencies"].as_array().into_iter().flatten() {
            assert_eq!(dependency["version"], version, "{}", dependency["name"]);
        }
    }
}

#[test]
fn the_charts_pass_helms_own_lint() {
    let Some(tools) = Tools::find("lint") else { return };
    let hardened = "charts/kes-operator/values-hardened.yaml";
    for arguments in [&[CHART][..], &["charts/kes-operator"], &["charts/kes-operator", "--values", hardened]]
    {
        let all = [&["lint", "--strict", "--quiet"], arguments].concat();
        tools.helm(&all).unwrap_or_else(|problem| panic!("{arguments:?}: {problem}"));
    }
}

//! Every value of a chart has a comment, a row in the README and a place in the schema; wrong ones are refused.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::{documents, render::Tools, repository, text};

const CHARTS: [&str; 2] = ["charts/kes-operator", "charts/kes-operator-crds"];
const BEGIN: &str = "<!-- values: made from values.yaml by `KES_UPDATE=1 cargo test --test packaging` -->\n";
const END: &str = "<!-- end of values -->\n";

/// The comment right above each key of a `values.yaml`, by the key's path. The file has two spaces per level.
fn comments(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mut path, mut comment) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let content = line.trim_start();
        let level = (line.len() - content.len()) / 2;
        if let Some(words) = content.strip_prefix("# ") {
            comment.push(words.to_owned());
            continue;
        }
        if let Some((key, _)) = content.split_once(':').filter(|_| !content.starts_with('-')) {
            path.truncate(level);
            path.push(key.to_owned());
            if !comment.is_empty() {
                found.insert(path.join("."), comment.join(" "));
            }
        }
        comment.clear();
    }
    found
}

/// Paths and defaults of the values that a person sets: what has a comment, and what is below something without one.
fn settings(
    prefix: &str,
    value: &Value,
    comments: &BTreeMap<String, String>,
    found: &mut Vec<(String, Value)>,
) {
    for (key, value) in value.as_object().unwrap() {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() && !comments.contains_key(&path) => {
                settings(&path, value, comments, found);
            }
            _ => found.push((path, value.clone())),
        }
    }
}

fn of(chart: &str) -> (Vec<(String, Value)>, BTreeMap<String, String>) {
    let source = text(format!("{chart}/values.yaml"));
    let comments = comments(&source);
    let mut found = Vec::new();
    settings("", &documents(&source)[0], &comments, &mut found);
    (found, comments)
}

fn table(chart: &str) -> String {
    let (settings, comments) = of(chart);
    let row = |(path, default): &(String, Value)| {
        let comment = comments.get(path).map_or("", String::as_str).replace('|', "\\|");
        format!("| `{path}` | `{default}` | {comment} |\n")
    };
    let rows: String = settings.iter().map(row).collect();
    format!("{BEGIN}\n| Value | Default | What it does |\n|---|---|---|\n{rows}\n{END}")
}

#[test]
fn the_readmes_list_every_value() {
    for chart in CHARTS {
        let found = text(format!("{chart}/README.md"));
        let (head, rest) = found.split_once(BEGIN).unwrap();
        let (_, tail) = rest.split_once(END).unwrap();
        let wanted = format!("{head}{}{tail}", table(chart));
        if std::env::var_os("KES_UPDATE").is_some() {
            fs::write(repository().join(chart).join("README.md"), &wanted).unwrap();
        } else {
            assert!(
                found == wanted,
                "{chart}/README.md is stale: KES_UPDATE=1 cargo test --test packaging writes it"
            );
        }
    }
}

#[test]
fn every_value_explains_itself() {
    for chart in CHARTS {
        let (settings, comments) = of(chart);
        let silent: Vec<_> = settings.iter().filter(|(path, _)| !comments.contains_key(path)).collect();
        assert!(silent.is_empty(), "{chart}/values.yaml has no comment above {silent:?}");
    }
}

/// Compares the keys of the defaults with the properties of the schema, as deep as the schema is closed.
fn unmatched(path: &str, values: &Value, schema: &Value, found: &mut Vec<String>) {
    if schema["additionalProperties"] != false {
        return;
    }
    let properties = schema["properties"].as_object().unwrap();
    for (key, value) in values.as_object().unwrap() {
        let path = format!("{path}.{key}");
        match properties.get(key) {
            None => found.push(format!("{path} is not in the schema")),
            Some(schema) => unmatched(&path, value, schema, found),
        }
    }
    // what Helm itself, a parent chart or Kubernetes may add
    let free = ["global", "enabled", "labels", "claims"];
    let extra =
        properties.keys().filter(|key| values[key.as_str()].is_null() && !free.contains(&key.as_str()));
    found.extend(extra.map(|key| format!("{path}.{key} is in the schema only")));
}

#[test]
fn the_schemas_know_exactly_the_values_that_there_are() {
    for chart in CHARTS {
        let values = documents(&text(format!("{chart}/values.yaml"))).remove(0);
        let schema: Value = serde_json::from_str(&text(format!("{chart}/values.schema.json"))).unwrap();
        let mut found = Vec::new();
        unmatched("", &values, &schema, &mut found);
        assert!(found.is_empty(), "{chart}: {found:#?}");
    }
}

#[test]
fn wrong_values_are_refused_with_their_name() {
    let Some(tools) = Tools::find("wrong values") else { return };
    for (value, named) in [
        ("replicas=2", "replicas"),
        ("replicaCount=two", "replicaCount"),
        ("image.repository=kes:1", "image"),
        ("image.digest=abc", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("watchNamespaces=kes", "watchNamespaces"),
        ("watchNamespaces={Kes}", "watchNamespaces"),
        ("tenantNamespaces={t}", "watchNamespaces"),
        ("crds.kept=true", "kept"),
        ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable"),
        ("networkPolicy.apiServerPorts={0}", "apiServerPorts"),
        ("metrics.serviceMonitor.interval=often", "interval"),
        ("serviceAccount.create=false", "serviceAccount.name"),
    ] {
        let refusal = tools.chart("charts/kes-operator", &["--set", value]);
        let refusal = refusal.err().unwrap_or_else(|| panic!("{value} is accepted"));
        assert!(refusal.contains(named), "{value}: {refusal}");
    }
}

//! Checks a manifest as the API server would, without one: the schema of the definition, strictly, and its rules.
//!
//! Knows what our definition uses of OpenAPI and nothing else; the real API server has the last word.

use kube::{CustomResourceExt, core::cel};
use serde_json::Value;

use super::{GROUP, KesCluster};

/// Everything that is wrong with `manifest`, each as `field: problem`; and the resource, if it could be read: else no rule
/// beyond the schema was looked at.
#[must_use]
pub fn check(manifest: &Value) -> (Option<KesCluster>, Vec<String>) {
    let definition = serde_json::to_value(KesCluster::crd()).unwrap_or_default();
    let version = definition["spec"]["versions"][0]["name"].as_str().unwrap_or_default();
    let wanted = format!("{GROUP}/{version}");
    if manifest["apiVersion"] != wanted {
        return (None, vec![format!("apiVersion: it is {} and not {wanted}", manifest["apiVersion"])]);
    }
    let mut found = problems(&definition, manifest);
    if manifest["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        found.push("metadata.name: missing".into());
    }
    match serde_json::from_value::<KesCluster>(manifest.clone()) {
        Err(error) => {
            if found.is_empty() {
                found.push(error.to_string());
            }
            (None, found)
        }
        Ok(cluster) => {
            let broken = rules(&cluster, &found);
            found.extend(broken);
            (Some(cluster), found)
        }
    }
}

/// The rules that `cluster` breaks, by now with its defaults, as the rules see it.
fn rules(cluster: &KesCluster, found: &[String]) -> Vec<String> {
    let broken = cel::validate_cel(cluster).err().into_iter().flatten();
    // a rule may fail on a value that the schema refuses, and that says nothing new
    let broken = broken.filter(|error| found.is_empty() || error.kind == cel::ErrorKind::ValidationFailure);
    let broken = broken.filter(|error| error.field_path.is_empty() || !is_told(found, &error.field_path));
    let sentence = |error: cel::ValidationError| match error.field_path.is_empty() {
        true => error.message,
        false => format!("{}: {}", error.field_path, error.message),
    };
    broken.map(sentence).collect()
}

/// Whether one of `problems` is about `field` already.
#[must_use]
pub fn is_told(problems: &[String], field: &str) -> bool {
    problems
        .iter()
        .filter_map(|problem| problem.strip_prefix(field))
        .any(|rest| rest.starts_with([':', ' ', '[']))
}

/// The problems of `object` under the first version of a definition. Unknown fields are problems, as in
/// `kubectl apply --validate=strict`.
#[must_use]
pub fn problems(definition: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for (field, value) in object.as_object().into_iter().flatten() {
        if !["apiVersion", "kind", "metadata"].contains(&field.as_str()) {
            property(field, field, value, schema, &mut found);
        }
    }
    found
}

fn property(path: &str, field: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    match schema["properties"].get(field) {
        Some(schema) => value_of(path, value, schema, found),
        None if schema["additionalProperties"].is_object() => {
            value_of(path, value, &schema["additionalProperties"], found);
        }
        None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
        None => found.push(format!("{path}: unknown field")),
    }
}

fn value_of(path: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        None if schema["x-kubernetes-int-or-string"] == true => value.is_string() || value.is_i64(),
        // what else there may be is left to the API server
        _ => true,
    };
    if !fits {
        let kind = schema["type"].as_str().unwrap_or("integer or string");
        found.push(format!("{path}: {value} is not of type {kind}"));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        found.push(format!("{path}: {value} is none of {}", Value::from(allowed.clone())));
    }
    match value {
        Value::Object(fields) => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let missing = required.filter(|field| !fields.contains_key(*field));
            found.extend(missing.map(|field| format!("{path}.{field}: missing")));
            for (field, value) in fields {
                property(&format!("{path}.{field}"), field, value, schema, found);
            }
        }
        Value::Array(items) => list(path, items, schema, found),
        Value::String(text) => string(path, text, schema, found),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
                found.push(format!("{path}: {number} is out of bounds{}", bounds(least, most)));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

fn list(path: &str, items: &[Value], schema: &Value, found: &mut Vec<String>) {
    for (index, item) in items.iter().enumerate() {
        value_of(&format!("{path}[{index}]"), item, &schema["items"], found);
    }
    length(path, "items", items.len(), &schema["minItems"], &schema["maxItems"], found);
    if let Some(keys) = schema["x-kubernetes-list-map-keys"].as_array() {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        let name = |item: &Value| -> Vec<String> {
            keys.iter().map(|key| item[*key].as_str().unwrap_or_default().to_owned()).collect()
        };
        let names: Vec<_> = items.iter().map(name).collect();
        let twice = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
        found
            .extend(twice.map(|(index, name)| format!("{path}[{index}]: {} is there twice", name.join("/"))));
    }
}

fn string(path: &str, text: &str, schema: &Value, found: &mut Vec<String>) {
    length(path, "characters", text.chars().count(), &schema["minLength"], &schema["maxLength"], found);
    if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        found.push(format!("{path}: {text:?} does not match {pattern}"));
    }
}

fn length(path: &str, what: &str, length: usize, least: &Value, most: &Value, found: &mut Vec<String>) {
    let (least, most) = (least.as_f64(), most.as_f64());
    let length = f64::from(u32::try_from(length).unwrap_or(u32::MAX));
    if least.is_some_and(|least| length < least) || most.is_some_and(|most| length > most) {
        found.push(format!("{path}: {length} {what} are out of bounds{}", bounds(least, most)));
    }
}

fn bounds(least: Option<f64>, most: Option<f64>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!(" ({least} to {most})"),
        (Some(least), None) => format!(" (at least {least})"),
        (None, Some(most)) => format!(" (at most {most})"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(spec: &str) -> Vec<String> {
        let text = format!(
            "{{apiVersion: kes-operator.io/v1alpha1, kind: KesCluster, metadata: {{name: vault}}, spec: {spec}}}"
        );
        check(&serde_saphyr::from_str(&text).unwrap()).1
    }

    #[test]
    fn a_good_manifest_has_no_problems_and_a_bad_one_names_each_field() {
        assert_eq!(
            found("{replicas: 1, enclaves: [{name: default, keys: [{name: k}]}]}"),
            Vec::<String>::new()
        );
        for (spec, problem) in [
            ("{replicas: two}", "spec.replicas: \"two\" is not of type integer"),
            ("{replicas: 9}", "spec.replicas: 9 is out of bounds (1 to 7)"),
            ("{replica: 3}", "spec.replica: unknown field"),
            (
                "{replicas: 2}",
                "spec.replicas: spec.replicas must be odd (1, 3, 5 or 7), so that a majority exists",
            ),
            ("{enclaves: [{name: a b}]}", "spec.enclaves[0].name: \"a b\" does not match ^[0-9A-Za-z_-]+$"),
            ("{enclaves: [{name: a}, {name: a}]}", "spec.enclaves[1]: a is there twice"),
            ("{tenants: [{name: t, namespace: team}]}", "spec.tenants[0].keyName: missing"),
            (
                "{deletionPolicy: Forget}",
                "spec.deletionPolicy: \"Forget\" is none of [\"Retain\",\"Delete\"]",
            ),
        ] {
            assert_eq!(found(spec), [problem], "{spec}");
        }
        let several = found("{replicas: 9, paused: 'yes'}");
        assert_eq!(several.len(), 2, "all of them at once: {several:?}");
    }

    #[test]
    fn rules_are_looked_at_also_where_the_schema_is_not_kept() {
        let both = found(
            "{replica: 3, replicas: 2, storage: {size: '0'}, tls: {serverSecretRef: {name: a}, issuerRef: {name: b}}}",
        );
        let fields: Vec<_> = both.iter().map(|problem| problem.split(':').next().unwrap()).collect();
        assert_eq!(fields, ["spec.replica", "spec.replicas", "spec.storage.size", "spec.tls"], "{both:?}");
        // what the schema says of a field is enough about it
        let size = found("{storage: {size: much}}");
        assert!(
            matches!(&size[..], [one] if one.starts_with("spec.storage.size: \"much\" does not match")),
            "{size:?}"
        );
        assert_eq!(found("{replicas: 8}"), ["spec.replicas: 8 is out of bounds (1 to 7)"]);
        let nameless =
            serde_json::json!({"apiVersion": "kes-operator.io/v1alpha1", "kind": "KesCluster", "spec": {}});
        assert_eq!(check(&nameless).1, ["metadata.name: missing"]);
    }

    #[test]
    fn another_version_is_named() {
        let manifest = serde_json::json!({"apiVersion": "kes-operator.io/v9", "kind": "KesCluster"});
        assert_eq!(
            check(&manifest).1,
            ["apiVersion: it is \"kes-operator.io/v9\" and not kes-operator.io/v1alpha1"]
        );
    }
}

//! Checks a resource against the schema of its CustomResourceDefinition, as strictly as `kubectl apply --validate=strict`:
//! also unknown fields are problems. Knows what our definitions use, and says so when it meets something else.

use serde_json::Value;

/// The problems of `object` under the first version of a definition.
pub(crate) fn problems(definition: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for (field, value) in object.as_object().unwrap() {
        if !["apiVersion", "kind", "metadata"].contains(&field.as_str()) {
            property(field, field, value, schema, &mut found);
        }
    }
    found
}

fn property(path: &str, field: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    match schema["properties"].get(field) {
        Some(schema) => check(path, value, schema, found),
        None if schema["additionalProperties"].is_object() => {
            check(path, value, &schema["additionalProperties"], found);
        }
        None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
        None => found.push(format!("{path}: unknown field")),
    }
}

fn check(path: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
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
        Some(other) => panic!("{path}: the check does not know the type {other}"),
        None if schema["x-kubernetes-int-or-string"] == true => value.is_string() || value.is_i64(),
        None => true,
    };
    if !fits {
        found.push(format!("{path}: {value} is not of type {}", schema["type"]));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        found.push(format!("{path}: {value} is none of {}", Value::from(allowed.clone())));
    }
    match value {
        Value::Object(fields) => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            found.extend(
                required
                    .filter(|field| !fields.contains_key(*field))
                    .map(|field| format!("{path}.{field}: missing")),
            );
            for (field, value) in fields {
                property(&format!("{path}.{field}"), field, value, schema, found);
            }
        }
        Value::Array(items) => list(path, items, schema, found),
        Value::String(text) => string(path, text, schema, found),
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            let below = schema["minimum"].as_f64().is_some_and(|least| number < least);
            let above = schema["maximum"].as_f64().is_some_and(|most| number > most);
            if below || above {
                found.push(format!("{path}: {number} is out of bounds"));
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

fn list(path: &str, items: &[Value], schema: &Value, found: &mut Vec<String>) {
    for (index, item) in items.iter().enumerate() {
        check(&format!("{path}[{index}]"), item, &schema["items"], found);
    }
    length(path, items.len(), &schema["minItems"], &schema["maxItems"], found);
    if let Some(keys) = schema["x-kubernetes-list-map-keys"].as_array() {
        let names: Vec<Vec<&Value>> =
            items.iter().map(|item| keys.iter().map(|key| &item[key.as_str().unwrap()]).collect()).collect();
        let twice = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
        found.extend(twice.map(|(_, name)| format!("{path}: {name:?} is there twice")));
    }
}

fn string(path: &str, text: &str, schema: &Value, found: &mut Vec<String>) {
    length(path, text.chars().count(), &schema["minLength"], &schema["maxLength"], found);
    if let Some(pattern) = schema["pattern"].as_str()
        && !regex::Regex::new(pattern).unwrap().is_match(text)
    {
        found.push(format!("{path}: {text} does not match {pattern}"));
    }
}

fn length(path: &str, length: usize, least: &Value, most: &Value, found: &mut Vec<String>) {
    let length = length as u64;
    if least.as_u64().is_some_and(|least| length < least) || most.as_u64().is_some_and(|most| length > most) {
        found.push(format!("{path}: {length} is out of bounds"));
    }
}

//! Holds the builders to what the real MinIO Operator made of the same Tenants: every object, field by field.
//!
//! `captures/*.yaml` are those objects (see `captures/README.md`); `captures/differences.yaml` lists what may differ and
//! why. A difference that is not listed fails, and so does an entry that nothing needs any more.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use crate::{config_env, objects, statefulset, status, tenant::Tenant};

const CAPTURES: [(&str, &str); 4] = [
    ("before", include_str!("captures/before.yaml")),
    ("client-certificates", include_str!("captures/client-certificates.yaml")),
    ("additional-volumes", include_str!("captures/additional-volumes.yaml")),
    ("spec-kes-removed", include_str!("captures/spec-kes-removed.yaml")),
];
/// What the captured operator was told by its environment.
const SIDECAR_IMAGE: &str = "localhost/minio-operator-sidecar:v7.1.1";
const CLUSTER_DOMAIN: &str = "cluster.local";

/// One accepted difference, or several for one reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    /// Lines as this test prints them, with `*` for anything.
    lines: Vec<String>,
    because: String,
}

#[test]
fn every_object_is_what_the_real_operator_made_but_for_listed_differences() {
    let accepted: Vec<Accepted> =
        serde_saphyr::from_str(include_str!("captures/differences.yaml")).expect("differences.yaml");
    let found: BTreeSet<String> =
        CAPTURES.iter().flat_map(|(name, text)| differences(name, &captured(text))).collect();
    let patterns: Vec<&str> = accepted.iter().flat_map(|entry| &entry.lines).map(String::as_str).collect();
    let unlisted: Vec<_> =
        found.iter().filter(|line| !patterns.iter().any(|pattern| matches(pattern, line))).collect();
    assert!(unlisted.is_empty(), "not listed in captures/differences.yaml:\n{unlisted:#?}");
    let unneeded: Vec<_> =
        patterns.iter().filter(|pattern| !found.iter().any(|line| matches(pattern, line))).collect();
    assert!(unneeded.is_empty(), "nothing needs these entries of captures/differences.yaml:\n{unneeded:#?}");
    assert!(accepted.iter().all(|entry| !entry.because.trim().is_empty()), "each entry has its reason");
}

#[test]
fn the_environment_file_has_what_the_real_sidecar_wrote_but_for_updates() {
    let objects = captured(include_str!("captures/config-env.yaml"));
    let file = &objects["File /tmp/minio/config.env"];
    let ours = config_env::render(&tenant(&objects), file["secret"].as_str().expect("it"), CLUSTER_DOMAIN);
    let mut theirs: BTreeMap<String, String> =
        serde_json::from_value(file["variables"].clone()).expect("variables");
    // there is nothing to update from where the stand-in is used, and the key of who signs updates is not ours to spread
    assert_eq!(theirs.insert("MINIO_UPDATE".to_owned(), "off".to_owned()).as_deref(), Some("on"));
    assert!(theirs.remove("MINIO_UPDATE_MINISIGN_PUBKEY").is_some());
    let theirs: String = theirs.iter().map(|(name, value)| format!("export {name}=\"{value}\"\n")).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn wiring_changes_of_the_pods_only_what_it_changed_in_the_captured_ones() {
    let fields = |index: usize| {
        let objects = captured(CAPTURES[index].1);
        let theirs = template(&objects).clone();
        let tenant = tenant(&objects);
        (
            flat(&theirs),
            flat(&made(&tenant).remove("StatefulSet myminio-pool-0").expect("it")["spec"]["template"]),
        )
    };
    let ((their_before, our_before), (their_after, our_after)) = (fields(0), fields(1));
    assert_eq!(changed(&their_before, &their_after), changed(&our_before, &our_after));
    assert!(!changed(&our_before, &our_after).is_empty());
}

fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    after
        .iter()
        .filter(|(field, value)| before.get(*field) != Some(value))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect()
}

fn captured(text: &str) -> BTreeMap<String, Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).expect("a capture");
    objects.into_iter().map(|object| (key(&object), object)).collect()
}

fn key(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

fn tenant(objects: &BTreeMap<String, Value>) -> Tenant {
    let (_, object) = objects.iter().find(|(key, _)| key.starts_with("Tenant ")).expect("its Tenant");
    let object: DynamicObject = serde_json::from_value(object.clone()).expect("a Tenant");
    Tenant::parse(&object).expect("a Tenant that can be read")
}

fn template(objects: &BTreeMap<String, Value>) -> &Value {
    &objects["StatefulSet myminio-pool-0"]["spec"]["template"]
}

/// Everything that the stand-in makes of a Tenant, with the Tenant's status when all of its servers are Ready.
fn made(tenant: &Tenant) -> BTreeMap<String, Value> {
    let sets =
        tenant.spec.pools.iter().map(|pool| statefulset::build(tenant, pool, SIDECAR_IMAGE, CLUSTER_DOMAIN));
    let servers = tenant.spec.pools.iter().map(|pool| i64::from(pool.servers)).sum();
    let status = serde_json::json!({"status": status::of(tenant, servers)});
    objects::access(tenant)
        .into_iter()
        .chain(objects::services(tenant))
        .chain(sets)
        .map(|object| (key(&object), object))
        .chain([(format!("Tenant {}", tenant.name), status)])
        .collect()
}

/// One line for each field that differs: `CAPTURE KIND NAME FIELD: THEIRS, ours OURS`.
fn differences(capture: &str, theirs: &BTreeMap<String, Value>) -> Vec<String> {
    let ours = made(&tenant(theirs));
    let keys: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let mut lines = Vec::new();
    for key in keys {
        let (theirs, ours) = match (theirs.get(key), ours.get(key)) {
            (Some(theirs), Some(ours)) if key.starts_with("Tenant ") => {
                (flat(&serde_json::json!({"status": theirs["status"]})), flat(ours))
            }
            (Some(theirs), Some(ours)) => (flat(theirs), flat(ours)),
            (Some(_), None) => {
                lines.push(format!("{capture} {key}: captured, ours not made"));
                continue;
            }
            _ => {
                lines.push(format!("{capture} {key}: not captured, ours made"));
                continue;
            }
        };
        let fields: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for field in fields {
            let of = |side: &BTreeMap<String, String>| side.get(field).map_or("absent", |v| v).to_owned();
            let (theirs, ours) = (of(&theirs), of(&ours));
            if theirs != ours {
                lines.push(format!("{capture} {key} {field}: {theirs}, ours {ours}"));
            }
        }
    }
    lines
}

/// Every leaf of `value` by its path; list positions are part of the path, for they matter.
fn flat(value: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                fields.iter().for_each(|(name, value)| walk(&below(name), value, leaves));
            }
            Value::Array(items) if !items.is_empty() => {
                items.iter().enumerate().for_each(|(at, value)| walk(&below(&at.to_string()), value, leaves));
            }
            leaf => {
                leaves.insert(path.to_owned(), leaf.to_string());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    walk("", value, &mut leaves);
    leaves
}

/// Whether `text` is `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

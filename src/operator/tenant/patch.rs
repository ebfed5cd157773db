//! patch: what a Tenant's lists become when it is wired. Pure: Tenant and wish in, new lists or a conflict out.
//!
//! The Tenant belongs to its user. Every entry that a user put there stays, in its order; ours are found by name and
//! value, changed only where they are what was injected before, and appended otherwise. The lists are atomic for
//! every kind of patch, so complete new lists are written, guarded by the `resourceVersion` they were computed from.

use serde_json::{Map, Value, json};

use super::rule::Rule;
use crate::crd::{Injected, Mount, MountKind};

/// Declared type of our entry in `externalClientCertSecrets`: the one that also delivers `ca.crt`.
const ENTRY_TYPE: &str = "cert-manager.io/v1";
const VOLUME: &str = "kes-client";
const VOLUME_DIRECTORY: &str = "/etc/kes-client";

const ENDPOINT: &str = "MINIO_KMS_KES_ENDPOINT";
const KEY_NAME: &str = "MINIO_KMS_KES_KEY_NAME";
const CERT_FILE: &str = "MINIO_KMS_KES_CERT_FILE";
const KEY_FILE: &str = "MINIO_KMS_KES_KEY_FILE";
const CAPATH: &str = "MINIO_KMS_KES_CAPATH";

/// Variables about encryption that a user may set beside ours.
const ALLOWED: [&str; 2] = ["MINIO_KMS_AUTO_ENCRYPTION", "MINIO_KMS_REPLICATE_KEYID"];

/// What shall be in the Tenant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wish {
    pub(crate) secret: String,
    pub(crate) endpoint: String,
    pub(crate) key_name: String,
    pub(crate) mount: Mount,
}

/// What has to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Nothing: everything is there.
    None(Injected),
    /// These fields of `spec`, whole.
    Write(Map<String, Value>, Injected),
}

/// Computes the change of `tenant`. `config_env` is the text of its configuration Secret; `before` is what was
/// injected last.
///
/// # Errors
/// The first thing in the Tenant that says otherwise.
pub(crate) fn change(
    tenant: &Value,
    config_env: Option<&str>,
    wish: &Wish,
    before: Option<&Injected>,
) -> Result<Change, Rule> {
    let spec = &tenant["spec"];
    if !spec["kes"].is_null() {
        return Err(Rule::BuiltInKes);
    }
    let mut write = Map::new();
    let (kind, path) = match mount_kind(spec, wish) {
        MountKind::ClientCertSecrets => (MountKind::ClientCertSecrets, slot(spec, wish, &mut write)?),
        MountKind::AdditionalVolumes => (MountKind::AdditionalVolumes, volume(spec, wish, &mut write)?),
    };
    let injected = Injected {
        endpoint: wish.endpoint.clone(),
        key_name: wish.key_name.clone(),
        mount: kind,
        path,
        patched_at: None,
        restarted: false,
        approved: false,
        intended: false,
        repeats: 0,
        verified_pods: None,
    };
    let ours = variables(&injected);
    shadowed(config_env, &ours)?;
    environment(spec, &ours, before.map(variables).as_deref(), &mut write)?;
    Ok(if write.is_empty() { Change::None(injected) } else { Change::Write(write, injected) })
}

/// The variables that stand for `injected`, in the order that they are written.
pub(crate) fn variables(injected: &Injected) -> Vec<(&'static str, String)> {
    let Injected { endpoint, key_name, mount, path, .. } = injected;
    let (certificate, key, authority) = match mount {
        MountKind::ClientCertSecrets => {
            let index = path.rsplit_once('-').map_or("0", |(_, index)| index);
            (
                format!("{path}/client.crt"),
                format!("{path}/client.key"),
                format!("/tmp/certs/CAs/client-ca-{index}.crt"),
            )
        }
        MountKind::AdditionalVolumes => {
            (format!("{path}/tls.crt"), format!("{path}/tls.key"), format!("{path}/ca.crt"))
        }
    };
    vec![
        (ENDPOINT, endpoint.clone()),
        (KEY_NAME, key_name.clone()),
        (CERT_FILE, certificate),
        (KEY_FILE, key),
        (CAPATH, authority),
    ]
}

/// What has to be written so that nothing of ours is left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Removal {
    /// Nothing is there, except a slot in a list that cannot go because others stand behind it.
    Nothing { keeps_slot: bool },
    /// These fields of `spec`, whole.
    Write { fields: Map<String, Value>, keeps_slot: bool },
}

/// A variable of a key service that would be left when `fields` are written: somebody changed it, and MinIO does not start
/// with some of them only.
pub(crate) fn left_over(
    tenant: &Value,
    fields: &Map<String, Value>,
    config_env: Option<&str>,
) -> Option<Rule> {
    const ANY: &str = "MINIO_KMS_KES_";
    let env = fields.get("env").unwrap_or(&tenant["spec"]["env"]);
    let names = env.as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str());
    let found =
        names.into_iter().find(|name| name.starts_with(ANY)).map(|name| (name.to_owned(), "spec.env"));
    let in_config = || {
        let mut lines = config_env?.lines().filter_map(|line| line.trim().strip_prefix("export "));
        let name = lines.find(|line| line.starts_with(ANY))?.split('=').next()?;
        Some((name.to_owned(), "config.env of its configuration Secret"))
    };
    let (variable, place) = found.or_else(in_config)?;
    Some(Rule::ForeignKms { variable, place })
}

/// Computes the removal of what was `injected` into `tenant`. Only what has our name and our value goes.
pub(crate) fn removal(tenant: &Value, secret: &str, injected: &Injected) -> Removal {
    let spec = &tenant["spec"];
    let mut fields = Map::new();
    let ours = variables(injected);
    let env = list(spec, "env");
    let is_ours = |entry: &&Value| {
        ours.iter().any(|(name, value)| entry["name"] == *name && entry["value"] == value.as_str())
    };
    if env.iter().any(|entry| is_ours(&entry)) {
        let rest: Vec<_> = env.iter().filter(|entry| !is_ours(entry)).cloned().collect();
        fields.insert("env".into(), rest.into());
    }
    let slots = list(spec, "externalClientCertSecrets");
    let slot = slots.iter().position(|entry| entry["name"] == secret);
    // positions are paths inside MinIO: whoever stands behind us must not move
    let keeps_slot = slot.is_some_and(|slot| slot + 1 != slots.len());
    if let Some(slot) = slot
        && !keeps_slot
    {
        fields.insert("externalClientCertSecrets".into(), slots[..slot].to_vec().into());
    }
    let volumes = list(spec, "additionalVolumes");
    let is_our_volume =
        |volume: &&Value| volume["name"] == VOLUME && volume["secret"]["secretName"] == secret;
    if volumes.iter().any(|volume| is_our_volume(&volume)) {
        let without = |field: &str| -> Vec<Value> {
            list(spec, field).iter().filter(|entry| entry["name"] != VOLUME).cloned().collect()
        };
        fields.insert("additionalVolumes".into(), without("additionalVolumes").into());
        fields.insert("additionalVolumeMounts".into(), without("additionalVolumeMounts").into());
    }
    if fields.is_empty() { Removal::Nothing { keeps_slot } } else { Removal::Write { fields, keeps_slot } }
}

/// Whether the user had MinIO encrypt every object, with which it does not start without a key service.
pub(crate) fn encrypts_everything(tenant: &Value, config_env: Option<&str>) -> bool {
    let in_spec = list(&tenant["spec"], "env")
        .iter()
        .any(|entry| entry["name"] == ALLOWED[0] && entry["value"].as_str().is_some_and(is_on));
    in_spec || exported(config_env).any(|(name, value)| name == ALLOWED[0] && is_on(value))
}

fn is_on(value: &str) -> bool {
    ["on", "true", "1", "enabled"].contains(&value.to_ascii_lowercase().as_str())
}

/// What has to be in the Tenant, as YAML that a person can put where the Tenant comes from: `fields` of its spec, cut down
/// to what is ours.
pub(crate) fn snippet(tenant: &Value, fields: &Map<String, Value>) -> String {
    let spec = &tenant["spec"];
    let mut ours = Map::new();
    for (field, value) in fields {
        let there = list(spec, field);
        let added = value.as_array().into_iter().flatten().filter(|entry| !there.contains(entry)).cloned();
        ours.insert(field.clone(), added.collect::<Vec<_>>().into());
    }
    let document = json!({"spec": ours});
    serde_saphyr::to_string(&document).unwrap_or_else(|_| document.to_string())
}

/// Where our entry is already, it stays; else what the spec says.
/// Whether a Tenant's pods are given the certificate in `secret`.
pub(crate) fn has(tenant: &Value, secret: &str) -> bool {
    let spec = &tenant["spec"];
    let in_list = list(spec, "externalClientCertSecrets").iter().any(|entry| entry["name"] == secret);
    in_list || list(spec, "additionalVolumes").iter().any(|volume| volume["secret"]["secretName"] == secret)
}

fn mount_kind(spec: &Value, wish: &Wish) -> MountKind {
    let in_list =
        list(spec, "externalClientCertSecrets").iter().any(|entry| entry["name"] == wish.secret.as_str());
    let in_volumes = list(spec, "additionalVolumes")
        .iter()
        .any(|volume| volume["secret"]["secretName"] == wish.secret.as_str());
    match wish.mount {
        _ if in_list => MountKind::ClientCertSecrets,
        _ if in_volumes => MountKind::AdditionalVolumes,
        Mount::ClientCertSecrets => MountKind::ClientCertSecrets,
        Mount::AdditionalVolumes => MountKind::AdditionalVolumes,
        Mount::Auto if list(spec, "externalClientCertSecrets").is_empty() => MountKind::ClientCertSecrets,
        Mount::Auto => MountKind::AdditionalVolumes,
    }
}

/// Our slot in the list of client certificates; its position is a path inside MinIO.
fn slot(spec: &Value, wish: &Wish, write: &mut Map<String, Value>) -> Result<String, Rule> {
    const FIELD: &str = "externalClientCertSecrets";
    let entries = list(spec, FIELD);
    let position = match entries.iter().position(|entry| entry["name"] == wish.secret.as_str()) {
        Some(position) => {
            if entries[position]["type"] != ENTRY_TYPE {
                return Err(Rule::MountChanged {
                    what: format!("spec.{FIELD}[{position}].type is not {ENTRY_TYPE}"),
                });
            }
            position
        }
        None => {
            let mut entries = entries.to_vec();
            entries.push(json!({"name": wish.secret, "type": ENTRY_TYPE}));
            let position = entries.len() - 1;
            write.insert(FIELD.into(), Value::Array(entries));
            position
        }
    };
    Ok(format!("/tmp/certs/client-{position}"))
}

/// Our volume and its mount. The MinIO Operator ignores both lists unless they are equally long.
fn volume(spec: &Value, wish: &Wish, write: &mut Map<String, Value>) -> Result<String, Rule> {
    let volumes = list(spec, "additionalVolumes");
    let mounts = list(spec, "additionalVolumeMounts");
    let ours = |name: &Value| name == VOLUME;
    let found_volume = volumes.iter().find(|volume| ours(&volume["name"]));
    let found_mount = mounts.iter().find(|mount| ours(&mount["name"]));
    if let Some(found) = found_volume
        && found["secret"]["secretName"] != wish.secret.as_str()
    {
        return Err(Rule::MountChanged {
            what: format!("spec.additionalVolumes has another volume '{VOLUME}'"),
        });
    }
    if let Some(found) = found_mount
        && found["mountPath"] != VOLUME_DIRECTORY
    {
        return Err(Rule::MountChanged {
            what: format!("volume '{VOLUME}' is mounted elsewhere than {VOLUME_DIRECTORY}"),
        });
    }
    if mounts.iter().any(|mount| !ours(&mount["name"]) && mount["mountPath"] == VOLUME_DIRECTORY) {
        return Err(Rule::MountChanged { what: format!("another volume is mounted at {VOLUME_DIRECTORY}") });
    }
    let mut new_volumes = volumes.to_vec();
    let mut new_mounts = mounts.to_vec();
    if found_volume.is_none() {
        new_volumes
            .push(json!({"name": VOLUME, "secret": {"secretName": wish.secret, "defaultMode": 0o440}}));
    }
    if found_mount.is_none() {
        new_mounts.push(json!({"name": VOLUME, "mountPath": VOLUME_DIRECTORY, "readOnly": true}));
    }
    if new_volumes.len() != new_mounts.len() {
        return Err(Rule::VolumesUnequal { volumes: volumes.len(), mounts: mounts.len() });
    }
    if found_volume.is_none() {
        write.insert("additionalVolumes".into(), Value::Array(new_volumes));
    }
    if found_mount.is_none() {
        write.insert("additionalVolumeMounts".into(), Value::Array(new_mounts));
    }
    Ok(VOLUME_DIRECTORY.into())
}

/// Our variables among the user's.
fn environment(
    spec: &Value,
    ours: &[(&'static str, String)],
    before: Option<&[(&'static str, String)]>,
    write: &mut Map<String, Value>,
) -> Result<(), Rule> {
    let mut entries = list(spec, "env").to_vec();
    let mut changed = false;
    for entry in &entries {
        let name = entry["name"].as_str().unwrap_or_default();
        if name.starts_with("MINIO_KMS_")
            && !ALLOWED.contains(&name)
            && !ours.iter().any(|(known, _)| *known == name)
        {
            return Err(Rule::ForeignKms { variable: name.into(), place: "spec.env" });
        }
    }
    for (name, value) in ours {
        let mut found = entries.iter_mut().filter(|entry| entry["name"] == *name);
        let first = found.next();
        // the last one would win, so none of them can be trusted
        if found.next().is_some() {
            return Err(Rule::DuplicateVariable { variable: (*name).into() });
        }
        match first {
            None => {
                entries.push(json!({"name": name, "value": value}));
                changed = true;
            }
            Some(entry) if entry["value"] == value.as_str() && entry["valueFrom"].is_null() => {}
            Some(entry) => {
                let was_ours = before.into_iter().flatten().any(|(known, value)| {
                    known == name && entry["value"] == value.as_str() && entry["valueFrom"].is_null()
                });
                if !was_ours {
                    return Err(Rule::ForeignKms { variable: (*name).into(), place: "spec.env" });
                }
                entry["value"] = value.as_str().into();
                changed = true;
            }
        }
    }
    if changed {
        write.insert("env".into(), Value::Array(entries));
    }
    Ok(())
}

/// The configuration Secret wins over `spec.env` inside MinIO, so what it says must not differ.
fn shadowed(config_env: Option<&str>, ours: &[(&'static str, String)]) -> Result<(), Rule> {
    for (name, value) in exported(config_env) {
        let same = ours.iter().any(|(known, wanted)| *known == name && wanted == value);
        if name.starts_with("MINIO_KMS_") && !ALLOWED.contains(&name) && !same {
            return Err(Rule::ForeignKms {
                variable: name.into(),
                place: "config.env of its configuration Secret",
            });
        }
    }
    Ok(())
}

/// The variables that a configuration Secret sets: lines that begin with `export `.
fn exported(config_env: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    config_env.unwrap_or_default().lines().filter_map(|line| {
        let (name, value) = line.trim().strip_prefix("export ")?.split_once('=')?;
        Some((name.trim(), value.trim().trim_matches(['"', '\''])))
    })
}

fn list<'a>(spec: &'a Value, field: &str) -> &'a [Value] {
    spec[field].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;

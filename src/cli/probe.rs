//! Configuration files without the commands that read them: for fuzzing. Nothing is opened and nothing is written.

use serde_json::{Value, json};

use std::path::Path;

use super::{
    init_config,
    server_access::{Api, Wanted},
    server_config::{self, Flags, Resolved},
    server_stateless_config::{self, Stateless},
    settings::Settings,
};
use crate::{crypto::Layout, service::bootstrap::Plan};

/// What `kes init` would make of the text of an `init.yml` with an empty environment.
///
/// # Errors
/// What a person is told.
pub fn init_config(text: &str) -> Result<Plan, String> {
    init_config::parse(text, &|_| None).map(|config| config.plan).map_err(|failure| failure.to_string())
}

/// What `kes server` would make of the text of a `config.yml`, as a configuration that says everything.
///
/// # Errors
/// What a person is told.
pub fn server_config(text: &str) -> Result<Value, String> {
    let resolved = server_config::parse(text)
        .and_then(|config| server_config::resolve(Flags::default(), Some(config), Settings::default()))
        .map_err(|failure| failure.to_string())?;
    let Resolved {
        address,
        health,
        key,
        certificate,
        unseal,
        await_bootstrap,
        audit,
        audit_file,
        generation,
        layout,
        cached_keys,
        // a secret is not among what is told
        password: _,
        wanted,
    } = resolved;
    Ok(json!({
        "version": "v1",
        "address": address.to_string(),
        "health": health.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        "bootstrap": if await_bootstrap.is_some() { "await" } else { "never" },
        "system": { "admin": { "identity": await_bootstrap } },
        "tls": tls(Some(&key), Some(&certificate), &wanted),
        "api": api(&wanted),
        "unseal": unseal,
        "log": { "audit": if audit { "on" } else { "off" }, "audit_file": audit_file },
        "compatibility": generation,
        "cache": { "keys": cached_keys },
        "ciphertext": match layout {
            Layout::Raw => "raw",
            Layout::MessagePack => "message-pack",
        },
    }))
}

/// What `kes server --config` without a data directory would make of the text of a `config.yml` of stateless KES with an
/// empty environment, as a configuration that says everything.
///
/// # Errors
/// What a person is told.
pub fn stateless_config(text: &str) -> Result<Value, String> {
    let config = server_stateless_config::parse(text, &|_| None).map_err(|failure| failure.to_string())?;
    let Stateless {
        address,
        health,
        key,
        certificate,
        password: _,
        admin,
        policies,
        keys,
        directory,
        unseal,
        audit,
        generation,
        wanted,
    } = config;
    let policies: serde_json::Map<_, _> = policies
        .into_iter()
        .map(|(name, policy, identities)| {
            let policy = json!({
                "allow": policy.allow,
                "deny": policy.deny,
                "match": policy.matching,
                "identities": identities,
            });
            (name.to_string(), policy)
        })
        .collect();
    let keys: Vec<_> = keys.iter().map(|name| json!({ "name": name })).collect();
    Ok(json!({
        "version": "v1",
        "address": address.to_string(),
        "health": health.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        "admin": { "identity": admin },
        "tls": tls(key.as_deref(), certificate.as_deref(), &wanted),
        "policy": policies,
        "keys": keys,
        "keystore": { "fs": { "path": directory } },
        "unseal": unseal,
        "log": { "audit": if audit { "on" } else { "off" } },
        "api": api(&wanted),
        "compatibility": generation,
    }))
}

fn tls(key: Option<&Path>, certificate: Option<&Path>, wanted: &Wanted) -> Value {
    json!({
        "key": key,
        "cert": certificate,
        "auth": if wanted.verify { "on" } else { "off" },
        "ca": wanted.authorities,
        "proxy": { "identities": wanted.proxies, "header": { "cert": wanted.header } },
    })
}

fn api(wanted: &Wanted) -> Value {
    let routes = wanted.routes.iter();
    let route = |(path, Api { skip_auth, timeout }): (&String, &Api)| {
        (path.clone(), json!({ "skip_auth": skip_auth, "timeout": timeout }))
    };
    routes.map(route).collect::<serde_json::Map<_, _>>().into()
}

//! Configuration files without the commands that read them: for fuzzing. Nothing is opened and nothing is written.

use serde_json::{Value, json};

use super::{
    init_config,
    server_config::{self, Flags, Resolved},
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
    } = resolved;
    Ok(json!({
        "version": "v1",
        "address": address.to_string(),
        "health": health.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        "bootstrap": if await_bootstrap.is_some() { "await" } else { "never" },
        "system": { "admin": { "identity": await_bootstrap } },
        "tls": { "key": key, "cert": certificate },
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

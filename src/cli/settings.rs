//! What `kes server` is told besides its flags: written by `kes init` into the data directory, or read from a file.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::crypto::{
    SealProvider,
    seal::{Environment, File},
};

/// The variable that holds the unseal key unless another is named.
pub(super) const DEFAULT_UNSEAL_VARIABLE: &str = "KES_UNSEAL_KEY";

/// What `kes init` keeps in the manifest of the data directory.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Settings {
    /// Where the key API listens, e.g. `0.0.0.0:7373` or `:7373`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) address: String,
    /// The server's key pair.
    #[serde(default)]
    pub(super) tls: Tls,
    /// Where the unseal key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unseal: Option<Unseal>,
}

/// The server's key pair.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Tls {
    /// PEM file with the private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<PathBuf>,
    /// PEM file with the certificate chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cert: Option<PathBuf>,
    /// Whether chains of client certificates are verified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) verify: bool,
}

/// Where the unseal key is: exactly one of both.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Unseal {
    /// In an environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) environment: Option<UnsealEnvironment>,
    /// In a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<UnsealFile>,
    /// Where it was before, while it is being changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Box<Self>>,
}

/// An environment variable.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct UnsealEnvironment {
    /// Its name.
    pub(super) name: String,
}

/// A file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct UnsealFile {
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Unseal {
    /// The provider and how `kes init` names it: label and value.
    pub(super) fn provider(&self) -> Result<(Arc<dyn SealProvider>, &'static str, String), Failure> {
        match self {
            Self { environment: Some(UnsealEnvironment { name }), file: None, .. } if !name.is_empty() => {
                Ok((Arc::new(Environment::new(name)), "Environment", name.clone()))
            }
            Self { environment: None, file: Some(UnsealFile { path }), .. } => {
                Ok((Arc::new(File::new(path)), "File", path.display().to_string()))
            }
            Self { environment: Some(_), file: Some(_), .. } => Err(Failure::new(
                "invalid configuration: 'unseal' names both an environment variable and a file",
                "Keep one of 'unseal.environment' and 'unseal.file'.",
            )),
            Self { .. } => Err(Failure::new(
                "invalid configuration: no unseal key specified",
                format!(
                    "Name the variable that holds it: 'unseal: {{environment: {{name: {DEFAULT_UNSEAL_VARIABLE}}}}}'."
                ),
            )),
        }
    }

    /// The conventional variable.
    pub(super) fn conventional() -> Self {
        let name = DEFAULT_UNSEAL_VARIABLE.into();
        Self { environment: Some(UnsealEnvironment { name }), file: None, previous: None }
    }
}

/// Parses `IP:port` or, as Go allows, `:port`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| format!("'{text}' is no address such as '0.0.0.0:7373' or ':7373'"))
}

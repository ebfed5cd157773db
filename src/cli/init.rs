//! `kes init`: makes the data directory of a stand-alone server (contract §4.2).

use std::path::{Path, PathBuf};

use clap::ValueHint;

use super::{
    failure::Failure,
    init_config::{self, InitConfig},
    terminal::{Color, Format, json},
};
use crate::{
    crypto::{SealError, SecretKey},
    pki::ServerCertificate,
    service::bootstrap,
    store::{Directory, DirectoryError},
    world::System,
};

/// Make the data directory of a server
#[derive(clap::Args)]
#[command(after_help = "\
The configuration names the server's certificate, the system admin, the variable or file with the unseal key, and the \
first enclaves with their admins and policies:

  version: v1
  address: 0.0.0.0:7373
  system: {admin: {identity: ${SYSTEM_ADMIN}}}
  tls: {key: private.key, cert: public.crt}
  unseal: {environment: {name: KES_UNSEAL_KEY}}
  enclave:
    default:
      admin: {identity: ${ENCLAVE_ADMIN}}
      policy:
        my-app:
          allow: [/v1/key/generate/my-key, /v1/key/decrypt/my-key]
          identities: [${MY_APP}]

Example:
  export KES_UNSEAL_KEY=$(head -c 32 /dev/urandom | base64)
  kes init --config init.yml data")]
pub(super) struct Init {
    /// Configuration of the new server, in YAML
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// Remove the data directory at PATH first: every key in it is lost
    #[arg(short, long)]
    force: bool,
    /// Directory to make
    #[arg(value_hint = ValueHint::DirPath)]
    path: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

impl Init {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { config, force, path, format } = self;
        let Some(path) = path else {
            return Err(Failure::new(
                "no path specified. See 'kes init --help'",
                "Name the directory to make.",
            ));
        };
        let config = config.ok_or_else(|| {
            Failure::new("no configuration specified", "Give one with 'kes init --config init.yml PATH'.")
        })?;
        if !force {
            refuse_existing(&path)?;
        }
        let text = std::fs::read_to_string(&config)
            .map_err(|error| Failure::read("configuration", &config, &error))?;
        let InitConfig { key, certificate, password, unseal, plan } =
            init_config::parse(&text, &|name| std::env::var_os(name))
                .map_err(|failure| failure.about(format!("'{}'", config.display())))?;
        ServerCertificate::load_under(&certificate, &key, password.as_ref())?;
        let (seal, kind, place) = unseal.provider()?;
        // a key that cannot be read must not cost an old directory: with --force that would be gone first
        seal.wrap(&SecretKey::generate(&System), "", &System).map_err(no_unseal_key)?;
        if force {
            remove(&path)?;
        }
        let admin = plan.system_admin.clone();
        bootstrap::init(&path, seal, plan).await?;
        if format.json {
            return Ok(to_json(&key, &certificate, admin.as_str(), (kind, &place), &path));
        }
        Ok(summary(format.color, &key, &certificate, admin.as_str(), (kind, &place), &path))
    }
}

/// For a new server the advice is another than for one that exists.
fn no_unseal_key(error: SealError) -> Failure {
    match error {
        SealError::VariableMissing(name) => Failure::new(
            format!("failed to read the unseal key: sys: unseal env. variable '{name}' not found"),
            format!(
                "Make one with 'export {name}=$(head -c 32 /dev/urandom | base64)' and keep it: without it no key can be read."
            ),
        ),
        error => error.into(),
    }
}

fn refuse_existing(path: &Path) -> Result<(), Failure> {
    let next = "Choose another path: '--force' would remove every key in it.";
    match Directory::check_absent(path) {
        Ok(()) => Ok(()),
        Err(DirectoryError::Exists(_) | DirectoryError::Incomplete(_)) => {
            let kind = if path.is_dir() { "" } else { " and is not a directory" };
            Err(Failure::new(
                format!("'{}' already exists{kind}. Use 'kes init --force'", path.display()),
                next,
            ))
        }
        Err(error) => Err(error.into()),
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if found.is_dir() => {
            refuse_foreign(path)?;
            // a running server would go on writing into files that nobody finds again
            drop(Directory::open(path).map_or_else(in_use, |directory| Ok(Some(directory)))?);
            std::fs::remove_dir_all(path)
        }
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.map_err(|error| {
        Failure::new(
            format!("failed to remove '{}': {error}", path.display()),
            "Check its owner and its permissions.",
        )
    })
}

/// A slip such as `kes init --force .` must not remove somebody's files.
fn refuse_foreign(path: &Path) -> Result<(), Failure> {
    // `.init` is what KES v0.22.3 leaves in its data directories
    let ours = Directory::is_initialised(path) || path.join(".init").exists();
    let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if ours || empty {
        return Ok(());
    }
    Err(Failure::new(
        format!("'{}' is not a data directory, so it is not removed", path.display()),
        "Choose another path, or remove it yourself if nothing in it is needed.",
    ))
}

fn in_use(error: DirectoryError) -> Result<Option<Directory>, Failure> {
    match error {
        DirectoryError::InUse(_) => Err(error.into()),
        _ => Ok(None),
    }
}

/// The same as the summary, for programs.
fn to_json(key: &Path, cert: &Path, admin: &str, unseal: (&str, &str), path: &Path) -> String {
    #[derive(serde::Serialize)]
    struct Json<'a> {
        version: &'static str,
        path: &'a Path,
        key: &'a Path,
        cert: &'a Path,
        system_admin: &'a str,
        #[serde(flatten)]
        unseal: std::collections::BTreeMap<String, &'a str>,
    }
    let unseal = [(format!("unseal_{}", unseal.0.to_ascii_lowercase()), unseal.1)].into();
    json(&Json { version: env!("CARGO_PKG_VERSION"), path, key, cert, system_admin: admin, unseal }) + "\n"
}

/// The blocks that v0.22.3 prints.
fn summary(
    color: Color,
    key: &Path,
    certificate: &Path,
    admin: &str,
    unseal: (&str, &str),
    path: &Path,
) -> String {
    let line = |label: &str, value: &str| format!("  · {:<14}{value}\n", format!("{label}:"));
    let block = |title: &str, lines: &str| format!("{}\n{lines}\n", color.bold(title));
    let mut text = block(
        "TLS:",
        &(line("Private Key", &key.display().to_string())
            + &line("Certificate", &certificate.display().to_string())),
    );
    text += &block("System:", &line("Identity", admin));
    text += &block("Unseal:", &line(unseal.0, unseal.1));
    let message = format!("Initialized KES {} in {}", env!("CARGO_PKG_VERSION"), path.display());
    let edge = "─".repeat(message.chars().count() + 2);
    text + &format!("╭{edge}╮\n│ {message} │\n╰{edge}╯\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_blocks_of_kes() {
        let (key, certificate) = (Path::new("private.key"), Path::new("public.crt"));
        let unseal = ("Environment", "KES_UNSEAL_KEY");
        let text = summary(Color::Never, key, certificate, "aa", unseal, Path::new("data"));
        insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "0.0.0"), @r"
        TLS:
          · Private Key:  private.key
          · Certificate:  public.crt

        System:
          · Identity:     aa

        Unseal:
          · Environment:  KES_UNSEAL_KEY

        ╭───────────────────────────────╮
        │ Initialized KES 0.0.0 in data │
        ╰───────────────────────────────╯
        ");
    }
}

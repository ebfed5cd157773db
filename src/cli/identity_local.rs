//! `kes identity new` and `of`: keys and certificates made and read on this machine (contract §2.3, §2.4).
//!
//! Where the two generations of KES contradict each other, the form of v0.22.3 wins as soon as a subject is given: files
//! with default names, and no output but on a terminal. Without a subject it is the later form: an API key is printed.

use std::{
    fs::OpenOptions,
    io::Write,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueHint;
use serde::Serialize;

use super::{
    connect, duration,
    failure::Failure,
    terminal::{Json, is_terminal, json},
};
use crate::{
    api::Identity,
    pki::{ApiKey, PemPair, SelfSigned, Usage, identity_of_pem, self_signed_for},
    world::System,
};

const DEFAULT_KEY: &str = "private.key";
const DEFAULT_CERTIFICATE: &str = "public.crt";
const DEFAULT_EXPIRY: Duration = Duration::from_secs(720 * 3600);

/// Create a key pair, or an API key
#[derive(clap::Args)]
#[command(after_help = "\
With SUBJECT, --key or --cert two files are written; without any of them an API key is printed. A server does not look at \
names, addresses and expiry of its clients: only the key counts.

Examples:
  kes identity new
  kes identity new --ip 127.0.0.1 --dns localhost my-server
  kes identity new --key app.key --cert app.crt --expiry 8760h my-app")]
pub(super) struct New {
    /// Common name of the certificate
    subject: Option<String>,
    /// File for the private key [default: private.key]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,
    /// File for the certificate [default: public.crt]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,
    /// Overwrite existing files: the identity of an overwritten private key is lost
    #[arg(short, long)]
    force: bool,
    /// Addresses that the certificate is valid for: several times, or a list with commas
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    ip: Vec<IpAddr>,
    /// Host names that the certificate is valid for: several times, or a list with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    dns: Vec<String>,
    /// How long the certificate is valid, e.g. '720h' or '30d' [default: 720h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expiry: Option<Duration>,
    /// Encrypt the private key with a password, which is asked for unless MINIO_KMS_KES_KEY_PASSWORD has it
    #[arg(long)]
    encrypt: bool,
    #[command(flatten)]
    output: Json,
}

/// What was made, for programs.
#[derive(Serialize)]
struct Made<'a> {
    identity: &'a Identity,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cert: Option<&'a Path>,
}

impl New {
    pub(super) fn run(self) -> Result<String, Failure> {
        let Self { subject, key, cert, force, ip, dns, expiry, encrypt, output } = self;
        let api_key = ApiKey::generate(&System)?;
        if subject.is_none() && key.is_none() && cert.is_none() {
            if force || encrypt || !ip.is_empty() || !dns.is_empty() || expiry.is_some() {
                return Err(Failure::usage(
                    "an API key has no files, no names and no expiry, but a flag asks for one of them",
                    "Give a subject to make a certificate: 'kes identity new --ip 127.0.0.1 SUBJECT'.",
                ));
            }
            return Ok(if output.json { to_json(&api_key, true, None) } else { explain(&api_key, None) });
        }
        let key = key.unwrap_or_else(|| DEFAULT_KEY.into());
        let cert = cert.unwrap_or_else(|| DEFAULT_CERTIFICATE.into());
        let content = SelfSigned {
            common_name: subject.clone().unwrap_or_else(|| api_key.identity().to_string()),
            dns,
            ip,
            validity: expiry.unwrap_or(DEFAULT_EXPIRY),
            usage: Usage::Both,
        };
        let mut pair = self_signed_for(&api_key, &content)?;
        if encrypt {
            pair = pair.encrypted(&connect::new_password()?)?;
        }
        write_pair(&pair, &key, &cert, force)?;
        if output.json {
            return Ok(to_json(&api_key, subject.is_none(), Some((&key, &cert))));
        }
        Ok(match subject {
            None => explain(&api_key, Some((&key, &cert))),
            Some(_) if is_terminal() => format!(
                "\n  Private key:  {}\n  Certificate:  {}\n  Identity:     {}\n",
                key.display(),
                cert.display(),
                api_key.identity()
            ),
            Some(_) => String::new(),
        })
    }
}

/// With the secret only where the text shows it too.
fn to_json(key: &ApiKey, with_key: bool, files: Option<(&Path, &Path)>) -> String {
    let text = with_key.then(|| key.to_text());
    let made = Made {
        identity: key.identity(),
        api_key: text.as_ref().map(|text| text.as_str()),
        key: files.map(|(key, _)| key),
        cert: files.map(|(_, certificate)| certificate),
    };
    json(&made) + "\n"
}

/// `kes identity` alone.
pub(super) fn api_key(as_json: bool) -> Result<String, Failure> {
    let key = ApiKey::generate(&System)?;
    if as_json {
        return Ok(to_json(&key, true, None));
    }
    Ok(if is_terminal() { explain(&key, None) } else { key.to_text().to_string() })
}

/// `kes identity KEY|FILE`: the identity of what names one, the API key of a private key.
pub(super) fn translate(subject: &str, as_json: bool) -> Result<String, Failure> {
    if !ApiKey::looks_like(subject) {
        let path = Path::new(subject);
        let text = zeroize::Zeroizing::new(
            std::fs::read(path).map_err(|error| Failure::read("file", path, &error))?,
        );
        let marker = b"PRIVATE KEY-----";
        if text.windows(marker.len()).any(|window| window == marker) {
            let key =
                ApiKey::from_private_key_pem(&text).map_err(|error| Failure::from(error).about(subject))?;
            return Ok(if as_json { to_json(&key, true, None) } else { end_line(&key.to_text()) });
        }
    }
    if as_json {
        return of(&[subject.to_owned()], true);
    }
    Ok(end_line(identity_of(subject)?.as_str()))
}

/// `kes identity of`: one line for one, a labelled line for each of several.
pub(super) fn of(subjects: &[String], as_json: bool) -> Result<String, Failure> {
    if let ([subject], false) = (subjects, as_json) {
        let identity = identity_of(subject)?;
        return Ok(if is_terminal() { format!("\n  Identity:  {identity}\n") } else { identity.to_string() });
    }
    #[derive(Serialize)]
    struct Line<'a> {
        name: &'a str,
        identity: Identity,
    }
    let mut text = String::new();
    for subject in subjects {
        let identity = identity_of(subject)?;
        let name = if ApiKey::looks_like(subject) { "API key" } else { subject };
        text += &if is_terminal() && !as_json {
            format!("{name}: {identity}\n")
        } else {
            json(&Line { name, identity }) + "\n"
        };
    }
    Ok(text)
}

fn identity_of(subject: &str) -> Result<Identity, Failure> {
    if ApiKey::looks_like(subject) {
        return Ok(ApiKey::parse(subject)?.identity().clone());
    }
    let path = Path::new(subject);
    let text = std::fs::read(path).map_err(|error| Failure::read("certificate", path, &error))?;
    identity_of_pem(&text).map_err(|error| Failure::from(error).about(format!("'{subject}'")))
}

/// Writes both files or, when one of them is in the way, none.
fn write_pair(pair: &PemPair, key: &Path, certificate: &Path, force: bool) -> Result<(), Failure> {
    for (what, path) in [("private key", key), ("certificate", certificate)] {
        if !force && path.symlink_metadata().is_ok() {
            return Err(Failure::new(
                format!("{what} already exists. Use --force to overwrite it"),
                format!("'{}' is in the way: a lost private key cannot be made again.", path.display()),
            ));
        }
    }
    write(key, pair.key.as_bytes(), 0o600, force)
        .map_err(|error| Failure::write("private key", key, &error))?;
    write(certificate, pair.certificate.as_bytes(), 0o644, force)
        .map_err(|error| Failure::write("certificate", certificate, &error))
}

/// Writes and syncs a file; without `force` only where none is. What is in the way is replaced by a new file, not written
/// into: it may be somebody else's, or a link to such a one, and whoever owns it would read the key.
pub(super) fn write(path: &Path, text: &[u8], mode: u32, force: bool) -> std::io::Result<()> {
    let in_the_way = path.symlink_metadata().ok().filter(|_| force);
    match in_the_way.map(|found| found.file_type()) {
        Some(kind) if kind.is_file() || kind.is_symlink() => {
            let mut name = std::ffi::OsString::from(".");
            name.push(path.file_name().unwrap_or_default());
            name.push(format!(".{}", std::process::id()));
            let new = path.with_file_name(name);
            let written = create(&new, text, mode).and_then(|()| std::fs::rename(&new, path));
            if written.is_err() {
                let _ = std::fs::remove_file(&new);
            }
            written
        }
        // a terminal or a pipe
        Some(_) => std::fs::write(path, text),
        None => create(path, text, mode),
    }
}

fn create(path: &Path, text: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).mode(mode).create_new(true).open(path)?;
    // whatever the process's mask takes away
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(text)?;
    file.sync_all()
}

fn end_line(text: &str) -> String {
    if is_terminal() { format!("{text}\n") } else { text.into() }
}

/// What a person needs to know about a new API key; the lines with the values are the later KES's, for scripts.
fn explain(key: &ApiKey, files: Option<(&Path, &Path)>) -> String {
    let mut text = format!(
        "\nYour API key:\n\n   {}\n\nIt is shown only once. Whoever has it can act as you: keep it secret.\n",
        &**key.to_text()
    );
    text += &format!(
        "\nYour identity:\n\n   {}\n\nIt is not secret; policies are assigned to it. Compute it again with\n\n",
        key.identity()
    );
    match files {
        None => text += &format!("   kes identity of {}\n", &**key.to_text()),
        Some((key, certificate)) => {
            text += &format!("   kes identity of {}\n", certificate.display());
            text += &format!(
                "\nPrivate key and certificate:\n\n   {}\n   {}\n",
                key.display(),
                certificate.display()
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overwritten_key_is_a_new_file_and_not_what_a_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, key) = (dir.path().join("theirs"), dir.path().join("private.key"));
        std::fs::write(&theirs, "old").unwrap();
        std::os::unix::fs::symlink(&theirs, &key).unwrap();
        assert!(write(&key, b"secret", 0o600, false).is_err(), "a link is in the way");
        write(&key, b"secret", 0o600, true).unwrap();
        assert_eq!(std::fs::read(&theirs).unwrap(), b"old");
        let found = key.symlink_metadata().unwrap();
        assert!(found.is_file());
        assert_eq!(found.permissions().mode() & 0o777, 0o600);

        let open = std::fs::File::open(&key).unwrap();
        write(&key, b"another", 0o600, true).unwrap();
        assert_eq!(std::io::read_to_string(open).unwrap(), "secret", "who had it open reads the old one");
        assert_eq!(std::fs::read(&key).unwrap(), b"another");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }
}

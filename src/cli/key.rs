//! `kes key`: create, import, info, ls, rm, dek, encrypt, decrypt, hmac.

use std::io::Write as _;

use super::{
    connect::Within,
    failure::Failure,
    input,
    key_crypt::{Decrypt, Dek, Encrypt, Hmac, base64},
    progress::{self, each},
    terminal::{Format, Report, date, json, nothing, row},
};
use crate::{
    api::{
        KeyName,
        message::{ImportKey, KeyInfo},
    },
    client::{Client, Error},
};

/// Create and see keys, and encrypt with them
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Create keys of fresh random bytes; a key that exists is never overwritten
    #[command(after_help = "Example:\n  kes key create minio-default-key")]
    Create {
        /// Names of the new keys
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
    /// Create a key from key material that you have
    #[command(after_help = "Example:\n  head -c 32 /dev/urandom | base64 | kes key import my-key -")]
    Import {
        /// Name of the new key
        name: String,
        /// 32 bytes in base64; '-' reads them from standard input, where other users do not see them
        key: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
    /// Show what is known about a key; never the key itself
    Info {
        /// Name of the key
        name: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// List keys by name
    #[command(after_help = "Examples:\n  kes key ls\n  kes key ls 'tenant-*'")]
    Ls {
        /// Which names: '*' stands for any run of characters, and a pattern without '*' is a prefix
        #[arg(default_value = "*")]
        pattern: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// Delete keys for good: what they encrypted can never be read again
    Rm {
        /// Names of the keys
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
    /// Make a data key: 32 random bytes, in clear and encrypted
    Dek(Dek),
    /// Encrypt a message of up to 700 KiB
    Encrypt(Encrypt),
    /// Decrypt a ciphertext
    Decrypt(Decrypt),
    /// Compute the HMAC-SHA-256 of a message
    Hmac(Hmac),
}

impl Key {
    pub(super) async fn run(self) -> Result<String, Failure> {
        match self.verb {
            Verb::Create { name, within, report } => {
                let names = names(&name)?;
                let client = within.client()?;
                each("created", &names, report.json, async |Named { name }| {
                    client.create_key(name).await.map_err(about("create", name))
                })
                .await
            }
            Verb::Import { name, key, within, report } => {
                let key = input::argument("key", key)?;
                import(&name, &key, &within, &report).await
            }
            Verb::Info { name, within, format } => {
                let name = key_name(&name)?;
                let key = within.client()?.describe_key(&name).await.map_err(about("describe", &name))?;
                Ok(info(&key, &format))
            }
            Verb::Ls { pattern, within, format } => list(&within.client()?, &pattern, &format).await,
            Verb::Rm { name, within, report } => {
                let names = names(&name)?;
                let client = within.client()?;
                each("deleted", &names, report.json, async |Named { name }| {
                    client.delete_key(name).await.map_err(about("delete", name))
                })
                .await
            }
            Verb::Dek(dek) => dek.run().await,
            Verb::Encrypt(encrypt) => encrypt.run().await,
            Verb::Decrypt(decrypt) => decrypt.run().await,
            Verb::Hmac(hmac) => hmac.run().await,
        }
    }
}

async fn import(name: &str, key: &[u8], within: &Within, report: &Report) -> Result<String, Failure> {
    let name = key_name(name)?;
    let bytes = base64("key", key.trim_ascii())?;
    if bytes.len() != 32 {
        return Err(Failure::new(
            format!("invalid key: it has {} bytes instead of 32", bytes.len()),
            "Give 32 random bytes in base64, for example from 'head -c 32 /dev/urandom | base64'.",
        ));
    }
    let body = ImportKey { bytes: bytes.to_vec().into(), ..ImportKey::default() };
    let client = within.client()?;
    each("imported", &[Named { name }], report.json, async |Named { name }| {
        client.import_key(name, &body).await.map_err(about("import", name))
    })
    .await
}

fn info(key: &KeyInfo, format: &Format) -> String {
    if format.json {
        return json(key) + "\n";
    }
    let color = format.color;
    let mut text = row(color, "Name", key.name.as_str());
    for (label, value) in [("ID", &key.id), ("Algorithm", &key.algorithm)] {
        if !value.is_empty() {
            text += &row(color, label, value);
        }
    }
    text += &row(color, "Created At", &date(key.created_at));
    if !key.created_by.is_empty() {
        text += &row(color, "Created By", &key.created_by);
    }
    text
}

/// `kes key ls --json` of v0.22.3 writes its fields in capitals.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    name: &'a KeyName,
    #[serde(rename = "ID")]
    id: &'a str,
    algorithm: &'a str,
    created_at: jiff::Timestamp,
    created_by: &'a str,
}

/// Keys of a listing that are sorted before they are shown. Longer listings are shown as they come: by name from our own
/// server, in no order from KES.
const SORTED: usize = 10_000;

/// Prints while the listing comes: it may be longer than memory.
async fn list(client: &Client, pattern: &str, format: &Format) -> Result<String, Failure> {
    let out = std::io::BufWriter::with_capacity(64 << 10, std::io::stdout());
    let mut out = Listing { out, format, headed: false };
    let mut lines = client.stream_keys(pattern).await?;
    let mut first = Vec::new();
    loop {
        let key = match lines.next().await {
            Ok(Some(key)) => key,
            Ok(None) => break,
            // KES of 2024 and later answers in another shape, and with at most 1024 names
            Err(Error::Protocol { .. }) if first.is_empty() && !out.headed => {
                first = client.list_keys(pattern).await?;
                break;
            }
            Err(error) => return Err(error.into()),
        };
        if !out.headed && first.len() < SORTED {
            first.push(key);
            continue;
        }
        progress::silence();
        if !out.all(std::mem::take(&mut first)) || !out.one(&key) {
            return Ok(String::new());
        }
    }
    progress::silence();
    // a closed pipe is the reader's decision
    let _ = out.all(first) && out.out.flush().is_ok();
    Ok(if out.headed || format.json { "" } else { nothing() }.into())
}

struct Listing<'a, W> {
    out: W,
    format: &'a Format,
    headed: bool,
}

impl<W: std::io::Write> Listing<'_, W> {
    /// `false` when nobody reads any more.
    fn all(&mut self, mut keys: Vec<KeyInfo>) -> bool {
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        keys.iter().all(|key| self.one(key))
    }

    fn one(&mut self, key: &KeyInfo) -> bool {
        let KeyInfo { name, id, algorithm, created_at, created_by } = key;
        let mut text = String::new();
        if self.format.json {
            text += &json(&Line { name, id, algorithm, created_at: *created_at, created_by });
            text.push('\n');
        } else {
            let line = |date: &str, name: &str| format!("{date:<19} {name}");
            if !self.headed {
                text += &(self.format.color.bold(&line("Date Created", "Key")) + "\n");
            }
            text += &(line(&date(*created_at), name.as_str()) + "\n");
        }
        self.headed = true;
        self.out.write_all(text.as_bytes()).is_ok()
    }
}

/// What is said of each key with `--json`.
#[derive(serde::Serialize)]
struct Named {
    name: KeyName,
}

pub(super) fn key_name(name: &str) -> Result<KeyName, Failure> {
    KeyName::new(name).map_err(|error| Failure::from(error).about(format!("key '{name}'")))
}

fn names(names: &[String]) -> Result<Vec<Named>, Failure> {
    names.iter().map(|name| Ok(Named { name: key_name(name)? })).collect()
}

pub(super) fn about(verb: &'static str, name: &KeyName) -> impl FnOnce(Error) -> Failure {
    move |error| {
        let refused = error.api().is_some();
        let failure = Failure::from(error);
        if refused { failure.about(format!("failed to {verb} key '{name}'")) } else { failure }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::terminal::Color, *};

    fn key(name: &str) -> KeyInfo {
        KeyInfo {
            name: KeyName::new(name).unwrap(),
            id: "630dcd2966c4336691125448bbb25b4f".into(),
            algorithm: "AES256-GCM_SHA256".into(),
            created_at: "2026-11-21T22:34:47.5Z".parse().unwrap(),
            created_by: "3ecf".into(),
        }
    }

    const PLAIN: Format = Format { json: false, color: Color::Never };
    const JSON: Format = Format { json: true, color: Color::Never };

    #[test]
    fn a_key_is_shown_in_the_rows_of_kes() {
        insta::assert_snapshot!(info(&key("app-1"), &PLAIN), @r"
        Name       app-1
        ID         630dcd2966c4336691125448bbb25b4f
        Algorithm  AES256-GCM_SHA256
        Created At 2026-11-21 22:34:47
        Created By 3ecf
        ");
        insta::assert_snapshot!(info(&key("app-1"), &JSON), @r#"{"name":"app-1","id":"630dcd2966c4336691125448bbb25b4f","algorithm":"AES256-GCM_SHA256","created_at":"2026-11-21T22:34:47.5Z","created_by":"3ecf"}"#);
    }

    fn listed(keys: Vec<KeyInfo>, format: &Format) -> String {
        let mut listing = Listing { out: Vec::new(), format, headed: false };
        assert!(listing.all(keys));
        String::from_utf8(listing.out).unwrap()
    }

    #[test]
    fn keys_are_listed_by_name_as_kes_lists_them() {
        insta::assert_snapshot!(listed(vec![key("b"), key("a")], &PLAIN), @r"
        Date Created        Key
        2026-11-21 22:34:47 a
        2026-11-21 22:34:47 b
        ");
        insta::assert_snapshot!(listed(vec![key("a")], &JSON), @r#"{"Name":"a","ID":"630dcd2966c4336691125448bbb25b4f","Algorithm":"AES256-GCM_SHA256","CreatedAt":"2026-11-21T22:34:47.5Z","CreatedBy":"3ecf"}"#);
        assert_eq!(listed(vec![], &PLAIN), "");
    }

    #[test]
    fn a_listing_ends_when_nobody_reads_it() {
        struct Closed;
        impl std::io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        assert!(!Listing { out: Closed, format: &PLAIN, headed: false }.all(vec![key("a")]));
    }
}

//! `kes key`: create, import, info, ls, rm, dek, encrypt, decrypt.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    connect::Within,
    failure::Failure,
    terminal::{Color, date, is_terminal, json, row, table},
};
use crate::api::{
    KeyName,
    message::{Base64, Ciphertext, ImportKey, KeyInfo, Plaintext},
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
    /// Create keys
    Create {
        /// Names of the new keys
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        within: Within,
    },
    /// Create a key from key material
    Import {
        /// Name of the new key
        name: String,
        /// 32 bytes in base64; '-' reads them from standard input
        key: String,
        #[command(flatten)]
        within: Within,
    },
    /// Show what is known about a key
    Info {
        /// Name of the key
        name: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// List keys
    Ls {
        /// Pattern of names
        #[arg(default_value = "*")]
        pattern: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// Delete keys; what they encrypted is lost
    Rm {
        /// Names of the keys
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        within: Within,
    },
    /// Make a data key, in clear and encrypted
    Dek {
        /// Name of the key
        name: String,
        /// Bytes in base64 that the ciphertext is bound to
        context: Option<String>,
        #[command(flatten)]
        within: Within,
    },
    /// Encrypt a message
    Encrypt {
        /// Name of the key
        name: String,
        /// The message, as text
        message: String,
        /// Bytes in base64 that the ciphertext is bound to
        context: Option<String>,
        #[command(flatten)]
        within: Within,
    },
    /// Decrypt a ciphertext
    Decrypt {
        /// Name of the key
        name: String,
        /// The ciphertext, in base64
        ciphertext: String,
        /// Bytes in base64 that the ciphertext is bound to
        context: Option<String>,
        #[command(flatten)]
        within: Within,
    },
}

/// How a result is printed.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Format {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// When to use colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(super) color: Color,
}

impl Key {
    pub(super) async fn run(self) -> Result<String, Failure> {
        match self.verb {
            Verb::Create { name, within } => {
                let names = names(&name)?;
                let client = within.client()?;
                for name in names {
                    client.create_key(&name).await.map_err(about("create", &name))?;
                }
                Ok(String::new())
            }
            Verb::Import { name, key, within } => import(&name, key, &within).await,
            Verb::Info { name, within, format } => {
                let name = key_name(&name)?;
                let key = within.client()?.describe_key(&name).await.map_err(about("describe", &name))?;
                Ok(info(&key, &format))
            }
            Verb::Ls { pattern, within, format } => {
                Ok(list(within.client()?.list_keys(&pattern).await?, &format))
            }
            Verb::Rm { name, within } => {
                let names = names(&name)?;
                let client = within.client()?;
                for name in names {
                    client.delete_key(&name).await.map_err(about("delete", &name))?;
                }
                Ok(String::new())
            }
            Verb::Dek { name, context, within } => {
                let (name, context) = (key_name(&name)?, context_of(context.as_deref())?);
                let key = within.client()?.generate(&name, &context).await.map_err(about("use", &name))?;
                Ok(show(&key, &[("plaintext", &key.plaintext), ("ciphertext", &key.ciphertext)]))
            }
            Verb::Encrypt { name, message, context, within } => {
                let (name, context) = (key_name(&name)?, context_of(context.as_deref())?);
                let client = within.client()?;
                let ciphertext =
                    client.encrypt(&name, message.as_bytes(), &context).await.map_err(about("use", &name))?;
                let reply = Ciphertext { ciphertext };
                Ok(show(&reply, &[("ciphertext", &reply.ciphertext)]))
            }
            Verb::Decrypt { name, ciphertext, context, within } => {
                let (name, context) = (key_name(&name)?, context_of(context.as_deref())?);
                let ciphertext = base64("ciphertext", &ciphertext)?;
                let client = within.client()?;
                let plaintext =
                    client.decrypt(&name, &ciphertext, &context).await.map_err(about("use", &name))?;
                let reply = Plaintext { plaintext };
                Ok(show(&reply, &[("plaintext", &reply.plaintext)]))
            }
        }
    }
}

async fn import(name: &str, key: String, within: &Within) -> Result<String, Failure> {
    let name = key_name(name)?;
    let mut key = Zeroizing::new(key);
    if *key == "-" {
        key.clear();
        std::io::Read::read_to_string(&mut std::io::stdin(), &mut key).map_err(|error| {
            Failure::new(format!("failed to read the key from standard input: {error}"), "")
        })?;
    }
    let bytes = base64("key", key.trim())?;
    if bytes.len() != 32 {
        return Err(Failure::new(
            format!("invalid key: it has {} bytes instead of 32", bytes.len()),
            "Give 32 random bytes in base64, for example from 'head -c 32 /dev/urandom | base64'.",
        ));
    }
    let body = ImportKey { bytes: bytes.into(), ..ImportKey::default() };
    within.client()?.import_key(&name, &body).await.map_err(about("import", &name))?;
    Ok(String::new())
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
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    name: &'a KeyName,
    #[serde(rename = "ID")]
    id: &'a str,
    algorithm: &'a str,
    created_at: jiff::Timestamp,
    created_by: &'a str,
}

fn list(mut keys: Vec<KeyInfo>, format: &Format) -> String {
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    if format.json {
        let lines = keys.iter().map(|key| {
            let KeyInfo { name, id, algorithm, created_at, created_by } = key;
            json(&Line { name, id, algorithm, created_at: *created_at, created_by }) + "\n"
        });
        return lines.collect();
    }
    let rows: Vec<_> = keys.iter().map(|key| vec![date(key.created_at), key.name.to_string()]).collect();
    table(format.color, &["Date Created", "Key"], &rows)
}

/// JSON without a newline for scripts, one labelled line each for people.
fn show(reply: &impl Serialize, fields: &[(&str, &Base64)]) -> String {
    if !is_terminal() {
        return json(reply);
    }
    let width = fields.iter().map(|(label, _)| label.len() + 1).max().unwrap_or(0);
    let lines = fields
        .iter()
        .map(|(label, value)| format!("{:<width$} {}\n", format!("{label}:"), STANDARD.encode(value)));
    std::iter::once("\n".to_owned()).chain(lines).collect()
}

fn key_name(name: &str) -> Result<KeyName, Failure> {
    KeyName::new(name).map_err(|error| Failure::from(error).about(format!("key '{name}'")))
}

fn names(names: &[String]) -> Result<Vec<KeyName>, Failure> {
    names.iter().map(|name| key_name(name)).collect()
}

fn about(verb: &'static str, name: &KeyName) -> impl FnOnce(crate::client::Error) -> Failure {
    move |error| {
        let refused = error.api().is_some();
        let failure = Failure::from(error);
        if refused { failure.about(format!("failed to {verb} key '{name}'")) } else { failure }
    }
}

fn context_of(context: Option<&str>) -> Result<Vec<u8>, Failure> {
    context.map_or(Ok(Vec::new()), |context| base64("context", context))
}

fn base64(what: &str, text: &str) -> Result<Vec<u8>, Failure> {
    STANDARD.decode(text).map_err(|_| {
        Failure::new(
            format!("invalid {what}: not valid base64"),
            format!("Give the {what} in standard base64 with padding, as 'base64 -w0' writes it."),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn keys_are_listed_by_name_as_kes_lists_them() {
        insta::assert_snapshot!(list(vec![key("b"), key("a")], &PLAIN), @r"
        Date Created        Key
        2026-11-21 22:34:47 a
        2026-11-21 22:34:47 b
        ");
        insta::assert_snapshot!(list(vec![key("a")], &JSON), @r#"{"Name":"a","ID":"630dcd2966c4336691125448bbb25b4f","Algorithm":"AES256-GCM_SHA256","CreatedAt":"2026-11-21T22:34:47.5Z","CreatedBy":"3ecf"}"#);
        assert_eq!(list(vec![], &PLAIN), "");
    }
}

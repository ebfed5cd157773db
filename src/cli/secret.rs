//! `kes secret`: create, info, show, ls, rm.

use std::path::PathBuf;

use clap::ValueHint;
use serde::Serialize;

use super::{
    connect::Within,
    failure::Failure,
    input,
    progress::each,
    terminal::{Color, Format, Report, date, json, table, write_bytes},
};
use crate::{
    api::{
        SecretName,
        message::{Base64, SecretEntry, SecretInfo},
    },
    client::Error,
};

/// Keep small values, such as passwords and tokens
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Keep a value of up to 700 KiB; a secret that exists is never overwritten
    #[command(after_help = "\
Without VALUE and --file it is asked for at the terminal, or read from what is piped in, byte by byte.

Examples:
  kes secret create db-password
  kes secret create tls-key --file private.key
  printf %s \"$TOKEN\" | kes secret create token")]
    Create {
        /// Name of the new secret
        name: String,
        /// The value, as text; '-' reads it from standard input. Other users of this machine can see an argument
        #[arg(conflicts_with = "file")]
        value: Option<String>,
        /// File whose content is the value
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
    /// Show what is known about a secret, without its value
    Info {
        /// Name of the secret
        name: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// Show a secret with its value
    Show {
        /// Name of the secret
        name: String,
        /// Write the value and nothing else, byte by byte
        #[arg(short, long, conflicts_with = "json")]
        plain: bool,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// List secrets by name, without their values
    Ls {
        /// Which names: '*' stands for any run of characters, and a pattern without '*' is a prefix
        #[arg(default_value = "*")]
        pattern: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// Delete secrets for good
    Rm {
        /// Names of the secrets
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
}

impl Secret {
    pub(super) async fn run(self) -> Result<String, Failure> {
        match self.verb {
            Verb::Create { name, value, file, within, report } => {
                let name = Named { name: secret_name(&name)? };
                let client = within.client()?;
                let value = match (value, file) {
                    (Some(value), _) => input::argument("secret", value)?,
                    (None, Some(file)) => input::file("secret", &file)?,
                    (None, None) => input::hidden("secret")?,
                };
                each("created", &[name], report.json, async |Named { name }| {
                    client.create_secret(name, &value).await.map_err(about("create", name))
                })
                .await
            }
            Verb::Info { name, within, format } => {
                let name = secret_name(&name)?;
                let info = within.client()?.describe_secret(&name).await.map_err(about("describe", &name))?;
                Ok(describe(&name, &info, &format))
            }
            Verb::Show { name, plain, within, format } => {
                let name = secret_name(&name)?;
                let secret = within.client()?.read_secret(&name).await.map_err(about("show", &name))?;
                if plain {
                    write_bytes(secret.bytes.as_ref());
                    return Ok(String::new());
                }
                Ok(show(&name, &secret.info, &secret.bytes, &format))
            }
            Verb::Ls { pattern, within, format } => {
                Ok(list(within.client()?.list_secrets(&pattern).await?, &format))
            }
            Verb::Rm { name, within, report } => {
                let names: Vec<_> = name
                    .iter()
                    .map(|name| Ok(Named { name: secret_name(name)? }))
                    .collect::<Result<_, Failure>>()?;
                let client = within.client()?;
                each("deleted", &names, report.json, async |Named { name }| {
                    client.delete_secret(name).await.map_err(about("delete", name))
                })
                .await
            }
        }
    }
}

/// What is said of each secret with `--json`.
#[derive(Serialize)]
struct Named {
    name: SecretName,
}

/// The JSON of v0.22.3, and the type, which it leaves out.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<&'a Base64>,
    name: &'a SecretName,
    #[serde(flatten)]
    info: &'a SecretInfo,
}

fn describe(name: &SecretName, info: &SecretInfo, format: &Format) -> String {
    if format.json {
        return json(&Described { bytes: None, name, info }) + "\n";
    }
    let color = format.color;
    let mut text = wide_row(color, "Name", name.as_str());
    text += &wide_row(color, "Type", &info.kind);
    text += &wide_row(color, "Created At", &date(info.created_at));
    if info.mod_time != info.created_at {
        text += &wide_row(color, "Modified At", &date(info.mod_time));
    }
    if !info.created_by.is_empty() {
        text += &wide_row(color, "Created By", &info.created_by);
    }
    text
}

fn show(name: &SecretName, info: &SecretInfo, bytes: &Base64, format: &Format) -> String {
    if format.json {
        return json(&Described { bytes: Some(bytes), name, info }) + "\n";
    }
    let value = match std::str::from_utf8(bytes.as_ref()) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => text.to_owned(),
        // what is no text could confuse the terminal
        _ => format!(
            "{} bytes that are no text; 'kes secret show -p {name}' writes them",
            bytes.as_ref().len()
        ),
    };
    describe(name, info, format) + "\n" + &wide_row(format.color, "Value", &value)
}

/// v0.22.3 leaves one blank more here than elsewhere.
fn wide_row(color: Color, label: &str, value: &str) -> String {
    format!("{} {value}\n", color.bold(&format!("{label:<11}")))
}

fn list(mut secrets: Vec<SecretEntry>, format: &Format) -> String {
    secrets.sort_by(|a, b| a.name.cmp(&b.name));
    if format.json {
        return secrets.iter().map(|secret| json(secret) + "\n").collect();
    }
    let row = |secret: &SecretEntry| vec![date(secret.created_at), secret.name.to_string()];
    table(format.color, &["Date Created", "Secret"], &secrets.iter().map(row).collect::<Vec<_>>())
}

fn secret_name(name: &str) -> Result<SecretName, Failure> {
    SecretName::new(name).map_err(|error| Failure::from(error).about(format!("secret '{name}'")))
}

fn about(verb: &'static str, name: &SecretName) -> impl FnOnce(Error) -> Failure {
    move |error| {
        let refused = error.api().is_some();
        let failure = Failure::from(error);
        if refused { failure.about(format!("failed to {verb} secret '{name}'")) } else { failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> SecretInfo {
        SecretInfo {
            kind: "generic".into(),
            created_at: "2026-11-21T22:34:47.5Z".parse().unwrap(),
            mod_time: "2026-11-21T22:34:47.5Z".parse().unwrap(),
            created_by: "3ecf".into(),
        }
    }

    #[test]
    fn a_secret_is_shown_in_the_rows_of_kes() {
        let (plain, as_json) =
            (Format { json: false, color: Color::Never }, Format { json: true, color: Color::Never });
        let name = SecretName::new("s").unwrap();
        let value = |bytes: &[u8]| Base64::from(bytes.to_vec());
        insta::assert_snapshot!(show(&name, &info(), &value(b"hello"), &plain), @r"
        Name        s
        Type        generic
        Created At  2026-11-21 22:34:47
        Created By  3ecf

        Value       hello
        ");
        let no_text = show(&name, &info(), &value(b"\x1b[2J"), &plain);
        assert!(
            no_text.ends_with("4 bytes that are no text; 'kes secret show -p s' writes them\n"),
            "{no_text}"
        );
        insta::assert_snapshot!(show(&name, &info(), &value(b"hello"), &as_json), @r#"{"bytes":"aGVsbG8=","name":"s","type":"generic","created_at":"2026-11-21T22:34:47.5Z","mod_time":"2026-11-21T22:34:47.5Z","created_by":"3ecf"}"#);
        assert!(!describe(&name, &info(), &as_json).contains("bytes"));
    }
}

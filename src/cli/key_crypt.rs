//! `kes key dek`, `encrypt`, `decrypt` and `hmac`: what a key is used for.
//!
//! Without a terminal the answer is the JSON of v0.22.3, without a newline, for scripts.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    connect::Within,
    failure::Failure,
    input,
    key::{about, key_name},
    terminal::{Json, is_terminal, json},
};
use crate::api::message::{Base64, Ciphertext, Mac, Plaintext};

/// Bytes that a ciphertext is bound to.
const CONTEXT: &str =
    "Bytes in base64 that the ciphertext is bound to: decrypting needs the same ones [default: none]";

#[derive(clap::Args)]
#[command(after_help = "Example:\n  kes key dek my-key")]
pub(super) struct Dek {
    /// Name of the key
    name: String,
    #[arg(help = CONTEXT)]
    context: Option<String>,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    output: Json,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kes key encrypt my-key 'Hello World'\n  kes key encrypt my-key - < file"
)]
pub(super) struct Encrypt {
    /// Name of the key
    name: String,
    /// The message, as text; '-' reads it from standard input, as bytes
    message: String,
    #[arg(help = CONTEXT)]
    context: Option<String>,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    output: Json,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kes key decrypt my-key lbFBRVMyNTYt...\n  kes key decrypt -p my-key - < ciphertext > file"
)]
pub(super) struct Decrypt {
    /// Name of the key
    name: String,
    /// The ciphertext, in base64; '-' reads it from standard input
    ciphertext: String,
    #[arg(help = CONTEXT)]
    context: Option<String>,
    /// Write the plaintext itself, not its base64
    #[arg(short, long, conflicts_with = "json")]
    plain: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    output: Json,
}

#[derive(clap::Args)]
#[command(after_help = "\
The HMAC is made with a second key that every key has and that never leaves the server. It is the same for the same \
message and key on this server; a key imported elsewhere gives another.")]
pub(super) struct Hmac {
    /// Name of the key
    name: String,
    /// The message, as text; '-' reads it from standard input, as bytes
    message: String,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    output: Json,
}

impl Dek {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { name, context, within, output } = self;
        let (name, context) = (key_name(&name)?, context_of(context.as_deref())?);
        let key = within.client()?.generate(&name, &context).await.map_err(about("use", &name))?;
        Ok(show(&output, &key, &[("plaintext", &key.plaintext), ("ciphertext", &key.ciphertext)]))
    }
}

impl Encrypt {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { name, message, context, within, output } = self;
        let (name, context) = (key_name(&name)?, context_of(context.as_deref())?);
        let message = input::argument("message", message)?;
        let ciphertext =
            within.client()?.encrypt(&name, &message, &context).await.map_err(about("use", &name))?;
        let reply = Ciphertext { ciphertext };
        Ok(show(&output, &reply, &[("ciphertext", &reply.ciphertext)]))
    }
}

impl Decrypt {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { name, ciphertext, context, plain, within, output } = self;
        let (name, context) = (key_name(&name)?, context_of(context.as_deref())?);
        let ciphertext = base64("ciphertext", input::argument("ciphertext", ciphertext)?.trim_ascii())?;
        let plaintext =
            within.client()?.decrypt(&name, &ciphertext, &context).await.map_err(about("use", &name))?;
        if plain {
            super::terminal::write_bytes(plaintext.as_ref());
            return Ok(String::new());
        }
        let reply = Plaintext { plaintext };
        Ok(show(&output, &reply, &[("plaintext", &reply.plaintext)]))
    }
}

impl Hmac {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { name, message, within, output } = self;
        let name = key_name(&name)?;
        let message = input::argument("message", message)?;
        let hmac = within.client()?.hmac(&name, &message).await.map_err(about("use", &name))?;
        let reply = Mac { hmac };
        Ok(show(&output, &reply, &[("hmac", &reply.hmac)]))
    }
}

/// JSON without a newline for scripts, one labelled line each for people.
fn show(output: &Json, reply: &impl Serialize, fields: &[(&str, &Base64)]) -> String {
    if output.json {
        return json(reply) + "\n";
    }
    if !is_terminal() {
        return json(reply);
    }
    let width = fields.iter().map(|(label, _)| label.len() + 1).max().unwrap_or(0);
    let lines = fields
        .iter()
        .map(|(label, value)| format!("{:<width$} {}\n", format!("{label}:"), STANDARD.encode(value)));
    std::iter::once("\n".to_owned()).chain(lines).collect()
}

fn context_of(context: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    context.map_or_else(|| Ok(Zeroizing::default()), |context| base64("context", context.as_bytes()))
}

/// Decodes an argument; `what` names it where it is none.
pub(super) fn base64(what: &str, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    STANDARD.decode(text).map(Zeroizing::new).map_err(|_| {
        Failure::new(
            format!("invalid {what}: not valid base64"),
            format!("Give the {what} in standard base64 with padding, as 'base64 -w0' writes it."),
        )
    })
}

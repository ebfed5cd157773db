//! `kes identity`: new and of work here, without a server; info, ls and rm ask one.

use clap::ValueHint;

use super::{
    connect::Within,
    failure::Failure,
    identity_local::{self, New},
    policy::{parse_identity, rules},
    progress::each,
    terminal::{Color, Format, Json, Report, date, json, row, table},
};
use crate::{
    api::{
        Identity,
        message::{IdentityInfo, PolicyBody, SelfInfo},
    },
    client::{Error, IdentityEntry},
};

/// Create and see identities and API keys
///
/// Without a command: print a new API key, the identity of an API key or certificate, or the API key of a private key.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  kes identity\n  kes identity new --ip 127.0.0.1 localhost\n  kes identity of public.crt"
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// API key, certificate file or private key file
    #[arg(value_name = "KEY|FILE", value_hint = ValueHint::FilePath)]
    subject: Option<String>,
    #[command(flatten)]
    output: Json,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Create a key pair, or an API key
    New(New),
    /// Print the identity of certificates and API keys
    Of {
        /// Certificate files or API keys
        #[arg(required = true, value_name = "KEY|FILE", value_hint = ValueHint::FilePath)]
        subject: Vec<String>,
        #[command(flatten)]
        output: Json,
    },
    /// Show what is known about an identity
    Info {
        /// The identity; your own if absent
        identity: Option<String>,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// List identities that have a policy, by policy; the enclave's admin is not among them
    Ls {
        /// Which identities: '*' stands for any run of characters, and a pattern without '*' is a prefix
        #[arg(default_value = "*")]
        pattern: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// Forget identities; they are refused from then on
    Rm {
        /// Identities
        #[arg(required = true)]
        identity: Vec<String>,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
}

/// What is said of each identity with `--json`.
#[derive(serde::Serialize)]
struct Named {
    identity: Identity,
}

impl Args {
    /// Whether it is done here, without a server.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.verb, None | Some(Verb::New(_) | Verb::Of { .. }))
    }

    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { verb, subject, output } = self;
        match (verb, subject) {
            (None, None) => identity_local::api_key(output.json),
            (None, Some(subject)) => identity_local::translate(&subject, output.json),
            (Some(Verb::New(new)), _) => new.run(),
            (Some(Verb::Of { subject, output }), _) => identity_local::of(&subject, output.json),
            (Some(Verb::Info { identity: None, within, format }), _) => {
                let info = within.client()?.describe_self().await?;
                Ok(own(&info, &format))
            }
            (Some(Verb::Info { identity: Some(identity), within, format }), _) => {
                let identity = parse_identity(&identity)?;
                let client = within.client()?;
                let info = client.describe_identity(&identity).await.map_err(about("describe", &identity))?;
                let name = info.policy.parse().ok();
                // who may see identities need not be allowed to see policies
                let policy = match &name {
                    Some(name) => client.read_policy(name).await.ok(),
                    None => None,
                };
                Ok(other(&identity, &info, policy.as_ref(), &format))
            }
            (Some(Verb::Ls { pattern, within, format }), _) => {
                Ok(list(within.client()?.list_identities(&pattern).await?, &format))
            }
            (Some(Verb::Rm { identity, within, report }), _) => {
                let identities: Vec<_> = identity
                    .iter()
                    .map(|text| Ok(Named { identity: parse_identity(text)? }))
                    .collect::<Result<_, Failure>>()?;
                let client = within.client()?;
                each("deleted", &identities, report.json, async |Named { identity }| {
                    client.delete_identity(identity).await.map_err(about("delete", identity))
                })
                .await
            }
        }
    }
}

fn own(info: &SelfInfo, format: &Format) -> String {
    if format.json {
        return json(info) + "\n";
    }
    let described = IdentityInfo {
        admin: info.admin,
        policy: info.policy_name.clone(),
        created_at: info.created_at,
        created_by: info.created_by.clone(),
    };
    rows(format.color, &info.identity, &described, Some(&info.policy))
}

fn other(identity: &Identity, info: &IdentityInfo, policy: Option<&PolicyBody>, format: &Format) -> String {
    if format.json { json(info) + "\n" } else { rows(format.color, identity, info, policy) }
}

fn rows(color: Color, identity: &Identity, info: &IdentityInfo, policy: Option<&PolicyBody>) -> String {
    let mut text = row(color, "Identity", identity.as_str());
    text += &row(color, "Created At", &date(info.created_at));
    text += &row(color, "Role", if info.admin { "Admin" } else { "User" });
    if !info.created_by.is_empty() {
        text += &row(color, "Created By", &info.created_by);
    }
    if !info.policy.is_empty() {
        text.push('\n');
        text += &row(color, "Policy", &info.policy);
        text += &policy.map(|policy| rules(color, policy)).unwrap_or_default();
    }
    text
}

fn list(mut identities: Vec<IdentityEntry>, format: &Format) -> String {
    identities.sort_by(|a, b| (&a.policy, &a.identity).cmp(&(&b.policy, &b.identity)));
    if format.json {
        return identities.iter().map(|identity| json(identity) + "\n").collect();
    }
    let row = |entry: &IdentityEntry| {
        vec![date(entry.created_at), entry.identity.to_string(), entry.policy.clone()]
    };
    let rows: Vec<_> = identities.iter().map(row).collect();
    table(format.color, &["Date Created", "Identity", "Policy"], &rows)
}

fn about(verb: &'static str, identity: &Identity) -> impl FnOnce(Error) -> Failure {
    move |error| {
        let refused = error.api().is_some();
        let failure = Failure::from(error);
        if refused { failure.about(format!("failed to {verb} identity '{identity}'")) } else { failure }
    }
}

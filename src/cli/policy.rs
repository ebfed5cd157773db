//! `kes policy`: create, assign, show, info, ls, rm.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::ValueHint;
use serde::{Serialize, de::IgnoredAny};

use super::{
    connect::Within,
    failure::Failure,
    input,
    progress::each,
    terminal::{Color, Format, Report, date, is_terminal, json, row, table},
};
use crate::{
    api::{
        AnyCase, Identity, PolicyName,
        message::{self, Matching, PolicyBody, PolicyInfo},
    },
    authz,
};

/// Create, assign and see policies
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Policy {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Create a policy, or replace its rules
    #[command(after_help = "\
The file holds JSON: {\"allow\": [\"/v1/key/generate/my-key*\", \"/v1/key/decrypt/my-key*\"], \"deny\": []}.
A rule is a path of the API ('kes status --api' lists them). '*' stands for any run of characters but '/', '?' for one; \
with \"match\": \"prefix\" a '*' at the end stands for any rest, as in later KES. Deny wins over allow.

Example:
  kes policy create my-app policy.json")]
    Create {
        /// Name of the policy
        name: String,
        /// JSON file with the lists 'allow' and 'deny'; '-' reads it from standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
    /// Give identities a policy; an identity has one at a time
    #[command(after_help = "Example:\n  kes policy assign my-app $(kes identity of app.crt)")]
    Assign {
        /// Name of the policy
        policy: String,
        /// Identities that get it
        #[arg(required = true)]
        identity: Vec<String>,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
    /// Show the rules of a policy
    Show {
        /// Name of the policy
        name: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// Show when and by whom a policy was written
    Info {
        /// Name of the policy
        name: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// List policies by name
    Ls {
        /// Which names: '*' stands for any run of characters, and a pattern without '*' is a prefix
        #[arg(default_value = "*")]
        pattern: String,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        format: Format,
    },
    /// Delete policies; identities that have one are refused from then on
    Rm {
        /// Names of the policies
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        within: Within,
        #[command(flatten)]
        report: Report,
    },
}

/// What is said of each policy with `--json`.
#[derive(Serialize)]
struct Named {
    name: PolicyName,
}

/// What is said of each assignment with `--json`.
#[derive(Serialize)]
struct Assigned<'a> {
    policy: &'a PolicyName,
    identity: Identity,
}

impl Policy {
    pub(super) async fn run(self) -> Result<String, Failure> {
        match self.verb {
            Verb::Create { name, file, within, report } => {
                let name = Named { name: policy_name(&name)? };
                let policy = read(&file)?;
                let client = within.client()?;
                each("created", &[name], report.json, async |Named { name }| {
                    client.write_policy(name, &policy).await.map_err(about("create", name))
                })
                .await
            }
            Verb::Assign { policy, identity, within, report } => {
                let policy = policy_name(&policy)?;
                let assignments: Vec<_> = identity
                    .iter()
                    .map(|text| Ok(Assigned { policy: &policy, identity: parse_identity(text)? }))
                    .collect::<Result<_, Failure>>()?;
                let client = within.client()?;
                each("assigned", &assignments, report.json, async |Assigned { policy, identity }| {
                    let assigned = client.assign_policy(policy, identity).await;
                    assigned
                        .map_err(about("assign", policy))
                        .map_err(|failure| failure.about(format!("identity '{identity}'")))
                })
                .await
            }
            Verb::Show { name, within, format } => {
                let name = policy_name(&name)?;
                let policy = within.client()?.read_policy(&name).await.map_err(about("show", &name))?;
                Ok(show(&policy, &format))
            }
            Verb::Info { name, within, format } => {
                let name = policy_name(&name)?;
                let mut info =
                    within.client()?.describe_policy(&name).await.map_err(about("describe", &name))?;
                info.name.get_or_insert(name);
                Ok(describe(&info, &format))
            }
            Verb::Ls { pattern, within, format } => {
                Ok(list(within.client()?.list_policies(&pattern).await?, &format))
            }
            Verb::Rm { name, within, report } => {
                let names: Vec<_> = name
                    .iter()
                    .map(|name| Ok(Named { name: policy_name(name)? }))
                    .collect::<Result<_, Failure>>()?;
                let client = within.client()?;
                each("deleted", &names, report.json, async |Named { name }| {
                    client.delete_policy(name).await.map_err(about("delete", name))
                })
                .await
            }
        }
    }
}

/// Reads a policy file, and says here already what the server would refuse.
fn read(file: &Path) -> Result<message::Policy, Failure> {
    let text = input::file("policy file", file)?;
    let policy = parse(&text).map_err(|why| {
        Failure::new(
            format!("failed to parse policy file '{}': {why}", file.display()),
            r#"Write it as JSON: {"allow": ["/v1/key/generate/my-key"], "deny": []}."#,
        )
    })?;
    authz::Policy::compile(&policy).map_err(|error| {
        Failure::new(
            format!("policy file '{}': {error}", file.display()),
            "Correct the pattern and run the command again.",
        )
    })?;
    Ok(policy)
}

/// Field names in any case, as KES reads them; but one that means nothing is refused: a misspelt `deny` would deny nothing.
fn parse(text: &[u8]) -> Result<message::Policy, String> {
    /// What a policy has, and what servers and clients of all generations add when they show one.
    const FIELDS: [&str; 7] = ["allow", "deny", "match", "name", "info", "created_at", "created_by"];
    let AnyCase(policy) = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let fields: BTreeMap<String, IgnoredAny> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match fields.keys().find(|field| !FIELDS.contains(&field.to_ascii_lowercase().as_str())) {
        Some(unknown) => Err(format!("unknown field '{unknown}', expected 'allow', 'deny' or 'match'")),
        None => Ok(policy),
    }
}

fn show(policy: &PolicyBody, format: &Format) -> String {
    if format.json || !is_terminal() {
        return json(policy) + "\n";
    }
    let mut text = rules(format.color, policy);
    text += &row(format.color, "Date", &date(policy.created_at));
    if !policy.created_by.is_empty() {
        text += &row(format.color, "Created by", &policy.created_by);
    }
    text
}

/// The rules of a policy, one per line.
pub(super) fn rules(color: Color, policy: &PolicyBody) -> String {
    let mut text = String::new();
    if policy.matching == Matching::Prefix {
        text += &row(color, "Match", "prefix");
    }
    for (label, rules) in [("Allow", &policy.allow), ("Deny", &policy.deny)] {
        for (index, rule) in rules.iter().enumerate() {
            text += &row(color, if index == 0 { label } else { "" }, rule);
        }
    }
    text
}

fn describe(info: &PolicyInfo, format: &Format) -> String {
    if format.json {
        return json(info) + "\n";
    }
    let mut text = row(format.color, "Name", info.name.as_ref().map_or("", PolicyName::as_str));
    text += &row(format.color, "Date", &date(info.created_at));
    if !info.created_by.is_empty() {
        text += &row(format.color, "Created by", &info.created_by);
    }
    text
}

fn list(mut policies: Vec<PolicyInfo>, format: &Format) -> String {
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    if format.json {
        return policies.iter().map(|policy| json(policy) + "\n").collect();
    }
    let name = |policy: &PolicyInfo| policy.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let rows: Vec<_> = policies.iter().map(|policy| vec![date(policy.created_at), name(policy)]).collect();
    table(format.color, &["Date Created", "Policy"], &rows)
}

fn policy_name(name: &str) -> Result<PolicyName, Failure> {
    PolicyName::new(name).map_err(|error| Failure::from(error).about(format!("policy '{name}'")))
}

/// Parses an identity from the command line.
pub(super) fn parse_identity(text: &str) -> Result<Identity, Failure> {
    Identity::new(text).map_err(|error| {
        let subject = if crate::pki::ApiKey::looks_like(text) {
            "identity".into()
        } else {
            format!("identity '{text}'")
        };
        let next = "An identity is 64 hex digits; 'kes identity of' prints that of a certificate or API key.";
        Failure::new(error.to_string(), next).about(subject)
    })
}

fn about(verb: &'static str, name: &PolicyName) -> impl FnOnce(crate::client::Error) -> Failure {
    move |error| {
        let refused = error.api().is_some();
        let failure = Failure::from(error);
        if refused { failure.about(format!("failed to {verb} policy '{name}'")) } else { failure }
    }
}

//! `kes policy`: create, assign, show, info, ls, rm.

use std::path::PathBuf;

use super::{
    connect::Within,
    failure::Failure,
    key::Format,
    terminal::{Color, date, is_terminal, json, row, table},
};
use crate::{
    api::{
        Identity, PolicyName,
        message::{self, PolicyBody, PolicyInfo},
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
    /// Create or replace a policy
    Create {
        /// Name of the policy
        name: String,
        /// JSON file with the lists 'allow' and 'deny'
        file: PathBuf,
        #[command(flatten)]
        within: Within,
    },
    /// Give identities a policy
    Assign {
        /// Name of the policy
        policy: String,
        /// Identities that get it
        #[arg(required = true)]
        identity: Vec<String>,
        #[command(flatten)]
        within: Within,
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
    /// List policies
    Ls {
        /// Pattern of names
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
    },
}

impl Policy {
    pub(super) async fn run(self) -> Result<String, Failure> {
        match self.verb {
            Verb::Create { name, file, within } => {
                let name = policy_name(&name)?;
                let policy = read(&file)?;
                within.client()?.write_policy(&name, &policy).await.map_err(about("create", &name))?;
                Ok(String::new())
            }
            Verb::Assign { policy, identity, within } => {
                let policy = policy_name(&policy)?;
                let identities: Vec<_> =
                    identity.iter().map(|text| parse_identity(text)).collect::<Result<_, _>>()?;
                let client = within.client()?;
                for identity in identities {
                    let assigned = client.assign_policy(&policy, &identity).await;
                    assigned
                        .map_err(about("assign", &policy))
                        .map_err(|failure| failure.about(format!("identity '{identity}'")))?;
                }
                Ok(String::new())
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
            Verb::Rm { name, within } => {
                let names: Vec<_> = name.iter().map(|name| policy_name(name)).collect::<Result<_, _>>()?;
                let client = within.client()?;
                for name in names {
                    client.delete_policy(&name).await.map_err(about("delete", &name))?;
                }
                Ok(String::new())
            }
        }
    }
}

/// Reads a policy file, and says here already what the server would refuse.
fn read(file: &std::path::Path) -> Result<message::Policy, Failure> {
    let text = std::fs::read(file).map_err(|error| Failure::read("policy file", file, &error))?;
    let policy: message::Policy = serde_json::from_slice(&text).map_err(|error| {
        Failure::new(
            format!("failed to parse policy file '{}': {error}", file.display()),
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

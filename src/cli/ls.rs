//! `kes ls` of later KES: names only, of keys, identities or policies (contract §5.3).

use super::{
    connect::Within,
    failure::Failure,
    terminal::{Format, json, table},
};

/// List the names of keys, identities or policies
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  kes ls\n  kes ls -p\n  kes ls my-k --json")]
pub(super) struct Ls {
    /// Only names that begin with this [default: all]
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// List identities instead of keys
    #[arg(short, long, conflicts_with = "policy")]
    identity: bool,
    /// List policies instead of keys
    #[arg(short, long)]
    policy: bool,
    /// API key to call the server with; other users of this machine can see it here, so rather set KES_API_KEY
    #[arg(short, long, value_name = "KEY", help_heading = "Connection")]
    api_key: Option<String>,
    /// The same as --server
    #[arg(short, value_name = "URL", conflicts_with = "server", help_heading = "Connection")]
    s: Option<String>,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    format: Format,
}

impl Ls {
    pub(super) async fn run(self) -> Result<String, Failure> {
        let Self { prefix, identity, policy, api_key, s, within, format } = self;
        let client = within.with(s, api_key).client()?;
        let pattern = if prefix.ends_with('*') { prefix } else { format!("{prefix}*") };
        let (heading, mut names) = match (identity, policy) {
            (true, _) => {
                let identities = client.list_identities(&pattern).await?;
                (
                    "Identity",
                    identities.into_iter().map(|entry| entry.identity.to_string()).collect::<Vec<_>>(),
                )
            }
            (false, true) => {
                let policies = client.list_policies(&pattern).await?;
                ("Policy", policies.into_iter().filter_map(|policy| Some(policy.name?.to_string())).collect())
            }
            (false, false) => {
                let keys = client.list_keys(&pattern).await?;
                ("Key", keys.into_iter().map(|key| key.name.to_string()).collect())
            }
        };
        names.sort_unstable();
        if format.json {
            return Ok(json(&names) + "\n");
        }
        let rows: Vec<_> = names.into_iter().map(|name| vec![name]).collect();
        Ok(table(format.color, &[heading], &rows))
    }
}

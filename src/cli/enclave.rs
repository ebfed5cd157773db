//! `kes enclave`: create, info, ls, rm. Only the system admin may.

use super::{
    connect::Connection,
    failure::Failure,
    policy::parse_identity,
    progress::each,
    seal,
    terminal::{Format, Report, date, json, row, table},
};
use crate::api::{
    ApiError, DEFAULT_ENCLAVE, EnclaveName,
    message::{EnclaveInfo, Rotation},
};

#[derive(clap::Subcommand)]
pub(super) enum Enclave {
    /// Create an enclave: keys, secrets, policies and identities of its own
    #[command(after_help = "Example:\n  kes enclave create tenant-1 $(kes identity of tenant-1-admin.crt)")]
    Create {
        /// Name of the new enclave
        name: String,
        /// Identity of its admin; not that of the system admin, and it cannot be changed later
        identity: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        report: Report,
    },
    /// Show what is known about an enclave
    Info {
        /// Name of the enclave
        #[arg(default_value = DEFAULT_ENCLAVE)]
        name: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        format: Format,
    },
    /// List enclaves by name
    Ls {
        /// Which names: '*' stands for any run of characters, and a pattern without '*' is a prefix
        #[arg(default_value = "*")]
        pattern: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        format: Format,
    },
    /// Give enclaves new keys: everything in them is sealed again, and nothing changes for who uses it
    #[command(after_help = "\
The server goes on meanwhile. A server that is stopped goes on sealing when it is started again; 'kes seal info' shows how \
far it is.")]
    Rotate {
        /// Names of the enclaves
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        report: Report,
        /// Do not wait until the former keys are not needed any more
        #[arg(long)]
        detach: bool,
    },
    /// Delete enclaves for good, with every key in them
    Rm {
        /// Names of the enclaves
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        report: Report,
    },
}

/// What is said of each enclave with `--json`.
#[derive(serde::Serialize)]
struct Named {
    name: EnclaveName,
}

impl Enclave {
    pub(super) async fn run(self) -> Result<String, Failure> {
        match self {
            Self::Create { name, identity, connection, report } => {
                let (name, admin) = (enclave_name(&name)?, parse_identity(&identity)?);
                let client = connection.client()?;
                each("created", &[Named { name }], report.json, async |Named { name }| {
                    client.create_enclave(name, &admin).await.map_err(about("create", name))
                })
                .await
            }
            Self::Info { name, connection, format } => {
                let name = enclave_name(&name)?;
                let info =
                    connection.client()?.describe_enclave(&name).await.map_err(about("describe", &name))?;
                if format.json {
                    return Ok(json(&info) + "\n");
                }
                let mut text = row(format.color, "Enclave", info.name.as_str());
                text += &row(format.color, "Created At", &date(info.created_at));
                text += &row(format.color, "Created By", &info.created_by);
                Ok(text)
            }
            Self::Ls { pattern, connection, format } => {
                let enclaves = connection.client()?.list_enclaves(&pattern).await.map_err(refused)?;
                Ok(list(enclaves, &format))
            }
            Self::Rotate { name, connection, report, detach } => {
                let names = named(&name)?;
                let client = connection.client()?;
                each("rotated", &names, report.json, async |Named { name }| {
                    client.rotate_enclave(name).await.map_err(about("rotate", name))?;
                    if detach {
                        return Ok(());
                    }
                    let is_through = |rotation: &Rotation| {
                        rotation.enclaves.iter().all(|e| e.name != *name || e.former.is_empty())
                    };
                    seal::wait(&client, is_through).await
                })
                .await
            }
            Self::Rm { name, connection, report } => {
                let names = named(&name)?;
                let client = connection.client()?;
                each("deleted", &names, report.json, async |Named { name }| {
                    client.delete_enclave(name).await.map_err(about("delete", name))
                })
                .await
            }
        }
    }
}

fn list(mut enclaves: Vec<EnclaveInfo>, format: &Format) -> String {
    enclaves.sort_by(|a, b| a.name.cmp(&b.name));
    if format.json {
        return enclaves.iter().map(|enclave| json(enclave) + "\n").collect();
    }
    let row = |enclave: &EnclaveInfo| vec![date(enclave.created_at), enclave.name.to_string()];
    table(format.color, &["Date Created", "Enclave"], &enclaves.iter().map(row).collect::<Vec<_>>())
}

fn named(names: &[String]) -> Result<Vec<Named>, Failure> {
    names.iter().map(|name| Ok(Named { name: enclave_name(name)? })).collect()
}

fn enclave_name(name: &str) -> Result<EnclaveName, Failure> {
    EnclaveName::new(name).map_err(|error| Failure::from(error).about(format!("enclave '{name}'")))
}

fn about(verb: &'static str, name: &EnclaveName) -> impl FnOnce(crate::client::Error) -> Failure {
    move |error| {
        let was_refused = error.api().is_some();
        let failure = refused(error);
        if was_refused { failure.about(format!("failed to {verb} enclave '{name}'")) } else { failure }
    }
}

/// Here another person can help than elsewhere.
pub(super) fn refused(error: crate::client::Error) -> Failure {
    match error.api() {
        Some(refusal) if *refusal == ApiError::NOT_ALLOWED => Failure::new(
            refusal.message(),
            "Only the system admin may: use the identity that 'kes init' was given.",
        ),
        _ => Failure::from(error),
    }
}

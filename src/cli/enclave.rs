//! `kes enclave`: create, info, rm. Only the system admin may.

use super::{
    connect::Connection,
    failure::Failure,
    key::Format,
    policy::parse_identity,
    terminal::{date, json, row},
};
use crate::api::{ApiError, DEFAULT_ENCLAVE, EnclaveName};

#[derive(clap::Subcommand)]
pub(super) enum Enclave {
    /// Create an enclave
    Create {
        /// Name of the new enclave
        name: String,
        /// Identity of its admin
        identity: String,
        #[command(flatten)]
        connection: Connection,
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
    /// Delete enclaves with everything in them
    Rm {
        /// Names of the enclaves
        #[arg(required = true)]
        name: Vec<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Enclave {
    pub(super) async fn run(self) -> Result<String, Failure> {
        match self {
            Self::Create { name, identity, connection } => {
                let (name, admin) = (enclave_name(&name)?, parse_identity(&identity)?);
                connection.client()?.create_enclave(&name, &admin).await.map_err(about("create", &name))?;
                Ok(String::new())
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
            Self::Rm { name, connection } => {
                let names: Vec<_> = name.iter().map(|name| enclave_name(name)).collect::<Result<_, _>>()?;
                let client = connection.client()?;
                for name in names {
                    client.delete_enclave(&name).await.map_err(about("delete", &name))?;
                }
                Ok(String::new())
            }
        }
    }
}

fn enclave_name(name: &str) -> Result<EnclaveName, Failure> {
    EnclaveName::new(name).map_err(|error| Failure::from(error).about(format!("enclave '{name}'")))
}

fn about(verb: &'static str, name: &EnclaveName) -> impl FnOnce(crate::client::Error) -> Failure {
    move |error| {
        let refused = error.api().is_some();
        let failure = match error.api() {
            Some(refusal) if *refusal == ApiError::NOT_ALLOWED => Failure::new(
                refusal.message(),
                "Only the system admin may: use the identity that 'kes init' was given.",
            ),
            _ => Failure::from(error),
        };
        if refused { failure.about(format!("failed to {verb} enclave '{name}'")) } else { failure }
    }
}

//! `kes seal`: the root key, and how far rotations are. Only the system admin may.

use std::time::Duration;

use super::{
    connect::Connection,
    enclave::refused,
    failure::Failure,
    progress,
    terminal::{Format, json, row, table},
};
use crate::{api::message::Rotation, client::Client};

#[derive(clap::Subcommand)]
pub(super) enum Seal {
    /// Show the versions of the root key and of the enclaves' keys
    Info {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        format: Format,
    },
    /// Make a new root key, and seal every enclave again under it
    #[command(after_help = "\
The unseal key is another matter: to change it, start the server with a configuration that names the new one, and the old \
one as 'unseal.previous'. See docs/design/rotation.md.")]
    Rotate {
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        format: Format,
        /// Do not wait until the former key is not needed any more
        #[arg(long)]
        detach: bool,
    },
}

/// How often the server is asked how far it is.
const EVERY: Duration = Duration::from_millis(200);

impl Seal {
    pub(super) async fn run(self) -> Result<String, Failure> {
        match self {
            Self::Info { connection, format } => {
                let rotation = connection.client()?.rotation().await.map_err(refused)?;
                Ok(show(&rotation, &format))
            }
            Self::Rotate { connection, format, detach } => {
                let client = connection.client()?;
                client.rotate_root().await.map_err(refused)?;
                if !detach {
                    wait(&client, |rotation| rotation.root.former.is_empty()).await?;
                }
                let rotation = client.rotation().await.map_err(refused)?;
                Ok(if format.json { json(&rotation.root) + "\n" } else { String::new() })
            }
        }
    }
}

/// Waits until `is_done`, and says how far it is.
pub(super) async fn wait(client: &Client, is_done: impl Fn(&Rotation) -> bool) -> Result<(), Failure> {
    loop {
        let rotation = client.rotation().await.map_err(refused)?;
        if is_done(&rotation) {
            return Ok(());
        }
        if rotation.damaged > 0 {
            return Err(Failure::new(
                format!("{} records do not open, so the former key is kept for them", rotation.damaged),
                "The server's log names them. Restore them from a backup, or delete them; then the rotation ends by itself.",
            ));
        }
        progress::doing(format!("{} records sealed again", rotation.resealed));
        tokio::time::sleep(EVERY).await;
    }
}

fn show(rotation: &Rotation, format: &Format) -> String {
    if format.json {
        return json(rotation) + "\n";
    }
    let former = |former: &[u32]| former.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let mut text = row(format.color, "Root key", &format!("version {}", rotation.root.version));
    if !rotation.root.former.is_empty() {
        text += &row(format.color, "In use too", &former(&rotation.root.former));
    }
    text += &row(format.color, "Sealed again", &rotation.resealed.to_string());
    text += &row(format.color, "Unreadable", &rotation.damaged.to_string());
    let rows: Vec<_> = rotation
        .enclaves
        .iter()
        .map(|enclave| vec![enclave.version.to_string(), former(&enclave.former), enclave.name.to_string()])
        .collect();
    text + "\n" + &table(format.color, &["Version", "In use too", "Enclave"], &rows)
}

//! Which server a command calls and as whom, from flags and the environment of both KES generations (contract §4.6,
//! §5.3).

use std::{
    ffi::OsString, io::IsTerminal as _, net::SocketAddr, path::PathBuf, sync::OnceLock, time::Duration,
};

use super::{failure::Failure, input};
use crate::{
    api::EnclaveName,
    client::{Client, Config, Trust},
    pki::{self, ApiKey, ClientIdentity, Password},
};

const DEFAULT_SERVER: &str = "https://127.0.0.1:7373";
const SERVER: &[&str] = &["MINIO_KES_SERVER", "KES_SERVER", "MINIO_KMS_KES_ENDPOINT"];
const API_KEY: &[&str] = &["MINIO_KES_API_KEY", "KES_API_KEY", "MINIO_KMS_KES_API_KEY"];
const CERTIFICATE: &[&str] =
    &["MINIO_KES_CERT_FILE", "KES_CLIENT_CERT", "MINIO_KES_CLIENT_CERT", "MINIO_KMS_KES_CERT_FILE"];
const KEY: &[&str] =
    &["MINIO_KES_KEY_FILE", "KES_CLIENT_KEY", "MINIO_KES_CLIENT_KEY", "MINIO_KMS_KES_KEY_FILE"];
/// Of a key that 'kes identity new --encrypt' made.
const PASSWORD: &[&str] = &["MINIO_KMS_KES_KEY_PASSWORD"];
const CA: &[&str] = &["KES_CA", "MINIO_KMS_KES_CAPATH"];
const ENCLAVE: &[&str] = &["KES_ENCLAVE", "MINIO_KMS_KES_ENCLAVE"];

/// The longest that a command waits for a server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Flags of every command that calls a server.
#[derive(clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// Do not check the server's certificate: for tests only
    #[arg(short = 'k', long)]
    insecure: bool,
    /// PEM file with the authority that signed the server's certificate [env: KES_CA]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", value_hint = clap::ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// Address of the server, or several with commas between them: the next one is asked when one is away
    /// [env: KES_SERVER] [default: https://127.0.0.1:7373]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// An API key from the command line, where a verb takes one.
    #[arg(skip)]
    api_key: Option<String>,
}

/// The flag of commands that are about one enclave.
#[derive(clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Within {
    #[command(flatten)]
    connection: Connection,
    /// Name of the enclave [env: KES_ENCLAVE] [default: default]
    #[arg(short, long, value_name = "NAME")]
    enclave: Option<String>,
}

/// A server that is reached by other means than its address, and everything that a client needs to be let in.
pub(super) struct Way {
    /// URL whose host the server's certificate is checked against.
    pub(super) endpoint: String,
    /// Where to connect.
    pub(super) connect_to: SocketAddr,
    /// Finds who calls within an enclave, or outside of any. Asked when a client is made, so that nobody needs the right to
    /// see an admin that he does not use.
    pub(super) admin: FindAdmin,
}

/// Finds an enclave's admin, or without an enclave the system admin.
pub(super) type FindAdmin = Box<dyn Fn(Option<&EnclaveName>) -> Result<Pem, Failure> + Send + Sync>;

/// A client certificate, and the authorities that sign the server's, as PEM.
pub(super) struct Pem {
    pub(super) certificate: Vec<u8>,
    pub(super) key: zeroize::Zeroizing<Vec<u8>>,
    pub(super) authority: Vec<u8>,
}

/// The way that was opened before the verb began, if one was. Set once and by one place, `kubectl kes`: verbs know
/// nothing of it.
static WAY: OnceLock<Way> = OnceLock::new();

/// From now on every client of this process goes this way.
pub(super) fn through(way: Way) {
    // a second one would be a mistake of ours, and the first one serves
    let _ = WAY.set(way);
}

impl Way {
    /// A client for an enclave, or for calls outside of any.
    pub(super) fn client(&self, enclave: Option<&EnclaveName>) -> Result<Client, Failure> {
        let admin = (self.admin)(enclave)?;
        Ok(Client::new(Config {
            endpoint: self.endpoint.clone(),
            connect_to: Some(self.connect_to),
            identity: ClientIdentity::from_pem(&admin.certificate, &admin.key)?,
            trust: Trust::Pem(admin.authority),
            enclave: enclave.cloned(),
            timeout: PATIENCE,
        })?)
    }
}

/// Reads the process's environment; a table stands in for it in tests.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Connection {
    /// A client that selects no enclave.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        match self.way()? {
            Some(way) => way.client(None),
            None => self.connect(None, &process),
        }
    }

    /// The way that was opened, which leaves nothing to choose.
    fn way(&self) -> Result<Option<&'static Way>, Failure> {
        let Some(way) = WAY.get() else { return Ok(None) };
        if self.insecure || self.ca.is_some() || self.server.is_some() || self.api_key.is_some() {
            return Err(Failure::usage(
                "'kubectl kes' finds the server and its certificates itself",
                "Leave out '--server', '--ca', '--insecure' and API keys; 'kes' takes them.",
            ));
        }
        Ok(Some(way))
    }

    /// Where the command goes, for display.
    pub(super) fn address(&self) -> Result<String, Failure> {
        match WAY.get() {
            Some(way) => Ok(way.endpoint.clone()),
            None => self.endpoint(&process),
        }
    }

    fn connect(&self, enclave: Option<EnclaveName>, environment: Environment<'_>) -> Result<Client, Failure> {
        let endpoint = self.endpoint(environment)?;
        let ca = self.ca.clone().or_else(|| first(environment, CA).map(|(_, value)| value.into()));
        let trust = match (self.insecure, ca) {
            (true, _) => Trust::Insecure,
            (false, None) => Trust::System,
            (false, Some(path)) => {
                let text = std::fs::read(&path)
                    .map_err(|error| Failure::read("the authority's certificate", &path, &error))?;
                Trust::Pem(text)
            }
        };
        let identity = match &self.api_key {
            Some(key) => ApiKey::parse(key)?.client_identity()?,
            None => identity(environment)?,
        };
        let config = Config { endpoint, connect_to: None, identity, trust, enclave, timeout: PATIENCE };
        Ok(Client::new(config)?)
    }

    fn endpoint(&self, environment: Environment<'_>) -> Result<String, Failure> {
        let text = match &self.server {
            Some(server) => server.clone(),
            None => match first(environment, SERVER) {
                Some((name, value)) => text(name, value)?,
                None => DEFAULT_SERVER.into(),
            },
        };
        // a list means that any of them will do
        let hosts = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let https = |one: &str| {
            format!("https://{}", one.trim_start_matches("https://").trim_start_matches("http://"))
        };
        let list: Vec<_> = hosts.map(https).collect();
        Ok(if list.is_empty() { DEFAULT_SERVER.into() } else { list.join(",") })
    }
}

impl Within {
    /// The same with an address and an API key that the verb's own flags gave.
    pub(super) fn with(mut self, server: Option<String>, api_key: Option<String>) -> Self {
        self.connection.server = server.or(self.connection.server);
        self.connection.api_key = api_key;
        self
    }

    /// A client for the enclave that flag or environment name.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let name = match &self.enclave {
            Some(name) => Some(name.clone()),
            None => first(&process, ENCLAVE).map(|(name, value)| text(name, value)).transpose()?,
        };
        let enclave = name
            .map(|name| {
                EnclaveName::new(&name)
                    .map_err(|error| Failure::from(error).about(format!("enclave '{name}'")))
            })
            .transpose()?;
        if let Some(way) = self.connection.way()? {
            return way.client(Some(&enclave.unwrap_or_else(EnclaveName::default_enclave)));
        }
        self.connection.connect(enclave, &process)
    }

    pub(super) fn address(&self) -> Result<String, Failure> {
        self.connection.address()
    }
}

/// Who the environment says that we are: an API key, or a certificate and its key.
fn identity(environment: Environment<'_>) -> Result<ClientIdentity, Failure> {
    let api_key = first(environment, API_KEY);
    let files = (first(environment, CERTIFICATE), first(environment, KEY));
    match (api_key, files) {
        (Some((name, value)), (None, None)) => {
            let value = zeroize::Zeroizing::new(text(name, value)?);
            Ok(ApiKey::parse(&value).map_err(|error| Failure::from(error).about(name))?.client_identity()?)
        }
        (None, (Some((_, certificate)), Some((_, key)))) => {
            let (certificate, key) = (PathBuf::from(certificate), PathBuf::from(key));
            let given = password(environment)?;
            match ClientIdentity::load_under(&certificate, &key, given.as_ref()) {
                Err(pki::Error::Encrypted { .. }) if given.is_none() && std::io::stdin().is_terminal() => {
                    let typed = input::password("password of the client key")?;
                    Ok(ClientIdentity::load_under(&certificate, &key, Some(&typed))?)
                }
                identity => Ok(identity?),
            }
        }
        (Some((key, _)), (Some((file, _)), _) | (_, Some((file, _)))) => Err(Failure::new(
            format!("both an API key and a certificate are given: {key} and {file}"),
            format!("Unset one of them, for example 'unset {file}'."),
        )),
        (None, (Some((name, _)), None)) => Err(Failure::new(
            format!("a client certificate is given without its key: only {name} is set"),
            "Set KES_CLIENT_KEY to the file with its private key.",
        )),
        (None, (None, Some((name, _)))) => Err(Failure::new(
            format!("a client key is given without its certificate: only {name} is set"),
            "Set KES_CLIENT_CERT to the file with its certificate.",
        )),
        (None, (None, None)) => Err(Failure::new(
            "no client identity: neither KES_API_KEY nor KES_CLIENT_CERT is set",
            "Set KES_API_KEY, or KES_CLIENT_CERT and KES_CLIENT_KEY; 'kes identity new' makes either.",
        )),
    }
}

/// The password of the client key, if the environment has it.
fn password(environment: Environment<'_>) -> Result<Option<Password>, Failure> {
    let found = first(environment, PASSWORD);
    found.map(|(name, value)| text(name, value).map(Password::new)).transpose()
}

/// The password for a new client key: from the environment, or typed twice.
pub(super) fn new_password() -> Result<Password, Failure> {
    match password(&process)? {
        Some(password) => Ok(password),
        None => input::new_password("password for the private key"),
    }
}

fn process(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The first variable that is set to something.
fn first(environment: Environment<'_>, names: &[&'static str]) -> Option<(&'static str, OsString)> {
    names.iter().find_map(|name| Some((*name, environment(name).filter(|value| !value.is_empty())?)))
}

fn text(name: &str, value: OsString) -> Result<String, Failure> {
    value
        .into_string()
        .map_err(|_| Failure::new(format!("{name} is not valid UTF-8"), format!("Set {name} again.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY_A: &str = "kes:v1:AAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    fn environment(table: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| table.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
    }

    fn flags() -> Connection {
        Connection { insecure: false, ca: None, server: None, api_key: None }
    }

    #[test]
    fn variables_of_both_generations_name_the_server_and_the_newer_wins() {
        let is = |table, expected: &str| assert_eq!(flags().endpoint(&environment(table)).unwrap(), expected);
        is(&[], DEFAULT_SERVER);
        is(&[("KES_SERVER", "https://a:1")], "https://a:1");
        is(&[("KES_SERVER", "https://a:1"), ("MINIO_KES_SERVER", "b:2")], "https://b:2");
        is(&[("MINIO_KMS_KES_ENDPOINT", "http://c:3, https://d:4")], "https://c:3,https://d:4");
        is(&[("KES_SERVER", "")], DEFAULT_SERVER);
    }

    #[test]
    fn an_identity_is_an_api_key_or_a_pair_of_files_and_never_both() {
        assert!(identity(&environment(&[("KES_API_KEY", KEY_A)])).is_ok());
        let refused = |table, expected: &str| {
            let failure = identity(&environment(table)).err().unwrap().to_string();
            assert!(failure.contains(expected), "{failure}");
            assert!(!failure.contains(KEY_A), "{failure}");
        };
        refused(&[], "no client identity");
        refused(&[("KES_CLIENT_CERT", "a.crt")], "without its key: only KES_CLIENT_CERT is set");
        refused(&[("KES_CLIENT_KEY", "a.key")], "without its certificate: only KES_CLIENT_KEY is set");
        refused(&[("KES_API_KEY", KEY_A), ("KES_CLIENT_CERT", "a")], "KES_API_KEY and KES_CLIENT_CERT");
        refused(
            &[("KES_CLIENT_CERT", "/no/a.crt"), ("KES_CLIENT_KEY", "/no/a.key")],
            "failed to read client certificate",
        );
        refused(&[("KES_API_KEY", "kes:v1:x")], "KES_API_KEY: invalid API key");
    }
}

//! The file `init.yml` that `kes init` reads (contract §4.1): parsed, checked, and turned into a plan.
//!
//! A scalar `${NAME}` stands for the variable NAME. A field that means nothing is refused, where KES
//! ignores it: what it was meant to say would be lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
};

use serde::Deserialize;

use super::{
    failure::Failure,
    settings::{Settings, Tls, Unseal, UnsealEnvironment, UnsealFile, address},
};
use crate::{
    api::{EnclaveName, Identity, PolicyName, message},
    authz,
    pki::Password,
    service::bootstrap::{EnclavePlan, Plan},
};

const VERSION: &str = "v1";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct File {
    version: String,
    address: Option<String>,
    system: System,
    tls: TlsFile,
    unseal: UnsealFileShape,
    enclave: Option<BTreeMap<String, Enclave>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct System {
    admin: Admin,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Admin {
    identity: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsFile {
    key: Option<String>,
    cert: Option<String>,
    password: Option<String>,
    client: ClientFile,
    proxy: ProxyFile,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClientFile {
    verify_cert: Option<Switch>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProxyFile {
    identity: Option<Vec<String>>,
    /// Means nothing without identities.
    #[serde(rename = "header")]
    _header: Option<serde::de::IgnoredAny>,
}

/// `on`, `true`, `off`, `false` or nothing, quoted or not.
#[derive(Deserialize)]
#[serde(untagged)]
enum Switch {
    Bool(bool),
    Text(String),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UnsealFileShape {
    environment: Option<Named>,
    file: Option<Located>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Named {
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Located {
    path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Enclave {
    admin: Admin,
    policy: Option<BTreeMap<String, Policy>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Policy {
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
    /// `glob` as in KES v0.22.3, or `prefix` as in later KES.
    #[serde(rename = "match")]
    matching: message::Matching,
    identities: Option<Vec<String>>,
}

/// What the file asks for, checked.
pub(super) struct InitConfig {
    /// The server's key pair, variables expanded.
    pub(super) key: PathBuf,
    pub(super) certificate: PathBuf,
    /// Of the key.
    pub(super) password: Option<Password>,
    pub(super) unseal: Unseal,
    /// With the settings for `kes server`, whose variables are not expanded.
    pub(super) plan: Plan,
}

/// Reads the process's environment; a table stands in for it in tests.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Parses and checks the text of an `init.yml`.
pub(super) fn parse(text: &str, environment: Environment<'_>) -> Result<InitConfig, Failure> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| {
        invalid(
            first_line(&error.to_string()),
            "Correct the line that is named; 'kes init --help' has an example.",
        )
    })?;
    let File { version, address: listen, system, tls, unseal, enclave } = file;
    if version != VERSION {
        return Err(invalid(
            format!("version '{version}' is not supported"),
            format!("Put 'version: {VERSION}' into the file."),
        ));
    }
    let expand = |value: &Option<String>| expand(value.as_deref().unwrap_or_default(), environment);
    let listen = listen.unwrap_or_default();
    let expanded = expand(&Some(listen.clone()));
    if !expanded.is_empty() {
        address(&expanded).map_err(|error| invalid(error, "Correct 'address'."))?;
    }
    refuse_what_would_be_lost(&tls)?;
    let verify = verifies(&tls.client)?;
    let system_admin = expand(&system.admin.identity);
    if system_admin.is_empty() {
        return Err(invalid(
            "system identity cannot be empty",
            "Set 'system.admin.identity' to the output of 'kes identity of CERTIFICATE'.",
        ));
    }
    let system_admin = identity(&system_admin, "system.admin.identity")?;
    let (key, certificate) = (expand(&tls.key), expand(&tls.cert));
    for (field, value) in [("tls.key", &key), ("tls.cert", &certificate)] {
        if value.is_empty() {
            return Err(invalid(
                format!("'{field}' is not set"),
                "Set it to a PEM file; 'kes identity new --ip 127.0.0.1 SUBJECT' makes a pair.",
            ));
        }
    }
    let name =
        unseal.environment.as_ref().map(|environment| UnsealEnvironment { name: expand(&environment.name) });
    let path = unseal.file.as_ref().map(|file| UnsealFile { path: expand(&file.path).into() });
    let unseal = Unseal { environment: name, file: path, previous: None };
    let enclaves = enclave
        .unwrap_or_default()
        .into_iter()
        .map(|(name, enclave)| enclave_plan(&name, enclave, &system_admin, environment))
        .collect::<Result<Vec<_>, _>>()?;
    if enclaves.is_empty() {
        return Err(Failure::new(
            "no enclave configuration specified",
            "Add at least one enclave: 'enclave: {default: {admin: {identity: ...}}}'.",
        ));
    }
    let settings = Settings {
        address: listen,
        tls: Tls { key: tls.key.map(Into::into), cert: tls.cert.map(Into::into), verify },
        unseal: Some(unseal.clone()),
    };
    let plan = Plan {
        cluster_id: None,
        system_admin,
        settings: serde_json::to_value(&settings).map_err(|error| invalid(error.to_string(), ""))?,
        enclaves,
    };
    // it is for the check of the pair only: the data directory does not keep it
    let password = Some(expand(&tls.password)).filter(|text| !text.is_empty()).map(Password::new);
    Ok(InitConfig { key: key.into(), certificate: certificate.into(), password, unseal, plan })
}

/// Whether the server verifies chains of client certificates.
fn verifies(client: &ClientFile) -> Result<bool, Failure> {
    match &client.verify_cert {
        None => Ok(false),
        Some(Switch::Bool(on)) => Ok(*on),
        Some(Switch::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "" | "off" | "false" => Ok(false),
            "on" | "true" => Ok(true),
            _ => Err(invalid(format!("'tls.client.verify_cert' is '{text}'"), "Write 'on' or 'off'.")),
        },
    }
}

/// Settings of KES that we do not have are refused where leaving them out would make the server weaker than asked.
fn refuse_what_would_be_lost(tls: &TlsFile) -> Result<(), Failure> {
    if tls.proxy.identity.as_ref().is_some_and(|identities| !identities.is_empty()) {
        return Err(invalid(
            "'tls.proxy' is not kept in the data directory",
            "Remove it here, and write 'tls: {proxy: {identities: [...], header: {cert: NAME}}}' into the file of 'kes server --config FILE DIR'.",
        ));
    }
    Ok(())
}

fn enclave_plan(
    name: &str,
    enclave: Enclave,
    system_admin: &Identity,
    environment: Environment<'_>,
) -> Result<EnclavePlan, Failure> {
    let at = format!("enclave '{name}'");
    let Enclave { admin, policy } = enclave;
    let admin = expand(admin.identity.as_deref().unwrap_or_default(), environment);
    if admin.is_empty() {
        return Err(invalid(
            format!("{at}: admin identity cannot be empty"),
            "Set 'admin.identity' of the enclave.",
        ));
    }
    let admin = identity(&admin, &at)?;
    if admin == *system_admin {
        return Err(invalid(
            format!("{at}: admin identity '{admin}' is the system admin"),
            "Roles stay apart: make another identity with 'kes identity new'.",
        ));
    }
    let mut assigned = BTreeSet::new();
    let mut policies = Vec::new();
    for (policy_name, policy) in policy.unwrap_or_default() {
        let at = format!("{at}: policy '{policy_name}'");
        let Policy { allow, deny, matching, identities } = policy;
        let (allow, deny) = (allow.unwrap_or_default(), deny.unwrap_or_default());
        let rules = message::Policy { allow, deny, matching };
        authz::Policy::compile(&rules)
            .map_err(|error| invalid(format!("{at}: {error}"), "Correct the pattern."))?;
        let mut members = Vec::new();
        for text in identities.unwrap_or_default() {
            let member = expand(&text, environment);
            // an unset variable assigns nobody
            if member.is_empty() {
                continue;
            }
            let member = identity(&member, &at)?;
            let why = match &member {
                member if member == system_admin => "is the system admin",
                member if *member == admin => "is the admin of the enclave",
                member if !assigned.insert(member.clone()) => "is assigned twice",
                _ => {
                    members.push(member);
                    continue;
                }
            };
            return Err(invalid(
                format!("{at}: identity '{member}' {why}"),
                "An identity has one role and one policy in an enclave: remove it from one of them.",
            ));
        }
        let name = PolicyName::new(&policy_name).map_err(|error| invalid(format!("{at}: {error}"), NAME))?;
        policies.push((name, rules, members));
    }
    let name = EnclaveName::new(name).map_err(|error| invalid(format!("{at}: {error}"), NAME))?;
    Ok(EnclavePlan { name, admin, policies })
}

const NAME: &str = "A name has 1 to 80 letters, digits, '-' and '_'.";

fn identity(text: &str, at: &str) -> Result<Identity, Failure> {
    Identity::new(text).map_err(|error| {
        invalid(
            format!("{at}: identity '{text}': {error}"),
            "An identity is 64 hex digits; 'kes identity of CERTIFICATE' prints it.",
        )
    })
}

/// `${NAME}` becomes the variable's value, empty when it is not set.
pub(super) fn expand(text: &str, environment: Environment<'_>) -> String {
    let trimmed = text.trim();
    match trimmed.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => environment(name.trim()).and_then(|value| value.into_string().ok()).unwrap_or_default(),
        None => text.to_owned(),
    }
}

fn invalid(why: impl std::fmt::Display, next: impl Into<String>) -> Failure {
    Failure::new(format!("invalid configuration: {why}"), next)
}

/// The parser's message without its picture of the line, which may show a password.
pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version: v1
address: 127.0.0.1:7373
system:
  admin:
    identity: ${ADMIN}
tls:
  key: private.key
  cert: public.crt
  client:
    verify_cert: off
unseal:
  environment:
    name: KES_UNSEAL_KEY
enclave:
  default:
    admin:
      identity: aa
    policy:
      minio:
        allow: ["/v1/key/create/*", "/v1/key/generate/*"]
        deny:
        identities:
        - bb
        - ${NOBODY}
"#;

    fn environment(name: &str) -> Option<OsString> {
        (name == "ADMIN").then(|| "cc".into())
    }

    #[test]
    fn an_init_file_of_kes_becomes_a_plan_and_keeps_its_variables_unexpanded() {
        let config = parse(GOOD, &environment).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(config.plan.system_admin.as_str(), "cc");
        let [enclave] = config.plan.enclaves.as_slice() else { panic!("one enclave") };
        assert_eq!((enclave.name.as_str(), enclave.admin.as_str()), ("default", "aa"));
        let [(name, policy, identities)] = enclave.policies.as_slice() else { panic!("one policy") };
        assert_eq!((name.as_str(), policy.allow.len(), policy.deny.len()), ("minio", 2, 0));
        assert_eq!(identities.iter().map(Identity::as_str).collect::<Vec<_>>(), ["bb"]);
        insta::assert_snapshot!(config.plan.settings, @r#"{"address":"127.0.0.1:7373","tls":{"cert":"public.crt","key":"private.key"},"unseal":{"environment":{"name":"KES_UNSEAL_KEY"}}}"#);
    }

    #[test]
    fn every_mistake_is_named() {
        for (from, to, expected) in [
            ("version: v1", "version: v2", "invalid configuration: version 'v2' is not supported"),
            ("version: v1", "", "version '' is not supported"),
            ("identity: ${ADMIN}", "identity: ${NOBODY}", "system identity cannot be empty"),
            (
                "identity: ${ADMIN}",
                "identity: aa",
                "enclave 'default': admin identity 'aa' is the system admin",
            ),
            ("identity: aa", "identity: \"\"", "enclave 'default': admin identity cannot be empty"),
            ("- bb", "- cc", "policy 'minio': identity 'cc' is the system admin"),
            ("- bb", "- aa", "policy 'minio': identity 'aa' is the admin of the enclave"),
            ("- ${NOBODY}", "- bb", "policy 'minio': identity 'bb' is assigned twice"),
            ("- bb", "- 'b b'", "identity 'b b': invalid argument: name contains invalid character"),
            ("key: private.key", "", "'tls.key' is not set"),
            ("verify_cert: off", "verify_cert: maybe", "'tls.client.verify_cert' is 'maybe'"),
            ("address: 127.0.0.1:7373", "address: here", "'here' is no address"),
            ("/v1/key/create/*", "/v1/key/create/[", "policy 'minio'"),
            ("  default:", "  a b:", "enclave 'a b'"),
            ("system:", "system: [", "invalid configuration:"),
            ("address:", "adress:", "line 3 column 1: unknown field `adress`"),
            ("client:", "clinet:", "unknown field `clinet`"),
            ("verify_cert:", "verify_certs:", "unknown field `verify_certs`"),
            ("policy:", "policies:", "unknown field `policies`"),
            ("identities:", "identity:", "unknown field `identity`"),
            ("environment:", "enviroment:", "unknown field `enviroment`"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let failure =
                parse(&text, &environment).err().unwrap_or_else(|| panic!("{to} is accepted")).to_string();
            assert!(failure.contains(expected), "{to}: {failure}");
        }
        let without = GOOD.split("enclave:").next().unwrap();
        let failure = parse(without, &environment).err().unwrap().to_string();
        assert!(failure.starts_with("Error: no enclave configuration specified\n"), "{failure}");
    }
}

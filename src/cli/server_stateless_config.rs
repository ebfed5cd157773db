//! The file that `kes server --config FILE` of stateless KES reads (contract §5.1): parsed, checked, and turned into what
//! our server shall be.
//!
//! Stateless KES keeps its keys in a key store and takes everything else from this file at each start. So do we, with a
//! data directory of our own at `keystore.fs.path`. Unknown fields are ignored, as in KES; what would make the server
//! weaker than the file asks for is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::Deserialize;

use super::{
    failure::Failure,
    init_config::first_line,
    server_access::{Api, Proxy, Wanted},
    settings::{self, Unseal},
};
use crate::{
    api::{
        API_PORT, Identity, KeyName, PolicyName,
        message::{self, Generation, Matching},
    },
    authz,
    pki::Password,
};

/// What the file asks for, checked.
#[derive(Clone)]
pub(super) struct Stateless {
    pub(super) address: SocketAddr,
    pub(super) health: Option<SocketAddr>,
    pub(super) key: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    /// Of the server's key.
    pub(super) password: Option<Password>,
    /// Who may do everything; absent when it is not an identity of anybody, e.g. `disabled`.
    pub(super) admin: Identity,
    pub(super) policies: Vec<(PolicyName, message::Policy, Vec<Identity>)>,
    /// Keys that are created when they are absent.
    pub(super) keys: Vec<KeyName>,
    /// `keystore.fs.path`.
    pub(super) directory: PathBuf,
    pub(super) unseal: Option<Unseal>,
    pub(super) audit: bool,
    pub(super) generation: Generation,
    /// Who gets in besides clients that show a certificate of their own.
    pub(super) wanted: Wanted,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    version: Option<String>,
    address: Option<String>,
    /// Ours, as in the configuration of a server with a data directory.
    health: Option<String>,
    /// Ours.
    unseal: Option<Unseal>,
    /// Ours.
    compatibility: Option<Generation>,
    admin: Admin,
    tls: Tls,
    policy: Option<BTreeMap<String, Option<Policy>>>,
    log: Log,
    api: Option<BTreeMap<String, Option<Api>>>,
    keys: Option<Vec<Key>>,
    keystore: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Admin {
    identity: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tls {
    key: Option<String>,
    cert: Option<String>,
    password: Option<String>,
    auth: Option<Switch>,
    ca: Option<String>,
    proxy: Proxy,
}

// a rule under a name that is not known would be one less
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Policy {
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
    identities: Option<Vec<String>>,
    /// Ours.
    #[serde(rename = "match")]
    matching: Option<Matching>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Log {
    audit: Option<Switch>,
}

#[derive(Deserialize)]
struct Key {
    name: String,
}

/// `on`, `off`, a level such as `INFO`, or a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Switch {
    Bool(bool),
    Number(i64),
    Text(String),
}

/// Go's level that lies above everything that is logged.
const GO_ERROR: i64 = 8;

impl Switch {
    fn is_on(&self) -> bool {
        match self {
            Self::Bool(on) => *on,
            Self::Number(level) => *level <= GO_ERROR,
            Self::Text(text) => !matches!(text.to_ascii_lowercase().as_str(), "" | "off" | "false"),
        }
    }
}

impl Stateless {
    /// Which settings are others than those of `running`, of those that are taken at start only.
    pub(super) fn differs_from(&self, running: &Self) -> Vec<&'static str> {
        let Self {
            address,
            health,
            key,
            certificate,
            password: _,
            admin: _,
            policies: _,
            keys: _,
            directory,
            unseal,
            audit,
            generation,
            wanted: _,
        } = self;
        [
            ("address", *address != running.address),
            ("health", *health != running.health),
            ("tls.key", *key != running.key),
            ("tls.cert", *certificate != running.certificate),
            ("keystore.fs.path", *directory != running.directory),
            ("unseal", *unseal != running.unseal),
            ("log.audit", *audit != running.audit),
            ("compatibility", *generation != running.generation),
        ]
        .into_iter()
        .filter_map(|(field, differs)| differs.then_some(field))
        .collect()
    }
}

/// Reads the process's environment; a table stands in for it in tests.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Parses and checks the text of a `config.yml` of stateless KES.
pub(super) fn parse(text: &str, environment: Environment<'_>) -> Result<Stateless, Failure> {
    let file: File = serde_saphyr::from_str(text)
        .map_err(|error| invalid(first_line(&error.to_string()), "Correct the line that is named."))?;
    let File {
        version,
        address,
        health,
        unseal,
        compatibility,
        admin,
        tls,
        policy,
        log,
        api,
        keys,
        keystore,
    } = file;
    if let Some(version) = version.filter(|version| version != "v1") {
        return Err(invalid(
            format!("version '{version}' is not supported"),
            "Put 'version: v1' into the file, or leave it out.",
        ));
    }
    let expand = |field: &str, value: Option<String>| {
        value.map(|text| expand(field, &text, environment)).transpose().map(Option::unwrap_or_default)
    };
    let directory = directory(keystore, environment)?;
    let listen = |field: &'static str, text: String| match text.as_str() {
        "" | "off" => Ok(None),
        text => {
            settings::address(text).map(Some).map_err(|error| invalid(error, format!("Correct '{field}'.")))
        }
    };
    let address =
        listen("address", expand("address", address)?)?.unwrap_or((Ipv4Addr::UNSPECIFIED, API_PORT).into());
    let health = listen("health", expand("health", health)?)?;
    let admin = expand("admin.identity", admin.identity)?;
    if admin.is_empty() {
        return Err(invalid(
            "admin identity cannot be empty",
            "Set 'admin.identity' to the output of 'kes identity of CERTIFICATE', or to 'disabled'.",
        ));
    }
    let admin = identity("admin.identity", &admin)?;
    let policies = policies(policy.unwrap_or_default(), &admin, environment)?;
    let keys = keys
        .unwrap_or_default()
        .into_iter()
        .map(|Key { name }| {
            KeyName::new(&name).map_err(|error| invalid(format!("keys: '{name}': {error}"), NAME))
        })
        .collect::<Result<_, _>>()?;
    let Proxy { identities, header } = tls.proxy;
    let mut proxies = Vec::new();
    for text in identities.unwrap_or_default() {
        let text = expand("tls.proxy.identities", Some(text))?;
        if !text.is_empty() {
            proxies.push(identity("tls.proxy.identities", &text)?);
        }
    }
    if proxies.contains(&admin) {
        return Err(invalid(
            format!("'tls.proxy.identities': identity '{admin}' is the admin"),
            "Give the proxy a certificate of its own: whoever has it can be everybody.",
        ));
    }
    let path = |field, value| expand(field, value).map(|text| (!text.is_empty()).then(|| text.into()));
    let wanted = Wanted {
        verify: tls.auth.as_ref().is_some_and(Switch::is_on),
        authorities: path("tls.ca", tls.ca)?,
        proxies,
        header: header.cert,
        routes: api
            .unwrap_or_default()
            .into_iter()
            .map(|(route, api)| (route, api.unwrap_or_default()))
            .collect(),
    };
    wanted.check()?;
    Ok(Stateless {
        address,
        health,
        key: path("tls.key", tls.key)?,
        certificate: path("tls.cert", tls.cert)?,
        password: expand("tls.password", tls.password)
            .map(|text| (!text.is_empty()).then(|| Password::new(text)))?,
        admin,
        policies,
        keys,
        directory,
        unseal,
        audit: log.audit.is_none_or(|switch| switch.is_on()),
        generation: compatibility.unwrap_or(Generation::V2025),
        wanted,
    })
}

/// Where the keys are; every key store but the file system is somebody else's.
fn directory(
    keystore: Option<BTreeMap<String, serde_json::Value>>,
    environment: Environment<'_>,
) -> Result<PathBuf, Failure> {
    let stores = keystore.unwrap_or_default();
    let own =
        "Write 'keystore: {fs: {path: ./keys}}': the server keeps its keys there itself, sealed and durable.";
    match stores.iter().collect::<Vec<_>>().as_slice() {
        [] => Err(invalid("no keystore specified", own)),
        [(kind, fields)] if *kind == "fs" => {
            let path = fields.get("path").and_then(serde_json::Value::as_str).unwrap_or_default();
            match expand("keystore.fs.path", path, environment)? {
                path if path.is_empty() => Err(invalid("'keystore.fs.path' is not set", own)),
                path => Ok(path.into()),
            }
        }
        [(kind, _)] => Err(invalid(format!("keystore '{kind}' is not supported"), own)),
        _ => Err(invalid("more than one keystore specified", "Keep one of them.")),
    }
}

fn policies(
    file: BTreeMap<String, Option<Policy>>,
    admin: &Identity,
    environment: Environment<'_>,
) -> Result<Vec<(PolicyName, message::Policy, Vec<Identity>)>, Failure> {
    let mut assigned = BTreeSet::new();
    let mut policies = Vec::new();
    for (name, policy) in file {
        let at = format!("policy '{name}'");
        let Policy { allow, deny, identities, matching } = policy.unwrap_or_default();
        let (allow, deny) = (allow.unwrap_or_default(), deny.unwrap_or_default());
        let matching = matching.unwrap_or_else(|| meant(allow.iter().chain(&deny)));
        let rules = message::Policy { allow, deny, matching };
        authz::Policy::compile(&rules)
            .map_err(|error| invalid(format!("{at}: {error}"), "Correct the pattern."))?;
        let mut members = Vec::new();
        for text in identities.unwrap_or_default() {
            let text = expand(&at, &text, environment)?;
            // an empty variable assigns nobody
            if text.is_empty() {
                continue;
            }
            let member = identity(&at, &text)?;
            if member == *admin {
                return Err(invalid(
                    format!("{at}: identity '{member}' is the admin"),
                    "The admin may do everything already: remove it from the policy.",
                ));
            }
            if !assigned.insert(member.clone()) {
                return Err(invalid(
                    format!("{at}: identity '{member}' is assigned twice"),
                    "An identity has one policy: remove it from one of them.",
                ));
            }
            members.push(member);
        }
        let name = PolicyName::new(&name).map_err(|error| invalid(format!("{at}: {error}"), NAME))?;
        policies.push((name, rules, members));
    }
    Ok(policies)
}

/// What a policy of such a file means: that of later KES, where a `*` at the end is any rest, unless a rule is written in
/// the language of v0.22.3.
fn meant<'r>(mut rules: impl Iterator<Item = &'r String>) -> Matching {
    let is_glob = |rule: &String| {
        let inner = rule.strip_suffix('*').unwrap_or(rule);
        inner.contains(['*', '?', '[', '\\'])
    };
    if rules.any(is_glob) { Matching::Glob } else { Matching::Prefix }
}

/// `${NAME}` becomes the variable's value, which must exist: KES wants that here too.
fn expand(field: &str, text: &str, environment: Environment<'_>) -> Result<String, Failure> {
    let Some(name) = text.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return Ok(text.to_owned());
    };
    let value = environment(name.trim()).and_then(|value| value.into_string().ok());
    value.ok_or_else(|| {
        invalid(
            format!("{field}: environment variable '{}' is not set", name.trim()),
            format!("Set it before the server is started: 'export {}=...'.", name.trim()),
        )
    })
}

const NAME: &str = "A name has 1 to 80 letters, digits, '-' and '_'.";

fn identity(at: &str, text: &str) -> Result<Identity, Failure> {
    Identity::new(text).map_err(|error| {
        invalid(
            format!("{at}: identity '{text}': {error}"),
            "An identity is 64 hex digits; 'kes identity of CERTIFICATE' prints it.",
        )
    })
}

fn invalid(why: impl std::fmt::Display, next: impl Into<String>) -> Failure {
    Failure::new(format!("invalid configuration: {why}"), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As KES's documentation has it.
    const GOOD: &str = r#"
address: 0.0.0.0:7373
admin:
  identity: disabled
tls:
  key: private.key
  cert: public.crt
  auth: off
policy:
  my-app:
    allow:
    - /v1/key/create/my-key*
    - /v1/key/generate/my-key*
    identities:
    - ${APP}
  old:
    allow: ["/v1/key/*/my-key"]
cache:
  expiry: {any: 5m0s, unused: 20s}
log: {error: on, audit: off}
api:
  /v1/ready: {skip_auth: false, timeout: 15s}
keys:
- name: my-key
keystore:
  fs:
    path: ./keys
"#;

    fn environment(name: &str) -> Option<OsString> {
        (name == "APP").then(|| "bb".into())
    }

    #[test]
    fn a_file_of_stateless_kes_is_read() {
        let config = parse(GOOD, &environment).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((config.address.to_string(), config.health), ("0.0.0.0:7373".into(), None));
        assert_eq!((config.admin.as_str(), config.directory), ("disabled", "./keys".into()));
        assert_eq!((config.keys.len(), config.audit), (1, false));
        let [(name, policy, identities), (_, old, _)] = config.policies.as_slice() else { panic!("two") };
        assert_eq!((name.as_str(), policy.allow.len(), policy.matching), ("my-app", 2, Matching::Prefix));
        assert_eq!(old.matching, Matching::Glob);
        assert_eq!(identities.iter().map(Identity::as_str).collect::<Vec<_>>(), ["bb"]);
    }

    #[test]
    fn a_policy_means_what_its_generation_of_kes_takes_it_for() {
        let means =
            |rules: &[&str]| meant(rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>().iter());
        assert_eq!(means(&["/v1/*", "/v1/status", ""]), Matching::Prefix);
        for rule in ["/v1/*/x", "/v1/key/[a-z]*", "/v1/key/?", "/v1/**"] {
            assert_eq!(means(&["/v1/*", rule]), Matching::Glob, "{rule}");
        }
    }

    #[test]
    fn who_gets_in_besides_known_clients_is_read_too() {
        let text = GOOD
            .replace(
                "auth: off",
                "auth: on\n  ca: /ca\n  proxy: {identities: [cc, ''], header: {cert: X-Cert}}",
            )
            .replace("skip_auth: false", "skip_auth: true");
        let wanted = parse(&text, &environment).unwrap_or_else(|failure| panic!("{failure}")).wanted;
        assert!(wanted.verify && wanted.routes["/v1/ready"].skip_auth);
        assert_eq!((wanted.authorities, wanted.header), (Some("/ca".into()), Some("X-Cert".into())));
        assert_eq!(wanted.proxies.iter().map(Identity::as_str).collect::<Vec<_>>(), ["cc"]);
        let admin = text.replace("identity: disabled", "identity: cc");
        let failure = parse(&admin, &environment).err().unwrap_or_else(|| panic!("a proxy is the admin"));
        assert!(failure.to_string().contains("identity 'cc' is the admin"), "{failure}");
    }

    #[test]
    fn the_audit_log_is_on_unless_it_is_turned_off() {
        for (log, on) in [
            ("", true),
            ("log: {audit: on}", true),
            ("log: {audit: INFO}", true),
            ("log: {audit: off}", false),
            ("log: {audit: false}", false),
            ("log: {audit: 9}", false),
        ] {
            let text = GOOD.replace("log: {error: on, audit: off}", log);
            assert_eq!(parse(&text, &environment).unwrap_or_else(|f| panic!("{f}")).audit, on, "{log}");
        }
    }

    #[test]
    fn every_mistake_is_named() {
        for (from, to, expected) in [
            ("address: 0.0.0.0:7373", "version: v2", "version 'v2' is not supported"),
            ("address: 0.0.0.0:7373", "address: here", "'here' is no address"),
            ("identity: disabled", "identity: ''", "admin identity cannot be empty"),
            ("identity: disabled", "identity: ${NONE}", "environment variable 'NONE' is not set"),
            ("identity: disabled", "identity: bb", "policy 'my-app': identity 'bb' is the admin"),
            ("- ${APP}", "- bb\n    - bb", "policy 'my-app': identity 'bb' is assigned twice"),
            ("- ${APP}", "- ${NONE}", "policy 'my-app': environment variable 'NONE' is not set"),
            ("auth: off", "password: ${NONE}", "tls.password: environment variable 'NONE' is not set"),
            ("auth: off", "proxy: {identities: [aa]}", "'tls.proxy.header.cert' is not set"),
            ("auth: off", "proxy: {identities: [a a]}", "tls.proxy.identities: identity 'a a'"),
            ("/v1/ready: {skip_auth: false", "/v1/key/create/: {skip_auth: true", "never open to everybody"),
            ("timeout: 15s", "timeout: long", "'long' is no duration"),
            ("- name: my-key", "- name: my key", "keys: 'my key'"),
            ("    path: ./keys", "    path: ''", "'keystore.fs.path' is not set"),
            ("  fs:\n    path: ./keys", "  vault: {endpoint: x}", "keystore 'vault' is not supported"),
            ("  fs:", "  aws: {}\n  fs:", "more than one keystore specified"),
            ("keystore:\n  fs:\n    path: ./keys", "", "no keystore specified"),
            ("[\"/v1/key/*/my-key\"]", "[\"/v1/key/[\"]", "policy 'old'"),
            ("admin:", "admin: [", "invalid configuration:"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let failure =
                parse(&text, &environment).err().unwrap_or_else(|| panic!("{to} is accepted")).to_string();
            assert!(failure.contains(expected), "{to}: {failure}");
        }
    }
}

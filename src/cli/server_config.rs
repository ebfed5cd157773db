//! The file that `kes server --config` reads, and how it, the flags and the data directory together make one answer.
//!
//! Flags win over the file, the file over what `kes init` kept in the data directory.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    failure::Failure,
    init_config::{expand, first_line},
    server_access::{Api, Proxy, Wanted},
    settings::{Settings, Unseal, UnsealEnvironment, UnsealFile, address},
};
use crate::{
    api::{API_PORT, Identity, message::Generation},
    crypto::Layout,
    pki::Password,
    service::CACHED_KEYS,
};

/// Fewer would be read from disk all the time; more would be more memory than anybody meant.
const CACHE_BOUNDS: std::ops::RangeInclusive<usize> = 100..=50_000_000;

/// `config.yml`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServerConfig {
    version: Option<String>,
    address: Option<String>,
    health: Option<String>,
    bootstrap: Option<Bootstrap>,
    system: System,
    tls: Tls,
    api: BTreeMap<String, Api>,
    unseal: Option<Unseal>,
    log: Log,
    compatibility: Option<Generation>,
    ciphertext: Option<Ciphertext>,
    cache: CacheSize,
}

/// The server's key pair, and whose word it takes for who a client is.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    key: Option<PathBuf>,
    cert: Option<PathBuf>,
    password: Option<String>,
    auth: Option<Switch>,
    ca: Option<PathBuf>,
    proxy: Proxy,
}

/// What is kept in memory.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CacheSize {
    /// Expanded keys, of about 600 bytes each.
    keys: Option<usize>,
}

/// How new ciphertexts are written; all are read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Ciphertext {
    /// Short; KES of 2024 and later reads it.
    Raw,
    /// Longer; every KES from v0.19.2 on reads it.
    MessagePack,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Bootstrap {
    /// An empty directory waits for the operator.
    Await,
    /// An empty directory is an error.
    Never,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct System {
    admin: Admin,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Admin {
    identity: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    /// Audit records on standard output.
    audit: Option<Switch>,
    /// Audit records in this file.
    audit_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Switch {
    #[serde(alias = "true")]
    On,
    #[serde(alias = "false")]
    Off,
}

/// The flags that say the same as a field.
#[derive(Clone, Default)]
pub(super) struct Flags {
    /// Whether chains of client certificates are verified.
    pub(super) verify: Option<bool>,
    pub(super) address: Option<SocketAddr>,
    pub(super) key: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
}

/// What the server will do.
#[derive(Clone)]
pub(super) struct Resolved {
    pub(super) address: SocketAddr,
    pub(super) health: Option<SocketAddr>,
    pub(super) key: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) unseal: Unseal,
    /// Who may bootstrap an empty directory.
    pub(super) await_bootstrap: Option<Identity>,
    /// Whether audit records go to standard output.
    pub(super) audit: bool,
    /// The file that they go to.
    pub(super) audit_file: Option<PathBuf>,
    /// Whose shapes are written where clients contradict each other.
    pub(super) generation: Generation,
    pub(super) layout: Layout,
    /// Expanded keys that are kept in memory.
    pub(super) cached_keys: usize,
    /// Of the server's key.
    pub(super) password: Option<Password>,
    /// Who gets in besides clients that show a certificate of their own.
    pub(super) wanted: Wanted,
}

impl Resolved {
    /// Which settings are others than those of `running`, of those that are taken at start only.
    pub(super) fn differs_from(&self, running: &Self) -> Vec<&'static str> {
        let Self {
            address,
            health,
            key,
            certificate,
            unseal,
            await_bootstrap,
            audit,
            audit_file,
            generation,
            layout,
            cached_keys,
            password: _,
            wanted: _,
        } = self;
        [
            ("address", *address != running.address),
            ("health", *health != running.health),
            ("tls.key", *key != running.key),
            ("tls.cert", *certificate != running.certificate),
            ("unseal", *unseal != running.unseal),
            ("bootstrap", *await_bootstrap != running.await_bootstrap),
            ("log.audit", *audit != running.audit),
            ("log.audit_file", *audit_file != running.audit_file),
            ("compatibility", *generation != running.generation),
            ("ciphertext", *layout != running.layout),
            ("cache.keys", *cached_keys != running.cached_keys),
        ]
        .into_iter()
        .filter_map(|(field, differs)| differs.then_some(field))
        .collect()
    }
}

/// Parses the text of a `config.yml`.
pub(super) fn parse(text: &str) -> Result<ServerConfig, Failure> {
    let config: ServerConfig = serde_saphyr::from_str(text)
        .map_err(|error| invalid(first_line(&error.to_string()), "Correct the line that is named."))?;
    match config.version.as_deref() {
        None | Some("v1") => Ok(config),
        Some(version) => {
            Err(invalid(format!("version '{version}' is not supported"), "Put 'version: v1' into the file."))
        }
    }
}

/// Brings flags, file and the data directory's own settings together.
pub(super) fn resolve(flags: Flags, file: Option<ServerConfig>, kept: Settings) -> Result<Resolved, Failure> {
    let audit_default = file.is_some();
    let ServerConfig {
        version: _,
        address: listen,
        health,
        bootstrap,
        system,
        tls,
        api,
        unseal,
        log,
        compatibility,
        ciphertext,
        cache,
    } = file.unwrap_or_default();
    let environment = |text: &str| expand(text, &|name| std::env::var_os(name));
    let listen = listen.map_or_else(|| environment(&kept.address), |text| environment(&text));
    let address = match (flags.address, listen.as_str()) {
        (Some(address), _) => address,
        (None, "") => (Ipv4Addr::UNSPECIFIED, API_PORT).into(),
        (None, text) => address(text).map_err(|error| invalid(error, "Correct 'address'."))?,
    };
    let health = match health.as_deref().map(environment).as_deref() {
        None | Some("" | "off") => None,
        Some(text) => {
            Some(super::settings::address(text).map_err(|error| invalid(error, "Correct 'health'."))?)
        }
    };
    let path = |path: PathBuf| path.to_str().map_or_else(|| path.clone(), |text| environment(text).into());
    let required = |value: Option<PathBuf>, flag: &str| {
        value.map(path).filter(|path| path != Path::new("")).ok_or_else(|| {
            invalid(
                format!("no {flag} for TLS"),
                format!("Give a PEM file with '--{flag}' or as 'tls.{flag}'; 'kes identity new --ip ADDRESS SUBJECT' makes a pair."),
            )
        })
    };
    let Tls { key, cert, password, auth, ca, proxy } = tls;
    let password = password.map(|text| environment(&text)).filter(|text| !text.is_empty()).map(Password::new);
    let key = required(flags.key.or(key).or(kept.tls.key), "key")?;
    let certificate = required(flags.cert.or(cert).or(kept.tls.cert), "cert")?;
    let Proxy { identities, header } = proxy;
    let proxies = identities.unwrap_or_default();
    let proxies = proxies.iter().map(|text| environment(text)).filter(|text| !text.is_empty()).map(|text| {
        Identity::new(&text).map_err(|error| {
            invalid(format!("'tls.proxy.identities': {error}"), "An identity is 64 hex digits.")
        })
    });
    let from_file = auth.map(|auth| auth == Switch::On);
    let wanted = Wanted {
        verify: flags.verify.or(from_file).unwrap_or(kept.tls.verify),
        authorities: ca.map(path).filter(|path| path != Path::new("")),
        proxies: proxies.collect::<Result<_, _>>()?,
        header: header.cert,
        routes: api,
    };
    wanted.check()?;
    let unseal = unseal.or(kept.unseal).unwrap_or_else(Unseal::conventional);
    let expanded = |Unseal { environment: variable, file, previous }: Unseal| Unseal {
        environment: variable.map(|place| UnsealEnvironment { name: environment(&place.name) }),
        file: file.map(|place| UnsealFile { path: path(place.path) }),
        previous,
    };
    let mut unseal = expanded(unseal);
    unseal.previous = unseal.previous.map(|previous| Box::new(expanded(*previous)));
    let admin = system.admin.identity.as_deref().map(environment).filter(|identity| !identity.is_empty());
    let await_bootstrap = match (bootstrap, admin) {
        (Some(Bootstrap::Await), None) => {
            return Err(invalid(
                "'bootstrap: await' needs 'system.admin.identity'",
                "Name the identity that may bootstrap the server.",
            ));
        }
        (Some(Bootstrap::Await), Some(admin)) => Some(Identity::new(&admin).map_err(|error| {
            invalid(format!("'system.admin.identity': {error}"), "An identity is 64 hex digits.")
        })?),
        (Some(Bootstrap::Never) | None, _) => None,
    };
    let Log { audit, audit_file } = log;
    let audit_file = audit_file.map(path).filter(|path| path != Path::new(""));
    let audit = audit.map_or(audit_default && audit_file.is_none(), |switch| switch == Switch::On);
    let generation = compatibility.unwrap_or_default();
    let layout = match ciphertext {
        None => Layout::default(),
        Some(Ciphertext::Raw) => Layout::Raw,
        Some(Ciphertext::MessagePack) => Layout::MessagePack,
    };
    let cached_keys = cache.keys.unwrap_or(CACHED_KEYS);
    if !CACHE_BOUNDS.contains(&cached_keys) {
        let (least, most) = (CACHE_BOUNDS.start(), CACHE_BOUNDS.end());
        return Err(invalid(
            format!("'cache.keys' is {cached_keys}"),
            format!("Keep between {least} and {most} keys in memory, of about 600 bytes each."),
        ));
    }
    Ok(Resolved {
        address,
        health,
        key,
        certificate,
        unseal,
        await_bootstrap,
        audit,
        audit_file,
        generation,
        layout,
        cached_keys,
        password,
        wanted,
    })
}

fn invalid(why: impl std::fmt::Display, next: impl Into<String>) -> Failure {
    Failure::new(format!("invalid configuration: {why}"), next)
}

#[cfg(test)]
mod tests {
    use super::{super::settings, *};

    /// What the operator writes (`operator/cluster/build/config_map.rs`).
    const OPERATOR: &str = "\
address: 0.0.0.0:7373
health: 0.0.0.0:7375
bootstrap: await
system:
  admin:
    identity: aa
tls:
  cert: /etc/kes/tls/tls.crt
  key: /etc/kes/tls/tls.key
unseal:
  environment:
    name: KES_UNSEAL_KEY
";

    #[test]
    fn the_configuration_of_the_operator_is_read_whole() {
        let config = parse(OPERATOR).unwrap_or_else(|failure| panic!("{failure}"));
        let resolved =
            resolve(Flags::default(), Some(config), Settings::default()).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(resolved.address.to_string(), "0.0.0.0:7373");
        assert_eq!(resolved.health.unwrap().to_string(), "0.0.0.0:7375");
        assert_eq!(resolved.await_bootstrap.unwrap().as_str(), "aa");
        assert_eq!(resolved.certificate, Path::new("/etc/kes/tls/tls.crt"));
        assert!(resolved.audit);
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_directory() {
        let kept = || Settings {
            address: ":1".into(),
            tls: settings::Tls { key: Some("kept.key".into()), cert: Some("kept.crt".into()), verify: false },
            unseal: None,
        };
        let alone = resolve(Flags::default(), None, kept()).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!((alone.address.to_string(), alone.key), ("0.0.0.0:1".into(), "kept.key".into()));
        assert_eq!((alone.health, alone.await_bootstrap, alone.audit), (None, None, false));
        assert_eq!(alone.unseal, Unseal::conventional());

        let file = || Some(parse("address: ':2'\ntls: {key: file.key}\nlog: {audit: 'off'}").unwrap());
        let both = resolve(Flags::default(), file(), kept()).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(
            (both.address.port(), both.key, both.certificate),
            (2, "file.key".into(), "kept.crt".into())
        );
        assert!(!both.audit);
        assert_eq!((both.generation, both.layout), (Generation::V022, Layout::Raw));

        let flags = Flags {
            address: Some(([127, 0, 0, 1], 3).into()),
            key: Some("flag.key".into()),
            ..Flags::default()
        };
        let all = resolve(flags, file(), kept()).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!((all.address.to_string(), all.key), ("127.0.0.1:3".into(), "flag.key".into()));
    }

    #[test]
    fn audit_goes_to_standard_output_or_a_file_or_both_or_nowhere() {
        for (log, want) in [
            ("", (true, None)),
            ("log: {audit: 'off'}", (false, None)),
            ("log: {audit_file: /a}", (false, Some(Path::new("/a")))),
            ("log: {audit_file: /a, audit: 'on'}", (true, Some(Path::new("/a")))),
            ("log: {audit_file: ''}", (true, None)),
        ] {
            let file = parse(&format!("tls: {{key: k, cert: c}}\n{log}")).unwrap();
            let resolved = resolve(Flags::default(), Some(file), Settings::default());
            let resolved = resolved.unwrap_or_else(|f| panic!("{f}"));
            assert_eq!((resolved.audit, resolved.audit_file.as_deref()), want, "{log}");
        }
    }

    #[test]
    fn old_clients_and_old_ciphertexts_are_a_setting() {
        let text = "tls: {key: k, cert: c}\ncompatibility: v2025\nciphertext: message-pack";
        let resolved = resolve(Flags::default(), Some(parse(text).unwrap()), Settings::default());
        let resolved = resolved.unwrap_or_else(|f| panic!("{f}"));
        assert_eq!((resolved.generation, resolved.layout), (Generation::V2025, Layout::MessagePack));
    }

    #[test]
    fn the_size_of_the_cache_is_a_setting() {
        for (cache, want) in [("", CACHED_KEYS), ("cache: {keys: 2000000}", 2_000_000)] {
            let text = format!("tls: {{key: k, cert: c}}\n{cache}");
            let resolved = resolve(Flags::default(), Some(parse(&text).unwrap()), Settings::default());
            assert_eq!(resolved.unwrap_or_else(|f| panic!("{f}")).cached_keys, want);
        }
    }

    #[test]
    fn every_mistake_is_named() {
        for (text, expected) in [
            ("compatibility: v1", "unknown variant"),
            ("ciphertext: json", "unknown variant"),
            ("version: v2", "version 'v2' is not supported"),
            ("adress: x", "adress"),
            ("address: [", "invalid configuration:"),
        ] {
            let failure = parse(text).err().unwrap_or_else(|| panic!("{text} is accepted")).to_string();
            assert!(failure.contains(expected), "{failure}");
        }
        let tls = "tls: {key: k, cert: c}";
        for (text, expected) in [
            ("", "no key for TLS"),
            ("tls: {key: k}", "no cert for TLS"),
            (&*format!("{tls}\naddress: x"), "'x' is no address"),
            (&*format!("{tls}\ncache: {{keys: 0}}"), "'cache.keys' is 0"),
            (&*format!("{tls}\nbootstrap: await"), "'bootstrap: await' needs 'system.admin.identity'"),
        ] {
            let failure = resolve(Flags::default(), Some(parse(text).unwrap()), Settings::default()).err();
            let failure = failure.unwrap_or_else(|| panic!("{text} is accepted")).to_string();
            assert!(failure.contains(expected), "{failure}");
        }
    }
}

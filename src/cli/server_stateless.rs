//! `kes server --config FILE` without a data directory: what stateless KES does, on storage of our own.
//!
//! ```text
//! keystore.fs.path/unseal.key   made at the first start unless the unseal key is given; without 'data' it is refused
//! keystore.fs.path/data         the data directory, with the one enclave that stateless KES knows
//! ```
//! The file says who may do what, at each start anew: policies and identities that are not in it are removed, as they
//! would be gone in KES. The admin of the file is an identity with a policy like the others, so that it can be replaced;
//! the enclave's own admin is nobody. Keys are only ever added.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    addresses,
    failure::Failure,
    server::{self, Running, Signals},
    server_access::Wanted,
    server_banner::Banner,
    server_config::Flags,
    server_stateless_config::{self, Stateless},
    settings::{DEFAULT_UNSEAL_VARIABLE, Unseal, UnsealFile},
    terminal::Format,
};
use crate::{
    api::{
        ApiError, EnclaveName, Identity, PolicyName,
        message::{self, Matching},
    },
    audit::{AuditLog, Stdout},
    authz::{Action, Authorized, Role, authorize},
    crypto::{Layout, MemoryLock, SecretKey},
    server::ReadAgain,
    service::{
        self, CACHED_KEYS, Service, Setup,
        bootstrap::{self, EnclavePlan, Plan},
    },
    store::Directory,
    world::System,
};

/// Who changes policies at start. No certificate has this identity, since it is no hash.
const CONFIGURATION: &str = "configuration";
/// The policy of the file's admin.
const ADMIN_POLICY: &str = "_admin";
/// The unseal key's file before anything is sealed with it.
const FRESH_KEY: &str = "unseal.key.new";
/// Length of an identity that somebody can have.
const HASH_LEN: usize = 64;

/// Runs until it is told to stop.
pub(super) async fn serve(
    file: PathBuf,
    flags: Flags,
    format: &Format,
    memory: MemoryLock,
    signals: Signals,
) -> Result<(), Failure> {
    let config = read_file(&file, &flags)?;
    let (access, verified) = (config.wanted.access()?, config.wanted.verify);
    let running = config.clone();
    let Stateless {
        address,
        health,
        key,
        certificate,
        password,
        admin,
        policies,
        keys,
        directory,
        unseal,
        audit,
        generation,
        wanted: _,
    } = config;
    let key = required(key, "key")?;
    let certificate = required(certificate, "cert")?;
    let policies = with_admin(policies, &admin)?;
    let service = open(&directory, unseal).await?;
    if let Err(failure) = converge(&service, &policies, &keys).await {
        service.close().await;
        return Err(failure);
    }
    let audit = if audit { AuditLog::new(Stdout) } else { Ok(AuditLog::none()) }
        .map_err(|error| Failure::new(format!("failed to start the audit log: {error}"), ""))?;
    let again = Some(read_again(file, flags, running, service.clone()));
    let running = Running {
        address,
        health,
        certificate,
        key,
        password,
        service,
        audit,
        generation,
        access,
        again,
        memory,
        signals,
    };
    running
        .serve(|address, locked| {
            let endpoints = addresses::endpoints(address);
            let keystore = directory.display().to_string();
            let admin = if is_hash(&admin) { admin.as_str() } else { "_ [ disabled ]" };
            let stateless = Some((keystore.as_str(), admin));
            Banner { format, endpoints: &endpoints, locked, verified, stateless, development: None }.show()
        })
        .await
}

/// The file, with what the flags say instead.
fn read_file(file: &Path, flags: &Flags) -> Result<Stateless, Failure> {
    let config =
        server::read(file, |text| server_stateless_config::parse(text, &|name| std::env::var_os(name)))?;
    let Flags { verify, address, key, cert } = flags.clone();
    Ok(Stateless {
        address: address.unwrap_or(config.address),
        key: key.or(config.key),
        certificate: cert.or(config.certificate),
        wanted: Wanted { verify: verify.unwrap_or(config.wanted.verify), ..config.wanted },
        ..config
    })
}

/// Reads the file again: policies, identities, keys and who gets in are taken, what needs a restart is told.
fn read_again(file: PathBuf, flags: Flags, running: Stateless, service: Service) -> ReadAgain {
    Box::new(move || {
        let (config, service) = (read_file(&file, &flags), service.clone());
        let differs = config.as_ref().map(|config| config.differs_from(&running)).unwrap_or_default();
        let again = async move {
            let config = config?;
            // all that can be refused is, before anything is changed
            let access = config.wanted.access()?;
            let policies = with_admin(config.policies, &config.admin)?;
            converge(&service, &policies, &config.keys).await?;
            server::tell_what_waits(&differs);
            Ok(access)
        };
        Box::pin(async move { again.await.map_err(|failure: Failure| failure.to_string()) })
    })
}

fn required(path: Option<PathBuf>, flag: &str) -> Result<PathBuf, Failure> {
    path.ok_or_else(|| {
        Failure::new(
            format!("invalid configuration: no {flag} for TLS"),
            format!(
                "Set 'tls.{flag}' or give '--{flag}'; 'kes identity new --ip ADDRESS SUBJECT' makes a pair."
            ),
        )
    })
}

fn is_hash(identity: &Identity) -> bool {
    identity.as_str().len() == HASH_LEN
}

type Policies = Vec<(PolicyName, message::Policy, Vec<Identity>)>;

/// The policies of the file, and one for its admin.
fn with_admin(mut policies: Policies, admin: &Identity) -> Result<Policies, Failure> {
    let name: PolicyName = ADMIN_POLICY.parse().map_err(Failure::from)?;
    if policies.iter().any(|(other, ..)| *other == name) {
        return Err(Failure::new(
            format!("invalid configuration: policy '{name}' is the admin's own"),
            "Give the policy another name.",
        ));
    }
    if is_hash(admin) {
        let all = message::Policy {
            allow: vec!["/v1/*".into(), "/version".into()],
            deny: Vec::new(),
            matching: Matching::Prefix,
        };
        policies.push((name, all, vec![admin.clone()]));
    }
    Ok(policies)
}

async fn open(directory: &Path, unseal: Option<Unseal>) -> Result<Service, Failure> {
    let (data, key) = (directory.join("data"), directory.join("unseal.key"));
    // it gets its name when there is something that it opens
    let fresh = directory.join(FRESH_KEY);
    let is_new = !Directory::is_initialised(&data);
    if is_new {
        refuse_foreign(directory)?;
        refuse_half(directory, &key)?;
    }
    let unseal = match unseal {
        Some(unseal) => unseal,
        None if key.exists() => in_file(&key),
        None if fresh.exists() => in_file(&fresh),
        None if is_new && std::env::var_os(DEFAULT_UNSEAL_VARIABLE).is_none() => {
            make_unseal_key(directory, &fresh)?;
            in_file(&fresh)
        }
        None => Unseal::conventional(),
    };
    let (mut seal, ..) = unseal.provider()?;
    if is_new {
        let default = EnclavePlan {
            name: EnclaveName::default_enclave(),
            admin: configuration()?,
            policies: Vec::new(),
        };
        let plan = Plan {
            cluster_id: None,
            system_admin: Identity::new("nobody")?,
            settings: serde_json::Value::Null,
            enclaves: vec![default],
        };
        std::fs::create_dir_all(directory).map_err(|error| Failure::write("directory", directory, &error))?;
        bootstrap::init(&data, seal.clone(), plan).await?;
    }
    if fresh.exists() {
        std::fs::rename(&fresh, &key)
            .and_then(|()| sync(directory))
            .map_err(|error| Failure::write("unseal key", &key, &error))?;
        // whoever asked for another one goes on with that
        if unseal.file.as_ref().is_some_and(|file| file.path == fresh) {
            (seal, ..) = in_file(&key).provider()?;
        }
    }
    let setup = Setup {
        dir: data,
        seal,
        previous_seal: None,
        await_bootstrap: None,
        layout: Layout::default(),
        cached_keys: CACHED_KEYS,
        clock: Arc::new(System),
        random: Arc::new(System),
    };
    Ok(Service::open(setup).await?)
}

fn in_file(path: &Path) -> Unseal {
    Unseal { environment: None, file: Some(UnsealFile { path: path.into() }), previous: None }
}

/// Keys of stateless KES itself are not read, and must not be hidden under ours.
fn refuse_foreign(directory: &Path) -> Result<(), Failure> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    let ours = ["unseal.key", FRESH_KEY, "data", "data.init"];
    let foreign = entries.flatten().find(|entry| !ours.iter().any(|name| entry.file_name() == *name));
    match foreign {
        None => Ok(()),
        Some(entry) => Err(Failure::new(
            format!(
                "'{}' holds files of another program, for example '{}'",
                directory.display(),
                entry.file_name().display()
            ),
            "Name an empty directory as 'keystore.fs.path'. Keys of KES are brought over one by one: 'kes key import NAME KEY', with the 'bytes' of the key's file.",
        )),
    }
}

/// Where there is an unseal key there was something that it opens: a key that is made anew under an old name would look
/// well, and open nothing that was encrypted before.
fn refuse_half(directory: &Path, key: &Path) -> Result<(), Failure> {
    if !key.exists() {
        return Ok(());
    }
    Err(Failure::new(
        format!(
            "'{}' is half a copy: it has an unseal key and not the keys that it opens",
            directory.display()
        ),
        "Bring back 'data' of the same moment; or, if nothing was ever encrypted with those keys, move 'unseal.key' away.",
    ))
}

fn sync(directory: &Path) -> std::io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

/// The key lies beside what it seals, which protects as much as KES's own key store did: not at all. It can be given
/// instead.
fn make_unseal_key(directory: &Path, path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|error| Failure::write("directory", directory, &error))?;
    let key = SecretKey::generate(&System);
    let text = zeroize::Zeroizing::new(STANDARD.encode(key.expose()) + "\n");
    super::identity_local::write(path, text.as_bytes(), 0o600, false)
        .map_err(|error| Failure::write("unseal key", path, &error))?;
    sync(directory).map_err(|error| Failure::write("unseal key", path, &error))?;
    tracing::warn!(
        path = %path.display(),
        "made an unseal key beside the keys: whoever reads the directory has them all, as with the key store 'fs' of KES; set {DEFAULT_UNSEAL_VARIABLE} before the first start to keep it elsewhere",
    );
    Ok(())
}

fn configuration() -> Result<Identity, Failure> {
    Ok(Identity::new(CONFIGURATION)?)
}

/// Makes the enclave say what the file says.
async fn converge(
    service: &Service,
    policies: &Policies,
    keys: &[crate::api::KeyName],
) -> Result<(), Failure> {
    let (caller, enclave) = (configuration()?, EnclaveName::default_enclave());
    let (caller, enclave) = (&caller, &enclave);
    let wanted: std::collections::BTreeMap<&Identity, &PolicyName> = policies
        .iter()
        .flat_map(|(name, _, identities)| identities.iter().map(move |identity| (identity, name)))
        .collect();
    let assigned = service.list_identities(&admin(caller, enclave)?, "")?;
    for (identity, _) in assigned.iter().filter(|(identity, _)| !wanted.contains_key(identity)) {
        service.delete_identity(&admin(caller, enclave)?, identity).await?;
        tracing::info!(%identity, "identity removed: it is not in the configuration");
    }
    for info in service.list_policies(&admin(caller, enclave)?, "")? {
        let Some(name) = info.name else { continue };
        if !policies.iter().any(|(wanted, ..)| *wanted == name) {
            service.delete_policy(&admin(caller, enclave)?, &name).await?;
            tracing::info!(policy = %name, "policy removed: it is not in the configuration");
        }
    }
    for (name, rules, _) in policies {
        let message::Policy { allow, deny, matching } = rules;
        let same = service
            .read_policy(&admin(caller, enclave)?, name)
            .is_ok_and(|body| (&body.allow, &body.deny, body.matching) == (allow, deny, *matching));
        if !same {
            service.write_policy(&admin(caller, enclave)?, name, rules).await?;
        }
    }
    for (identity, name) in wanted {
        let same = assigned.iter().any(|(other, info)| other == identity && info.policy == name.as_str());
        if !same {
            service.assign_policy(&admin(caller, enclave)?, name, identity).await?;
        }
    }
    for name in keys {
        match service.create_key(&admin(caller, enclave)?, name).await {
            Err(error) if error.to_api() == ApiError::KEY_EXISTS => {}
            Err(error) => return Err(Failure::from(error).about(format!("key '{name}'"))),
            Ok(()) => tracing::info!(key = %name, "key created: it is in the configuration"),
        }
    }
    Ok(())
}

/// The right of whoever starts the process over its one enclave.
fn admin<'a, A: Action>(
    caller: &'a Identity,
    enclave: &'a EnclaveName,
) -> Result<Authorized<'a, A>, Failure> {
    authorize(caller, enclave, Role::EnclaveAdmin, "")
        .map_err(|denied| service::Error::from(ApiError::from(denied)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(list: &[(&str, &str, &[&str])]) -> Policies {
        let policy = |(name, rule, identities): &(&str, &str, &[&str])| {
            let rules = message::Policy { allow: vec![(*rule).into()], ..message::Policy::default() };
            let identities = identities.iter().map(|identity| Identity::new(identity).unwrap()).collect();
            (name.parse().unwrap(), rules, identities)
        };
        list.iter().map(policy).collect()
    }

    /// What the enclave says: `policy: rule <- identities`.
    fn contents(service: &Service) -> Vec<String> {
        let (caller, enclave) = (configuration().unwrap(), EnclaveName::default_enclave());
        let list = service.list_policies(&admin(&caller, &enclave).unwrap(), "").unwrap();
        let identities = service.list_identities(&admin(&caller, &enclave).unwrap(), "").unwrap();
        let show = |name: PolicyName| {
            let rules = service.read_policy(&admin(&caller, &enclave).unwrap(), &name).unwrap().allow;
            let who = identities.iter().filter(|(_, info)| info.policy == name.as_str());
            let who: Vec<_> = who.map(|(identity, _)| identity.as_str()).collect();
            format!("{name}: {} <- {}", rules.join(" "), who.join(" "))
        };
        list.into_iter().filter_map(|info| info.name).map(show).collect()
    }

    #[tokio::test]
    async fn half_a_copy_is_refused_and_a_start_that_was_broken_off_is_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        // broken off after the key was made
        make_unseal_key(&path, &path.join(FRESH_KEY)).unwrap();
        let made = std::fs::read(path.join(FRESH_KEY)).unwrap();
        let service = open(&path, None).await.unwrap();
        assert_eq!(std::fs::read(path.join("unseal.key")).unwrap(), made);
        assert!(!path.join(FRESH_KEY).exists());
        service.close().await;
        drop(service);
        // broken off before the key had its name
        std::fs::rename(path.join("unseal.key"), path.join(FRESH_KEY)).unwrap();
        let service = open(&path, None).await.unwrap();
        assert_eq!(std::fs::read(path.join("unseal.key")).unwrap(), made);
        service.close().await;
        drop(service);
        std::fs::rename(path.join("data"), directory.path().join("elsewhere")).unwrap();
        let failure = open(&path, None).await.err().unwrap().to_string();
        assert!(failure.contains("half a copy"), "{failure}");
        assert!(!path.join("data").exists());
        std::fs::rename(directory.path().join("elsewhere"), path.join("data")).unwrap();
        open(&path, None).await.unwrap().close().await;
    }

    #[tokio::test]
    async fn after_each_start_the_enclave_says_what_the_file_says_and_keys_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let unseal = || {
            let file = directory.path().join("unseal");
            std::fs::write(&file, STANDARD.encode([7; 32])).unwrap();
            Some(in_file(&file))
        };
        let keys = ["a".parse().unwrap()];
        let service = open(&path, unseal()).await.unwrap();
        let first = policies(&[("p", "/v1/status", &["one", "two"]), ("q", "/v1/api", &["three"])]);
        converge(&service, &first, &keys).await.unwrap();
        assert_eq!(contents(&service), ["p: /v1/status <- one two", "q: /v1/api <- three"]);
        let before = service.cluster(&authorize_system()).applied;
        converge(&service, &first, &keys).await.unwrap();
        // the key is asked for again, and refused; nothing else is written
        assert!(service.cluster(&authorize_system()).applied <= before + 1);
        service.close().await;
        drop(service);

        let service = open(&path, unseal()).await.unwrap();
        let second = policies(&[("p", "/v1/ready", &["three"]), ("r", "/v1/api", &[])]);
        converge(&service, &second, &[]).await.unwrap();
        assert_eq!(contents(&service), ["p: /v1/ready <- three", "r: /v1/api <- "]);
        let (caller, enclave) = (configuration().unwrap(), EnclaveName::default_enclave());
        assert!(service.describe_key(&admin(&caller, &enclave).unwrap(), &"a".parse().unwrap()).is_ok());
        service.close().await;
    }

    fn authorize_system() -> Authorized<'static, crate::authz::action::DescribeCluster> {
        static NOBODY: std::sync::LazyLock<(Identity, EnclaveName)> =
            std::sync::LazyLock::new(|| (Identity::new("nobody").unwrap(), EnclaveName::default_enclave()));
        authorize(&NOBODY.0, &NOBODY.1, Role::SystemAdmin, "").unwrap()
    }

    #[test]
    fn the_admin_of_the_file_may_do_everything_and_a_disabled_one_is_nobody() {
        let hash = Identity::new(&"a".repeat(64)).unwrap();
        let with = with_admin(policies(&[("p", "/v1/status", &[])]), &hash).unwrap();
        let [_, (name, rules, identities)] = with.as_slice() else { panic!("two policies") };
        assert_eq!((name.as_str(), identities.as_slice()), (ADMIN_POLICY, [hash.clone()].as_slice()));
        let compiled = crate::authz::Policy::compile(rules).unwrap();
        for path in ["/version", "/v1/status", "/v1/key/create/x", "/v1/secret/read/y"] {
            assert!(matches!(compiled.decide(path), crate::authz::Decision::Allow(_)), "{path}");
        }
        assert!(with_admin(Vec::new(), &Identity::new("disabled").unwrap()).unwrap().is_empty());
        assert!(with_admin(policies(&[(ADMIN_POLICY, "/v1/status", &[])]), &hash).is_err());
    }
}

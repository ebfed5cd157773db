//! validate: parses the spec into [`Wanted`], the only input of the steps behind it. Pure; every error names a field.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, OwnerReference,
};
use kube::{Resource, core::Selector};

use super::purpose::Purpose;
use crate::{
    api::{
        API_PORT, EnclaveName, KeyName, NameError, PolicyName,
        message::{Matching, Policy},
    },
    crd::{
        self, DeletionPolicy, ImagePullPolicy, KesCluster, LabelOperator, Mode, Mount, PodOverrides,
        RestartPolicy,
    },
    operator::{names, rule::Rule},
};

/// Longest name of a cluster; names of Services and Secrets are made from it.
const MAX_CLUSTER_NAME: usize = 40;

/// What the operator knows besides the spec.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Defaults {
    /// The operator's own image.
    pub(crate) image: String,
    /// DNS domain of the Kubernetes cluster.
    pub(crate) domain: String,
}

/// A spec that obeys every rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) owner: OwnerReference,
    /// Tenants depend on the cluster, or may soon: nothing may be collected together with the `KesCluster`.
    pub(crate) guarded: bool,
    pub(crate) domain: String,
    /// Members: one, in this release.
    pub(crate) replicas: i32,
    pub(crate) image: String,
    pub(crate) pull_policy: ImagePullPolicy,
    pub(crate) storage: crd::Storage,
    pub(crate) deletion: DeletionPolicy,
    pub(crate) seal: Seal,
    pub(crate) enclaves: Vec<Enclave>,
    /// Those that the spec names; after [`super::select::settle`] all that a pass is about.
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) selection: Option<Selection>,
    pub(crate) tls: Tls,
    pub(crate) network: crd::NetworkPolicy,
    pub(crate) monitoring: crd::Monitoring,
    pub(crate) pod: PodOverrides,
}

/// Where the server's certificate comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tls {
    /// The cluster's own authority.
    Own { validity: Duration },
    /// A Secret of the user's.
    Secret { name: String },
    /// cert-manager, which puts it into a Secret that we name.
    Issuer { issuer: crd::IssuerReference, secret: String },
}

impl Tls {
    /// The Secret that somebody else keeps up to date.
    pub(crate) fn source(&self) -> Option<&str> {
        match self {
            Self::Own { .. } => None,
            Self::Secret { name } | Self::Issuer { secret: name, .. } => Some(name),
        }
    }
}

/// Which Tenants are meant by their labels, and how they are treated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Selection {
    /// As the API server takes it.
    pub(crate) labels: String,
    /// Where to look; empty means wherever the operator does.
    pub(crate) namespaces: Vec<String>,
    pub(crate) enclave: EnclaveName,
    /// Absent: each tenant has its own.
    pub(crate) key: Option<KeyName>,
    pub(crate) restart: RestartPolicy,
    pub(crate) mount: Mount,
    pub(crate) mode: Mode,
    pub(crate) policy: Option<PolicyName>,
}

/// Where the unseal key is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seal {
    pub(crate) secret: String,
    pub(crate) key: String,
    /// Made by the operator, not brought by the user.
    pub(crate) generated: bool,
}

/// An enclave and what it shall hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Enclave {
    pub(crate) name: EnclaveName,
    pub(crate) keys: BTreeSet<KeyName>,
    pub(crate) policies: BTreeMap<PolicyName, Policy>,
    pub(crate) identities: Vec<Grant>,
}

/// An application and its policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Grant {
    pub(crate) name: String,
    pub(crate) policy: PolicyName,
    pub(crate) secret: String,
}

/// A MinIO Tenant that shall be wired.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tenant {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) enclave: EnclaveName,
    pub(crate) key: KeyName,
    pub(crate) restart: RestartPolicy,
    pub(crate) mount: Mount,
    pub(crate) mode: Mode,
    /// Absent: one is made for it.
    pub(crate) policy: Option<PolicyName>,
    pub(crate) standing: Standing,
}

/// Whether the spec asks for a tenant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// By name or by label.
    Wanted,
    /// No more. What was put into it stays until somebody asks for its removal.
    Left { unwire: bool },
}

impl Wanted {
    /// Owners of an object that goes with the `KesCluster`.
    pub(crate) fn owners(&self) -> Option<Vec<OwnerReference>> {
        (!self.guarded).then(|| vec![self.owner.clone()])
    }

    pub(crate) fn has_tenant(&self, namespace: &str, name: &str) -> bool {
        self.tenants.iter().any(|tenant| tenant.namespace == namespace && tenant.name == name)
    }

    /// Names that tenants and the operator check the server's certificate against.
    pub(crate) fn checked_names(&self) -> [String; 2] {
        [self.server_name(), self.full_server_name()]
    }

    /// Name that the server's certificate is checked against.
    pub(crate) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// The same with the domain of the Kubernetes cluster, as clients in other namespaces use it.
    pub(crate) fn full_server_name(&self) -> String {
        format!("{}.{}", self.server_name(), self.domain)
    }

    /// Where clients reach the key API.
    pub(crate) fn endpoint(&self) -> String {
        format!("https://{}:{API_PORT}", self.full_server_name())
    }

    /// Every Secret with generated key material, the authority first.
    pub(crate) fn purposes(&self) -> Vec<Purpose> {
        let mut purposes = vec![Purpose::Authority, Purpose::ServerCertificate];
        if self.seal.generated {
            purposes.push(Purpose::Seal);
        }
        purposes.push(Purpose::SystemAdmin);
        for enclave in &self.enclaves {
            purposes.push(Purpose::EnclaveAdmin(enclave.name.clone()));
            for Grant { name, secret, policy: _ } in &enclave.identities {
                purposes.push(Purpose::Identity {
                    enclave: enclave.name.clone(),
                    name: name.clone(),
                    secret: secret.clone(),
                });
            }
        }
        for tenant in &self.tenants {
            purposes.push(Purpose::Tenant { namespace: tenant.namespace.clone(), name: tenant.name.clone() });
        }
        purposes
    }
}

/// Parses `cluster`.
///
/// # Errors
/// The first rule that is broken, with the field.
pub(crate) fn validate(cluster: &KesCluster, defaults: &Defaults) -> Result<Wanted, Rule> {
    let crd::KesClusterSpec {
        replicas,
        image,
        image_pull_policy,
        storage,
        deletion_policy,
        seal,
        enclaves,
        tenants,
        tenant_selector,
        tls,
        network_policy,
        monitoring,
        paused: _,
        pod,
    } = &cluster.spec;
    let name = cluster.metadata.name.clone().unwrap_or_default();
    let namespace = cluster.metadata.namespace.clone().unwrap_or_default();
    if name.len() > MAX_CLUSTER_NAME || !is_service_name(&name) {
        return Err(invalid(
            "metadata.name",
            "it must begin with a letter, consist of a-z, 0-9 and '-', and have 40 characters at most",
        ));
    }
    if *replicas < 1 || replicas % 2 == 0 {
        return Err(invalid(
            "spec.replicas",
            format!("{replicas} is no odd number from 1, so there is no majority"),
        ));
    }
    if *replicas != 1 {
        return Err(invalid(
            "spec.replicas",
            format!("{replicas} members need replication, which comes with a later release; set it to 1"),
        ));
    }
    if !is_quantity(&storage.size) {
        return Err(invalid("spec.storage.size", format!("{:?} is no size such as 1Gi", storage.size)));
    }
    let image = match image.as_deref().unwrap_or(&defaults.image) {
        "" => {
            return Err(invalid(
                "spec.image",
                "neither it nor the operator's --image is set, so the image is unknown",
            ));
        }
        image => image.to_owned(),
    };
    let seal = match seal {
        None => Seal { secret: names::seal_secret(&name), key: "KES_UNSEAL_KEY".into(), generated: true },
        Some(crd::Seal { secret_ref: crd::SecretKeyReference { name: secret, key } }) => {
            Seal { secret: secret.clone(), key: key.clone(), generated: false }
        }
    };

    let enclaves = unique(enclaves, "spec.enclaves", |enclave| enclave.name.clone())?
        .map(|(field, enclave)| parse_enclave(&field, enclave))
        .collect::<Result<Vec<_>, _>>()?;
    if enclaves.is_empty() {
        return Err(invalid("spec.enclaves", "there must be one at least"));
    }
    let tenants = unique(tenants, "spec.tenants", |tenant| format!("{}/{}", tenant.namespace, tenant.name))?
        .map(|(field, tenant)| parse_tenant(&field, tenant, &enclaves))
        .collect::<Result<Vec<_>, _>>()?;
    let selection =
        tenant_selector.as_ref().map(|selector| parse_selector(selector, &enclaves)).transpose()?;
    let tls = parse_tls(&name, tls.as_ref())?;

    let wanted = Wanted {
        owner: cluster.controller_owner_ref(&()).ok_or_else(|| invalid("metadata.uid", "it is missing"))?,
        guarded: !tenants.is_empty() || selection.is_some(),
        name,
        namespace,
        domain: defaults.domain.clone(),
        replicas: *replicas,
        image,
        pull_policy: *image_pull_policy,
        storage: storage.clone(),
        deletion: *deletion_policy,
        seal,
        enclaves,
        tenants,
        selection,
        tls,
        network: network_policy.clone().unwrap_or_default(),
        monitoring: monitoring.clone().unwrap_or_default(),
        pod: pod.clone().unwrap_or_default(),
    };
    secrets_are_distinct(&wanted)?;
    Ok(wanted)
}

fn parse_enclave(field: &str, enclave: &crd::Enclave) -> Result<Enclave, Rule> {
    let crd::Enclave { name, keys, policies, identities } = enclave;
    let name = named(&format!("{field}.name"), EnclaveName::new(name))?;
    let keys = unique(keys, &format!("{field}.keys"), |key| key.name.clone())?
        .map(|(field, key)| named(&format!("{field}.name"), KeyName::new(&key.name)))
        .collect::<Result<BTreeSet<_>, _>>()?;
    let policies = unique(policies, &format!("{field}.policies"), |policy| policy.name.clone())?
        .map(|(field, policy)| parse_policy(&field, policy))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let identities = unique(identities, &format!("{field}.identities"), |identity| identity.name.clone())?
        .map(|(field, crd::IdentityGrant { name, policy, secret_name })| {
            let policy = known_policy(&format!("{field}.policy"), policy, &policies)?;
            if !is_object_name(secret_name) {
                return Err(invalid(
                    &format!("{field}.secretName"),
                    format!("{secret_name:?} is no name of a Secret"),
                ));
            }
            Ok(Grant { name: name.clone(), policy, secret: secret_name.clone() })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Enclave { name, keys, policies, identities })
}

fn parse_policy(field: &str, rules: &crd::PolicyRules) -> Result<(PolicyName, Policy), Rule> {
    let crd::PolicyRules { name, allow, deny, matching } = rules;
    for (list, patterns) in [("allow", allow), ("deny", deny)] {
        for (index, pattern) in patterns.iter().enumerate() {
            // a pattern without the slash matches no path: a deny that never denies must not pass silently
            if !pattern.starts_with('/') {
                let field = format!("{field}.{list}[{index}]");
                return Err(invalid(&field, format!("{pattern:?} must begin with '/', as every path does")));
            }
        }
    }
    let name = named(&format!("{field}.name"), PolicyName::new(name))?;
    let matching = match matching {
        crd::Matching::Glob => Matching::Glob,
        crd::Matching::Prefix => Matching::Prefix,
    };
    Ok((name, Policy { allow: allow.clone(), deny: deny.clone(), matching }))
}

fn parse_tenant(field: &str, tenant: &crd::Tenant, enclaves: &[Enclave]) -> Result<Tenant, Rule> {
    let crd::Tenant { name, namespace, enclave, key_name, restart_policy, mount, mode, policy } = tenant;
    for (part, text) in [("name", name), ("namespace", namespace)] {
        if text.len() > 63 || !is_label(text) {
            return Err(invalid(&format!("{field}.{part}"), format!("{text:?} is no DNS label")));
        }
    }
    let (enclave_name, policy) = parse_place(field, enclave, policy.as_deref(), enclaves)?;
    Ok(Tenant {
        namespace: namespace.clone(),
        name: name.clone(),
        enclave: enclave_name,
        key: named(&format!("{field}.keyName"), KeyName::new(key_name))?,
        restart: *restart_policy,
        mount: *mount,
        mode: *mode,
        policy,
        standing: Standing::Wanted,
    })
}

fn parse_selector(selector: &crd::TenantSelector, enclaves: &[Enclave]) -> Result<Selection, Rule> {
    const FIELD: &str = "spec.tenantSelector";
    let crd::TenantSelector {
        match_labels,
        match_expressions,
        namespaces,
        enclave,
        key_name,
        restart_policy,
        mount,
        mode,
        policy,
    } = selector;
    if match_labels.is_empty() && match_expressions.is_empty() {
        return Err(invalid(
            FIELD,
            "it needs matchLabels or matchExpressions, else it would select every Tenant",
        ));
    }
    let requirements = match_expressions.iter().map(|crd::LabelExpression { key, operator, values }| {
        let operator = match operator {
            LabelOperator::In => "In",
            LabelOperator::NotIn => "NotIn",
            LabelOperator::Exists => "Exists",
            LabelOperator::DoesNotExist => "DoesNotExist",
        };
        LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.into(),
            values: (!values.is_empty()).then(|| values.clone()),
        }
    });
    let labels = LabelSelector {
        match_expressions: Some(requirements.collect()),
        match_labels: Some(match_labels.clone()),
    };
    let labels = Selector::try_from(labels)
        .map_err(|error| invalid(&format!("{FIELD}.matchExpressions"), error.to_string()))?;
    let (enclave, policy) = parse_place(FIELD, enclave, policy.as_deref(), enclaves)?;
    let key =
        key_name.as_ref().map(|key| named(&format!("{FIELD}.keyName"), KeyName::new(key))).transpose()?;
    Ok(Selection {
        labels: labels.to_string(),
        namespaces: namespaces.clone(),
        enclave,
        key,
        restart: *restart_policy,
        mount: *mount,
        mode: *mode,
        policy,
    })
}

/// The enclave of a tenant, and its policy if it names one.
fn parse_place(
    field: &str,
    enclave: &str,
    policy: Option<&str>,
    enclaves: &[Enclave],
) -> Result<(EnclaveName, Option<PolicyName>), Rule> {
    let name = named(&format!("{field}.enclave"), EnclaveName::new(enclave))?;
    if name != EnclaveName::default_enclave() {
        let problem = "MinIO cannot choose an enclave and always uses 'default'; set it to that";
        return Err(invalid(&format!("{field}.enclave"), problem));
    }
    let Some(enclave) = enclaves.iter().find(|known| known.name == name) else {
        return Err(invalid(&format!("{field}.enclave"), format!("spec.enclaves has no enclave {name}")));
    };
    let policy = policy
        .map(|policy| known_policy(&format!("{field}.policy"), policy, &enclave.policies))
        .transpose()?;
    Ok((name, policy))
}

fn parse_tls(cluster: &str, tls: Option<&crd::Tls>) -> Result<Tls, Rule> {
    const DAY: Duration = Duration::from_secs(86_400);
    let Some(crd::Tls { server_secret_ref, issuer_ref, validity_days }) = tls else {
        return Ok(Tls::Own { validity: DAY * 365 });
    };
    let days = u32::try_from(*validity_days).ok().filter(|days| (1..=3650).contains(days));
    let days = days.ok_or_else(|| invalid("spec.tls.validityDays", "it must be between 1 and 3650"))?;
    match (server_secret_ref, issuer_ref) {
        (None, None) => Ok(Tls::Own { validity: DAY * days }),
        (Some(reference), None) => Ok(Tls::Secret { name: reference.name.clone() }),
        (None, Some(issuer)) => {
            Ok(Tls::Issuer { issuer: issuer.clone(), secret: names::issued_secret(cluster) })
        }
        (Some(_), Some(_)) => {
            Err(invalid("spec.tls", "it takes serverSecretRef or issuerRef, not both; remove one of them"))
        }
    }
}

fn known_policy(
    field: &str,
    name: &str,
    policies: &BTreeMap<PolicyName, Policy>,
) -> Result<PolicyName, Rule> {
    let name = named(field, PolicyName::new(name))?;
    if policies.contains_key(&name) {
        Ok(name)
    } else {
        Err(invalid(field, format!("the enclave has no policy {name}")))
    }
}

/// One Secret cannot hold two key pairs.
fn secrets_are_distinct(wanted: &Wanted) -> Result<(), Rule> {
    let mut seen = BTreeMap::new();
    if !wanted.seal.generated {
        seen.insert(wanted.seal.secret.clone(), "spec.seal.secretRef".to_owned());
    }
    if let Some(source) = wanted.tls.source() {
        seen.insert(source.to_owned(), "spec.tls".to_owned());
    }
    for purpose in wanted.purposes() {
        let secret = purpose.secret(&wanted.name);
        if let Some(other) = seen.insert(secret.clone(), purpose.to_string()) {
            return Err(invalid(
                "spec.enclaves[].identities[].secretName",
                format!("Secret {secret} is meant for two things: {other}, and {purpose}"),
            ));
        }
    }
    Ok(())
}

/// Items with their path, refused when two have the same key.
fn unique<'a, T>(
    items: &'a [T],
    field: &str,
    key: impl Fn(&T) -> String,
) -> Result<impl Iterator<Item = (String, &'a T)>, Rule> {
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let key = key(item);
        if !seen.insert(key.clone()) {
            return Err(invalid(&format!("{field}[{index}]"), format!("{key} is there twice")));
        }
    }
    let field = field.to_owned();
    Ok(items.iter().enumerate().map(move |(index, item)| (format!("{field}[{index}]"), item)))
}

fn named<T>(field: &str, parsed: Result<T, NameError>) -> Result<T, Rule> {
    parsed.map_err(|error| {
        let problem = match error {
            NameError::Empty => "a name must not be empty",
            NameError::TooLong => "a name has 80 characters at most",
            _ => "a name consists of 0-9, A-Z, a-z, '-' and '_'",
        };
        invalid(field, problem)
    })
}

fn invalid(field: &str, problem: impl Into<String>) -> Rule {
    Rule::InvalidSpec { field: field.into(), problem: problem.into() }
}

/// Whether `text` is a DNS label.
pub(crate) fn is_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || c == '-')
}

fn is_service_name(text: &str) -> bool {
    is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    digits.parse::<f64>().is_ok_and(|size| size > 0.0)
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && ["", "Ki", "Mi", "Gi", "Ti", "k", "M", "G", "T"].contains(&unit)
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::*;

    /// Names are chosen so that a swapped one is seen.
    const MINIMAL: &str = r"
        apiVersion: kes-operator.io/v1alpha1
        kind: KesCluster
        metadata: {name: vault, namespace: keys, uid: 11111111-2222-3333-4444-555555555555, generation: 3}
        spec:
          enclaves:
            - name: default
              keys: [{name: first-key}]
              policies: [{name: reader, allow: [/v1/key/decrypt/*], deny: [/v1/key/decrypt/secret-*]}]
              identities: [{name: app-1, policy: reader, secretName: app-1-kes}]
          tenants:
            - {name: myminio, namespace: tenant-lite, keyName: minio-default-key}
    ";

    pub(crate) fn cluster() -> KesCluster {
        serde_saphyr::from_str(MINIMAL).unwrap()
    }

    pub(crate) fn defaults() -> Defaults {
        Defaults { image: "localhost/kes:dev".into(), domain: "cluster.local".into() }
    }

    /// The fixture through the real step.
    pub(crate) fn wanted() -> Wanted {
        validate(&cluster(), &defaults()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::{fixture::*, *};

    type Change = Box<dyn FnOnce(&mut KesCluster)>;

    fn refusal(change: impl FnOnce(&mut KesCluster)) -> (String, String) {
        let mut cluster = cluster();
        change(&mut cluster);
        match validate(&cluster, &defaults()) {
            Err(Rule::InvalidSpec { field, problem }) => (field, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_broken_rule_names_its_field() {
        let cases: Vec<(&str, Change)> = vec![
            ("metadata.name", Box::new(|c| c.metadata.name = Some("1st".into()))),
            ("metadata.name", Box::new(|c| c.metadata.name = Some("n".repeat(41)))),
            ("metadata.uid", Box::new(|c| c.metadata.uid = None)),
            ("spec.replicas", Box::new(|c| c.spec.replicas = 2)),
            ("spec.replicas", Box::new(|c| c.spec.replicas = 0)),
            ("spec.replicas", Box::new(|c| c.spec.replicas = 3)),
            ("spec.image", Box::new(|c| c.spec.image = Some(String::new()))),
            ("spec.storage.size", Box::new(|c| c.spec.storage.size = "much".into())),
            ("spec.storage.size", Box::new(|c| c.spec.storage.size = "0".into())),
            ("spec.storage.size", Box::new(|c| c.spec.storage.size = "1e3".into())),
            (
                "spec.enclaves",
                Box::new(|c| {
                    c.spec.enclaves.clear();
                    c.spec.tenants.clear();
                }),
            ),
            ("spec.enclaves[0].name", Box::new(|c| c.spec.enclaves[0].name = "a b".into())),
            ("spec.enclaves[1]", Box::new(|c| c.spec.enclaves.push(c.spec.enclaves[0].clone()))),
            ("spec.enclaves[0].keys[0].name", Box::new(|c| c.spec.enclaves[0].keys[0].name = "a/b".into())),
            (
                "spec.enclaves[0].policies[0].name",
                Box::new(|c| c.spec.enclaves[0].policies[0].name = String::new()),
            ),
            (
                "spec.enclaves[0].policies[0].deny[0]",
                Box::new(|c| c.spec.enclaves[0].policies[0].deny[0] = "v1/*".into()),
            ),
            (
                "spec.enclaves[0].identities[0].policy",
                Box::new(|c| c.spec.enclaves[0].identities[0].policy = "none".into()),
            ),
            (
                "spec.enclaves[0].identities[0].secretName",
                Box::new(|c| c.spec.enclaves[0].identities[0].secret_name = "A".into()),
            ),
            (
                "spec.enclaves[].identities[].secretName",
                Box::new(|c| c.spec.enclaves[0].identities[0].secret_name = "vault-ca".into()),
            ),
            ("spec.tenants[0].enclave", Box::new(|c| c.spec.tenants[0].enclave = "other".into())),
            (
                "spec.tenants[0].enclave",
                Box::new(|c| {
                    // one that exists, but MinIO cannot choose it
                    let second = crd::Enclave { name: "second".into(), ..c.spec.enclaves[0].clone() };
                    c.spec.enclaves.push(crd::Enclave { identities: Vec::new(), ..second });
                    c.spec.tenants[0].enclave = "second".into();
                }),
            ),
            ("spec.tenants[0].keyName", Box::new(|c| c.spec.tenants[0].key_name = "k".repeat(81))),
            ("spec.tenants[0].namespace", Box::new(|c| c.spec.tenants[0].namespace = "No".into())),
            ("spec.tenants[0].policy", Box::new(|c| c.spec.tenants[0].policy = Some("none".into()))),
            ("spec.tenants[1]", Box::new(|c| c.spec.tenants.push(c.spec.tenants[0].clone()))),
        ];
        for (wanted, change) in cases {
            let (field, problem) = refusal(change);
            assert_eq!(field, wanted, "{problem}");
        }
    }

    #[test]
    fn more_than_one_member_is_refused_with_the_way_out() {
        let (_, problem) = refusal(|c| c.spec.replicas = 3);
        assert!(problem.contains("later release") && problem.contains("set it to 1"), "{problem}");
    }

    #[test]
    fn what_is_absent_gets_its_default() {
        let wanted = wanted();
        assert_eq!(wanted.image, "localhost/kes:dev");
        assert_eq!(
            wanted.seal,
            Seal { secret: "vault-seal".into(), key: "KES_UNSEAL_KEY".into(), generated: true }
        );
        assert_eq!(wanted.endpoint(), "https://vault.keys.svc.cluster.local:7373");
        assert_eq!(wanted.tenants[0].enclave, EnclaveName::default_enclave());
        let secrets: Vec<_> = wanted.purposes().iter().map(|purpose| purpose.secret("vault")).collect();
        assert_eq!(
            secrets,
            [
                "vault-ca",
                "vault-server-tls",
                "vault-seal",
                "vault-system-admin",
                "vault-enclave-default-admin",
                "app-1-kes",
                "vault-tenant-tenant-lite.myminio",
            ]
        );
    }
}

//! Names and labels of everything that the operator makes, in one place, since other objects refer to them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::api::{EnclaveName, KeyName, PolicyName};

/// Field manager of every write.
pub(crate) const MANAGER: &str = "kes-operator";
/// Label: the cluster that an object outside its namespace belongs to.
pub(crate) const CLUSTER_LABEL: &str = "kes-operator.io/cluster";
/// Label: the namespace of that cluster.
pub(crate) const CLUSTER_NAMESPACE_LABEL: &str = "kes-operator.io/cluster-namespace";
/// Annotation of a Tenant or its Namespace: namespaces whose KesClusters may have the Tenant patched and restarted, with
/// commas between them; `*` means every one.
pub(crate) const ALLOW_FROM: &str = "kes-operator.io/allow-from";
/// Annotation: digest of what was applied last, so that an unchanged object is not written again.
pub(crate) const APPLIED_ANNOTATION: &str = "kes-operator.io/applied";
/// Annotation of the pod template: digest of the server's configuration.
pub(crate) const CONFIG_ANNOTATION: &str = "kes-operator.io/config";

/// Annotation of the system admin's Secret: the cluster that was bootstrapped by it, which outlives the status.
pub(crate) const BOOTSTRAPPED_ANNOTATION: &str = "kes-operator.io/cluster-id";

const NAME_LABEL: &str = "app.kubernetes.io/name";
pub(crate) const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Selects whatever the operator made, for watches.
pub(crate) const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=kes-operator";

/// Longest part of a Secret's name that is taken from the outside.
const MAX_PART: usize = 63;

/// Labels that select the pods of a cluster; they can never change.
pub(crate) fn selector_labels(cluster: &str) -> BTreeMap<String, String> {
    [(NAME_LABEL, "kes"), (INSTANCE_LABEL, cluster), (COMPONENT_LABEL, "server")]
        .map(|(label, value)| (label.into(), value.into()))
        .into()
}

/// Labels of an object of a cluster.
pub(crate) fn labels(cluster: &str, component: &str) -> BTreeMap<String, String> {
    [
        (NAME_LABEL, "kes"),
        (INSTANCE_LABEL, cluster),
        (COMPONENT_LABEL, component),
        (MANAGED_BY_LABEL, MANAGER),
    ]
    .map(|(label, value)| (label.into(), value.into()))
    .into()
}

/// Whether an object with these labels was made by the operator.
pub(crate) fn is_managed(labels: &BTreeMap<String, String>) -> bool {
    labels.get(MANAGED_BY_LABEL).is_some_and(|manager| manager == MANAGER)
}

/// Selects the objects of one cluster in its namespace.
pub(crate) fn instance_selector(cluster: &str) -> String {
    format!("{INSTANCE_LABEL}={cluster},{MANAGED_SELECTOR}")
}

/// Selects the pods and volumes of one cluster in its namespace.
pub(crate) fn pod_selector(cluster: &str) -> String {
    let pairs: Vec<_> =
        selector_labels(cluster).into_iter().map(|(label, value)| format!("{label}={value}")).collect();
    pairs.join(",")
}

pub(crate) fn authority_secret(cluster: &str) -> String {
    format!("{cluster}-ca")
}

pub(crate) fn server_secret(cluster: &str) -> String {
    format!("{cluster}-server-tls")
}

pub(crate) fn seal_secret(cluster: &str) -> String {
    format!("{cluster}-seal")
}

pub(crate) fn system_admin_secret(cluster: &str) -> String {
    format!("{cluster}-system-admin")
}

pub(crate) fn enclave_admin_secret(cluster: &str, enclave: &EnclaveName) -> String {
    format!("{cluster}-enclave-{}-admin", part(enclave.as_str()))
}

pub(crate) fn tenant_secret(cluster: &str, namespace: &str, tenant: &str) -> String {
    format!("{cluster}-tenant-{}", part(&format!("{namespace}.{tenant}")))
}

/// The copy in the tenant's namespace.
pub(crate) fn projected_secret(cluster: &str) -> String {
    format!("kes-client-{cluster}")
}

/// The Secret that cert-manager puts the server's certificate into.
pub(crate) fn issued_secret(cluster: &str) -> String {
    format!("{cluster}-issued-tls")
}

pub(crate) fn config_map(cluster: &str) -> String {
    format!("{cluster}-config")
}

pub(crate) fn headless_service(cluster: &str) -> String {
    format!("{cluster}-hl")
}

/// The policy made for a tenant that names none. No DNS label has a `_`, so two tenants never meet; cut to the name
/// rule with a digest.
#[expect(
    clippy::expect_used,
    reason = "namespaces and tenants are DNS labels, whose bytes the name rule permits"
)]
pub(crate) fn tenant_policy(namespace: &str, tenant: &str) -> PolicyName {
    PolicyName::new(&fitted(format!("tenant-{namespace}_{tenant}"))).expect("it obeys the name rule")
}

/// The default key of a tenant that was selected by its labels and is given none.
#[expect(
    clippy::expect_used,
    reason = "namespaces and tenants are DNS labels, whose bytes the name rule permits"
)]
pub(crate) fn tenant_key(namespace: &str, tenant: &str) -> KeyName {
    KeyName::new(&fitted(format!("{namespace}_{tenant}"))).expect("it obeys the name rule")
}

/// `name`, cut to the name rule with a digest of the whole where it is too long.
fn fitted(name: String) -> String {
    if name.len() <= crate::api::name::MAX_NAME_LEN {
        return name;
    }
    format!("{}-{}", &name[..71], &digest(name.as_bytes())[..8])
}

/// Lower-case hex of SHA-256.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `text` as part of the name of a Kubernetes object: unchanged where it may be one, else cleaned and made unique.
fn part(text: &str) -> String {
    let clean = |byte: char| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == '-' || byte == '.';
    let edge = |byte: char| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let plain = text.len() <= MAX_PART
        && text.chars().all(clean)
        && text.starts_with(edge)
        && text.ends_with(edge)
        && !text.contains("..")
        && !text.contains(".-")
        && !text.contains("-.");
    if plain {
        return text.into();
    }
    let cleaned: String = text
        .chars()
        .take(40)
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let cleaned = cleaned.trim_matches('-');
    let whole = &digest(text.as_bytes())[..8];
    if cleaned.is_empty() { format!("x{whole}") } else { format!("{cleaned}-{whole}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_stay_readable_and_never_meet() {
        assert_eq!(part("default"), "default");
        assert_eq!(part("tenant-lite.myminio"), "tenant-lite.myminio");
        for (one, two) in [("Team_A", "team-a"), ("a_b", "a-b"), ("_", "-")] {
            assert_ne!(part(one), part(two));
        }
        for text in ["Team_A", "_", "-x-", &"y".repeat(80)] {
            let part = part(text);
            assert!(part.len() <= 63 && part.starts_with(|c: char| c.is_ascii_alphanumeric()), "{part}");
        }
    }

    #[test]
    fn policies_of_tenants_obey_the_name_rule_and_never_meet() {
        assert_eq!(tenant_policy("tenant-lite", "myminio").as_str(), "tenant-tenant-lite_myminio");
        assert_ne!(tenant_policy("a-b", "c"), tenant_policy("a", "b-c"));
        assert_eq!(tenant_policy(&"n".repeat(63), &"t".repeat(63)).as_str().len(), 80);
        assert_eq!(tenant_key("team", "minio").as_str(), "team_minio");
        assert_ne!(
            tenant_key(&"n".repeat(63), &"t".repeat(62)),
            tenant_key(&"n".repeat(63), &"t".repeat(63))
        );
    }
}

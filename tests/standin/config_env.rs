//! Renders the file that MinIO reads its environment from. Pure.

use std::collections::BTreeMap;

use crate::{objects::s3_port, tenant::Tenant};

/// The text of `/tmp/minio/config.env`: the operator's own values, overridden by `spec.env`, overridden by the
/// `config.env` of the configuration Secret. Of the latter only lines that begin with `export ` count.
pub(crate) fn render(tenant: &Tenant, config_env: &str, cluster_domain: &str) -> String {
    let mut variables = defaults(tenant, cluster_domain);
    for variable in &tenant.spec.env {
        variables.insert(variable.name.clone(), variable.value.clone());
    }
    variables.extend(exports(config_env));
    variables.iter().map(|(name, value)| format!("export {name}=\"{value}\"\n")).collect()
}

/// Names what the file lacks without which MinIO must not be started.
pub(crate) fn missing(rendered: &str) -> Option<&'static str> {
    let present: BTreeMap<_, _> = exports(rendered).collect();
    ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"].into_iter().find(|name| !present.contains_key(*name))
}

fn exports(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.trim().strip_prefix("export ")?.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        Some((name.trim().to_owned(), value.to_owned()))
    })
}

fn defaults(tenant: &Tenant, cluster_domain: &str) -> BTreeMap<String, String> {
    let Tenant { name, namespace, .. } = tenant;
    let arguments: Vec<String> = tenant
        .spec
        .pools
        .iter()
        .map(|pool| {
            let path = match pool.volumes_per_server {
                1 => tenant.mount_path(),
                n => format!("{}{{0...{}}}", tenant.mount_path(), n - 1),
            };
            if pool.servers == 1 && tenant.spec.pools.len() == 1 {
                return path;
            }
            let servers = tenant.statefulset_name(pool);
            let scheme = tenant.scheme();
            format!(
                "{scheme}://{servers}-{{0...{}}}.{name}-hl.{namespace}.svc.{cluster_domain}{path}",
                pool.servers - 1
            )
        })
        .collect();
    BTreeMap::from([
        ("MINIO_ARGS".to_owned(), arguments.join(" ")),
        ("MINIO_PROMETHEUS_JOB_ID".to_owned(), "minio-job".to_owned()),
        (
            "MINIO_SERVER_URL".to_owned(),
            format!("{}://minio.{namespace}.svc.{cluster_domain}:{}", tenant.scheme(), s3_port(tenant)),
        ),
        ("MINIO_UPDATE".to_owned(), "off".to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::{EnvVar, Pool, Spec};

    fn tenant(env: &[(&str, &str)]) -> Tenant {
        let env = env.iter().map(|(n, v)| EnvVar { name: (*n).to_owned(), value: (*v).to_owned() }).collect();
        let pool = Pool { name: "p0".to_owned(), servers: 4, volumes_per_server: 2, ..Pool::default() };
        let spec = Spec { env, pools: vec![pool], request_auto_cert: Some(false), ..Spec::default() };
        Tenant { name: "t".to_owned(), namespace: "ns".to_owned(), uid: "u".to_owned(), spec }
    }

    #[test]
    fn the_secret_wins_over_the_spec_and_the_spec_over_defaults() {
        let text = render(
            &tenant(&[("MINIO_UPDATE", "spec"), ("A", "spec"), ("B", "")]),
            "export A=\"secret\"\nC=dropped\n# export D=dropped\n",
            "cluster.local",
        );
        assert!(text.contains("export MINIO_UPDATE=\"spec\"\n"), "{text}");
        assert!(text.contains("export A=\"secret\"\n"), "{text}");
        assert!(text.contains("export B=\"\"\n"), "{text}");
        assert!(!text.contains("dropped"), "{text}");
    }

    #[test]
    fn the_pools_become_minio_arguments() {
        let text = render(&tenant(&[]), "", "cluster.local");
        assert!(
            text.contains(
                "export MINIO_ARGS=\"http://t-p0-{0...3}.t-hl.ns.svc.cluster.local/export{0...1}\"\n"
            ),
            "{text}"
        );
        assert_eq!(missing(&text), Some("MINIO_ROOT_USER"));
    }
}

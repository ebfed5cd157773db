//! Which `KesCluster` is meant: its namespace, its name, and the context of kubectl.

use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::{
    cli::{failure::Failure, kubernetes},
    crd::KesCluster,
};

/// Flags of every verb.
#[derive(clap::Args)]
#[command(next_help_heading = "KesCluster")]
pub(super) struct Place {
    /// Namespace of the KesCluster [default: of the current context]
    #[arg(short, long, value_name = "NAMESPACE", global = true)]
    namespace: Option<String>,
    /// Name of the KesCluster; needed where a namespace has several
    #[arg(long, value_name = "NAME", global = true)]
    cluster: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
}

impl Place {
    /// Finds it.
    pub(super) async fn find(&self) -> Result<(Client, KesCluster), Failure> {
        let Self { namespace, cluster, context } = self;
        let client = kubernetes::client(context.as_deref()).await?;
        let namespace = namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let api: Api<KesCluster> = Api::namespaced(client.clone(), &namespace);
        if let Some(name) = cluster {
            let step = format!("read KesCluster {namespace}/{name}");
            let found = api.get(name).await.map_err(|error| kubernetes::failed(&step, &error))?;
            return Ok((client, found));
        }
        let step = format!("list the KesClusters of namespace {namespace}");
        let found = api.list(&ListParams::default()).await;
        let found = found.map_err(|error| kubernetes::failed(&step, &error))?.items;
        Ok((client, the_one(found, &namespace)?))
    }
}

/// Namespace and name.
pub(super) fn names(cluster: &KesCluster) -> (String, String) {
    (cluster.namespace().unwrap_or_default(), cluster.name_any())
}

fn the_one(found: Vec<KesCluster>, namespace: &str) -> Result<KesCluster, Failure> {
    let names: Vec<_> = found.iter().map(ResourceExt::name_any).collect();
    let mut found = found.into_iter();
    match (found.next(), names.as_slice()) {
        (Some(cluster), [_]) => Ok(cluster),
        (None, _) => Err(Failure::new(
            format!("namespace {namespace} has no KesCluster"),
            "Choose another namespace with '-n'; 'kubectl get kesclusters -A' lists all of them.",
        )),
        (Some(_), names) => Err(Failure::usage(
            format!("namespace {namespace} has several KesClusters: {}", names.join(", ")),
            "Say which one with '--cluster NAME'.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::KesClusterSpec;

    #[test]
    fn where_there_are_several_none_is_guessed() {
        let spec: KesClusterSpec = serde_saphyr::from_str("{}").unwrap();
        let cluster = |name| KesCluster::new(name, spec.clone());
        assert_eq!(the_one(vec![cluster("vault")], "keys").unwrap().name_any(), "vault");
        let several = the_one(vec![cluster("one"), cluster("two")], "keys").err().unwrap().to_string();
        assert!(several.contains("several KesClusters: one, two"), "{several}");
        let none = the_one(Vec::new(), "keys").err().unwrap().to_string();
        assert!(none.contains("namespace keys has no KesCluster"), "{none}");
    }
}

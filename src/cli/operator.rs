//! `kes operator`: runs the Kubernetes operator; prints and compares what it needs; checks manifests without it.

use std::path::PathBuf;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::Value;

use super::{failure::Failure, manifest};
use crate::{
    crd,
    operator::{self, diff},
    telemetry,
};

/// Run the Kubernetes operator
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Operator {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    options: operator::Options,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Print the custom resource definitions
    Crds {
        /// Compare them with those of the cluster instead: exit code 1 if they differ
        #[arg(long)]
        check: bool,
    },
    /// Check manifests of KesClusters: schema, rules, and what the operator would refuse
    Validate {
        #[command(flatten)]
        files: Files,
    },
    /// Show what applying a manifest would change, object by object: exit code 1 if anything would
    Diff {
        #[command(flatten)]
        files: Files,
        /// Namespace of manifests that name none [default: of the current context]
        #[arg(short, long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// The operator's image, for KesClusters that name none [default: that of the pods that run]
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,
        /// Namespace that the operator runs in
        #[arg(long, value_name = "NAMESPACE", default_value = "kes-operator")]
        operator_namespace: String,
        /// DNS domain of the Kubernetes cluster
        #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
        cluster_domain: String,
    },
}

/// Where manifests are.
#[derive(clap::Args)]
struct Files {
    /// YAML file with manifests, or '-' for standard input; may be given more than once
    #[arg(short, long = "filename", value_name = "FILE", required = true, value_hint = clap::ValueHint::FilePath)]
    file: Vec<PathBuf>,
}

impl Operator {
    pub(super) fn run(self) -> Result<String, Failure> {
        let Self { verb, options } = self;
        match verb {
            Some(Verb::Crds { check: false }) => crd::try_yaml().map_err(|error| {
                Failure::new(
                    format!("failed to write the definitions: {error}"),
                    "This is not expected: please report it.",
                )
            }),
            Some(Verb::Crds { check: true }) => super::block_on(check()),
            Some(Verb::Validate { files }) => validate(&files),
            Some(Verb::Diff { files, namespace, image, operator_namespace, cluster_domain: domain }) => {
                let question = diff::Question { manifest: Value::Null, image, domain, operator_namespace };
                super::block_on(compare(&files, namespace, question))
            }
            None => {
                telemetry::init().map_err(|error| Failure::sentence(&error.to_string()))?;
                super::multi_threaded()?.block_on(operator::run(options))?;
                Ok(String::new())
            }
        }
    }
}

fn validate(files: &Files) -> Result<String, Failure> {
    let (mut text, mut wrong, mut count) = (String::new(), 0, 0);
    for manifest::Manifest { place, object } in manifest::clusters(&files.file)? {
        count += 1;
        let (cluster, mut problems) = crd::check(&object);
        if problems.is_empty()
            && let Some(Err(problem)) = cluster.as_ref().map(operator::validate)
        {
            problems.push(problem);
        }
        if problems.is_empty() {
            text += &format!("{place}: valid\n");
        } else {
            wrong += 1;
            text += &format!("{place}: not valid\n");
            text.extend(problems.iter().map(|problem| format!("  {problem}\n")));
        }
    }
    if wrong == 0 {
        return Ok(text);
    }
    super::terminal::write_bytes(text.as_bytes());
    Err(Failure::new(
        format!("{wrong} of {count} manifests are not valid"),
        "Correct the fields that are named above.",
    ))
}

async fn compare(
    files: &Files,
    namespace: Option<String>,
    question: diff::Question,
) -> Result<String, Failure> {
    let clusters = manifest::clusters(&files.file)?;
    let client = super::kubernetes::client(None).await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let (mut text, mut count) = (String::new(), 0);
    for manifest::Manifest { place, mut object } in clusters {
        if object["metadata"]["namespace"].as_str().is_none() {
            object["metadata"]["namespace"] = namespace.as_str().into();
        }
        let question = diff::Question { manifest: object, ..question.clone() };
        let differences = diff::diff(client.clone(), question).await.map_err(|error| {
            Failure::new(
                format!("{place}: {error}"),
                "Nothing was changed. 'kes operator validate' checks a manifest without a cluster.",
            )
        })?;
        count += differences.iter().filter(|difference| difference.is_one()).count();
        for diff::Difference { object, verdict, lines } in differences {
            text += &format!("{object}: {verdict}\n");
            text.extend(lines.iter().map(|line| format!("  {line}\n")));
        }
    }
    if count == 0 {
        return Ok(text);
    }
    super::terminal::write_bytes(text.as_bytes());
    Err(Failure::new(
        format!("{count} of the lines above say that something would change or is refused"),
        "Nothing was changed: 'kubectl apply' does it. The exit code is 1 as that of 'kubectl diff'.",
    ))
}

/// Compares the definition of this build with the cluster's.
async fn check() -> Result<String, Failure> {
    let client: Client = super::kubernetes::client(None).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let ours = crd::KesCluster::crd();
    let name = ours.metadata.name.clone().unwrap_or_default();
    let failed = |error: kube::Error| {
        Failure::new(
            format!("failed to compare the definition {name}: {error}"),
            "Who compares needs the rights to get and patch customresourcedefinitions.",
        )
    };
    let Some(live) = definitions.get_opt(&name).await.map_err(failed)? else {
        return Err(Failure::new(
            format!("the cluster has no definition {name}"),
            "Install it: 'kes operator crds | kubectl apply --server-side -f -'.",
        ));
    };
    // through the API server, so that its defaults are no differences
    let params = PatchParams { dry_run: true, ..PatchParams::apply("kes-diff").force() };
    let after = definitions.patch(&name, &params, &Patch::Apply(&ours)).await.map_err(failed)?;
    if live.spec == after.spec {
        return Ok(format!("{name}: the cluster has the definition of this build\n"));
    }
    Err(Failure::new(
        format!("the cluster's definition {name} is not that of this build"),
        "Update it: 'kes operator crds | kubectl apply --server-side -f -'; fields that it does not know are dropped.",
    ))
}

//! `kes operator`: runs the Kubernetes operator; prints and compares what it needs; checks manifests without it.

use std::path::PathBuf;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    failure::Failure,
    manifest,
    terminal::{Lines, json},
};
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
        #[command(flatten)]
        output: Checked,
    },
    /// Check manifests of KesClusters: schema, rules, and what the operator would refuse
    Validate {
        #[command(flatten)]
        files: Files,
        #[command(flatten)]
        output: Lines,
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
        #[command(flatten)]
        output: Lines,
    },
}

/// Where manifests are.
#[derive(clap::Args)]
struct Files {
    /// YAML file with manifests, or '-' for standard input; may be given more than once
    #[arg(short, long = "filename", value_name = "FILE", required = true, value_hint = clap::ValueHint::FilePath)]
    file: Vec<PathBuf>,
}

/// Whether the outcome of a comparison is for a program.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
struct Checked {
    /// Print JSON; errors too
    #[arg(long, requires = "check")]
    json: bool,
}

/// `kes operator validate --json`: one line for each manifest.
#[derive(Serialize)]
struct Validated<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    valid: bool,
    problems: &'a [String],
}

/// `kes operator diff --json`: one line for each object.
#[derive(Serialize)]
struct Compared<'a> {
    file: &'a str,
    object: &'a str,
    verdict: &'a str,
    differs: bool,
    changes: &'a [String],
}

/// `kes operator crds --check --json`.
#[derive(Serialize)]
struct SameDefinition<'a> {
    name: &'a str,
    same: bool,
}

impl Operator {
    pub(super) fn run(self) -> Result<String, Failure> {
        let Self { verb, options } = self;
        match verb {
            Some(Verb::Crds { check: false, output: _ }) => crd::try_yaml().map_err(|error| {
                Failure::new(
                    format!("failed to write the definitions: {error}"),
                    "This is not expected: please report it.",
                )
            }),
            Some(Verb::Crds { check: true, output }) => super::block_on(check(output.json)),
            Some(Verb::Validate { files, output }) => validate(&files, output.json),
            Some(Verb::Diff {
                files,
                namespace,
                image,
                operator_namespace,
                cluster_domain: domain,
                output,
            }) => {
                let question = diff::Question { manifest: Value::Null, image, domain, operator_namespace };
                super::block_on(compare(&files, namespace, question, output.json))
            }
            None => {
                telemetry::init().map_err(|error| Failure::sentence(&error.to_string()))?;
                super::multi_threaded()?.block_on(operator::run(options))?;
                Ok(String::new())
            }
        }
    }
}

/// What `kes operator validate` found so far.
#[derive(Default)]
struct Examined {
    text: String,
    count: usize,
    wrong: usize,
    /// Files that are no manifests.
    unread: usize,
    /// Whether some manifest is so far from the schema that its rules could not be looked at.
    half: bool,
}

fn validate(files: &Files, as_json: bool) -> Result<String, Failure> {
    let mut found = Examined::default();
    for file in &files.file {
        match manifest::clusters(std::slice::from_ref(file)) {
            Ok(manifests) => manifests.iter().for_each(|manifest| found.add(manifest, as_json)),
            // there is nothing else to tell
            Err(failure) if files.file.len() == 1 => return Err(failure),
            // the other files are told about all the same
            Err(failure) => {
                found.unread += 1;
                let (file, problems) = (file.display().to_string(), [failure.what().to_owned()]);
                found.tell(&file, &file, None, &problems, as_json);
            }
        }
    }
    let Examined { text, count, wrong, unread, half } = found;
    if wrong + unread == 0 {
        return Ok(text);
    }
    super::terminal::write_bytes(text.as_bytes());
    let mut what = format!("{wrong} of {count} manifests are not valid");
    if unread > 0 {
        what += &format!(", and {unread} of {} files could not be read", files.file.len());
    }
    let next = match half {
        true => {
            "Correct the fields that are named above; only then the rules beyond the schema can be looked at."
        }
        false => "Correct the fields that are named above.",
    };
    Err(Failure::new(what, next))
}

impl Examined {
    /// Looks at one manifest.
    fn add(&mut self, manifest: &manifest::Manifest, as_json: bool) {
        let manifest::Manifest { place, file, object } = manifest;
        let (cluster, mut problems) = crd::check(object);
        self.half |= cluster.is_none();
        let more = cluster.as_ref().map(operator::problems).unwrap_or_default();
        let more = more.into_iter().filter(|more| !crd::is_told(&problems, &more.field));
        let more: Vec<_> = more.map(|problem| problem.to_string()).collect();
        problems.extend(more);
        self.count += 1;
        self.wrong += usize::from(!problems.is_empty());
        self.tell(place, file, Some(&object["metadata"]), &problems, as_json);
    }

    /// Writes down what is wrong with a manifest, or with a whole file.
    fn tell(
        &mut self,
        place: &str,
        file: &str,
        metadata: Option<&Value>,
        problems: &[String],
        as_json: bool,
    ) {
        let text = &mut self.text;
        if as_json {
            *text += &json(&Validated {
                file,
                namespace: metadata.and_then(|metadata| metadata["namespace"].as_str()),
                name: metadata.map(|metadata| metadata["name"].as_str().unwrap_or_default()),
                valid: problems.is_empty(),
                problems,
            });
            text.push('\n');
            return;
        }
        *text += &format!("{place}: {}\n", if problems.is_empty() { "valid" } else { "not valid" });
        text.extend(problems.iter().map(|problem| format!("  {problem}\n")));
    }
}

async fn compare(
    files: &Files,
    namespace: Option<String>,
    question: diff::Question,
    as_json: bool,
) -> Result<String, Failure> {
    let clusters = manifest::clusters(&files.file)?;
    let client = super::kubernetes::client(None).await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let (mut text, mut count) = (String::new(), 0);
    for manifest::Manifest { place, file, mut object } in clusters {
        if object["metadata"]["namespace"].as_str().is_none() {
            object["metadata"]["namespace"] = namespace.as_str().into();
        }
        let question = diff::Question { manifest: object, ..question.clone() };
        let differences = diff::diff(client.clone(), question).await.map_err(|error| {
            super::kubernetes::away(&error).unwrap_or_else(|| {
                Failure::new(
                    format!("{place}: {error}"),
                    "Nothing was changed. 'kes operator validate' checks a manifest without a cluster.",
                )
            })
        })?;
        count += differences.iter().filter(|difference| difference.is_one()).count();
        text.extend(differences.iter().filter(|_| as_json).map(|found| compared(&file, found)));
        for diff::Difference { object, verdict, lines } in differences.into_iter().filter(|_| !as_json) {
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

/// One line of JSON.
fn compared(file: &str, found: &diff::Difference) -> String {
    let diff::Difference { object, verdict, lines } = found;
    json(&Compared { file, object, verdict, differs: found.is_one(), changes: lines }) + "\n"
}

/// Compares the definition of this build with the cluster's.
async fn check(as_json: bool) -> Result<String, Failure> {
    let client: Client = super::kubernetes::client(None).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let ours = crd::KesCluster::crd();
    let name = ours.metadata.name.clone().unwrap_or_default();
    let failed = |error: kube::Error| {
        super::kubernetes::away(&error).unwrap_or_else(|| {
            Failure::new(
                format!("failed to compare the definition {name}: {error}"),
                "Who compares needs the rights to get and patch customresourcedefinitions.",
            )
        })
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
        return Ok(match as_json {
            true => json(&SameDefinition { name: &name, same: true }) + "\n",
            false => format!("{name}: the cluster has the definition of this build\n"),
        });
    }
    Err(Failure::new(
        format!("the cluster's definition {name} is not that of this build"),
        "Update it: 'kes operator crds | kubectl apply --server-side -f -'; fields that it does not know are dropped.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_one_line_for_a_program() {
        let found = diff::Difference {
            object: "Service keys/vault".into(),
            verdict: "changes".into(),
            lines: vec!["~ spec.type: \"ClusterIP\" → \"NodePort\"".into()],
        };
        let line = compared("vault.yaml", &found);
        assert_eq!(
            line,
            "{\"file\":\"vault.yaml\",\"object\":\"Service keys/vault\",\"verdict\":\"changes\",\"differs\":true,\
             \"changes\":[\"~ spec.type: \\\"ClusterIP\\\" → \\\"NodePort\\\"\"]}\n"
        );
    }
}

//! `kubectl kes logs`: what the key servers of a KesCluster log.

use futures::{AsyncBufReadExt, StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

use serde::Serialize;

use super::place::{Place, names};
use crate::{
    cli::{
        failure::Failure,
        kubernetes,
        terminal::{self, Lines},
    },
    operator,
};

#[derive(clap::Args)]
pub(super) struct Logs {
    /// Go on with what is logged from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Lines of each pod to begin with
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    tail: i64,
    /// What the container before the present one logged
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    #[command(flatten)]
    output: Lines,
}

/// `logs --json`: a line of a server, and which one.
#[derive(Serialize)]
struct Line<'a> {
    pod: &'a str,
    line: &'a str,
}

/// A server's line as it is printed.
fn show(pod: &str, line: &str, several: bool, as_json: bool) -> String {
    match (as_json, several) {
        (true, _) => super::json_line(&Line { pod, line }),
        (false, true) => format!("{pod} {line}\n"),
        (false, false) => format!("{line}\n"),
    }
}

impl Logs {
    pub(super) async fn run(self, place: &Place) -> Result<String, Failure> {
        let Self { follow, tail, previous, output: Lines { json } } = self;
        let (client, cluster) = place.find().await?;
        let (namespace, name) = names(&cluster);
        let pods: Api<Pod> = Api::namespaced(client, &namespace);
        let which = ListParams::default().labels(&operator::pod_selector(&name));
        let found = pods.list(&which).await;
        let found = found.map_err(|error| kubernetes::failed("list the key service's pods", &error))?.items;
        if found.is_empty() {
            return Err(Failure::new(
                format!("KesCluster {namespace}/{name} has no pods"),
                "'kubectl kes status' shows what is waited for.",
            ));
        }
        let several = found.len() > 1;
        let params = LogParams { follow, previous, tail_lines: Some(tail), ..LogParams::default() };
        let mut streams = Vec::new();
        for pod in found.iter().map(ResourceExt::name_any) {
            let step = format!("read the log of pod {pod}");
            let lines = pods.log_stream(&pod, &params).await;
            let lines = lines.map_err(|error| kubernetes::failed(&step, &error))?.lines();
            streams.push(lines.map(move |line| line.map(|line| show(&pod, &line, several, json))).boxed());
        }
        let mut lines = stream::select_all(streams);
        while let Some(line) = lines.next().await {
            match line {
                Ok(line) => terminal::write_bytes(line.as_bytes()),
                Err(error) => {
                    return Err(Failure::new(
                        format!("the log broke off: {error}"),
                        "Run the command again.",
                    ));
                }
            }
        }
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whose_it_is_where_there_are_several_and_always_to_a_program() {
        assert_eq!(show("vault-0", "ready", false, false), "ready\n");
        assert_eq!(show("vault-0", "ready", true, false), "vault-0 ready\n");
        assert_eq!(
            show("vault-0", "a \"b\"", false, true),
            "{\"pod\":\"vault-0\",\"line\":\"a \\\"b\\\"\"}\n"
        );
    }
}

//! Programs that a person types at a terminal, run by a case.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use tokio::{io::AsyncWriteExt, process::Command};

/// A path of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What `program` printed, if it succeeded. kubectl and helm are found where `tests/cluster/build.sh` puts them, too.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    output(command, "").await
}

/// What a command printed, if it succeeded.
pub(crate) async fn output(command: Command, input: &str) -> anyhow::Result<String> {
    output_of(command, input, 0).await
}

/// What a command printed, if it ended with `code`.
pub(crate) async fn output_of(mut command: Command, input: &str, code: i32) -> anyhow::Result<String> {
    let built =
        std::env::var_os("K8S_DIR").map_or_else(|| repository("target/cluster"), PathBuf::from).join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(built).chain(std::env::split_paths(&path)))?;
    let mut child = command
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            format!("{command:?} cannot be run; tests/cluster/build.sh builds kubectl and helm")
        })?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes()).await?;
    let ended = tokio::time::timeout(crate::wait::patience(), child.wait_with_output()).await??;
    let text = String::from_utf8(ended.stdout)?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.code() == Some(code), "{command:?}: {}\n{text}\n{said}", ended.status);
    Ok(text)
}

//! Verbs of KES that this server has no use for, answered with what to do instead.

use std::ffi::OsString;

use super::failure::Failure;

/// Whatever is written after such a verb.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Anything {
    #[arg(hide = true, allow_hyphen_values = true, trailing_var_arg = true)]
    _rest: Vec<OsString>,
}

/// `kes update`.
pub(super) fn update() -> Failure {
    Failure::new(
        "'kes update' is not offered: this program does not replace itself",
        "Install the release that you want as you installed this one: the image, the chart or the package. 'kes --version' says what runs here.",
    )
}

/// `kes migrate`.
pub(super) fn migrate() -> Failure {
    Failure::new(
        "'kes migrate' is not offered: this server keeps its keys itself, not in a key store that a configuration names",
        "Bring single keys with 'kes key import NAME KEY': what they encrypted can then be read here.",
    )
}

/// `kes --auto-completion`.
pub(super) fn auto_completion(shell: Option<&str>) -> String {
    let (shell, file) = match shell.and_then(|path| path.rsplit('/').next()) {
        Some("zsh") => ("zsh", "~/.zshrc"),
        Some("fish") => {
            return "This program does not edit your files. To have completions in fish, run once:\n\n  \
                    kes completion fish > ~/.config/fish/completions/kes.fish\n"
                .into();
        }
        _ => ("bash", "~/.bashrc"),
    };
    format!(
        "This program does not edit your files. To have completions in {shell}, add this line to {file}:\n\n  \
         source <(kes completion {shell})\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_are_explained_for_the_shell_that_runs() {
        for (shell, expected) in [
            (Some("/bin/bash"), "add this line to ~/.bashrc"),
            (Some("/usr/bin/zsh"), "source <(kes completion zsh)"),
            (Some("/usr/bin/fish"), "~/.config/fish/completions/kes.fish"),
            (None, "source <(kes completion bash)"),
        ] {
            let text = auto_completion(shell);
            assert!(text.contains(expected), "{text}");
        }
    }
}

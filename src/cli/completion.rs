//! `kes completion`: scripts that teach a shell our verbs and flags.

use clap::CommandFactory;

/// Print completions for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  echo 'source <(kes completion bash)' >> ~/.bashrc
  echo 'source <(kes completion zsh)' >> ~/.zshrc
  kes completion fish > ~/.config/fish/completions/kes.fish")]
pub(super) struct Completion {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Completion {
    pub(super) fn run(self) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Kes::command(), "kes", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

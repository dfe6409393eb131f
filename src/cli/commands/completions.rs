//! `osp completions`: a script with which a shell completes osp's arguments.

use crate::cli::console::Console;
use clap::Command;
use clap_complete::Shell;
use osp::Result;

const EXAMPLES: &str = "\
Examples:
  osp completions bash > ~/.local/share/bash-completion/completions/osp
  osp completions zsh > ~/.zfunc/_osp
  osp completions fish > ~/.config/fish/completions/osp.fish";

/// Prints a script with which a shell completes osp's arguments
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Shell that the script is for
    shell: Shell,
}

/// Runs the command; `osp` defines the command line.
pub fn run(args: &Args, mut osp: Command, console: &Console) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut osp, "osp", &mut script);
    console.result(String::from_utf8_lossy(&script).trim_end())
}

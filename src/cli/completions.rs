//! `osp completions`: what a shell needs to complete osp's arguments.

use super::args::Cli;
use super::console::Console;
use clap::CommandFactory;
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
    /// Shell to print it for
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "osp", &mut script);
    console.result(String::from_utf8_lossy(&script).trim_end())
}

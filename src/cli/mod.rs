//! The command line: arguments ([`Cli`], [`commands`]) and output ([`console`]).
//!
//! Results go to stdout, everything else to stderr. An error is one line and an exit code
//! ([`osp::Error::exit_code`]); outputs appear whole or not at all.

mod args;
mod claims;
mod clip;
mod commands;
mod console;
mod device;
mod hints;
mod interrupt;
mod lock;
mod memory;
mod model;
mod output;
mod record;
mod subject;
mod svg;
mod table;
mod threads;
mod transfer;
mod variants;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser};
use commands::Command;
use console::Console;
pub use memory::Allocator;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  osp sample \"a red circle moving to the right\"
  osp reconstruct holiday.mp4 -o again.mp4
  osp info models/Open-Sora-Plan-v1.1.0

Exit codes:
  0 done, 1 failure, 2 wrong usage, 3 no such device, 4 out of memory, 5 bad weights or config, 130 interrupted";

/// Samples videos from text with Open-Sora-Plan v1.1.0.
///
/// Results (paths, tables, or JSON) are printed to stdout; progress, warnings and errors to stderr. An output appears
/// whole or not at all, and replaces an older output of the same name only when the run has succeeded.
#[derive(Parser)]
#[command(name = "osp", version, after_help = EXAMPLES, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args)]
pub struct Global {
    /// Print results as JSON, one object per line
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
    /// No progress, notices or warnings: print only errors to stderr
    #[arg(short, long, global = true, display_order = 901)]
    pub quiet: bool,
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    interrupt::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let console = Console::new(cli.global.json, cli.global.quiet);
    if cli.command.stops_by_itself() {
        interrupt::be_patient(cli.global.quiet);
    }
    match threads::start().and_then(|()| cli.command.run(Cli::command(), &console)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.error(&hints::error(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints the help that the user asked for, or what is wrong with the arguments, as one line.
fn explain(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A failure to print the help is ignored.
            let _ = error.print();
        }
        _ => Console::new(false, false).error(&one_line(error)),
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Clap's message about wrong arguments as one line, without its usage text.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or(&text);
    let said = said.split("\n\nFor more information").next().unwrap_or(said);
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let paragraphs = said.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_arguments_give_one_line_with_the_reason_and_the_tip() {
        let line = |args: &[&str]| one_line(&Cli::try_parse_from(args).err().expect("these arguments are wrong"));
        assert_eq!(
            line(&["osp", "sample", "--step", "3"]),
            "unexpected argument '--step' found; tip: a similar argument exists: '--steps'"
        );
        let missing = line(&["osp", "encode", "clip.mp4"]);
        assert!(missing.contains("required") && missing.contains("--output"), "{missing}");
        let size = line(&["osp", "sample", "--size", "big"]);
        assert!(size.contains("'big'") && size.contains("512x512") && !size.contains('\n'), "{size}");
    }
}

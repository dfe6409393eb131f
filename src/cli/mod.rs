//! The command line: arguments ([`Cli`], [`commands`]) and output ([`console`]).
//!
//! Results go to stdout, everything else to stderr. An error is one line and an exit code
//! ([`osp::Error::exit_code`]); outputs appear whole or not at all.

mod args;
mod blocks;
mod claims;
mod clip;
mod commands;
mod config;
mod console;
mod device;
mod events;
mod footage;
mod hints;
mod interrupt;
mod lock;
mod made;
mod memory;
mod model;
mod output;
mod quality;
mod record;
mod size;
mod subject;
mod summary;
mod svg;
mod table;
mod threads;
mod transfer;
mod units;
mod variants;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser};
use commands::Command;
use config::Wrong;
use console::{Console, Progress};
pub use memory::Allocator;
use osp::Error;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
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

impl Cli {
    /// All commands. Every option takes a value that looks like a negative number, so that its parser says what it expects.
    pub fn definition() -> clap::Command {
        fn with_numbers(command: clap::Command) -> clap::Command {
            let takes = |arg: &Arg| !arg.is_positional() && arg.get_action().takes_values();
            let numbers = |arg: Arg| if takes(&arg) { arg.allow_negative_numbers(true) } else { arg };
            command.mut_args(numbers).mut_subcommands(with_numbers)
        }
        with_numbers(Self::command())
    }
}

#[derive(Args)]
pub struct Global {
    /// Print results as JSON, one object per line
    #[arg(long, global = true, display_order = 900)]
    pub json: bool,
    /// No progress, notices or warnings: print only errors to stderr
    #[arg(short, long, global = true, display_order = 901)]
    pub quiet: bool,
    /// What stderr holds: `auto`, lines for people, or `json`, an object on each line (`osp schema` says which)
    #[arg(
        long,
        global = true,
        value_name = "FORM",
        default_value = "auto",
        hide_possible_values = true,
        display_order = 902
    )]
    pub progress: Progress,
    /// Read options from this file, for those that are not typed. Keys are long names; a command may have its own table
    #[arg(long, global = true, value_name = "FILE.toml", display_order = 903)]
    pub config: Option<PathBuf>,
    /// Run nothing; print a file for --config with all options in effect
    #[arg(long, global = true, display_order = 904)]
    pub print_config: bool,
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    interrupt::install();
    let progress = if asks_for_events(env::args_os()) { Progress::Json } else { Progress::Auto };
    interrupt::print_events(progress == Progress::Json);
    let (cli, given) = match parse() {
        Ok(parsed) => parsed,
        Err(Wrong::Arguments(error)) => return explain(&error, progress),
        Err(Wrong::File(error)) => return failed(&error, &Console::new(false, false, progress)),
    };
    let osp = Cli::definition();
    if let Some(command) = given.subcommand_name().and_then(|name| osp.find_subcommand(name)) {
        hints::are_for(command);
    }
    let console = Console::new(cli.global.json, cli.global.quiet, cli.global.progress);
    interrupt::print_events(console.events());
    if cli.command.stops_by_itself() {
        interrupt::be_patient(cli.global.quiet);
    }
    let done = if cli.global.print_config {
        config::print(&osp, &given).and_then(|file| console.result(file))
    } else {
        threads::start().and_then(|()| cli.command.run(osp, &console))
    };
    done.map_or_else(|error| failed(&error, &console), |()| ExitCode::SUCCESS)
}

/// The arguments of the process and of the file that they name, also as clap has found them.
fn parse() -> Result<(Cli, ArgMatches), Wrong> {
    let args: Vec<_> = env::args_os().collect();
    let given = config::parse(&Cli::definition(), &args)?;
    let cli = Cli::from_arg_matches(&given).map_err(|error| error.format(&mut Cli::definition()))?;
    Ok((cli, given))
}

/// Prints the error that ends the process.
fn failed(error: &Error, console: &Console) -> ExitCode {
    console.last_error(&hints::error(error), error.exit_code());
    ExitCode::from(error.exit_code())
}

/// Prints the help that the user asked for, or what is wrong with the arguments, as one line.
fn explain(error: &clap::Error, progress: Progress) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A failure to print the help is ignored.
            let _ = error.print();
        }
        _ => Console::new(false, false, progress).last_error(&one_line(error), 2),
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Whether the arguments, which may be wrong otherwise, ask for events on stderr.
fn asks_for_events(args: impl Iterator<Item = OsString>) -> bool {
    let args: Vec<OsString> = args.take_while(|arg| arg != "--").collect();
    args.iter().any(|arg| arg == "--progress=json") || args.windows(2).any(|pair| pair == ["--progress", "json"])
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

    #[test]
    fn the_definition_is_sound() {
        Cli::definition().debug_assert();
    }

    /// Text is filled to the width of the terminal, so only examples have line ends of their own.
    #[test]
    fn text_behind_the_help_has_no_line_ends_within_paragraphs() {
        for command in Cli::definition().get_subcommands() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let broken = |pair: &&[&str]| {
                pair.iter().all(|line| !line.is_empty() && !line.starts_with(' ')) && !pair[0].ends_with(':')
            };
            let found = lines.windows(2).find(broken);
            assert!(found.is_none(), "{}: {found:?}", command.get_name());
        }
    }

    #[test]
    fn negative_numbers_reach_the_parser_of_their_option() {
        for (args, said) in [
            (["sample", "a cat", "--steps", "-1"], "expected a whole number"),
            (["sample", "a cat", "--frames", "-1"], "expected a number of frames"),
            (["sample", "a cat", "--tile-size", "-8"], "expected a whole number"),
            (["sample", "a cat", "--fps", "-24"], "not a valid frame rate"),
            (["profile", "--device=cpu", "--repeat", "-1"], "expected a whole number"),
            (["profile", "--device=cpu", "--repeat", "0"], "expected at least 1"),
            (["profile", "--device=cpu", "--repeat", "65536"], "the number is too large"),
            (["sample", "a cat", "--guidance", "much"], "expected a number"),
        ] {
            let parsed = Cli::definition().try_get_matches_from(["osp"].iter().chain(&args));
            let line = one_line(&parsed.expect_err("these arguments are wrong"));
            assert!(line.contains(said) && line.contains(args[3]), "{line}");
        }
        // What looks like an option by mistake is no prompt.
        assert!(Cli::definition().try_get_matches_from(["osp", "sample", "a cat", "-1"]).is_err());
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

//! The command line: what it accepts ([`commands`]), what it says ([`console`]), and a module per command.
//!
//! Results go to stdout, everything else to stderr. An error is one line and an exit code
//! ([`osp::Error::exit_code`]); outputs appear whole or not at all.

mod args;
mod claims;
mod clip;
mod commands;
mod completions;
mod console;
mod convert;
mod decode;
mod device;
mod doctor;
mod download;
mod encode;
#[cfg(feature = "download")]
mod fetch;
mod hints;
#[cfg(feature = "download")]
mod http;
mod info;
mod interrupt;
mod memory;
mod model;
mod output;
mod plan;
mod profile;
mod reconstruct;
mod record;
mod sample;
mod selftest;
mod subject;
mod table;
mod threads;
mod transfer;
mod verify;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use commands::{Cli, Command};
use console::Console;
pub use memory::Allocator;
use osp::Result;
use std::process::ExitCode;

/// Runs the command that the process was started with.
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
    match threads::start().and_then(|()| run(cli.command, &console)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.error(&hints::error(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command, console: &Console) -> Result<()> {
    match command {
        Command::Sample(args) => sample::run(&args, console),
        Command::Reconstruct(args) => reconstruct::run(&args, console),
        Command::Encode(args) => encode::run(&args, console),
        Command::Decode(args) => decode::run(&args, console),
        Command::Verify(args) => verify::run(&args, console),
        Command::Info(args) => info::run(&args, console),
        Command::Plan(args) => plan::run(&args, console),
        Command::Profile(args) => profile::run(&args, console),
        Command::Convert(args) => convert::run(&args, console),
        Command::Download(args) => download::run(&args, console),
        Command::Selftest(args) => selftest::run(&args, console),
        Command::Doctor(args) => doctor::run(&args, console),
        Command::Completions(args) => completions::run(&args, Cli::command(), console),
    }
}

/// Prints help where it was asked for, and what is wrong with the arguments as one line.
fn explain(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nothing to be done if the help itself cannot be printed.
            let _ = error.print();
        }
        _ => Console::new(false, false).error(&commands::one_line(error)),
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

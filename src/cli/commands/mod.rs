//! The commands, one module each: arguments and work.

mod calibrate;
mod compare;
mod completions;
mod convert;
mod decode;
mod doctor;
mod download;
mod edit;
mod encode;
mod info;
mod man;
mod plan;
mod profile;
mod reconstruct;
mod sample;
mod schema;
pub mod selftest;
mod verify;

use super::console::Console;
use clap::Subcommand;
use osp::Result;

#[derive(Subcommand)]
pub enum Command {
    Sample(Box<sample::Args>),
    Edit(Box<edit::Args>),
    Reconstruct(reconstruct::Args),
    Compare(compare::Args),
    Encode(encode::Args),
    Decode(decode::Args),
    Verify(verify::Args),
    Calibrate(calibrate::Args),
    Info(info::Args),
    Plan(plan::Args),
    Profile(profile::Args),
    Convert(convert::Args),
    Download(download::Args),
    Selftest(selftest::Args),
    Doctor(doctor::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Whether the command checks for signals while it works, because it writes files or has started processes.
    pub fn stops_by_itself(&self) -> bool {
        match self {
            Self::Sample(_) | Self::Edit(_) | Self::Reconstruct(_) | Self::Encode(_) | Self::Decode(_) => true,
            Self::Calibrate(_) | Self::Convert(_) | Self::Download(_) => true,
            Self::Selftest(args) => args.starts_processes(),
            Self::Compare(_) | Self::Verify(_) | Self::Info(_) | Self::Plan(_) | Self::Profile(_) => false,
            Self::Doctor(_) | Self::Schema(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }

    /// Runs the command. `definition` is the whole command line, from which completions and man pages are made.
    pub fn run(self, definition: clap::Command, console: &Console) -> Result<()> {
        match self {
            Self::Sample(args) => sample::run(&args, console),
            Self::Edit(args) => edit::run(&args, console),
            Self::Reconstruct(args) => reconstruct::run(&args, console),
            Self::Compare(args) => compare::run(&args, console),
            Self::Encode(args) => encode::run(&args, console),
            Self::Decode(args) => decode::run(&args, console),
            Self::Verify(args) => verify::run(&args, console),
            Self::Calibrate(args) => calibrate::run(&args, console),
            Self::Info(args) => info::run(&args, console),
            Self::Plan(args) => plan::run(&args, console),
            Self::Profile(args) => profile::run(&args, console),
            Self::Convert(args) => convert::run(&args, console),
            Self::Download(args) => download::run(&args, console),
            Self::Selftest(args) => selftest::run(&args, console),
            Self::Doctor(args) => doctor::run(&args, console),
            Self::Schema(_) => schema::run(console),
            Self::Completions(args) => completions::run(&args, definition, console),
            Self::Man(args) => man::run(&args, definition, console),
        }
    }
}

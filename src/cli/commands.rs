//! What the command line accepts: the commands, and the options of all of them.

use super::{
    completions, convert, decode, doctor, download, encode, info, plan, profile, reconstruct, sample, selftest, verify,
};
use clap::{Args, Parser, Subcommand};

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
/// whole or not at all, and replaces an older one of the same name only when the run has succeeded.
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
    /// No progress, notices or warnings: of stderr only errors remain
    #[arg(short, long, global = true, display_order = 901)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    Sample(sample::Args),
    Reconstruct(reconstruct::Args),
    Encode(encode::Args),
    Decode(decode::Args),
    Verify(verify::Args),
    Info(info::Args),
    Plan(plan::Args),
    Profile(profile::Args),
    Convert(convert::Args),
    Download(download::Args),
    Selftest(selftest::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

impl Command {
    /// Whether it looks for signals while it works, because it writes something, or because it has started processes.
    pub fn stops_by_itself(&self) -> bool {
        match self {
            Self::Sample(_) | Self::Reconstruct(_) | Self::Encode(_) | Self::Decode(_) => true,
            Self::Convert(_) | Self::Download(_) => true,
            Self::Selftest(args) => args.starts_processes(),
            Self::Verify(_) | Self::Info(_) | Self::Plan(_) | Self::Profile(_) => false,
            Self::Doctor(_) | Self::Completions(_) => false,
        }
    }
}

/// What clap says about wrong arguments, without its usage text, as one line.
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
    fn faults_of_arguments_are_one_line_with_the_reason_and_the_tip() {
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

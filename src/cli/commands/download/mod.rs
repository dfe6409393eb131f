//! `osp download`: downloads a model from the Hugging Face hub.

#[cfg(feature = "download")]
mod fetch;
#[cfg(feature = "download")]
mod http;
#[cfg(feature = "download")]
mod list;
#[cfg(feature = "download")]
mod partial;
#[cfg(feature = "download")]
mod settings;

use crate::cli::console::Console;
use osp::Result;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  osp download LanguageBind/Open-Sora-Plan-v1.1.0 --only vae --only 65x512x512
  osp download DeepFloyd/t5-v1_1-xxl -o models/t5

After an interrupted download, run the command again: it resumes where it stopped. Files are checked against the hashes that \
the hub lists. HF_ENDPOINT names another hub; HF_TOKEN is the token for gated models, and goes to that hub only. SSL_CERT_FILE names \
certificates in place of the built-in ones. A hub that sends nothing for 30 seconds, or for HF_HUB_DOWNLOAD_TIMEOUT, counts as \
lost. Needs a build with the feature `download`.";

/// Downloads a model's weights, configs and tokenizer from the Hugging Face hub
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// ORG/NAME of the model
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Folder for the model [default: ORG/NAME, where other commands find it under this name]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Download only this subfolder; may be given several times [default: everything that the engine reads]
    #[arg(long, value_name = "SUBFOLDER")]
    pub only: Vec<String>,
}

/// Runs the command.
#[cfg(feature = "download")]
pub fn run(args: &Args, console: &Console) -> Result<()> {
    fetch::run(&args.name, args.output.as_deref(), &args.only, console)
}

/// Fails, and says how to get the command.
#[cfg(not(feature = "download"))]
pub fn run(_args: &Args, _console: &Console) -> Result<()> {
    Err(lacking())
}

/// The error in a build without the command.
#[cfg(any(test, not(feature = "download")))]
fn lacking() -> osp::Error {
    let problem = "this osp is built without the command download: build it with `cargo build --release --features \
                   download`, or use any other client of the Hugging Face hub, whose cache --model reads";
    osp::Error::Unsupported(problem.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_build_without_the_command_says_how_to_get_it() {
        let said = super::lacking().to_string();
        assert!(said.contains("without the command download") && said.contains("--features download"), "{said}");
    }
}

//! `osp man`: the manual as man pages.

use crate::cli::console::Console;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use osp::{Error, Result, staged};
use serde_json::json;
use std::fs;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  osp man | man -l -
  osp man --dir ~/.local/share/man/man1";

/// Prints the man page osp(1), or writes the pages of all commands
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder to write osp.1, osp-sample.1 and so on into, and to make if it is not there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the command; `osp` defines the command line.
pub fn run(args: &Args, mut osp: Command, console: &Console) -> Result<()> {
    osp.build();
    let Some(dir) = &args.dir else { return console.result(page(&osp).1.trim_end()) };
    fs::create_dir_all(dir).map_err(Error::io("cannot make", dir))?;
    for command in [&osp].into_iter().chain(osp.get_subcommands()) {
        let (name, page) = page(command);
        let path = dir.join(name);
        staged::write_file(&path, page.as_bytes())?;
        if console.json() {
            console.json_result(&json!({ "output": path.display().to_string() }))
        } else {
            console.result(path.display())
        }?;
    }
    Ok(())
}

/// The name of a command's page, and the page.
fn page(command: &Command) -> (String, String) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut command = command.clone();
    // The synopsis would list every option.
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let man =
        Man::new(command.override_usage(usage).after_help(None)).source(concat!("osp ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render(&mut page).expect("memory takes every page");
    let page = String::from_utf8(page).expect("help is UTF-8");
    (man.get_filename(), page + &sections(&text))
}

/// The texts behind a command's help as sections. Lines of examples stay as they are; others are filled.
fn sections(text: &str) -> String {
    let mut roff = Roff::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
            Some(title) => {
                roff.control("fi", []);
                roff.control("SH", [&*title.to_uppercase()]);
                if title == "Examples" {
                    roff.control("nf", []);
                }
            }
            None => {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
        }
    }
    roff.render()
}

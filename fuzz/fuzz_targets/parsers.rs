//! Feeds bytes to the parser that `OSP_FUZZ` names, as `scripts/fuzz` does. All parsers share one program, which links once.

#![no_main]

/// What a list of videos needs of the command line.
#[path = "../../src/cli"]
mod cli {
    pub mod size;
}
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../src/cli/commands/download/list.rs"]
mod hub;
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../src/cli/commands/sample/list.rs"]
mod list;
#[path = "../targets.rs"]
mod targets;

use std::path::PathBuf;
use std::sync::LazyLock;

/// The parser, and a folder for its files.
static TARGET: LazyLock<(targets::Target, PathBuf)> = LazyLock::new(|| {
    let name = std::env::var("OSP_FUZZ").unwrap_or_default();
    let target = targets::TARGETS.into_iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("OSP_FUZZ={name} is no parser; fuzz/targets.rs lists them"));
    let folder = std::env::temp_dir().join(format!("osp-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder can be made");
    (target, folder)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (target, folder) = &*TARGET;
    (target.run)(bytes, folder);
});

//! Runs the program as a user does, and checks its output, its exit code and the files in the folder.

mod bad_input;
mod beforehand;
mod coder;
mod compare;
mod completions;
mod config;
mod convert;
mod damage;
mod device;
mod documents;
mod download;
mod edit;
mod events;
#[cfg(target_os = "linux")]
mod faults;
mod help;
mod info;
#[cfg(unix)]
mod interrupt;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(unix)]
mod lists;
#[cfg(unix)]
mod lost;
mod made;
mod man;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod not_utf8;
mod plan;
mod predict;
mod preview;
mod profile;
mod readme;
#[cfg(unix)]
mod resume;
mod same_file;
mod sample;
mod selftest;
mod shortcuts;
/// The sizes that a list of videos may say.
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../src/cli/size.rs"]
pub mod size;
#[cfg(target_os = "linux")]
mod soak;
mod stdout;
mod strange;
mod text_cache;
mod tiles;
mod verify;
mod weights;

use assert_cmd::Command;
use osp::video::{Clip, FrameRate, VideoInfo, write_clip};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The tiny model of the golden data.
pub fn model() -> PathBuf {
    golden("pipeline")
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The program in `folder`, without the environment variables that it reads.
pub fn osp(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_osp"));
    command.current_dir(folder);
    let own = ["OSP_MODEL", "OSP_TILES", "OSP_NORMS", "OSP_PRINT_LAUNCHES", "OSP_ORACLE"];
    for name in own.into_iter().chain(["NO_COLOR", "HF_HUB_CACHE", "HF_HOME", "HF_ENDPOINT", "HF_TOKEN"]) {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", folder.join(CACHE));
    command
}

/// The cache folder of runs in a folder. Tests of the folder's contents ignore it.
const CACHE: &str = ".cache";

/// Checks that a run succeeds, and returns its stdout.
fn succeeds(folder: &Path, args: &[&str]) -> String {
    let output = osp(folder).args(args).assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that a run fails correctly: its exit code is `code` and stdout is empty; the last line of stderr is the only
/// `osp: error: …` and has all `words`; nothing in `folder` has changed.
#[track_caller]
fn fails(folder: &Path, args: &[&str], code: i32, words: &[&str]) {
    let before = contents(folder);
    let output = osp(folder).args(args).assert().code(code).get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = stderr.lines().filter(|line| line.contains("error")).collect();
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("osp: error: ") && errors.len() == 1, "{args:?}: {stderr}");
    for word in words {
        assert!(last.contains(word), "{args:?}: {last:?} does not say {word:?}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    assert!(contents(folder) == before, "{args:?} changed the folder: {:?}", contents(folder).keys());
}

/// The bytes of every file below `folder`.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for path in paths(folder) {
        if path.is_dir() {
            files.insert(path.clone(), Vec::new());
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// A clip with some movement.
fn clip(frames: usize, height: usize, width: usize) -> Clip {
    let info = VideoInfo { width, height, fps: FrameRate::new(12, 1).unwrap() };
    let byte = |i: usize| {
        let (frame, pixel) = (i / info.frame_bytes(), i / 3 % (height * width));
        ((pixel / width + frame) * 9 + pixel % width * 5 + i % 3 * 40) as u8
    };
    Clip::new(info, (0..frames * info.frame_bytes()).map(byte).collect()).unwrap()
}

/// Writes [`clip`] to a file.
fn write(path: &Path, frames: usize, height: usize, width: usize) {
    write_clip(path, &clip(frames, height, width)).unwrap();
}

/// Files directly in `folder`, in name order.
pub fn names(folder: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = paths(folder).map(name).collect();
    names.sort();
    names
}

/// Paths directly in `folder`, except [`CACHE`].
fn paths(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with(CACHE))
}

/// The model's path as an argument.
pub fn model_argument() -> String {
    model().to_str().unwrap().to_owned()
}

//! Ctrl-C.

use super::{CACHE, contents, model_argument, osp};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts a run in `folder` that takes a while, and gives what it says.
fn start(folder: &Path, more: &[&str]) -> (Child, impl Iterator<Item = String>) {
    let mut child = Command::new(osp(folder).get_program())
        .args(["sample", "a cat", "--frames", "17", "-o", "out.gif", "--model"])
        .arg(model_argument())
        .args(more)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join(CACHE))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

/// Waits until the run says `word`, and presses Ctrl-C.
fn interrupt_at(word: &str, child: &Child, lines: &mut impl Iterator<Item = String>) {
    assert!(lines.any(|line| line.contains(word)), "the run never said {word:?}");
    let status = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn an_interrupted_run_leaves_the_folder_as_it_was() {
    // While the transformer works, and while frames are being written.
    for word in ["auto chose", "denoise: "] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("out.gif"), "precious").unwrap();
        let before = contents(folder.path());
        let (mut child, mut lines) = start(folder.path(), &["--size", "128x128", "--steps", "4"]);
        interrupt_at(word, &child, &mut lines);
        let said: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{said:?}");
        assert_eq!(said.last().map(String::as_str), Some("osp: error: interrupted"));
        assert!(contents(folder.path()) == before, "{word}");
    }
}

#[test]
fn a_second_press_ends_the_run_within_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = start(folder.path(), &["--size", "256x256", "--steps", "1", "--sampler", "DDIM"]);
    interrupt_at("denoise: ", &child, &mut lines);
    interrupt_at("press Ctrl-C again", &child, &mut lines);
    assert_eq!(lines.next(), None, "there is no time for last words");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

//! Ctrl-C while the GPU works.

use super::program::image;
use super::{compiled, osp};
use crate::cli::names;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn an_interrupted_run_leaves_its_state() {
    if !compiled() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let asked = image(osp(folder.path(), "seed=3"));
    let mut command = Command::new(asked.get_program());
    command.args(asked.get_args()).args(["--device", "cuda"]).current_dir(folder.path());
    command.envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("decode: ")));
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    let said: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("osp: error: interrupted"));
    assert_eq!(names(folder.path()), ["out.y4m.state"]);
}

//! Runs that are killed, or interrupted, before any call by which they change a file. `tests/failing_files` stops them there.

use super::faults::{REPLACED, copy, failing, layer, restore, sample};
use super::{CACHE, contents, model, osp};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A folder with a model, a clip and its latent, in which commands run.
pub struct Place {
    _home: tempfile::TempDir,
    pub folder: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().canonicalize().unwrap().join("work");
        fs::create_dir(&folder).unwrap();
        copy(&model(), &folder.join("model"));
        super::write(&folder.join("clip.y4m"), 5, 16, 32);
        let place = Self { _home: home, folder };
        place.runs(&["encode", "clip.y4m", "-o", "clip.safetensors"]);
        place
    }

    /// Runs a command to its end.
    pub fn runs(&self, args: &[&str]) {
        osp(&self.folder).args(Self::whole(args)).assert().success();
    }

    /// The arguments with those that all commands here have.
    pub fn whole<'a>(args: &[&'a str]) -> Vec<&'a str> {
        match args[0] {
            "sample" => sample(Path::new("model"), &args[1..]),
            "edit" => [args, &["--device", "cpu", "--model", "model", "--sampler", "DDIM", "--steps", "4"]].concat(),
            "encode" | "decode" | "reconstruct" => [args, &["--device", "cpu", "--model", "model"]].concat(),
            _ => args.to_vec(),
        }
    }

    /// What is there now, without the cache.
    pub fn files(&self) -> Files {
        let mut files = contents(&self.folder);
        files.retain(|path, _| !path.starts_with(self.folder.join(CACHE)));
        files
    }

    /// Puts back what was there, and nothing else.
    pub fn reset(&self, files: &Files) {
        let _ = fs::remove_dir_all(self.folder.join(CACHE));
        for path in self.files().into_keys().rev().filter(|path| !files.contains_key(path)) {
            if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.unwrap();
        }
        files.keys().filter(|path| path.extension().is_none()).for_each(|path| drop(fs::create_dir(path)));
        restore(files);
    }

    /// The files of each output: a file, or a folder with what is in it. Records hold times, so their bytes do not count.
    pub fn outputs(&self, files: &Files) -> BTreeMap<PathBuf, Files> {
        let mut outputs: BTreeMap<PathBuf, Files> = BTreeMap::new();
        for (path, bytes) in files {
            let part = path.strip_prefix(&self.folder).unwrap();
            let is_record = part.components().count() == 1 && part.extension().is_some_and(|ending| ending == "json");
            let bytes = if is_record { Vec::new() } else { bytes.clone() };
            let first = part.components().next().unwrap();
            outputs.entry(Path::new(&first).to_path_buf()).or_default().insert(part.to_path_buf(), bytes);
        }
        outputs
    }
}

/// Kills a command before each call by which it changes a file, or before some of them. Whatever it was about to do, each output is the older
/// one or the new one, and the next run of the same command makes the new one and leaves nothing else.
fn a_kill_at_any_moment_costs_no_output(place: &Place, older: &[&str], args: &[&str]) {
    let counted = place.folder.with_file_name("calls");
    place.runs(older);
    let old = place.files();
    // The text is encoded anew, as in the runs below.
    place.reset(&old);
    let stopping = |number| failing(&place.folder, &place.folder, ["change", "kill"], number, &counted);
    stopping(0).args(Place::whole(args)).assert().success();
    let calls: usize = fs::read_to_string(&counted).unwrap().parse().unwrap();
    let new = place.files();
    let [before, after] = [&old, &new].map(|files| place.outputs(files));
    // All of them take minutes.
    let kills: usize = std::env::var("OSP_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let stride = (calls / (kills.max(1) * 8)).max(1);
    for number in (1..=calls).step_by(stride) {
        let what = format!("{args:?} killed at {number} of {calls}");
        place.reset(&old);
        let output = stopping(number).args(Place::whole(args)).output().unwrap();
        assert_eq!(output.status.code(), None, "{what}: {}", String::from_utf8_lossy(&output.stderr));
        for (name, files) in place.outputs(&place.files()) {
            let is_ours =
                name.to_str().unwrap().starts_with(".osp-") || name.extension().is_some_and(|it| it == "state");
            let is_whole = [&before, &after].iter().any(|outputs| outputs.get(&name) == Some(&files));
            assert!(is_ours || is_whole, "{what}: {} is neither the older nor the new one", name.display());
        }
        assert!(before.keys().all(|name| place.folder.join(name).exists()), "{what}: an older output is gone");
        place.runs(args);
        assert!(place.outputs(&place.files()) == after, "{what}, then run again: {:?}", place.files().keys());
    }
    place.reset(&new);
}

#[test]
fn a_kill_at_any_moment_of_a_sample_costs_no_output() {
    let place = Place::new();
    let sampled = ["sample", "a cat", "--frames", "5", "--seed"];
    let video = ["-o", "a.mp4", "--save-latent", "a.safetensors", "--checkpoint-every", "2"];
    let [older, newer] = ["1", "2"].map(|seed| [&sampled[..], &[seed], &video].concat());
    a_kill_at_any_moment_costs_no_output(&place, &older, &newer);
    let [older, newer] = ["3", "4"].map(|seed| [&sampled[..], &[seed, "-o", "frames"]].concat());
    a_kill_at_any_moment_costs_no_output(&place, &older, &newer);
}

#[test]
fn a_kill_at_any_moment_of_other_commands_costs_no_output() {
    let place = Place::new();
    for (older, args) in REPLACED {
        a_kill_at_any_moment_costs_no_output(&place, older, args);
    }
}

/// Runs a command that waits before its `number`-th change of a file; does something to it there; returns its exit code and what it says.
fn held(place: &Place, args: &[&str], number: usize, what: impl FnOnce(&Child)) -> (Option<i32>, String) {
    let counted = place.folder.with_file_name("calls");
    let _ = fs::remove_file(&counted);
    let mut command = Command::new(osp(&place.folder).get_program());
    command.args(Place::whole(args)).current_dir(&place.folder).env("XDG_CACHE_HOME", place.folder.join(CACHE));
    command.env("LD_PRELOAD", layer()).env("OSP_FAILING_CALLS", &counted);
    command.env("OSP_FAILING", format!("change:{number}:pause:{}", place.folder.display()));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let since = Instant::now();
    while !counted.exists() {
        assert!(since.elapsed() < Duration::from_secs(60), "{args:?} makes no {number} changes");
        sleep(Duration::from_millis(5));
    }
    what(&child);
    fs::remove_file(&counted).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn ctrl_c_stops_other_commands_and_leaves_the_folder_as_it_was() {
    let place = Place::new();
    let before = place.files();
    for args in [
        &["encode", "clip.y4m", "-o", "b.safetensors"][..],
        &["decode", "clip.safetensors", "-o", "b.mp4"],
        &["reconstruct", "clip.y4m", "-o", "c.gif"],
        &["convert", "model", "-o", "bf16", "--dtype", "bf16"],
        &["calibrate", "a cat", "--steps", "4", "--size", "16x32", "--frames", "1", "--model", "model"],
    ] {
        let (code, said) = held(&place, args, 1, |child| send("INT", child));
        assert_eq!(code, Some(130), "{args:?}: {said}");
        assert_eq!(said.lines().last(), Some("osp: error: interrupted"), "{args:?}");
        assert!(place.files() == before, "{args:?}: {:?}", place.files().keys());
    }
}

const MADE: [&str; 6] = ["sample", "a cat", "--frames", "5", "-o", "a.mp4"];

#[test]
fn a_mapped_file_that_loses_its_bytes_ends_the_run_with_one_line() {
    let place = Place::new();
    let before = place.files();
    for (more, word) in [(&[][..], "osp: error: "), (&["--progress", "json"], "\"event\":\"error\"")] {
        // The system sends this signal when a page of a mapped file is not there.
        let (code, said) = held(&place, &[&MADE, more].concat(), 1, |child| send("BUS", child));
        assert_eq!(code, Some(1), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.contains(word) && last.contains("was cut short while it was read"), "{said}");
        assert!(place.files() == before, "{:?}", place.files().keys());
    }
}

#[test]
fn weights_that_are_cut_short_at_any_moment_are_one_line_and_no_output() {
    let place = Place::new();
    let before = place.files();
    place.runs(&MADE);
    let whole = place.files();
    place.reset(&before);
    let mut failed = 0;
    // While the model is opened, while texts are encoded, and later.
    for number in [1, 5, 9, 13] {
        for weights in ["transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"] {
            let (path, what) = (place.folder.join("model").join(weights), format!("{weights} at {number}"));
            let cut = |_: &Child| fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
            let (code, said) = held(&place, &MADE, number, cut);
            fs::write(&path, &before[&path]).unwrap();
            let mut left = place.files();
            left.retain(|path, _| path.extension().is_none_or(|ending| ending != "state"));
            if code == Some(0) {
                assert!(place.outputs(&left) == place.outputs(&whole), "{what}: {:?}", left.keys());
            } else {
                let errors = said.lines().filter(|line| line.starts_with("osp: error: ")).count();
                assert!(matches!(code, Some(1 | 5)) && errors == 1, "{what}: {code:?}, {said}");
                assert!(left == before, "{what}: {:?}", left.keys());
                failed += 1;
            }
            place.reset(&before);
        }
    }
    assert!(failed >= 4, "only {failed} of 8 runs saw it");
}

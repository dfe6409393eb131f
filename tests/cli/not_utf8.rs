//! Paths that are not UTF-8: every command reads them, writes them, and prints them as well as text can.

use super::{CACHE, golden, osp, write};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `name` after a byte that is not valid UTF-8.
fn odd(name: &str) -> OsString {
    OsString::from(OsStr::from_bytes(&[b"\xff", name.as_bytes()].concat()))
}

/// [`odd`] in JSON.
fn shown(name: &str) -> String {
    format!("\u{fffd}{name}")
}

/// A temporary folder, and a folder in it whose name is not UTF-8, with the tiny model and inputs.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join(odd("folder"));
    for part in ["vae", "transformer", "text_encoder"] {
        fs::create_dir_all(folder.join(odd("model")).join(part)).unwrap();
        for file in fs::read_dir(golden("pipeline").join(part)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.join(odd("model")).join(part).join(file.file_name())).unwrap();
        }
    }
    write(&folder.join(odd("in.png")), 1, 16, 16);
    fs::write(folder.join(odd("prompts.txt")), "a cat\na dog").unwrap();
    (outer, folder)
}

/// Runs `args`, in which `*` marks a path that is not UTF-8. Returns the lines of JSON that the run prints.
fn run(folder: &Path, args: &[&str]) -> Vec<Value> {
    let mut command = osp(folder);
    command.env("XDG_CACHE_HOME", folder.join(CACHE));
    command.args(args.iter().map(|arg| arg.strip_prefix('*').map_or_else(|| OsString::from(arg), odd)));
    let output = command.arg("--json").assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn outputs_and_their_records() {
    let (_outer, folder) = folder();
    let sample = ["sample", "--prompts", "*prompts.txt", "--frames", "1", "--steps", "4", "--model", "*model"];
    let records = run(&folder, &[&sample[..], &["-o", "*a.png", "--save-latent", "*l.safetensors"]].concat());
    for (record, name) in records.iter().zip(["a-000.png", "a-001.png", "a-grid.png"]) {
        assert_eq!(record["output"], shown(name));
        assert_eq!(record["model"], shown("model"));
        assert!(folder.join(odd(name)).is_file());
        let saved = fs::read(folder.join(odd(&format!("{name}.json")))).unwrap();
        assert_eq!(&serde_json::from_slice::<Value>(&saved).unwrap(), record);
    }
    assert_eq!(records[0]["latent"], shown("l-000.safetensors"));
    assert_eq!(records[2]["shows"][1], shown("a-001.png"));

    let record = &run(&folder, &["decode", "*l-000.safetensors", "-o", "*frames", "--model", "*model"])[0];
    assert_eq!((&record["latent"], &record["output"]), (&shown("l-000.safetensors").into(), &shown("frames").into()));
    assert!(folder.join(odd("frames")).join("frame_00000.png").is_file());
    for (command, output) in [("reconstruct", "again.mp4"), ("encode", "again.safetensors")] {
        let record = &run(&folder, &[command, "*in.png", "-o", &format!("*{output}"), "--model", "*model"])[0];
        assert_eq!((&record["input"], &record["output"]), (&shown("in.png").into(), &shown(output).into()));
        assert!(folder.join(odd(output)).is_file());
    }
}

#[test]
fn folders_of_models_and_of_golden_data() {
    let (_outer, folder) = folder();
    assert_eq!(run(&folder, &["info", "*model"])[0]["folder"], shown("model"));
    let report = &run(&folder, &["convert", "*model", "-o", "*converted"])[0];
    assert_eq!(report["output"], shown("converted"));
    assert!(folder.join(odd("converted")).join("vae/config.json").is_file());
    fs::create_dir_all(folder.join(odd("golden")).join("noise")).unwrap();
    for file in fs::read_dir(golden("noise")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(odd("golden")).join("noise").join(file.file_name())).unwrap();
    }
    let report = &run(&folder, &["verify", "*golden"])[0];
    assert_eq!(report["cases"][0]["folder"], format!("{}/noise", shown("golden")));
    let subject = ["--model", "*model", "--frames", "1", "--size", "16x16"];
    assert_eq!(run(&folder, &[&["plan", "--svg", "*a.svg"][..], &subject].concat())[0]["model"], shown("model"));
    assert!(folder.join(odd("a.svg")).is_file());
    let profile = ["profile", "--device", "cpu", "--trace", "*a.json"];
    assert_eq!(run(&folder, &[&profile[..], &subject].concat())[0]["model"], shown("model"));
    assert!(folder.join(odd("a.json")).is_file());
}

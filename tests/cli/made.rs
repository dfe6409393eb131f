//! What a video says about itself, and videos like another.

use super::{fails, model_argument, names, osp, succeeds};
use osp::video::description;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn sample(folder: &Path, args: &[&str]) {
    succeeds(folder, &[&["sample", "--model", &model_argument(), "--device", "cpu"], args].concat());
}

fn info(folder: &Path, file: &str) -> Value {
    serde_json::from_str(&succeeds(folder, &["info", file, "--json"])).unwrap()
}

const ASKED: [&str; 12] = [
    "a \"cat\"",
    "--negative-prompt",
    "ein Bär",
    "--seed",
    "-7",
    "--steps",
    "5",
    "--sampler",
    "DDIM",
    "--size",
    "16x32",
    "--frames",
];

#[test]
fn a_video_says_how_it_was_made_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let asked = [&ASKED[..], &["5", "--guidance", "2.5", "--fps", "12", "--tile-overlap", "0.125"]].concat();
    for name in ["a.mp4", "a.gif", "frames"] {
        sample(folder.path(), &[&asked[..], &["-o", name]].concat());
        let found = info(folder.path(), name);
        let made = &found["made"];
        assert_eq!(
            (&found["kind"], &found["height"], &found["width"]),
            (&"video".into(), &16.into(), &32.into()),
            "{name}"
        );
        let record: Value =
            serde_json::from_slice(&fs::read(folder.path().join(format!("{name}.json"))).unwrap()).unwrap();
        assert_eq!((&made["fingerprint"], &made["weights"]), (&record["fingerprint"], &record["weights"]), "{name}");
        let request = &made["request"];
        assert_eq!(
            (&request["prompt"], &request["negative_prompt"]),
            (&"a \"cat\"".into(), &"ein Bär".into()),
            "{name}"
        );
        assert_eq!((&request["seed"], &request["steps"]), (&7_u64.wrapping_neg().into(), &5.into()), "{name}");
        let text = succeeds(folder.path(), &["info", name]);
        assert!(text.contains("a \"cat\"") && text.contains("DDIM in 5 steps"), "{text}");

        // The repetition has the same bytes, the description included.
        sample(folder.path(), &["--like", name, "-o", &format!("again-{name}")]);
        let bytes = |name: &str| {
            let path = folder.path().join(name);
            fs::read(if path.is_dir() { path.join("frame_00000.png") } else { path }).unwrap()
        };
        assert!(bytes(name) == bytes(&format!("again-{name}")), "{name}");
    }
    // Options change the repetition.
    sample(folder.path(), &["--like", "a.mp4", "--seed", "8", "--frames", "1", "-o", "image.png"]);
    let made = &info(folder.path(), "image.png")["made"]["request"];
    assert_eq!((&made["seed"], &made["frames"], &made["steps"]), (&8.into(), &1.into(), &5.into()));
    sample(folder.path(), &["a dog", "--like", "a.mp4", "--no-metadata", "-o", "b.gif"]);
    assert_eq!(description(&folder.path().join("b.gif")).unwrap(), None);
    let record: Value = serde_json::from_slice(&fs::read(folder.path().join("b.gif.json")).unwrap()).unwrap();
    assert_eq!((&record["prompt"], &record["negative_prompt"]), (&"a dog".into(), &"ein Bär".into()));
    fails(folder.path(), &["sample", "--like", "b.gif", "-o", "c.gif"], 1, &["b.gif", "does not say how it was made"]);
    fails(folder.path(), &["sample", "--like", "absent.gif", "-o", "c.gif"], 1, &["absent.gif"]);
    fails(folder.path(), &["sample", "--like", "a.gif", "-o", "a.gif"], 2, &["a.gif", "input"]);
}

#[test]
fn latents_and_other_files_are_described() {
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path(), &[&ASKED[..], &["5", "--save-latent", "l.safetensors", "-o", "a.y4m"]].concat());
    let latent = info(folder.path(), "l.safetensors");
    assert_eq!((&latent["kind"], &latent["frames"], &latent["channels"]), (&"latent".into(), &2.into(), &4.into()));
    let y4m = info(folder.path(), "a.y4m");
    assert_eq!((&y4m["kind"], &y4m["made"], &y4m["fps"]), (&"video".into(), &Value::Null, &24.0.into()));
    fs::write(folder.path().join("broken.mp4"), b"\0\0\0\x18ftypmp42").unwrap();
    fails(folder.path(), &["info", "broken.mp4"], 1, &["broken.mp4"]);
    fs::write(folder.path().join("text"), "hello").unwrap();
    fails(folder.path(), &["info", "text"], 1, &["text"]);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("list.jsonl"), "{\"prompt\": \"a cat\"}\n{\"prompt\": \"a dog\", \"steps\": 5}")
        .unwrap();
    let args = ["--prompts", "list.jsonl", "--frames", "1", "-o", "x.png"];
    let model = model_argument();
    let dry = [&["sample", "--model", &model, "--device", "cpu", "--dry-run"], &args[..]].concat();
    let before = names(folder.path());
    let said = succeeds(folder.path(), &dry);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("make   x-000.png: \"a cat\", seed 0, an image of"), "{said}");
    assert!(lines[1].starts_with("make   x-001.png: \"a dog\"") && lines[1].contains("in 5 steps"), "{said}");
    assert_eq!(names(folder.path()), before);
    sample(folder.path(), &args);
    let said = succeeds(folder.path(), &dry);
    assert!(said.lines().all(|line| line.starts_with("leave  ")), "{said}");
    // On a GPU it says what the stages would need.
    let emulated =
        ["sample", "a cat", "--model", &model_argument(), "--device", "emulated", "--dry-run", "-o", "y.mp4"];
    let output = osp(folder.path()).args(emulated).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        ["text: ", "denoise: ", "decode: "].iter().all(|stage| said.contains(stage)) && said.contains("MiB"),
        "{said}"
    );
    fs::write(folder.path().join("list.jsonl"), "{\"prompt\": \"a cat\"}\n{\"prompt\": \"a dog\", \"steps\": 0}")
        .unwrap();
    let output = osp(folder.path()).args(&dry).assert().code(1).get_output().clone();
    assert!(String::from_utf8(output.stderr).unwrap().contains("list.jsonl, line 2"));
    fails(folder.path(), &["sample", "--resume", "a.state", "--dry-run"], 2, &["--resume", "--dry-run"]);
}

//! `--config` and `--print-config`.

use super::{fails, model_argument, names, succeeds};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Writes `run.toml`.
fn config(folder: &Path, text: &str) {
    fs::write(folder.join("run.toml"), text).unwrap();
}

/// The plan of a preset as JSON, with these arguments.
fn plan(folder: &Path, args: &[&str]) -> Value {
    let tiny = ["plan", "--preset", "v1.1.0", "--size", "256x256"];
    serde_json::from_str(&succeeds(folder, &[&tiny[..], args].concat())).unwrap()
}

#[test]
fn a_file_gives_the_options_that_are_not_typed() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), "json = true\nframes = 5\nsteps = 5\nmodel = \"absent\"\n[plan]\nframes = 1\n");
    // The preset of the command line excludes the model of the file.
    let of_file = plan(folder.path(), &["--config", "run.toml"]);
    let typed = plan(folder.path(), &["--json", "--frames", "1", "--steps", "5"]);
    assert_eq!(of_file, typed);
    let both = plan(folder.path(), &["--config", "run.toml", "--frames", "5", "--steps", "4"]);
    assert_eq!(both, plan(folder.path(), &["--json", "--frames", "5", "--steps", "4"]));
    assert_ne!(both, of_file);
}

#[test]
fn a_printed_file_repeats_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let what =
        ["sample", "a cat", "--model", &model, "--frames", "5", "--guidance", "1", "--negative-prompt", "a \"dog\""];
    let how = ["--sampler", "DDIM", "--steps", "2", "--seed", "1,2", "--fps", "12.5"];
    let run = [&what[..], &how].concat();
    let printed = succeeds(folder.path(), &[&run[..], &["--print-config"]].concat());
    assert!(names(folder.path()).is_empty(), "nothing runs");
    for line in [
        "[sample]",
        "# PROMPT, on the command line: \"a cat\"",
        "seed = [1, 2]",
        "fps = 12.5",
        "negative-prompt = \"a \\\"dog\\\"\"",
        "device = \"auto\"",
    ] {
        assert!(printed.lines().any(|shown| shown == line), "{line} is not in\n{printed}");
    }
    assert!(printed.contains("\n# no-cache = …  # Encode every prompt again"), "{printed}");
    config(folder.path(), &printed);
    let again = ["sample", "--config", "run.toml", "a cat"];
    assert_eq!(succeeds(folder.path(), &[&again[..], &["--print-config"]].concat()), printed);
    succeeds(folder.path(), &[&run[..], &["-o", "typed.gif"]].concat());
    succeeds(folder.path(), &[&again[..], &["-o", "read.gif"]].concat());
    for number in ["000", "001"] {
        let bytes = |name: &str| fs::read(folder.path().join(format!("{name}-{number}.gif"))).unwrap();
        assert!(bytes("typed") == bytes("read"), "video {number} differs");
    }
}

#[test]
fn a_wrong_file_is_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = ["plan", "--preset", "v1.1.0", "--config", "run.toml"];
    fails(folder.path(), &run, 1, &["run.toml", "cannot read"]);
    for (text, words) in [
        ("\nstep = 3", &["run.toml, line 2", "step", "the nearest is steps"][..]),
        ("[plan]\nsteps = 'many'", &["run.toml, line 2", "steps", "'many'"]),
        ("[plan]\nfps = 24", &["run.toml, line 2", "osp plan has no option fps"]),
        ("[plans]\nsteps = 2", &["run.toml, line 1", "plans", "the nearest is plan"]),
        ("quiet = 'yes'", &["run.toml, line 1", "quiet", "true or false"]),
        ("print-config = true", &["run.toml, line 1", "only on the command line"]),
        ("steps 3", &["run.toml, line 1"]),
    ] {
        config(folder.path(), text);
        fails(folder.path(), &run, 2, words);
    }
    fs::write(folder.path().join("run.toml"), b"model = \"\xff\"").unwrap();
    fails(folder.path(), &run, 1, &["run.toml"]);
}

/// The file that docs/commands.md shows is one that `osp sample` takes.
#[test]
fn the_file_in_the_docs_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md")).unwrap();
    let mut files = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let file = files.find(|file| file.contains("[decode]")).expect("the page shows a file for --config");
    config(folder.path(), file);
    for command in [&["sample", "a lake"][..], &["decode", "lake.safetensors", "-o", "lake.mp4"]] {
        let printed = succeeds(folder.path(), &[command, &["--config", "run.toml", "--print-config"]].concat());
        assert!(printed.contains("\nmodel = \"models/Open-Sora-Plan-v1.1.0\"\n"), "{printed}");
    }
}

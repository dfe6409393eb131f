//! `osp plan`: the table, JSON and picture; limits on memory, in plans and in runs.

use super::{fails, model_argument, osp, succeeds};
use serde_json::Value;
use std::path::Path;

/// The plan of a tiny request as JSON.
fn plan(folder: &Path, args: &[&str]) -> Value {
    let model = model_argument();
    let tiny = ["plan", "--json", "--model", &model, "--frames", "5", "--size", "32x32", "--tokens", "7"];
    serde_json::from_str(&succeeds(folder, &[&tiny[..], args].concat())).unwrap()
}

#[test]
fn the_published_model_has_a_row_for_each_stage() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["plan", "--preset", "v1.1.0-65x512x512", "--gpu", "h100", "--steps", "4"];
    let text = succeeds(folder.path(), &args);
    for words in [
        "v1.1.0-65x512x512 at 65x512x512, 120 tokens, PNDM in 4 steps with guidance",
        "a bound, not a measurement",
        "activations GiB",
        "text",
        "denoise",
        "decode",
        "at its peak",
        "at most",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn json_has_every_figure_and_the_figures_agree() {
    let folder = tempfile::tempdir().unwrap();
    let report = plan(folder.path(), &["--sampler", "DDIM", "--steps", "3", "--gpu", "a100"]);
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["text", "denoise", "decode"]);
    let figure = |stage: &Value, key: &str| stage[key].as_u64().unwrap();
    for stage in stages {
        let (weights, arena) = (figure(stage, "weights_bytes"), figure(stage, "arena_bytes"));
        let peak = stage["peak"]["bytes"].as_u64().unwrap();
        assert!(weights > 0 && weights < peak && peak <= arena, "{stage}");
        let dominant = stage["peak"]["dominated_by"].as_array().unwrap();
        assert_eq!(dominant.iter().map(|part| figure(part, "bytes")).sum::<u64>(), peak);
        assert!(figure(stage, "launches") > 0 && stage["bound_seconds"].as_f64().unwrap() > 0.0);
    }
    let most = stages.iter().map(|stage| figure(stage, "arena_bytes")).max();
    assert_eq!(report["bytes"].as_u64(), most);
    let twice = plan(folder.path(), &["--sampler", "DDIM", "--steps", "6"]);
    let launches = |report: &Value| report["stages"][1]["launches"].as_u64().unwrap();
    assert!(launches(&twice) > launches(&report));
    assert_eq!(twice["stages"][1]["arena_bytes"], stages[1]["arena_bytes"]);
}

#[test]
fn the_picture_is_well_formed_and_small() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["plan", "--preset", "v1.1.0", "--frames", "1", "--size", "256x256", "--svg", "arena.svg"];
    succeeds(folder.path(), &args);
    let svg = std::fs::read_to_string(folder.path().join("arena.svg")).unwrap();
    assert!(svg.len() < 1_000_000, "{} bytes", svg.len());
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for words in ["text: ", "denoise: ", "decode: ", "offset in GiB", "launches", "weights"] {
        assert!(svg.contains(words), "{words}");
    }
    // Every element is self-closing or has an end tag.
    let opened = svg.matches('<').count() - svg.matches("</").count() - svg.matches("/>").count();
    assert_eq!(opened, svg.matches("</").count());
    assert!(svg.matches("<rect ").count() > 300);
}

#[test]
fn clips_to_encode_are_planned_too() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["plan", "--json", "--preset", "v1.1.0", "--encode", "--frames", "5", "--size", "64x64"];
    let report: Value = serde_json::from_str(&succeeds(folder.path(), &args)).unwrap();
    assert_eq!((report["stages"].as_array().unwrap().len(), &report["tokens"]), (1, &Value::Null));
    assert_eq!(report["stages"][0]["stage"], "encode");
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &[&str]); 10] = [
        (&["--preset", "v9"], 2, &["v9", "v1.1.0-221x512x512"]),
        (&["--preset", "v1.1.0", "--model", "absent"], 2, &["--preset", "--model"]),
        (&["--preset", "v1.1.0", "--memory", "3"], 2, &["'3'", "3GiB"]),
        (&["--preset", "v1.1.0", "--memory", "much"], 2, &["'much'", "3GiB"]),
        (&["--preset", "v1.1.0", "--memory", "-1GiB"], 2, &["--memory", "-1GiB"]),
        (&["--preset", "v1.1.0", "--gpu", "voodoo"], 2, &["voodoo", "h100"]),
        (&["--preset", "v1.1.0", "--tokens", "301"], 2, &["301", "300"]),
        (&["--preset", "v1.1.0", "--frames", "6"], 2, &["6", "5", "9"]),
        (&["--preset", "v1.1.0", "--svg", "arena.png"], 2, &["arena.png", ".svg"]),
        (&["--preset", "v1.1.0", "--steps", "4", "--memory", "1MiB"], 4, &["out of memory", "1 MiB", "--memory"]),
    ];
    for (args, code, words) in cases {
        fails(folder.path(), &[&["plan", "--quiet"], args].concat(), code, words);
    }
}

#[test]
fn runs_keep_a_limit_record_their_savings_or_fail_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_argument();
    let common = ["sample", "a cat", "--model", &model, "--frames", "1", "--size", "16x16", "--sampler", "DDIM"];
    let common = [&common[..], &["--steps", "2", "-o", "a.png"]].concat();
    let with = |more: &[&'static str]| [&common[..], more].concat();
    fails(folder.path(), &with(&["--device", "cpu", "--memory", "1GiB"]), 2, &["--memory", "--device cpu"]);
    fails(folder.path(), &with(&["--memory", "1"]), 2, &["'1'", "3GiB"]);
    let words = ["out of memory", "--memory"];
    fails(folder.path(), &with(&["--device", "emulated", "--memory", "1kB"]), 4, &words);

    let record = succeeds(folder.path(), &with(&["--device", "emulated", "--memory", "1GiB", "--json"]));
    let record: Value = serde_json::from_str(&record).unwrap();
    let stages = record["memory"].as_array().unwrap();
    assert_eq!(stages.len(), 3);
    for stage in stages {
        assert!((1..1 << 30).contains(&stage["arena_bytes"].as_u64().unwrap()), "{stage}");
        assert_eq!(stage["savings"]["transformer_parts"], 1);
    }
}

/// Scripts read the limit that an error recommends, and users type it.
#[test]
fn the_limit_that_an_error_recommends_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["plan", "--preset", "v1.1.0", "--frames", "1", "--steps", "4", "--memory"];
    let refused = osp(folder.path()).args(args).arg("1MiB").assert().code(4).get_output().clone();
    let said = String::from_utf8(refused.stderr).unwrap();
    let limit = said.split("(--memory ").nth(1).unwrap().split([';', ')']).next().unwrap();
    assert!(limit.ends_with("MiB"), "{said}");
    succeeds(folder.path(), &[&args[..], &[limit]].concat());
}

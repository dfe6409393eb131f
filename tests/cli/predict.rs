//! `osp profile --predict` and `--roofline`: what they print and draw, and wrong arguments.

use super::{fails, succeeds};
use serde_json::Value;
use std::path::Path;

/// The published model at the size for which there are aims.
const AIMED: [&str; 8] = ["profile", "--device", "dry", "--preset", "v1.1.0", "--size", "512x512", "--frames"];
const PREDICT: [&str; 6] = ["221", "--gpu", "h100", "--kernels", "sm90", "--predict"];

fn report(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&succeeds(folder, &[&AIMED[..], args, &["--json"]].concat())).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn predictions_are_called_predictions_and_lie_above_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let text = succeeds(folder.path(), &[&AIMED[..], &PREDICT].concat());
    for words in [
        "predicted ms",
        "held by",
        "predicted, not measured, for H100 SXM:",
        "a step with guidance: ",
        "the whole decode: ",
        "the aim of 360 ms is ",
        "the aim of 4.00 s is ",
        "a bound, not a measurement",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let report = report(folder.path(), &PREDICT);
    for stage in report["stages"].as_array().unwrap() {
        let rows = || stage["kernels"].as_array().unwrap().iter().chain([&stage["all"]]);
        for row in rows() {
            assert!(number(&row["predicted"]["seconds"]) > number(&row["bound_seconds"]), "{row}");
        }
        let seconds: f64 = rows().map(|row| number(&row["predicted"]["seconds"])).sum();
        let all = number(&stage["all"]["predicted"]["seconds"]);
        assert!((seconds - 2.0 * all).abs() < 1e-6 * all);
    }
}

#[test]
fn a_decode_has_the_launches_of_all_windows_and_gaps_come_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(folder.path(), &PREDICT);
    let [step, decode] = [0, 1].map(|index| report["predicted"]["wholes"][index].clone());
    let stage = |index: usize| number(&report["stages"][index]["all"]["predicted"]["seconds"]);
    assert_eq!(number(&step["predicted_seconds"]), stage(1));
    // As many products as 21.5 windows, whose smaller ones fill their rounds worse.
    let windows = number(&decode["predicted_seconds"]) / stage(2);
    assert!((21.0..36.0).contains(&windows), "{windows}");
    assert_eq!([number(&step["aim_seconds"]), number(&decode["aim_seconds"])], [0.36, 4.0]);
    for whole in [step, decode] {
        let gaps = whole["gaps"].as_array().unwrap().iter();
        let gaps: Vec<f64> =
            gaps.map(|gap| number(&gap["predicted_seconds"]) - number(&gap["bound_seconds"])).collect();
        assert!(gaps.len() > 5 && gaps.is_sorted_by(|a, b| a >= b), "{gaps:?}");
        let whole = number(&whole["predicted_seconds"]) - number(&whole["bound_seconds"]);
        assert!((gaps.iter().sum::<f64>() - whole).abs() < 1e-6 * whole);
    }
}

#[test]
fn other_kernels_sizes_and_gpus_have_other_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let step = |args: &[&str]| {
        let report = report(folder.path(), &[args, &["--predict"]].concat());
        let whole = &report["predicted"]["wholes"][0];
        (number(&whole["predicted_seconds"]), whole["aim_seconds"].clone())
    };
    let (new, _) = step(&["65", "--gpu", "h100", "--kernels", "sm90"]);
    let (old, aim) = step(&["65", "--gpu", "h100", "--kernels", "sm80"]);
    let (more_memory, _) = step(&["65", "--gpu", "h200", "--kernels", "sm90"]);
    assert!(more_memory < new && new < old, "{more_memory} {new} {old}");
    assert!(aim.is_null(), "the aims are for another size");
}

#[test]
fn the_picture_has_the_kernels_of_each_stage_below_the_roofs() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("roofline.svg");
    let draw = [&AIMED[..], &PREDICT, &["--roofline", "roofline.svg"]].concat();
    succeeds(folder.path(), &draw);
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.len() < 100_000 && svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{} bytes", svg.len());
    for words in
        ["text: ", "denoise: ", "decode: ", "TFLOP/s", "FLOPs for each byte", "(predicted)", "989 TFLOP/s, 3.35 TB/s"]
    {
        assert!(svg.contains(words), "{words}");
    }
    assert!(!svg.contains("measured") && !svg.contains("NaN"));
    // Every element is self-closing or has an end tag.
    let opened = svg.matches('<').count() - svg.matches("</").count() - svg.matches("/>").count();
    assert_eq!(opened, svg.matches("</").count());
    // As every output, it replaces an older file as a whole.
    std::fs::write(&picture, "older").unwrap();
    succeeds(folder.path(), &draw);
    assert_eq!(std::fs::read_to_string(&picture).unwrap(), svg);
}

#[test]
fn a_trace_has_the_predicted_times() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["5", "--gpu", "h100", "--predict", "--trace", "trace.json", "--json"];
    let report: Value = serde_json::from_str(&succeeds(folder.path(), &[&AIMED[..], &args].concat())).unwrap();
    let trace: Value = serde_json::from_slice(&std::fs::read(folder.path().join("trace.json")).unwrap()).unwrap();
    assert_eq!(trace["otherData"]["durations"], "predicted");
    let drawn: f64 = trace["traceEvents"].as_array().unwrap().iter().filter_map(|event| event["dur"].as_f64()).sum();
    let stages = report["stages"].as_array().unwrap();
    let told: f64 = stages.iter().map(|stage| number(&stage["all"]["predicted"]["seconds"])).sum();
    assert!((drawn / 1e6 - told).abs() < 1e-6 * told, "{drawn} {told}");
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let dry = ["--device", "dry", "--preset", "v1.1.0"];
    let dry = |more: &[&'static str]| [&dry[..], more].concat();
    for (args, words) in [
        (dry(&["--predict"]), &["--predict needs --gpu"][..]),
        (dry(&["--predict", "--gpu", "a100"]), &["a100", "compute capability 9.0", "h100, h100-pcie, h200"]),
        (vec!["--predict", "--device", "cpu"], &["--predict", "--device dry"]),
        (vec!["--roofline", "r.svg", "--device", "cpu"], &["--roofline", "--device dry"]),
        (dry(&["--roofline", "r.svg", "--gpu", "h100"]), &["--roofline", "--predict"]),
        (dry(&["--roofline", "r.png", "--gpu", "h100", "--predict"]), &["r.png", ".svg"]),
        (dry(&["--roofline", "absent/r.svg", "--gpu", "h100", "--predict"]), &["absent"]),
    ] {
        fails(folder.path(), &[&["profile", "--quiet"], &args[..]].concat(), 2, words);
        assert!(!folder.path().join("r.svg").exists());
    }
}

//! `osp profile`: the table, JSON and trace of every device that needs no GPU, and wrong arguments.

use super::{fails, model_argument, osp, succeeds};
use serde_json::Value;
use std::path::Path;

/// Arguments for a small request.
const TINY: [&str; 6] = ["--frames", "5", "--size", "16x16", "--tokens", "7"];

/// The JSON report on the tiny model.
fn report(folder: &Path, args: &[&str]) -> Value {
    let model = model_argument();
    let args = [&["profile", "--json", "--model", &model], &TINY[..], args].concat();
    serde_json::from_str(&succeeds(folder, &args)).unwrap()
}

fn stage<'a>(report: &'a Value, name: &str) -> &'a Value {
    let stages = report["stages"].as_array().unwrap();
    stages.iter().find(|stage| stage["stage"] == name).unwrap_or_else(|| panic!("no stage {name}: {report}"))
}

#[test]
fn the_demo_model_on_the_cpu_has_a_table_for_each_stage() {
    let folder = tempfile::tempdir().unwrap();
    let args = [&["profile", "--device", "cpu"], &TINY[..]].concat();
    let text = succeeds(folder.path(), &args);
    for words in [
        "at 5x16x16 on cpu (",
        "text: one caption of 7 tokens",
        "denoise: one step with guidance at 5x16x16",
        "decode: the only window: 2x2x2 latents",
        "CPU ms",
        "rms_norm",
        "ada_layer_norm",
        "conv3d",
        "to_bytes",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // The shares of all kernels of a stage sum to 100 %.
    let shares = |table: &str| {
        let rows = table.lines().skip(2).filter(|line| !line.starts_with("  all"));
        rows.map(|row| row.split_whitespace().nth(3).unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    for table in text.split("\n\n").skip(1) {
        assert!((shares(table.trim_end()) - 100.0).abs() < 1.0, "{table}");
    }
}

#[test]
fn the_emulated_and_the_dry_device_have_equal_counts_and_no_times() {
    let folder = tempfile::tempdir().unwrap();
    let emulated = report(folder.path(), &["--device", "emulated"]);
    let dry = report(folder.path(), &["--device", "dry"]);
    for name in ["text", "denoise"] {
        let (emulated, dry) = (stage(&emulated, name), stage(&dry, name));
        assert_eq!(emulated["kernels"], dry["kernels"]);
        assert_eq!(emulated["all"], dry["all"]);
        assert_eq!([&dry["all"]["gpu_seconds"], &dry["all"]["bound_seconds"]], [&Value::Null; 2]);
        assert!(dry["peak_bytes"].as_u64().unwrap() > 0 && emulated["peak_bytes"].is_null());
    }
    // Two pairs of blocks, with both guidance branches in one batch; each of T5's two blocks has a gated product.
    let calls = |name: &str, kernel: &str| {
        let kernels = stage(&dry, name)["kernels"].as_array().unwrap().iter();
        let found = kernels.filter(|row| row["kernel"].as_str().unwrap().starts_with(kernel));
        found.map(|row| row["calls"].as_u64().unwrap()).sum::<u64>()
    };
    assert!(calls("denoise", "attention_") > 0 && calls("denoise", "attention_") % 3 == 0);
    assert_eq!(calls("text", "embedding_"), 1);
    let text = succeeds(folder.path(), &[&["profile", "--device", "dry"], &TINY[..]].concat());
    assert!(text.contains("GFLOP") && !text.contains(" ms"), "{text}");
}

#[test]
fn the_head_says_which_variant_runs_and_why() {
    let folder = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (&["dry"][..], "linear, conv3d, attention: sm80, the default without a GPU"),
        (&["dry", "--kernels", "sm80"], "linear, conv3d, attention: sm80, as --kernels asks"),
        (&["dry", "--kernels", "sm90"], "linear: sm90 for in_features a multiple of 8, else sm80, as --kernels asks"),
        (&["emulated"], "linear, conv3d, attention: sm80, the default without a GPU"),
    ] {
        let args = [&["--device"], args].concat();
        let report = report(folder.path(), &args);
        assert_eq!(report["variants"][0], expected, "{args:?}");
        // What it says is what it runs.
        for (name, kernel) in
            [("denoise", "linear_sm90_"), ("denoise", "attention_sm90_"), ("decode", "causal_conv3d_sm90_")]
        {
            let kernels = stage(&report, name)["kernels"].as_array().unwrap();
            let new = kernels.iter().any(|row| row["kernel"].as_str().unwrap().starts_with(kernel));
            assert_eq!(new, expected.contains("sm90"), "{args:?}: {kernel}");
        }
    }
    let text = succeeds(folder.path(), &[&["profile", "--device", "dry"], &TINY[..]].concat());
    assert_eq!(
        text.lines().nth(1),
        Some("kernels: linear, conv3d, attention: sm80, the default without a GPU"),
        "{text}"
    );
    // A CPU runs no kernels.
    assert!(report(folder.path(), &["--device", "cpu"])["variants"].is_null());
}

/// The full-size model, without a GPU.
const PUBLISHED: [&str; 8] = ["profile", "--device", "dry", "--preset", "v1.1.0", "--size", "512x512", "--frames"];

#[test]
fn the_published_model_is_counted_without_weights_and_agrees_with_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let args = [&PUBLISHED[..], &["65", "--gpu", "h100", "--json"]].concat();
    let report: Value = serde_json::from_str(&succeeds(folder.path(), &args)).unwrap();
    let denoise = &stage(&report, "denoise")["all"];
    let (flops, bytes) = (denoise["flops"].as_f64().unwrap(), denoise["bytes"].as_f64().unwrap());
    // 17/56 of the 239 TFLOP at 221 frames; temporal attention needs a little less.
    assert!((71e12..73e12).contains(&flops), "{flops}");
    let bound = denoise["bound_seconds"].as_f64().unwrap();
    assert!(bound >= flops / 989.4e12 && bound >= bytes / 3.35e12 && bound < flops / 989.4e12 + bytes / 3.35e12);
    // T5 in 16 bits, and the transformer.
    assert!(stage(&report, "text")["peak_bytes"].as_u64().unwrap() > 9_500_000_000);
    assert!(stage(&report, "denoise")["peak_bytes"].as_u64().unwrap() > 2_100_000_000);

    let text = succeeds(folder.path(), &[&PUBLISHED[..], &["65", "--gpu", "h100"]].concat());
    for words in
        ["v1.1.0 at 65x512x512 on dry run", "a bound, not a measurement", "bound ms", "FLOPs", "memory", "GiB at once"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn two_hundred_frames_need_less_than_a_gibibyte_of_the_host() {
    // The limit is on address space, of which a process uses more than of memory.
    let limited = "ulimit -v 1048576 && exec \"$0\" \"$@\"";
    let program = env!("CARGO_BIN_EXE_osp");
    let mut command = assert_cmd::Command::new("sh");
    command.args(["-c", limited, program]).args(PUBLISHED).arg("221").env("RAYON_NUM_THREADS", "2");
    let output = command.assert().success().get_output().clone();
    assert!(String::from_utf8(output.stdout).unwrap().contains("221x512x512"));
}

#[test]
fn traces_have_a_track_for_each_stage_with_calls_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    for device in [&["--device", "cpu"][..], &["--device", "dry", "--gpu", "a100"]] {
        let report = report(folder.path(), &[device, &["--trace", "trace.json"]].concat());
        let trace: Value = serde_json::from_slice(&std::fs::read(folder.path().join("trace.json")).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let mut end = 0.0;
        for (track, stage) in (1..).zip(report["stages"].as_array().unwrap()) {
            let of_track: Vec<&Value> = events.iter().filter(|event| event["tid"] == track).collect();
            assert_eq!((&of_track[0]["ph"], &of_track[0]["args"]["name"]), (&"M".into(), &stage["stage"]));
            assert_eq!(of_track.len() as u64 - 1, stage["all"]["calls"].as_u64().unwrap());
            for event in &of_track[1..] {
                assert_eq!(event["ph"], "X");
                let start = event["ts"].as_f64().unwrap();
                assert!((start - end).abs() <= 1e-6 * end, "{event}");
                end = start + event["dur"].as_f64().unwrap();
            }
        }
        let seconds =
            |stage: &Value| ["cpu_seconds", "bound_seconds"].iter().find_map(|key| stage["all"][key].as_f64());
        let total: f64 = report["stages"].as_array().unwrap().iter().map(|stage| seconds(stage).unwrap()).sum();
        assert!((end / 1e6 - total).abs() < 1e-6 * total, "{end} µs drawn, {total} s reported");
    }
}

#[test]
fn repeated_times_are_medians_and_have_a_wall_clock_time() {
    let folder = tempfile::tempdir().unwrap();
    let (once, thrice) =
        (report(folder.path(), &["--device", "cpu"]), report(folder.path(), &["--device", "cpu", "--repeat", "3"]));
    for name in ["text", "denoise", "decode"] {
        let (once, thrice) = (stage(&once, name), stage(&thrice, name));
        assert_eq!([&once["all"]["calls"], &once["all"]["flops"]], [&thrice["all"]["calls"], &thrice["all"]["flops"]]);
        assert!(once["wall_seconds"].is_null() && thrice["wall_seconds"].as_f64().unwrap() > 0.0);
        assert!(thrice["all"]["cpu_seconds"].as_f64().unwrap() > 0.0);
    }
    let text = succeeds(folder.path(), &[&["profile", "--device", "cpu", "--repeat", "2"], &TINY[..]].concat());
    assert_eq!(text.matches("by the host's clock: ").count(), 3, "{text}");
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &[&str]); 18] = [
        (&["--device", "tpu"], 3, &["tpu"]),
        (&["--preset", "v9", "--device", "dry"], 2, &["v9", "v1.1.0"]),
        (&["--preset", "v1.1.0", "--device", "cpu"], 2, &["--device dry", "--weights synthetic:1"]),
        (&["--repeat", "0"], 2, &["--repeat"]),
        (&["--repeat", "2", "--device", "dry"], 2, &["--repeat"]),
        (&["--preset", "v1.1.0", "--device", "dry", "--model", "absent"], 2, &["--preset", "--model"]),
        (&["--preset", "v1.1.0", "--transformer", "65x512x512"], 2, &["--preset", "--transformer"]),
        (&["--gpu", "h100", "--device", "cpu"], 2, &["--gpu", "--device dry"]),
        (&["--gpu", "voodoo", "--device", "dry"], 2, &["voodoo", "h100", "rtx4090"]),
        (&["--trace", "t.json", "--device", "dry"], 2, &["--trace", "--gpu"]),
        (&["--trace", "t.json", "--device", "emulated"], 2, &["--trace", "--gpu"]),
        (&["--trace", "t.txt", "--device", "cpu"], 2, &["t.txt", ".json"]),
        (&["--trace", "absent/t.json", "--device", "cpu"], 2, &["absent"]),
        (&["--tokens", "0"], 2, &["--tokens"]),
        (&["--tokens", "301", "--device", "dry"], 2, &["301", "300"]),
        (&["--frames", "4"], 2, &["4", "5"]),
        (&["--size", "100x100"], 2, &["100x100", "96x96"]),
        (&["--model", "absent", "--device", "dry"], 5, &["absent"]),
    ];
    for (args, code, words) in cases {
        fails(folder.path(), &[&["profile", "--quiet"], args].concat(), code, words);
    }
}

#[test]
fn a_preset_takes_precedence_over_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["profile", "--device", "dry", "--preset", "v1.1.0", "--frames", "1", "--size", "64x64"];
    let output = osp(folder.path()).env("OSP_MODEL", "absent").args(args).assert().success().get_output().clone();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("v1.1.0 at 1x64x64"));
}

/// The error comes before the model is opened, and so before any work.
#[test]
fn a_data_sheet_is_refused_if_auto_chooses_the_cpu() {
    if osp::cuda::device::Driver::open().is_ok() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let args = ["profile", "--quiet", "--gpu", "h100", "--model", "absent"];
    fails(folder.path(), &args, 2, &["--gpu", "--device dry"]);
}

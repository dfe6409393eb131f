//! `OSP_TILES`, `OSP_NORMS` and `OSP_PRINT_LAUNCHES`: what they ask for, and what is printed.

use super::{model_argument, osp};
use serde_json::Value;

/// What the program prints to stdout and to stderr with an environment variable set to each of these values.
fn run(args: &[&str], variables: &[(&str, &str)]) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let output = osp(folder.path()).args(args).envs(variables.iter().copied()).assert().success().get_output().clone();
    [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
}

/// Kernels of a profile of the tiny model on `device`, with their calls and choices, and the launches that were
/// printed.
fn profile(device: &str, variables: &[(&str, &str)]) -> (Vec<Value>, Vec<String>) {
    let model = model_argument();
    let size = ["--frames", "5", "--size", "16x16", "--tokens", "7"];
    let args = [&["profile", "--json", "--quiet", "--model", &model, "--device", device], &size[..]].concat();
    let [stdout, stderr] = run(&args, variables);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let stages = report["stages"].as_array().unwrap().iter();
    let kernels = stages.flat_map(|stage| stage["kernels"].as_array().unwrap().clone()).collect();
    (kernels, stderr.lines().map(str::to_owned).collect())
}

fn calls<'a>(kernels: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    kernels.iter().filter(move |kernel| kernel["kernel"].as_str().unwrap().starts_with(name))
}

#[test]
fn a_tile_that_there_is_not_ends_every_command_that_would_choose() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &["profile", "--device", "dry", "--preset", "v1.1.0"][..],
        &["plan", "--preset", "v1.1.0"],
        &["selftest", "tile", "--device", "emulated", "--quick"],
        &["sample", "a cat", "-o", "out.gif", "--device", "emulated"],
    ] {
        for (tiles, found) in
            [("linear=huge", "\"linear=huge\""), ("norm=warp", "\"norm=warp\""), ("large", "\"large\"")]
        {
            let output = osp(folder.path()).args(args).env("OSP_TILES", tiles).assert().code(2).get_output().clone();
            let stderr = String::from_utf8(output.stderr).unwrap();
            let expected =
                format!("osp: error: OSP_TILES has {found}, which is not a tile; use one of linear=small|large|");
            assert!(stderr.starts_with(&expected) && stderr.lines().count() == 1, "{args:?}: {stderr}");
            assert!(output.stdout.is_empty() && !folder.path().join("out.gif").exists());
        }
    }
}

#[test]
fn a_tile_is_taken_where_it_takes_the_shape_and_changes_no_bit() {
    let (chosen, _) = profile("dry", &[]);
    assert_eq!((calls(&chosen, "linear_large").count(), chosen.is_empty()), (0, false));
    let variables = [("OSP_TILES", "linear=large,conv3d=n8"), ("OSP_PRINT_LAUNCHES", "1")];
    let (forced, lines) = profile("dry", &variables);
    assert_eq!(calls(&forced, "linear_small").count(), 0);
    for kernel in calls(&forced, "linear_large") {
        let choice = &kernel["choice"];
        assert_eq!(
            [&choice["asked"], &choice["taken"]["name"], &choice["others"][0]["name"]],
            ["large", "large", "small"]
        );
        assert!(choice["taken"]["cost"].as_u64() > choice["others"][0]["cost"].as_u64(), "{choice}");
    }
    assert!(
        lines
            .iter()
            .any(|line| line.contains("; linear takes large 128x128 at ") && line.contains(" as asked, not small"))
    );
    assert!(lines.iter().any(|line| line.contains(", for n8 does not take this shape")), "{lines:?}");

    // Frames of the emulated GPU, whichever tile makes them.
    let frames = |tiles: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let model = model_argument();
        let size = [
            "--frames",
            "1",
            "--size",
            "16x16",
            "--sampler",
            "ddim",
            "--steps",
            "1",
            "--device",
            "emulated",
            "--quiet",
        ];
        let args = [&["sample", "a cat", "-o", "out.png", "--model", &model], &size[..]].concat();
        osp(folder.path()).args(args).envs(tiles.iter().copied()).assert().success();
        std::fs::read(folder.path().join("out.png")).unwrap()
    };
    let chosen = frames(&[]);
    for tiles in ["linear=large,conv3d=n128,attention=q128", "linear=broad"] {
        assert!(frames(&[("OSP_TILES", tiles)]) == chosen, "{tiles} changes the frames");
    }
}

#[test]
fn norms_are_folded_where_that_is_asked_for_or_moves_fewer_bytes() {
    let folds = |variables: &[(&str, &str)]| calls(&profile("dry", variables).0, "fold_norm").count() > 0;
    assert!(folds(&[("OSP_NORMS", "folded")]) && !folds(&[("OSP_NORMS", "separate")]));
    // Of the sizes of the published model, an image has few tokens.
    for (frames, folded) in [("1", false), ("65", true)] {
        let folder = tempfile::tempdir().unwrap();
        let args = ["profile", "--device", "dry", "--preset", "v1.1.0-65x512x512", "--frames", frames];
        let output = osp(folder.path()).args(args).assert().success().get_output().clone();
        assert_eq!(String::from_utf8(output.stdout).unwrap().contains("fold_norm"), folded, "{frames}");
    }
    let folder = tempfile::tempdir().unwrap();
    let with_another = |args: &[&str]| osp(folder.path()).args(args).env("OSP_NORMS", "never").assert();
    for args in [
        &["sample", "a cat", "-o", "out.gif", "--device", "cpu"][..],
        &["profile", "--device", "dry", "--preset", "v1.1.0"],
        &["plan", "--preset", "v1.1.0"],
    ] {
        let output = with_another(args).code(2).get_output().clone();
        let said = "osp: error: OSP_NORMS is \"never\"; use folded, separate, or leave it unset\n";
        assert_eq!(String::from_utf8(output.stderr).unwrap(), said, "{args:?}");
    }
    // A command that runs no model does not read it.
    with_another(&["info", &model_argument()]).success();
}

#[test]
fn every_launch_is_a_line_of_stderr_and_no_rehearsal_is() {
    for device in ["dry", "emulated"] {
        let (kernels, lines) = profile(device, &[("OSP_PRINT_LAUNCHES", "1")]);
        for kernel in &kernels {
            let start = format!("launch {}: grid ", kernel["kernel"].as_str().unwrap());
            let of_kernel: Vec<&String> = lines.iter().filter(|line| line.starts_with(&start)).collect();
            // What a prompt needs once is launched, but not part of the step that is counted.
            assert!(of_kernel.len() as u64 >= kernel["calls"].as_u64().unwrap(), "{start}: {lines:?}");
            for words in [" threads, ", " bytes of shared memory, ", " FLOP, ", " bytes"] {
                assert!(of_kernel.iter().all(|line| line.contains(words)), "{of_kernel:?}");
            }
            let choice = of_kernel.iter().all(|line| line.contains(" takes "));
            assert_eq!(choice, !kernel["choice"].is_null(), "{of_kernel:?}");
        }
        assert!(lines.iter().all(|line| line.starts_with("launch ")), "{lines:?}");
    }
    for value in ["", "0"] {
        assert_eq!(profile("dry", &[("OSP_PRINT_LAUNCHES", value)]).1, [""; 0]);
    }
    let plan = ["plan", "--quiet", "--preset", "v1.1.0-65x512x512"];
    assert_eq!(run(&plan, &[("OSP_PRINT_LAUNCHES", "1")])[1], "");
}

#[test]
fn the_table_names_the_tile_and_the_cheapest_alternative() {
    let dry = ["profile", "--device", "dry", "--preset", "v1.1.0", "--size", "512x512", "--frames", "65"];
    let [table, _] = run(&dry, &[]);
    let row = |kernel: &str| table.lines().find(|line| line.trim_start().starts_with(&format!("{kernel} "))).unwrap();
    assert!(row("kernel").ends_with("next best") && row("kernel").contains("  tile  "), "{table}");
    // A smaller tile, whose cost counts as equal.
    assert!(row("linear_broad_f16").contains("  128x192   large -"), "{table}");
    assert!(row("attention_q128_d72_f16").contains("  128x72  "), "{table}");
    assert!(row("attention_bias_q64_d64_bf16").ends_with(" none"), "{table}");
    let model = model_argument();
    let cpu = ["profile", "--device", "cpu", "--frames", "1", "--size", "16x16", "--tokens", "7", "--model", &model];
    assert!(!run(&cpu, &[])[0].contains("next best"));
}

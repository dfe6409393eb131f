//! Whole runs with `--device cuda`: results equal those of the emulator whenever the GPU works, and failures in the
//! middle leave nothing behind.

use super::{compiled, osp};
use crate::cli::{golden, model_argument, names};
use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// Adds arguments for an image of 16×16 pixels to `out.y4m`.
pub fn image(mut command: Command) -> Command {
    command.args(["sample", "a cat", "-o", "out.y4m", "--frames", "1", "--size", "16x16", "--steps", "1"]);
    command.args(["--sampler", "DDIM", "--model", &model_argument()]);
    command
}

/// The image of the emulator.
pub static EXPECTED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    image(osp(folder.path(), "")).args(["--device", "emulated"]).assert().success();
    fs::read(folder.path().join("out.y4m")).unwrap()
});

/// Samples the image in `folder` under these settings, and compares it with the emulator's.
fn sample(folder: &Path, settings: &str) {
    image(osp(folder, settings)).args(["--device", "cuda"]).assert().success();
    assert!(fs::read(folder.join("out.y4m")).unwrap() == *EXPECTED, "{settings}");
}

/// Runs a command that must fail with one line on stderr, and returns the line. Nothing may be left in `folder`.
fn fails(mut command: Command, folder: &Path, code: i32) -> String {
    let output = command.args(["--device", "cuda", "--quiet"]).assert().code(code).get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("osp: error: ") && stderr.lines().count() == 1, "{stderr}");
    // What is complete when the device fails is kept.
    assert!(output.stdout.is_empty() && names(folder).iter().all(|name| name == "out.y4m.state"));
    stderr
}

#[test]
fn samples_have_the_emulators_bits_whenever_work_runs() {
    if !compiled() {
        return;
    }
    for seed in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        sample(folder.path(), &format!("seed={seed}"));
    }
}

#[test]
fn two_processes_do_not_disturb_each_other() {
    if !compiled() {
        return;
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    std::thread::scope(|scope| {
        for folder in &folders {
            scope.spawn(|| sample(folder.path(), "seed=6"));
        }
    });
}

#[test]
fn golden_folders_pass_with_and_without_savings() {
    if !compiled() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = golden("latte_d64");
    for (settings, more) in [("seed=5", None), ("seed=0", Some("--least-memory"))] {
        let mut command = osp(folder.path(), settings);
        command.args(["verify", "--device", "cuda"]).arg(&path).args(more);
        let output = command.assert().success().get_output().clone();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("2 checks, all passed"), "{text}");
    }
}

#[test]
fn a_profile_has_times_of_the_gpu() {
    if !compiled() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = osp(folder.path(), "seed=7");
    command.args(["profile", "--json", "--device", "cuda", "--frames", "1", "--size", "16x16"]);
    command.args(["--tokens", "7", "--model", &model_argument()]);
    let output = command.assert().success().get_output().clone();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = report["stages"].as_array().unwrap();
    assert!(
        stages.len() == 3 && stages.iter().all(|stage| stage["all"]["gpu_seconds"].as_f64() > Some(0.0)),
        "{report}"
    );
}

#[test]
fn the_selftest_names_a_kernel_that_fails() {
    if !compiled() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let selftest = |settings: &str, code: i32| {
        let mut command = osp(folder.path(), settings);
        let output = command.args(["selftest", "--device", "cuda", "--quick", "sampler"]).assert().code(code);
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let text = selftest("seed=8", 0);
    assert!(text.contains("pass  combine_f16 ") && text.contains("kernels, all passed"), "{text}");
    let text = selftest("seed=0 fail=combine_f16@2", 1);
    assert!(text.contains("FAIL  combine_f16") && text.contains("CUDA_ERROR_LAUNCH_FAILED"), "{text}");
}

/// Other kernels run in their place, and the test is not repeated.
#[test]
fn the_first_use_of_a_gpu_goes_on_without_hoppers_kernels_if_they_fail() {
    if !compiled() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for first in [true, false] {
        let mut command = image(osp(folder.path(), "capability=9.0 seed=0 fail=linear_sm90_small_f16@1"));
        command.args(["--device", "cuda"]).env_remove("OSP_SELFTEST");
        let output = command.assert().success().get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.contains("testing the kernels"), first, "{said}");
        assert!(said.contains("fails its test on stand-in, so sm80 is the default there"), "{said}");
        assert!(fs::read(folder.path().join("out.y4m")).unwrap() == *EXPECTED, "{said}");
        fs::remove_file(folder.path().join("out.y4m")).unwrap();
    }
}

#[test]
fn without_memory_the_plan_says_what_would_fit() {
    if !compiled() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let said = fails(image(osp(folder.path(), "memory=4MiB")), folder.path(), 4);
    assert!(said.contains("decode: out of memory: needs 5 MiB, 4 MiB are free; allow 5 MiB"), "{said}");
}

#[test]
fn a_kernel_that_fails_in_the_middle_leaves_no_output() {
    if !compiled() {
        return;
    }
    for settings in ["seed=0 fail=linear_small_f16@9", "seed=1 fail=to_bytes_f16@1", "seed=2 fail=linear_small_f16@20"]
    {
        let folder = tempfile::tempdir().unwrap();
        let line = fails(image(osp(folder.path(), settings)), folder.path(), 3);
        // Whichever call reports it, the line blames no other call.
        assert_eq!(
            line, "osp: error: a kernel failed: the NVIDIA driver says CUDA_ERROR_LAUNCH_FAILED\n",
            "{settings}"
        );
    }
}

#[test]
fn a_run_whose_gpu_fails_goes_on_from_its_state() {
    if !compiled() {
        return;
    }
    let sample = |folder: &Path, settings: &str, device: &str| {
        let mut command = osp(folder, settings);
        command.args(["sample", "a cat", "-o", "out.y4m", "--frames", "1", "--size", "16x16", "--steps", "6"]);
        command.args(["--sampler", "DDIM", "--device", device, "--model", &model_argument()]);
        command
    };
    let whole = tempfile::tempdir().unwrap();
    sample(whole.path(), "", "emulated").assert().success();
    // In the fourth step, behind a state that was asked for; and when all steps are done.
    let failures =
        [("seed=3 fail=combine_f16@4", &["--checkpoint-every", "1"][..]), ("seed=4 fail=to_bytes_f16@1", &[])];
    for (settings, args) in failures {
        let folder = tempfile::tempdir().unwrap();
        sample(folder.path(), settings, "cuda").args(args).assert().code(3);
        assert_eq!(names(folder.path()), ["out.y4m.state"], "{settings}");
        osp(folder.path(), "seed=5").args(["sample", "--resume", "out.y4m.state"]).assert().success();
        let videos = [&whole, &folder].map(|folder| fs::read(folder.path().join("out.y4m")).unwrap());
        assert!(videos[0] == videos[1], "{settings}");
    }
}

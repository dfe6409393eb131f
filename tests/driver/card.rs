//! What the program says about the GPU and the driver, and the errors for those that it cannot use.

use super::{compiled, osp};
use crate::cli::model_argument;
use serde_json::{Value, json};

/// The report of `osp doctor --json` under these settings.
fn doctor(settings: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = osp(folder.path(), settings).args(["doctor", "--json"]).assert().success().get_output().clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn doctor_reports_the_gpu() {
    if !compiled() {
        return;
    }
    let report = doctor("name=H42 memory=3GiB multiprocessors=77 capability=8.9 driver=13.1");
    let gpu = &report["gpu"];
    assert_eq!((report["driver"].as_str(), report["problem"].as_str()), (Some("CUDA 13.1"), None), "{report}");
    assert_eq!((gpu["name"].as_str(), gpu["compute_capability"].as_str()), (Some("H42"), Some("8.9")), "{report}");
    assert_eq!((gpu["multiprocessors"].as_u64(), gpu["code"].as_str()), (Some(77), Some("sm_89")), "{report}");
    assert_eq!([&gpu["memory_bytes"], &gpu["free_bytes"]].map(Value::as_u64), [Some(3 << 30); 2], "{report}");
}

#[test]
fn each_gpu_loads_the_code_that_doctor_names() {
    if !compiled() {
        return;
    }
    // A GPU of an earlier generation than all code, then one for each kind of code.
    let report = doctor("capability=7.5");
    let problem = report["problem"].as_str().unwrap();
    assert!(problem.contains("not compiled for this GPU") && problem.contains("NO_BINARY_FOR_GPU"), "{problem}");
    for (capability, code) in [("8.0", "sm_80"), ("8.7", "sm_86"), ("9.0", "sm_90a"), ("12.1", "sm_120")] {
        assert_eq!(doctor(&format!("capability={capability}"))["gpu"]["code"], code);
    }
    let compiled = doctor("capability=11.0");
    assert!(compiled["gpu"]["code"].as_str().unwrap().starts_with("PTX"), "{compiled}");
}

#[test]
fn doctor_and_profile_say_which_variant_runs() {
    if !compiled() {
        return;
    }
    let profile = |settings: &str, more: &[&str]| -> Value {
        let folder = tempfile::tempdir().unwrap();
        let mut command = osp(folder.path(), settings);
        command.args(["profile", "--json", "--device", "cuda", "--frames", "1", "--size", "16x16", "--tokens", "7"]);
        let output = command.args(["--model", &model_argument()]).args(more).assert().success().get_output().clone();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    for (settings, expected) in [
        ("capability=8.0", "linear, conv3d, attention: sm80, the only variant for this GPU"),
        ("capability=9.0", "linear, conv3d, attention: sm80, until sm90 passes osp selftest here"),
    ] {
        assert_eq!(doctor(settings)["gpu"]["variants"], json!([expected]));
        assert_eq!(profile(settings, &[])["variants"], json!([expected]));
    }
    let asked = profile("capability=9.0", &["--kernels", "sm90"]);
    let linear = "linear: sm90 for in_features a multiple of 8, else sm80, as --kernels asks";
    let variants = asked["variants"].as_array().unwrap();
    assert!(variants.len() == 3 && variants[0] == linear, "{variants:?}");
    assert!(variants[1].as_str().unwrap().starts_with("conv3d: sm90 for 3x3 taps"), "{variants:?}");
    assert!(variants[2].as_str().unwrap().starts_with("attention: sm90 for 64 or 72"), "{variants:?}");
    for kernel in ["linear_sm90_", "causal_conv3d_sm90_", "attention_sm90_"] {
        assert!(asked.to_string().contains(kernel), "{kernel}: {asked}");
    }
}

#[test]
fn a_setting_that_does_not_exist_is_named() {
    for (settings, said) in [
        ("seed=1 colour=red", "colour=red: no such setting; the settings are seed, "),
        ("seed=x", "seed=x: invalid digit"),
        ("cards", "expected words like seed=3, found \"cards\""),
        ("plant=weeds", "plant=weeds: no such fault; the faults are ignore-waits, "),
        ("capability=9", "capability=9: expected two numbers"),
        ("fail=gemm", "fail=gemm: expected a kernel or a function and a number"),
        ("memory=3Gi", "memory=3Gi: invalid digit"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = osp(folder.path(), settings).arg("doctor").assert().code(2).get_output().clone();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("stand-in: OSP_STAND_IN: ") && stderr.contains(said), "{stderr}");
    }
}

#[test]
fn the_program_says_which_gpu_it_cannot_use() {
    let sample = ["sample", "a cat", "-o", "out.gif", "--device", "cuda", "--quiet"];
    let cases = [
        ("cards=0", None, "sees no GPU"),
        ("cards=2", Some("-1"), "sees no GPU"),
        ("cards=2", Some("2,0"), "sees no GPU"),
        ("driver=11.4", None, "too old: it supports CUDA 11.4"),
        ("multiprocessors=0", None, "has 0 multiprocessors"),
        ("capability=7.5", None, "the kernels were not compiled for this GPU"),
    ];
    for (settings, visible, said) in cases {
        let needs_kernels = settings.starts_with("multi") || settings.starts_with("capability");
        let said = if needs_kernels && !compiled() { "no GPU kernels" } else { said };
        let folder = tempfile::tempdir().unwrap();
        let mut command = osp(folder.path(), settings);
        command.envs(visible.map(|list| ("CUDA_VISIBLE_DEVICES", list)));
        let output = command.args(sample).assert().code(3).get_output().clone();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(said) && stderr.lines().count() == 1, "{stderr}");
        assert!(crate::cli::names(folder.path()).is_empty());
    }
}

#[test]
fn every_call_that_opens_the_gpu_has_its_error() {
    if !compiled() {
        return;
    }
    for (call, said) in [
        ("cuDeviceGet@1", "the GPU cannot be opened"),
        ("cuDevicePrimaryCtxRetain@1", "the GPU cannot be opened"),
        ("cuStreamCreate@1", "no stream"),
        ("cuStreamCreate@2", "no stream"),
        ("cuEventCreate@1", "no event"),
        ("cuEventCreate@2", "no event"),
        ("cuDeviceGetDefaultMemPool@1", "the GPU has no pool of memory"),
        ("cuMemPoolSetAttribute@1", "the pool of memory"),
        // Whether there are pools, the most shared memory, the capability, the multiprocessors, and again the capability.
        ("cuDeviceGetAttribute@2", "the GPU's limits"),
        ("cuDeviceGetAttribute@3", "the GPU's limits"),
        ("cuDeviceGetAttribute@4", "the GPU's limits"),
        ("cuDeviceGetAttribute@5", "the GPU's limits"),
        ("cuDeviceGetAttribute@6", "the GPU does not answer"),
        ("cuModuleGetFunction@1", "kernel "),
        ("cuFuncGetAttribute@1", "kernel "),
        ("cuDeviceGetName@1", "the GPU has no name"),
        ("cuMemGetInfo_v2@1", "memory"),
    ] {
        let report = doctor(&format!("fail={call}"));
        let problem = report["problem"].as_str().unwrap_or_default();
        let expected =
            problem.starts_with(said) && problem.ends_with("the NVIDIA driver says CUDA_ERROR_INVALID_VALUE");
        assert!(expected, "{call}: {problem}");
    }
}

//! `osp selftest` without a GPU: on the emulator, and its errors on a machine without a GPU.

use super::{fails, osp, succeeds};
use serde_json::Value;

const EMULATED: [&str; 4] = ["selftest", "--device", "emulated", "--quick"];

#[test]
fn every_kernel_of_a_file_has_a_line_and_the_total_is_last() {
    let folder = tempfile::tempdir().unwrap();
    let text = succeeds(folder.path(), &[&EMULATED[..], &["sampler", "patch"]].concat());
    let lines: Vec<&str> = text.lines().collect();
    let (total, kernels) = lines.split_last().unwrap();
    for kernel in ["combine_f16", "combine_ragged_bf16", "patch_embed_f16", "unpatchify_ragged_f16"] {
        let line = kernels.iter().find(|line| line.contains(&format!("pass  {kernel} "))).unwrap();
        let sum = kernel.starts_with("patch");
        assert!(line.contains(if sum { " of allowed " } else { "  equal bits " }), "{line}");
    }
    assert!(total.starts_with(&format!("{} kernels, all passed, in ", kernels.len())), "{total}");
}

#[test]
fn the_kernels_ptx_is_tested_without_a_gpu() {
    let folder = tempfile::tempdir().unwrap();
    for (device, name) in [("ptx", "PTX machine ("), ("ptx-bits", "compared with the emulator")] {
        let args = ["selftest", "--device", device, "--quick", "sampler", "finite", "--json"];
        if osp::cuda::device::architectures().is_empty() {
            fails(folder.path(), &args, 3, &["scripts/get-nvcc"]);
            continue;
        }
        let report: Value = serde_json::from_str(&succeeds(folder.path(), &args)).unwrap();
        assert_eq!((report["passed"].as_u64(), report["failed"].as_u64()), (Some(10), Some(0)), "{report}");
        assert!(report["device"].as_str().unwrap().contains(name), "{report}");
    }
}

#[test]
fn json_has_the_same_results() {
    let folder = tempfile::tempdir().unwrap();
    let report = succeeds(folder.path(), &[&EMULATED[..], &["sampler", "--json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    let kernels = report["kernels"].as_array().unwrap();
    assert_eq!((report["passed"].as_u64(), report["failed"].as_u64()), (Some(kernels.len() as u64), Some(0)));
    assert!(report["device"].as_str().unwrap().starts_with("emulated GPU"), "{report}");
    assert!(
        kernels.iter().all(|kernel| kernel["cases"].as_u64() >= Some(1) && kernel["failure"].is_null()),
        "{report}"
    );
}

#[test]
fn without_a_gpu_the_selftest_never_passes() {
    // This test does not apply to a machine with a GPU.
    if osp::cuda::device::Driver::open().is_ok() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for args in [&["selftest"][..], &["selftest", "gemm", "--quick"], &["selftest", "--json"]] {
        fails(folder.path(), args, 3, &["--device emulated"]);
    }
    let whole = osp(folder.path()).args(["selftest", "gemm", "--here", "0"]).assert().code(3).get_output().clone();
    assert!(whole.stdout.is_empty());
}

#[test]
fn one_hostile_case_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = |cases: &str| {
        osp(folder.path()).args(["selftest", "--device", "emulated", "depthwise"]).env("OSP_ORACLE", cases).assert()
    };
    let passed = run("417..418").success().get_output().clone();
    assert!(String::from_utf8(passed.stdout).unwrap().contains("all passed"));
    let refused = run("417..").code(2).get_output().clone();
    assert_eq!(
        String::from_utf8(refused.stderr).unwrap(),
        "osp: error: OSP_ORACLE is \"417..\", expected a number of cases or a range such as 417..418\n"
    );
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    fails(folder.path(), &["selftest", "gemv"], 2, &["gemv", "gemm"]);
    fails(folder.path(), &["selftest", "--device", "cpu"], 2, &["cpu", "emulated"]);
    fails(folder.path(), &["selftest", "--here", "0"], 2, &["--here"]);
}

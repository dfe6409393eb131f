//! `--device` without a usable GPU: the errors for no driver, a driver without a GPU, and a driver that is too old.

use super::{fails, osp};
use std::path::{Path, PathBuf};

/// A driver without a GPU, which reports `version` as the CUDA version that it supports.
fn stub_driver(folder: &Path, version: u32) -> PathBuf {
    let code = format!(
        "int cuInit(unsigned flags) {{ (void)flags; return 100; }}\n\
         int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}\n"
    );
    crate::driver::library(folder, &code);
    folder.to_path_buf()
}

const SAMPLE: [&str; 7] = ["sample", "a cat", "-o", "out.gif", "--device", "cuda", "--quiet"];

#[test]
#[cfg(target_os = "linux")]
fn without_a_driver_there_is_no_device_cuda() {
    let folder = tempfile::tempdir().unwrap();
    fails(folder.path(), &SAMPLE, 3, &["no NVIDIA driver", "libcuda.so.1", "--device cpu"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_driver_without_a_gpu_and_an_old_driver_have_different_errors() {
    for (version, said) in [(99_990, "sees no GPU"), (11_040, "too old: it supports CUDA 11.4")] {
        let folder = tempfile::tempdir().unwrap();
        let libraries = stub_driver(folder.path(), version);
        let output = osp(folder.path()).env("LD_LIBRARY_PATH", libraries).args(SAMPLE).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(said) && stderr.lines().count() == 1, "{stderr}");
        assert!(!folder.path().join("out.gif").exists());
    }
}

#[test]
fn an_emulator_that_cannot_be_loaded_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let plan = ["plan", "--preset", "v1.1.0-65x512x512"];
    let output = osp(folder.path()).env("OSP_EMULATOR", "nothing.so").args(plan).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("OSP_EMULATOR does not name a library of kernels: nothing.so: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

//! `--device` on a machine without a driver, and an emulator that cannot be loaded. `tests/driver` has the errors of
//! drivers.

use super::{fails, osp};

const SAMPLE: [&str; 7] = ["sample", "a cat", "-o", "out.gif", "--device", "cuda", "--quiet"];

#[test]
#[cfg(target_os = "linux")]
fn without_a_driver_there_is_no_device_cuda() {
    let folder = tempfile::tempdir().unwrap();
    fails(folder.path(), &SAMPLE, 3, &["no NVIDIA driver", "libcuda.so.1", "--device cpu"]);
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

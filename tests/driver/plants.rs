//! Faults that the program does not have. The stand-in behaves as if it had them, and each must show: as an error of
//! the driver, or as a wrong result. The same request passes without the fault.

use super::calls::{prefetched_copies_come_after_earlier_writes, writes_have_read_their_source};
use super::program::{EXPECTED, image};
use super::{alone, compiled, osp};
use crate::cli::golden;
use osp::cuda::device::Driver;
use std::fs;
use std::process::Output;

/// Verifies a transformer whose blocks are prefetched while the GPU computes.
fn verify(settings: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = osp(folder.path(), settings);
    command.args(["verify", "--device", "cuda", "--least-memory", "--quiet"]).arg(golden("latte_d64"));
    command.output().unwrap()
}

#[test]
fn streams_that_do_not_wait_and_memory_that_is_freed_too_early_are_seen() {
    if !compiled() {
        return;
    }
    assert!(verify("seed=4").status.success());
    for plant in ["ignore-waits", "record-early", "free-at-once"] {
        // The seed decides which launches are late, so not every seed lets a launch read memory that is gone.
        let shows = |seed: u32| {
            let output = verify(&format!("seed={seed} plant={plant}"));
            let stderr = String::from_utf8_lossy(&output.stderr);
            output.status.code() == Some(3) && stderr.contains("CUDA_ERROR_ILLEGAL_ADDRESS")
        };
        assert!((0..8).any(shows), "{plant}");
    }
}

#[test]
fn frames_that_are_taken_too_early_are_seen() {
    if !compiled() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let taken = image(osp(folder.path(), "seed=0 plant=no-event-sync")).args(["--device", "cuda"]).output().unwrap();
    let right = fs::read(folder.path().join("out.y4m")).is_ok_and(|found| found == *EXPECTED);
    assert!(!taken.status.success() || !right);
}

#[test]
fn a_video_thread_without_the_context_is_seen() {
    if !compiled() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = image(osp(folder.path(), "seed=0 plant=unbound-thread"));
    let output = command.args(["--device", "cuda"]).assert().code(3).get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("copy from the GPU: the NVIDIA driver says CUDA_ERROR_INVALID_CONTEXT"), "{stderr}");
}

/// Whether a check of the device passes in a process with a fault.
fn passes(check: fn(&Driver)) -> bool {
    let driver = Driver::open().unwrap();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&driver))).is_ok()
}

#[test]
fn a_buffer_of_the_ring_that_is_filled_too_early_is_seen() {
    let caught = || assert!(!passes(writes_have_read_their_source));
    let test = "driver::plants::a_buffer_of_the_ring_that_is_filled_too_early_is_seen";
    if compiled() {
        alone(test, "seed=0 plant=no-event-sync", caught);
    }
}

#[test]
fn a_prefetched_copy_that_nothing_waits_for_is_seen() {
    let caught = || assert!(!passes(prefetched_copies_come_after_earlier_writes));
    let test = "driver::plants::a_prefetched_copy_that_nothing_waits_for_is_seen";
    if compiled() {
        alone(test, "seed=0 plant=ignore-waits", caught);
    }
}

#[test]
fn an_event_before_its_copy_is_seen() {
    let caught = || assert!(!passes(prefetched_copies_come_after_earlier_writes));
    let test = "driver::plants::an_event_before_its_copy_is_seen";
    if compiled() {
        alone(test, "seed=0 plant=record-early", caught);
    }
}

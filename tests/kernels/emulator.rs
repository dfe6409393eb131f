//! The emulator must detect faults that a GPU would not report. Each kernel of `kernels/emulator/faults.cu` has one
//! fault, which can be switched off.

/// Copies of boxes and bytes, and their maps.
mod copies;
/// Hopper's instructions: helpers, and whole pipelines with one fault each.
mod hopper;
/// Products of warpgroups against the published model.
mod products;

use half::f16;
use osp::cuda::device::{Device, Emulated, Event, Launch};
use osp::cuda::params::{Address, Field, Fields};
use osp::memory::arena::Arena;
use osp::memory::plan::MemoryPlan;
use osp::selftest::values;
use osp::{Error, Result};
use std::sync::Arc;

// SAFETY: `KERNEL_FILE` defines the function: it takes, returns and does nothing.
unsafe extern "C" {
    // A reference, so that the linker keeps the file.
    safe fn osp_kernels_faults();
}

const THREADS: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy)]
struct FaultParams {
    x: u64,
    out: u64,
    count: i32,
    faulty: i32,
}

const FIELDS: Fields = &[(Address::NAMES, "x"), (Address::NAMES, "out"), (i32::NAMES, "count"), (i32::NAMES, "faulty")];

/// Runs a kernel over `x`; returns `outputs` floats.
fn run(kernel: &str, faulty: bool, seed: u64, x: &[u8], outputs: usize, blocks: u32) -> Result<Vec<f32>> {
    run_on(&Emulated::new(seed), kernel, faulty, x, outputs, blocks)
}

fn run_on(device: &dyn Device, kernel: &str, faulty: bool, x: &[u8], outputs: usize, blocks: u32) -> Result<Vec<f32>> {
    osp_kernels_faults();
    let mut input = device.alloc(x.len())?;
    device.write(&mut *input, 0, x)?;
    let out = device.alloc(4 * outputs)?;
    let params = FaultParams { x: input.address(), out: out.address(), count: outputs as i32, faulty: faulty.into() };
    let mut bytes = Vec::new();
    bytes.extend(params.x.to_le_bytes());
    bytes.extend(params.out.to_le_bytes());
    bytes.extend(params.count.to_le_bytes());
    bytes.extend(params.faulty.to_le_bytes());
    let launch = Launch {
        kernel,
        grid: [blocks, 1, 1],
        threads: THREADS,
        shared_bytes: 1024,
        params: &bytes,
        fields: FIELDS,
        flops: 0,
        bytes: 0,
        choice: None,
    };
    device.launch(&launch)?;
    let mut found = vec![0; 4 * outputs];
    device.read(&*out, 0, &mut found)?;
    Ok(found.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect())
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

const SEEDS: [u64; 5] = [0, 1, 2, 3, 4];

/// Checks a kernel: without its fault it is right under every order of threads; with the fault it is wrong under at
/// least one order.
fn wrong_only_if_faulty(kernel: &str, x: &[u8], expected: &[f32]) {
    let result = |faulty, seed| run(kernel, faulty, seed, x, expected.len(), 1).unwrap();
    for seed in SEEDS {
        assert_eq!(result(false, seed), expected, "{kernel}, seed {seed}");
    }
    assert!(SEEDS.iter().any(|&seed| result(true, seed) != expected), "{kernel}: the fault was not detected");
}

/// Checks a kernel: without its fault it is right; with the fault, the error names the kernel and has the words `what`.
#[track_caller]
fn refused_if_faulty(kernel: &str, x: &[f32], outputs: usize, blocks: u32, what: &str) {
    for seed in SEEDS {
        run(kernel, false, seed, &bytes(x), outputs, blocks).unwrap();
        let error = run(kernel, true, seed, &bytes(x), outputs, blocks).unwrap_err();
        assert!(matches!(error, Error::Launch { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(kernel) && text.contains("block (") && text.contains(what), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn a_missing_barrier_is_detected() {
    let x = values(1, 64);
    let reversed: Vec<f32> = x.iter().rev().copied().collect();
    wrong_only_if_faulty("fault_missing_barrier", &bytes(&x), &reversed);
}

#[test]
fn a_race_is_detected() {
    let x = values(2, 64);
    let rotated: Vec<f32> = (0..64).map(|i| x[(i + 2) % 64]).collect();
    wrong_only_if_faulty("fault_race", &bytes(&x), &rotated);
}

#[test]
fn asynchronous_copies_may_arrive_as_late_as_the_wait() {
    let x = values(3, 64);
    wrong_only_if_faulty("fault_missing_wait", &bytes(&x), &x);
}

#[test]
fn asynchronous_copies_may_arrive_before_the_wait() {
    let x = values(6, 8 * 64);
    let sum = |i: usize| x.chunks(64).fold(0.0, |sum, slice| sum + slice[(i + 32) % 64]);
    let sums: Vec<f32> = (0..64).map(sum).collect();
    wrong_only_if_faulty("fault_early_copy", &bytes(&x), &sums);
}

#[test]
fn overruns_are_errors() {
    refused_if_faulty("fault_overrun", &values(4, 100), 100, 2, "outside of the launch's buffers");
}

/// The memory after x is free, or belongs to a buffer that the launch does not use.
#[test]
fn overruns_within_an_arena_are_errors() {
    let x = bytes(&values(7, 64));
    let alloc = |address| Event::Alloc { address, bytes: x.len(), weight: false };
    let mut plan = MemoryPlan::of(&[alloc(1024), alloc(2048), alloc(4096)]);
    for (buffer, offset) in plan.buffers.iter_mut().zip([256, 0, 512]) {
        buffer.offset = offset;
    }
    let plan = Arc::new(plan);
    for (lives, faulty) in [(true, true), (true, false), (false, true), (false, false)] {
        let arena = Arena::new(Arc::new(Emulated::new(0)), plan.clone()).unwrap();
        let other = Some(arena.alloc(x.len()).unwrap()).filter(|_| lives);
        let result = run_on(&arena, "fault_overrun", faulty, &x, 64, 2);
        drop(other);
        let Err(error) = result else {
            assert!(!faulty, "the fault was not detected");
            continue;
        };
        let text = error.to_string();
        let what =
            "fault_overrun, block (1, 0, 0), thread 0: load of 4 bytes outside of the launch's buffers, 256 bytes";
        assert!(faulty && text.contains(what), "{text}");
    }
}

#[test]
fn overruns_of_shared_memory_are_errors() {
    let kernel = "fault_shared_overrun";
    let device = Emulated::new(0);
    let memory = device.alloc(4).unwrap();
    let launch = |faulty: i32| {
        let mut bytes = [memory.address().to_le_bytes(); 2].concat();
        bytes.extend(1i32.to_le_bytes());
        bytes.extend(faulty.to_le_bytes());
        let shared_bytes = 4 * THREADS;
        device.launch(&Launch {
            kernel,
            grid: [1; 3],
            threads: THREADS,
            shared_bytes,
            params: &bytes,
            fields: &[],
            flops: 0,
            bytes: 0,
            choice: None,
        })
    };
    osp_kernels_faults();
    launch(0).unwrap();
    let text = launch(1).unwrap_err().to_string();
    assert!(text.contains("wrote outside of its 256 bytes of shared memory"), "{text}");
}

#[test]
fn barriers_that_some_threads_do_not_reach_are_errors() {
    refused_if_faulty(
        "fault_divergent_barrier",
        &[0.0],
        1,
        1,
        "thread 0 waits at a block barrier, thread 32 has ended",
    );
}

#[test]
fn missing_lanes_of_a_warp_instruction_are_errors() {
    refused_if_faulty("fault_missing_lanes", &[0.0], 64, 1, "shfl_xor");
}

#[test]
fn lanes_of_a_warp_at_two_instructions_are_errors() {
    for (kernel, op) in
        [("fault_two_shuffles", "shfl_xor"), ("fault_two_sums", "shfl_xor"), ("fault_two_loads", "ldmatrix")]
    {
        refused_if_faulty(
            kernel,
            &[0.0],
            64,
            1,
            &format!("of the same warp is at {op} at kernels/emulator/faults.cu:"),
        );
    }
}

#[test]
fn stacks_of_an_earlier_block_are_not_read() {
    // Only AddressSanitizer can detect a failure of this test.
    refused_if_faulty("fault_frame_left", &[0.0], 64, 1, "thread 32 has ended");
}

#[test]
fn misaligned_vectors_are_errors() {
    refused_if_faulty("fault_misaligned", &values(5, 8), 64, 1, "not a multiple of 16 bytes");
    refused_if_faulty("fault_misaligned_shared", &values(5, 64), 64, 1, "not a multiple of 16 bytes");
}

#[test]
fn matrix_products_are_exact_and_wrong_fragments_are_detected() {
    // Small integers: every sum is exact.
    let numbers: Vec<f32> = (0..24 * 16).map(|i| ((i * 7 + i * i / 5) % 17) as f32 - 8.0).collect();
    let halves: Vec<u8> = numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    let dot = |row: usize, column: usize| {
        (0..16).map(|k| numbers[row * 16 + k] * numbers[(16 + column) * 16 + k]).sum::<f32>()
    };
    let expected: Vec<f32> = (0..16 * 8).map(|i| dot(i / 8, i % 8)).collect();
    wrong_only_if_faulty("fault_wrong_fragment", &halves, &expected);
}

#[test]
fn unknown_kernels_and_wrong_sizes_are_errors() {
    let device = Emulated::new(0);
    let launch = Launch {
        kernel: "no_such_kernel",
        grid: [1; 3],
        threads: 32,
        shared_bytes: 0,
        params: &[],
        fields: &[],
        flops: 0,
        bytes: 0,
        choice: None,
    };
    let text = device.launch(&launch).unwrap_err().to_string();
    assert!(text.contains("no_such_kernel") && text.contains("no such kernel"), "{text}");
    let launch = Launch { kernel: "rms_norm_warp_f16", threads: 64, ..launch };
    let text = device.launch(&launch).unwrap_err().to_string();
    assert!(text.contains("takes 256 threads"), "{text}");
}

//! Barriers, copies, products and registers of Hopper together. Each kernel of `kernels/emulator/hopper_faults.cu` works
//! under every order of threads, and each of its faults is detected.

use bytemuck::Zeroable;
use half::bf16;
use osp::Result;
use osp::cuda::device::{Device, Emulated, Launch, Memory};
use osp::cuda::params::{Address, TensorMap};

// SAFETY: `KERNEL_FILE` defines the function: it takes, returns and does nothing.
unsafe extern "C" {
    // A reference, so that the linker keeps the file.
    safe fn osp_kernels_hopper_faults();
}

/// The orders of threads that every kernel must survive.
pub const SEEDS: std::ops::Range<u64> = 0..9;

pub fn device(seed: u64) -> Emulated {
    osp_kernels_hopper_faults();
    Emulated::new(seed)
}

pub fn upload(device: &Emulated, bytes: &[u8]) -> Box<dyn Memory> {
    let mut memory = device.alloc(bytes.len()).unwrap();
    device.write(&mut *memory, 0, bytes).unwrap();
    memory
}

pub fn download<T: bytemuck::Pod>(device: &Emulated, memory: &dyn Memory) -> Vec<T> {
    let mut bytes = vec![0; memory.len()];
    device.read(memory, 0, &mut bytes).unwrap();
    bytemuck::pod_collect_to_vec(&bytes)
}

/// A map of a dense tensor; sizes and box begin with the innermost dimension.
pub fn map(memory: &dyn Memory, element_bytes: u32, sizes: &[u32], box_sizes: &[u32], swizzle: u32) -> TensorMap {
    let mut map = TensorMap::zeroed();
    map.address = Address(memory.address());
    map.rank = sizes.len() as u32;
    map.element_bytes = element_bytes;
    map.swizzle = swizzle;
    let mut stride = u64::from(element_bytes);
    for i in 0..sizes.len() {
        map.sizes[i] = sizes[i];
        map.box_sizes[i] = box_sizes[i];
        stride *= u64::from(sizes[i]);
        if i + 1 < sizes.len() {
            map.strides[i] = stride;
        }
    }
    map
}

/// Parameters of a kernel: fields without padding between them, and at the end that of a map's alignment.
pub fn params(maps: &[TensorMap], addresses: &[u64], numbers: &[i32]) -> Vec<u8> {
    let mut bytes = bytemuck::cast_slice(maps).to_vec();
    bytes.extend_from_slice(bytemuck::cast_slice(addresses));
    bytes.extend_from_slice(bytemuck::cast_slice(numbers));
    if !maps.is_empty() {
        bytes.resize(bytes.len().next_multiple_of(64), 0);
    }
    bytes
}

pub fn launch(device: &Emulated, kernel: &str, [blocks, threads, shared]: [u32; 3], params: &[u8]) -> Result<()> {
    device.launch(&Launch {
        kernel,
        grid: [blocks, 1, 1],
        threads,
        shared_bytes: shared,
        params,
        fields: &[],
        flops: 0,
        bytes: 0,
        choice: None,
    })
}

/// Runs a kernel with a fault, or 0, under a seed.
type Run<'a, T> = &'a dyn Fn(i32, u64) -> Result<Vec<T>>;

#[track_caller]
fn right_without_fault<T: PartialEq>(run: Run<'_, T>, expected: &[T]) {
    for seed in SEEDS {
        assert!(run(0, seed).unwrap() == expected, "seed {seed}");
    }
}

/// A fault is an error under every order of threads, with one of these texts.
#[track_caller]
fn refused<T>(run: Run<'_, T>, fault: i32, texts: &[&str]) {
    for seed in SEEDS {
        let Err(error) = run(fault, seed) else { panic!("fault {fault} was not detected with seed {seed}") };
        let error = error.to_string();
        assert!(texts.iter().any(|text| error.contains(text)), "fault {fault}, seed {seed}: {error}");
        assert!(error.contains("block (") && !error.contains('\n'), "{error}");
    }
}

/// A fault is an error or gives wrong results, under at least one order of threads.
#[track_caller]
fn detected<T: PartialEq>(run: Run<'_, T>, fault: i32, expected: &[T]) {
    let passes = |seed| run(fault, seed).is_ok_and(|found| found == expected);
    let mut seeds = SEEDS;
    assert!(!seeds.all(passes), "fault {fault}");
}

/// Small whole numbers: all sums are exact.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + i * i / 5 + seed * 3) % 15) as f32 - 7.0).collect()
}

fn halves(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect()
}

const SLICES: usize = 5;
const K: usize = 64 * SLICES;

/// The map of a claims 128 rows; its memory has `rows`.
fn pipeline(rows: usize, fault: i32, seed: u64) -> Result<Vec<f32>> {
    let device = device(seed);
    let a = upload(&device, &halves(&numbers(128 * K, 1)[..rows * K]));
    let b = upload(&device, &halves(&numbers(64 * K, 2)));
    let out = device.alloc(4 * 128 * 64)?;
    let maps = [map(&*a, 2, &[K as u32, 128], &[64, 128], 128), map(&*b, 2, &[K as u32, 64], &[64, 64], 128)];
    let params = params(&maps, &[out.address()], &[SLICES as i32, fault]);
    launch(&device, "hopper_pipeline", [1, 384, 2 * (128 + 64) * 128 + 32], &params)?;
    Ok(download(&device, &*out))
}

#[test]
fn a_pipeline_of_copies_and_products_is_exact_and_its_faults_are_detected() {
    let (a, b) = (numbers(128 * K, 1), numbers(64 * K, 2));
    let dot = |i: usize| (0..K).map(|k| a[i / 64 * K + k] * b[i % 64 * K + k]).sum::<f32>();
    let expected: Vec<f32> = (0..128 * 64).map(dot).collect();
    let run = |fault, seed| pipeline(128, fault, seed);
    right_without_fault(&run, &expected);
    refused(&run, 1, &["one arrival too many", "no thread has seen the end of the phase before", "stuck"]);
    refused(&run, 2, &["lacks 0 arrivals and 16 bytes"]);
    refused(&run, 3, &["lacks 1 arrivals and 0 bytes"]);
    detected(&run, 4, &expected);
    detected(&run, 5, &expected);
    for seed in SEEDS {
        assert!(run(6, seed).unwrap().iter().all(|sum| sum.is_nan()), "seed {seed}");
    }
    refused(&run, 7, &["open_products did not come after"]);
    refused(&run, 8, &["lacks 0 arrivals and -", "ended while a copy into its shared memory was in flight"]);
    refused(&run, 10, &["waits at take_registers for registers that other warpgroups keep"]);
    refused(&run, 11, &["of the same warpgroup makes another call"]);
    refused(&run, 12, &["ended with products in flight"]);
    refused(&run, 13, &["before publish_barriers"]);
    refused(&run, 14, &["before the threads met", "which no thread has prepared"]);
    refused(&run, 15, &["exists, since thread 0"]);
    refused(&|_, seed| pipeline(127, 0, seed), 9, &["load_box of 128 bytes outside of the launch's buffers"]);
}

/// Stores a box of 64×64 at (8, 4) of a tensor of 56×50.
fn store(at: [i32; 2], fault: i32, seed: u64) -> Result<Vec<u16>> {
    let device = device(seed);
    let x: Vec<u16> = (0..64 * 64).collect();
    let x = upload(&device, bytemuck::cast_slice(&x));
    let out = upload(&device, &[0; 2 * 56 * 50]);
    let maps = [map(&*out, 2, &[56, 50], &[64, 64], 0)];
    let params = params(&maps, &[x.address()], &[at[0], at[1], fault]);
    launch(&device, "hopper_store", [1, 128, 64 * 128], &params)?;
    Ok(download(&device, &*out))
}

#[test]
fn stores_are_clipped_and_need_the_fence_and_the_wait() {
    let at = |row: u16, column: u16| if row < 4 || column < 8 { 0 } else { (row - 4) * 64 + column - 8 };
    let expected: Vec<u16> = (0..50).flat_map(|row| (0..56).map(move |column| at(row, column))).collect();
    let run = |fault, seed| store([8, 4], fault, seed);
    right_without_fault(&run, &expected);
    refused(&run, 1, &["which a thread stored without store_shared and publish_shared"]);
    refused(&run, 2, &["which a thread stored without store_shared and publish_shared"]);
    refused(&run, 3, &["ended with stores (store_box) in flight"]);
    refused(&run, 4, &["ended with stores (store_box) in flight"]);
    detected(&run, 5, &expected);
    detected(&run, 6, &expected);
    refused(&|_, seed| store([-8, 4], 0, seed), 0, &["store_box at a negative coordinate"]);
}

const TURNS: usize = 3;

fn cluster(blocks: u32, fault: i32, seed: u64) -> Result<Vec<u16>> {
    let device = device(seed);
    let x: Vec<u16> = (0..64 * 16 * TURNS as u16).collect();
    let x = upload(&device, bytemuck::cast_slice(&x));
    let out = device.alloc(blocks as usize * TURNS * 2 * 1024)?;
    let maps = [map(&*x, 2, &[64, 16 * TURNS as u32], &[64, 8], 0)];
    let params = params(&maps, &[out.address()], &[TURNS as i32, fault]);
    launch(&device, "hopper_cluster", [blocks, 32, 2 * 1024 + 16], &params)?;
    Ok(download(&device, &*out))
}

#[test]
fn a_cluster_shares_copies_and_ends_together() {
    let expected: Vec<u16> = (0..4).flat_map(|_| 0..64 * 16 * TURNS as u16).collect();
    let run = |fault, seed| cluster(4, fault, seed);
    right_without_fault(&run, &expected);
    refused(&run, 1, &["of the cluster has ended"]);
    let ends = ["ended while a copy into its shared memory", "ended with 1024 bytes", "ended, but no thread waited"];
    refused(&run, 2, &ends);
    detected(&run, 3, &expected);
    refused(&run, 4, &["before the threads met", "which no thread has prepared"]);
    let error = cluster(3, 0, 0).unwrap_err().to_string();
    assert!(error.contains("3 blocks along x are no whole number of clusters of 2"), "{error}");
}

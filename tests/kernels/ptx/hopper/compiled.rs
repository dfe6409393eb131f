//! A kernel as nvcc compiles it, with each of Hopper's parts; and faults that are planted in its source.

use super::super::planted::compile_for;
use super::SEEDS;
use half::bf16;
use osp::cuda::device::{Device, Launch, PtxMachine};
use osp::cuda::params::{Address, TensorMap};
use osp::{Error, Result};

const SOURCE: &str = include_str!("pipeline.cu");
const SLICES: usize = 5;
const K: usize = 64 * SLICES;

fn a_element(m: usize, k: usize) -> f32 {
    ((7 * m + 3 * k) % 11) as f32 - 5.0
}

fn b_element(n: usize, k: usize) -> f32 {
    ((5 * n + k) % 7) as f32 - 3.0
}

fn bytes(rows: usize, element: fn(usize, usize) -> f32) -> Vec<u8> {
    (0..rows * K).flat_map(|i| bf16::from_f32(element(i / K, i % K)).to_le_bytes()).collect()
}

/// The elements of d.
fn run(text: &str, seed: u64) -> Result<Vec<bf16>> {
    let machine = PtxMachine::with_texts(vec![("pipeline.ptx".to_owned(), text.to_owned())], seed);
    let memory = |bytes: &[u8]| {
        let mut memory = machine.alloc(bytes.len())?;
        machine.write(&mut *memory, 0, bytes).map(|()| memory)
    };
    let (a, b, d) = (memory(&bytes(256, a_element))?, memory(&bytes(64, b_element))?, machine.alloc(256 * 128)?);
    let map = |address: u64, rows: usize, columns: usize, side: u32| {
        TensorMap::new(Address(address), [columns, rows], &[columns], [64, side], 128).unwrap()
    };
    let maps = [map(a.address(), 256, K, 128), map(b.address(), 64, K, 32), map(d.address(), 256, 64, 16)];
    let mut params: Vec<u8> = maps.iter().flat_map(|map| bytemuck::bytes_of(map).to_vec()).collect();
    params.extend((SLICES as u32).to_le_bytes());
    params.resize(448, 0);
    machine.launch(&Launch {
        kernel: "k",
        grid: [2, 1, 1],
        threads: 384,
        shared_bytes: 66_560,
        params: &params,
        fields: &[],
        flops: 0,
        bytes: 0,
        choice: None,
    })?;
    let mut found = vec![0; 256 * 128];
    machine.read(&*d, 0, &mut found)?;
    Ok(found.chunks_exact(2).map(|bytes| bf16::from_le_bytes([bytes[0], bytes[1]])).collect())
}

/// The PTX of the kernel with `from` replaced; none without nvcc.
fn compiled(from: &str, to: &str) -> Option<String> {
    assert!(SOURCE.contains(from), "{from:?} is not in the source");
    compile_for("90a", "pipeline", &[("pipeline.cu", "", &SOURCE.replace(from, to))])
}

#[test]
fn a_pipeline_of_two_blocks_multiplies() {
    let Some(text) = compiled("", "") else { return };
    // All sums are integers that f32 holds exactly.
    let sum = |m: usize, n: usize| (0..K).map(|k| a_element(m, k) * b_element(n, k)).sum::<f32>();
    let expected: Vec<bf16> = (0..256 * 64).map(|i| bf16::from_f32(sum(i / 64, i % 64))).collect();
    for seed in 0..8 {
        let found = run(&text, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(found == expected, "seed {seed}");
    }
}

/// Fails unless the PTX is an error under every seed, with one of the words in `what`, each divided by `|`.
#[track_caller]
fn fails(text: &str, fault: &str, what: &str) {
    for seed in SEEDS {
        let found = run(text, seed).err();
        let Some(Error::Launch { problem, .. }) = &found else { panic!("{fault:?}, seed {seed}: {found:?}") };
        assert!(what.split('|').any(|what| problem.contains(what)), "{fault:?}, seed {seed}: {problem}");
    }
}

#[test]
fn faults_in_the_source_are_found_under_every_order() {
    let wait = "        wait_for_products<0>(d);\n";
    let arrive = "        if (lane < 2) {\n            arrive_at_block(empty + stage, lane);\n        }\n";
    for (from, to, what) in [
        (format!("{wait}{arrive}"), format!("{arrive}{wait}"), "race"),
        ("init_barrier(empty + i, 16)".into(), "init_barrier(empty + i, 15)".into(), "race|arrivals at|nobody saw"),
        ("k / STAGES % 2".into(), "(k / STAGES + 1) % 2".into(), "race"),
        ("STAGE_BYTES);".into(), "STAGE_BYTES - 16);".into(), "stuck|nobody saw"),
    ] {
        let Some(text) = compiled(&from, &to) else { return };
        fails(&text, &to, what);
    }
}

#[test]
fn faults_in_the_ptx_are_found_under_every_order() {
    let Some(right) = compiled("", "") else { return };
    for (from, to, what) in [
        ("wgmma.fence.sync.aligned;", "", "without a wgmma.fence"),
        ("wgmma.wait_group.sync.aligned 0;", "wgmma.wait_group.sync.aligned 1;", "race|nothing was written"),
        ("fence.proxy.async.shared::cta;", "", "wrote without fence.proxy.async"),
        ("bar.warp.sync", "//", "race"),
        ("fence.mbarrier_init.release.cluster;", "", "without fence.mbarrier_init"),
        ("cp.async.bulk.wait_group 0;", "cp.async.bulk.wait_group.read 0;", "without cp.async.bulk.wait_group"),
        ("setmaxnreg.dec.sync.aligned.u32 24;", "setmaxnreg.dec.sync.aligned.u32 32;", "stuck: waits for registers"),
    ] {
        assert!(right.contains(from), "{from}");
        fails(&right.replace(from, to), to, what);
    }
    // The last barrier of the cluster.
    let (before, after) = right.rsplit_once("barrier.cluster.arrive").unwrap();
    let (_, after) = after.split_once("barrier.cluster.wait.acquire.aligned;").unwrap();
    fails(&format!("{before}{after}"), "no barrier at the end", "may end before this reaches it");
}

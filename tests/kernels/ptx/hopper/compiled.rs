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

#[test]
fn planted_faults_are_found_under_every_order() {
    let released = "        wait_for_products<0>(d);\n        if (lane < 2) {\n            arrive_at_block(empty + stage, lane);\n        }\n";
    let early = "        if (lane < 2) {\n            arrive_at_block(empty + stage, lane);\n        }\n        wait_for_products<0>(d);\n";
    let end = "    // The other block may still arrive here, or send its half.\n    cluster_sync();\n";
    for (from, to, what) in [
        (released, early, "race"),
        ("wait_for_products<0>(d)", "wait_for_products<1>(d)", "race|nothing was written"),
        ("init_barrier(empty + i, 16)", "init_barrier(empty + i, 15)", "race|arrivals at|nobody saw"),
        ("init_barrier(empty + i, 16)", "init_barrier(empty + i, 17)", "stuck"),
        ("(k / STAGES + 1) % 2", "k / STAGES % 2", "stuck"),
        ("wait_for_phase(full + stage, k / STAGES % 2)", "wait_for_phase(full + stage, (k / STAGES + 1) % 2)", "race"),
        (
            "arrive_expecting(full + stage, STAGE_BYTES)",
            "arrive_expecting(full + stage, STAGE_BYTES - 16)",
            "stuck|nobody saw",
        ),
        ("        open_products();\n", "", "without a wgmma.fence"),
        ("    publish_shared();\n", "", "wrote without fence.proxy.async"),
        ("    __syncwarp();\n", "", "race"),
        ("        publish_barriers();\n", "", "without fence.mbarrier_init"),
        ("        wait_for_stores<0>();\n", "        wait_for_reads<0>();\n", "without cp.async.bulk.wait_group"),
        ("keep_registers<24>", "keep_registers<32>", "stuck: waits for registers"),
        (end, "", "may end before this reaches it"),
    ] {
        let Some(text) = compiled(from, to) else { return };
        for seed in SEEDS {
            let found = run(&text, seed).err();
            let Some(Error::Launch { problem, .. }) = &found else { panic!("{to:?}, seed {seed}: {found:?}") };
            assert!(what.split('|').any(|what| problem.contains(what)), "{to:?}, seed {seed}: {problem}");
        }
    }
}

//! Hopper: barriers in shared memory, bulk copies, clusters and products of warpgroups. PTX ISA 9.0, sections 5.5, 9.7.9.25,
//! 9.7.13, 9.7.15 and 9.7.19.

/// Barriers, clusters and registers.
mod barriers;
/// A kernel as nvcc compiles it.
mod compiled;
/// Bulk copies.
mod copies;
/// Faults of barriers, copies and clusters.
mod faults;
/// Products, and their faults.
mod products;

use super::warps::SEEDS;
use osp::cuda::device::{Device, Launch, PtxMachine};
use osp::cuda::params::{Address, TensorMap};
use osp::{Error, Result};

/// A kernel and its launch: `k` has a body, and x and out of 16-bit elements.
///
/// The body finds the addresses of x and out in %rd1 and %rd2, those of their tensor maps in %rd3 and %rd4, %tid.x in %r0,
/// the start of shared memory in %r1, and the rank of its block in %r2. Shared memory has 65,536 bytes; by convention,
/// barriers begin at byte 60,000, and %r10 to %r13 have the addresses of the first four.
#[derive(Clone, Debug)]
struct Case {
    threads: u32,
    blocks: u32,
    cluster: u32,
    body: String,
    x: Vec<u16>,
    out: usize,
    /// Sizes, strides, box and swizzle of both maps. None: the map of a row of 64 elements.
    maps: [Option<Map>; 2],
}

type Map = (Vec<usize>, Vec<usize>, Vec<u32>, u32);

const SHARED: u32 = 65_536;
/// The maps, two addresses, and padding.
const PARAMETERS: usize = 320;

/// A case with one block.
fn case(threads: u32, body: impl Into<String>) -> Case {
    let (x, maps) = ((0..4096).collect(), [None, None]);
    Case { threads, blocks: 1, cluster: 1, body: body.into(), x, out: 1024, maps }
}

fn map(address: u64, map: Option<&Map>) -> TensorMap {
    let row = (vec![64, 1], vec![64], vec![64, 1], 0);
    let (sizes, strides, box_sizes, swizzle) = map.unwrap_or(&row);
    macro_rules! of {
        ($($rank:literal)*) => {
            match sizes.len() {
                $($rank => {
                    let (sizes, box_sizes): ([usize; $rank], [u32; $rank]) =
                        (sizes[..].try_into().unwrap(), box_sizes[..].try_into().unwrap());
                    TensorMap::new(Address(address), sizes, strides, box_sizes, *swizzle).unwrap()
                })*
                _ => unreachable!(),
            }
        };
    }
    of!(1 2 3 4 5)
}

impl Case {
    fn text(&self) -> String {
        let Self { threads, cluster, body, .. } = self;
        let cluster = if *cluster == 1 {
            String::new()
        } else {
            format!(".explicitcluster\n.reqnctapercluster {cluster}, 1, 1\n")
        };
        let barriers: String = (0..4).map(|i| format!("add.s32 %r1{i}, %r1, {};\n", 60_000 + 8 * i)).collect();
        format!(
            ".version 9.0\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 memory[];\n\
             .visible .entry k(\n.param .align 64 .b8 k_param_0[{PARAMETERS}]\n)\n.maxntid {threads}, 1, 1\n\
             .minnctapersm 1\n{cluster}{{\n.reg .pred %p<10>;\n.reg .b16 %rs<10>;\n.reg .b32 %r<99>;\n\
             .reg .f32 %f<300>;\n.reg .b64 %rd<40>;\nmov.b64 %rd5, k_param_0;\ncvta.param.u64 %rd3, %rd5;\n\
             add.s64 %rd4, %rd3, 128;\nld.param.u64 %rd1, [k_param_0+256];\nld.param.u64 %rd2, [k_param_0+264];\n\
             mov.u32 %r0, %tid.x;\nmov.u32 %r1, memory;\nmov.u32 %r2, %cluster_ctarank;\n{barriers}{body}\nret;\n}}\n"
        )
    }

    /// The elements of out after a run under a seed.
    fn run(&self, seed: u64) -> Result<Vec<u16>> {
        let machine = PtxMachine::with_texts(vec![("k.ptx".to_owned(), self.text())], seed);
        let mut x = machine.alloc(2 * self.x.len())?;
        machine.write(&mut *x, 0, &self.x.iter().flat_map(|e| e.to_le_bytes()).collect::<Vec<_>>())?;
        let mut out = machine.alloc(2 * self.out)?;
        machine.write(&mut *out, 0, &vec![0xEE; 2 * self.out])?;
        let mut params = Vec::new();
        for (map_of, memory) in self.maps.iter().zip([&x, &out]) {
            params.extend_from_slice(bytemuck::bytes_of(&map(memory.address(), map_of.as_ref())));
        }
        params.extend([x.address(), out.address()].map(u64::to_le_bytes).concat());
        params.resize(PARAMETERS, 0);
        machine.launch(&Launch {
            kernel: "k",
            grid: [self.blocks, 1, 1],
            threads: self.threads,
            shared_bytes: SHARED,
            params: &params,
            fields: &[],
            flops: 0,
            bytes: 0,
            choice: None,
        })?;
        let mut found = vec![0; 2 * self.out];
        machine.read(&*out, 0, &mut found)?;
        Ok(found.chunks_exact(2).map(|bytes| u16::from_le_bytes(bytes.try_into().unwrap())).collect())
    }

    /// The elements of out, the same under every seed.
    #[track_caller]
    fn found(&self) -> Vec<u16> {
        let mut all =
            SEEDS.map(|seed| self.run(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{}", self.body)));
        for (found, seed) in all.iter().zip(SEEDS).skip(1) {
            assert!(*found == all[0], "seed {seed}");
        }
        std::mem::take(&mut all[0])
    }

    /// As [`Self::found`], as words.
    #[track_caller]
    fn words(&self) -> Vec<u32> {
        self.found().chunks_exact(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect()
    }

    fn problem(&self, seed: u64) -> Option<String> {
        match self.run(seed) {
            Ok(_) => None,
            Err(error @ Error::Launch { .. }) => Some(error.to_string()),
            Err(other) => panic!("{other}"),
        }
    }

    /// The body with `from` is right under every seed. With `to` in its place it is an error, with one of the words in
    /// `what`, each divided by `|`.
    #[track_caller]
    fn refuses(&self, from: &str, to: &str, what: &str) {
        assert!(self.body.contains(from), "{from:?} is not in the body");
        let wrong = Self { body: self.body.replace(from, to), ..self.clone() };
        for seed in SEEDS {
            assert_eq!(self.problem(seed), None, "seed {seed}");
            wrong.fails(seed, what);
        }
    }

    #[track_caller]
    fn fails(&self, seed: u64, what: &str) {
        let text = self.problem(seed).unwrap_or_else(|| panic!("seed {seed}: no error, expected {what}"));
        let says = what.split('|').any(|what| text.contains(what));
        assert!(says && text.contains("k.ptx:") && !text.contains('\n'), "seed {seed}: {text}");
    }
}

/// Stores the word in `register` of each thread to out, in the order of the grid's threads.
fn store(register: &str) -> String {
    format!(
        "mov.u32 %r90, %ctaid.x;\nmov.u32 %r91, %ntid.x;\nmad.lo.s32 %r92, %r90, %r91, %r0;\nmul.wide.u32 %rd30, %r92, 4;\n\
         add.s64 %rd30, %rd2, %rd30;\nst.global.u32 [%rd30], {register};\n"
    )
}

/// Thread 0 prepares barriers, each given by its register and its number of arrivals. Then the block meets.
fn prepare(barriers: &[(&str, u32)]) -> String {
    let begin = |(barrier, count): &(&str, u32)| format!("@!%p9 mbarrier.init.shared::cta.b64 [{barrier}], {count};\n");
    let begin: String = barriers.iter().map(begin).collect();
    format!("setp.ne.u32 %p9, %r0, 0;\n{begin}@!%p9 fence.mbarrier_init.release.cluster;\nbar.sync 0;\n")
}

/// Waits for the end of the phase of a parity.
fn wait(label: &str, barrier: &str, parity: u32) -> String {
    format!("$W{label}:\nmbarrier.try_wait.parity.shared::cta.b64 %p8, [{barrier}], {parity};\n@!%p8 bra $W{label};\n")
}

/// The cluster's barrier.
const MEET: &str = "barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n";

/// Thread 0 does `what`, others do not.
fn alone(what: &str) -> String {
    let guarded: String = what.lines().map(|line| format!("@!%p9 {line}\n")).collect();
    format!("setp.ne.u32 %p9, %r0, 0;\n{guarded}")
}

/// Copies `bytes` bytes from shared memory to out by the threads of one block, which is all of them.
fn dump(threads: u32, bytes: u32) -> String {
    (0..bytes / 16)
        .step_by(threads as usize)
        .map(|first| {
            format!(
                "add.s32 %r93, %r0, {first};\nsetp.lt.u32 %p7, %r93, {};\nshl.b32 %r94, %r93, 4;\nadd.s32 %r95, %r1, %r94;\n\
                 mul.wide.u32 %rd31, %r93, 16;\nadd.s64 %rd31, %rd2, %rd31;\n\
                 @%p7 ld.shared.v4.u32 {{%r80, %r81, %r82, %r83}}, [%r95];\n\
                 @%p7 st.global.v4.u32 [%rd31], {{%r80, %r81, %r82, %r83}};\n",
                bytes / 16
            )
        })
        .collect()
}

//! The PTX machine: its instructions against the PTX ISA, the faults that it must detect, and the kernels' PTX.

/// Faults in small texts of PTX.
mod faults;
/// Floats and conversions.
mod floats;
/// Barriers in shared memory, bulk copies, clusters and warpgroups.
mod hopper;
/// Integers, predicates and moves.
mod integers;
/// The kernels' own PTX.
mod kernels;
/// Faults that are planted in the sources of kernels.
mod planted;
/// Faults that are planted in the product for Hopper.
mod planted_hopper;
/// Branches, and instructions of several lanes.
mod warps;

use osp::Result;
use osp::cuda::device::{Device, Launch, PtxMachine};
use osp::cuda::params::{Address, Field, Fields};

/// The compiler that the build found.
const NVCC: Option<&str> = option_env!("OSP_BUILD_NVCC");

/// The parameters of the kernels in these tests: an input and an output.
const FIELDS: Fields = &[(Address::NAMES, "x"), (Address::NAMES, "out")];

/// A kernel `k` with a body. It has registers of each size, the address of x in %rd1 and of out in %rd2, and %tid.x in
/// %r0.
fn kernel(threads: u32, body: &str) -> String {
    format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.extern .shared .align 1024 .b8 memory[];\n\
         .visible .entry k(\n.param .align 8 .b8 k_param_0[16]\n)\n.maxntid {threads}, 1, 1\n{{\n\
         .reg .pred %p<10>;\n.reg .b16 %rs<10>;\n.reg .b32 %r<40>;\n.reg .f32 %f<20>;\n.reg .b64 %rd<30>;\n\
         ld.param.u64 %rd1, [k_param_0];\nld.param.u64 %rd2, [k_param_0+8];\nmov.u32 %r0, %tid.x;\n\
         {body}\nret;\n}}\n"
    )
}

/// A launch of `k` in `text`: its input, the words of its output, threads, blocks, and bytes of shared memory.
#[derive(Clone, Copy)]
struct Run<'a> {
    text: &'a str,
    x: &'a [u32],
    out: usize,
    threads: u32,
    blocks: u32,
    shared_bytes: u32,
    seed: u64,
}

impl Run<'_> {
    fn words(self) -> Result<Vec<u32>> {
        let machine = PtxMachine::with_texts(vec![("k.ptx".to_owned(), self.text.to_owned())], self.seed);
        let mut x = machine.alloc(4 * self.x.len())?;
        machine.write(&mut *x, 0, &self.x.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())?;
        let out = machine.alloc(4 * self.out)?;
        let params = [x.address(), out.address()].map(u64::to_le_bytes).concat();
        machine.launch(&Launch {
            kernel: "k",
            grid: [self.blocks, 1, 1],
            threads: self.threads,
            shared_bytes: self.shared_bytes,
            params: &params,
            fields: FIELDS,
            flops: 0,
            bytes: 0,
            choice: None,
        })?;
        let mut found = vec![0; 4 * self.out];
        machine.read(&*out, 0, &mut found)?;
        Ok(found.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect())
    }
}

/// Runs `body` in one lane for each case, which finds four words of input in %r1 to %r4 and leaves a result in %r5 and
/// %r6, and compares the results.
#[track_caller]
fn lanes(body: &str, cases: &[([u32; 4], [u32; 2])]) {
    assert!((1..=32).contains(&cases.len()));
    let text = kernel(
        32,
        &format!(
            "mul.wide.u32 %rd3, %r0, 16;\nadd.s64 %rd3, %rd1, %rd3;\nld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%rd3];\n\
             mov.u32 %r6, 0;\n{body}\nmul.wide.u32 %rd4, %r0, 8;\nadd.s64 %rd4, %rd2, %rd4;\n\
             st.global.v2.u32 [%rd4], {{%r5, %r6}};"
        ),
    );
    // Lanes without a case of their own repeat the last.
    let case = |lane: usize| cases[lane.min(cases.len() - 1)];
    let x: Vec<u32> = (0..32).flat_map(|lane| case(lane).0).collect();
    let run = Run { text: &text, x: &x, out: 64, threads: 32, blocks: 1, shared_bytes: 0, seed: 0 };
    let found = run.words().unwrap_or_else(|error| panic!("{body}: {error}"));
    for (lane, found) in found.chunks_exact(2).enumerate() {
        let (input, expected) = case(lane);
        assert_eq!(found, expected, "{body} of {input:x?} is {found:x?}, expected {expected:x?}");
    }
}

/// An instruction from %r1, %r2, %r3 to %r5.
#[track_caller]
fn words(instruction: &str, cases: &[([u32; 3], u32)]) {
    let cases: Vec<_> = cases.iter().map(|&([a, b, c], d)| ([a, b, c, 0], [d, 0])).collect();
    lanes(instruction, &cases);
}

/// An instruction from %rd10 and %rd11 to %rd12.
#[track_caller]
fn doubles(instruction: &str, cases: &[([u64; 2], u64)]) {
    let halves = |value: u64| [value as u32, (value >> 32) as u32];
    let case = |&([a, b], d): &([u64; 2], u64)| {
        let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
        ([a0, a1, b0, b1], halves(d))
    };
    let cases: Vec<_> = cases.iter().map(case).collect();
    let body = "mov.b64 %rd10, {%r1, %r2};\nmov.b64 %rd11, {%r3, %r4};";
    lanes(&format!("{body}\n{instruction}\nmov.b64 {{%r5, %r6}}, %rd12;"), &cases);
}

/// A comparison of %r1 and %r2 that sets %p1.
#[track_caller]
fn compares(instruction: &str, cases: &[([u32; 2], bool)]) {
    let cases: Vec<_> = cases.iter().map(|&([a, b], holds)| ([a, b, 0, 0], [u32::from(holds), 0])).collect();
    lanes(&format!("{instruction}\nselp.u32 %r5, 1, 0, %p1;"), &cases);
}

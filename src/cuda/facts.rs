//! `kernels/facts.cu`: facts about a GPU that the kernels rely on, for the self-test.

use super::params::{Address, Params, params};
use super::{Cuda, FLAT_THREADS, Half, LaunchPlan};
use crate::error::Result;

params! {
    /// See `kernels/facts.cu`.
    FactParams {
        a: Address,
        b: Address,
        c: Address,
        out: Address,
    }
}

/// One instruction, or a short sequence, on many operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// Matrix products of 16×K by K×8 and a 16×8 summand: two of the 16-bit type in each word of `a` and `b`.
    Product {
        /// K: 16 or 8.
        depth: usize,
    },
    /// Copies of 0 to 16 bytes of 16.
    ZeroFill,
    /// Barriers of half a block.
    Barriers,
}

impl Fact {
    /// Bytes of a, b, c and out for one block.
    pub fn bytes(self) -> [usize; 4] {
        let threads = FLAT_THREADS as usize;
        match self {
            Self::Product { depth } => [threads * depth, threads * depth / 2, threads * 16, threads * 16],
            Self::ZeroFill => [threads * 16, 0, 0, threads * 16],
            Self::Barriers => [0, 0, 0, threads * 4],
        }
    }

    fn kernel(self, half: Half) -> String {
        match self {
            Self::Product { depth } => format!("fact_product_k{depth}_{}", half.suffix()),
            Self::ZeroFill => "fact_zero_fill_f32".into(),
            Self::Barriers => "fact_barriers_f32".into(),
        }
    }

    fn shared_bytes(self) -> usize {
        match self {
            Self::Product { .. } => 0,
            Self::ZeroFill => 4096,
            Self::Barriers => 1024,
        }
    }
}

/// Runs a fact's kernel and returns its output. Each of `inputs` has `blocks` times the bytes of [`Fact::bytes`].
///
/// # Errors
/// As for [`Device::launch`](super::device::Device::launch).
pub(crate) fn fact(cuda: &Cuda, fact: Fact, blocks: usize, inputs: [&[u8]; 3]) -> Result<Vec<u8>> {
    let [.., out_bytes] = fact.bytes();
    let plan = LaunchPlan {
        kernel: fact.kernel(cuda.half),
        grid: [blocks, 1, 1],
        threads: FLAT_THREADS,
        shared_bytes: fact.shared_bytes(),
        flops: 0,
        bytes: (blocks * fact.bytes().iter().sum::<usize>()) as u64,
    };
    run(cuda, &plan, inputs, blocks * out_bytes, |[a, b, c], out| Ok(FactParams { a, b, c, out }))
}

/// Launches a kernel on copies of `inputs`, and returns its output of `out_bytes` bytes. `params` gets the addresses.
///
/// # Errors
/// Those of `params`, and as for [`Device::launch`](super::device::Device::launch).
pub(super) fn run<const N: usize, P: Params>(
    cuda: &Cuda,
    plan: &LaunchPlan,
    inputs: [&[u8]; N],
    out_bytes: usize,
    params: impl FnOnce([Address; N], Address) -> Result<P>,
) -> Result<Vec<u8>> {
    let device = cuda.device();
    let mut memory = Vec::new();
    for input in inputs {
        let mut buffer = device.alloc(input.len())?;
        device.write(&mut *buffer, 0, input)?;
        memory.push(buffer);
    }
    let out = device.alloc(out_bytes)?;
    let addresses = std::array::from_fn(|i| Address(memory[i].address()));
    cuda.launch(plan, &params(addresses, Address(out.address()))?)?;
    let mut found = vec![0; out_bytes];
    device.read(&*out, 0, &mut found)?;
    Ok(found)
}

//! Pseudo-random arguments.

use crate::cuda::Half;
use half::{bf16, f16};

/// Values that are drawn; a longer argument repeats them.
const DRAWN: usize = 1 << 20;

/// `len` values in [−1, 1) that follow from `seed`.
pub fn values(seed: u64, len: usize) -> Vec<f32> {
    repeated(drawn(seed, len.min(DRAWN)), len)
}

/// The values again and again, until there are `len`.
fn repeated(values: Vec<f32>, len: usize) -> Vec<f32> {
    if values.len() == len {
        return values;
    }
    let mut all = Vec::with_capacity(len);
    while all.len() < len {
        let left = len - all.len();
        all.extend_from_slice(&values[..left.min(values.len())]);
    }
    all
}

fn drawn(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..8).for_each(|_| _ = next());
    (0..len).map(|_| next()).collect()
}

/// `x` as it is after rounding to `half`.
pub fn rounded(x: &[f32], half: Half) -> Vec<f32> {
    match half {
        Half::F16 => x.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
        Half::Bf16 => x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
    }
}

/// Values in [−1, 1) that `half` holds exactly.
pub fn half_values(seed: u64, len: usize, half: Half) -> Vec<f32> {
    repeated(rounded(&drawn(seed, len.min(DRAWN)), half), len)
}

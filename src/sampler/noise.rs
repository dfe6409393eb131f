//! The noise that PyTorch draws on the CPU in f32, so that a seed gives the same video as the original.
//!
//! The Mersenne Twister MT19937 (Matsumoto and Nishimura 1998) makes words. The method of Box and Muller makes normal
//! numbers of them: r = √(−2·ln(1−u)) and θ = 2πv for uniform u, v give r·cos θ and r·sin θ. PyTorch does this in two
//! ways: fewer than 16 numbers in f64, one after the other; else in f32 in blocks of 16, the cosines of a block before
//! its sines.

use rayon::prelude::*;
use std::f64::consts::TAU;

/// Numbers of a block. The first half are the u, the second half are the v that belong to them.
const BLOCK: usize = 16;
/// Blocks that one thread computes as one piece of work.
const BLOCKS: usize = 1024;

/// PyTorch's generator of normal noise.
#[derive(Clone)]
pub struct TorchRng {
    words: MersenneTwister,
    /// The sine that belongs to the last single number, a cosine; used next.
    sine: Option<f64>,
}

impl TorchRng {
    /// The generator in the state after `torch.manual_seed(seed)`, which uses only the low 32 bits of the seed.
    pub fn new(seed: u64) -> Self {
        Self { words: MersenneTwister::new(seed as u32), sine: None }
    }

    /// The next `len` numbers, N(0, 1), as one call of `torch.randn` draws them. Two calls for 8 differ from one for
    /// 16.
    pub fn randn(&mut self, len: usize) -> Vec<f32> {
        if len < BLOCK {
            return (0..len).map(|_| self.single() as f32).collect();
        }
        let mut out: Vec<f32> = (0..len).map(|_| self.uniform()).collect();
        let whole = len / BLOCK * BLOCK;
        let blocks = |chunk: &mut [f32]| chunk.chunks_exact_mut(BLOCK).for_each(box_muller);
        out[..whole].par_chunks_mut(BLOCK * BLOCKS).for_each(blocks);
        if whole < len {
            // The last 16 numbers, which end with the incomplete block, are drawn again as one whole block.
            let last = &mut out[len - BLOCK..];
            last.fill_with(|| self.uniform());
            box_muller(last);
        }
        out
    }

    /// A number in [0, 1) of 24 bits.
    fn uniform(&mut self) -> f32 {
        (self.words.next() & 0xFF_FFFF) as f32 * 2f32.powi(-24)
    }

    /// A number in [0, 1) of 53 bits.
    fn precise(&mut self) -> f64 {
        let high = u64::from(self.words.next());
        let low = u64::from(self.words.next());
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 * 2f64.powi(-53)
    }

    /// One normal number. Numbers come in pairs: the cosine, then the sine.
    fn single(&mut self) -> f64 {
        if let Some(sine) = self.sine.take() {
            return sine;
        }
        let theta = TAU * self.precise();
        let radius = (-2.0 * (-self.precise()).ln_1p()).sqrt();
        self.sine = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

/// Turns a block of uniform numbers into normal ones.
fn box_muller(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (u, v) in first.iter_mut().zip(second) {
        let radius = (-2.0 * (1.0 - *u).ln()).sqrt();
        let (sine, cosine) = (std::f32::consts::TAU * *v).sin_cos();
        (*u, *v) = (radius * cosine, radius * sine);
    }
}

/// MT19937.
#[derive(Clone)]
struct MersenneTwister {
    state: Box<[u32; Self::N]>,
    index: usize,
}

impl MersenneTwister {
    const N: usize = 624;
    const M: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = Box::new([seed; Self::N]);
        for index in 1..Self::N {
            let last = state[index - 1];
            state[index] = (last ^ last >> 30).wrapping_mul(1_812_433_253).wrapping_add(index as u32);
        }
        Self { state, index: Self::N }
    }

    fn next(&mut self) -> u32 {
        if self.index == Self::N {
            self.twist();
        }
        let mut word = self.state[self.index];
        self.index += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9D2C_5680;
        word ^= word << 15 & 0xEFC6_0000;
        word ^ word >> 18
    }

    /// The next 624 words of state.
    fn twist(&mut self) {
        for index in 0..Self::N {
            let next = self.state[(index + 1) % Self::N];
            let mixed = self.state[index] & 0x8000_0000 | next & 0x7FFF_FFFF;
            let odd = if next & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[index] = self.state[(index + Self::M) % Self::N] ^ mixed >> 1 ^ odd;
        }
        self.index = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_equal_those_of_the_reference_implementation() {
        // The 10,000th word of the default seed, as the C++ standard states it for std::mt19937.
        let mut words = MersenneTwister::new(5489);
        assert_eq!((0..10_000).map(|_| words.next()).last(), Some(4_123_659_995));
    }
}

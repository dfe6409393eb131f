//! The choices that a seed makes for a block.

/// A sequence of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    shuffles: bool,
}

impl Random {
    /// The choices for a block. Seed 0 keeps the plain order.
    pub fn new(seed: u64, block: u64) -> Self {
        Self { state: seed ^ block << 20, shuffles: seed != 0 }
    }

    /// Whether the seed chooses at all.
    pub fn shuffles(&self) -> bool {
        self.shuffles
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

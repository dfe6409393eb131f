//! `distance`: how far two tensors lie apart.

use super::{DeviceBuffer, expect_len};
use crate::error::Result;

/// Elements of one pair of sums of the result.
pub const BLOCK: usize = 16_384;

/// Descriptor of `distance`: for each [`BLOCK`] of elements, the sums Σ|a − b| and Σ|b|.
///
/// The sums are pairs of little-endian f32; [`Self::sums`] reads them. TeaCache (Liu et al. 2024, arXiv 2411.19108)
/// compares the transformer's first modulated input of two steps by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    /// Elements of each tensor.
    pub len: usize,
}

/// Operands of [`Distance`], activations.
#[derive(Debug)]
pub struct DistanceArgs<'a, Buffer> {
    /// `[len]`
    pub a: &'a Buffer,
    /// `[len]`
    pub b: &'a Buffer,
}

impl Distance {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first operand of another size.
    pub fn validate<B: DeviceBuffer>(&self, args: &DistanceArgs<'_, B>) -> Result<()> {
        const OP: &str = "distance";
        expect_len(OP, "a", args.a.len(), self.len)?;
        expect_len(OP, "b", args.b.len(), self.len)
    }

    /// Pairs of the result.
    pub fn blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// A subtraction and two additions an element.
    pub fn flops(&self) -> u64 {
        3 * self.len as u64
    }

    /// One read of both tensors, and two f32 sums for each block.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * self.len as u64 * element + 8 * self.blocks() as u64
    }

    /// The relative distance of all elements, from the bytes of the sums.
    pub fn relative(&self, sums: &[u8]) -> f64 {
        Self::ratio(self.sums(sums))
    }

    /// Σ|a − b| and Σ|b| of all elements, from the bytes of the sums. The blocks' sums are added in order, in f64.
    pub fn sums(&self, sums: &[u8]) -> [f64; 2] {
        let (pairs, _) = sums.as_chunks::<8>();
        pairs.iter().fold([0.0; 2], |[apart, size], &[a, b, c, d, e, f, g, h]| {
            [apart + f64::from(f32::from_le_bytes([a, b, c, d])), size + f64::from(f32::from_le_bytes([e, f, g, h]))]
        })
    }

    /// The relative distance Σ|a − b| / Σ|b|.
    ///
    /// Equal tensors have the distance 0, also if both are zero. If b alone is zero, the distance is infinite. If a value
    /// of either is NaN or infinite, the distance is not finite.
    pub fn ratio([apart, size]: [f64; 2]) -> f64 {
        if apart == 0.0 { 0.0 } else { apart / size }
    }
}

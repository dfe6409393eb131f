//! `finite`: finds NaN and infinity.

use super::{DeviceBuffer, expect_at_least};
use crate::error::Result;

/// Elements of one count of the result.
pub const BLOCK: usize = 2048;

/// Descriptor of `finite`: for each [`BLOCK`] of elements, the number of elements from its first NaN or infinity to its end; 0 if
/// all are finite.
///
/// The counts are little-endian u32; [`Self::first`] reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finite {
    /// First element of `x` to check.
    pub offset: usize,
    /// Elements to check.
    pub len: usize,
}

/// Operands of [`Finite`].
#[derive(Debug)]
pub struct FiniteArgs<'a, Buffer> {
    /// At least `offset + len` elements.
    pub x: &'a Buffer,
}

impl Finite {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if `x` is shorter than that.
    pub fn validate<B: DeviceBuffer>(&self, args: &FiniteArgs<'_, B>) -> Result<()> {
        expect_at_least("finite", "x", args.x.len(), self.offset + self.len)
    }

    /// Counts of the result.
    pub fn blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// One read of elements of `element` bytes, and one count for each block.
    pub fn bytes(&self, element: u64) -> u64 {
        self.len as u64 * element + 4 * self.blocks() as u64
    }

    /// The first element that is not finite, counted from `offset`, from the bytes of the counts.
    pub fn first(&self, counts: &[u8]) -> Option<usize> {
        let counts = counts.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let (block, count) = counts.enumerate().find(|&(_, count)| count > 0)?;
        // No kernel counts beyond its block; a broken GPU may return anything.
        Some((block + 1) * BLOCK - (count as usize).min(BLOCK))
    }
}

//! `finite`: whether values are numbers.

use super::{DeviceBuffer, expect_at_least};
use crate::error::Result;

/// Elements that one count of the result is about.
pub const BLOCK: usize = 2048;

/// Descriptor of `finite`: for each [`BLOCK`] of the elements the number of those from the first NaN or infinity to the
/// block's end, 0 if there is none.
///
/// The counts are u32 in the order of their bytes on the device, which is little-endian: [`Self::first`] reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finite {
    /// First element of `x` that is looked at.
    pub offset: usize,
    /// Elements looked at.
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
    /// [`crate::Error::Shape`] if `x` ends before what is looked at.
    pub fn validate<B: DeviceBuffer>(&self, args: &FiniteArgs<'_, B>) -> Result<()> {
        expect_at_least("finite", "x", args.x.len(), self.offset + self.len)
    }

    /// Counts of the result.
    pub fn blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// One read of elements of `element` bytes, a count written for each block.
    pub fn bytes(&self, element: u64) -> u64 {
        self.len as u64 * element + 4 * self.blocks() as u64
    }

    /// The first element, counted from `offset`, that is no finite number, by the bytes of the counts.
    pub fn first(&self, counts: &[u8]) -> Option<usize> {
        let counts = counts.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let (block, count) = counts.enumerate().find(|&(_, count)| count > 0)?;
        Some((block + 1) * BLOCK - count as usize)
    }
}

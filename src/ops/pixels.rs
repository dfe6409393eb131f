//! `from_bytes`, `to_bytes`: pixels made of bytes, and bytes of pixels.

use super::{DeviceBuffer, expect_at_least, expect_len};
use crate::error::Result;

/// Descriptor of `from_bytes`: bytes to as many pixels in [−1, 1], `byte/127.5 − 1` in f32, rounded to the device's
/// precision. Bytes live on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromBytes {
    /// Elements converted.
    pub len: usize,
}

/// Operands of [`FromBytes`].
#[derive(Debug)]
pub struct FromBytesArgs<'a, Buffer> {
    /// `[len]`, on the host.
    pub bytes: &'a [u8],
    /// `[len]`
    pub out: &'a mut Buffer,
}

impl FromBytes {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<B: DeviceBuffer>(&self, args: &FromBytesArgs<'_, B>) -> Result<()> {
        expect_len("from_bytes", "bytes", args.bytes.len(), self.len)?;
        expect_len("from_bytes", "out", args.out.len(), self.len)
    }

    /// Two operations an element.
    pub fn flops(&self) -> u64 {
        2 * self.len as u64
    }

    /// A byte read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        self.len as u64 * (1 + element)
    }
}

/// Descriptor of `to_bytes`: pixels in [−1, 1] to as many bytes, `clamp(x/2 + 0.5, 0, 1)·255`, truncated. NaN becomes 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToBytes {
    /// First element of `x` that is converted.
    pub offset: usize,
    /// Elements converted.
    pub len: usize,
}

/// Operands of [`ToBytes`].
#[derive(Debug)]
pub struct ToBytesArgs<'a, Buffer> {
    /// At least `offset + len` elements.
    pub x: &'a Buffer,
}

impl ToBytes {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if `x` ends before what is converted.
    pub fn validate<B: DeviceBuffer>(&self, args: &ToBytesArgs<'_, B>) -> Result<()> {
        expect_at_least("to_bytes", "x", args.x.len(), self.offset + self.len)
    }

    /// One read, a byte written.
    pub fn bytes(&self, element: u64) -> u64 {
        self.len as u64 * (element + 1)
    }
}

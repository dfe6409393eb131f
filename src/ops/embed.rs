//! `embedding`, `add_rows`: looks up tokens, and adds tables (positions, modulations) to many rows.

use super::{DeviceBuffer, DeviceWeight, expect_len, expect_shape, expect_that};
use crate::error::Result;

/// Rows of `table [vocabulary, channels]` by id: `ids [tokens] → out [tokens, channels]`. Ids live on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// Ids.
    pub tokens: usize,
    /// Rows of the table.
    pub vocabulary: usize,
    /// Channels of a row.
    pub channels: usize,
}

/// Operands of [`Embedding`].
#[derive(Debug)]
pub struct EmbeddingArgs<'a, Buffer, Weight> {
    /// `[tokens]`, on the host.
    pub ids: &'a [u32],
    /// `[vocabulary, channels]`
    pub table: &'a Weight,
    /// `[tokens, channels]`
    pub out: &'a mut Buffer,
}

impl Embedding {
    /// Checks element counts and that every id is a row.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. Every id must be a row of the table.
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(&self, args: &EmbeddingArgs<'_, B, W>) -> Result<()> {
        const OP: &str = "embedding";
        let ids = args.ids;
        expect_len(OP, "ids", ids.len(), self.tokens)?;
        expect_shape(OP, "table", args.table.shape(), &[self.vocabulary, self.channels])?;
        let worst = ids.iter().copied().max().unwrap_or(0) as usize;
        expect_that(OP, "ids", worst < self.vocabulary || ids.is_empty(), "ids below the vocabulary's size", worst)?;
        expect_len(OP, "out", args.out.len(), self.tokens * self.channels)
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * (self.tokens * self.channels) as u64 * element
    }
}

/// Adds a table in place: `x[o, r, i, c] += table[r, c]` for `x [outer, rows, inner, channels]`, `table [rows, channels]`.
///
/// Spatial positions have inner = 1 and rows = positions of a frame; temporal positions have rows = frames and inner =
/// positions; a modulation has outer = samples, rows = inner = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddRows {
    /// Repetitions of the whole table.
    pub outer: usize,
    /// Rows of the table.
    pub rows: usize,
    /// Consecutive rows of `x` that share a row of the table.
    pub inner: usize,
    /// Channels.
    pub channels: usize,
}

/// Operands of [`AddRows`].
#[derive(Debug)]
pub struct AddRowsArgs<'a, Buffer> {
    /// `[rows, channels]`
    pub table: &'a Buffer,
    /// `[outer, rows, inner, channels]`; changes in place.
    pub x: &'a mut Buffer,
}

impl AddRows {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<B: DeviceBuffer>(&self, args: &AddRowsArgs<'_, B>) -> Result<()> {
        const OP: &str = "add_rows";
        expect_len(OP, "x", args.x.len(), self.outer * self.rows * self.inner * self.channels)?;
        expect_len(OP, "table", args.table.len(), self.rows * self.channels)
    }

    /// One addition an element.
    pub fn flops(&self) -> u64 {
        (self.outer * self.rows * self.inner * self.channels) as u64
    }

    /// One read, one write, and the table.
    pub fn bytes(&self, element: u64) -> u64 {
        (2 * self.flops() + (self.rows * self.channels) as u64) * element
    }
}

//! `row_moments`, `row_statistics`, `fold_norm`: a LayerNorm with scale and shift, folded into the linear layer behind it.
//!
//! With the mean µ and the inverse deviation r = 1/√(variance + eps) of a row h, a layer W·x + b behind the norm is
//!
//! ```text
//! W·((h − µ)·r·(1 + scale) + shift) + b = r·(W′·h − µ·sums) + offsets
//! W′ = W·(1 + scale) by columns,  sums = the sums of the rows of W′,  offsets = W·shift + b
//! ```
//!
//! So the layer multiplies h itself (see [`crate::ops::gemm::LinearArgs::norm`]), and no pass over h writes normed values.
//! It needs one scale and one shift for all rows.

use super::{DeviceBuffer, DeviceWeight, expect_at_least, expect_len, expect_shape, expect_that};
use crate::error::Result;

/// Descriptor of `row_moments`: mean and M2 (the sum of squared deviations from it) of every [`RowMoments::COLUMNS`]
/// neighbouring columns of every row, `x [rows, channels] → moments [rows, groups, 2]`, f32. A linear layer can leave the
/// moments of its output (see [`crate::ops::gemm::LinearArgs::moments`]), with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMoments {
    /// Tokens.
    pub rows: usize,
    /// Channels of a token, a multiple of 8.
    pub channels: usize,
}

/// Operands of [`RowMoments`].
#[derive(Debug)]
pub struct RowMomentsArgs<'a, Buffer> {
    /// `[rows, channels]`
    pub x: &'a Buffer,
    /// `[rows, groups, 2]`, f32
    pub moments: &'a mut Buffer,
}

impl RowMoments {
    /// Columns of a group; a row's last may have fewer.
    pub const COLUMNS: usize = 32;

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.channels.div_ceil(Self::COLUMNS)
    }

    /// Means and M2s of all rows.
    pub fn elements(&self) -> usize {
        2 * self.rows * self.groups()
    }

    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<B: DeviceBuffer>(&self, args: &RowMomentsArgs<'_, B>) -> Result<()> {
        const OP: &str = "row_moments";
        expect_eights(OP, "channels", self.channels)?;
        expect_len(OP, "x", args.x.len(), self.rows * self.channels)?;
        expect_len(OP, "moments", args.moments.len(), self.elements())
    }

    /// Five operations an element.
    pub fn flops(&self) -> u64 {
        5 * (self.rows * self.channels) as u64
    }

    /// One read, and one write of the moments.
    pub fn bytes(&self, element: u64) -> u64 {
        (self.rows * self.channels) as u64 * element + 4 * self.elements() as u64
    }
}

/// Descriptor of `row_statistics`: combines the moments of every row to its mean and inverse deviation,
/// `moments [rows, groups, 2] → statistics [rows, 2]`, f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStatistics {
    /// Tokens.
    pub rows: usize,
    /// Channels of a token, a multiple of 8.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// Operands of [`RowStatistics`].
#[derive(Debug)]
pub struct RowStatisticsArgs<'a, Buffer> {
    /// As [`RowMoments`] makes them.
    pub moments: &'a Buffer,
    /// `[rows, 2]`, f32
    pub statistics: &'a mut Buffer,
}

impl RowStatistics {
    /// The moments that it combines.
    pub fn moments(&self) -> RowMoments {
        RowMoments { rows: self.rows, channels: self.channels }
    }

    /// Checks element counts.
    ///
    /// # Errors
    /// As for [`RowMoments::validate`].
    pub fn validate<B: DeviceBuffer>(&self, args: &RowStatisticsArgs<'_, B>) -> Result<()> {
        const OP: &str = "row_statistics";
        expect_eights(OP, "channels", self.channels)?;
        expect_len(OP, "moments", args.moments.len(), self.moments().elements())?;
        expect_len(OP, "statistics", args.statistics.len(), 2 * self.rows)
    }

    /// Seven operations for each group.
    pub fn flops(&self) -> u64 {
        7 * self.moments().elements() as u64 / 2
    }

    /// The moments once, the statistics once.
    pub fn bytes(&self) -> u64 {
        4 * (self.moments().elements() + 2 * self.rows) as u64
    }
}

/// Descriptor of `fold_norm`: the weight W′, the sums and the offsets of a layer `weight [out_features, in_features]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldNorm {
    /// Columns of the weight, a multiple of 8.
    pub in_features: usize,
    /// Rows of the weight.
    pub out_features: usize,
    /// Offset of the shift in the modulation, a multiple of 8.
    pub shift: usize,
    /// Offset of the scale, a multiple of 8.
    pub scale: usize,
}

/// Operands of [`FoldNorm`].
#[derive(Debug)]
pub struct FoldNormArgs<'a, Buffer, Weight> {
    /// `[out_features, in_features]`
    pub weight: &'a Weight,
    /// `[out_features]`
    pub bias: Option<&'a Weight>,
    /// Scale and shift of `in_features` elements, at the places of the descriptor.
    pub modulation: &'a Buffer,
    /// W′, from [`crate::backend::Backend::alloc_weight`]. The sums are those of its values as they are stored, so that
    /// a row's mean cancels.
    pub folded: &'a mut Weight,
    /// `[out_features, 2]`: sum and offset of each row, f32.
    pub columns: &'a mut Buffer,
}

impl FoldNorm {
    /// Checks element counts and the weights' shapes.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(&self, args: &FoldNormArgs<'_, B, W>) -> Result<()> {
        const OP: &str = "fold_norm";
        let shape = [self.out_features, self.in_features];
        expect_eights(OP, "in_features", self.in_features)?;
        expect_that(OP, "shift", self.shift.is_multiple_of(8), "a multiple of 8", self.shift)?;
        expect_that(OP, "scale", self.scale.is_multiple_of(8), "a multiple of 8", self.scale)?;
        expect_shape(OP, "weight", args.weight.shape(), &shape)?;
        if let Some(bias) = args.bias {
            expect_len(OP, "bias", bias.len(), self.out_features)?;
        }
        expect_at_least(OP, "modulation", args.modulation.len(), self.shift.max(self.scale) + self.in_features)?;
        expect_shape(OP, "folded", args.folded.shape(), &shape)?;
        expect_len(OP, "columns", args.columns.len(), 2 * self.out_features)
    }

    /// Five operations an element: two for W′, one for its sum, two for the offset.
    pub fn flops(&self) -> u64 {
        5 * (self.out_features * self.in_features) as u64
    }

    /// The weight once, W′ once, scale and shift, the columns.
    pub fn bytes(&self, element: u64) -> u64 {
        let elements = 2 * self.out_features * self.in_features + 2 * self.in_features;
        elements as u64 * element + 8 * self.out_features as u64
    }
}

/// What a linear layer needs to apply a norm that is folded into its weight.
#[derive(Debug)]
pub struct FoldedNorm<'a, Buffer> {
    /// `[rows of x, 2]`: mean and inverse deviation of each row, as [`RowStatistics`] makes them.
    pub statistics: &'a Buffer,
    /// `[rows of the weight, 2]`: as [`FoldNorm`] makes them.
    pub columns: &'a Buffer,
}

impl<Buffer> Clone for FoldedNorm<'_, Buffer> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Buffer> Copy for FoldedNorm<'_, Buffer> {}

fn expect_eights(op: &'static str, argument: &'static str, size: usize) -> Result<()> {
    expect_that(op, argument, size > 0 && size.is_multiple_of(8), "a multiple of 8, at least 8", size)
}

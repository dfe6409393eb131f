//! `fold_enlargement`: a nearest 2× enlargement, folded into the weight of the 3×3 convolution behind it.
//!
//! Rows 2·y and 2·y + 1 of an enlarged frame are row y of the frame. So row 2·y + q of the convolution, q = 0 or 1, reads only
//! rows y + q − 1 and y + q of the frame, and kernel rows that read the same one are added before the product. It is the same for
//! columns. The output has four phases, one for each half of rows and of columns, and each phase is a convolution of 2×2:
//! four products instead of nine.

use super::{DeviceWeight, expect_shape};
use crate::error::Result;
use std::ops::Range;

/// Phases of the output: phase 2·q + r makes rows 2·y + q and columns 2·x + r.
pub const PHASES: usize = 4;

/// Descriptor of `fold_enlargement`: sums of taps, `weight [cout, kt, 3, 3, cin] → folded [4·cout, kt, 2, 2, cin]`, where row
/// `phase·cout + n` of `folded` makes channel n. [`Conv3d`](super::conv3d::Conv3d) with `upsample` multiplies by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldEnlargement {
    /// Output channels.
    pub cout: usize,
    /// Taps in time.
    pub kt: usize,
    /// Input channels.
    pub cin: usize,
}

/// Operands of [`FoldEnlargement`].
#[derive(Debug)]
pub struct FoldEnlargementArgs<'a, Weight> {
    /// `[cout, kt, 3, 3, cin]`
    pub weight: &'a Weight,
    /// `[4·cout, kt, 2, 2, cin]`, from [`crate::backend::Backend::alloc_weight`]. The sums are those of f32, rounded once.
    pub folded: &'a mut Weight,
}

impl FoldEnlargement {
    /// The shape of the folded weight.
    pub fn folded_shape(&self) -> [usize; 5] {
        [PHASES * self.cout, self.kt, 2, 2, self.cin]
    }

    /// The rows (columns) of the kernel that become row (column) `tap` in half `half` of the output's rows (columns).
    pub(crate) fn summed(half: usize, tap: usize) -> Range<usize> {
        if tap == 0 { 0..1 + half } else { 1 + half..3 }
    }

    /// Checks the weights' shapes.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<W: DeviceWeight>(&self, args: &FoldEnlargementArgs<'_, W>) -> Result<()> {
        const OP: &str = "fold_enlargement";
        expect_shape(OP, "weight", args.weight.shape(), &[self.cout, self.kt, 3, 3, self.cin])?;
        expect_shape(OP, "folded", args.folded.shape(), &self.folded_shape())
    }

    /// The nine taps become 16 sums of 36 terms, so there are 20 additions.
    pub fn flops(&self) -> u64 {
        20 * (self.cout * self.kt * self.cin) as u64
    }

    /// The weight once, the folded weight once.
    pub fn bytes(&self, element: u64) -> u64 {
        (9 + 16) * (self.cout * self.kt * self.cin) as u64 * element
    }
}

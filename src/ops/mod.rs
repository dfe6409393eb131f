//! The operations: each has a descriptor with the sizes, operands (`…Args`), a check of both, and a cost.
//!
//! A descriptor holds only sizes. `validate` checks the element counts of buffers and the shapes of parameters. Only
//! [`crate::backend::Backend`] calls it, before any backend accesses memory. `flops` counts a multiply-add as two. `bytes` counts
//! every input once and every output once, at `element` bytes an activation. Each descriptor's stem names its body in
//! `cpu/`, its kernel in `kernels/`, its test and its bench.

pub mod attention;
pub mod conv3d;
pub mod distance;
pub mod embed;
pub mod enlarge;
pub mod finite;
pub mod folded;
pub mod gemm;
pub mod groupnorm;
pub mod norm;
mod operands;
pub mod patch;
pub mod pixels;
pub mod resample;
pub mod sampler;
pub mod tile;

pub use operands::{DeviceBuffer, DeviceWeight};

/// Every descriptor with its operands, for [`crate::backend::Backend`] and all that implement it.
pub mod prelude {
    pub use super::attention::{Attention, AttentionArgs};
    pub use super::conv3d::{Conv3d, ConvArgs, DepthwiseConv, DepthwiseConvArgs};
    pub use super::distance::{Distance, DistanceArgs};
    pub use super::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};
    pub use super::enlarge::{FoldEnlargement, FoldEnlargementArgs};
    pub use super::finite::{Finite, FiniteArgs};
    pub use super::folded::{FoldNorm, FoldNormArgs, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs};
    pub use super::gemm::{Linear, LinearArgs};
    pub use super::groupnorm::{GroupNorm, GroupNormArgs, Moments, MomentsArgs, Statistics, StatisticsArgs};
    pub use super::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};
    pub use super::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
    pub use super::pixels::{FromBytes, FromBytesArgs, ToBytes, ToBytesArgs};
    pub use super::resample::{
        RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs,
    };
    pub use super::sampler::{Combine, CombineArgs, Hold, HoldArgs};
    pub use super::tile::{BlendBox, BlendBoxArgs, CopyBox, CopyBoxArgs};
}

use crate::error::{Error, Result};

/// An argument check: `found` elements must be `expected`.
pub(crate) fn expect_len(op: &'static str, argument: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape { op, argument, expected: format!("{expected} elements"), found: format!("{found} elements") })
}

/// An argument check: a buffer of `found` elements must reach `needed`.
pub(crate) fn expect_at_least(op: &'static str, argument: &'static str, found: usize, needed: usize) -> Result<()> {
    if found >= needed {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        argument,
        expected: format!("at least {needed} elements"),
        found: format!("{found} elements"),
    })
}

/// An argument check: a parameter's shape must be `expected`.
pub(crate) fn expect_shape(
    op: &'static str,
    argument: &'static str,
    found: &[usize],
    expected: &[usize],
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape { op, argument, expected: format!("shape {expected:?}"), found: format!("shape {found:?}") })
}

/// An argument check: a size must not be zero, and other conditions on the descriptor itself.
pub(crate) fn expect_that(
    op: &'static str,
    argument: &'static str,
    holds: bool,
    expected: &str,
    found: impl std::fmt::Debug,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Shape { op, argument, expected: expected.to_owned(), found: format!("{found:?}") })
}

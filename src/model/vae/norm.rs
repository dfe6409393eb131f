//! GroupNorm.

use super::features::Features;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::groupnorm::{GroupNorm, GroupNormArgs, MomentsArgs, Statistics, StatisticsArgs};
use crate::weights::Scope;
use std::ops::Range;

/// Groups of every GroupNorm of the model.
pub(super) const GROUPS: usize = 32;
/// Epsilon of every GroupNorm of the model.
const EPS: f32 = 1e-6;

/// GroupNorm with weight and bias.
#[derive(Debug)]
pub(super) struct Norm<W> {
    weight: W,
    bias: W,
    per_frame: bool,
}

impl<W> Norm<W> {
    /// The norm `scope`; `per_frame` for the statistics of the 2-D blocks.
    pub fn build(mut scope: Scope<'_, W>, channels: usize, per_frame: bool) -> Result<Self> {
        Ok(Self { weight: scope.plain("weight", &[channels])?, bias: scope.plain("bias", &[channels])?, per_frame })
    }

    /// Whether each frame has its own statistics.
    pub fn is_per_frame(&self) -> bool {
        self.per_frame
    }

    /// The statistics of `x`; its moments are freed.
    pub fn statistics<B: Backend<Weight = W>>(&self, backend: &B, x: &mut Features<B>) -> Result<B::Buffer> {
        let [frames, height, width, channels] = x.shape();
        let per_frame = self.per_frame;
        let op = Statistics { frames, positions: height * width, channels, groups: GROUPS, eps: EPS, per_frame };
        for piece in x.pieces_mut().filter(|piece| piece.moments.is_empty()) {
            let mut moments = backend.alloc_moments(&op.moments(piece.frames))?;
            backend.group_moments(&op.moments(piece.frames), MomentsArgs { x: &piece.data, moments: &mut moments })?;
            piece.moments.push((moments, piece.frames));
        }
        let mut statistics = backend.alloc_statistics(&op)?;
        let moments = x.pieces().flat_map(|piece| &piece.moments).map(|(moments, frames)| (moments, *frames));
        let stretches: Vec<_> = moments.collect();
        backend.group_statistics(&op, StatisticsArgs { stretches: &stretches, statistics: &mut statistics })?;
        x.pieces_mut().for_each(|piece| piece.moments.clear());
        Ok(statistics)
    }

    /// Normalises a video in one piece.
    pub fn whole<B: Backend<Weight = W>>(&self, backend: &B, x: &mut Features<B>) -> Result<Features<B>> {
        let statistics = self.statistics(backend, x)?;
        let mut out = Features::alloc(backend, x.shape())?;
        self.norm(backend, x, &(0..x.frames), &statistics, false, (out.data_mut(), 0))?;
        Ok(out)
    }

    /// Normalises a stretch of `x` into `out`, from frame `out_frame` on.
    pub fn norm<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        x: &Features<B>,
        stretch: &Range<usize>,
        statistics: &B::Buffer,
        silu: bool,
        (out, out_frame): (&mut B::Buffer, usize),
    ) -> Result<()> {
        let (data, x_frame) = x.part(stretch);
        let op = GroupNorm {
            frames: stretch.len(),
            positions: x.positions(),
            channels: x.channels,
            groups: GROUPS,
            silu,
            x_frame,
            out_frame,
            video_frame: stretch.start,
        };
        backend.group_norm(&op, GroupNormArgs { x: data, statistics, weight: &self.weight, bias: &self.bias, out })
    }
}

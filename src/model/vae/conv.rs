//! Convolutions with bias.

use super::config::ConvClass;
use super::features::{Features, Piece, stretches};
use super::norm::GROUPS;
use super::run::CoderRun;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::conv3d::{Conv3d, ConvArgs, SpacePadding};
use crate::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};
use crate::weights::{Role, Scope};

/// A convolution with bias.
#[derive(Debug)]
pub(super) struct Conv<W> {
    weight: W,
    bias: W,
    cin: usize,
    pub cout: usize,
    kernel: [usize; 3],
}

impl<W> Conv<W> {
    /// The convolution `scope` of class `class` with a kernel of `size` (in time too, if causal).
    pub fn build(mut scope: Scope<'_, W>, class: ConvClass, cin: usize, cout: usize, size: usize) -> Result<Self> {
        match class {
            ConvClass::CausalConv3d => Self::build_3d(scope.at("conv"), cin, cout, [size; 3]),
            ConvClass::Conv2d => {
                let weight = scope.get("weight", &[cout, cin, size, size], Role::Convolution)?;
                Ok(Self { weight, bias: scope.plain("bias", &[cout])?, cin, cout, kernel: [1, size, size] })
            }
        }
    }

    /// A convolution stored with five axes directly under `scope`.
    pub fn build_3d(mut scope: Scope<'_, W>, cin: usize, cout: usize, kernel: [usize; 3]) -> Result<Self> {
        let [kt, kh, kw] = kernel;
        let weight = scope.get("weight", &[cout, cin, kt, kh, kw], Role::Convolution)?;
        Ok(Self { weight, bias: scope.plain("bias", &[cout])?, cin, cout, kernel })
    }

    /// The descriptor for a video of this size, stride 1, "same" padding.
    pub fn op(&self, frames: usize, height: usize, width: usize) -> Conv3d {
        Conv3d::new(frames, height, width, self.cin, self.cout, self.kernel)
    }

    /// Number of earlier frames that an output frame depends on.
    pub fn history(&self) -> usize {
        self.kernel[0] - 1
    }

    /// Stride 1, "same" padding.
    pub fn run<B: Backend<Weight = W>>(&self, run: &CoderRun<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let op = self.op(x.frames, x.height, x.width);
        self.run_through(run, op, x, &self.weight)
    }

    /// Half the height and width.
    pub fn downsample<B: Backend<Weight = W>>(&self, run: &CoderRun<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let op = self.op(x.frames, x.height, x.width);
        let op = Conv3d { stride: [1, 2], padding: SpacePadding::RightBottom, ..op };
        self.run_through(run, op, x, &self.weight)
    }

    /// Stride 1 on the input, enlarged 2× in height and width. The folded weight lives as long as this call, because it is
    /// almost twice as large as the stored one, and soon made: for a window of 65×256×256 pixels, the three layers of v1.1.0
    /// move 30 MB for it beside 3.5 GB.
    pub fn upsample<B: Backend<Weight = W>>(&self, run: &CoderRun<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let fold = FoldEnlargement { cout: self.cout, kt: self.kernel[0], cin: self.cin };
        let mut folded = run.backend.alloc_weight(&fold.folded_shape())?;
        run.backend.fold_enlargement(&fold, FoldEnlargementArgs { weight: &self.weight, folded: &mut folded })?;
        let op = Conv3d { upsample: true, ..self.op(x.frames, x.height, x.width) };
        self.run_through(run, op, x, &folded)
    }

    /// Stride 1 on each frame, for a kernel of one frame: each piece of `x` is freed after its use.
    fn run_through<B: Backend<Weight = W>>(
        &self,
        run: &CoderRun<'_, B>,
        op: Conv3d,
        x: Features<B>,
        weight: &W,
    ) -> Result<Features<B>> {
        if self.history() > 0 {
            return self.run_with(run, op, &x.whole(run.backend)?, weight, None);
        }
        let [_, height, width, _] = op.out_shape();
        let mut out = Features::empty(op.out_shape());
        let mut x = x;
        while let Some(piece) = x.take_before(x.frames) {
            let op = Conv3d { frames: piece.frames, ..op };
            for stretch in stretches(piece.frames, run.frames(height, width)) {
                let op = Conv3d { only: Some([stretch.start, stretch.end]), out_frame: Some(0), ..op };
                out.push(self.piece_with(run.backend, op, &piece.data, weight, None)?);
            }
        }
        Ok(out)
    }

    /// With the descriptor `op` and an optional addend, for a video in one piece.
    pub fn run_as<B: Backend<Weight = W>>(
        &self,
        run: &CoderRun<'_, B>,
        op: Conv3d,
        x: &Features<B>,
        other: Option<&Features<B>>,
    ) -> Result<Features<B>> {
        self.run_with(run, op, x, &self.weight, other)
    }

    fn run_with<B: Backend<Weight = W>>(
        &self,
        run: &CoderRun<'_, B>,
        op: Conv3d,
        x: &Features<B>,
        weight: &W,
        other: Option<&Features<B>>,
    ) -> Result<Features<B>> {
        let [frames, height, width, _] = op.out_shape();
        let mut out = Features::empty(op.out_shape());
        for stretch in stretches(frames, run.frames(height, width)) {
            let (other, other_frame) = other.map(|other| other.part(&stretch)).unzip();
            let op = Conv3d { only: Some([stretch.start, stretch.end]), out_frame: Some(0), other_frame, ..op };
            out.push(self.piece_with(run.backend, op, x.data(), weight, other)?);
        }
        Ok(out)
    }

    /// The computed frames of `op`, and their moments, because a norm nearly always follows.
    pub fn piece<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        op: Conv3d,
        x: &B::Buffer,
        other: Option<&B::Buffer>,
    ) -> Result<Piece<B>> {
        self.piece_with(backend, op, x, &self.weight, other)
    }

    fn piece_with<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        op: Conv3d,
        x: &B::Buffer,
        weight: &W,
        other: Option<&B::Buffer>,
    ) -> Result<Piece<B>> {
        let makes_moments = self.cout.is_multiple_of(GROUPS) && op.can_make_moments();
        let op = Conv3d { moment_groups: if makes_moments { GROUPS } else { 0 }, ..op };
        let frames = op.computed().len();
        let mut data = backend.alloc(frames * op.out_shape()[1..].iter().product::<usize>())?;
        let mut moments = match op.moment_groups {
            0 => None,
            _ => Some(backend.alloc_moments(&op.moments(frames))?),
        };
        let bias = Some(&self.bias);
        backend.conv3d(&op, ConvArgs { x, weight, bias, other, moments: moments.as_mut(), out: &mut data })?;
        Ok(Piece { data, frames, moments: moments.map(|moments| (moments, frames)).into_iter().collect() })
    }
}

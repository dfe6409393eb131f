//! The blocks that both coders are made of: convolutions, norms, residual blocks.

use super::config::{ConvClass, ResnetClass};
use super::features::{Features, Piece, stretches};
use super::normed::{GROUPS, Norm, Normed};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::conv3d::{Conv3d, ConvExtras, SpacePadding};
use crate::ops::gemm::{Linear, Store};
use crate::weights::{Role, Scope};

/// Sees the output of every named block; for checking against another implementation.
pub type Probe<'a, Buffer> = &'a mut dyn FnMut(&str, &Buffer, [usize; 4]);

/// What a run of a coder carries along.
pub(super) struct Run<'a, B: Backend> {
    pub backend: &'a B,
    pub probe: Option<Probe<'a, B::Buffer>>,
    /// Positions of all frames that a layer takes at a time; `None` for all there are.
    pub positions: Option<usize>,
}

/// The fewest frames that a layer takes at a time: those that the next ones see of them through a kernel of three.
const FEWEST_FRAMES: usize = 2;

impl<B: Backend> Run<'_, B> {
    /// Frames of this size that a layer takes at a time.
    pub fn frames(&self, height: usize, width: usize) -> usize {
        self.positions.map_or(usize::MAX, |positions| (positions / (height * width)).max(FEWEST_FRAMES))
    }

    /// Shows `x` to the probe under the module's name in the checkpoint.
    pub fn show(&mut self, name: impl FnOnce() -> String, x: &Features<B>) -> Result<()> {
        match &mut self.probe {
            None => {}
            Some(probe) if x.is_whole() => probe(&name(), x.data(), x.shape()),
            Some(probe) => probe(&name(), &x.copied(self.backend)?, x.shape()),
        }
        Ok(())
    }
}

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

    /// Frames before one that its result depends on.
    pub fn history(&self) -> usize {
        self.kernel[0] - 1
    }

    /// Stride 1, "same" padding.
    pub fn run<B: Backend<Weight = W>>(&self, run: &Run<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let op = self.op(x.frames, x.height, x.width);
        self.run_through(run, op, x)
    }

    /// Half the height and width.
    pub fn downsample<B: Backend<Weight = W>>(&self, run: &Run<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let op = self.op(x.frames, x.height, x.width);
        self.run_through(run, Conv3d { stride: [1, 2], padding: SpacePadding::RightBottom, ..op }, x)
    }

    /// Of the input enlarged twice in height and width.
    pub fn upsample<B: Backend<Weight = W>>(&self, run: &Run<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let op = self.op(x.frames, x.height, x.width);
        self.run_through(run, Conv3d { upsample: true, ..op }, x)
    }

    /// Frame by frame, where the kernel sees one at a time: then pieces of `x` leave as they are used up.
    fn run_through<B: Backend<Weight = W>>(&self, run: &Run<'_, B>, op: Conv3d, x: Features<B>) -> Result<Features<B>> {
        if self.history() > 0 {
            return self.run_as(run, op, &x.whole(run.backend)?, None);
        }
        let [_, height, width, _] = op.out_shape();
        let mut out = Features::empty(op.out_shape());
        let mut x = x;
        while let Some(piece) = x.take_before(x.frames) {
            let op = Conv3d { frames: piece.frames, ..op };
            for stretch in stretches(piece.frames, run.frames(height, width)) {
                let op = Conv3d { only: Some([stretch.start, stretch.end]), out_at: Some(0), ..op };
                out.push(self.piece(run.backend, op, &piece.data, None)?);
            }
        }
        Ok(out)
    }

    /// With another descriptor than [`Self::op`], of a video in one piece, and what its epilogue adds.
    pub fn run_as<B: Backend<Weight = W>>(
        &self,
        run: &Run<'_, B>,
        op: Conv3d,
        x: &Features<B>,
        other: Option<&Features<B>>,
    ) -> Result<Features<B>> {
        let [frames, height, width, _] = op.out_shape();
        let mut out = Features::empty(op.out_shape());
        for stretch in stretches(frames, run.frames(height, width)) {
            let (other, other_at) = other.map(|other| other.part(&stretch)).unzip();
            let op = Conv3d { only: Some([stretch.start, stretch.end]), out_at: Some(0), other_at, ..op };
            out.push(self.piece(run.backend, op, x.data(), other)?);
        }
        Ok(out)
    }

    /// The computed frames of `op`. Leaves the moments for a norm to follow, which nearly always does.
    pub fn piece<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        op: Conv3d,
        x: &B::Buffer,
        other: Option<&B::Buffer>,
    ) -> Result<Piece<B>> {
        let op = Conv3d { moment_groups: if self.cout.is_multiple_of(GROUPS) { GROUPS } else { 0 }, ..op };
        let frames = op.computed().len();
        let mut data = backend.alloc(frames * op.out_shape()[1..].iter().product::<usize>())?;
        let mut moments = match op.moment_groups {
            0 => None,
            _ => Some(backend.alloc_moments(&op.moments(frames))?),
        };
        let extras = ConvExtras { bias: Some(&self.bias), other, moments: moments.as_mut() };
        backend.conv3d(&op, x, &self.weight, extras, &mut data)?;
        Ok(Piece { data, frames, moments: moments.map(|moments| (moments, frames)).into_iter().collect() })
    }
}

/// A 1×1(×1) convolution with bias, run as a linear layer on every position.
#[derive(Debug)]
pub(super) struct Pointwise<W> {
    weight: W,
    bias: W,
    cin: usize,
    cout: usize,
}

impl<W> Pointwise<W> {
    /// The convolution `scope`, stored with `axes` axes.
    pub fn build(mut scope: Scope<'_, W>, cin: usize, cout: usize, axes: usize) -> Result<Self> {
        let mut shape = vec![1; axes];
        shape[..2].copy_from_slice(&[cout, cin]);
        let weight = scope.get("weight", &shape, Role::Pointwise)?;
        Ok(Self { weight, bias: scope.plain("bias", &[cout])?, cin, cout })
    }

    /// A piece of `cout` channels; `positions` are those of a frame.
    pub fn run<B: Backend<Weight = W>>(&self, backend: &B, x: &Piece<B>, positions: usize) -> Result<Piece<B>> {
        let rows = x.frames * positions;
        let mut data = backend.alloc(rows * self.cout)?;
        let op = Linear::new(rows, self.cin, self.cout);
        backend.linear(&op, &x.data, &self.weight, Some(&self.bias), None, &mut data)?;
        Ok(Piece { data, frames: x.frames, moments: Vec::new() })
    }

    /// A video of `cout` channels from one in one piece.
    pub fn whole<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>) -> Result<B::Buffer> {
        let rows = x.frames * x.positions();
        let mut out = backend.alloc(rows * self.cout)?;
        let op = Linear::new(rows, self.cin, self.cout);
        backend.linear(&op, x.data(), &self.weight, Some(&self.bias), None, &mut out)?;
        Ok(out)
    }

    /// `out += x·Wᵀ + b`, both in one piece.
    pub fn add<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>, out: &mut Features<B>) -> Result<()> {
        let op = Linear::new(x.frames * x.positions(), self.cin, self.cout).store(Store::Add);
        backend.linear(&op, x.data(), &self.weight, Some(&self.bias), None, out.data_mut())
    }
}

/// GroupNorm–SiLU–convolution twice, plus the input.
#[derive(Debug)]
pub(super) struct Resnet<W> {
    norm1: Norm<W>,
    conv1: Conv<W>,
    norm2: Norm<W>,
    conv2: Conv<W>,
    /// Where the channels change.
    nin_shortcut: Option<Pointwise<W>>,
}

impl<W> Resnet<W> {
    /// The block `scope`.
    pub fn build(mut scope: Scope<'_, W>, class: ResnetClass, cin: usize, cout: usize) -> Result<Self> {
        let (per_frame, conv) = match class {
            ResnetClass::ResnetBlock3D => (false, ConvClass::CausalConv3d),
            ResnetClass::ResnetBlock2D => (true, ConvClass::Conv2d),
        };
        let nin_shortcut = match (cin == cout, conv) {
            (true, _) => None,
            (false, ConvClass::CausalConv3d) => Some(Pointwise::build(scope.at("nin_shortcut.conv"), cin, cout, 5)?),
            (false, ConvClass::Conv2d) => Some(Pointwise::build(scope.at("nin_shortcut"), cin, cout, 4)?),
        };
        Ok(Self {
            norm1: Norm::build(scope.at("norm1"), cin, per_frame)?,
            conv1: Conv::build(scope.at("conv1"), conv, cin, cout, 3)?,
            norm2: Norm::build(scope.at("norm2"), cout, per_frame)?,
            conv2: Conv::build(scope.at("conv2"), conv, cout, cout, 3)?,
            nin_shortcut,
        })
    }

    /// Consumes the input, whose memory is free as soon as it is no longer needed.
    pub fn run<B: Backend<Weight = W>>(&self, run: &Run<'_, B>, mut x: Features<B>) -> Result<Features<B>> {
        // Frames that see no others go all the way one piece after the other.
        if !self.norm1.is_per_frame() || x.is_whole() {
            return self.run_together(run, x);
        }
        let [frames, height, width, _] = x.shape();
        let mut out = Features::empty([frames, height, width, self.conv2.cout]);
        while let Some(piece) = x.take_before(frames) {
            let shape = [piece.frames, height, width, x.channels];
            let mut made = self.run_together(run, Features::of(piece, shape))?;
            while let Some(piece) = made.take_before(made.frames) {
                out.push(piece);
            }
        }
        Ok(out)
    }

    fn run_together<B: Backend<Weight = W>>(&self, run: &Run<'_, B>, mut x: Features<B>) -> Result<Features<B>> {
        let (positions, shape) = (x.positions(), [x.frames, x.height, x.width, self.conv2.cout]);
        let mut shortcut = Features::empty(shape);
        let mut h = Features::empty(shape);
        let mut normed = Normed::new(run, &self.norm1, &self.conv1, &mut x)?;
        for stretch in normed.stretches() {
            normed.fill(run, &x, &stretch)?;
            h.push(normed.convolve(run, &stretch, None)?);
            let Some(layer) = &self.nin_shortcut else { continue };
            // What has become of the piece takes no more room than it.
            while let Some(piece) = x.take_before(stretch.end) {
                shortcut.push(layer.run(run.backend, &piece, positions)?);
            }
        }
        drop(normed);
        let mut other = if self.nin_shortcut.is_some() { shortcut } else { x };
        let mut out = Features::empty(shape);
        let mut normed = Normed::new(run, &self.norm2, &self.conv2, &mut h)?;
        for stretch in normed.stretches() {
            normed.fill(run, &h, &stretch)?;
            h.give_up_before(stretch.end);
            out.push(normed.convolve(run, &stretch, Some(&other))?);
            other.give_up_before(stretch.end);
        }
        Ok(out)
    }
}

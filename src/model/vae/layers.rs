//! The blocks that both coders are made of: convolutions, norms, residual blocks.

use super::config::{ConvClass, ResnetClass};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::conv3d::{Conv3d, ConvExtras, SpacePadding};
use crate::ops::gemm::Linear;
use crate::ops::groupnorm::GroupNorm;
use crate::weights::{Role, Scope};

/// Groups of every GroupNorm of the model.
const GROUPS: usize = 32;
/// Epsilon of every GroupNorm of the model.
const EPS: f32 = 1e-6;

/// A video in feature space, `[frames, height, width, channels]`.
pub(super) struct Features<B: Backend> {
    pub data: B::Buffer,
    pub frames: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// The statistics of `data`, where what made it left them.
    pub moments: Option<B::Buffer>,
}

impl<B: Backend> Features<B> {
    /// Unspecified values.
    pub fn alloc(backend: &B, [frames, height, width, channels]: [usize; 4]) -> Result<Self> {
        let data = backend.alloc(frames * height * width * channels)?;
        Ok(Self { data, frames, height, width, channels, moments: None })
    }

    /// `[frames, height, width, channels]`
    pub fn shape(&self) -> [usize; 4] {
        [self.frames, self.height, self.width, self.channels]
    }

    /// Positions of all frames.
    pub fn rows(&self) -> usize {
        self.frames * self.height * self.width
    }
}

/// Sees the output of every named block; for checking against another implementation.
pub type Probe<'a, Buffer> = &'a mut dyn FnMut(&str, &Buffer, [usize; 4]);

/// What a run of a coder carries along.
pub(super) struct Run<'a, B: Backend> {
    pub backend: &'a B,
    pub probe: Option<Probe<'a, B::Buffer>>,
}

impl<B: Backend> Run<'_, B> {
    /// Shows `x` to the probe under the module's name in the checkpoint.
    pub fn show(&mut self, name: impl FnOnce() -> String, x: &Features<B>) {
        if let Some(probe) = &mut self.probe {
            probe(&name(), &x.data, x.shape());
        }
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

    /// The descriptor for `x`, stride 1.
    pub fn op<B: Backend>(&self, x: &Features<B>) -> Conv3d {
        Conv3d::new(x.frames, x.height, x.width, self.cin, self.cout, self.kernel)
    }

    /// Stride 1, "same" padding.
    pub fn run<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>) -> Result<Features<B>> {
        self.run_as(backend, self.op(x), x, None)
    }

    /// Half the height and width.
    pub fn downsample<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>) -> Result<Features<B>> {
        let op = Conv3d { stride: [1, 2], padding: SpacePadding::RightBottom, ..self.op(x) };
        self.run_as(backend, op, x, None)
    }

    /// Of the input enlarged twice in height and width.
    pub fn upsample<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>) -> Result<Features<B>> {
        self.run_as(backend, Conv3d { upsample: true, ..self.op(x) }, x, None)
    }

    /// With another descriptor than [`Self::op`], and what its epilogue adds. Leaves the statistics for a norm to follow,
    /// which nearly always does.
    pub fn run_as<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        op: Conv3d,
        x: &Features<B>,
        other: Option<&Features<B>>,
    ) -> Result<Features<B>> {
        let op = Conv3d { moment_groups: if self.cout.is_multiple_of(GROUPS) { GROUPS } else { 0 }, ..op };
        let mut out = Features::alloc(backend, op.out_shape())?;
        if op.moment_groups > 0 {
            out.moments = Some(backend.alloc_moments(&op.moments())?);
        }
        let extras =
            ConvExtras { bias: Some(&self.bias), other: other.map(|other| &other.data), moments: out.moments.as_mut() };
        backend.conv3d(&op, &x.data, &self.weight, extras, &mut out.data)?;
        Ok(out)
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

    /// A new video of `cout` channels.
    pub fn run<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>) -> Result<Features<B>> {
        let mut out = Features::alloc(backend, [x.frames, x.height, x.width, self.cout])?;
        let op = Linear::new(x.rows(), self.cin, self.cout);
        backend.linear(&op, &x.data, &self.weight, Some(&self.bias), None, &mut out.data)?;
        Ok(out)
    }

    /// `out += x·Wᵀ + b`
    pub fn add<B: Backend<Weight = W>>(&self, backend: &B, x: &Features<B>, out: &mut Features<B>) -> Result<()> {
        let op = Linear::new(x.rows(), self.cin, self.cout).store(crate::ops::gemm::Store::Add);
        out.moments = None;
        backend.linear(&op, &x.data, &self.weight, Some(&self.bias), None, &mut out.data)
    }
}

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

    /// The normed video, through SiLU if `silu`. Uses up the statistics of `x`.
    pub fn run<B: Backend<Weight = W>>(&self, backend: &B, x: &mut Features<B>, silu: bool) -> Result<Features<B>> {
        let known = x.moments.take();
        let mut out = Features::alloc(backend, x.shape())?;
        let op = GroupNorm {
            frames: x.frames,
            positions: x.height * x.width,
            channels: x.channels,
            groups: GROUPS,
            eps: EPS,
            per_frame: self.per_frame,
            silu,
            moments_known: known.is_some(),
        };
        let mut moments = known.map_or_else(|| backend.alloc_moments(&op.moments()), Ok)?;
        backend.group_norm(&op, &x.data, &mut moments, &self.weight, &self.bias, &mut out.data)?;
        Ok(out)
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

    /// Consumes the input: its memory is free as soon as it is no longer needed.
    pub fn run<B: Backend<Weight = W>>(&self, backend: &B, mut x: Features<B>) -> Result<Features<B>> {
        let h = self.norm1.run(backend, &mut x, true)?;
        let mut h = self.conv1.run(backend, &h)?;
        let x = match &self.nin_shortcut {
            Some(shortcut) => shortcut.run(backend, &x)?,
            None => x,
        };
        let h = self.norm2.run(backend, &mut h, true)?;
        self.conv2.run_as(backend, self.conv2.op(&h), &h, Some(&x))
    }
}

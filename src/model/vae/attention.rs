//! The VAE's attention blocks: one head over all channels.

use super::config::AttentionClass;
use super::features::Features;
use super::norm::Norm;
use super::pointwise::Pointwise;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::attention::{Attention, AttentionArgs, TokenLayout};
use crate::ops::resample::{RegroupFrames, RegroupFramesArgs};
use crate::weights::Scope;

/// GroupNorm, attention, projection, plus the input.
#[derive(Debug)]
pub(super) struct AttentionBlock<W> {
    class: AttentionClass,
    norm: Norm<W>,
    q: Pointwise<W>,
    k: Pointwise<W>,
    v: Pointwise<W>,
    proj_out: Pointwise<W>,
}

impl<W> AttentionBlock<W> {
    /// The block `scope`.
    pub fn build(mut scope: Scope<'_, W>, class: AttentionClass, channels: usize) -> Result<Self> {
        let (below, axes) = match class {
            AttentionClass::AttnBlock3DFix | AttentionClass::AttnBlock3D => (".conv", 5),
            AttentionClass::TemporalAttnBlock => ("", 5),
            AttentionClass::AttnBlock => ("", 4),
        };
        let mut layer = |name: &str| Pointwise::build(scope.at(format!("{name}{below}")), channels, channels, axes);
        let (q, k, v, proj_out) = (layer("q")?, layer("k")?, layer("v")?, layer("proj_out")?);
        let norm = Norm::build(scope.at("norm"), channels, class == AttentionClass::AttnBlock)?;
        Ok(Self { class, norm, q, k, v, proj_out })
    }

    /// Adds its result to `x`, a video in one piece.
    pub fn run<B: Backend<Weight = W>>(&self, backend: &B, mut x: Features<B>) -> Result<Features<B>> {
        let normed = self.norm.whole(backend, &mut x)?;
        let layers = [&self.q, &self.k, &self.v];
        let mut qkv = Vec::with_capacity(3);
        for layer in layers {
            let projected = layer.whole(backend, &normed)?;
            qkv.push(match self.class {
                AttentionClass::AttnBlock3D => regroup(backend, &normed, &projected, false)?,
                _ => projected,
            });
        }
        let mut attended = normed;
        let op = self.attention(&attended);
        backend.attention(&op, AttentionArgs::new([&qkv[0], &qkv[1], &qkv[2]], attended.data_mut()))?;
        drop(qkv);
        if self.class == AttentionClass::AttnBlock3D {
            *attended.data_mut() = regroup(backend, &attended, attended.data(), true)?;
        }
        self.proj_out.add(backend, &attended, &mut x)?;
        Ok(x)
    }

    /// Among the positions of each frame, or among the frames of each position.
    fn attention<B: Backend>(&self, x: &Features<B>) -> Attention {
        let (channels, positions) = (x.channels, x.height * x.width);
        let temporal = self.class == AttentionClass::TemporalAttnBlock;
        let (inner, tokens) = if temporal { (positions, x.frames) } else { (x.frames, positions) };
        let (inner_stride, token_stride) =
            if temporal { (channels, positions * channels) } else { (positions * channels, channels) };
        let layout = TokenLayout { offset: 0, outer_stride: 0, inner_stride, token_stride };
        Attention {
            outer: 1,
            inner,
            heads: 1,
            head_dim: channels,
            queries: tokens,
            keys: tokens,
            scale: (channels as f32).sqrt().recip(),
            q: layout,
            k: layout,
            v: layout,
            out: layout,
            rope_group: channels,
        }
    }
}

/// v1.0.0 reshapes (C, T, H·W) to (T, C, H·W) without transposing. `values` has the shape of `x`.
fn regroup<B: Backend>(backend: &B, x: &Features<B>, values: &B::Buffer, inverse: bool) -> Result<B::Buffer> {
    let op = RegroupFrames { frames: x.frames, positions: x.positions(), channels: x.channels, inverse };
    let mut out = backend.alloc(values.len())?;
    backend.regroup_frames(&op, RegroupFramesArgs { x: values, out: &mut out })?;
    Ok(out)
}

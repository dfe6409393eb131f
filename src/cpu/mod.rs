//! The operations in f32 on the CPU: the specification of every kernel, and the default without a GPU.
//!
//! Results do not depend on the number of threads: work is cut by size alone, and every sum has a fixed order.

mod attention;
mod conv3d;
mod embed;
mod finite;
mod gemm;
mod groupnorm;
mod math;
mod memory;
mod micro;
mod norm;
mod patch;
mod resample;
mod sampler;
mod scratch;
mod shared;
mod tile;
mod weight;

pub use memory::Buffer;
pub use weight::Weight;

use crate::arriving::Arriving;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops;
use crate::ops::attention::{Attention, AttentionExtras};
use crate::ops::conv3d::ConvExtras;
use crate::ops::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};
use crate::ops::finite::{Finite, FiniteArgs};
use crate::ops::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};
use crate::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
use crate::ops::resample::{
    RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs,
};
use crate::ops::sampler::{Combine, CombineArgs};
use crate::ops::tile::{BlendBox, BlendBoxArgs, CopyBox, CopyBoxArgs, ToBytes, ToBytesArgs};
use crate::ops::{DeviceBuffer, DeviceWeight};
use crate::tensor::Tensor;
use memory::Pool;
use std::sync::Arc;

/// The CPU as a device. Uses rayon's current thread pool. Clones share their buffers.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    pool: Arc<Pool>,
}

impl Cpu {
    /// A backend with an empty pool of buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Most bytes of activations that were held at once.
    pub fn peak_bytes(&self) -> usize {
        self.pool.peak_bytes()
    }
}

fn lens<const N: usize>(buffers: [Option<&Buffer>; N]) -> [Option<usize>; N] {
    buffers.map(|buffer| buffer.map(DeviceBuffer::len))
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Weight = Weight;

    fn name(&self) -> String {
        let simd = match pulp::Arch::new() {
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V4(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V3(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            pulp::Arch::Neon(_) => "NEON",
            _ => "scalar",
        };
        format!("cpu ({} threads, {simd})", rayon::current_num_threads())
    }

    fn largest(&self) -> f32 {
        f32::MAX
    }

    fn alloc(&self, len: usize) -> Result<Buffer> {
        Ok(Buffer::new(&self.pool, len))
    }

    fn alloc_f32(&self, len: usize) -> Result<Buffer> {
        self.alloc(len)
    }

    fn upload_f32(&self, host: &[f32]) -> Result<Buffer> {
        self.upload(host)
    }

    fn upload(&self, host: &[f32]) -> Result<Buffer> {
        let mut buffer = Buffer::new(&self.pool, host.len());
        buffer.copy_from_slice(host);
        Ok(buffer)
    }

    fn download(&self, buffer: &Buffer, offset: usize, host: &mut [f32]) -> Result<()> {
        ops::expect_at_least("download", "buffer", buffer.len(), offset + host.len())?;
        host.copy_from_slice(&buffer[offset..offset + host.len()]);
        Ok(())
    }

    fn weight(&self, parts: Vec<Tensor>) -> Result<Weight> {
        Ok(Weight::new(parts))
    }

    fn weight_values(&self, weight: &Weight) -> Result<Vec<f32>> {
        Ok(weight.to_f32())
    }

    fn linear(
        &self,
        op: &ops::gemm::Linear,
        x: &Buffer,
        weight: &Weight,
        bias: Option<&Weight>,
        gate: Option<&Buffer>,
        out: &mut Buffer,
    ) -> Result<()> {
        op.validate(x.len(), weight.shape(), bias.map(|bias| bias.len()), gate.map(DeviceBuffer::len), out.len())?;
        gemm::linear(op, x, weight, bias, gate.map(|gate| &**gate), out);
        Ok(())
    }

    fn attention(
        &self,
        op: &Attention,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        extras: AttentionExtras<'_, Buffer>,
        out: &mut Buffer,
    ) -> Result<()> {
        let [bias, mask, rope] = lens([extras.bias, extras.mask, extras.rope]);
        op.validate(q.len(), k.len(), v.len(), bias, mask, rope, out.len())?;
        attention::attention(op, q, k, v, &extras, out);
        Ok(())
    }

    fn run_ada_layer_norm(&self, op: &AdaLayerNorm, args: AdaLayerNormArgs<'_, Buffer>) -> Result<()> {
        norm::ada_layer_norm(op, args);
        Ok(())
    }

    fn run_layer_norm(&self, op: &LayerNorm, args: LayerNormArgs<'_, Buffer, Weight>) -> Result<()> {
        norm::layer_norm(op, args);
        Ok(())
    }

    fn run_rms_norm(&self, op: &RmsNorm, args: RmsNormArgs<'_, Buffer, Weight>) -> Result<()> {
        norm::rms_norm(op, args);
        Ok(())
    }

    fn conv3d(
        &self,
        op: &ops::conv3d::Conv3d,
        x: &Buffer,
        weight: &Weight,
        extras: ConvExtras<'_, Buffer, Weight>,
        out: &mut Buffer,
    ) -> Result<()> {
        let ConvExtras { bias, other, moments } = extras;
        op.validate(x.len(), weight.shape(), bias.map(|bias| bias.len()), other.map(DeviceBuffer::len), out.len())?;
        if let Some(moments) = &moments {
            op.validate_groups()?;
            let reached = groupnorm::elements(op.out_at() + op.computed().len(), op.moment_groups);
            ops::expect_at_least("conv3d", "moments", moments.len(), reached)?;
        }
        conv3d::conv3d(op, x, weight, bias, other.map(|other| &**other), out);
        if let Some(moments) = moments {
            groupnorm::conv_moments(op, out, moments);
        }
        Ok(())
    }

    fn depthwise_conv(
        &self,
        op: &ops::conv3d::DepthwiseConv,
        x: &Buffer,
        weight: &Weight,
        bias: &Weight,
        out: &mut Buffer,
    ) -> Result<()> {
        op.validate(x.len(), weight.shape(), bias.len(), out.len())?;
        conv3d::depthwise_conv(op, x, &weight.to_f32(), &bias.to_f32(), out);
        Ok(())
    }

    fn alloc_moments(&self, moments: &ops::groupnorm::Moments) -> Result<Buffer> {
        self.alloc_f32(groupnorm::elements(moments.frames, moments.groups))
    }

    fn alloc_statistics(&self, statistics: &ops::groupnorm::Statistics) -> Result<Buffer> {
        self.alloc_f32(groupnorm::elements(statistics.frames, statistics.groups))
    }

    fn group_moments(&self, op: &ops::groupnorm::Moments, x: &Buffer, moments: &mut Buffer) -> Result<()> {
        op.validate(x.len())?;
        ops::expect_len("group_moments", "moments", moments.len(), groupnorm::elements(op.frames, op.groups))?;
        groupnorm::group_moments(op, x, moments);
        Ok(())
    }

    fn group_statistics(
        &self,
        op: &ops::groupnorm::Statistics,
        stretches: &[(&Buffer, usize)],
        statistics: &mut Buffer,
    ) -> Result<()> {
        const OP: &str = "group_statistics";
        op.validate(stretches.iter().map(|&(_, frames)| frames))?;
        ops::expect_len(OP, "statistics", statistics.len(), groupnorm::elements(op.frames, op.groups))?;
        for (moments, frames) in stretches {
            ops::expect_at_least(OP, "moments", moments.len(), groupnorm::elements(*frames, op.groups))?;
        }
        groupnorm::group_statistics(op, stretches, statistics);
        Ok(())
    }

    fn group_norm(
        &self,
        op: &ops::groupnorm::GroupNorm,
        x: &Buffer,
        statistics: &Buffer,
        weight: &Weight,
        bias: &Weight,
        out: &mut Buffer,
    ) -> Result<()> {
        op.validate(x.len(), weight.len(), bias.len(), out.len())?;
        let reached = groupnorm::elements(op.video_at + op.frames, op.groups);
        ops::expect_at_least("group_norm", "statistics", statistics.len(), reached)?;
        groupnorm::group_norm(op, x, statistics, &weight.to_f32(), &bias.to_f32(), out);
        Ok(())
    }

    fn run_time_average(&self, op: &TimeAverage, args: TimeAverageArgs<'_, Buffer>) -> Result<()> {
        resample::time_average(op, args);
        Ok(())
    }

    fn run_time_double(&self, op: &TimeDouble, args: TimeDoubleArgs<'_, Buffer>) -> Result<()> {
        resample::time_double(op, args);
        Ok(())
    }

    fn run_regroup_frames(&self, op: &RegroupFrames, args: RegroupFramesArgs<'_, Buffer>) -> Result<()> {
        resample::regroup_frames(op, args);
        Ok(())
    }

    fn run_embedding(&self, op: &Embedding, args: EmbeddingArgs<'_, Buffer, Weight>) -> Result<()> {
        embed::embedding(op, args);
        Ok(())
    }

    fn run_add_rows(&self, op: &AddRows, args: AddRowsArgs<'_, Buffer>) -> Result<()> {
        embed::add_rows(op, args);
        Ok(())
    }

    fn run_patch_embed(&self, op: &PatchEmbed, args: PatchEmbedArgs<'_, Buffer, Weight>) -> Result<()> {
        patch::patch_embed(op, args);
        Ok(())
    }

    fn run_unpatchify(&self, op: &Unpatchify, args: UnpatchifyArgs<'_, Buffer>) -> Result<()> {
        patch::unpatchify(op, args);
        Ok(())
    }

    fn run_combine(&self, op: &Combine<'_>, args: CombineArgs<'_, Buffer>) -> Result<()> {
        sampler::combine(op, args);
        Ok(())
    }

    fn run_copy_box(&self, op: &CopyBox, args: CopyBoxArgs<'_, Buffer>) -> Result<()> {
        tile::copy_box(op, args);
        Ok(())
    }

    fn run_blend_box(&self, op: &BlendBox, args: BlendBoxArgs<'_, Buffer>) -> Result<()> {
        tile::blend_box(op, args);
        Ok(())
    }

    fn run_to_bytes(&self, op: &ToBytes, args: ToBytesArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
        Ok(Box::new(tile::to_bytes(op, args)))
    }

    fn run_finite(&self, op: &Finite, args: FiniteArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
        Ok(Box::new(finite::finite(op, args)))
    }
}

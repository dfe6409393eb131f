//! The operations in f32 on the CPU: the specification of every kernel, and the default without a GPU.
//!
//! Results do not depend on the number of threads: only sizes decide how work is divided, and every sum has a fixed
//! order.

mod attention;
mod conv3d;
mod distance;
mod embed;
mod enlarge;
mod finite;
mod folded;
mod gemm;
mod groupnorm;
mod math;
mod memory;
mod micro;
mod norm;
mod patch;
mod pixels;
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
use crate::ops::DeviceBuffer;
use crate::ops::prelude::*;
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

    /// The most bytes of activations that were in use at once.
    pub fn peak_bytes(&self) -> usize {
        self.pool.peak_bytes()
    }
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
        Buffer::new(&self.pool, len)
    }

    fn alloc_f32(&self, len: usize) -> Result<Buffer> {
        self.alloc(len)
    }

    fn upload_f32(&self, host: &[f32]) -> Result<Buffer> {
        self.upload(host)
    }

    fn upload(&self, host: &[f32]) -> Result<Buffer> {
        let mut buffer = Buffer::new(&self.pool, host.len())?;
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

    fn alloc_weight(&self, shape: &[usize]) -> Result<Weight> {
        Ok(Weight::unmade(shape))
    }

    fn weight_values(&self, weight: &Weight) -> Result<Vec<f32>> {
        Ok(weight.to_f32())
    }

    fn run_linear(&self, op: &Linear, args: LinearArgs<'_, Buffer, Weight>) -> Result<()> {
        gemm::linear(op, args);
        Ok(())
    }

    fn run_attention(&self, op: &Attention, args: AttentionArgs<'_, Buffer>) -> Result<()> {
        attention::attention(op, args);
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

    fn run_row_moments(&self, op: &RowMoments, args: RowMomentsArgs<'_, Buffer>) -> Result<()> {
        folded::row_moments(op, args);
        Ok(())
    }

    fn run_row_statistics(&self, op: &RowStatistics, args: RowStatisticsArgs<'_, Buffer>) -> Result<()> {
        folded::row_statistics(op, args);
        Ok(())
    }

    fn run_fold_norm(&self, op: &FoldNorm, args: FoldNormArgs<'_, Buffer, Weight>) -> Result<()> {
        folded::fold_norm(op, args);
        Ok(())
    }

    fn run_fold_enlargement(&self, op: &FoldEnlargement, args: FoldEnlargementArgs<'_, Weight>) -> Result<()> {
        enlarge::fold_enlargement(op, args);
        Ok(())
    }

    fn run_conv3d(&self, op: &Conv3d, args: ConvArgs<'_, Buffer, Weight>) -> Result<()> {
        conv3d::conv3d(op, args);
        Ok(())
    }

    fn run_depthwise_conv(&self, op: &DepthwiseConv, args: DepthwiseConvArgs<'_, Buffer, Weight>) -> Result<()> {
        conv3d::depthwise_conv(op, args);
        Ok(())
    }

    fn moments_len(&self, moments: &Moments) -> usize {
        groupnorm::elements(moments.frames, moments.groups)
    }

    fn statistics_len(&self, frames: usize, groups: usize) -> usize {
        groupnorm::elements(frames, groups)
    }

    fn run_group_moments(&self, op: &Moments, args: MomentsArgs<'_, Buffer>) -> Result<()> {
        groupnorm::group_moments(op, args);
        Ok(())
    }

    fn run_group_statistics(&self, op: &Statistics, args: StatisticsArgs<'_, Buffer>) -> Result<()> {
        groupnorm::group_statistics(op, args);
        Ok(())
    }

    fn run_group_norm(&self, op: &GroupNorm, args: GroupNormArgs<'_, Buffer, Weight>) -> Result<()> {
        groupnorm::group_norm(op, args);
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

    fn run_hold(&self, op: &Hold, args: HoldArgs<'_, Buffer>) -> Result<()> {
        sampler::hold(op, args);
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

    fn run_from_bytes(&self, _: &FromBytes, args: FromBytesArgs<'_, Buffer>) -> Result<()> {
        pixels::from_bytes(args);
        Ok(())
    }

    fn run_to_bytes(&self, op: &ToBytes, args: ToBytesArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
        Ok(Box::new(pixels::to_bytes(op, args)))
    }

    fn run_distance(&self, op: &Distance, args: DistanceArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
        Ok(Box::new(distance::distance(op, args)))
    }

    fn run_finite(&self, op: &Finite, args: FiniteArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
        Ok(Box::new(finite::finite(op, args)))
    }
}

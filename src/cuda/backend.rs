//! [`Backend`] by kernels. The body of each operation is in its own file.

use super::{Buffer, Cuda, ElementType, Weight, lock};
use super::{
    attention, conv3d, depthwise, distance, embed, enlarge, finite, folded, gemm, groupnorm, norm, patch, pixels,
    resample, sampler, tile,
};
use crate::arriving::Arriving;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops;
use crate::ops::DeviceWeight;
use crate::ops::prelude::*;
use crate::tensor::Tensor;
use std::sync::Arc;

impl Backend for Cuda {
    type Buffer = Buffer;
    type Weight = Weight;

    fn name(&self) -> String {
        format!("{}, {}", self.device.name(), self.half.suffix())
    }

    fn largest(&self) -> f32 {
        self.half.largest()
    }

    fn begin_run(&self) {
        self.device.begin_run();
    }

    fn landmark(&self, less: bool) {
        self.device.landmark(less);
    }

    fn alloc(&self, len: usize) -> Result<Self::Buffer> {
        self.buffer(len, ElementType::Half)
    }

    fn alloc_f32(&self, len: usize) -> Result<Self::Buffer> {
        self.buffer(len, ElementType::Single)
    }

    fn upload(&self, host: &[f32]) -> Result<Self::Buffer> {
        let mut buffer = self.buffer(host.len(), ElementType::Half)?;
        self.device.write(&mut *buffer.memory, 0, bytemuck::cast_slice(&self.half.narrowed(host)))?;
        Ok(buffer)
    }

    fn upload_f32(&self, host: &[f32]) -> Result<Self::Buffer> {
        let mut buffer = self.buffer(host.len(), ElementType::Single)?;
        self.device.write(&mut *buffer.memory, 0, bytemuck::cast_slice(host))?;
        Ok(buffer)
    }

    fn download(&self, buffer: &Self::Buffer, offset: usize, host: &mut [f32]) -> Result<()> {
        ops::expect_at_least("download", "buffer", buffer.len, offset + host.len())?;
        match buffer.precision {
            ElementType::Single => self.device.read(&*buffer.memory, 4 * offset, bytemuck::cast_slice_mut(host)),
            ElementType::Half => {
                let mut bits = vec![0; host.len()];
                self.device.read(&*buffer.memory, 2 * offset, bytemuck::cast_slice_mut(&mut bits))?;
                self.half.widened(&bits, host);
                Ok(())
            }
        }
    }

    fn weight(&self, parts: Vec<Tensor>) -> Result<Self::Weight> {
        let weight = self.room(&parts)?;
        let mut memory = lock(&weight.memory);
        self.stack(parts, &mut |offset, bytes| self.device.write(&mut **memory, offset, bytes))?;
        drop(memory);
        Ok(weight)
    }

    fn prefetch_weight(&self, parts: Vec<Tensor>) -> Result<Self::Weight> {
        let weight = self.room(&parts)?;
        self.device.order_prefetch()?;
        lock(&self.coming).push((weight.memory.clone(), parts));
        Ok(weight)
    }

    fn start_prefetch(&self) -> Result<()> {
        let coming = std::mem::take(&mut *lock(&self.coming));
        // A run that was interrupted has dropped its weights, so they need no values. The others stay: this thread owns them, and drops
        // none before it returns.
        let mut wanted = coming.into_iter().filter(|(memory, _)| Arc::strong_count(memory) > 1);
        let sent = wanted.try_for_each(|(memory, parts)| {
            let mut memory = lock(&memory);
            self.stack(parts, &mut |offset, bytes| self.device.write_prefetched(&mut **memory, offset, bytes))
        });
        if sent.is_err() {
            // The weights are dropped now, and their memory must not be reused while copies write to it. The first of two
            // failures says more, so this one is ignored.
            let _ = self.device.finish_prefetch();
        }
        sent
    }

    fn finish_prefetch(&self) -> Result<()> {
        self.start_prefetch()?;
        self.device.finish_prefetch()
    }

    fn alloc_weight(&self, shape: &[usize]) -> Result<Self::Weight> {
        // With the activations: it is made again in each step, and freed as they are.
        Ok(Weight::new(self.device.alloc(2 * shape.iter().product::<usize>())?, shape.to_vec()))
    }

    fn weight_values(&self, weight: &Self::Weight) -> Result<Vec<f32>> {
        let mut bits = vec![0; weight.len()];
        self.device.read(&**lock(&weight.memory), 0, bytemuck::cast_slice_mut(&mut bits))?;
        let mut values = vec![0.0; bits.len()];
        self.half.widened(&bits, &mut values);
        Ok(values)
    }

    fn run_linear(&self, op: &Linear, args: LinearArgs<'_, Buffer, Weight>) -> Result<()> {
        gemm::linear(self, op, args)
    }

    fn run_attention(&self, op: &Attention, args: AttentionArgs<'_, Buffer>) -> Result<()> {
        attention::attention(self, op, args)
    }

    fn run_ada_layer_norm(&self, op: &AdaLayerNorm, args: AdaLayerNormArgs<'_, Buffer>) -> Result<()> {
        norm::ada_layer_norm(self, op, args)
    }

    fn run_layer_norm(&self, op: &LayerNorm, args: LayerNormArgs<'_, Buffer, Weight>) -> Result<()> {
        norm::layer_norm(self, op, args)
    }

    fn run_rms_norm(&self, op: &RmsNorm, args: RmsNormArgs<'_, Buffer, Weight>) -> Result<()> {
        norm::rms_norm(self, op, args)
    }

    fn run_row_moments(&self, op: &RowMoments, args: RowMomentsArgs<'_, Buffer>) -> Result<()> {
        folded::row_moments(self, op, args)
    }

    fn run_row_statistics(&self, op: &RowStatistics, args: RowStatisticsArgs<'_, Buffer>) -> Result<()> {
        folded::row_statistics(self, op, args)
    }

    fn run_fold_norm(&self, op: &FoldNorm, args: FoldNormArgs<'_, Buffer, Weight>) -> Result<()> {
        folded::fold_norm(self, op, args)
    }

    fn run_fold_enlargement(&self, op: &FoldEnlargement, args: FoldEnlargementArgs<'_, Weight>) -> Result<()> {
        enlarge::fold_enlargement(self, op, args)
    }

    fn run_conv3d(&self, op: &Conv3d, args: ConvArgs<'_, Buffer, Weight>) -> Result<()> {
        conv3d::conv3d(self, op, args)
    }

    fn run_depthwise_conv(&self, op: &DepthwiseConv, args: DepthwiseConvArgs<'_, Buffer, Weight>) -> Result<()> {
        depthwise::depthwise_conv(self, op, args)
    }

    fn moments_len(&self, moments: &Moments) -> usize {
        moments.elements()
    }

    fn statistics_len(&self, frames: usize, groups: usize) -> usize {
        Statistics::elements(frames, groups)
    }

    fn run_group_moments(&self, op: &Moments, args: MomentsArgs<'_, Buffer>) -> Result<()> {
        groupnorm::group_moments(self, op, args)
    }

    fn run_group_statistics(&self, op: &Statistics, args: StatisticsArgs<'_, Buffer>) -> Result<()> {
        groupnorm::group_statistics(self, op, args)
    }

    fn run_group_norm(&self, op: &GroupNorm, args: GroupNormArgs<'_, Buffer, Weight>) -> Result<()> {
        groupnorm::group_norm(self, op, args)
    }

    fn run_time_average(&self, op: &TimeAverage, args: TimeAverageArgs<'_, Buffer>) -> Result<()> {
        resample::time_average(self, op, args)
    }

    fn run_time_double(&self, op: &TimeDouble, args: TimeDoubleArgs<'_, Buffer>) -> Result<()> {
        resample::time_double(self, op, args)
    }

    fn run_regroup_frames(&self, op: &RegroupFrames, args: RegroupFramesArgs<'_, Buffer>) -> Result<()> {
        resample::regroup_frames(self, op, args)
    }

    fn run_embedding(&self, op: &Embedding, args: EmbeddingArgs<'_, Buffer, Weight>) -> Result<()> {
        embed::embedding(self, op, args)
    }

    fn run_add_rows(&self, op: &AddRows, args: AddRowsArgs<'_, Buffer>) -> Result<()> {
        embed::add_rows(self, op, args)
    }

    fn run_patch_embed(&self, op: &PatchEmbed, args: PatchEmbedArgs<'_, Buffer, Weight>) -> Result<()> {
        patch::patch_embed(self, op, args)
    }

    fn run_unpatchify(&self, op: &Unpatchify, args: UnpatchifyArgs<'_, Buffer>) -> Result<()> {
        patch::unpatchify(self, op, args)
    }

    fn run_combine(&self, op: &Combine<'_>, args: CombineArgs<'_, Buffer>) -> Result<()> {
        sampler::combine(self, op, args)
    }

    fn run_hold(&self, op: &Hold, args: HoldArgs<'_, Buffer>) -> Result<()> {
        sampler::hold(self, op, args)
    }

    fn run_copy_box(&self, op: &CopyBox, args: CopyBoxArgs<'_, Buffer>) -> Result<()> {
        tile::copy_box(self, op, args)
    }

    fn run_blend_box(&self, op: &BlendBox, args: BlendBoxArgs<'_, Buffer>) -> Result<()> {
        tile::blend_box(self, op, args)
    }

    fn run_from_bytes(&self, op: &FromBytes, args: FromBytesArgs<'_, Buffer>) -> Result<()> {
        pixels::from_bytes(self, op, args)
    }

    fn run_to_bytes(&self, op: &ToBytes, args: ToBytesArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
        pixels::to_bytes(self, op, args)
    }

    fn run_distance(&self, op: &Distance, args: DistanceArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
        distance::distance(self, op, args)
    }

    fn run_finite(&self, op: &Finite, args: FiniteArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
        finite::finite(self, op, args)
    }
}

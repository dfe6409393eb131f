//! A backend in front of another backend, which records every operation. It is for backends without launches.

use super::{Record, Recorder};
use crate::arriving::Arriving;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::prelude::*;
use crate::tensor::Tensor;
use std::time::Instant;

/// Passes every call to `B`, and records every operation with its wall-clock time. FLOPs and bytes are the
/// descriptor's: they follow from the operation's formula, not from the code of `B`.
#[derive(Debug)]
pub struct Counted<B> {
    backend: B,
    recorder: Recorder,
    element: u64,
}

impl<B: Backend> Counted<B> {
    /// A backend in front of `backend`, whose activations have `element` bytes per value.
    pub fn new(backend: B, recorder: Recorder, element: u64) -> Self {
        Self { backend, recorder, element }
    }

    fn count<T>(&self, name: &str, flops: u64, bytes: u64, run: impl FnOnce(&B) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = run(&self.backend)?;
        let (name, time) = (name.to_owned(), Some(start.elapsed()));
        self.recorder.push(Record { name, launched: None, flops, bytes, time, choice: None });
        Ok(done)
    }
}

impl<B: Backend> Backend for Counted<B> {
    type Buffer = B::Buffer;
    type Weight = B::Weight;

    fn name(&self) -> String {
        self.backend.name()
    }

    fn largest(&self) -> f32 {
        self.backend.largest()
    }

    fn alloc(&self, len: usize) -> Result<B::Buffer> {
        self.backend.alloc(len)
    }

    fn alloc_f32(&self, len: usize) -> Result<B::Buffer> {
        self.backend.alloc_f32(len)
    }

    fn upload(&self, host: &[f32]) -> Result<B::Buffer> {
        self.backend.upload(host)
    }

    fn upload_f32(&self, host: &[f32]) -> Result<B::Buffer> {
        self.backend.upload_f32(host)
    }

    fn download(&self, buffer: &B::Buffer, offset: usize, host: &mut [f32]) -> Result<()> {
        self.backend.download(buffer, offset, host)
    }

    fn weight(&self, parts: Vec<Tensor>) -> Result<B::Weight> {
        self.backend.weight(parts)
    }

    fn prefetch_weight(&self, parts: Vec<Tensor>) -> Result<B::Weight> {
        self.backend.prefetch_weight(parts)
    }

    fn start_prefetch(&self) -> Result<()> {
        self.backend.start_prefetch()
    }

    fn finish_prefetch(&self) -> Result<()> {
        self.backend.finish_prefetch()
    }

    fn alloc_weight(&self, shape: &[usize]) -> Result<B::Weight> {
        self.backend.alloc_weight(shape)
    }

    fn weight_values(&self, weight: &B::Weight) -> Result<Vec<f32>> {
        self.backend.weight_values(weight)
    }

    fn run_linear(&self, op: &Linear, args: LinearArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("linear", op.flops(), args.bytes(op, self.element), |b| b.run_linear(op, args))
    }

    fn run_attention(&self, op: &Attention, args: AttentionArgs<'_, B::Buffer>) -> Result<()> {
        self.count("attention", op.flops(), op.bytes(self.element), |b| b.run_attention(op, args))
    }

    fn run_ada_layer_norm(&self, op: &AdaLayerNorm, args: AdaLayerNormArgs<'_, B::Buffer>) -> Result<()> {
        self.count("ada_layer_norm", op.flops(), op.bytes(self.element), |b| b.run_ada_layer_norm(op, args))
    }

    fn run_layer_norm(&self, op: &LayerNorm, args: LayerNormArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("layer_norm", op.flops(), op.bytes(self.element), |b| b.run_layer_norm(op, args))
    }

    fn run_rms_norm(&self, op: &RmsNorm, args: RmsNormArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("rms_norm", op.flops(), op.bytes(self.element), |b| b.run_rms_norm(op, args))
    }

    fn run_row_moments(&self, op: &RowMoments, args: RowMomentsArgs<'_, B::Buffer>) -> Result<()> {
        self.count("row_moments", op.flops(), op.bytes(self.element), |b| b.run_row_moments(op, args))
    }

    fn run_row_statistics(&self, op: &RowStatistics, args: RowStatisticsArgs<'_, B::Buffer>) -> Result<()> {
        self.count("row_statistics", op.flops(), op.bytes(), |b| b.run_row_statistics(op, args))
    }

    fn run_fold_norm(&self, op: &FoldNorm, args: FoldNormArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("fold_norm", op.flops(), op.bytes(self.element), |b| b.run_fold_norm(op, args))
    }

    fn run_fold_enlargement(&self, op: &FoldEnlargement, args: FoldEnlargementArgs<'_, B::Weight>) -> Result<()> {
        self.count("fold_enlargement", op.flops(), op.bytes(self.element), |b| b.run_fold_enlargement(op, args))
    }

    fn run_conv3d(&self, op: &Conv3d, args: ConvArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("conv3d", op.flops(), op.bytes(self.element), |b| b.run_conv3d(op, args))
    }

    fn run_depthwise_conv(&self, op: &DepthwiseConv, args: DepthwiseConvArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("depthwise_conv", op.flops(), op.bytes(self.element), |b| b.run_depthwise_conv(op, args))
    }

    fn moments_len(&self, moments: &Moments) -> usize {
        self.backend.moments_len(moments)
    }

    fn statistics_len(&self, frames: usize, groups: usize) -> usize {
        self.backend.statistics_len(frames, groups)
    }

    fn run_group_moments(&self, op: &Moments, args: MomentsArgs<'_, B::Buffer>) -> Result<()> {
        self.count("group_moments", op.flops(), op.bytes(self.element), |b| b.run_group_moments(op, args))
    }

    fn run_group_statistics(&self, op: &Statistics, args: StatisticsArgs<'_, B::Buffer>) -> Result<()> {
        self.count("group_statistics", op.flops(), op.bytes(), |b| b.run_group_statistics(op, args))
    }

    fn run_group_norm(&self, op: &GroupNorm, args: GroupNormArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("group_norm", op.flops(), op.bytes(self.element), |b| b.run_group_norm(op, args))
    }

    fn run_time_average(&self, op: &TimeAverage, args: TimeAverageArgs<'_, B::Buffer>) -> Result<()> {
        self.count("time_average", op.flops(), op.bytes(self.element), |b| b.run_time_average(op, args))
    }

    fn run_time_double(&self, op: &TimeDouble, args: TimeDoubleArgs<'_, B::Buffer>) -> Result<()> {
        self.count("time_double", op.flops(), op.bytes(self.element), |b| b.run_time_double(op, args))
    }

    fn run_regroup_frames(&self, op: &RegroupFrames, args: RegroupFramesArgs<'_, B::Buffer>) -> Result<()> {
        self.count("regroup_frames", 0, op.bytes(self.element), |b| b.run_regroup_frames(op, args))
    }

    fn run_embedding(&self, op: &Embedding, args: EmbeddingArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("embedding", 0, op.bytes(self.element), |b| b.run_embedding(op, args))
    }

    fn run_add_rows(&self, op: &AddRows, args: AddRowsArgs<'_, B::Buffer>) -> Result<()> {
        self.count("add_rows", op.flops(), op.bytes(self.element), |b| b.run_add_rows(op, args))
    }

    fn run_patch_embed(&self, op: &PatchEmbed, args: PatchEmbedArgs<'_, B::Buffer, B::Weight>) -> Result<()> {
        self.count("patch_embed", op.flops(), op.bytes(self.element), |b| b.run_patch_embed(op, args))
    }

    fn run_unpatchify(&self, op: &Unpatchify, args: UnpatchifyArgs<'_, B::Buffer>) -> Result<()> {
        self.count("unpatchify", 0, op.bytes(self.element), |b| b.run_unpatchify(op, args))
    }

    fn run_combine(&self, op: &Combine<'_>, args: CombineArgs<'_, B::Buffer>) -> Result<()> {
        self.count("combine", op.flops(), op.bytes(), |b| b.run_combine(op, args))
    }

    fn run_hold(&self, op: &Hold, args: HoldArgs<'_, B::Buffer>) -> Result<()> {
        self.count("hold", op.flops(), op.bytes(), |b| b.run_hold(op, args))
    }

    fn run_copy_box(&self, op: &CopyBox, args: CopyBoxArgs<'_, B::Buffer>) -> Result<()> {
        self.count("copy_box", 0, op.bytes(self.element), |b| b.run_copy_box(op, args))
    }

    fn run_blend_box(&self, op: &BlendBox, args: BlendBoxArgs<'_, B::Buffer>) -> Result<()> {
        self.count("blend_box", op.flops(), op.bytes(self.element), |b| b.run_blend_box(op, args))
    }

    fn run_from_bytes(&self, op: &FromBytes, args: FromBytesArgs<'_, B::Buffer>) -> Result<()> {
        self.count("from_bytes", op.flops(), op.bytes(self.element), |b| b.run_from_bytes(op, args))
    }

    fn run_to_bytes(&self, op: &ToBytes, args: ToBytesArgs<'_, B::Buffer>) -> Result<Box<dyn Arriving>> {
        self.count("to_bytes", 0, op.bytes(self.element), |b| b.run_to_bytes(op, args))
    }

    fn run_distance(&self, op: &Distance, args: DistanceArgs<'_, B::Buffer>) -> Result<Box<dyn Arriving>> {
        self.count("distance", op.flops(), op.bytes(self.element), |b| b.run_distance(op, args))
    }

    fn run_finite(&self, op: &Finite, args: FiniteArgs<'_, B::Buffer>) -> Result<Box<dyn Arriving>> {
        self.count("finite", 0, op.bytes(self.element), |b| b.run_finite(op, args))
    }
}

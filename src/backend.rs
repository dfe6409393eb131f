//! `Backend`: the fused operations that the models are written in.
//!
//! It is not a tensor API: a buffer is a run of elements, its shape is in the descriptor of each operation
//! (see [`crate::ops`]), and the caller provides every output. Layouts are NTHWC and token-major throughout.

use crate::arriving::Arriving;
use crate::error::Result;
use crate::ops::prelude::*;
use crate::ops::{DeviceBuffer, DeviceWeight};
use crate::tensor::Tensor;

/// The interface of a device that runs the models. The models are generic over it.
///
/// The method of an operation validates its descriptor and operands, in the same way for every backend, and fails with
/// [`crate::Error::Shape`]. Then it calls the body `run_…`, which backends implement. A body takes valid operands and fails only
/// as a launch does. Only a backend that wraps another one calls bodies directly. A new buffer holds unspecified values.
///
/// A launch on a GPU fails with [`crate::Error::Unsupported`] for sizes that no kernel takes (2³¹ of anything that kernels count,
/// and the limits of each operation), with [`crate::Error::Launch`] if the kernel cannot run, and with [`crate::Error::Device`]
/// if the GPU does not answer. An error that occurs on the GPU later is reported by the next call that waits for the GPU.
#[expect(clippy::missing_errors_doc, reason = "how a body fails is said once, above")]
pub trait Backend {
    /// Activations.
    type Buffer: DeviceBuffer;
    /// Parameters.
    type Weight: DeviceWeight;

    /// The device's name for messages and records, such as `cpu (2 threads, AVX-512)`.
    fn name(&self) -> String;

    /// The largest magnitude that an activation can have.
    fn largest(&self) -> f32;

    /// A run of loaded weights begins; all that was allocated since the last such call is free again.
    fn begin_run(&self) {}

    /// A place that every run of a memory plan passes; whether it may have allocated less than was rehearsed since the last one.
    fn landmark(&self, _less: bool) {}

    /// A buffer of `len` activations with unspecified contents, in the device's precision.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]; on a GPU [`crate::Error::Device`]. On the CPU a small buffer is left to the process's allocator.
    fn alloc(&self, len: usize) -> Result<Self::Buffer>;

    /// A buffer of `len` f32 values with unspecified contents: the states of samplers.
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn alloc_f32(&self, len: usize) -> Result<Self::Buffer>;

    /// Activations with the values of `host`, rounded to the device's precision.
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn upload(&self, host: &[f32]) -> Result<Self::Buffer>;

    /// The values of `host` in f32: states of samplers, masks, biases and rotations of attention.
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn upload_f32(&self, host: &[f32]) -> Result<Self::Buffer>;

    /// Copies `host.len()` elements from `offset` on to the host.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the buffer ends before them, [`crate::Error::Device`] if the copy or a kernel before it fails.
    fn download(&self, buffer: &Self::Buffer, offset: usize, host: &mut [f32]) -> Result<()>;

    /// Copies a parameter to the device: one tensor, or several with equal trailing shapes, stacked along the first axis. The CPU
    /// keeps the stored precision.
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn weight(&self, parts: Vec<Tensor>) -> Result<Self::Weight>;

    /// Prefetch: allocates the parameter now, and copies its values at the next [`Self::start_prefetch`], beside what is
    /// launched after this call. Nothing may use the parameter before [`Self::finish_prefetch`].
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn prefetch_weight(&self, parts: Vec<Tensor>) -> Result<Self::Weight> {
        self.weight(parts)
    }

    /// Starts to copy the values of every parameter from [`Self::prefetch_weight`].
    ///
    /// # Errors
    /// [`crate::Error::Device`] if a copy fails.
    fn start_prefetch(&self) -> Result<()> {
        Ok(())
    }

    /// Operations that are called from here on find the prefetched values.
    ///
    /// # Errors
    /// As for [`Self::start_prefetch`].
    fn finish_prefetch(&self) -> Result<()> {
        Ok(())
    }

    /// A parameter of this shape with unspecified values, in the device's precision, for an operation that makes it.
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn alloc_weight(&self, shape: &[usize]) -> Result<Self::Weight>;

    /// A small parameter's values (mix factors, modulation tables) on the host.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the copy or a kernel before it fails.
    fn weight_values(&self, weight: &Self::Weight) -> Result<Vec<f32>>;

    /// [`Linear`].
    ///
    /// # Errors
    /// Those of [`Linear::validate`] and of a launch.
    fn linear(&self, op: &Linear, args: LinearArgs<'_, Self::Buffer, Self::Weight>) -> Result<()> {
        op.validate(&args)?;
        self.run_linear(op, args)
    }

    /// The body of [`Self::linear`].
    fn run_linear(&self, op: &Linear, args: LinearArgs<'_, Self::Buffer, Self::Weight>) -> Result<()>;

    /// [`Attention`].
    ///
    /// # Errors
    /// Those of [`Attention::validate`] and of a launch. Kernels take positive scales, multiples of 8 for everything in
    /// a layout and for the features of a head, and of 4 for the groups of RoPE; at most 512 features a head, and above
    /// 128 neither bias nor mask nor RoPE.
    fn attention(&self, op: &Attention, args: AttentionArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_attention(op, args)
    }

    /// The body of [`Self::attention`].
    fn run_attention(&self, op: &Attention, args: AttentionArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`AdaLayerNorm`].
    ///
    /// # Errors
    /// Those of [`AdaLayerNorm::validate`] and of a launch. Kernels take up to 4096 channels, or up to
    /// 8192 where all sizes are multiples of 8.
    fn ada_layer_norm(&self, op: &AdaLayerNorm, args: AdaLayerNormArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_ada_layer_norm(op, args)
    }

    /// The body of [`Self::ada_layer_norm`].
    fn run_ada_layer_norm(&self, op: &AdaLayerNorm, args: AdaLayerNormArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`LayerNorm`].
    ///
    /// # Errors
    /// Those of [`LayerNorm::validate`] and of a launch. Kernels take up to 4096 channels, or up to
    /// 8192 where all sizes are multiples of 8.
    fn layer_norm(&self, op: &LayerNorm, args: LayerNormArgs<'_, Self::Buffer, Self::Weight>) -> Result<()> {
        op.validate(&args)?;
        self.run_layer_norm(op, args)
    }

    /// The body of [`Self::layer_norm`].
    fn run_layer_norm(&self, op: &LayerNorm, args: LayerNormArgs<'_, Self::Buffer, Self::Weight>) -> Result<()>;

    /// [`RmsNorm`].
    ///
    /// # Errors
    /// Those of [`RmsNorm::validate`] and of a launch. Kernels take up to 4096 channels, or up to
    /// 8192 where all sizes are multiples of 8.
    fn rms_norm(&self, op: &RmsNorm, args: RmsNormArgs<'_, Self::Buffer, Self::Weight>) -> Result<()> {
        op.validate(&args)?;
        self.run_rms_norm(op, args)
    }

    /// The body of [`Self::rms_norm`].
    fn run_rms_norm(&self, op: &RmsNorm, args: RmsNormArgs<'_, Self::Buffer, Self::Weight>) -> Result<()>;

    /// [`RowMoments`].
    ///
    /// # Errors
    /// Those of [`RowMoments::validate`] and of a launch.
    fn row_moments(&self, op: &RowMoments, args: RowMomentsArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_row_moments(op, args)
    }

    /// The body of [`Self::row_moments`].
    fn run_row_moments(&self, op: &RowMoments, args: RowMomentsArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`RowStatistics`].
    ///
    /// # Errors
    /// Those of [`RowStatistics::validate`] and of a launch.
    fn row_statistics(&self, op: &RowStatistics, args: RowStatisticsArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_row_statistics(op, args)
    }

    /// The body of [`Self::row_statistics`].
    fn run_row_statistics(&self, op: &RowStatistics, args: RowStatisticsArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`FoldNorm`].
    ///
    /// # Errors
    /// Those of [`FoldNorm::validate`] and of a launch.
    fn fold_norm(&self, op: &FoldNorm, args: FoldNormArgs<'_, Self::Buffer, Self::Weight>) -> Result<()> {
        op.validate(&args)?;
        self.run_fold_norm(op, args)
    }

    /// The body of [`Self::fold_norm`].
    fn run_fold_norm(&self, op: &FoldNorm, args: FoldNormArgs<'_, Self::Buffer, Self::Weight>) -> Result<()>;

    /// [`FoldEnlargement`].
    ///
    /// # Errors
    /// Those of [`FoldEnlargement::validate`] and of a launch.
    fn fold_enlargement(&self, op: &FoldEnlargement, args: FoldEnlargementArgs<'_, Self::Weight>) -> Result<()> {
        op.validate(&args)?;
        self.run_fold_enlargement(op, args)
    }

    /// The body of [`Self::fold_enlargement`].
    fn run_fold_enlargement(&self, op: &FoldEnlargement, args: FoldEnlargementArgs<'_, Self::Weight>) -> Result<()>;

    /// [`Conv3d`].
    ///
    /// # Errors
    /// Those of [`Conv3d::validate`] and of a launch. Kernels make moments of groups of up to 128 channels, or 64
    /// where the input channels are not a multiple of 8.
    fn conv3d(&self, op: &Conv3d, args: ConvArgs<'_, Self::Buffer, Self::Weight>) -> Result<()> {
        op.validate(&args, |moments| self.moments_len(moments))?;
        self.run_conv3d(op, args)
    }

    /// The body of [`Self::conv3d`].
    fn run_conv3d(&self, op: &Conv3d, args: ConvArgs<'_, Self::Buffer, Self::Weight>) -> Result<()>;

    /// [`DepthwiseConv`].
    ///
    /// # Errors
    /// Those of [`DepthwiseConv::validate`] and of a launch.
    fn depthwise_conv(
        &self,
        op: &DepthwiseConv,
        args: DepthwiseConvArgs<'_, Self::Buffer, Self::Weight>,
    ) -> Result<()> {
        op.validate(&args)?;
        self.run_depthwise_conv(op, args)
    }

    /// The body of [`Self::depthwise_conv`].
    fn run_depthwise_conv(
        &self,
        op: &DepthwiseConv,
        args: DepthwiseConvArgs<'_, Self::Buffer, Self::Weight>,
    ) -> Result<()>;

    /// Elements of this backend's buffer for [`Moments`].
    fn moments_len(&self, moments: &Moments) -> usize;

    /// Elements of this backend's buffer for [`Statistics`] of `frames` frames and `groups` groups.
    fn statistics_len(&self, frames: usize, groups: usize) -> usize;

    /// A buffer for [`Moments`].
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn alloc_moments(&self, moments: &Moments) -> Result<Self::Buffer> {
        self.alloc_f32(self.moments_len(moments))
    }

    /// A buffer for [`Statistics`].
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn alloc_statistics(&self, statistics: &Statistics) -> Result<Self::Buffer> {
        self.alloc_f32(self.statistics_len(statistics.frames, statistics.groups))
    }

    /// [`Moments`].
    ///
    /// # Errors
    /// Those of [`Moments::validate`] and of a launch.
    fn group_moments(&self, op: &Moments, args: MomentsArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args, self.moments_len(op))?;
        self.run_group_moments(op, args)
    }

    /// The body of [`Self::group_moments`].
    fn run_group_moments(&self, op: &Moments, args: MomentsArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`Statistics`].
    ///
    /// # Errors
    /// Those of [`Statistics::validate`] and of a launch.
    fn group_statistics(&self, op: &Statistics, args: StatisticsArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args, self.statistics_len(op.frames, op.groups), |moments| self.moments_len(moments))?;
        self.run_group_statistics(op, args)
    }

    /// The body of [`Self::group_statistics`].
    fn run_group_statistics(&self, op: &Statistics, args: StatisticsArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`GroupNorm`].
    ///
    /// # Errors
    /// Those of [`GroupNorm::validate`] and of a launch.
    fn group_norm(&self, op: &GroupNorm, args: GroupNormArgs<'_, Self::Buffer, Self::Weight>) -> Result<()> {
        op.validate(&args, self.statistics_len(op.video_frame + op.frames, op.groups))?;
        self.run_group_norm(op, args)
    }

    /// The body of [`Self::group_norm`].
    fn run_group_norm(&self, op: &GroupNorm, args: GroupNormArgs<'_, Self::Buffer, Self::Weight>) -> Result<()>;

    /// [`TimeAverage`].
    ///
    /// # Errors
    /// Those of [`TimeAverage::validate`] and of a launch.
    fn time_average(&self, op: &TimeAverage, args: TimeAverageArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_time_average(op, args)
    }

    /// The body of [`Self::time_average`].
    fn run_time_average(&self, op: &TimeAverage, args: TimeAverageArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`TimeDouble`].
    ///
    /// # Errors
    /// Those of [`TimeDouble::validate`] and of a launch.
    fn time_double(&self, op: &TimeDouble, args: TimeDoubleArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_time_double(op, args)
    }

    /// The body of [`Self::time_double`].
    fn run_time_double(&self, op: &TimeDouble, args: TimeDoubleArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`RegroupFrames`].
    ///
    /// # Errors
    /// Those of [`RegroupFrames::validate`] and of a launch.
    fn regroup_frames(&self, op: &RegroupFrames, args: RegroupFramesArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_regroup_frames(op, args)
    }

    /// The body of [`Self::regroup_frames`].
    fn run_regroup_frames(&self, op: &RegroupFrames, args: RegroupFramesArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`Embedding`].
    ///
    /// # Errors
    /// Those of [`Embedding::validate`], of [`Self::alloc`] for the ids, and of a launch.
    fn embedding(&self, op: &Embedding, args: EmbeddingArgs<'_, Self::Buffer, Self::Weight>) -> Result<()> {
        op.validate(&args)?;
        self.run_embedding(op, args)
    }

    /// The body of [`Self::embedding`].
    fn run_embedding(&self, op: &Embedding, args: EmbeddingArgs<'_, Self::Buffer, Self::Weight>) -> Result<()>;

    /// [`AddRows`].
    ///
    /// # Errors
    /// Those of [`AddRows::validate`] and of a launch.
    fn add_rows(&self, op: &AddRows, args: AddRowsArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_add_rows(op, args)
    }

    /// The body of [`Self::add_rows`].
    fn run_add_rows(&self, op: &AddRows, args: AddRowsArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`PatchEmbed`].
    ///
    /// # Errors
    /// Those of [`PatchEmbed::validate`] and of a launch.
    fn patch_embed(&self, op: &PatchEmbed, args: PatchEmbedArgs<'_, Self::Buffer, Self::Weight>) -> Result<()> {
        op.validate(&args)?;
        self.run_patch_embed(op, args)
    }

    /// The body of [`Self::patch_embed`].
    fn run_patch_embed(&self, op: &PatchEmbed, args: PatchEmbedArgs<'_, Self::Buffer, Self::Weight>) -> Result<()>;

    /// [`Unpatchify`].
    ///
    /// # Errors
    /// Those of [`Unpatchify::validate`] and of a launch.
    fn unpatchify(&self, op: &Unpatchify, args: UnpatchifyArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_unpatchify(op, args)
    }

    /// The body of [`Self::unpatchify`].
    fn run_unpatchify(&self, op: &Unpatchify, args: UnpatchifyArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`Combine`].
    ///
    /// # Errors
    /// Those of [`Combine::validate`] and of a launch.
    fn combine(&self, op: &Combine<'_>, args: CombineArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_combine(op, args)
    }

    /// The body of [`Self::combine`].
    fn run_combine(&self, op: &Combine<'_>, args: CombineArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`Hold`].
    ///
    /// # Errors
    /// Those of [`Hold::validate`] and of a launch.
    fn hold(&self, op: &Hold, args: HoldArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_hold(op, args)
    }

    /// The body of [`Self::hold`].
    fn run_hold(&self, op: &Hold, args: HoldArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`CopyBox`].
    ///
    /// # Errors
    /// Those of [`CopyBox::validate`] and of a launch.
    fn copy_box(&self, op: &CopyBox, args: CopyBoxArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_copy_box(op, args)
    }

    /// The body of [`Self::copy_box`].
    fn run_copy_box(&self, op: &CopyBox, args: CopyBoxArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`BlendBox`].
    ///
    /// # Errors
    /// Those of [`BlendBox::validate`] and of a launch.
    fn blend_box(&self, op: &BlendBox, args: BlendBoxArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_blend_box(op, args)
    }

    /// The body of [`Self::blend_box`].
    fn run_blend_box(&self, op: &BlendBox, args: BlendBoxArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`FromBytes`].
    ///
    /// # Errors
    /// Those of [`FromBytes::validate`], of [`Self::alloc`] for the bytes, and of a launch.
    #[expect(clippy::wrong_self_convention, reason = "what is made of bytes is an operand, not a backend")]
    fn from_bytes(&self, op: &FromBytes, args: FromBytesArgs<'_, Self::Buffer>) -> Result<()> {
        op.validate(&args)?;
        self.run_from_bytes(op, args)
    }

    /// The body of [`Self::from_bytes`].
    fn run_from_bytes(&self, op: &FromBytes, args: FromBytesArgs<'_, Self::Buffer>) -> Result<()>;

    /// [`ToBytes`], on their way to the host: what is computed from here on may change `x`, or drop it.
    ///
    /// # Errors
    /// Those of [`ToBytes::validate`], of [`Self::alloc`] for the bytes, and of a launch. [`Arriving::bytes`]
    /// tells what goes wrong later.
    fn to_bytes(&self, op: &ToBytes, args: ToBytesArgs<'_, Self::Buffer>) -> Result<Box<dyn Arriving>> {
        op.validate(&args)?;
        self.run_to_bytes(op, args)
    }

    /// The body of [`Self::to_bytes`].
    fn run_to_bytes(&self, op: &ToBytes, args: ToBytesArgs<'_, Self::Buffer>) -> Result<Box<dyn Arriving>>;

    /// [`Distance`], its sums on their way to the host, as for [`Self::to_bytes`].
    ///
    /// # Errors
    /// Those of [`Distance::validate`], and of [`Self::to_bytes`] for the sums.
    fn distance(&self, op: &Distance, args: DistanceArgs<'_, Self::Buffer>) -> Result<Box<dyn Arriving>> {
        op.validate(&args)?;
        self.run_distance(op, args)
    }

    /// The body of [`Self::distance`].
    fn run_distance(&self, op: &Distance, args: DistanceArgs<'_, Self::Buffer>) -> Result<Box<dyn Arriving>>;

    /// [`Finite`], its counts on their way to the host, as for [`Self::to_bytes`].
    ///
    /// # Errors
    /// Those of [`Finite::validate`], and of [`Self::to_bytes`] for the counts.
    fn finite(&self, op: &Finite, args: FiniteArgs<'_, Self::Buffer>) -> Result<Box<dyn Arriving>> {
        op.validate(&args)?;
        self.run_finite(op, args)
    }

    /// The body of [`Self::finite`].
    fn run_finite(&self, op: &Finite, args: FiniteArgs<'_, Self::Buffer>) -> Result<Box<dyn Arriving>>;
}

//! `Backend`: the fused operations that the models are written in.
//!
//! It is not a tensor API: a buffer is a run of elements, its shape is in the descriptor of each operation
//! (see [`crate::ops`]), and the caller provides every output. Layouts are NTHWC and token-major throughout.

use crate::arriving::Arriving;
use crate::error::Result;
use crate::ops::attention::{Attention, AttentionExtras};
use crate::ops::conv3d::{Conv3d, ConvExtras, DepthwiseConv};
use crate::ops::embed::{AddRows, Embedding};
use crate::ops::finite::Finite;
use crate::ops::gemm::Linear;
use crate::ops::groupnorm::{GroupNorm, Moments, Statistics};
use crate::ops::norm::{AdaLayerNorm, LayerNorm, RmsNorm};
use crate::ops::patch::{PatchEmbed, Unpatchify};
use crate::ops::resample::{RegroupFrames, TimeAverage, TimeDouble};
use crate::ops::sampler::Combine;
use crate::ops::tile::{BlendBox, CopyBox, ToBytes};
use crate::tensor::Tensor;

/// A run of elements on a device. Dropping it gives the memory back.
pub trait DeviceBuffer {
    /// Elements.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A parameter on a device, in the engine's layout.
pub trait DeviceWeight {
    /// Its shape: linear `[out, in]`, convolution `[cout, kt, kh, kw, cin]`, vector `[n]`.
    fn shape(&self) -> &[usize];

    /// Elements.
    fn len(&self) -> usize {
        self.shape().iter().product()
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A device that runs the model. One implementation per kind of device; models are generic over it.
///
/// Every operation validates its descriptor against its arguments first and fails with [`crate::Error::Shape`].
/// Freshly allocated buffers hold unspecified values.
pub trait Backend {
    /// Activations.
    type Buffer: DeviceBuffer;
    /// Parameters.
    type Weight: DeviceWeight;

    /// What this is, for messages and records, e.g. `cpu (2 threads, AVX-512)`.
    fn name(&self) -> String;

    /// The largest magnitude that an activation can have.
    fn largest(&self) -> f32;

    /// A buffer of `len` activations with unspecified contents, in the device's precision.
    fn alloc(&self, len: usize) -> Result<Self::Buffer>;

    /// A buffer of `len` f32 values with unspecified contents: the states of samplers.
    fn alloc_f32(&self, len: usize) -> Result<Self::Buffer>;

    /// Activations with the values of `host`, rounded to the device's precision.
    fn upload(&self, host: &[f32]) -> Result<Self::Buffer>;

    /// The values of `host` in f32: states of samplers, masks, biases and rotations of attention.
    fn upload_f32(&self, host: &[f32]) -> Result<Self::Buffer>;

    /// Copies `host.len()` elements from `offset` on to the host.
    fn download(&self, buffer: &Self::Buffer, offset: usize, host: &mut [f32]) -> Result<()>;

    /// Brings parameters to the device: one tensor, or several of equal trailing shape stacked along the first axis.
    /// Values keep their stored precision.
    fn weight(&self, parts: Vec<Tensor>) -> Result<Self::Weight>;

    /// The same, on its way: the parameter's memory is taken now, and its values are brought by the next
    /// [`Self::bring_ahead`], beside what is launched between the two calls. Nothing may use it before
    /// [`Self::join_ahead`].
    fn weight_ahead(&self, parts: Vec<Tensor>) -> Result<Self::Weight> {
        self.weight(parts)
    }

    /// Starts to bring the values of everything from [`Self::weight_ahead`].
    fn bring_ahead(&self) -> Result<()> {
        Ok(())
    }

    /// What is called from here on finds the values that were brought.
    fn join_ahead(&self) -> Result<()> {
        Ok(())
    }

    /// A small parameter's values (mix factors, modulation tables) on the host.
    fn weight_values(&self, weight: &Self::Weight) -> Result<Vec<f32>>;

    /// [`Linear`]; `gate` belongs to [`crate::ops::gemm::Store::AddGated`].
    fn linear(
        &self,
        op: &Linear,
        x: &Self::Buffer,
        weight: &Self::Weight,
        bias: Option<&Self::Weight>,
        gate: Option<&Self::Buffer>,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// [`Attention`].
    fn attention(
        &self,
        op: &Attention,
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
        extras: AttentionExtras<'_, Self::Buffer>,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// [`AdaLayerNorm`].
    fn ada_layer_norm(
        &self,
        op: &AdaLayerNorm,
        x: &Self::Buffer,
        modulation: &Self::Buffer,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// [`LayerNorm`].
    fn layer_norm(
        &self,
        op: &LayerNorm,
        x: &Self::Buffer,
        weight: &Self::Weight,
        bias: &Self::Weight,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// [`RmsNorm`].
    fn rms_norm(&self, op: &RmsNorm, x: &Self::Buffer, weight: &Self::Weight, out: &mut Self::Buffer) -> Result<()>;

    /// [`Conv3d`].
    fn conv3d(
        &self,
        op: &Conv3d,
        x: &Self::Buffer,
        weight: &Self::Weight,
        extras: ConvExtras<'_, Self::Buffer, Self::Weight>,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// [`DepthwiseConv`].
    fn depthwise_conv(
        &self,
        op: &DepthwiseConv,
        x: &Self::Buffer,
        weight: &Self::Weight,
        bias: &Self::Weight,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// Room for [`Moments`], as this backend keeps them.
    fn alloc_moments(&self, moments: &Moments) -> Result<Self::Buffer>;

    /// Room for [`Statistics`], as this backend keeps them.
    fn alloc_statistics(&self, statistics: &Statistics) -> Result<Self::Buffer>;

    /// [`Moments`].
    fn group_moments(&self, op: &Moments, x: &Self::Buffer, moments: &mut Self::Buffer) -> Result<()>;

    /// [`Statistics`]; `stretches`: the moments of the video's stretches of time, and how many frames each has, in order.
    fn group_statistics(
        &self,
        op: &Statistics,
        stretches: &[(&Self::Buffer, usize)],
        statistics: &mut Self::Buffer,
    ) -> Result<()>;

    /// [`GroupNorm`].
    fn group_norm(
        &self,
        op: &GroupNorm,
        x: &Self::Buffer,
        statistics: &Self::Buffer,
        weight: &Self::Weight,
        bias: &Self::Weight,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// [`TimeAverage`].
    fn time_average(&self, op: &TimeAverage, x: &Self::Buffer, out: &mut Self::Buffer) -> Result<()>;

    /// [`TimeDouble`].
    fn time_double(&self, op: &TimeDouble, x: &Self::Buffer, out: &mut Self::Buffer) -> Result<()>;

    /// [`RegroupFrames`].
    fn regroup_frames(&self, op: &RegroupFrames, x: &Self::Buffer, out: &mut Self::Buffer) -> Result<()>;

    /// [`Embedding`].
    fn embedding(&self, op: &Embedding, ids: &[u32], table: &Self::Weight, out: &mut Self::Buffer) -> Result<()>;

    /// [`AddRows`].
    fn add_rows(&self, op: &AddRows, table: &Self::Buffer, x: &mut Self::Buffer) -> Result<()>;

    /// [`PatchEmbed`].
    fn patch_embed(
        &self,
        op: &PatchEmbed,
        x: &Self::Buffer,
        weight: &Self::Weight,
        bias: &Self::Weight,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// [`Unpatchify`].
    fn unpatchify(&self, op: &Unpatchify, x: &Self::Buffer, out: &mut Self::Buffer) -> Result<()>;

    /// [`Combine`].
    fn combine(&self, op: &Combine<'_>, inputs: &[&Self::Buffer], out: &mut Self::Buffer) -> Result<()>;

    /// [`CopyBox`].
    fn copy_box(&self, op: &CopyBox, x: &Self::Buffer, out: &mut Self::Buffer) -> Result<()>;

    /// [`BlendBox`].
    fn blend_box(&self, op: &BlendBox, neighbour: &Self::Buffer, tile: &mut Self::Buffer) -> Result<()>;

    /// [`ToBytes`], on their way to the host: what is computed from here on may change `x`, or drop it.
    fn to_bytes(&self, op: &ToBytes, x: &Self::Buffer) -> Result<Box<dyn Arriving>>;

    /// [`Finite`], its counts on their way to the host, as for [`Self::to_bytes`].
    fn finite(&self, op: &Finite, x: &Self::Buffer) -> Result<Box<dyn Arriving>>;
}

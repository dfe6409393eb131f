//! One transformer block: self-attention, cross-attention (spatial blocks only), feed-forward, each added to the tokens.

use super::{LatteConfig, Shape};
use crate::backend::Backend;
use crate::error::Result;
use crate::model::layers::Projection;
use crate::ops::attention::{Attention, AttentionExtras, TokenLayout};
use crate::ops::conv3d::DepthwiseConv;
use crate::ops::gemm::{Activation, Store};
use crate::ops::norm::{AdaLayerNorm, LayerNorm};
use crate::weights::{Role, Scope};

/// Which tokens attend to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// Those of a frame.
    Space,
    /// Those of a position.
    Time,
}

/// Epsilon of the norm behind the key-value convolution.
const COMPRESSED_NORM_EPS: f32 = 1e-5;

#[derive(Debug)]
pub(super) struct Block<W> {
    axis: Axis,
    /// `[6, D]`: shift, scale, gate of the attention, then of the feed-forward
    pub scale_shift_table: W,
    attention: SelfAttention<W>,
    /// Spatial blocks only.
    pub cross: Option<CrossAttention<W>>,
    /// `[4D, D]`
    ff_in: Projection<W>,
    /// `[D, 4D]`
    ff_out: Projection<W>,
}

#[derive(Debug)]
enum SelfAttention<W> {
    Plain {
        /// q, k and v, `[3D, D]`
        qkv: Projection<W>,
        to_out: Projection<W>,
    },
    /// Keys and values from a strided convolution of the tokens.
    Compressed {
        /// `[D, r, r]` or `[D, r]`
        sr_weight: W,
        /// `[D]`
        sr_bias: W,
        /// `[D]`
        norm_weight: W,
        /// `[D]`
        norm_bias: W,
        factor: usize,
        to_q: Projection<W>,
        /// k and v, `[2D, D]`
        kv: Projection<W>,
        to_out: Projection<W>,
    },
}

#[derive(Debug)]
pub(super) struct CrossAttention<W> {
    to_q: Projection<W>,
    /// k and v, `[2D, D]`
    pub kv: Projection<W>,
    to_out: Projection<W>,
}

/// Buffers that every block reuses; all have `rows` tokens.
pub(super) struct Workspace<B: Backend> {
    /// `[N, 6D]`
    pub modulation: B::Buffer,
    /// `[rows, D]`
    normed: B::Buffer,
    /// `[rows, 3D]`
    qkv: B::Buffer,
    /// `[rows, D]`
    query: B::Buffer,
    /// `[rows, D]`
    attended: B::Buffer,
    /// `[rows, 4D]`
    hidden: B::Buffer,
}

impl<B: Backend> Workspace<B> {
    pub fn new(backend: &B, shape: &Shape, channels: usize) -> Result<Self> {
        let rows = shape.rows();
        Ok(Self {
            modulation: backend.alloc(shape.samples * 6 * channels)?,
            normed: backend.alloc(rows * channels)?,
            qkv: backend.alloc(rows * 3 * channels)?,
            query: backend.alloc(rows * channels)?,
            attended: backend.alloc(rows * channels)?,
            hidden: backend.alloc(rows * 4 * channels)?,
        })
    }

    /// The normed tokens, for the output layer, once the blocks are done with them.
    pub fn normed(&mut self) -> &mut B::Buffer {
        &mut self.normed
    }
}

/// What a block is given besides the tokens it changes.
pub(super) struct Inputs<'a, Buffer> {
    pub shape: &'a Shape,
    /// Cosines and sines of the block's axis.
    pub rope: Option<&'a Buffer>,
    /// Read by spatial blocks only.
    pub text: TextKv<'a, Buffer>,
}

/// Keys and values of the text for one block, and what masks them.
pub(super) struct TextKv<'a, Buffer> {
    /// `[N·tokens, 2D]`
    pub kv: &'a Buffer,
    pub tokens: usize,
    /// `[N, tokens]`, added to the scores
    pub mask: Option<&'a Buffer>,
}

impl<W> Block<W> {
    pub fn build(c: &LatteConfig, axis: Axis, compressed: bool, mut scope: Scope<'_, W>) -> Result<Self> {
        let d = c.channels();
        let scale_shift_table = scope.plain("scale_shift_table", &[6, d])?;
        let attention = SelfAttention::build(c, axis, compressed, scope.at("attn1"))?;
        let cross = match axis {
            Axis::Space => Some(CrossAttention::build(c, scope.at("attn2"))?),
            Axis::Time => None,
        };
        let ff_in = Projection::build(scope.at("ff.net.0.proj"), d, 4 * d, true)?;
        let ff_out = Projection::build(scope.at("ff.net.2"), 4 * d, d, true)?;
        Ok(Self { axis, scale_shift_table, attention, cross, ff_in, ff_out })
    }

    /// `h [N, T, S, D]` in place; `work.modulation` holds this block's table plus the timestep's six vectors.
    pub fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        c: &LatteConfig,
        inputs: &Inputs<'_, B::Buffer>,
        work: &mut Workspace<B>,
        h: &mut B::Buffer,
    ) -> Result<()> {
        let shape = inputs.shape;
        let (d, rows) = (c.channels(), shape.rows());
        let per_sample = shape.frames * shape.positions();
        let norm = |shift: usize, scale: usize| AdaLayerNorm {
            rows,
            channels: d,
            eps: c.norm_eps,
            rows_per_modulation: per_sample,
            modulation_stride: 6 * d,
            shift: shift * d,
            scale: scale * d,
        };
        let gate =
            |gate: usize| Store::AddGated { rows_per_gate: per_sample, gate_stride: 6 * d, gate_offset: gate * d };

        backend.ada_layer_norm(&norm(0, 1), h, &work.modulation, &mut work.normed)?;
        let to_out = self.attention.run(backend, c, self.axis, inputs, work)?;
        to_out.add(backend, rows, &work.attended, gate(2), Some(&work.modulation), h)?;

        if let Some(cross) = &self.cross {
            cross.run(backend, c, inputs, work, h)?;
        }

        backend.ada_layer_norm(&norm(3, 4), h, &work.modulation, &mut work.normed)?;
        self.ff_in.run(backend, rows, &work.normed, Activation::GeluTanh, &mut work.hidden)?;
        self.ff_out.add(backend, rows, &work.hidden, gate(5), Some(&work.modulation), h)
    }
}

impl<W> SelfAttention<W> {
    fn build(c: &LatteConfig, axis: Axis, compressed: bool, mut scope: Scope<'_, W>) -> Result<Self> {
        let (d, bias) = (c.channels(), c.attention_bias);
        if !compressed {
            let qkv = Projection::stacked(&mut scope, &["to_q", "to_k", "to_v"], d, d, bias)?;
            return Ok(Self::Plain { qkv, to_out: Projection::build(scope.at("to_out.0"), d, d, true)? });
        }
        let factor = c.compress_kv_factor;
        let kernel: &[usize] = match axis {
            Axis::Space => &[d, 1, factor, factor],
            Axis::Time => &[d, 1, factor],
        };
        Ok(Self::Compressed {
            sr_weight: scope.get("sr.weight", kernel, Role::Depthwise)?,
            sr_bias: scope.plain("sr.bias", &[d])?,
            norm_weight: scope.plain("norm.weight", &[d])?,
            norm_bias: scope.plain("norm.bias", &[d])?,
            factor,
            to_q: Projection::build(scope.at("to_q"), d, d, bias)?,
            kv: Projection::stacked(&mut scope, &["to_k", "to_v"], d, d, bias)?,
            to_out: Projection::build(scope.at("to_out.0"), d, d, true)?,
        })
    }

    /// Attention of `work.normed` into `work.attended`; returns the output layer, which the caller fuses with its gate.
    fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        c: &LatteConfig,
        axis: Axis,
        inputs: &Inputs<'_, B::Buffer>,
        work: &mut Workspace<B>,
    ) -> Result<&Projection<W>> {
        let shape = inputs.shape;
        let (d, rows) = (c.channels(), shape.rows());
        let tokens = |offset: usize, row: usize| layout(axis, shape.frames, shape.positions(), offset, row);
        let (inner, queries) = match axis {
            Axis::Space => (shape.frames, shape.positions()),
            Axis::Time => (shape.positions(), shape.frames),
        };
        let mut op = Attention {
            outer: shape.samples,
            inner,
            heads: c.num_attention_heads,
            head_dim: c.attention_head_dim,
            queries,
            keys: queries,
            scale: (c.attention_head_dim as f32).sqrt().recip(),
            q: tokens(0, 3 * d),
            k: tokens(d, 3 * d),
            v: tokens(2 * d, 3 * d),
            out: tokens(0, d),
            rope_group: match axis {
                Axis::Space => c.attention_head_dim / 2,
                Axis::Time => c.attention_head_dim,
            },
        };
        match self {
            Self::Plain { qkv, to_out } => {
                qkv.run(backend, rows, &work.normed, Activation::None, &mut work.qkv)?;
                let extras = AttentionExtras { rope: inputs.rope, ..Default::default() };
                backend.attention(&op, &work.qkv, &work.qkv, &work.qkv, extras, &mut work.attended)?;
                Ok(to_out)
            }
            Self::Compressed { sr_weight, sr_bias, norm_weight, norm_bias, factor, to_q, kv, to_out } => {
                let conv = compression(axis, shape, d, *factor);
                let kv_rows =
                    conv.out_tokens() * if axis == Axis::Space { shape.samples * shape.frames } else { shape.samples };
                let mut shortened = backend.alloc(kv_rows * d)?;
                let mut normed = backend.alloc(kv_rows * d)?;
                let mut key_values = backend.alloc(kv_rows * 2 * d)?;
                backend.depthwise_conv(&conv, &work.normed, sr_weight, sr_bias, &mut shortened)?;
                let norm = LayerNorm { rows: kv_rows, channels: d, eps: COMPRESSED_NORM_EPS };
                backend.layer_norm(&norm, &shortened, norm_weight, norm_bias, &mut normed)?;
                to_q.run(backend, rows, &work.normed, Activation::None, &mut work.query)?;
                kv.run(backend, kv_rows, &normed, Activation::None, &mut key_values)?;
                let (frames, positions) = match axis {
                    Axis::Space => (shape.frames, conv.out_tokens()),
                    Axis::Time => (conv.out_tokens() / shape.positions(), shape.positions()),
                };
                op.keys = if axis == Axis::Space { positions } else { frames };
                op.q = tokens(0, d);
                op.k = layout(axis, frames, positions, 0, 2 * d);
                op.v = layout(axis, frames, positions, d, 2 * d);
                backend.attention(
                    &op,
                    &work.query,
                    &key_values,
                    &key_values,
                    AttentionExtras::default(),
                    &mut work.attended,
                )?;
                Ok(to_out)
            }
        }
    }
}

/// Layout of `[N, frames, positions, row]` for attention along `axis`.
fn layout(axis: Axis, frames: usize, positions: usize, offset: usize, row: usize) -> TokenLayout {
    let (inner_stride, token_stride) = match axis {
        Axis::Space => (positions * row, row),
        Axis::Time => (row, positions * row),
    };
    TokenLayout { offset, outer_stride: frames * positions * row, inner_stride, token_stride }
}

fn compression(axis: Axis, shape: &Shape, channels: usize, factor: usize) -> DepthwiseConv {
    match axis {
        Axis::Space => DepthwiseConv::Space {
            outer: shape.samples * shape.frames,
            height: shape.rows,
            width: shape.columns,
            channels,
            factor,
        },
        Axis::Time => DepthwiseConv::Time {
            outer: shape.samples,
            frames: shape.frames,
            positions: shape.positions(),
            channels,
            factor,
        },
    }
}

impl<W> CrossAttention<W> {
    fn build(c: &LatteConfig, mut scope: Scope<'_, W>) -> Result<Self> {
        let (d, bias) = (c.channels(), c.attention_bias);
        Ok(Self {
            to_q: Projection::build(scope.at("to_q"), d, d, bias)?,
            kv: Projection::stacked(&mut scope, &["to_k", "to_v"], d, d, bias)?,
            to_out: Projection::build(scope.at("to_out.0"), d, d, true)?,
        })
    }

    /// `h += attention(h, text)`: no norm before it, no gate behind it. All frames share the text's keys.
    fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        c: &LatteConfig,
        inputs: &Inputs<'_, B::Buffer>,
        work: &mut Workspace<B>,
        h: &mut B::Buffer,
    ) -> Result<()> {
        let (shape, text) = (inputs.shape, &inputs.text);
        let (d, rows) = (c.channels(), shape.rows());
        self.to_q.run(backend, rows, h, Activation::None, &mut work.query)?;
        let queries = layout(Axis::Space, shape.frames, shape.positions(), 0, d);
        let keys = |offset: usize| TokenLayout {
            offset,
            outer_stride: text.tokens * 2 * d,
            inner_stride: 0,
            token_stride: 2 * d,
        };
        let op = Attention {
            outer: shape.samples,
            inner: shape.frames,
            heads: c.num_attention_heads,
            head_dim: c.attention_head_dim,
            queries: shape.positions(),
            keys: text.tokens,
            scale: (c.attention_head_dim as f32).sqrt().recip(),
            q: queries,
            k: keys(0),
            v: keys(d),
            out: queries,
            rope_group: c.attention_head_dim,
        };
        let extras = AttentionExtras { mask: text.mask, ..Default::default() };
        backend.attention(&op, &work.query, text.kv, text.kv, extras, &mut work.attended)?;
        self.to_out.add(backend, rows, &work.attended, Store::Add, None, h)
    }
}

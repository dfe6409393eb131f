//! One transformer block: self-attention, cross-attention (spatial blocks only), feed-forward, each added to the tokens.
//!
//! To save memory, attention can take some of its heads at a time, which do not depend on each other, and the feed-forward some
//! of the tokens. Buffers live only while they are needed.

use super::inputs::Inputs;
use super::norm::{Normed, Tokens, separate};
use super::{LatteConfig, Shape};
use crate::backend::Backend;
use crate::error::Result;
use crate::model::layers::{Adding, Projection, Rows, ranges};
use crate::ops::attention::{Attention, AttentionArgs, TokenLayout};
use crate::ops::conv3d::{DepthwiseConv, DepthwiseConvArgs};
use crate::ops::gemm::{Activation, Store};
use crate::ops::norm::{LayerNorm, LayerNormArgs};
use crate::weights::{Role, Scope};

/// Which tokens attend to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// The tokens of a frame.
    Space,
    /// The tokens of a position.
    Time,
}

/// Vectors of the modulation for the norm in front of self-attention: shift and scale.
const NORM: [usize; 2] = [0, 1];

/// Epsilon of the norm behind the key-value convolution.
const COMPRESSED_NORM_EPS: f32 = 1e-5;

#[derive(Debug)]
pub(super) struct Block<W> {
    axis: Axis,
    attention: SelfAttention<W>,
    /// Spatial blocks only.
    cross: Option<CrossAttention<W>>,
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
struct CrossAttention<W> {
    to_q: Projection<W>,
    to_out: Projection<W>,
}

/// The weights of a pair of blocks that are used once a prompt.
#[derive(Debug)]
pub(super) struct OncePerPrompt<W> {
    /// k and v of the spatial block's cross-attention, `[2D, D]`
    pub text_kv: Projection<W>,
    /// Of the spatial and the temporal block, `[6, D]`: shift, scale, gate of the attention, then of the feed-forward
    pub scale_shift_tables: [W; 2],
}

impl<W> OncePerPrompt<W> {
    pub fn build(c: &LatteConfig, pair: usize, scope: &mut Scope<'_, W>) -> Result<Self> {
        let d = c.channels();
        let mut spatial = scope.at(format!("transformer_blocks.{pair}"));
        let text_kv = Projection::stacked(&mut spatial.at("attn2"), &["to_k", "to_v"], d, d, c.attention_bias)?;
        let table = spatial.plain("scale_shift_table", &[6, d])?;
        let mut temporal = scope.at(format!("temporal_transformer_blocks.{pair}"));
        Ok(Self { text_kv, scale_shift_tables: [table, temporal.plain("scale_shift_table", &[6, d])?] })
    }
}

impl<W> Block<W> {
    /// Block `index` in the order of execution: the spatial block of a pair, then its temporal block.
    pub fn build(c: &LatteConfig, index: usize, scope: &mut Scope<'_, W>) -> Result<Self> {
        let (d, pair) = (c.channels(), index / 2);
        let (axis, name) = match index % 2 {
            0 => (Axis::Space, "transformer_blocks"),
            _ => (Axis::Time, "temporal_transformer_blocks"),
        };
        let mut scope = scope.at(format!("{name}.{pair}"));
        let attention = SelfAttention::build(c, axis, c.compresses(pair), scope.at("attn1"))?;
        let cross = match axis {
            Axis::Space => Some(CrossAttention::build(c, scope.at("attn2"))?),
            Axis::Time => None,
        };
        let ff_in = Projection::build(scope.at("ff.net.0.proj"), d, 4 * d, true)?;
        let ff_out = Projection::build(scope.at("ff.net.2"), 4 * d, d, true)?;
        Ok(Self { axis, attention, cross, ff_in, ff_out })
    }

    /// The tokens in place.
    pub fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        c: &LatteConfig,
        inputs: &Inputs<'_, B::Buffer>,
        tokens: &mut Tokens<B>,
    ) -> Result<()> {
        let (attended, to_out) = self.attention.run(backend, c, self.axis, inputs, tokens)?;
        let (rows, adding) = (inputs.shape.all_rows(), gated(c, inputs, 2));
        let Some(cross) = &self.cross else {
            let (h, moments) = tokens.change_before_norm();
            to_out.add(backend, rows, &attended, Adding { moments, ..adding }, h)?;
            drop(attended);
            return self.feed_forward(backend, c, inputs, tokens);
        };
        to_out.add(backend, rows, &attended, adding, tokens.change())?;
        drop(attended);
        cross.run(backend, c, inputs, tokens)?;
        self.feed_forward(backend, c, inputs, tokens)
    }

    /// `h += gate·ff_out(gelu(ff_in(norm(h))))`, some of the tokens at a time.
    fn feed_forward<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        c: &LatteConfig,
        inputs: &Inputs<'_, B::Buffer>,
        tokens: &mut Tokens<B>,
    ) -> Result<()> {
        let all = inputs.shape.all_rows();
        let mut normed = Some(Normed::before(&self.ff_in, backend, c, inputs, [3, 4], tokens)?);
        let parts = ranges(all.count, inputs.parts);
        let mut hidden = backend.alloc(all.count.div_ceil(parts.len()) * 4 * c.channels())?;
        for part in parts {
            let rows = Rows { count: part.len(), ..all };
            let (layer, x) = normed.as_ref().expect("kept up to the last part").then(&self.ff_in, &tokens.h);
            layer.run(backend, Rows { x: part.start, ..rows }, x, Activation::GeluTanh, &mut hidden)?;
            if part.end == all.count {
                normed = None;
            }
            let (rows, adding) = (Rows { out: part.start, ..rows }, gated(c, inputs, 5));
            let (h, moments) = tokens.change_before_norm();
            self.ff_out.add(backend, rows, &hidden, Adding { moments, ..adding }, h)?;
        }
        Ok(())
    }
}

/// The tokens `h` in front of a block's self-attention: normed, shifted and scaled.
pub(super) fn attention_input<B: Backend>(
    backend: &B,
    c: &LatteConfig,
    inputs: &Inputs<'_, B::Buffer>,
    h: &B::Buffer,
) -> Result<B::Buffer> {
    separate(backend, c, inputs, NORM, h)
}

/// Addition through a vector of the modulation.
fn gated<'a, Buffer>(c: &LatteConfig, inputs: &Inputs<'a, Buffer>, vector: usize) -> Adding<'a, Buffer> {
    let (d, modulation) = (c.channels(), &inputs.modulation);
    let store = Store::AddGated {
        rows_per_gate: inputs.shape.rows_per_sample(),
        gate_stride: modulation.stride(d),
        gate_offset: modulation.at(vector, d),
    };
    Adding { store, gate: Some(modulation.vectors), moments: None }
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

    /// Attention of the normed tokens; also returns the output layer, which the caller fuses with its gate.
    fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        c: &LatteConfig,
        axis: Axis,
        inputs: &Inputs<'_, B::Buffer>,
        tokens: &mut Tokens<B>,
    ) -> Result<(B::Buffer, &Projection<W>)> {
        match self {
            Self::Plain { qkv, to_out } => Ok((plain_attention(backend, c, axis, inputs, qkv, tokens)?, to_out)),
            Self::Compressed { sr_weight, sr_bias, norm_weight, norm_bias, factor, to_q, kv, to_out } => {
                // The convolution, too, reads the normed tokens.
                let normed = separate(backend, c, inputs, NORM, &tokens.h)?;
                let conv = compression(axis, inputs.shape, c.channels(), *factor);
                let rows = compressed_rows(axis, inputs.shape, &conv);
                let elements = rows.count * c.channels();
                let mut shortened = backend.alloc(elements)?;
                let args = DepthwiseConvArgs { x: &normed, weight: sr_weight, bias: sr_bias, out: &mut shortened };
                backend.depthwise_conv(&conv, args)?;
                let norm = LayerNorm { rows: rows.count, channels: c.channels(), eps: COMPRESSED_NORM_EPS };
                let mut keys = backend.alloc(elements)?;
                let args = LayerNormArgs { x: &shortened, weight: norm_weight, bias: norm_bias, out: &mut keys };
                backend.layer_norm(&norm, args)?;
                drop(shortened);
                let tokens = conv.out_tokens();
                let attended =
                    compressed_attention(backend, c, axis, inputs, [to_q, kv], [&normed, &keys], (rows, tokens))?;
                Ok((attended, to_out))
            }
        }
    }
}

/// Self-attention along `axis`, of all heads or of some at a time. All tokens are queries and keys.
fn plain_attention<B: Backend>(
    backend: &B,
    c: &LatteConfig,
    axis: Axis,
    inputs: &Inputs<'_, B::Buffer>,
    qkv: &Projection<B::Weight>,
    tokens: &mut Tokens<B>,
) -> Result<B::Buffer> {
    let (shape, rows) = (inputs.shape, inputs.shape.all_rows());
    let (d, features) = (c.channels(), c.attention_head_dim);
    let mut normed = Some(Normed::before(qkv, backend, c, inputs, NORM, tokens)?);
    let layout_of = |offset: usize, row: usize| layout(axis, shape.frames, shape.positions(), offset, row);
    let parts = ranges(c.num_attention_heads, inputs.parts);
    let most = c.num_attention_heads.div_ceil(parts.len());
    let mut attended = None;
    let mut projected = backend.alloc(rows.count * 3 * most * features)?;
    for heads in parts {
        let columns = heads.start * features..heads.end * features;
        let (layer, x) = normed.as_ref().expect("kept up to the last part").then(qkv, &tokens.h);
        let placed = layer.columns(backend, rows, x, 3, &columns, &mut projected)?;
        if heads.end == c.num_attention_heads {
            normed = None;
        }
        let attended = match &mut attended {
            Some(attended) => attended,
            none => none.insert(backend.alloc(rows.count * d)?),
        };
        let op = Attention {
            heads: heads.len(),
            q: layout_of(0, placed.row),
            k: layout_of(placed.layer, placed.row),
            v: layout_of(2 * placed.layer, placed.row),
            out: layout_of(columns.start, d),
            ..attention_along(axis, c, shape)
        };
        let args = AttentionArgs::new([&projected; 3], attended);
        backend.attention(&op, AttentionArgs { rope: inputs.rope, ..args })?;
    }
    Ok(attended.expect("there is a head"))
}

/// As [`plain_attention`], with keys and values from fewer tokens: `rows` in all, `kept` of a frame or of a sample.
fn compressed_attention<B: Backend>(
    backend: &B,
    c: &LatteConfig,
    axis: Axis,
    inputs: &Inputs<'_, B::Buffer>,
    [to_q, kv]: [&Projection<B::Weight>; 2],
    [normed, keys]: [&B::Buffer; 2],
    (rows, kept): (Rows, usize),
) -> Result<B::Buffer> {
    let (shape, queries) = (inputs.shape, inputs.shape.all_rows());
    let (d, features) = (c.channels(), c.attention_head_dim);
    let (frames, positions) = match axis {
        Axis::Space => (shape.frames, kept),
        Axis::Time => (kept / shape.positions(), shape.positions()),
    };
    let parts = ranges(c.num_attention_heads, inputs.parts);
    let most = c.num_attention_heads.div_ceil(parts.len()) * features;
    let mut query = backend.alloc(queries.count * most)?;
    let mut key_values = backend.alloc(rows.count * 2 * most)?;
    let mut attended = backend.alloc(queries.count * d)?;
    for heads in parts {
        let columns = heads.start * features..heads.end * features;
        let of_queries = to_q.columns(backend, queries, normed, 1, &columns, &mut query)?;
        let of_keys = kv.columns(backend, rows, keys, 2, &columns, &mut key_values)?;
        let op = Attention {
            heads: heads.len(),
            keys: if axis == Axis::Space { positions } else { frames },
            q: layout(axis, shape.frames, shape.positions(), 0, of_queries.row),
            k: layout(axis, frames, positions, 0, of_keys.row),
            v: layout(axis, frames, positions, of_keys.layer, of_keys.row),
            out: layout(axis, shape.frames, shape.positions(), columns.start, d),
            ..attention_along(axis, c, shape)
        };
        backend.attention(&op, AttentionArgs::new([&query, &key_values, &key_values], &mut attended))?;
    }
    Ok(attended)
}

/// Attention of all tokens of a frame or of a position to each other; the caller sets the layouts.
fn attention_along(axis: Axis, c: &LatteConfig, shape: &Shape) -> Attention {
    let (inner, queries, rope_group) = match axis {
        Axis::Space => (shape.frames, shape.positions(), c.attention_head_dim / 2),
        Axis::Time => (shape.positions(), shape.frames, c.attention_head_dim),
    };
    let nowhere = layout(axis, 0, 0, 0, 0);
    Attention {
        outer: shape.samples,
        inner,
        heads: c.num_attention_heads,
        head_dim: c.attention_head_dim,
        queries,
        keys: queries,
        scale: (c.attention_head_dim as f32).sqrt().recip(),
        q: nowhere,
        k: nowhere,
        v: nowhere,
        out: nowhere,
        rope_group,
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

/// Output tokens of the convolution, of all samples.
fn compressed_rows(axis: Axis, shape: &Shape, conv: &DepthwiseConv) -> Rows {
    let per_sample = conv.out_tokens() * if axis == Axis::Space { shape.frames } else { 1 };
    Rows { of: shape.batch * per_sample, ..Rows::from(shape.samples * per_sample) }
}

impl<W> CrossAttention<W> {
    fn build(c: &LatteConfig, mut scope: Scope<'_, W>) -> Result<Self> {
        let (d, bias) = (c.channels(), c.attention_bias);
        Ok(Self {
            to_q: Projection::build(scope.at("to_q"), d, d, bias)?,
            to_out: Projection::build(scope.at("to_out.0"), d, d, true)?,
        })
    }

    /// `h += attention(h, text)`: no norm before it, no gate behind it, but a norm next. All frames share the text's keys.
    fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        c: &LatteConfig,
        inputs: &Inputs<'_, B::Buffer>,
        tokens: &mut Tokens<B>,
    ) -> Result<()> {
        let (shape, text, rows) = (inputs.shape, &inputs.text, inputs.shape.all_rows());
        let (d, features) = (c.channels(), c.attention_head_dim);
        let queries = |offset: usize, row: usize| layout(Axis::Space, shape.frames, shape.positions(), offset, row);
        let keys = |offset: usize| TokenLayout {
            offset,
            outer_stride: text.tokens * 2 * d,
            inner_stride: 0,
            token_stride: 2 * d,
        };
        let parts = ranges(c.num_attention_heads, inputs.parts);
        let mut query = backend.alloc(rows.count * c.num_attention_heads.div_ceil(parts.len()) * features)?;
        let mut attended = backend.alloc(rows.count * d)?;
        for heads in parts {
            let columns = heads.start * features..heads.end * features;
            let placed = self.to_q.columns(backend, rows, &tokens.h, 1, &columns, &mut query)?;
            let op = Attention {
                heads: heads.len(),
                keys: text.tokens,
                q: queries(0, placed.row),
                k: keys(columns.start),
                v: keys(d + columns.start),
                out: queries(columns.start, d),
                rope_group: features,
                ..attention_along(Axis::Space, c, shape)
            };
            let args = AttentionArgs::new([&query, text.kv, text.kv], &mut attended);
            backend.attention(&op, AttentionArgs { mask: text.mask, ..args })?;
        }
        drop(query);
        let (h, moments) = tokens.change_before_norm();
        self.to_out.add(backend, rows, &attended, Adding { moments, ..Adding::plain() }, h)
    }
}

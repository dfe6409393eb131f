//! T5 v1.1 encoder: token ids to text embeddings.
//!
//! RMSNorm before each sublayer, attention without scaling and with relative position biases that block 0 holds for all,
//! a gated tanh-GELU feed-forward, no other biases. (Raffel et al., <https://arxiv.org/abs/1910.10683>; v1.1 as in
//! Shazeer, <https://arxiv.org/abs/2002.05202>.)

mod config;
mod relative;

pub use config::T5Config;

use super::layers::Projection;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::attention::{Attention, AttentionExtras, TokenLayout};
use crate::ops::embed::Embedding;
use crate::ops::gemm::{Activation, Store};
use crate::ops::norm::RmsNorm;
use crate::weights::plan::Plan;
use crate::weights::{Scope, Source};

/// The encoder's parameters.
#[derive(Debug)]
pub struct T5<W> {
    config: T5Config,
    /// `[vocab_size, d_model]`
    shared: W,
    /// `[buckets, num_heads]`, block 0's
    relative_attention_bias: W,
    blocks: Vec<Block<W>>,
    /// `[d_model]`
    final_layer_norm: W,
}

#[derive(Debug)]
struct Block<W> {
    /// `[d_model]`
    attention_norm: W,
    /// q, k and v, `[3·num_heads·d_kv, d_model]`
    qkv: Projection<W>,
    /// `[d_model, num_heads·d_kv]`
    o: Projection<W>,
    /// `[d_model]`
    feed_forward_norm: W,
    /// wi_0 and wi_1, `[2·d_ff, d_model]`
    wi: Projection<W>,
    /// `[d_model, d_ff]`
    wo: Projection<W>,
}

impl<W> T5<W> {
    /// Asks `scope` for the parameters. `embedding` names the table, see [`embedding_name`].
    pub fn build(config: &T5Config, embedding: &str, mut scope: Scope<'_, W>) -> Result<Self> {
        let c = config.clone();
        let shared = scope.plain(embedding, &[c.vocab_size, c.d_model])?;
        let table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        let relative_attention_bias = scope.plain(table, &[c.relative_attention_num_buckets, c.num_heads])?;
        let block = |i| Block::build(&c, scope.at(format!("encoder.block.{i}")));
        let blocks = (0..c.num_layers).map(block).collect::<Result<_>>()?;
        let final_layer_norm = scope.plain("encoder.final_layer_norm.weight", &[c.d_model])?;
        Ok(Self { config: c, shared, relative_attention_bias, blocks, final_layer_norm })
    }

    /// Units of work that [`Self::encode`] reports: one per block.
    pub fn units(&self) -> usize {
        self.blocks.len()
    }

    /// Text embeddings `[ids.len(), d_model]`; keys where `mask` is false take no part. `advance` hears of every block
    /// and may end the run.
    pub fn encode<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        ids: &[u32],
        mask: &[bool],
        advance: &mut dyn FnMut() -> Result<()>,
    ) -> Result<B::Buffer> {
        let (c, tokens) = (&self.config, ids.len());
        let inner = c.num_heads * c.d_kv;
        let table = backend.weight_values(&self.relative_attention_bias)?;
        let bias = backend.upload_f32(&relative::bias(c, &table, tokens))?;
        let mask: Vec<f32> = mask.iter().map(|&kept| if kept { 0.0 } else { f32::NEG_INFINITY }).collect();
        let mask = backend.upload_f32(&mask)?;

        let mut h = backend.alloc(tokens * c.d_model)?;
        let op = Embedding { tokens, vocabulary: c.vocab_size, channels: c.d_model };
        backend.embedding(&op, ids, &self.shared, &mut h)?;

        let norm = RmsNorm { rows: tokens, channels: c.d_model, eps: c.layer_norm_epsilon };
        let mut normed = backend.alloc(tokens * c.d_model)?;
        let mut qkv = backend.alloc(tokens * 3 * inner)?;
        let mut attended = backend.alloc(tokens * inner)?;
        let mut hidden = backend.alloc(tokens * c.d_ff)?;
        let attention = self.attention(tokens);
        for block in &self.blocks {
            backend.rms_norm(&norm, &h, &block.attention_norm, &mut normed)?;
            block.qkv.run(backend, tokens, &normed, Activation::None, &mut qkv)?;
            let extras = AttentionExtras { bias: Some(&bias), mask: Some(&mask), rope: None };
            backend.attention(&attention, &qkv, &qkv, &qkv, extras, &mut attended)?;
            block.o.add(backend, tokens, &attended, Store::Add, None, &mut h)?;
            backend.rms_norm(&norm, &h, &block.feed_forward_norm, &mut normed)?;
            block.wi.run(backend, tokens, &normed, Activation::GatedGeluTanh, &mut hidden)?;
            block.wo.add(backend, tokens, &hidden, Store::Add, None, &mut h)?;
            advance()?;
        }
        backend.rms_norm(&norm, &h, &self.final_layer_norm, &mut normed)?;
        Ok(normed)
    }

    fn attention(&self, tokens: usize) -> Attention {
        let c = &self.config;
        let inner = c.num_heads * c.d_kv;
        let qkv = |part: usize| TokenLayout {
            offset: part * inner,
            outer_stride: 0,
            inner_stride: 0,
            token_stride: 3 * inner,
        };
        Attention {
            outer: 1,
            inner: 1,
            heads: c.num_heads,
            head_dim: c.d_kv,
            queries: tokens,
            keys: tokens,
            scale: 1.0,
            q: qkv(0),
            k: qkv(1),
            v: qkv(2),
            out: TokenLayout { offset: 0, outer_stride: 0, inner_stride: 0, token_stride: inner },
            rope_group: c.d_kv,
        }
    }
}

impl<W> Block<W> {
    fn build(c: &T5Config, mut scope: Scope<'_, W>) -> Result<Self> {
        let inner = c.num_heads * c.d_kv;
        let attention_norm = scope.plain("layer.0.layer_norm.weight", &[c.d_model])?;
        let mut attention = scope.at("layer.0.SelfAttention");
        let qkv = Projection::stacked(&mut attention, &["q", "k", "v"], c.d_model, inner, false)?;
        let o = Projection::build(attention.at("o"), inner, c.d_model, false)?;
        let feed_forward_norm = scope.plain("layer.1.layer_norm.weight", &[c.d_model])?;
        let mut dense = scope.at("layer.1.DenseReluDense");
        let wi = Projection::stacked(&mut dense, &["wi_0", "wi_1"], c.d_model, c.d_ff, false)?;
        let wo = Projection::build(dense.at("wo"), c.d_ff, c.d_model, false)?;
        Ok(Self { attention_norm, qkv, o, feed_forward_norm, wi, wo })
    }
}

/// Checkpoints store the embedding table under either name or both.
const EMBEDDING_NAMES: [&str; 2] = ["shared.weight", "encoder.embed_tokens.weight"];

/// The name under which `source` holds the embedding table.
pub fn embedding_name(source: &dyn Source) -> &'static str {
    let held = |name: &&str| source.entries().iter().any(|entry| entry.name == **name);
    EMBEDDING_NAMES.into_iter().find(held).unwrap_or(EMBEDDING_NAMES[0])
}

/// The tensors that a checkpoint of this config holds.
pub fn plan(config: &T5Config, embedding: &str) -> Plan {
    let mut plan = Plan::default();
    T5::build(config, embedding, Scope::root(&mut plan)).expect("a plan hands out everything");
    plan
}

/// Tensors that may be in a checkpoint and are not read: the embedding's other name.
pub fn ignored(name: &str) -> bool {
    EMBEDDING_NAMES.contains(&name)
}

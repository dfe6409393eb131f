//! T5 v1.1 encoder: token ids to text embeddings.
//!
//! RMSNorm before each sublayer, attention without scaling and with relative position biases that block 0 holds for all,
//! a gated tanh-GELU feed-forward, no other biases. (Raffel et al., <https://arxiv.org/abs/1910.10683>; v1.1 as in
//! Shazeer, <https://arxiv.org/abs/2002.05202>.)

mod config;
mod relative;

pub use config::T5Config;

use super::layers::{Adding, Blocks, Projection};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::attention::{Attention, AttentionArgs, TokenLayout};
use crate::ops::embed::{Embedding, EmbeddingArgs};
use crate::ops::gemm::Activation;
use crate::ops::norm::{RmsNorm, RmsNormArgs};
use crate::weights::load::Loader;
use crate::weights::manifest::CheckpointManifest;
use crate::weights::{Scope, Source};

/// The encoder's parameters.
#[derive(Debug)]
pub struct T5<'a, W> {
    config: T5Config,
    /// `[vocab_size, d_model]`, used once a run and streamed like a block
    shared: Blocks<'a, W>,
    /// `[buckets, num_heads]`, block 0's
    relative_attention_bias: W,
    blocks: Blocks<'a, Block<W>>,
    /// `[d_model]`
    final_layer_norm: W,
}

/// A caption to encode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caption {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// One value for each token; where it is false, the token is not a key.
    pub mask: Vec<bool>,
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

impl<'a, W> T5<'a, W> {
    /// Asks `scope` for all parameters. `embedding` names the table, see [`embedding_name`].
    ///
    /// # Errors
    /// Those of [`Params::get`](crate::weights::Params::get).
    pub fn build(config: &T5Config, embedding: &str, mut scope: Scope<'_, W>) -> Result<Self> {
        let shared = table(config, embedding, &mut scope)?;
        let blocks = (0..config.num_layers).map(|i| Block::build(config, i, &mut scope)).collect::<Result<_>>()?;
        Self::assemble(config, Blocks::Resident(vec![shared]), Blocks::Resident(blocks), scope)
    }

    /// Loads the parameters from `source`: all of them, or, if `stream`, only a few small ones. [`Self::encode`] then streams the
    /// others.
    ///
    /// # Errors
    /// Those of reading `source` and of the backend.
    pub fn load<B: Backend<Weight = W>>(
        config: &T5Config,
        source: &'a dyn Source,
        backend: &'a B,
        stream: bool,
    ) -> Result<Self> {
        let embedding = embedding_name(source);
        let mut loader = Loader::new(source, backend);
        if !stream {
            return Self::build(config, embedding, Scope::root(&mut loader));
        }
        let (c, d) = (config.clone(), config.clone());
        let shared = move |_| table(&c, embedding, &mut Scope::root(&mut Loader::prefetching(source, backend)));
        let block = move |i| Block::build(&d, i, &mut Scope::root(&mut Loader::prefetching(source, backend)));
        let (shared, blocks) = (Blocks::Streamed(Box::new(shared)), Blocks::Streamed(Box::new(block)));
        Self::assemble(config, shared, blocks, Scope::root(&mut loader))
    }

    fn assemble(
        config: &T5Config,
        shared: Blocks<'a, W>,
        blocks: Blocks<'a, Block<W>>,
        mut scope: Scope<'_, W>,
    ) -> Result<Self> {
        let table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        let relative_attention_bias = scope.plain(table, &[config.relative_attention_num_buckets, config.num_heads])?;
        let final_layer_norm = scope.plain("encoder.final_layer_norm.weight", &[config.d_model])?;
        Ok(Self { config: config.clone(), shared, relative_attention_bias, blocks, final_layer_norm })
    }

    /// Text embeddings `[ids.len(), d_model]` of each caption. A block runs for all captions before the next block, so it is
    /// streamed once. `advance` is called for every caption in every block (see [`units`]), and can end the run.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if an id is beyond the vocabulary or a mask has another length than its caption; those
    /// of the backend, of reading parameters that stream, and of `advance`.
    pub fn encode<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        captions: &[Caption],
        advance: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<B::Buffer>> {
        let mut hidden = self.embed(backend, captions)?;
        let inputs = self.inputs(backend, captions)?;
        self.blocks.each(backend, 0..self.config.num_layers, |_, block| {
            for (inputs, h) in inputs.iter().zip(&mut hidden) {
                self.run(backend, block, inputs, h)?;
                advance()?;
            }
            Ok(())
        })?;
        drop(inputs);
        let normed = |h: B::Buffer| {
            let rows = h.len() / self.config.d_model;
            let mut out = backend.alloc(h.len())?;
            backend.rms_norm(&self.norm(rows), RmsNormArgs { x: &h, weight: &self.final_layer_norm, out: &mut out })?;
            Ok(out)
        };
        hidden.into_iter().map(normed).collect()
    }

    /// Rows of the embedding table.
    fn embed<B: Backend<Weight = W>>(&self, backend: &B, captions: &[Caption]) -> Result<Vec<B::Buffer>> {
        let c = &self.config;
        let mut embedded = Vec::with_capacity(captions.len());
        self.shared.each(backend, 0..1, |_, table| {
            for Caption { ids, .. } in captions {
                let mut h = backend.alloc(ids.len() * c.d_model)?;
                let op = Embedding { tokens: ids.len(), vocabulary: c.vocab_size, channels: c.d_model };
                backend.embedding(&op, EmbeddingArgs { ids, table, out: &mut h })?;
                embedded.push(h);
            }
            Ok(())
        })?;
        Ok(embedded)
    }

    /// The bias and the mask of each caption's attention.
    fn inputs<B: Backend<Weight = W>>(&self, backend: &B, captions: &[Caption]) -> Result<Vec<Inputs<B>>> {
        let table = backend.weight_values(&self.relative_attention_bias)?;
        let inputs = |Caption { ids, mask }: &Caption| {
            let mask: Vec<f32> = mask.iter().map(|&kept| if kept { 0.0 } else { f32::NEG_INFINITY }).collect();
            Ok(Inputs {
                tokens: ids.len(),
                bias: backend.upload_f32(&relative::bias(&self.config, &table, ids.len()))?,
                mask: backend.upload_f32(&mask)?,
            })
        };
        captions.iter().map(inputs).collect()
    }

    /// One block over one caption, `h [tokens, d_model]` in place.
    fn run<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        block: &Block<W>,
        inputs: &Inputs<B>,
        h: &mut B::Buffer,
    ) -> Result<()> {
        let (c, tokens) = (&self.config, inputs.tokens);
        let (norm, inner) = (self.norm(tokens), c.num_heads * c.d_kv);
        let mut normed = backend.alloc(tokens * c.d_model)?;
        backend.rms_norm(&norm, RmsNormArgs { x: h, weight: &block.attention_norm, out: &mut normed })?;
        let mut qkv = backend.alloc(tokens * 3 * inner)?;
        block.qkv.run(backend, tokens, &normed, Activation::None, &mut qkv)?;
        let mut attended = backend.alloc(tokens * inner)?;
        let args = AttentionArgs::new([&qkv; 3], &mut attended);
        let args = AttentionArgs { bias: Some(&inputs.bias), mask: Some(&inputs.mask), ..args };
        backend.attention(&self.attention(tokens), args)?;
        drop(qkv);
        block.o.add(backend, tokens, &attended, Adding::plain(), h)?;
        drop(attended);
        backend.rms_norm(&norm, RmsNormArgs { x: h, weight: &block.feed_forward_norm, out: &mut normed })?;
        let mut hidden = backend.alloc(tokens * c.d_ff)?;
        block.wi.run(backend, tokens, &normed, Activation::GatedGeluTanh, &mut hidden)?;
        block.wo.add(backend, tokens, &hidden, Adding::plain(), h)
    }

    fn norm(&self, rows: usize) -> RmsNorm {
        RmsNorm { rows, channels: self.config.d_model, eps: self.config.layer_norm_epsilon }
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

/// The bias and the mask of a caption's attention.
struct Inputs<B: Backend> {
    tokens: usize,
    /// `[heads, tokens, tokens]`
    bias: B::Buffer,
    /// `[tokens]`
    mask: B::Buffer,
}

/// Units of work that [`T5::encode`] reports: one block of one caption.
pub fn units(config: &T5Config, captions: usize) -> u64 {
    (config.num_layers * captions) as u64
}

fn table<W>(c: &T5Config, name: &str, scope: &mut Scope<'_, W>) -> Result<W> {
    scope.plain(name, &[c.vocab_size, c.d_model])
}

impl<W> Block<W> {
    fn build(c: &T5Config, index: usize, scope: &mut Scope<'_, W>) -> Result<Self> {
        let mut scope = scope.at(format!("encoder.block.{index}"));
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
pub fn manifest(config: &T5Config, embedding: &str) -> CheckpointManifest {
    let mut manifest = CheckpointManifest::default();
    T5::build(config, embedding, Scope::root(&mut manifest)).expect("a plan hands out everything");
    manifest
}

/// Whether a checkpoint may hold this tensor although nothing reads it: the embedding's other name.
pub fn ignored(name: &str) -> bool {
    EMBEDDING_NAMES.contains(&name)
}

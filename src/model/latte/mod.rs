//! LatteT2V: predicts the noise in a video latent from its timestep and the text.
//!
//! Pairs of a spatial and a temporal transformer block over 2×2 patches of the latent, modulated by the timestep
//! (adaLN-single of PixArt-α, <https://arxiv.org/abs/2310.00426>; Latte, <https://arxiv.org/abs/2401.03048>).

mod block;
mod config;
mod inputs;
mod norm;
mod positions;

pub use config::LatteConfig;
pub use norm::Norms;

use super::layers::{Blocks, Projection, Rows};
use crate::backend::Backend;
use crate::error::Result;
use crate::memory::MemoryOptions;
use crate::ops::embed::{AddRows, AddRowsArgs};
use crate::ops::gemm::Activation;
use crate::ops::norm::{AdaLayerNorm, AdaLayerNormArgs};
use crate::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
use crate::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};
use crate::weights::load::Loader;
use crate::weights::manifest::CheckpointManifest;
use crate::weights::{Role, Scope, Source};
use block::{Block, OncePerPrompt};
use inputs::{Inputs, Modulation, TextKv};
use norm::Tokens;
use std::ops::Deref;

/// Added to the scores of masked text tokens.
const MASKED: f32 = -10000.0;

/// Sizes of one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// N, samples: two with guidance.
    pub samples: usize,
    /// Samples of the whole batch, if an evaluation takes only some of them at a time; else N. The result has the bits of the
    /// whole batch.
    pub batch: usize,
    /// T, latent frames.
    pub frames: usize,
    /// Token rows: latent rows / patch.
    pub rows: usize,
    /// Token columns.
    pub columns: usize,
    /// Run the temporal blocks; off for images.
    pub temporal: bool,
}

impl Shape {
    /// S, tokens of a frame.
    pub fn positions(&self) -> usize {
        self.rows * self.columns
    }

    /// Tokens of all frames and samples.
    pub fn rows(&self) -> usize {
        self.samples * self.rows_per_sample()
    }

    /// Tokens of a sample.
    pub fn rows_per_sample(&self) -> usize {
        self.frames * self.positions()
    }

    /// All tokens, for a linear layer.
    fn all_rows(&self) -> Rows {
        self.times(self.rows_per_sample())
    }

    /// Rows, `per_sample` of each sample.
    fn times(&self, per_sample: usize) -> Rows {
        Rows { of: self.batch * per_sample, ..Rows::from(self.samples * per_sample) }
    }
}

/// The transformer's parameters.
#[derive(Debug)]
pub struct Latte<'a, W> {
    config: LatteConfig,
    /// `[D, patch, patch, in_channels]`
    patch_weight: W,
    /// `[D]`
    patch_bias: W,
    /// 256 → D
    timestep_1: Projection<W>,
    /// D → D
    timestep_2: Projection<W>,
    /// D → 6D
    timestep_modulation: Projection<W>,
    /// caption_channels → D
    caption_1: Projection<W>,
    /// D → D
    caption_2: Projection<W>,
    /// Weights of each pair of blocks that are used once a prompt.
    once_per_prompt: Blocks<'a, OncePerPrompt<W>>,
    /// The blocks, spatial and temporal alternating.
    blocks: Blocks<'a, Block<W>>,
    /// Number of parts of a block's heads and tokens.
    parts: usize,
    norms: Norms,
    /// `[2, D]`: shift and scale of the output
    scale_shift_table: W,
    /// D → patch²·out_channels
    proj_out: Projection<W>,
}

/// The text of a batch, and everything else that is the same in every step. It is computed once per prompt.
pub struct Prepared<B: Backend> {
    shape: Shape,
    /// `[S, D]`
    spatial_positions: B::Buffer,
    /// `[T, D]`
    temporal_positions: B::Buffer,
    rope: Option<[B::Buffer; 2]>,
    text_tokens: usize,
    /// `[N, text_tokens]`
    text_mask: Option<B::Buffer>,
    /// Per pair `[N·text_tokens, 2D]`
    text_kv: Vec<B::Buffer>,
    /// Of all blocks, for every sample: `[N, blocks, 6D]`
    tables: B::Buffer,
    /// `[2D]`
    out_table: B::Buffer,
}

impl<'a, W> Latte<'a, W> {
    /// Asks `scope` for all parameters.
    ///
    /// # Errors
    /// Those of [`Params::get`](crate::weights::Params::get).
    pub fn build(config: &LatteConfig, mut scope: Scope<'_, W>) -> Result<Self> {
        let pairs = 0..config.num_layers;
        let once = pairs.map(|pair| OncePerPrompt::build(config, pair, &mut scope)).collect::<Result<_>>()?;
        let blocks = (0..2 * config.num_layers).map(|i| Block::build(config, i, &mut scope)).collect::<Result<_>>()?;
        Self::assemble(config, Blocks::Resident(once), Blocks::Resident(blocks), scope)
    }

    /// Loads the parameters from `source`: all of them, or, if the blocks are streamed, only the others. A model that streams
    /// keeps `backend`, a reference or a shared pointer.
    ///
    /// # Errors
    /// Those of reading `source` and of the backend; [`crate::Error::Usage`] if `OSP_NORMS` asks for what there is not.
    pub fn load<B: Backend<Weight = W>>(
        config: &LatteConfig,
        source: &'a dyn Source,
        backend: impl Deref<Target = B> + Clone + 'a,
        savings: MemoryOptions,
    ) -> Result<Self> {
        let mut loader = Loader::new(source, &*backend);
        let model = if savings.stream_transformer {
            let (c, d, one, other) = (config.clone(), config.clone(), backend.clone(), backend.clone());
            let once = move |i| OncePerPrompt::build(&c, i, &mut Scope::root(&mut Loader::prefetching(source, &*one)));
            let block = move |i| Block::build(&d, i, &mut Scope::root(&mut Loader::prefetching(source, &*other)));
            let (once, blocks) = (Blocks::Streamed(Box::new(once)), Blocks::Streamed(Box::new(block)));
            Self::assemble(config, once, blocks, Scope::root(&mut loader))?
        } else {
            Self::build(config, Scope::root(&mut loader))?
        };
        Ok(Self { parts: savings.transformer_parts, norms: Norms::of_environment()?, ..model })
    }

    fn assemble(
        config: &LatteConfig,
        once_per_prompt: Blocks<'a, OncePerPrompt<W>>,
        blocks: Blocks<'a, Block<W>>,
        mut scope: Scope<'_, W>,
    ) -> Result<Self> {
        let c = config.clone();
        let d = c.channels();
        Ok(Self {
            scale_shift_table: scope.plain("scale_shift_table", &[2, d])?,
            patch_weight: scope.get(
                "pos_embed.proj.weight",
                &[d, c.in_channels, c.patch_size, c.patch_size],
                Role::Patches,
            )?,
            patch_bias: scope.plain("pos_embed.proj.bias", &[d])?,
            once_per_prompt,
            blocks,
            parts: 1,
            norms: Norms::default(),
            proj_out: Projection::build(scope.at("proj_out"), d, c.patch_size * c.patch_size * c.out_channels, true)?,
            timestep_1: Projection::build(scope.at("adaln_single.emb.timestep_embedder.linear_1"), 256, d, true)?,
            timestep_2: Projection::build(scope.at("adaln_single.emb.timestep_embedder.linear_2"), d, d, true)?,
            timestep_modulation: Projection::build(scope.at("adaln_single.linear"), d, 6 * d, true)?,
            caption_1: Projection::build(scope.at("caption_projection.linear_1"), c.caption_channels, d, true)?,
            caption_2: Projection::build(scope.at("caption_projection.linear_2"), d, d, true)?,
            config: c,
        })
    }

    /// This transformer, with its norms computed in this way. [`Self::load`] takes what `OSP_NORMS` asks for.
    #[must_use]
    pub fn with_norms(self, norms: Norms) -> Self {
        Self { norms, ..self }
    }

    /// The config it was built for.
    pub fn config(&self) -> &LatteConfig {
        &self.config
    }

    /// Prepares text and tables for evaluations of one shape. `captions` `[N·text_tokens, caption_channels]`;
    /// `mask` `[N·text_tokens]`, true for tokens that take part.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if `captions` has another size; those of the backend, and of reading parameters that
    /// stream.
    pub fn prepare<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        shape: Shape,
        captions: &B::Buffer,
        text_tokens: usize,
        mask: Option<&[bool]>,
    ) -> Result<Prepared<B>> {
        let c = &self.config;
        let (d, text_rows) = (c.channels(), shape.times(text_tokens));
        let mut hidden = backend.alloc(text_rows.count * d)?;
        self.caption_1.run(backend, text_rows, captions, Activation::GeluTanh, &mut hidden)?;
        let mut text = backend.alloc(text_rows.count * d)?;
        self.caption_2.run(backend, text_rows, &hidden, Activation::None, &mut text)?;
        drop(hidden);

        let mut text_kv = Vec::new();
        let mut tables = Vec::new();
        self.once_per_prompt.each(backend, 0..c.num_layers, |_, once| {
            let mut kv = backend.alloc(text_rows.count * 2 * d)?;
            once.text_kv.run(backend, text_rows, &text, Activation::None, &mut kv)?;
            text_kv.push(kv);
            for table in &once.scale_shift_tables {
                tables.extend(backend.weight_values(table)?);
            }
            Ok(())
        })?;
        let rope = match c.use_rope {
            true => Some([
                backend.upload_f32(&positions::rope_spatial(c, shape.rows, shape.columns))?,
                backend.upload_f32(&positions::rope_temporal(c, shape.frames))?,
            ]),
            false => None,
        };
        let masked = |mask: &[bool]| mask.iter().map(|&kept| if kept { 0.0 } else { MASKED }).collect::<Vec<f32>>();
        Ok(Prepared {
            spatial_positions: backend.upload(&positions::spatial(c, shape.rows, shape.columns))?,
            temporal_positions: backend.upload(&positions::temporal(c, shape.frames))?,
            rope,
            text_tokens,
            text_mask: mask.map(|mask| backend.upload_f32(&masked(mask))).transpose()?,
            text_kv,
            tables: backend.upload(&tables.repeat(shape.samples))?,
            out_table: backend.upload(&backend.weight_values(&self.scale_shift_table)?)?,
            shape,
        })
    }

    /// Predicts: `latent [N, T, H, W, in_channels]` at `timestep` → `out [N, T, H, W, kept]`, the first `kept` of the
    /// output channels.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if `latent`, `out` or the mask that was prepared has another size, or `kept` is more
    /// than there are; those of the backend, and of reading parameters that stream.
    pub fn forward<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        prepared: &Prepared<B>,
        latent: &B::Buffer,
        timestep: f32,
        kept: usize,
        out: &mut B::Buffer,
    ) -> Result<()> {
        self.forward_watched(backend, prepared, latent, timestep, &mut |_, _| Ok(()), kept, out)
    }

    /// As [`Self::forward`]; `watch` sees the tokens `[N, T, S, D]` in front of the first block and behind the last.
    ///
    /// # Errors
    /// Those of [`Self::forward`] and of `watch`.
    #[expect(clippy::too_many_arguments, reason = "those of `forward`, and one")]
    pub(crate) fn forward_watched<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        prepared: &Prepared<B>,
        latent: &B::Buffer,
        timestep: f32,
        watch: Watch<'_, B>,
        kept: usize,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let (c, shape) = (&self.config, prepared.shape);
        let d = c.channels();
        let time = self.embed_timestep(backend, &shape, timestep)?;
        let h = self.embed_latent(backend, prepared, &shape, latent)?;
        watch(backend, &h)?;
        let mut tokens = Tokens::new(backend, h, shape.rows(), d, self.norms.fold(c, &shape))?;
        let vectors = self.modulate(backend, prepared, &shape, &time.modulation)?;
        let indices = (0..2 * c.num_layers).filter(|index| shape.temporal || index % 2 == 0);
        self.blocks.each(backend, indices, |index, block| {
            if index == 1 {
                let op = AddRows { outer: shape.samples, rows: shape.frames, inner: shape.positions(), channels: d };
                backend.add_rows(&op, AddRowsArgs { table: &prepared.temporal_positions, x: tokens.change() })?;
            }
            block.run(backend, c, &self.inputs(prepared, &shape, &vectors, index), &mut tokens)
        })?;
        watch(backend, &tokens.h)?;
        self.output(backend, prepared, &time.embedding, &tokens.h, kept, out)
    }

    /// What the first block's attention sees of one sample, whose text plays no part in it: `latent [T, H, W, in_channels]`
    /// at `timestep` → tokens `[T, S, D]`, normed and modulated.
    ///
    /// # Errors
    /// As for [`Self::forward`].
    pub(crate) fn first_input<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        prepared: &Prepared<B>,
        latent: &B::Buffer,
        timestep: f32,
    ) -> Result<B::Buffer> {
        let shape = Shape { samples: 1, ..prepared.shape };
        let time = self.embed_timestep(backend, &shape, timestep)?;
        let h = self.embed_latent(backend, prepared, &shape, latent)?;
        let vectors = self.modulate(backend, prepared, &shape, &time.modulation)?;
        block::attention_input(backend, &self.config, &self.inputs(prepared, &shape, &vectors, 0), &h)
    }

    /// The inputs of block `index`, modulated by `vectors [N, blocks, 6D]`.
    fn inputs<'i, B: Backend>(
        &self,
        prepared: &'i Prepared<B>,
        shape: &'i Shape,
        vectors: &'i B::Buffer,
        index: usize,
    ) -> Inputs<'i, B::Buffer> {
        let (pair, axis) = (index / 2, index % 2);
        Inputs {
            shape,
            parts: self.parts,
            modulation: Modulation { vectors, blocks: 2 * self.config.num_layers, block: index },
            rope: prepared.rope.as_ref().map(|tables| &tables[axis]),
            text: TextKv {
                kv: &prepared.text_kv[pair],
                tokens: prepared.text_tokens,
                mask: prepared.text_mask.as_ref(),
            },
        }
    }

    /// Tokens `[N, T, S, D]` with their spatial positions; `shape` may have fewer samples than was prepared, here and below.
    fn embed_latent<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        prepared: &Prepared<B>,
        shape: &Shape,
        latent: &B::Buffer,
    ) -> Result<B::Buffer> {
        let c = &self.config;
        let (d, frames) = (c.channels(), shape.samples * shape.frames);
        let mut h = backend.alloc(shape.rows() * d)?;
        let op = PatchEmbed {
            frames,
            height: shape.rows * c.patch_size,
            width: shape.columns * c.patch_size,
            cin: c.in_channels,
            cout: d,
            patch: c.patch_size,
        };
        let args = PatchEmbedArgs { x: latent, weight: &self.patch_weight, bias: &self.patch_bias, out: &mut h };
        backend.patch_embed(&op, args)?;
        let op = AddRows { outer: frames, rows: shape.positions(), inner: 1, channels: d };
        backend.add_rows(&op, AddRowsArgs { table: &prepared.spatial_positions, x: &mut h })?;
        Ok(h)
    }

    fn embed_timestep<B: Backend<Weight = W>>(&self, backend: &B, shape: &Shape, timestep: f32) -> Result<Time<B>> {
        let (d, samples, rows) = (self.config.channels(), shape.samples, shape.times(1));
        let features = backend.upload(&positions::timestep(timestep).repeat(samples))?;
        let mut hidden = backend.alloc(samples * d)?;
        let mut embedding = backend.alloc(samples * d)?;
        let mut activated = backend.alloc(samples * d)?;
        let mut modulation = backend.alloc(samples * 6 * d)?;
        self.timestep_1.run(backend, rows, &features, Activation::Silu, &mut hidden)?;
        self.timestep_2.run(backend, rows, &hidden, Activation::None, &mut embedding)?;
        // The product again, with SiLU: one row, cheaper than a separate operation.
        self.timestep_2.run(backend, rows, &hidden, Activation::Silu, &mut activated)?;
        self.timestep_modulation.run(backend, rows, &activated, Activation::None, &mut modulation)?;
        Ok(Time { embedding, modulation })
    }

    /// `[N, blocks, 6D]`: the tables of all blocks plus the timestep's modulation `[N, 6D]`.
    fn modulate<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        prepared: &Prepared<B>,
        shape: &Shape,
        timestep: &B::Buffer,
    ) -> Result<B::Buffer> {
        let (samples, blocks) = (shape.samples, 2 * self.config.num_layers);
        let channels = 6 * self.config.channels();
        let mut modulation = backend.alloc(samples * blocks * channels)?;
        let [from, to] = [prepared.shape.samples, samples].map(|samples| BoxAt::whole([samples, blocks, 1]));
        let op = CopyBox { extent: to.size, channels, from, to };
        backend.copy_box(&op, CopyBoxArgs { x: &prepared.tables, out: &mut modulation })?;
        let op = AddRows { outer: 1, rows: samples, inner: blocks, channels };
        backend.add_rows(&op, AddRowsArgs { table: timestep, x: &mut modulation })?;
        Ok(modulation)
    }

    /// LayerNorm, shift and scale by the table plus the timestep's embedding, projection, unpatchify.
    fn output<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        prepared: &Prepared<B>,
        embedding: &B::Buffer,
        h: &B::Buffer,
        kept: usize,
        out: &mut B::Buffer,
    ) -> Result<()> {
        let (c, shape) = (&self.config, prepared.shape);
        let (d, rows) = (c.channels(), shape.rows());
        let mut modulation = backend.alloc(shape.samples * 2 * d)?;
        for part in 0..2 {
            let op = CopyBox {
                extent: [shape.samples, 1, 1],
                channels: d,
                from: BoxAt::whole([shape.samples, 1, 1]),
                to: BoxAt { size: [shape.samples, 2, 1], origin: [0, part, 0] },
            };
            backend.copy_box(&op, CopyBoxArgs { x: embedding, out: &mut modulation })?;
        }
        let op = AddRows { outer: shape.samples, rows: 1, inner: 1, channels: 2 * d };
        backend.add_rows(&op, AddRowsArgs { table: &prepared.out_table, x: &mut modulation })?;

        let norm = AdaLayerNorm {
            rows,
            channels: d,
            eps: c.norm_eps,
            rows_per_modulation: shape.rows_per_sample(),
            modulation_stride: 2 * d,
            shift: 0,
            scale: d,
        };
        let mut normed = backend.alloc(rows * d)?;
        backend.ada_layer_norm(&norm, AdaLayerNormArgs { x: h, modulation: &modulation, out: &mut normed })?;
        let mut patches = backend.alloc(rows * self.proj_out.outputs)?;
        self.proj_out.run(backend, shape.all_rows(), &normed, Activation::None, &mut patches)?;
        let op = Unpatchify {
            frames: shape.samples * shape.frames,
            rows: shape.rows,
            columns: shape.columns,
            patch: c.patch_size,
            channels: c.out_channels,
            kept,
        };
        backend.unpatchify(&op, UnpatchifyArgs { x: &patches, out })
    }
}

/// Sees tokens on their way through the transformer.
pub(crate) type Watch<'a, B> = &'a mut dyn FnMut(&B, &<B as Backend>::Buffer) -> Result<()>;

/// What the timestep gives to the blocks and to the output.
struct Time<B: Backend> {
    /// `[N, D]`
    embedding: B::Buffer,
    /// `[N, 6D]`
    modulation: B::Buffer,
}

/// The tensors that a checkpoint of this config holds.
pub fn manifest(config: &LatteConfig) -> CheckpointManifest {
    let mut manifest = CheckpointManifest::default();
    Latte::build(config, Scope::root(&mut manifest)).expect("a plan hands out everything");
    manifest
}

/// Tensors that may be in a checkpoint and are not read: the tables it was trained with, and the caption of no caption.
pub fn ignored(name: &str) -> bool {
    matches!(name, "temp_pos_embed" | "pos_embed.pos_embed" | "caption_projection.y_embedding")
        || name.starts_with("loss.")
}

//! CausalVideoVAE: videos to latents (4 frames × 8×8 pixels each) and back, window by window.
//!
//! A convolutional autoencoder whose convolutions are causal in time: an output frame depends only on its own and
//! earlier input frames, and the first frame is coded as an image. (Open-Sora-Plan report v1.1.0; the autoencoder of
//! latent diffusion, <https://arxiv.org/abs/2112.10752>, inflated to three dimensions.)

mod attention;
mod coder;
pub mod config;
mod conv;
mod factors;
mod features;
mod norm;
mod normed;
mod pointwise;
mod projection;
mod resample;
mod resnet;
mod run;
pub mod tiling;

pub use config::VaeConfig;
pub use factors::{Factors, MOST_SIDE};
pub use projection::Projection;
pub use run::Probe;

use crate::backend::Backend;
use crate::error::Result;
use crate::ops::expect_len;
use crate::ops::pixels::{FromBytes, FromBytesArgs};
use crate::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};
use crate::weights::Scope;
use crate::weights::manifest::CheckpointManifest;
use coder::{Decoder, Encoder};
use features::{Features, Piece};
use run::CoderRun;
use std::ops::Range;
use tiling::{Tiling, space_tiles, time_windows};

/// The transformer's latents are the VAE's latents times this factor.
pub const LATENT_SCALE: f32 = 0.18215;

/// The decoder's parameters.
#[derive(Debug)]
pub struct VaeDecoder<W> {
    config: VaeConfig,
    decoder: Decoder<W>,
}

/// The encoder's parameters.
#[derive(Debug)]
pub struct VaeEncoder<W> {
    config: VaeConfig,
    encoder: Encoder<W>,
}

/// Finished frames of a window, `[frames, height, width, channels]`. The first `skip` belong to the window before.
pub struct Frames<'a, B: Backend> {
    /// All frames of the window.
    pub data: &'a B::Buffer,
    /// Frames in `data`.
    pub frames: usize,
    /// Frames at the front that the window before has already emitted.
    pub skip: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

/// Called after every tile; an error ends the run.
pub type Advance<'a> = &'a mut dyn FnMut() -> Result<()>;
/// Receives a window's frames once they are final.
pub type Emit<'a, B> = &'a mut dyn FnMut(Frames<'_, B>) -> Result<()>;

/// A coder's input on the host, and how the coder takes it.
pub struct CoderInput<'a> {
    /// Frames, rows, columns.
    pub size: [usize; 3],
    /// All its values.
    pub values: ClipValues<'a>,
    /// Windows; `None` codes the whole clip at once.
    pub tiling: Option<Tiling>,
    /// Frames of full size that a layer takes at a time; see [`crate::memory::MemoryOptions::vae_frames`].
    pub frames_at_a_time: Option<usize>,
}

/// The values of a coder's input, `[frames, rows, columns, channels]`, on the host.
#[derive(Clone, Copy, Debug)]
pub enum ClipValues<'a> {
    /// Latents, or pixels in [−1, 1].
    Floats(&'a [f32]),
    /// RGB bytes; the device converts them to pixels in [−1, 1].
    Bytes(&'a [u8]),
}

impl ClipValues<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Copies a range to the device.
    fn upload<B: Backend>(&self, backend: &B, range: Range<usize>) -> Result<B::Buffer> {
        match self {
            Self::Floats(values) => backend.upload(&values[range]),
            Self::Bytes(bytes) => {
                let op = FromBytes { len: range.len() };
                let mut pixels = backend.alloc(op.len)?;
                backend.from_bytes(&op, FromBytesArgs { bytes: &bytes[range], out: &mut pixels })?;
                Ok(pixels)
            }
        }
    }
}

impl<W> VaeDecoder<W> {
    /// Builds the decoder from the parameters that `scope` gives.
    ///
    /// # Errors
    /// As for [`Params::get`](crate::weights::Params::get).
    pub fn build(config: &VaeConfig, scope: Scope<'_, W>) -> Result<Self> {
        Ok(Self { config: config.clone(), decoder: Decoder::build(config, scope)? })
    }

    /// Decodes a latent of `embed_dim` channels (divided by [`LATENT_SCALE`]) to pixels in [−1, 1], 3 channels.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the number of values does not match the size; errors of [`Windows::decoding`], of the
    /// backend, of `advance` and of `emit`.
    pub fn decode<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        latent: &CoderInput<'_>,
        advance: Advance<'_>,
        emit: Emit<'_, B>,
    ) -> Result<()> {
        self.decode_from(0, backend, latent, advance, emit)
    }

    /// As [`Self::decode`], without the first windows in time.
    ///
    /// # Errors
    /// As for [`Self::decode`].
    pub fn decode_from<B: Backend<Weight = W>>(
        &self,
        first: usize,
        backend: &B,
        latent: &CoderInput<'_>,
        advance: Advance<'_>,
        emit: Emit<'_, B>,
    ) -> Result<()> {
        let code = |x: Features<B>| {
            let positions = latent.frames_at_a_time.map(|frames| frames * self.full_positions(&x));
            self.decoder.run(&mut CoderRun { backend, probe: None, positions }, x)
        };
        let windows = Windows::decoding(&self.config, latent.size, latent.tiling)?;
        windows.from(first).run(backend, latent, self.config.embed_dim, &code, advance, emit)
    }

    /// Decodes one window, and gives every block's output to `probe`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the number of values does not match the size; errors of the backend.
    pub fn decode_probed<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        latent: &CoderInput<'_>,
        probe: Probe<'_, B::Buffer>,
    ) -> Result<()> {
        let x = upload(backend, latent, 0..latent.size[0], self.config.embed_dim)?;
        let positions = latent.frames_at_a_time.map(|frames| frames * self.full_positions(&x));
        self.decoder.run(&mut CoderRun { backend, probe: Some(probe), positions }, x).map(drop)
    }

    /// Pixels of a frame that the decoder makes of `x`.
    fn full_positions<B: Backend>(&self, x: &Features<B>) -> usize {
        x.positions() * self.config.spatial_factor().pow(2)
    }
}

impl<W> VaeEncoder<W> {
    /// Builds the encoder from the parameters that `scope` gives.
    ///
    /// # Errors
    /// As for [`Params::get`](crate::weights::Params::get).
    pub fn build(config: &VaeConfig, scope: Scope<'_, W>) -> Result<Self> {
        Ok(Self { config: config.clone(), encoder: Encoder::build(config, scope)? })
    }

    /// Encodes a video of 3 channels, in [−1, 1], to the posterior: `embed_dim` means, then `embed_dim` log variances.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the number of values does not match the size; errors of [`Windows::encoding`], of the
    /// backend, of `advance` and of `emit`.
    pub fn encode<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        video: &CoderInput<'_>,
        advance: Advance<'_>,
        emit: Emit<'_, B>,
    ) -> Result<()> {
        let code = |x: Features<B>| {
            let positions = video.frames_at_a_time.map(|frames| frames * x.positions());
            self.encoder.run(&mut CoderRun { backend, probe: None, positions }, x)
        };
        let windows = Windows::encoding(&self.config, video.size, video.tiling)?;
        windows.run(backend, video, 3, &code, advance, emit)
    }

    /// Encodes one window, and gives every block's output to `probe`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the number of values does not match the size; errors of the backend.
    pub fn encode_probed<B: Backend<Weight = W>>(
        &self,
        backend: &B,
        video: &CoderInput<'_>,
        probe: Probe<'_, B::Buffer>,
    ) -> Result<()> {
        let x = upload(backend, video, 0..video.size[0], 3)?;
        let positions = video.frames_at_a_time.map(|frames| frames * x.positions());
        self.encoder.run(&mut CoderRun { backend, probe: Some(probe), positions }, x).map(drop)
    }
}

/// The tensors that a checkpoint of this config holds.
pub fn manifest(config: &VaeConfig) -> CheckpointManifest {
    let mut manifest = CheckpointManifest::default();
    Encoder::build(config, Scope::root(&mut manifest)).expect("a plan hands out everything");
    Decoder::build(config, Scope::root(&mut manifest)).expect("a plan hands out everything");
    manifest
}

/// Whether a tensor may be in a checkpoint and is not read: tensors of training's discriminator and loss, and averages
/// of the weights over training.
pub fn ignored(name: &str) -> bool {
    ["loss.", "ema.", "model_ema."].iter().any(|prefix| name.starts_with(prefix))
}

/// How a clip is cut: the ranges of the input along each axis, and the widths of the output's tiles and blends.
pub struct Windows {
    time: Vec<Range<usize>>,
    /// Windows in time that are left out.
    skipped: usize,
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
    /// Side of an output tile, and rows or columns of it that are blended; `None` for a single tile.
    out: Option<(usize, usize)>,
}

/// Codes one tile.
type Code<'a, B> = &'a dyn Fn(Features<B>) -> Result<Features<B>>;
/// Cuts a tile out of a window: its rows and columns.
type Crop<'a, B> = &'a dyn Fn(&Range<usize>, &Range<usize>) -> Result<Features<B>>;

impl Windows {
    /// Cuts a latent of `size`.
    ///
    /// # Errors
    /// As for [`Tiling::validate`].
    pub fn decoding(config: &VaeConfig, size: [usize; 3], tiling: Option<Tiling>) -> Result<Self> {
        let factors = Factors::of(config);
        let applies = |tiling: &Tiling| tiling.applies(size, factors);
        Self::cut(size, tiling, factors, applies, |sizes| (sizes.latent, sizes.sample))
    }

    /// Cuts a video of `size`.
    ///
    /// # Errors
    /// As for [`Tiling::validate`].
    pub fn encoding(config: &VaeConfig, size: [usize; 3], tiling: Option<Tiling>) -> Result<Self> {
        let applies = |tiling: &Tiling| {
            size[0] > tiling.sample_frames || size[1] > tiling.sample_size || size[2] > tiling.sample_size
        };
        Self::cut(size, tiling, Factors::of(config), applies, |sizes| (sizes.sample, sizes.latent))
    }

    fn cut(
        [frames, height, width]: [usize; 3],
        tiling: Option<Tiling>,
        factors: Factors,
        applies: impl Fn(&Tiling) -> bool,
        sides: impl Fn(tiling::Sizes) -> (usize, usize),
    ) -> Result<Self> {
        if let Some(tiling) = &tiling {
            tiling.validate(factors)?;
        }
        let Some(tiling) = tiling.filter(applies) else {
            let whole = |len| std::iter::once(0..len).collect();
            return Ok(Self { time: whole(frames), skipped: 0, rows: whole(height), columns: whole(width), out: None });
        };
        let (window, _) = sides(tiling.time(factors.time));
        let (tile, out_tile) = sides(tiling.space(factors.space));
        let blend = tiling.blend(tile);
        Ok(Self {
            time: time_windows(frames, window),
            skipped: 0,
            rows: space_tiles(height, tile, blend),
            columns: space_tiles(width, tile, blend),
            out: Some((out_tile, tiling.blend(out_tile))),
        })
    }

    /// Frames, rows and columns of the first tile, which is the largest.
    pub fn first(&self) -> [usize; 3] {
        [&self.time, &self.rows, &self.columns].map(|ranges| ranges[0].len())
    }

    /// Leaves out the first windows in time.
    #[must_use]
    pub fn from(self, skipped: usize) -> Self {
        Self { skipped, ..self }
    }

    /// The number of tiles in all windows that are not left out.
    pub fn units(&self) -> usize {
        (self.time.len() - self.skipped) * self.rows.len() * self.columns.len()
    }

    fn run<B: Backend>(
        &self,
        backend: &B,
        clip: &CoderInput<'_>,
        channels: usize,
        code: Code<'_, B>,
        advance: Advance<'_>,
        emit: Emit<'_, B>,
    ) -> Result<()> {
        for (i, frames) in self.time.iter().enumerate().skip(self.skipped) {
            // The device holds only this window of the clip.
            let input = upload(backend, clip, frames.clone(), channels)?;
            let window = match self.out {
                None => {
                    let out = code(input)?.whole(backend)?;
                    advance()?;
                    out
                }
                Some((tile, blend)) => {
                    let crop = |rows: &Range<usize>, columns: &Range<usize>| {
                        let size = [input.frames, input.height, input.width];
                        let from = BoxAt { size, origin: [0, rows.start, columns.start] };
                        cut_box(backend, &input, from, [input.frames, rows.len(), columns.len()])
                    };
                    self.blended(backend, tile, blend, &crop, code, advance)?
                }
            };
            let skip = if i == 0 { 0 } else { 1 };
            let [frames, height, width, channels] = window.shape();
            emit(Frames { data: window.data(), frames, skip, height, width, channels })?;
        }
        Ok(())
    }

    /// Codes a window's tiles and puts them together. Each tile is cross-faded with the finished tile above, then with
    /// the one to the left. Only the strips of finished tiles that later tiles fade into are kept.
    fn blended<B: Backend>(
        &self,
        backend: &B,
        tile: usize,
        blend: usize,
        crop: Crop<'_, B>,
        code: Code<'_, B>,
        advance: Advance<'_>,
    ) -> Result<Features<B>> {
        let mut window: Option<Features<B>> = None;
        let mut above: Vec<Option<Features<B>>> = self.columns.iter().map(|_| None).collect();
        for (row, rows) in self.rows.iter().enumerate() {
            let mut left: Option<Features<B>> = None;
            for (column, columns) in self.columns.iter().enumerate() {
                let mut out = code(crop(rows, columns)?)?.whole(backend)?;
                fade(backend, above[column].as_ref(), &mut out, BlendAxis::Rows, blend)?;
                fade(backend, left.as_ref(), &mut out, BlendAxis::Columns, blend)?;
                above[column] = Some(strip(backend, &out, BlendAxis::Rows, blend)?);
                left = Some(strip(backend, &out, BlendAxis::Columns, blend)?);

                let size = match &window {
                    Some(window) => window.shape(),
                    None => self.out_shape(&out, rows, columns),
                };
                let whole = match &mut window {
                    Some(window) => window,
                    None => window.insert(Features::alloc(backend, size)?),
                };
                let step = tile - blend;
                let origin = [0, row * step, column * step];
                let extent = [size[0], step.min(out.height), step.min(out.width)];
                let op = CopyBox {
                    extent,
                    channels: out.channels,
                    from: BoxAt::whole([out.frames, out.height, out.width]),
                    to: BoxAt { size: [size[0], size[1], size[2]], origin },
                };
                backend.copy_box(&op, CopyBoxArgs { x: out.data(), out: whole.data_mut() })?;
                advance()?;
            }
        }
        Ok(window.expect("a clip has at least one tile"))
    }

    /// The shape of the whole window's output, from its first tile and the input that the tile covers.
    fn out_shape<B: Backend>(&self, first: &Features<B>, rows: &Range<usize>, columns: &Range<usize>) -> [usize; 4] {
        let total = |ranges: &[Range<usize>]| ranges.last().map_or(0, |last| last.end);
        let height = total(&self.rows) * first.height / rows.len();
        let width = total(&self.columns) * first.width / columns.len();
        [first.frames, height, width, first.channels]
    }
}

/// Cross-fades the end of `neighbour` into the start of `tile`.
fn fade<B: Backend>(
    backend: &B,
    neighbour: Option<&Features<B>>,
    tile: &mut Features<B>,
    axis: BlendAxis,
    blend: usize,
) -> Result<()> {
    let Some(neighbour) = neighbour else { return Ok(()) };
    let side = |x: &Features<B>| if axis == BlendAxis::Rows { x.height } else { x.width };
    let op = BlendBox {
        neighbour: [neighbour.frames, neighbour.height, neighbour.width],
        tile: [tile.frames, tile.height, tile.width],
        channels: tile.channels,
        axis,
        blend: blend.min(side(neighbour)).min(side(tile)),
    };
    if op.blend == 0 {
        return Ok(());
    }
    backend.blend_box(&op, BlendBoxArgs { neighbour: neighbour.data(), tile: tile.data_mut() })
}

/// Copies the last `len` rows (columns) of `x`, or all if there are fewer.
fn strip<B: Backend>(backend: &B, x: &Features<B>, axis: BlendAxis, len: usize) -> Result<Features<B>> {
    let size = [x.frames, x.height, x.width];
    let (mut extent, mut origin) = (size, [0; 3]);
    let index = if axis == BlendAxis::Rows { 1 } else { 2 };
    extent[index] = len.min(size[index]);
    origin[index] = size[index] - extent[index];
    cut_box(backend, x, BoxAt { size, origin }, extent)
}

fn cut_box<B: Backend>(backend: &B, x: &Features<B>, from: BoxAt, extent: [usize; 3]) -> Result<Features<B>> {
    let mut out = Features::alloc(backend, [extent[0], extent[1], extent[2], x.channels])?;
    let op = CopyBox { extent, channels: x.channels, from, to: BoxAt::whole(extent) };
    backend.copy_box(&op, CopyBoxArgs { x: x.data(), out: out.data_mut() })?;
    Ok(out)
}

/// Copies some frames of a clip to the device.
fn upload<B: Backend>(
    backend: &B,
    clip: &CoderInput<'_>,
    frames: Range<usize>,
    channels: usize,
) -> Result<Features<B>> {
    let [count, height, width] = clip.size;
    let frame_len = height * width * channels;
    expect_len("vae", "clip", clip.values.len(), count * frame_len)?;
    let shape = [frames.len(), height, width, channels];
    let data = clip.values.upload(backend, frames.start * frame_len..frames.end * frame_len)?;
    Ok(Features::of(Piece { data, frames: shape[0], moments: Vec::new() }, shape))
}

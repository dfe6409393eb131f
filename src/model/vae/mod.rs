//! CausalVideoVAE: videos to latents (4 frames × 8×8 pixels each) and back, window by window.
//!
//! A convolutional autoencoder whose convolutions are causal in time: an output frame depends on input frames up to it,
//! and the first frame is an image of its own. (Open-Sora-Plan report v1.1.0; the autoencoder of latent diffusion,
//! <https://arxiv.org/abs/2112.10752>, inflated to three dimensions.)

mod attention;
mod coder;
pub mod config;
mod conv;
mod factors;
mod features;
mod norm;
mod normed;
mod pointwise;
mod resample;
mod resnet;
mod run;
pub mod tiling;

pub use config::VaeConfig;
pub use factors::Factors;
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

/// Factor between latents as the transformer sees them and as the VAE does.
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

/// Finished frames of a clip, `[frames, height, width, channels]`, of which the first `skip` belong to the window before.
pub struct Frames<'a, B: Backend> {
    /// All frames of the window.
    pub data: &'a B::Buffer,
    /// Frames in `data`.
    pub frames: usize,
    /// Frames at the front that do not count.
    pub skip: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

/// Hears of every tile that is done, and may end the run.
pub type Advance<'a> = &'a mut dyn FnMut() -> Result<()>;
/// Takes the frames as soon as no later window can change them.
pub type Emit<'a, B> = &'a mut dyn FnMut(Frames<'_, B>) -> Result<()>;

/// A clip on the host, and how it goes through a coder.
pub struct CoderInput<'a> {
    /// Frames, rows, columns.
    pub size: [usize; 3],
    /// All its values.
    pub values: ClipValues<'a>,
    /// Windows; `None` codes everything at once.
    pub tiling: Option<Tiling>,
    /// Frames of full size that a layer takes at a time, see [`crate::memory::MemoryOptions::vae_frames`].
    pub frames_at_a_time: Option<usize>,
}

/// What a clip holds, `[frames, rows, columns, channels]`, on the host.
#[derive(Clone, Copy, Debug)]
pub enum ClipValues<'a> {
    /// Latents, or pixels in [−1, 1].
    Floats(&'a [f32]),
    /// RGB, which becomes pixels in [−1, 1] on the device.
    Bytes(&'a [u8]),
}

impl ClipValues<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Brings a range to the device.
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
    /// Asks `scope` for the decoder's parameters.
    ///
    /// # Errors
    /// Those of [`Params::get`](crate::weights::Params::get).
    pub fn build(config: &VaeConfig, scope: Scope<'_, W>) -> Result<Self> {
        Ok(Self { config: config.clone(), decoder: Decoder::build(config, scope)? })
    }

    /// Decodes a latent of `embed_dim` channels (divided by [`LATENT_SCALE`]) to pixels in [−1, 1], 3 channels.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the clip has another size than it says; those of [`Windows::decoding`], of the
    /// backend, of `advance` and of `emit`.
    pub fn decode<B: Backend<Weight = W>>(
        &self,
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
        windows.run(backend, latent, self.config.embed_dim, &code, advance, emit)
    }

    /// Decodes one window, showing every block's output.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the clip has another size than it says; those of the backend.
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

    /// Pixels of a frame that this becomes.
    fn full_positions<B: Backend>(&self, x: &Features<B>) -> usize {
        x.positions() * self.config.spatial_factor().pow(2)
    }
}

impl<W> VaeEncoder<W> {
    /// Asks `scope` for the encoder's parameters.
    ///
    /// # Errors
    /// Those of [`Params::get`](crate::weights::Params::get).
    pub fn build(config: &VaeConfig, scope: Scope<'_, W>) -> Result<Self> {
        Ok(Self { config: config.clone(), encoder: Encoder::build(config, scope)? })
    }

    /// Encodes a video of 3 channels, in [−1, 1], to moments: `embed_dim` means, then as many log variances.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the clip has another size than it says; those of [`Windows::encoding`], of the
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

    /// Encodes one window, showing every block's output.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the clip has another size than it says; those of the backend.
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

/// Tensors that may be in a checkpoint and are not read: the discriminator's and the loss's of training, and averages of
/// the weights over it.
pub fn ignored(name: &str) -> bool {
    ["loss.", "ema.", "model_ema."].iter().any(|prefix| name.starts_with(prefix))
}

/// How one clip is cut: along each axis the ranges of the input, and how wide the output's tiles and blends are.
pub struct Windows {
    time: Vec<Range<usize>>,
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
    /// Side of an output tile, and how much of it is blended; `None` for a single tile.
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
    /// Those of [`Tiling::validate`].
    pub fn decoding(config: &VaeConfig, size: [usize; 3], tiling: Option<Tiling>) -> Result<Self> {
        let factors = Factors::of(config);
        let applies = |tiling: &Tiling| tiling.applies(size, factors);
        Self::cut(size, tiling, factors, applies, |sizes| (sizes.latent, sizes.sample))
    }

    /// Cuts a video of `size`.
    ///
    /// # Errors
    /// Those of [`Tiling::validate`].
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
            return Ok(Self { time: whole(frames), rows: whole(height), columns: whole(width), out: None });
        };
        let (window, _) = sides(tiling.time(factors.time));
        let (tile, out_tile) = sides(tiling.space(factors.space));
        let blend = tiling.blend(tile);
        Ok(Self {
            time: time_windows(frames, window),
            rows: space_tiles(height, tile, blend),
            columns: space_tiles(width, tile, blend),
            out: Some((out_tile, tiling.blend(out_tile))),
        })
    }

    /// Frames, rows and columns of the first tile, the largest.
    pub fn first(&self) -> [usize; 3] {
        [&self.time, &self.rows, &self.columns].map(|ranges| ranges[0].len())
    }

    /// Tiles of all windows.
    pub fn units(&self) -> usize {
        self.time.len() * self.rows.len() * self.columns.len()
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
        for (i, frames) in self.time.iter().enumerate() {
            // No more of the clip than this is on the device.
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

    /// One window's tiles, each cross-faded with the finished tile above, then with that to the left, put together.
    /// Of a finished tile only the strips that later tiles fade into are kept.
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

    /// Shape of the whole window's output, from its first tile and the input that tile covers.
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

/// The last `len` rows (columns) of `x`, or all if there are fewer.
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

/// Some frames of a clip.
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

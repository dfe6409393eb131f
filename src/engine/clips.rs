//! Clips to latents and back: the two coders of the VAE, each on a backend that was planned for it.

use super::{Devices, Observer, Stage, StageMemory, StagePlan, TakeFrame, Windowed, decode, encode};
use crate::checkpoint::Model;
use crate::error::{Error, Result};
use crate::latent::Latent;
use crate::model::vae::Factors;
use crate::model::vae::tiling::Tiling;
use crate::video::metrics::Scores;
use crate::video::{Clip, VideoInfo};

/// How a clip goes through the VAE.
#[derive(Clone, Copy, Debug)]
pub struct Coding {
    /// Windows; `None` takes the whole clip at once.
    pub tiling: Option<Tiling>,
    /// Seed of the noise with which the encoder's distribution is sampled; `None` takes its mean. Decoding ignores it.
    pub seed: Option<u64>,
}

/// The original's windows, and a sample with seed 0.
impl Default for Coding {
    fn default() -> Self {
        Self { tiling: Some(Tiling::default()), seed: Some(0) }
    }
}

/// What the VAE keeps of a clip.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// The clip, encoded and decoded.
    pub clip: Clip,
    /// Its latent.
    pub latent: Latent,
    /// Peak signal-to-noise ratio against the input, in dB.
    pub psnr: Scores,
    /// Structural similarity with the input.
    pub ssim: Scores,
    /// How encoder and decoder used memory.
    pub memory: [StageMemory; 2],
}

/// Checks that a clip, and the windows that it goes through the encoder in, are whole latents. The published VAEs take
/// 4k + 1 frames whose sides are multiples of 8.
///
/// # Errors
/// [`Error::Usage`] says what the clip has, or which value of the windows does not fit.
pub fn validate_clip(clip: Windowed, factors: Factors) -> Result<()> {
    let Factors { space, time, .. } = factors;
    let [frames, height, width] = clip.size;
    let whole = |side: usize| side > 0 && side.is_multiple_of(space);
    if !factors.takes_frames(frames) || !whole(height) || !whole(width) {
        return Err(Error::Usage(format!(
            "the VAE takes clips of {time}k+1 frames with sides in multiples of {space} pixels, not {frames} frames of \
             {height}x{width}"
        )));
    }
    clip.tiling.map_or(Ok(()), |tiling| tiling.validate(factors))
}

/// Plans [`encode`] of a clip of this size before any work is done.
///
/// # Errors
/// Those of the devices: [`Error::OutOfMemory`] if there is no room.
pub fn plan_encode<D: Devices>(devices: &D, model: &Model, clip: Windowed) -> Result<StagePlan> {
    let (shapes, pixels) = (model.shapes(), vec![0; 3 * clip.size.iter().product::<usize>()]);
    devices.plan(Stage::Encode, &|backend, savings, observer| {
        encode(backend, &shapes, &pixels, clip, savings, None, observer).map(drop)
    })
}

/// [`encode`], planned.
///
/// # Errors
/// Those of [`encode`]; [`Error::OutOfMemory`] before any work if there is no room.
pub fn encode_planned<D: Devices>(
    devices: &D,
    model: &Model,
    clip: &Clip,
    coding: Coding,
    observer: &mut dyn Observer,
) -> Result<(Latent, StageMemory)> {
    let factors = model.factors()?;
    let windowed = Windowed { size: [clip.frames, clip.height, clip.width], tiling: coding.tiling };
    validate_clip(windowed, factors)?;
    let plan = plan_encode(devices, model, windowed)?;
    observer.planned(Stage::Encode, &plan);
    let backend = devices.open(Stage::Encode, &plan).map_err(|error| error.during(Stage::Encode.name()))?;
    let values = encode(&backend, model, &clip.pixels, windowed, plan.savings, coding.seed, observer)?;
    let latent = Latent { values, size: factors.latent_size(windowed.size), fps: Some(clip.fps) };
    Ok((latent, StageMemory::of(Stage::Encode, &plan)))
}

/// [`decode`], planned.
///
/// # Errors
/// Those of [`decode`] and [`Latent::clip_size`]; [`Error::OutOfMemory`] before any work if there is no room.
pub fn decode_planned<D: Devices>(
    devices: &D,
    model: &Model,
    latent: &Latent,
    coding: Coding,
    observer: &mut dyn Observer,
    frame: &mut TakeFrame<'_>,
) -> Result<StageMemory> {
    let factors = model.factors()?;
    latent.clip_size(factors)?;
    coding.tiling.map_or(Ok(()), |tiling| tiling.validate(factors))?;
    let windowed = Windowed { size: latent.size, tiling: coding.tiling };
    let shapes = model.shapes();
    let plan = devices.plan(Stage::Decode, &|backend, savings, observer| {
        decode(backend, &shapes, &latent.values, windowed, savings, observer, &mut |_| Ok(()))
    })?;
    observer.planned(Stage::Decode, &plan);
    let backend = devices.open(Stage::Decode, &plan).map_err(|error| error.during(Stage::Decode.name()))?;
    decode(&backend, model, &latent.values, windowed, plan.savings, observer, frame)?;
    Ok(StageMemory::of(Stage::Decode, &plan))
}

/// Takes frames of a clip of this size until all of it is there.
pub(super) fn gather(info: VideoInfo, decode: impl FnOnce(&mut TakeFrame<'_>) -> Result<()>) -> Result<Clip> {
    let mut pixels = Vec::new();
    decode(&mut |rgb| {
        pixels.extend_from_slice(rgb);
        Ok(())
    })?;
    Clip::new(info, pixels)
}

//! Decodes latents to frames, and encodes clips to latents.

use super::finite::{Checking, Made, blame};
use super::{Observer, Stage, TakeFrame, tick};
use crate::arriving::Arriving;
use crate::backend::Backend;
use crate::checkpoint::{Component, Model};
use crate::error::{Error, Result};
use crate::layout::nhwc_from_nchw;
use crate::memory::MemoryOptions;
use crate::model::vae::tiling::{Tiling, window_ends};
use crate::model::vae::{
    ClipValues, CoderInput, Factors, Frames, LATENT_SCALE, VaeConfig, VaeDecoder, VaeEncoder, Windows,
};
use crate::ops::pixels::{ToBytes, ToBytesArgs};
use crate::sampler::TorchRng;
use crate::weights::Scope;
use crate::weights::load::Loader;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;

/// The range to which log variances of the posterior are clamped.
const LOG_VARIANCE: (f32, f32) = (-30.0, 20.0);

/// Loads the VAE's decoder.
pub(crate) fn load_decoder<B: Backend>(backend: &B, component: &Component<VaeConfig>) -> Result<VaeDecoder<B::Weight>> {
    VaeDecoder::build(&component.config, Scope::root(&mut Loader::new(&*component.source, backend)))
}

/// Loads the VAE's encoder.
pub(crate) fn load_encoder<B: Backend>(backend: &B, component: &Component<VaeConfig>) -> Result<VaeEncoder<B::Weight>> {
    VaeEncoder::build(&component.config, Scope::root(&mut Loader::new(&*component.source, backend)))
}

/// The size of the VAE's input, and the windows that it goes through the VAE in.
#[derive(Clone, Copy, Debug)]
pub struct Windowed {
    /// Frames, rows and columns: of pixels for the encoder, of latents for the decoder.
    pub size: [usize; 3],
    /// Windows; `None` takes the whole clip at once.
    pub tiling: Option<Tiling>,
}

/// Encodes a clip of RGB bytes, `pixels` `[frames, height, width, 3]`, whose size is whole latents
/// ([`crate::model::vae::Factors`]). Returns the latent `[T, H, W, C]`, times 0.18215: a sample of the posterior with `seed`'s noise, or
/// without `seed` its mean.
///
/// # Errors
/// Errors of reading weights and of the backend; [`crate::Error::Interrupted`].
pub fn encode<B: Backend>(
    backend: &B,
    model: &Model,
    pixels: &[u8],
    clip: Windowed,
    savings: MemoryOptions,
    seed: Option<u64>,
    observer: &mut dyn Observer,
) -> Result<Vec<f32>> {
    let component = model.need_vae()?;
    let encoder = load_encoder(backend, component)?;
    let Windowed { size, tiling } = clip;
    let video = CoderInput { size, values: ClipValues::Bytes(pixels), tiling, frames_at_a_time: savings.vae_frames };
    let mut moments = Vec::new();
    observer.begin(Stage::Encode, Windows::encoding(&component.config, size, tiling)?.units() as u64);
    let encoded =
        encoder.encode(backend, &video, &mut || tick(observer), &mut |frames| download(backend, &frames, &mut moments));
    encoded.map_err(|error| error.during(Stage::Encode.name()))?;
    observer.end();
    let latent = posterior(&moments, component.config.embed_dim, seed);
    let factor = component.config.spatial_factor();
    let axes = [
        ("frame", 0),
        ("row", size[1] / factor),
        ("column", size[2] / factor),
        ("channel", component.config.embed_dim),
    ];
    let made = Made { stage: Stage::Encode.name().into(), what: "the latent", axes: &axes };
    made.check(&latent, f32::MAX).map_err(|error| blame(error, component))?;
    Ok(latent)
}

/// Appends a window's frames to `out`, without those that belong to the window before.
pub(crate) fn download<B: Backend>(backend: &B, frames: &Frames<'_, B>, out: &mut Vec<f32>) -> Result<()> {
    let frame_len = frames.height * frames.width * frames.channels;
    let start = out.len();
    out.resize(start + (frames.frames - frames.skip) * frame_len, 0.0);
    backend.download(frames.data, frames.skip * frame_len, &mut out[start..])
}

/// The mean, or mean + exp(½·log variance)·noise, times [`LATENT_SCALE`]. Noise is drawn in the order (C, T, H, W).
fn posterior(moments: &[f32], channels: usize, seed: Option<u64>) -> Vec<f32> {
    let pixels = moments.chunks_exact(2 * channels);
    let mut latent: Vec<f32> = pixels.clone().flat_map(|pixel| &pixel[..channels]).copied().collect();
    if let Some(seed) = seed {
        let noise = nhwc_from_nchw(&TorchRng::new(seed).randn(latent.len()), channels);
        let log_variances = pixels.flat_map(|pixel| &pixel[channels..]);
        for ((value, noise), &log_variance) in latent.iter_mut().zip(noise).zip(log_variances) {
            *value += (0.5 * log_variance.clamp(LOG_VARIANCE.0, LOG_VARIANCE.1)).exp() * noise;
        }
    }
    latent.iter_mut().for_each(|value| *value *= LATENT_SCALE);
    latent
}

/// The most bytes of frames that go to the host together.
const TOGETHER_BYTES: usize = 128 << 20;

/// The number of frames that go to the host together: all `frames`, but never more than [`TOGETHER_BYTES`].
fn frames_together(frames: usize, frame_bytes: usize) -> usize {
    frames.min(TOGETHER_BYTES / frame_bytes.max(1)).max(1)
}

/// The VAE's decoder, loaded. `H` is a reference to the backend, or a shared pointer.
pub(crate) struct Decoder<'a, B: Backend, H: Deref<Target = B>> {
    backend: H,
    component: &'a Component<VaeConfig>,
    model: VaeDecoder<B::Weight>,
    savings: MemoryOptions,
}

/// Decodes a latent `[T, H, W, C]` (times 0.18215) to RGB frames. Another thread gives them to `frame` in
/// order, so the device computes the next window while the host encodes.
///
/// # Errors
/// Errors of reading weights, of the backend and of `frame`; [`crate::Error::Interrupted`].
pub fn decode<B: Backend>(
    backend: &B,
    model: &Model,
    latent: &[f32],
    clip: Windowed,
    savings: MemoryOptions,
    observer: &mut dyn Observer,
    frame: &mut TakeFrame<'_>,
) -> Result<()> {
    Decoder::load(backend, model, savings)?.decode(latent, clip, 0, observer, frame)
}

impl<'a, B: Backend, H: Deref<Target = B>> Decoder<'a, B, H> {
    /// Loads the decoder.
    pub fn load(backend: H, model: &'a Model, savings: MemoryOptions) -> Result<Self> {
        let component = model.need_vae()?;
        let model = load_decoder(&*backend, component).map_err(during)?;
        Ok(Self { backend, component, model, savings })
    }

    /// As [`decode`], without the first `skipped` windows in time and their frames.
    pub fn decode(
        &self,
        latent: &[f32],
        clip: Windowed,
        skipped: usize,
        observer: &mut dyn Observer,
        frame: &mut TakeFrame<'_>,
    ) -> Result<()> {
        self.backend.begin_run();
        self.check_latent(latent, clip.size)?;
        let windows = Windows::decoding(&self.component.config, clip.size, clip.tiling)?.from(skipped);
        // The thread takes a window's frames while the next window's frames wait in the channel. So the device waits
        // only if the thread is a whole window behind.
        let (sender, receiver) = mpsc::sync_channel::<Together>(1);
        thread::scope(|scope| {
            let take = move || receiver.into_iter().try_for_each(|together: Together| together.hand_over(frame));
            let taker = thread::Builder::new().spawn_scoped(scope, take);
            let taker = taker.map_err(Error::no_thread("takes frames"))?;
            // If the thread has ended early, its own error is returned instead of this one.
            let mut send = |together| sender.send(together).map_err(|_| Error::Interrupted);
            observer.begin(Stage::Decode, windows.units() as u64);
            let decoded = self.decode_frames(latent, clip, skipped, observer, &mut send);
            drop(sender);
            let taken = taker.join().unwrap_or_else(|panic| resume_unwind(panic));
            taken.and(decoded).map_err(|error| blame(during(error), self.component))
        })
    }

    /// Checks that the device's type holds every value of the latent.
    fn check_latent(&self, latent: &[f32], [_, height, width]: [usize; 3]) -> Result<()> {
        let axes = [("frame", 0), ("row", height), ("column", width), ("channel", self.component.config.embed_dim)];
        let made = Made { stage: Stage::Decode.name().into(), what: "the latent that it is given", axes: &axes };
        made.check(latent, self.backend.largest() * LATENT_SCALE)
    }

    fn decode_frames(
        &self,
        latent: &[f32],
        clip: Windowed,
        skipped: usize,
        observer: &mut dyn Observer,
        send: &mut dyn FnMut(Together) -> Result<()>,
    ) -> Result<()> {
        let (backend, Windowed { size, tiling }) = (&*self.backend, clip);
        let values: Vec<f32> = latent.iter().map(|value| value / LATENT_SCALE).collect();
        let values = ClipValues::Floats(&values);
        let clip = CoderInput { size, values, tiling, frames_at_a_time: self.savings.vae_frames };
        let ends = window_ends(size, tiling, Factors::of(&self.component.config));
        let mut sent = if skipped == 0 { 0 } else { ends[skipped - 1] };
        self.model.decode_from(skipped, backend, &clip, &mut || tick(observer), &mut |frames| {
            frames_to_bytes(backend, &frames, &mut sent, send)
        })?;
        observer.end();
        Ok(())
    }
}

fn during(error: Error) -> Error {
    error.during(Stage::Decode.name())
}

/// Frames that are copied to the host together.
struct Together {
    bytes: Box<dyn Arriving>,
    /// The check of the values that become these bytes.
    check: Checking,
    /// The index of the first frame in the video.
    first: usize,
    /// Rows, columns and channels of a frame.
    size: [usize; 3],
}

impl Together {
    /// Gives the frames to `frame` one after the other, if all their values are finite.
    fn hand_over(mut self, frame: &mut TakeFrame<'_>) -> Result<()> {
        let [height, width, channels] = self.size;
        let axes = [("frame", 0), ("row", height), ("column", width), ("channel", channels)];
        let made = Made { stage: Stage::Decode.name().into(), what: "the video", axes: &axes };
        let frame_bytes = height * width * channels;
        self.check.end(&made, self.first * frame_bytes)?;
        self.bytes.bytes()?.chunks_exact(frame_bytes).try_for_each(frame)
    }
}

/// Sends a window's frames as bytes, without those that belong to the window before, and adds their number to `sent`.
fn frames_to_bytes<B: Backend>(
    backend: &B,
    frames: &Frames<'_, B>,
    sent: &mut usize,
    send: &mut dyn FnMut(Together) -> Result<()>,
) -> Result<()> {
    let size = [frames.height, frames.width, frames.channels];
    let frame_bytes = size.iter().product::<usize>();
    let count = frames_together(frames.frames - frames.skip, frame_bytes);
    for first in (frames.skip..frames.frames).step_by(count) {
        let last = (first + count).min(frames.frames);
        let op = ToBytes { offset: first * frame_bytes, len: (last - first) * frame_bytes };
        let check = Checking::start(backend, frames.data, op.offset, op.len)?;
        send(Together { bytes: backend.to_bytes(&op, ToBytesArgs { x: frames.data })?, check, first: *sent, size })?;
        *sent += last - first;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::frames_together;

    #[test]
    fn frames_go_to_the_host_together_in_bounded_memory() {
        let frame_bytes = |side: usize| side * side * 3;
        assert_eq!(frames_together(65, frame_bytes(512)), 65);
        assert_eq!(frames_together(1, frame_bytes(512)), 1);
        assert_eq!(frames_together(65, frame_bytes(1024)), 42);
        assert_eq!(frames_together(65, 1 << 30), 1);
    }
}

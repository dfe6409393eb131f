//! GIF: 256 colours a frame, chosen for each frame, and times in hundredths of a second.

use super::reader::{FrameSource, Opened};
use super::writer::FrameSink;
use super::{FrameRate, VideoInfo, images};
use crate::error::{Error, Result};
use ::gif::{DecodeOptions, Encoder, EncodingError, Frame, Repeat};
use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, Frames, ImageDecoder};
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// How every file begins.
pub(super) const MAGIC: &[u8] = b"GIF8";
/// Of 1 (slow) to 30: how thoroughly colours are chosen. 10 is indistinguishable from 1 and three times as fast.
const PALETTE_SPEED: i32 = 10;
/// Frames that are worked on at the same time.
const BATCH: usize = 16;
/// Browsers show shorter frames for a tenth of a second.
const MIN_DELAY: u64 = 2;
/// What the field holds.
const MAX_DELAY: u64 = u16::MAX as u64;

/// The rate nearest to `fps` that a file plays at: single frames last hundredths of a second, and together what they should.
pub(super) fn rate(fps: FrameRate) -> FrameRate {
    let (above, below) = (u64::from(fps.numerator()), u64::from(fps.denominator()));
    // In hundredths, a frame lasts 100 * below / above.
    let limit = match 100 * below {
        lasts if lasts < MIN_DELAY * above => MIN_DELAY,
        lasts if lasts > MAX_DELAY * above => MAX_DELAY,
        _ => return fps,
    };
    FrameRate::new(100, limit).unwrap_or(fps)
}

/// Writes frames as they come.
pub(super) struct Sink {
    out: Encoder<BufWriter<File>>,
    target: PathBuf,
    width: u16,
    height: u16,
    fps: FrameRate,
    frames: u64,
    waiting: Vec<Vec<u8>>,
}

impl Sink {
    /// `info` fits: the writer has checked that its sides are at most 65535.
    pub fn new(file: File, target: &Path, info: VideoInfo) -> Result<Self> {
        let (width, height) = (info.width as u16, info.height as u16);
        let mut out =
            Encoder::new(BufWriter::new(file), width, height, &[]).map_err(|problem| failed(target, problem))?;
        out.set_repeat(Repeat::Infinite).map_err(|problem| failed(target, problem))?;
        Ok(Self { out, target: target.to_path_buf(), width, height, fps: info.fps, frames: 0, waiting: Vec::new() })
    }

    /// Writes the waiting frames; their colours are chosen at the same time, being nearly all the work.
    fn write_waiting(&mut self) -> Result<()> {
        let (width, height) = (self.width, self.height);
        let waiting = std::mem::take(&mut self.waiting);
        let reduce = |rgb: Vec<u8>| Frame::from_rgb_speed(width, height, &rgb, PALETTE_SPEED);
        let frames: Vec<Frame> = waiting.into_par_iter().map(reduce).collect();
        for mut frame in frames {
            // Differences of rounded times, so that the whole lasts what it should: 24 frames/s is 4, 4, 5, 4, … hundredths.
            let delay = self.time(self.frames + 1) - self.time(self.frames);
            frame.delay = delay.clamp(MIN_DELAY, MAX_DELAY) as u16;
            self.frames += 1;
            self.out.write_frame(&frame).map_err(|problem| failed(&self.target, problem))?;
        }
        Ok(())
    }

    /// When frame `index` begins, in hundredths of a second.
    fn time(&self, index: u64) -> u64 {
        let (rate, scale) = (u64::from(self.fps.numerator()), u64::from(self.fps.denominator()));
        (index * scale * 200 + rate) / (2 * rate)
    }
}

impl FrameSink for Sink {
    fn push(&mut self, rgb: &[u8]) -> Result<()> {
        self.waiting.push(rgb.to_vec());
        if self.waiting.len() == BATCH { self.write_waiting() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.write_waiting()?;
        let Self { out, target, .. } = *self;
        let mut file = out.into_inner().map_err(|problem| failed(&target, problem))?;
        file.flush().map_err(Error::io("cannot write", &target))
    }
}

fn failed(target: &Path, problem: EncodingError) -> Error {
    match problem {
        EncodingError::Io(source) => Error::io("cannot write", target)(source),
        other => Error::media(target, format!("cannot encode GIF: {other}")),
    }
}

/// Frames of a GIF, each put onto the ones before it as the file says. Transparent pixels are black.
struct Source {
    frames: Frames<'static>,
    path: PathBuf,
    done: usize,
}

/// Reads size and timing.
///
/// # Errors
/// [`Error::Media`] if the file is damaged or truncated.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let open = || File::open(path).map(BufReader::new).map_err(Error::io("cannot open", path));
    let fps = scan(open()?, path)?;
    let bad = |problem| images::damaged(path, "GIF", problem);
    let mut decoder = GifDecoder::new(open()?).map_err(bad)?;
    decoder.set_limits(images::limits()).map_err(bad)?;
    let (width, height) = decoder.dimensions();
    let info = VideoInfo { width: width as usize, height: height as usize, fps };
    let source = Source { frames: decoder.into_frames(), path: path.to_path_buf(), done: 0 };
    Ok(Opened::Ready(info, Box::new(source)))
}

/// Walks over all frames without unpacking them, for the mean rate.
fn scan(input: BufReader<File>, path: &Path) -> Result<FrameRate> {
    let bad = |problem: ::gif::DecodingError| Error::media(path, format!("damaged or truncated GIF: {problem}"));
    let mut options = DecodeOptions::new();
    options.skip_frame_decoding(true);
    let mut decoder = options.read_info(input).map_err(bad)?;
    let (mut frames, mut hundredths) = (0u64, 0u64);
    while let Some(frame) = decoder.next_frame_info().map_err(bad)? {
        frames += 1;
        // Like browsers: a frame that asks for no time is shown for a tenth of a second.
        hundredths += if frame.delay < MIN_DELAY as u16 { 10 } else { u64::from(frame.delay) };
    }
    if frames < 2 {
        return Ok(FrameRate::default());
    }
    // The total was rounded to a hundredth: take the whole rate that explains it, if there is one; of several ours.
    let nearest = (frames * 100 + hundredths / 2) / hundredths;
    let explains = |rate: &u64| *rate > 0 && 2 * (frames * 100).abs_diff(hundredths * rate) <= *rate;
    if let Some(rate) = [24, nearest].into_iter().find(explains) {
        return FrameRate::new(rate, 1);
    }
    FrameRate::new(frames * 100, hundredths).map_err(|_| Error::media(path, "a frame lasts longer than 1000 s"))
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(frame) = self.frames.next() else { return Ok(None) };
        let frame =
            frame.map_err(|problem| images::damaged(&self.path, &format!("GIF, frame {}", self.done), problem))?;
        self.done += 1;
        let rgba = frame.into_buffer().into_raw();
        let shown = |pixel: &[u8]| if pixel[3] == 0 { [0; 3] } else { [pixel[0], pixel[1], pixel[2]] };
        Ok(Some(rgba.chunks_exact(4).flat_map(shown).collect()))
    }
}

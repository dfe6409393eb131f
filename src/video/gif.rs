//! Writes GIF: 256 colours, chosen for each frame, and times in hundredths of a second.

use super::stream::FrameSink;
use super::{FrameRate, VideoInfo};
use crate::error::{Error, Result};
use ::gif::{Encoder, EncodingError, Extension, Frame, Repeat};
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// How carefully colours are chosen, from 1 (slow) to 30. 10 is indistinguishable from 1 and three times as fast.
const PALETTE_SPEED: i32 = 10;
/// Frames that are encoded in parallel.
const BATCH: usize = 16;
/// The least delay, in hundredths of a second. Browsers show shorter frames for a tenth of a second.
const MIN_DELAY: u64 = 2;
/// The largest delay that the field holds.
const MAX_DELAY: u64 = u16::MAX as u64;

/// The rate nearest to `fps` that a file can hold. Each frame lasts whole hundredths of a second, but the total is
/// right.
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

/// Writes each frame when it arrives.
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
    /// A writer of `info`, whose sides are at most 65535: the caller has checked that.
    pub fn new(file: File, target: &Path, info: VideoInfo) -> Result<Self> {
        let (width, height) = (info.width as u16, info.height as u16);
        let mut out =
            Encoder::new(BufWriter::new(file), width, height, &[]).map_err(|problem| failed(target, problem))?;
        out.set_repeat(Repeat::Infinite).map_err(|problem| failed(target, problem))?;
        Ok(Self { out, target: target.to_path_buf(), width, height, fps: info.fps, frames: 0, waiting: Vec::new() })
    }

    /// Writes the waiting frames. Their colours are chosen in parallel, because that is nearly all the work.
    fn write_waiting(&mut self) -> Result<()> {
        let (width, height) = (self.width, self.height);
        let waiting = std::mem::take(&mut self.waiting);
        let reduce = |rgb: Vec<u8>| Frame::from_rgb_speed(width, height, &rgb, PALETTE_SPEED);
        let frames: Vec<Frame> = waiting.into_par_iter().map(reduce).collect();
        for mut frame in frames {
            // Differences of rounded times, so that the total is right: 24 frames/s is 4, 4, 5, 4, … hundredths.
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
    fn describe(&mut self, text: &str) -> Result<()> {
        let written = self.out.write_raw_extension(Extension::Comment.into(), &[text.as_bytes()]);
        written.map_err(|problem| failed(&self.target, problem))
    }

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

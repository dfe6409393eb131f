//! MP4 with one H.264 track.
//!
//! Boxes are written and read here. docs/formats.md names the crates that could do it, and what each lacks.

mod demux;
mod mux;
mod source;
mod times;
mod track;

use super::FrameRate;
use super::VideoInfo;
use super::h264::Encoder;
use super::stream::FrameSink;
use crate::error::{Error, Result};
pub(super) use source::open;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Least width and height that the encoder takes.
pub(super) const MIN_SIDE: usize = 16;
/// Most width or height that the encoder takes,
pub(super) const MAX_LONG_SIDE: usize = 3840;
/// and most of the other.
pub(super) const MAX_SHORT_SIDE: usize = 2160;

/// Whether `frames` frames at `fps`, which is a rate that the format plays at, have as few ticks as the fields hold.
pub(super) fn holds(fps: FrameRate, frames: usize) -> bool {
    u32::try_from(frames).is_ok_and(|frames| frames.checked_mul(fps.denominator()).is_some())
}

/// Encodes frames as they come; the file is put together at the end, because its index stands before the frames.
pub(super) struct Sink {
    encoder: Encoder,
    movie: mux::Movie,
    out: BufWriter<File>,
    target: PathBuf,
}

impl Sink {
    pub fn new(file: File, target: &Path, info: VideoInfo) -> Result<Self> {
        let encoder = Encoder::new(info).map_err(|problem| failed(target, &problem))?;
        Ok(Self { encoder, movie: mux::Movie::new(info), out: BufWriter::new(file), target: target.to_path_buf() })
    }
}

fn failed(target: &Path, problem: &dyn std::fmt::Display) -> Error {
    Error::media(target, format!("cannot encode H.264: {problem}"))
}

impl FrameSink for Sink {
    fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let unit = self.encoder.encode(rgb).map_err(|problem| failed(&self.target, &problem))?;
        self.movie.push(&unit);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let head = self.movie.head().map_err(|problem| failed(&self.target, &problem))?;
        let mut write = |bytes| self.out.write_all(bytes);
        write(&head)
            .and_then(|()| write(self.movie.frames()))
            .and_then(|()| self.out.flush())
            .map_err(Error::io("cannot write", &self.target))
    }
}

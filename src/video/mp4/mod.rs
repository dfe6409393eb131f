//! MP4 with one H.264 track.
//!
//! This module writes and reads the boxes. docs/formats.md names the crates that could do it, and what each lacks.

mod comment;
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
pub(super) use comment::comment;
pub(super) use source::open;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The least width and height that the encoder accepts.
pub(super) const MIN_SIDE: usize = 16;
/// The largest longer side that the encoder accepts.
pub(super) const MAX_LONG_SIDE: usize = 3840;
/// The largest shorter side that the encoder accepts.
pub(super) const MAX_SHORT_SIDE: usize = 2160;

/// Whether the duration of `frames` frames at `fps`, in ticks, fits into the fields; `fps` is a rate that the format
/// holds.
pub(super) fn holds(fps: FrameRate, frames: usize) -> bool {
    u32::try_from(frames).is_ok_and(|frames| frames.checked_mul(fps.denominator()).is_some())
}

/// Encodes each frame when it arrives. The file is assembled at the end, because its index comes before the frames.
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
    fn describe(&mut self, text: &str) -> Result<()> {
        self.movie.comment = Some(text.to_owned());
        Ok(())
    }

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

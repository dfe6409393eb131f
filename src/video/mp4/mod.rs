//! MP4 with one H.264 track.
//!
//! Boxes are written and read here: this takes little code, while the crates that were tried end a one-frame clip after
//! 1/90000 s and round 23.976 frames/s (writing), or panic on damaged sample tables (reading).

mod demux;
mod mux;

use super::h264::{Decoder, Encoder, Picture};
use super::reader::{FrameSource, Opened};
use super::sps::Sps;
use super::writer::FrameSink;
use super::yuv::Colour;
use super::{FrameRate, MAX_PIXELS, VideoInfo};
use crate::error::{Error, Result};
use demux::{Refusal, Sample, Track};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
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

/// Frames of an MP4 in the order of showing.
struct Source {
    file: File,
    path: PathBuf,
    track: Track,
    decoder: Decoder,
    /// Samples handed to the decoder.
    sent: usize,
    ready: VecDeque<Picture>,
    size: (usize, usize),
    unit: Vec<u8>,
}

/// Reads the index and the first frame.
///
/// # Errors
/// [`Error::Media`] if the file is damaged or truncated, [`Error::Io`] if it cannot be read.
pub(super) fn open(mut file: File, path: &Path) -> Result<Opened> {
    let damaged = |problem: String| Error::media(path, format!("damaged or truncated MP4: {problem}"));
    let length = file.metadata().map_err(Error::io("cannot read", path))?.len();
    let Some(index) = demux::read_index(&mut file, length).map_err(Error::io("cannot read", path))? else {
        return Err(damaged("it has no index (moov)".into()));
    };
    let track = match demux::parse(&index, length) {
        Ok(track) => track,
        Err(Refusal::NotHandled(kind)) => return Ok(Opened::NotHandled(kind)),
        Err(Refusal::Damaged(problem)) => return Err(damaged(problem)),
    };
    let sps = track.parameter_sets.first().and_then(|nal| Sps::parse(nal));
    let sps = sps.ok_or_else(|| damaged("it has no sequence parameter set that can be read".into()))?;
    let colour = match playable(&sps) {
        Ok(colour) => colour,
        Err(kind) => return Ok(Opened::NotHandled(kind)),
    };
    if sps.width.saturating_mul(sps.height) > MAX_PIXELS {
        return Err(damaged(format!("frames of {}x{}; up to 8192x8192 are read", sps.width, sps.height)));
    }
    let decoder = Decoder::new(colour).map_err(|problem| damaged(problem.to_string()))?;
    let (path, fps) = (path.to_path_buf(), track.fps);
    let mut source =
        Source { file, path, track, decoder, sent: 0, ready: VecDeque::new(), size: (0, 0), unit: Vec::new() };
    source.start()?;
    let (width, height) = source.size;
    Ok(Opened::Ready(VideoInfo { width, height, fps }, Box::new(source)))
}

/// The meaning of the stream's colours, or what kind of stream it is that openh264 does not decode.
fn playable(sps: &Sps) -> std::result::Result<Colour, String> {
    match sps.colour {
        _ if sps.chroma_format != 1 => Err("MP4 with H.264 whose chroma is not 4:2:0".into()),
        _ if sps.bit_depth != 8 => Err(format!("MP4 with H.264 of {} bits", sps.bit_depth)),
        _ if !sps.progressive => Err("MP4 with interlaced H.264".into()),
        None => Err("MP4 with H.264 in colours other than BT.601 and BT.709".into()),
        Some(colour) => Ok(colour),
    }
}

impl Source {
    /// Hands over the parameter sets and decodes until there is a picture, which gives the size.
    fn start(&mut self) -> Result<()> {
        for nal in std::mem::take(&mut self.track.parameter_sets) {
            self.unit.extend_from_slice(&[0, 0, 0, 1]);
            self.unit.extend_from_slice(&nal);
        }
        self.decode()?;
        self.fill()?;
        match self.ready.front() {
            Some(picture) => self.size = (picture.width, picture.height),
            None => return Err(self.damaged("no frame can be decoded")),
        }
        Ok(())
    }

    /// Decodes until a picture is ready or nothing is left.
    fn fill(&mut self) -> Result<()> {
        while self.ready.is_empty() && self.sent < self.track.samples.len() {
            self.read_sample()?;
            self.sent += 1;
            self.decode()?;
            if self.sent == self.track.samples.len() {
                let waiting = self.decoder.finish().map_err(|problem| self.damaged(&problem.to_string()))?;
                self.ready.extend(waiting);
            }
        }
        Ok(())
    }

    fn decode(&mut self) -> Result<()> {
        let picture = self.decoder.decode(&self.unit).map_err(|problem| self.damaged(&problem.to_string()))?;
        self.ready.extend(picture);
        Ok(())
    }

    /// Reads the next sample into `unit` and turns the lengths before its NAL units into start codes.
    fn read_sample(&mut self) -> Result<()> {
        let Sample { offset, size } = self.track.samples[self.sent];
        let mut sample = vec![0; size as usize];
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(&mut sample))
            .map_err(Error::io("cannot read", &self.path))?;
        self.unit.clear();
        let mut rest = sample.as_slice();
        while !rest.is_empty() {
            let Some((length, after)) = rest.split_at_checked(self.track.length_bytes) else {
                return Err(self.damaged("a NAL unit has no length"));
            };
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let Some((nal, after)) = after.split_at_checked(length) else {
                return Err(self.damaged("a NAL unit is longer than its sample"));
            };
            self.unit.extend_from_slice(&[0, 0, 0, 1]);
            self.unit.extend_from_slice(nal);
            rest = after;
        }
        Ok(())
    }

    fn damaged(&self, problem: &str) -> Error {
        let (at, all) = (self.sent.max(1), self.track.samples.len());
        Error::media(&self.path, format!("damaged MP4 at coded frame {at} of {all}: {problem}"))
    }
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        self.fill()?;
        let Some(picture) = self.ready.pop_front() else { return Ok(None) };
        if (picture.width, picture.height) != self.size {
            let (width, height) = self.size;
            return Err(
                self.damaged(&format!("frames change from {width}x{height} to {}x{}", picture.width, picture.height))
            );
        }
        Ok(Some(picture.rgb))
    }
}

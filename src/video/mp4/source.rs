//! Decodes the H.264 track of an MP4.

use super::demux::{self, Contents, MOST_INDEX, Refusal, Sample};
use super::track::{self, Description, Track};
use crate::error::{Error, Result};
use crate::video::h264::{Decoder, IDR, Picture, SPS, Stopped};
use crate::video::sps::Sps;
use crate::video::stream::{FrameSource, Opened, Stream};
use crate::video::yuv::Colour;
use crate::video::{MAX_PIXELS, VideoInfo};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Frames of an MP4 in presentation order.
struct Source {
    file: File,
    path: PathBuf,
    track: Track,
    decoder: Decoder,
    /// The number of samples handed to the decoder.
    sent: usize,
    /// Index of the description of the last sample.
    description: usize,
    /// The number of pictures taken from the decoder, shown or not.
    taken: usize,
    ready: VecDeque<Picture>,
    size: (usize, usize),
    /// The next unit for the decoder.
    unit: Unit,
}

/// Reads the index and the first frame.
///
/// # Errors
/// [`Error::Media`] if the file is damaged, truncated or encrypted, [`Error::Io`] if it cannot be read.
pub(in crate::video) fn open(mut file: File, path: &Path) -> Result<Opened> {
    let damaged = |problem: String| Error::media(path, format!("damaged or truncated MP4: {problem}"));
    let length = file.metadata().map_err(Error::io("cannot read", path))?.len();
    let index = match demux::read_index(&mut file, length).map_err(Error::io("cannot read", path))? {
        Contents::Movie(index) => index,
        Contents::Vast(bytes) => {
            return Err(damaged(format!("its index (moov) has {bytes} bytes; at most {MOST_INDEX} can be read")));
        }
        Contents::Still(kind) => return Ok(Opened::NotHandled(format!("is {kind}"))),
        Contents::Unknown => return Err(damaged("it has no index (moov)".into())),
    };
    let track = match track::parse(&index, length) {
        Ok(track) => track,
        Err(Refusal::NotHandled(kind)) => return Ok(Opened::NotHandled(kind)),
        Err(Refusal::Damaged(problem)) => return Err(damaged(problem)),
        Err(Refusal::Unreadable(reason)) => return Err(Error::media(path, reason)),
    };
    let Some(sps) = track.descriptions.iter().map(Description::sps).collect::<Option<Vec<_>>>() else {
        return Err(damaged("it has no readable sequence parameter set".into()));
    };
    let colour = match sps.iter().map(playable).collect::<std::result::Result<Vec<_>, _>>() {
        Ok(colours) => colours[track.samples[0].description],
        Err(kind) => return Ok(Opened::NotHandled(format!("MP4 with H.264 {kind}"))),
    };
    let first = sps[track.samples[0].description];
    let size = |sps: &Sps| (sps.width, sps.height, sps.aspect);
    if sps.iter().any(|other| size(other) != size(&first)) {
        return Ok(Opened::NotHandled("MP4 with frames of several sizes".into()));
    }
    let (width, height) = (first.width, first.height);
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(damaged(format!("frames of {width}x{height}; at most 8192x8192 can be read")));
    }
    let decoder = Decoder::new(colour).map_err(|Stopped| Error::media(path, "the H.264 decoder cannot be started"))?;
    let (path, description) = (path.to_path_buf(), track.samples[0].description);
    let (ready, size, unit) = (VecDeque::new(), (0, 0), Unit::default());
    Source { file, path, track, decoder, sent: 0, description, taken: 0, ready, size, unit }.start(&first)
}

/// The stream's colour space, or the kind of H.264 if openh264 does not decode it.
fn playable(sps: &Sps) -> std::result::Result<Colour, String> {
    const BASELINE: u32 = 66;
    const MAIN: u32 = 77;
    const HIGH: u32 = 100;
    const HIGH_444_PREDICTIVE: u32 = 244;
    match (sps.profile, sps.tags.colour(sps.height)) {
        _ if sps.chroma_format != 1 => Err("whose chroma is not 4:2:0".into()),
        _ if sps.bit_depth != 8 => Err(format!("of {} bits", sps.bit_depth)),
        _ if !sps.progressive => Err("that is interlaced".into()),
        (HIGH_444_PREDICTIVE, _) => Err("of profile High 4:4:4 Predictive, which may be lossless".into()),
        (BASELINE | MAIN | HIGH, Some(colour)) => Ok(colour),
        (BASELINE | MAIN | HIGH, None) => Err("in colours other than BT.601 and BT.709".into()),
        (profile, _) => Err(format!("of profile {profile}; Baseline, Main and High are decoded")),
    }
}

impl Source {
    /// Hands over the parameter sets and decodes until there is a picture, which gives the size.
    fn start(mut self, sps: &Sps) -> Result<Opened> {
        let other = |kind: &str| Ok(Opened::NotHandled(format!("MP4 with H.264 {kind}")));
        self.begin_unit();
        self.ready.extend(self.decoder.decode(&self.unit.bytes).ok().flatten());
        self.read_sample()?;
        if !self.unit.is_idr {
            return other("that was cut out of a longer video: its first frame needs frames before it");
        }
        match self.fill() {
            Ok(()) => {}
            // No frame was returned yet, so another decoder can still be tried.
            Err(Failure::Stopped) => return other("that is damaged, or coded in a way that is not decoded here"),
            Err(Failure::Other(error)) => return Err(error),
        }
        let Some(picture) = self.ready.front() else { return Err(self.damaged("no frame can be decoded")) };
        let (width, height) = (picture.width, picture.height);
        self.size = (width, height);
        let (turn, fps) = (self.track.turn, self.track.showing.fps);
        let notices = [sps.tags.warning(), self.track.showing.notice.take()];
        let aspect = sps.aspect.unwrap_or((1, 1));
        let mut stream = Stream::turned(VideoInfo { width, height, fps }, turn, aspect, Box::new(self));
        stream.notices.extend(notices.into_iter().flatten());
        Ok(Opened::Ready(stream))
    }

    /// Decodes until a picture is ready or no sample is left.
    fn fill(&mut self) -> std::result::Result<(), Failure> {
        while self.ready.is_empty() && self.sent < self.track.samples.len() {
            self.read_sample()?;
            self.sent += 1;
            // New parameter sets take effect at such a frame, and the decoder then drops waiting pictures.
            if self.unit.is_idr {
                self.ready.extend(self.decoder.drain()?);
                self.heed_parameter_sets()?;
            }
            self.ready.extend(self.decoder.decode(&self.unit.bytes)?);
            if self.sent == self.track.samples.len() {
                self.ready.extend(self.decoder.drain()?);
            }
        }
        Ok(())
    }

    /// Takes over the colours of the parameter sets in `unit`. A change of size is seen in the pictures.
    fn heed_parameter_sets(&mut self) -> Result<()> {
        let description = &self.track.descriptions[self.description];
        if let Some(sps) = self.unit.sps.as_ref().and_then(|nal| description.completed(nal)) {
            let colour = playable(&sps);
            self.decoder.colour = colour.map_err(|kind| self.damaged(&format!("it continues with H.264 {kind}")))?;
        }
        Ok(())
    }

    /// Starts `unit` with the parameter sets of the current description.
    fn begin_unit(&mut self) {
        self.unit = Unit::default();
        for nal in &self.track.descriptions[self.description].parameter_sets {
            self.unit.push(nal);
        }
    }

    /// Reads the next sample into `unit` and turns the lengths before its NAL units into start codes.
    fn read_sample(&mut self) -> Result<()> {
        let Sample { offset, size, description } = self.track.samples[self.sent];
        let mut sample = vec![0; size as usize];
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(&mut sample))
            .map_err(Error::io("cannot read", &self.path))?;
        self.unit = Unit::default();
        if description != self.description {
            self.description = description;
            self.begin_unit();
        }
        let length_bytes = self.track.descriptions[description].length_bytes;
        let mut rest = sample.as_slice();
        while !rest.is_empty() {
            let Some((length, after)) = rest.split_at_checked(length_bytes) else {
                return Err(self.damaged("a NAL unit has no length"));
            };
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let Some((nal, after)) = after.split_at_checked(length) else {
                return Err(self.damaged("a NAL unit is longer than its sample"));
            };
            self.unit.push(nal);
            rest = after;
        }
        Ok(())
    }

    fn damaged(&self, problem: &str) -> Error {
        let (at, all) = (self.sent.max(1), self.track.samples.len());
        Error::media(&self.path, format!("damaged MP4 at coded frame {at} of {all}: {problem}"))
    }

    /// The error for a failure after the first frames.
    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::Stopped => self.damaged(
                "it cannot be decoded; if players show it, encode it again: ffmpeg -i IN -c:v libx264 OUT.mp4",
            ),
            Failure::Other(error) => error,
        }
    }
}

/// Why there is no picture.
enum Failure {
    /// The decoder has stopped.
    Stopped,
    /// The file cannot be read, or its boxes are damaged.
    Other(Error),
}

impl From<Stopped> for Failure {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// NAL units with start codes, as the decoder expects them.
#[derive(Default)]
struct Unit {
    bytes: Vec<u8>,
    /// Whether decoding can begin here.
    is_idr: bool,
    /// Its last sequence parameter set.
    sps: Option<Vec<u8>>,
}

impl Unit {
    /// Adds a unit, unless it is empty: then the start code would be longer than what the file has for it.
    fn push(&mut self, nal: &[u8]) {
        if nal.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(&[0, 0, 0, 1]);
        self.bytes.extend_from_slice(nal);
        match nal.first().map_or(0, |head| head & 31) {
            IDR => self.is_idr = true,
            SPS => self.sps = Some(nal.to_vec()),
            _ => {}
        }
    }
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        while let Some(shown) = self.track.showing.shown.front() {
            if self.taken >= shown.end {
                self.track.showing.shown.pop_front();
                continue;
            }
            let is_shown = shown.contains(&self.taken);
            self.fill().map_err(|failure| self.failed(failure))?;
            let Some(picture) = self.ready.pop_front() else { return Ok(None) };
            self.taken += 1;
            if (picture.width, picture.height) != self.size {
                let ((from, by), (width, height)) = (self.size, (picture.width, picture.height));
                return Err(self.damaged(&format!("frames change from {from}x{by} to {width}x{height}")));
            }
            if is_shown {
                return Ok(Some(picture.rgb));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_units_take_no_memory() {
        let mut unit = Unit::default();
        (0..1000).for_each(|_| unit.push(&[]));
        assert!(unit.bytes.is_empty());
        unit.push(&[IDR, 7]);
        assert!(unit.is_idr && unit.bytes == [0, 0, 0, 1, IDR, 7]);
    }
}

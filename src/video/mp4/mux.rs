//! Writes the boxes (ISO/IEC 14496-12 and -15): the index first, so that a player can start before it has loaded all.
//!
//! Nothing depends on the clock: creation times are 0, "unknown", so equal frames give equal files.

use crate::video::VideoInfo;
use crate::video::h264::{PPS, SPS, Unit};

/// Ticks per second, approximately: the MPEG clock, which most frame rates divide.
const TICKS: u32 = 90_000;
/// The name of the box that holds a comment: `©cmt`, whose first letter is a byte of Mac Roman.
pub(super) const COMMENT: &[u8; 4] = b"\xa9cmt";
/// The kind of data that is text in UTF-8.
pub(super) const UTF8: u32 = 1;
/// The unit transformation, as movie and track headers store it.
const IDENTITY: [u32; 9] = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30];

/// Coded frames that become a file.
pub(super) struct Movie {
    info: VideoInfo,
    sps: Vec<u8>,
    pps: Vec<u8>,
    sizes: Vec<u32>,
    /// Numbers, from 1, of the frames at which decoding can begin.
    keys: Vec<u32>,
    frames: Vec<u8>,
    pub comment: Option<String>,
}

impl Movie {
    pub fn new(info: VideoInfo) -> Self {
        let (sps, pps, sizes, keys, frames) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { info, sps, pps, sizes, keys, frames, comment: None }
    }

    /// Adds a frame. Parameter sets never change and go into the index.
    pub fn push(&mut self, unit: &Unit) {
        let start = self.frames.len();
        for nal in &unit.nals {
            match nal.first().map(|head| head & 31) {
                Some(SPS) => self.sps.clone_from(nal),
                Some(PPS) => self.pps.clone_from(nal),
                _ => {
                    self.frames.extend_from_slice(&(nal.len() as u32).to_be_bytes());
                    self.frames.extend_from_slice(nal);
                }
            }
        }
        self.sizes.push((self.frames.len() - start) as u32);
        if unit.key {
            self.keys.push(self.sizes.len() as u32);
        }
    }

    /// The bytes before the frames.
    ///
    /// # Errors
    /// If the clip is longer than the 32-bit fields hold: 4 GiB, or half a day.
    pub fn head(&self) -> Result<Vec<u8>, &'static str> {
        const TOO_LONG: &str = "the clip is longer than an MP4 with 32-bit offsets holds; write a folder of PNGs";
        let timing = self.timing().ok_or(TOO_LONG)?;
        let mut head = Vec::new();
        put(&mut head, b"ftyp", |out| out.extend_from_slice(b"isom\0\0\x02\0isomiso2avc1mp41"));
        // The index holds the offset of the frames, which depends on the size of the index: it is made twice.
        let index = |offset| {
            let mut out = Vec::new();
            put(&mut out, b"moov", |out| self.movie(out, &timing, offset));
            out
        };
        let offset = head.len() + index(0).len() + 8;
        u32::try_from(offset + self.frames.len()).map_err(|_| TOO_LONG)?;
        head.extend(index(offset as u32));
        words(&mut head, &[self.frames.len() as u32 + 8]);
        head.extend_from_slice(b"mdat");
        Ok(head)
    }

    /// `None` if the clip is too long.
    fn timing(&self) -> Option<Timing> {
        let (rate, scale) = (self.info.fps.numerator(), self.info.fps.denominator());
        let frames = self.sizes.len() as u32;
        // Fewer ticks a second if the whole clip would have too many ticks.
        let most = u32::MAX / scale / frames.max(1);
        let factor = (TICKS / rate).min(most).max(1);
        let delta = scale.checked_mul(factor)?;
        Some(Timing { timescale: rate.checked_mul(factor)?, delta, frames, duration: delta.checked_mul(frames)? })
    }

    /// The bytes after [`head`](Self::head).
    pub fn frames(&self) -> &[u8] {
        &self.frames
    }

    fn movie(&self, out: &mut Vec<u8>, timing: &Timing, offset: u32) {
        const PLAIN_RATE: u32 = 1 << 16;
        const FULL_VOLUME: u32 = 1 << 24;
        const NEXT_TRACK: u32 = 2;
        put(out, b"mvhd", |out| {
            words(out, &[0, 0, 0, timing.timescale, timing.duration]);
            words(out, &[PLAIN_RATE, FULL_VOLUME, 0, 0]);
            words(out, &IDENTITY);
            words(out, &[0; 6]);
            words(out, &[NEXT_TRACK]);
        });
        put(out, b"trak", |out| {
            const ENABLED_IN_MOVIE: u32 = 3;
            let (width, height) = self.size();
            put(out, b"tkhd", |out| {
                words(out, &[ENABLED_IN_MOVIE, 0, 0, 1, 0, timing.duration]);
                words(out, &[0; 4]);
                words(out, &IDENTITY);
                words(out, &[u32::from(width) << 16, u32::from(height) << 16]);
            });
            put(out, b"mdia", |out| self.media(out, timing, offset));
        });
        if let Some(text) = &self.comment {
            put(out, b"udta", |out| comment(out, text));
        }
    }

    /// The box `mdia`: the contents of the track.
    fn media(&self, out: &mut Vec<u8>, timing: &Timing, offset: u32) {
        const UNDETERMINED_LANGUAGE: u32 = 0x55c4 << 16;
        put(out, b"mdhd", |out| words(out, &[0, 0, 0, timing.timescale, timing.duration, UNDETERMINED_LANGUAGE]));
        put(out, b"hdlr", |out| out.extend_from_slice(b"\0\0\0\0\0\0\0\0vide\0\0\0\0\0\0\0\0\0\0\0\0video\0"));
        put(out, b"minf", |out| {
            put(out, b"vmhd", |out| words(out, &[1, 0, 0]));
            // The frames are in this file.
            put(out, b"dinf", |out| {
                put(out, b"dref", |out| {
                    words(out, &[0, 1]);
                    put(out, b"url ", |out| words(out, &[1]));
                });
            });
            put(out, b"stbl", |out| self.samples(out, timing, offset));
        });
    }

    /// The tables of the samples' times and offsets. All frames are in one chunk.
    fn samples(&self, out: &mut Vec<u8>, timing: &Timing, offset: u32) {
        put(out, b"stsd", |out| {
            words(out, &[0, 1]);
            put(out, b"avc1", |out| self.description(out));
        });
        put(out, b"stts", |out| words(out, &[0, 1, timing.frames, timing.delta]));
        put(out, b"stss", |out| {
            words(out, &[0, self.keys.len() as u32]);
            words(out, &self.keys);
        });
        put(out, b"stsc", |out| words(out, &[0, 1, 1, timing.frames, 1]));
        put(out, b"stsz", |out| {
            words(out, &[0, 0, timing.frames]);
            words(out, &self.sizes);
        });
        put(out, b"stco", |out| words(out, &[0, 1, offset]));
    }

    /// The sample description: H.264 of the Baseline profile, 4 bytes of length before each NAL unit, BT.709.
    fn description(&self, out: &mut Vec<u8>) {
        const PER_INCH: u32 = 72 << 16;
        let (width, height) = self.size();
        words(out, &[0, 1, 0, 0, 0, 0]);
        words(out, &[u32::from(width) << 16 | u32::from(height), PER_INCH, PER_INCH, 0, 1 << 16]);
        out.extend_from_slice(&[0; 30]); // rest of the frame count's word, and no compressor's name
        out.extend_from_slice(&[0, 0x18, 0xff, 0xff]);
        put(out, b"avcC", |out| {
            out.push(1);
            out.extend_from_slice(&self.sps[1..4]);
            out.extend_from_slice(&[0xff, 0xe1]);
            out.extend_from_slice(&(self.sps.len() as u16).to_be_bytes());
            out.extend_from_slice(&self.sps);
            out.push(1);
            out.extend_from_slice(&(self.pps.len() as u16).to_be_bytes());
            out.extend_from_slice(&self.pps);
        });
        put(out, b"colr", |out| out.extend_from_slice(b"nclx\0\x01\0\x01\0\x01\0"));
    }

    /// Width and height as coded, which are even. The writer has checked that they fit.
    fn size(&self) -> (u16, u16) {
        (self.info.width.next_multiple_of(2) as u16, self.info.height.next_multiple_of(2) as u16)
    }
}

/// The box `meta` with a comment, as iTunes and ffmpeg write it.
fn comment(out: &mut Vec<u8>, text: &str) {
    put(out, b"meta", |out| {
        words(out, &[0]);
        put(out, b"hdlr", |out| out.extend_from_slice(b"\0\0\0\0\0\0\0\0mdirappl\0\0\0\0\0\0\0\0\0"));
        put(out, b"ilst", |out| {
            put(out, COMMENT, |out| {
                put(out, b"data", |out| {
                    words(out, &[UTF8, 0]);
                    out.extend_from_slice(text.as_bytes());
                });
            });
        });
    });
}

/// Times in ticks of 1/`timescale` seconds.
struct Timing {
    timescale: u32,
    /// Duration of a frame.
    delta: u32,
    frames: u32,
    /// Duration of all frames.
    duration: u32,
}

/// Appends a box: its length, its name, what `fill` appends.
fn put(out: &mut Vec<u8>, name: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    words(out, &[0]);
    out.extend_from_slice(name);
    fill(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

//! The video track of an MP4: its samples, their coding, and how to show them.

use super::demux::{Refusal, Sample, boxes, find, missing, samples, word};
use super::times::{Showing, showing};
use crate::video::sps::Sps;
use crate::video::tags::Tags;
use crate::video::view::Turn;

/// How samples are coded.
pub(super) struct Description {
    /// NAL units, the sequence parameter set first.
    pub parameter_sets: Vec<Vec<u8>>,
    /// Bytes of the length before each NAL unit.
    pub length_bytes: usize,
    /// The file's colour flags, for a stream without flags.
    tags: Tags,
    /// The pixel aspect ratio, width to height, if the file has one; it takes precedence over the stream's.
    aspect: Option<(u32, u32)>,
}

impl Description {
    /// The sequence parameter set `nal`, completed with the file's flags. `None` if it is damaged.
    pub fn completed(&self, nal: &[u8]) -> Option<Sps> {
        let sps = Sps::parse(nal)?;
        Some(Sps { tags: sps.tags.or(self.tags), aspect: self.aspect.or(sps.aspect), ..sps })
    }

    /// The completed first parameter set, which must be a sequence parameter set.
    pub fn sps(&self) -> Option<Sps> {
        self.completed(self.parameter_sets.first()?)
    }
}

/// The H.264 track of a file.
pub(super) struct Track {
    /// The samples in decoding order; all lie inside the file.
    pub samples: Vec<Sample>,
    /// At least one.
    pub descriptions: Vec<Description>,
    /// Which frames are shown, and at what rate.
    pub showing: Showing,
    pub turn: Turn,
}

/// The first video track of the index `moov`, if it is H.264 and not fragmented.
pub(super) fn parse(moov: &[u8], file_length: u64) -> Result<Track, Refusal> {
    let other = |kind: String| Err(Refusal::NotHandled(kind));
    let track = |kind: &[u8; 4]| {
        let mut tracks = boxes(moov).filter(|(name, _)| name == b"trak").map(|(_, trak)| trak);
        tracks.find(|trak| {
            let hdlr = find(trak, b"mdia").and_then(|mdia| find(mdia, b"hdlr"));
            hdlr.is_some_and(|hdlr| hdlr.get(8..12) == Some(kind))
        })
    };
    let trak = match (track(b"vide"), track(b"pict")) {
        (Some(trak), _) => trak,
        (None, Some(_)) => return other("MP4 with a sequence of images".into()),
        (None, None) => return Err(Refusal::Unreadable("has no video: it is an MP4 without a video track")),
    };
    let mdia = find(trak, b"mdia").unwrap_or_default();
    let tables = find(mdia, b"minf").and_then(|minf| find(minf, b"stbl")).ok_or_else(|| missing("stbl"))?;
    let entries = find(tables, b"stsd").and_then(|stsd| stsd.get(8..)).unwrap_or_default();
    if let Some((codec, _)) = boxes(entries).find(|(codec, _)| codec != b"avc1") {
        return match &codec {
            b"encv" => {
                Err(Refusal::Unreadable("is encrypted (DRM) and cannot be read without its key; decrypt it first"))
            }
            _ => other(format!("MP4 with video of kind {}", codec.escape_ascii())),
        };
    }
    if find(moov, b"mvex").is_some() {
        return other("MP4 in fragments".into());
    }
    let descriptions: Option<Vec<_>> = boxes(entries).map(|(_, entry)| description(entry)).collect();
    let descriptions = descriptions.ok_or_else(|| missing("avcC"))?;
    if descriptions.is_empty() {
        return Err(missing("stsd"));
    }
    let samples = samples(tables, file_length, descriptions.len())?;
    let showing = showing(moov, trak, mdia, samples.len())?;
    let Some(turn) = Turn::matrix(matrix(moov, trak)) else {
        return other("MP4 with frames rotated by less than a quarter turn".into());
    };
    Ok(Track { samples, descriptions, showing, turn })
}

/// Bytes of a video sample description before the boxes in it.
const DESCRIPTION_BYTES: usize = 78;

/// `None` if the parameter sets are missing or damaged.
fn description(entry: &[u8]) -> Option<Description> {
    let inner = entry.get(DESCRIPTION_BYTES..)?;
    let (parameter_sets, length_bytes) = find(inner, b"avcC").and_then(configuration)?;
    let aspect = find(inner, b"pasp").and_then(|pasp| Some((word(pasp, 0)?, word(pasp, 1)?)));
    let tags = find(inner, b"colr").and_then(tags).unwrap_or(Tags::NONE);
    Some(Description { parameter_sets, length_bytes, tags, aspect })
}

/// Parameter sets and the size of length fields, from the box `avcC`.
fn configuration(avcc: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let length_bytes = usize::from(*avcc.get(4)? & 3) + 1;
    let mut sets = Vec::new();
    let mut rest = avcc.get(5..)?;
    for count_bits in [31, 255] {
        let (&count, mut after) = rest.split_first()?;
        for _ in 0..count & count_bits {
            let (length, set) = after.split_first_chunk()?;
            let (set, next) = set.split_at_checked(u16::from_be_bytes(*length).into())?;
            sets.push(set.to_vec());
            after = next;
        }
        rest = after;
    }
    Some((sets, length_bytes))
}

/// Flags of the box `colr`. `None` if it holds a colour profile instead.
fn tags(colr: &[u8]) -> Option<Tags> {
    let point = |at: usize| Some(u32::from(u16::from_be_bytes(*colr.get(at..)?.first_chunk()?)));
    let full_range = match colr.get(..4)? {
        b"nclx" => Some(colr.get(10)? & 0x80 != 0),
        b"nclc" => None,
        _ => return None,
    };
    Some(Tags { primaries: point(4)?, transfer: point(6)?, matrix: point(8)?, full_range })
}

/// The matrix with which the track and then the movie transform frames; the identity if there is none.
fn matrix(moov: &[u8], trak: &[u8]) -> [i64; 4] {
    let read = |header: Option<&[u8]>, short: usize, long: usize| {
        let header = header?;
        let first = if header.first() == Some(&1) { long } else { short };
        let entry = |index| word(header, first + index).map(|entry| i64::from(entry as i32));
        Some([entry(0)?, entry(1)?, entry(3)?, entry(4)?])
    };
    let [a, b, c, d] = read(find(trak, b"tkhd"), 10, 13).unwrap_or([1, 0, 0, 1]);
    let [e, f, g, h] = read(find(moov, b"mvhd"), 9, 12).unwrap_or([1, 0, 0, 1]);
    [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h]
}

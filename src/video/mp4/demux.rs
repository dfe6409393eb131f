//! Reading the boxes. Lengths and counts are checked against what is there before anything is allocated.

use crate::video::FrameRate;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// A coded frame's bytes in the file.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub offset: u64,
    pub size: u32,
}

/// The H.264 track of a file.
pub(super) struct Track {
    pub fps: FrameRate,
    /// In the order of decoding; all lie inside the file.
    pub samples: Vec<Sample>,
    /// NAL units, the sequence parameter set first.
    pub parameter_sets: Vec<Vec<u8>>,
    /// Bytes of the length before each NAL unit.
    pub length_bytes: usize,
}

/// The contents of the box `moov` of a file of `length` bytes.
pub(super) fn read_index(file: &mut File, length: u64) -> io::Result<Option<Vec<u8>>> {
    let mut at = 0;
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let mut head = Vec::new();
        file.take(16).read_to_end(&mut head)?;
        let Some((name, size, start)) = header(&head, length - at) else { break };
        if &name == b"moov" {
            let mut contents = Vec::new();
            file.seek(SeekFrom::Start(at + start))?;
            file.take(size - start).read_to_end(&mut contents)?;
            return Ok(Some(contents));
        }
        at += size;
    }
    Ok(None)
}

/// (name, size, where its contents start) of the box that begins with `head` and has `room` bytes to lie in.
fn header(head: &[u8], room: u64) -> Option<([u8; 4], u64, u64)> {
    let short = u64::from(word(head, 0)?);
    let name = *head.get(4..)?.first_chunk()?;
    let (size, start) = match short {
        0 => (room, 8),
        1 => (u64::from_be_bytes(*head.get(8..)?.first_chunk()?), 16),
        short => (short, 8),
    };
    (start..=room).contains(&size).then_some((name, size, start))
}

/// Word `index` of big-endian `bytes`.
fn word(bytes: &[u8], index: usize) -> Option<u32> {
    bytes.get(index * 4..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The boxes in `bytes`; ends at the first that does not fit.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (name, size, start) = header(bytes, bytes.len() as u64)?;
        let (this, rest) = bytes.split_at(size as usize);
        bytes = rest;
        Some((name, &this[start as usize..]))
    })
}

fn find<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found == name).map(|(_, contents)| contents)
}

/// Why a file cannot be read.
pub(super) enum Refusal {
    /// It is damaged, in this way.
    Damaged(String),
    /// It is of this kind, which is not read.
    NotHandled(String),
}

/// The first video track of the index `moov`, if it is H.264 in one piece.
pub(super) fn parse(moov: &[u8], file_length: u64) -> Result<Track, Refusal> {
    let other = |kind: String| Err(Refusal::NotHandled(kind));
    let missing = |name: &str| Refusal::Damaged(format!("the box {name} is missing or damaged"));
    let mut media = boxes(moov).filter(|(name, _)| name == b"trak").filter_map(|(_, trak)| find(trak, b"mdia"));
    let is_video = |mdia: &&[u8]| find(mdia, b"hdlr").is_some_and(|hdlr| hdlr.get(8..12) == Some(b"vide"));
    let Some(mdia) = media.find(is_video) else { return other("MP4 without a video track".into()) };
    let tables = find(mdia, b"minf").and_then(|minf| find(minf, b"stbl")).ok_or_else(|| missing("stbl"))?;
    let entries = find(tables, b"stsd").and_then(|stsd| stsd.get(8..)).unwrap_or_default();
    let (codec, entry) = boxes(entries).next().ok_or_else(|| missing("stsd"))?;
    if &codec != b"avc1" {
        return other(format!("MP4 with video of kind {}", codec.escape_ascii()));
    }
    if find(moov, b"mvex").is_some() {
        return other("MP4 in fragments".into());
    }
    let avcc = entry.get(DESCRIPTION_BYTES..).and_then(|inner| find(inner, b"avcC"));
    let (parameter_sets, length_bytes) = avcc.and_then(configuration).ok_or_else(|| missing("avcC"))?;
    let sizes = find(tables, b"stsz").and_then(|stsz| sizes(stsz, file_length)).ok_or_else(|| missing("stsz"))?;
    let chunks = chunks(tables).ok_or_else(|| missing("stco"))?;
    let runs = find(tables, b"stsc").and_then(rows).ok_or_else(|| missing("stsc"))?;
    let samples = place(&sizes, &chunks, &runs).map_err(Refusal::Damaged)?;
    if let Some(index) = samples.iter().position(|at| at.offset.saturating_add(at.size.into()) > file_length) {
        let all = samples.len();
        return Err(Refusal::Damaged(format!("coded frame {} of {all} lies beyond the end of the file", index + 1)));
    }
    let fps = rate(mdia, tables).ok_or_else(|| missing("stts"))?;
    Ok(Track { fps, samples, parameter_sets, length_bytes })
}

/// Bytes of a video sample description before the boxes in it.
const DESCRIPTION_BYTES: usize = 78;

/// Parameter sets and the size of lengths, of the box `avcC`.
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

/// The rows of a table, N words each.
fn rows<const N: usize>(table: &[u8]) -> Option<Vec<[u32; N]>> {
    let bytes = (word(table, 1)? as usize).checked_mul(4 * N)?;
    let rows = table.get(8..)?.get(..bytes)?.chunks_exact(4 * N);
    Some(rows.map(|row| std::array::from_fn(|index| word(row, index).expect("rows are whole"))).collect())
}

/// The samples' sizes; as many as fit into the file, if they all have one size.
fn sizes(stsz: &[u8], file_length: u64) -> Option<Vec<u32>> {
    match (word(stsz, 1)?, word(stsz, 2)?) {
        (0, _) => Some(rows(stsz.get(4..)?)?.into_iter().map(|[size]| size).collect()),
        (size, count) if u64::from(size) * u64::from(count) <= file_length => Some(vec![size; count as usize]),
        _ => None,
    }
}

/// Where chunks of samples begin.
fn chunks(tables: &[u8]) -> Option<Vec<u64>> {
    match find(tables, b"co64") {
        Some(table) => Some(rows(table)?.iter().map(|&[high, low]| u64::from(high) << 32 | u64::from(low)).collect()),
        None => Some(rows(find(tables, b"stco")?)?.iter().map(|&[offset]| u64::from(offset)).collect()),
    }
}

/// Puts samples one after the other into their chunks. A run is (its first chunk, from 1; samples in each chunk; which
/// description), and lasts until the next run's first chunk.
fn place(sizes: &[u32], chunks: &[u64], runs: &[[u32; 3]]) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::with_capacity(sizes.len());
    let mut runs = runs.iter().peekable();
    let mut in_chunk = 0;
    for (&chunk, number) in chunks.iter().zip(1u64..) {
        while let Some(&[_, count, _]) = runs.next_if(|[first, ..]| u64::from(*first) <= number) {
            in_chunk = count as usize;
        }
        let mut offset = chunk;
        for &size in sizes[samples.len()..].iter().take(in_chunk) {
            samples.push(Sample { offset, size });
            offset = offset.saturating_add(size.into());
        }
    }
    match (samples.len(), sizes.len()) {
        (_, 0) => Err("it has no frames".into()),
        (placed, all) if placed < all => Err(format!("chunks hold {placed} coded frames of {all}")),
        _ => Ok(samples),
    }
}

/// Mean frame rate: ticks a second by ticks a frame.
fn rate(mdia: &[u8], tables: &[u8]) -> Option<FrameRate> {
    let mdhd = find(mdia, b"mdhd")?;
    let timescale = word(mdhd, if mdhd.first() == Some(&1) { 5 } else { 3 })?;
    let (mut frames, mut ticks) = (0u64, 0u64);
    for [count, delta] in rows(find(tables, b"stts")?)? {
        frames = frames.checked_add(count.into())?;
        ticks = ticks.checked_add(u64::from(count) * u64::from(delta))?;
    }
    let exact = FrameRate::new(frames.checked_mul(timescale.into())?, ticks);
    // Rates that are not constant, and a lone frame without a duration.
    exact
        .or_else(|_| FrameRate::from_f64(frames as f64 * f64::from(timescale) / ticks as f64))
        .ok()
        .or(Some(FrameRate::default()))
}

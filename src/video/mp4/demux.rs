//! Reads boxes and tables. Lengths and counts are checked against the size of the file before anything is allocated.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// The most bytes of an index, which has some 20 for each coded frame.
pub(super) const MOST_INDEX: u64 = 256 << 20;
/// The most coded frames that are read: 77 hours at 30 frames/s.
const MOST_FRAMES: u32 = 1 << 23;

/// A coded frame's bytes in the file.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub offset: u64,
    pub size: u32,
    /// Index of its sample description.
    pub description: usize,
}

/// The kind of a file.
pub(super) enum Contents {
    /// A movie; these are the contents of its box `moov`.
    Movie(Vec<u8>),
    /// A movie whose index is longer than [`MOST_INDEX`]: its bytes.
    Vast(u64),
    /// A still image of this kind.
    Still(&'static str),
    /// Neither.
    Unknown,
}

/// Walks over the boxes of a file of `length` bytes.
pub(super) fn read_index(file: &mut File, length: u64) -> io::Result<Contents> {
    let (mut at, mut brands, mut still) = (0, Vec::new(), false);
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let mut head = Vec::new();
        file.take(16).read_to_end(&mut head)?;
        let Some((name, size, start)) = header(&head, length - at) else { break };
        let mut contents = |most: u64| {
            let mut contents = Vec::new();
            file.seek(SeekFrom::Start(at + start))?;
            file.take((size - start).min(most)).read_to_end(&mut contents).map(|_| contents)
        };
        match &name {
            b"moov" if size - start > MOST_INDEX => return Ok(Contents::Vast(size - start)),
            b"moov" => return contents(MOST_INDEX).map(Contents::Movie),
            b"ftyp" => brands = contents(256)?,
            b"meta" => still = true,
            _ => {}
        }
        at += size;
    }
    Ok(if still { Contents::Still(still_kind(&brands)) } else { Contents::Unknown })
}

/// The kind of image whose box `ftyp` has these contents.
fn still_kind(brands: &[u8]) -> &'static str {
    let is = |names: &[&[u8; 4]]| brands.chunks_exact(4).any(|brand| names.iter().any(|name| brand == *name));
    match () {
        () if is(&[b"avif", b"avis"]) => "an AVIF image",
        () if is(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"]) => "a HEIC image",
        () => "a HEIF image",
    }
}

/// (name, size, offset of its contents) of the box that begins with `head`, within `room` bytes.
pub(super) fn header(head: &[u8], room: u64) -> Option<([u8; 4], u64, u64)> {
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
pub(super) fn word(bytes: &[u8], index: usize) -> Option<u32> {
    bytes.get(index * 4..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The boxes in `bytes`; ends at the first that does not fit.
pub(super) fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (name, size, start) = header(bytes, bytes.len() as u64)?;
        let (this, rest) = bytes.split_at(size as usize);
        bytes = rest;
        Some((name, &this[start as usize..]))
    })
}

pub(super) fn find<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(found, _)| found == name).map(|(_, contents)| contents)
}

/// Why a file cannot be read.
pub(super) enum Refusal {
    /// It is damaged; the text says how.
    Damaged(String),
    /// It is of this kind, which this crate does not read.
    NotHandled(String),
    /// It is not damaged, but no program could read it, for this reason.
    Unreadable(&'static str),
}

/// The refusal for a missing box.
pub(super) fn missing(name: &str) -> Refusal {
    Refusal::Damaged(format!("the box {name} is missing or damaged"))
}

/// The places of the samples of the box `stbl` in a file of `file_length` bytes, in decoding order.
pub(super) fn samples(tables: &[u8], file_length: u64, descriptions: usize) -> Result<Vec<Sample>, Refusal> {
    let stsz = find(tables, b"stsz").unwrap_or_default();
    if let Some(count) = word(stsz, 2).filter(|count| *count > MOST_FRAMES) {
        return Err(Refusal::Damaged(format!("it claims {count} coded frames; at most {MOST_FRAMES} can be read")));
    }
    let sizes = sizes(stsz).ok_or_else(|| missing("stsz"))?;
    let chunks = chunks(tables).ok_or_else(|| missing("stco"))?;
    let runs = find(tables, b"stsc").and_then(rows).ok_or_else(|| missing("stsc"))?;
    let samples = place(&sizes, &chunks, &runs).map_err(Refusal::Damaged)?;
    if let Some(index) = samples.iter().position(|at| at.offset.saturating_add(at.size.into()) > file_length) {
        let all = samples.len();
        return Err(Refusal::Damaged(format!("coded frame {} of {all} lies beyond the end of the file", index + 1)));
    }
    // Frames that share bytes would be read and decoded as often as they are listed.
    let bytes: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
    if bytes > file_length {
        return Err(Refusal::Damaged(format!(
            "its coded frames overlap: they have {bytes} bytes, and the file {file_length}"
        )));
    }
    if samples.iter().any(|sample| sample.description >= descriptions) {
        return Err(missing("stsd"));
    }
    Ok(samples)
}

/// The rows of a table, N words each.
pub(super) fn rows<const N: usize>(table: &[u8]) -> Option<Vec<[u32; N]>> {
    let bytes = (word(table, 1)? as usize).checked_mul(4 * N)?;
    let rows = table.get(8..)?.get(..bytes)?.chunks_exact(4 * N);
    Some(rows.map(|row| std::array::from_fn(|index| word(row, index).expect("rows are whole"))).collect())
}

/// The sizes of the samples, whose number was checked.
fn sizes(stsz: &[u8]) -> Option<Vec<u32>> {
    match (word(stsz, 1)?, word(stsz, 2)?) {
        (0, _) => Some(rows(stsz.get(4..)?)?.into_iter().map(|[size]| size).collect()),
        (size, count) => Some(vec![size; count as usize]),
    }
}

/// The offsets of the chunks of samples.
fn chunks(tables: &[u8]) -> Option<Vec<u64>> {
    match find(tables, b"co64") {
        Some(table) => Some(rows(table)?.iter().map(|&[high, low]| u64::from(high) << 32 | u64::from(low)).collect()),
        None => Some(rows(find(tables, b"stco")?)?.iter().map(|&[offset]| u64::from(offset)).collect()),
    }
}

/// Places samples one after the other in their chunks. A run is (its first chunk, from 1; samples in each chunk; index
/// of the description), and lasts until the next run's first chunk.
fn place(sizes: &[u32], chunks: &[u64], runs: &[[u32; 3]]) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::with_capacity(sizes.len());
    let mut runs = runs.iter().peekable();
    let (mut in_chunk, mut description) = (0, 0);
    for (&chunk, number) in chunks.iter().zip(1u64..) {
        while let Some(&[_, count, which]) = runs.next_if(|[first, ..]| u64::from(*first) <= number) {
            // Descriptions are counted from 1.
            (in_chunk, description) = (count as usize, (which as usize).wrapping_sub(1));
        }
        let mut offset = chunk;
        for &size in sizes[samples.len()..].iter().take(in_chunk) {
            samples.push(Sample { offset, size, description });
            offset = offset.saturating_add(size.into());
        }
    }
    match (samples.len(), sizes.len()) {
        (_, 0) => Err("it has no frames".into()),
        (placed, all) if placed < all => Err(format!("chunks hold {placed} coded frames of {all}")),
        _ => Ok(samples),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn a_box(name: &[u8; 4], contents: &[u32]) -> Vec<u8> {
        [words(&[8 + 4 * contents.len() as u32]), name.to_vec(), words(contents)].concat()
    }

    /// The samples of a file of `length` bytes with these rows of `stsz` and offsets of chunks, each of one sample.
    fn placed(stsz: &[u32], offsets: &[u32], length: u64) -> Result<usize, String> {
        let chunks = [&[0, offsets.len() as u32], offsets].concat();
        let tables = [a_box(b"stsz", stsz), a_box(b"stco", &chunks), a_box(b"stsc", &[0, 1, 1, 1, 1])].concat();
        match samples(&tables, length, 1) {
            Ok(samples) => Ok(samples.len()),
            Err(Refusal::Damaged(problem)) => Err(problem),
            Err(_) => panic!("tables of another kind"),
        }
    }

    #[test]
    fn coded_frames_that_share_bytes_are_refused() {
        for stsz in [&[0, 10, 3][..], &[0, 0, 3, 10, 10, 10]] {
            assert_eq!(placed(stsz, &[100, 110, 120], 130), Ok(3));
            assert_eq!(placed(stsz, &[0, 0, 0], 30), Ok(3));
            assert!(placed(stsz, &[0, 0, 0], 29).unwrap_err().contains("overlap: they have 30 bytes, and the file 29"));
            assert!(placed(stsz, &[100, 110, 121], 130).unwrap_err().contains("frame 3 of 3 lies beyond the end"));
        }
    }

    /// A sparse file can be as long as such a claim needs, and has no bytes for each frame.
    #[test]
    fn a_count_without_a_table_is_bounded() {
        let said = placed(&[0, 1, MOST_FRAMES + 1], &[0], 1 << 40).unwrap_err();
        assert!(said.contains("claims 8388609 coded frames"), "{said}");
        assert!(placed(&[0, 1, MOST_FRAMES], &[0], 1 << 40).unwrap_err().contains("chunks hold 1 coded frames of"));
    }

    #[test]
    fn a_vast_index_is_not_read() {
        let mut file = tempfile::tempfile().unwrap();
        let size = 16 + MOST_INDEX + 1;
        std::io::Write::write_all(&mut file, &[&words(&[1])[..], b"moov", &size.to_be_bytes()].concat()).unwrap();
        file.set_len(size).unwrap();
        assert!(matches!(read_index(&mut file, size), Ok(Contents::Vast(length)) if length == MOST_INDEX + 1));
    }
}

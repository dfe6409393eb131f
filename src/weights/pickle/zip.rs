//! The directory of a zip archive, with the features that PyTorch uses: entries are stored, not compressed, and may lie
//! beyond 4 GiB.

use std::collections::HashMap;
use std::ops::Range;

/// Names of all entries, and where their bytes lie.
pub(super) fn entries(file: &[u8]) -> Result<HashMap<&str, Range<usize>>, String> {
    let mut reader = directory(file)?;
    let mut entries = HashMap::new();
    for _ in 0..reader.count {
        let (name, range) = reader.entry()?;
        if entries.insert(name, range).is_some() {
            return Err(format!("is a zip archive with two entries {name}; download it again"));
        }
    }
    Ok(entries)
}

/// A walk along the directory.
struct Directory<'a> {
    file: &'a [u8],
    at: usize,
    count: u64,
}

/// Signatures, lengths and offsets below are those of the zip format (APPNOTE 4.3).
const END: &[u8] = b"PK\x05\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const END_64: &[u8] = b"PK\x06\x06";
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
const END_LENGTH: usize = 22;
const LONGEST_COMMENT: usize = u16::MAX as usize;

/// Finds the directory by the record at the end of the file.
fn directory(file: &[u8]) -> Result<Directory<'_>, String> {
    let first = file.len().saturating_sub(END_LENGTH + LONGEST_COMMENT);
    let found = file[first..].windows(END.len()).rposition(|window| window == END).map(|at| first + at);
    let is_whole =
        |end: &usize| number(file, end + 20, 2).is_ok_and(|comment| end + END_LENGTH + comment as usize <= file.len());
    let end = found.filter(is_whole).ok_or_else(|| {
        format!("is cut off: it has {} bytes and no directory at the end; download it again", file.len())
    })?;
    let (count, at) = (number(file, end + 10, 2)?, number(file, end + 16, 4)?);
    let locator = end.checked_sub(20).filter(|at| file[*at..].starts_with(END_64_LOCATOR));
    let (count, at) = match locator {
        None => (count, at),
        Some(locator) => {
            let end = number(file, locator + 8, 8)?;
            let end = usize::try_from(end).ok().filter(|end| file.get(*end..).is_some_and(|at| at.starts_with(END_64)));
            let end = end.ok_or_else(damaged)?;
            (number(file, end + 32, 8)?, number(file, end + 48, 8)?)
        }
    };
    Ok(Directory { file, at: usize::try_from(at).map_err(|_| damaged())?, count })
}

impl<'a> Directory<'a> {
    /// The next entry.
    fn entry(&mut self) -> Result<(&'a str, Range<usize>), String> {
        let (file, at) = (self.file, self.at);
        if !file.get(at..).is_some_and(|at| at.starts_with(DIRECTORY_ENTRY)) {
            return Err(damaged());
        }
        let [method, name, extra, comment] = [10, 28, 30, 32].map(|field| number(file, at + field, 2));
        let [stored, whole, header] = [20, 24, 42].map(|field| number(file, at + field, 4));
        let (name_end, extra) = (at + 46 + name? as usize, extra? as usize);
        let name = file.get(at + 46..name_end).and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(damaged)?;
        let fields = file.get(name_end..name_end + extra).ok_or_else(damaged)?;
        let [whole, stored, header] = wide([whole?, stored?, header?], fields)?;
        self.at = name_end + extra + comment? as usize;
        if method? != 0 || whole != stored {
            return Err(format!(
                "is compressed (its entry {name}), which PyTorch never does; unpack it and save it again"
            ));
        }
        Ok((name, self.place(name, header, stored)?))
    }

    /// The place of an entry's bytes: after its local header, whose extra field may differ from the directory's.
    fn place(&self, name: &str, header: u64, length: u64) -> Result<Range<usize>, String> {
        let outside = || {
            let size = self.file.len();
            format!("claims {length} bytes for its entry {name}, but has only {size} bytes; download it again")
        };
        let at = usize::try_from(header).ok().filter(|at| *at < self.file.len()).ok_or_else(outside)?;
        if !self.file[at..].starts_with(LOCAL_HEADER) {
            return Err(damaged());
        }
        let [name, extra] = [26, 28].map(|field| number(self.file, at + field, 2));
        let start = at + 30 + (name? + extra?) as usize;
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        let end = end.filter(|end| *end <= self.file.len()).ok_or_else(outside)?;
        Ok(start..end)
    }
}

/// Sizes and offset of an entry. A value that is too large for the directory is in the extra field 1.
fn wide(fields: [u64; 3], mut extra: &[u8]) -> Result<[u64; 3], String> {
    const NO_ROOM: u64 = u32::MAX as u64;
    const WIDE: u64 = 1;
    while fields.contains(&NO_ROOM) && extra.len() >= 4 {
        let (id, length) = (number(extra, 0, 2)?, number(extra, 2, 2)? as usize);
        let field = extra.get(4..4 + length).ok_or_else(damaged)?;
        if id == WIDE {
            let mut at = 0;
            let mut widened = fields;
            for value in widened.iter_mut().filter(|value| **value == NO_ROOM) {
                *value = number(field, at, 8)?;
                at += 8;
            }
            return Ok(widened);
        }
        extra = &extra[4 + length..];
    }
    Ok(fields)
}

/// A little-endian number of `length` bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64, String> {
    let bytes = at.checked_add(length).and_then(|end| bytes.get(at..end)).ok_or_else(damaged)?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn damaged() -> String {
    "is a zip archive with a damaged directory; download it again".into()
}

//! Finds the comment of an MP4 or MOV. It seeks from box to box, so the index does not have to fit into memory.

use super::demux;
use super::mux::{COMMENT, UTF8};
use crate::error::{Error, Result};
use crate::video::MAX_DESCRIPTION;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::ops::Range;
use std::path::Path;

/// The comment in `moov/udta`: that of iTunes in `meta/ilst`, else that of QuickTime.
pub(in crate::video) fn comment(file: File, path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = || Error::io("cannot read", path);
    let length = file.metadata().map_err(failed())?.len();
    let mut boxes = Boxes { input: BufReader::new(file), at: 0 };
    let Some(index) = boxes.find(&(0..length), b"moov").map_err(failed())? else {
        // Images in this container have a `meta` instead.
        return match boxes.find(&(0..length), b"meta").map_err(failed())? {
            Some(_) => Ok(None),
            None => Err(Error::media(path, "damaged or truncated MP4: it has no index (moov)")),
        };
    };
    boxes.comment(&index).map_err(failed())
}

/// A walk over boxes. A place is the range of a box's contents in the file.
struct Boxes<R> {
    input: BufReader<R>,
    at: u64,
}

impl<R: Read + Seek> Boxes<R> {
    fn comment(&mut self, index: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let Some(user) = self.find(index, b"udta")? else { return Ok(None) };
        match self.itunes(&user)? {
            Some(comment) => Ok(Some(comment)),
            None => self.quicktime(&user),
        }
    }

    /// The text of `meta/ilst/©cmt/data`.
    fn itunes(&mut self, user: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let Some(meta) = self.find(user, b"meta")? else { return Ok(None) };
        // A version and flags precede the boxes in an MP4, but not in a MOV.
        let versioned = meta.start.saturating_add(4)..meta.end;
        let mut list = self.find(&versioned, b"ilst")?;
        if list.is_none() {
            list = self.find(&meta, b"ilst")?;
        }
        let Some(list) = list else { return Ok(None) };
        let Some(item) = self.find(&list, COMMENT)? else { return Ok(None) };
        let Some(data) = self.find(&item, b"data")? else { return Ok(None) };
        // The kind of the data and its language.
        let head = self.read(&data, 8)?;
        if head.len() < 8 || demux::word(&head, 0) != Some(UTF8) {
            return Ok(None);
        }
        self.read(&(data.start + 8..data.end), MAX_DESCRIPTION as u64 + 1).map(Some)
    }

    /// The text of `©cmt` with a length and a language before it.
    fn quicktime(&mut self, user: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let Some(item) = self.find(user, COMMENT)? else { return Ok(None) };
        let head = self.read(&item, 4)?;
        let Some(length) = head.first_chunk().map(|length| u16::from_be_bytes(*length)) else { return Ok(None) };
        let text = self.read(&(item.start.saturating_add(4)..item.end), length.into())?;
        Ok((text.len() == usize::from(length)).then_some(text))
    }

    /// The first box `name` in `place`. The search ends at a box that does not fit.
    fn find(&mut self, place: &Range<u64>, name: &[u8; 4]) -> io::Result<Option<Range<u64>>> {
        let mut at = place.start;
        while at < place.end {
            let head = self.read(&(at..place.end), 16)?;
            let Some((found, size, start)) = demux::header(&head, place.end - at) else { return Ok(None) };
            if found == *name {
                return Ok(Some(at + start..at + size));
            }
            at += size;
        }
        Ok(None)
    }

    /// At most `most` bytes from the beginning of `place`.
    fn read(&mut self, place: &Range<u64>, most: u64) -> io::Result<Vec<u8>> {
        let length = place.end.saturating_sub(place.start).min(most);
        // Relative, because the bytes of small boxes are in the buffer already.
        self.input.seek_relative(place.start as i64 - self.at as i64)?;
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(length).read_to_end(&mut bytes)?;
        self.at = place.start + read as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn a_box(name: &[u8; 4], contents: &[&[u8]]) -> Vec<u8> {
        let contents = contents.concat();
        [&(contents.len() as u32 + 8).to_be_bytes(), name.as_slice(), &contents].concat()
    }

    /// The comment of an index with these boxes.
    fn of(boxes: &[u8]) -> Option<Vec<u8>> {
        let mut input = Boxes { input: BufReader::new(Cursor::new(boxes)), at: 0 };
        input.comment(&(0..boxes.len() as u64)).unwrap()
    }

    /// `ilst` with a text of this kind.
    fn list(kind: u32, text: &[u8]) -> Vec<u8> {
        let data = a_box(b"data", &[&kind.to_be_bytes(), &[0; 4], text]);
        a_box(b"ilst", &[&a_box(b"\xa9too", &[&data]), &a_box(COMMENT, &[&a_box(b"name", &[b"\0"]), &data])])
    }

    #[test]
    fn a_comment_may_be_of_itunes_or_quicktime() {
        let handler = a_box(b"hdlr", &[&[0; 25]]);
        let user = |contents: &[&[u8]]| [a_box(b"mvhd", &[&[0; 100]]), a_box(b"udta", contents)].concat();
        let mp4 = a_box(b"meta", &[&[0; 4], &handler, &list(UTF8, b"new")]);
        let mov = a_box(b"meta", &[&handler, &list(UTF8, b"new")]);
        let old = a_box(COMMENT, &[b"\0\x03\x55\xc4old!"]);
        for contents in [&[&*mp4][..], &[&mov], &[&old, &mp4], &[&mp4, &old], &[&a_box(b"free", &[&[0; 9000]]), &mov]] {
            assert_eq!(of(&user(contents)).unwrap(), b"new");
        }
        assert_eq!(of(&user(&[&old, &[0; 4]])).unwrap(), b"old");
        assert_eq!(of(&user(&[&a_box(COMMENT, &[b"\0\x09\0\0short"])])), None);
        assert_eq!(of(&user(&[&a_box(b"meta", &[&[0; 4], &handler, &list(13, b"a JPEG")])])), None);
        assert_eq!(of(&user(&[])), None);
        assert_eq!(of(&a_box(b"mvhd", &[&[0; 100]])), None);
    }

    #[test]
    fn boxes_that_do_not_fit_hold_no_comment() {
        let meta = a_box(b"meta", &[&[0; 4], &list(UTF8, b"text")]);
        let whole = a_box(b"udta", &[&meta]);
        for byte in 0..whole.len() {
            assert_eq!(of(&whole[..byte]), None, "{byte} of {} bytes", whole.len());
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[byte] ^= 1 << bit;
                of(&changed);
            }
        }
    }
}

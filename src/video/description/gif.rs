//! Finds the comment of a GIF, without unpacking its images.

use crate::error::{Error, Result};
use crate::video::MAX_DESCRIPTION;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek};
use std::path::Path;

/// What a block begins with.
const EXTENSION: u8 = 0x21;
const IMAGE: u8 = 0x2c;
const TRAILER: u8 = 0x3b;
/// The extension that holds a comment.
const COMMENT: u8 = 0xfe;

/// The first comment extension, wherever it is.
pub(super) fn comment(file: File, path: &Path) -> Result<Option<Vec<u8>>> {
    find(&mut BufReader::new(file)).map_err(|problem| match problem.kind() {
        ErrorKind::UnexpectedEof => Error::media(path, "damaged or truncated GIF: it has no end"),
        ErrorKind::InvalidData => Error::media(path, format!("damaged GIF: {problem}")),
        _ => Error::io("cannot read", path)(problem),
    })
}

fn find<R: Read + Seek>(input: &mut BufReader<R>) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 13];
    input.read_exact(&mut head)?;
    input.seek_relative(colours(head[10]))?;
    loop {
        match byte(input)? {
            EXTENSION => match byte(input)? {
                COMMENT => return blocks(input).map(Some),
                _ => skip_blocks(input)?,
            },
            IMAGE => {
                let mut place = [0; 9];
                input.read_exact(&mut place)?;
                // A byte with the size of the codes follows the colours.
                input.seek_relative(colours(place[8]) + 1)?;
                skip_blocks(input)?;
            }
            TRAILER => return Ok(None),
            other => {
                let problem = format!("expected an image, an extension or the end, found a block of kind {other:#04x}");
                return Err(io::Error::new(ErrorKind::InvalidData, problem));
            }
        }
    }
}

/// Bytes of the table of colours that `flags` announce.
fn colours(flags: u8) -> i64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

fn byte(input: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    input.read_exact(&mut byte).map(|()| byte[0])
}

/// The contents of the blocks up to an empty one; ends early if they are longer than a description may be.
fn blocks(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    loop {
        let length = byte(input)?;
        let read = input.take(length.into()).read_to_end(&mut contents)?;
        match length {
            _ if read < length.into() => return Err(ErrorKind::UnexpectedEof.into()),
            0 => return Ok(contents),
            _ if contents.len() > MAX_DESCRIPTION => return Ok(contents),
            _ => {}
        }
    }
}

fn skip_blocks<R: Read + Seek>(input: &mut BufReader<R>) -> io::Result<()> {
    loop {
        match byte(input)? {
            0 => return Ok(()),
            length => input.seek_relative(length.into())?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// The comment of a GIF of 2 global colours with these blocks.
    fn of(blocks: &[&[u8]]) -> io::Result<Option<Vec<u8>>> {
        let head = b"GIF89a\x01\0\x01\0\x80\0\0rgbRGB";
        find(&mut BufReader::new(Cursor::new([head.as_slice(), &blocks.concat()].concat())))
    }

    /// An image with 4 colours of its own.
    const AN_IMAGE: &[u8] = b",\0\0\0\0\x01\0\x01\0\x81rgbrgbrgbrgb\x02\x02D\x01\0";

    #[test]
    fn a_comment_may_be_anywhere_and_in_several_blocks() {
        let (comment, later): (&[u8], &[u8]) = (b"!\xfe\x05hello\x01 \x03you\0", b"!\xfe\x05later\0");
        let loops: &[u8] = b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0";
        for blocks in [
            [comment, loops, AN_IMAGE, b";"],
            [loops, comment, AN_IMAGE, b";"],
            [loops, AN_IMAGE, comment, b";"],
            [comment, later, AN_IMAGE, b";"],
        ] {
            assert_eq!(of(&blocks).unwrap().unwrap(), b"hello you");
        }
        assert_eq!(of(&[b"!\xfe\0", AN_IMAGE, b";"]).unwrap().unwrap(), b"", "an empty comment is one");
        assert_eq!(of(&[loops, AN_IMAGE, b";", later]).unwrap(), None, "nothing follows the end");
    }

    #[test]
    fn blocks_without_an_end_are_errors() {
        for blocks in [&b""[..], b"!", b"!\xfe", b"!\xfe\x05he", b"!\xfe\x05hello", b"!\xf9\x04", &AN_IMAGE[..20]] {
            assert_eq!(of(&[blocks]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
        assert_eq!(of(&[b"?"]).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

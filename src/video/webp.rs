//! The orientation of a WebP. The decoder would make room for as many bytes as the chunk with the orientation claims, up to 4 GiB.

use super::view::Turn;
use image::metadata::Orientation;
use std::io::{self, BufReader, ErrorKind, Read, Seek};

/// How a WebP is turned; `None` if the input is another format. Leaves the input at its beginning.
///
/// # Errors
/// Those of reading; [`ErrorKind::UnexpectedEof`] if the chunk is longer than the file.
pub(super) fn turn<R: Read + Seek>(input: &mut BufReader<R>) -> io::Result<Option<Turn>> {
    let mut head = [0; 12];
    input.rewind()?;
    let is_webp = read_whole(input, &mut head)? && head.starts_with(b"RIFF") && head.ends_with(b"WEBP");
    let exif = if is_webp { exif(input)? } else { None };
    input.rewind()?;
    let orientation = exif.and_then(|exif| Orientation::from_exif_chunk(&exif)).unwrap_or(Orientation::NoTransforms);
    Ok(is_webp.then(|| Turn::exif(orientation)))
}

/// The chunk `EXIF`, which only an extended file has: one whose first chunk is `VP8X`.
fn exif<R: Read + Seek>(input: &mut BufReader<R>) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 8];
    let mut extended = false;
    while read_whole(input, &mut head)? {
        let [name @ .., a, b, c, d] = head;
        let bytes = u32::from_le_bytes([a, b, c, d]);
        match &name {
            b"VP8X" => extended = true,
            _ if !extended => return Ok(None),
            b"EXIF" => {
                let mut exif = Vec::new();
                let read = input.take(bytes.into()).read_to_end(&mut exif)?;
                return if read == bytes as usize { Ok(Some(exif)) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
            _ => {}
        }
        // Chunks are padded to even sizes.
        input.seek_relative(i64::from(bytes) + i64::from(bytes % 2))?;
    }
    Ok(None)
}

/// Fills `bytes`; false at the end of the input.
pub(super) fn read_whole(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(problem) if problem.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A chunk that claims `claimed` bytes.
    fn chunk(name: &[u8; 4], claimed: u32, contents: &[u8]) -> Vec<u8> {
        [name, &claimed.to_le_bytes()[..], contents, &vec![0; contents.len() % 2]].concat()
    }

    fn of(chunks: &[Vec<u8>]) -> io::Result<Option<Turn>> {
        let bytes = [b"RIFF\0\0\0\0WEBP".to_vec(), chunks.concat()].concat();
        let mut input = BufReader::new(Cursor::new(bytes));
        let turn = turn(&mut input);
        assert!(turn.is_err() || input.stream_position().unwrap() == 0);
        turn
    }

    #[test]
    fn the_orientation_is_found_and_a_chunk_that_claims_too_much_takes_no_memory() {
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let extended = chunk(b"VP8X", 10, &[0; 10]);
        let odd = chunk(b"ICCP", 3, b"odd");
        let turned = Turn::exif(Orientation::Rotate90);
        let whole = chunk(b"EXIF", exif.len() as u32, exif);
        assert_eq!(of(&[extended.clone(), odd.clone(), whole.clone()]).unwrap(), Some(turned));
        assert_eq!(of(&[extended.clone(), odd]).unwrap(), Some(Turn::default()));
        assert_eq!(of(&[chunk(b"VP8 ", 0, b""), whole]).unwrap(), Some(Turn::default()));
        assert_eq!(turn(&mut BufReader::new(Cursor::new(b"GIF89a"))).unwrap(), None);
        let claims = of(&[extended, chunk(b"EXIF", 0xffff_fff0, exif)]);
        assert_eq!(claims.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}

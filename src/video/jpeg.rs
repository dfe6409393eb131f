//! Whether a JPEG is whole. The decoder fills what is missing with grey, and says nothing.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek};

/// The marker at the end of the image.
const END: u8 = 0xd9;

/// Whether the image at the beginning of `input` has its end. Leaves the input at its beginning.
///
/// # Errors
/// Those of reading.
pub(super) fn is_whole<R: Read + Seek>(input: &mut BufReader<R>) -> io::Result<bool> {
    input.rewind()?;
    let found = match find_end(input) {
        Err(problem) if problem.kind() == ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    };
    input.rewind()?;
    found
}

/// Goes from marker to marker until the last one.
fn find_end<R: Read + Seek>(input: &mut BufReader<R>) -> io::Result<()> {
    loop {
        input.skip_until(0xff)?;
        let marker = loop {
            // Any number of 0xff may fill the space before a marker.
            match byte(input)? {
                0xff => {}
                marker => break marker,
            }
        };
        if marker == END {
            return Ok(());
        }
        if !is_alone(marker) {
            // The length counts itself.
            let length = u16::from_be_bytes([byte(input)?, byte(input)?]);
            input.seek_relative(i64::from(length.saturating_sub(2)))?;
        }
    }
}

/// Whether no length follows a marker: a stuffed byte of the image, TEM, a restart of the image, its beginning.
fn is_alone(marker: u8) -> bool {
    matches!(marker, 0x00..=0x01 | 0xd0..=0xd8)
}

fn byte(input: &mut impl BufRead) -> io::Result<u8> {
    let mut byte = [0];
    input.read_exact(&mut byte).map(|()| byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn only_a_whole_image_has_its_end() {
        let whole = |bytes: &[u8]| is_whole(&mut BufReader::new(Cursor::new(bytes))).unwrap();
        // A comment that holds the marker of an end, an image with a stuffed byte and a restart, filled space.
        let image = b"\xff\xd8\xff\xfe\0\x06\xff\xd9\xff\xd9\xff\xda\0\x03\x01ab\xff\0c\xff\xd0d\xff\xff\xd9";
        assert!(whole(image) && whole(&[image, &b"behind it"[..]].concat()));
        assert!((0..image.len()).all(|length| !whole(&image[..length])));
        // A length that leads out of the file, or is none.
        assert!(!whole(b"\xff\xd8\xff\xfe\xff\xff\xff\xd9") && whole(b"\xff\xd8\xff\xfe\0\0\xff\xd9"));
        let mut input = BufReader::new(Cursor::new(image));
        assert!(is_whole(&mut input).unwrap() && input.stream_position().unwrap() == 0);
    }
}

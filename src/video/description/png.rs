//! Finds the comment of a PNG, without unpacking its image.

use crate::error::{Error, Result};
use crate::video::MAX_DESCRIPTION;
use crate::video::images::COMMENT;
use png::{Decoder, DecodingError, Info, Limits};
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

/// The most memory for all texts of a file. The decoder counts up to three times the length of each.
const MEMORY: usize = 16 * MAX_DESCRIPTION;

/// The first text with the keyword of comments: international text, else plain, else compressed Latin-1.
pub(super) fn comment(file: File, path: &Path) -> Result<Option<Vec<u8>>> {
    let mut decoder = Decoder::new_with_limits(BufReader::new(file), Limits { bytes: MEMORY });
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|problem| damaged(path, problem))?;
    let before = text(reader.info(), path)?;
    if before.is_some() {
        return Ok(before);
    }
    // Some programs write texts after the image.
    reader.finish().map_err(|problem| damaged(path, problem))?;
    text(reader.info(), path)
}

fn text(info: &Info, path: &Path) -> Result<Option<Vec<u8>>> {
    let found = if let Some(chunk) = info.utf8_text.iter().find(|chunk| chunk.keyword == COMMENT) {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MAX_DESCRIPTION).and_then(|()| chunk.get_text())
    } else if let Some(chunk) = info.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == COMMENT) {
        Ok(chunk.text.clone())
    } else if let Some(chunk) = info.compressed_latin1_text.iter().find(|chunk| chunk.keyword == COMMENT) {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MAX_DESCRIPTION).and_then(|()| chunk.get_text())
    } else {
        return Ok(None);
    };
    found.map(|text| Some(text.into_bytes())).map_err(|problem| {
        let expected = format!("expected at most {MAX_DESCRIPTION} bytes of text");
        Error::media(path, format!("its compressed comment cannot be read: {expected}, found {problem}"))
    })
}

fn damaged(path: &Path, problem: DecodingError) -> Error {
    match problem {
        DecodingError::LimitsExceeded => {
            Error::media(path, format!("its texts need more than {MEMORY} bytes of memory, the most that can be read"))
        }
        DecodingError::IoError(problem) if problem.kind() != ErrorKind::UnexpectedEof => {
            Error::io("cannot read", path)(problem)
        }
        other => Error::media(path, format!("damaged or truncated PNG: {other}")),
    }
}

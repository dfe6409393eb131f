//! Reads the description of a video: one text, in the place where its format keeps a comment. So other programs show the
//! descriptions that [`Writer`](super::Writer) writes, and comments of other programs are descriptions here.
//!
//! A file may claim any length. The readers of the formats stop after a byte more than [`MAX_DESCRIPTION`], and this
//! module refuses a text that is so long.

mod gif;
mod png;

use super::animation::Format;
use super::input::Input;
use super::{MAX_DESCRIPTION, images, mp4};
use crate::error::{Error, Result};
use crate::reading;
use std::path::Path;

/// The description of the MP4, GIF or PNG at `path`, or of the first image in a folder; `None` if it has none, or is of
/// another format. Of several comments, the first counts. No frame is decoded.
///
/// ```no_run
/// # fn main() -> osp::Result<()> {
/// if let Some(text) = osp::video::description("circle.mp4".as_ref())? {
///     println!("{text}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened or read. [`Error::Media`] if it is empty or damaged, or if its comment is
/// longer than [`MAX_DESCRIPTION`] or is not UTF-8; or if a folder holds no image.
pub fn description(path: &Path) -> Result<Option<String>> {
    if !path.is_dir() {
        return of_file(path);
    }
    let first = images::in_folder(path)?.swap_remove(0);
    // A path of the user may be a pipe, but not one in a folder: it would be waited for.
    reading::open(&first).map_err(Error::io("cannot open", &first))?;
    of_file(&first)
}

fn of_file(path: &Path) -> Result<Option<String>> {
    let mut input = Input::open(path)?;
    let path = input.path().to_path_buf();
    let bytes = match (Format::of(input.head()), input.head().get(4..8)) {
        (Some(Format::Gif), _) => gif::comment(input.file()?, &path)?,
        (Some(Format::Png), _) => png::comment(input.file()?, &path)?,
        (None, Some(b"ftyp")) => mp4::comment(input.file()?, &path)?,
        _ => None,
    };
    bytes.map(|bytes| text(bytes, &path)).transpose()
}

fn text(bytes: Vec<u8>, path: &Path) -> Result<String> {
    if bytes.len() > MAX_DESCRIPTION {
        let problem = format!("its comment is longer than {MAX_DESCRIPTION} bytes, the most that can be read");
        return Err(Error::media(path, problem));
    }
    String::from_utf8(bytes).map_err(|problem| {
        let (at, bytes) = (problem.utf8_error().valid_up_to(), problem.as_bytes());
        let found = format!("byte {:#04x} at {at} of {}", bytes[at], bytes.len());
        Error::media(path, format!("its comment cannot be read: expected UTF-8, found {found}"))
    })
}

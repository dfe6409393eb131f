//! Single images, and folders of them: lossless PNG out, PNG and JPEG in.

use super::format::frame_name;
use super::reader::{FrameSource, Opened};
use super::writer::FrameSink;
use super::{FrameRate, MAX_PIXELS, VideoInfo};
use crate::error::{Error, Result};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageReader, Limits};
use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// How PNGs begin.
pub(super) const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
/// How JPEGs begin.
pub(super) const JPEG_MAGIC: &[u8] = b"\xff\xd8\xff";

/// Writes a PNG, or one PNG a frame into a folder.
pub(super) struct Sink {
    staged: PathBuf,
    target: PathBuf,
    info: VideoInfo,
    /// The next frame's number in a folder; none for a single file.
    index: Option<usize>,
}

impl Sink {
    /// One PNG at `staged`. Errors speak of `target`.
    pub fn file(staged: &Path, target: &Path, info: VideoInfo) -> Self {
        Self { staged: staged.to_path_buf(), target: target.to_path_buf(), info, index: None }
    }

    /// PNGs in the folder `staged`.
    pub fn folder(staged: &Path, target: &Path, info: VideoInfo) -> Self {
        Self { index: Some(0), ..Self::file(staged, target, info) }
    }
}

impl FrameSink for Sink {
    fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let path = match &mut self.index {
            None => self.staged.clone(),
            Some(index) => {
                *index += 1;
                self.staged.join(frame_name(*index - 1))
            }
        };
        let failed = || Error::io("cannot write", &self.target);
        let mut file = BufWriter::new(File::create(path).map_err(failed())?);
        // The writer has checked that the sides fit.
        let (width, height) = (self.info.width as u32, self.info.height as u32);
        PngEncoder::new(&mut file).write_image(rgb, width, height, ExtendedColorType::Rgb8).map_err(|problem| {
            match problem {
                ImageError::IoError(source) => failed()(source),
                other => Error::media(&self.target, format!("cannot encode PNG: {other}")),
            }
        })?;
        file.flush().map_err(failed())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Images in order; the first one, decoded already, gives the size.
struct Source {
    first: Option<Vec<u8>>,
    rest: std::vec::IntoIter<PathBuf>,
    first_path: PathBuf,
    info: VideoInfo,
}

/// Reads a PNG or JPEG.
///
/// # Errors
/// [`Error::Media`] if it is damaged, [`Error::Io`] if it cannot be read.
pub(super) fn open_file(path: &Path) -> Result<Opened> {
    open_all(vec![path.to_path_buf()])
}

/// Opens a folder of PNGs and JPEGs, in [`natural`] order of their names. Other files are ignored.
///
/// # Errors
/// [`Error::Media`] if there are none or the first is damaged, [`Error::Io`] if it cannot be read.
pub(super) fn open_folder(path: &Path) -> Result<Opened> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("cannot read", path))? {
        let found = entry.map_err(Error::io("cannot read", path))?.path();
        let ending = found.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if matches!(ending.as_str(), "png" | "jpg" | "jpeg") {
            names.push(found);
        }
    }
    if names.is_empty() {
        return Err(Error::media(path, "the folder holds no .png, .jpg or .jpeg"));
    }
    names.sort_by(|a, b| natural(&name(a), &name(b)));
    open_all(names)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn open_all(paths: Vec<PathBuf>) -> Result<Opened> {
    let mut rest = paths.into_iter();
    let first_path = rest.next().expect("callers name at least one image");
    let (width, height, pixels) = decode(&first_path)?;
    let info = VideoInfo { width, height, fps: FrameRate::default() };
    Ok(Opened::Ready(info, Box::new(Source { first: Some(pixels), rest, first_path, info })))
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(path) = self.rest.next() else { return Ok(None) };
        let (width, height, pixels) = decode(&path)?;
        if (width, height) != (self.info.width, self.info.height) {
            return Err(Error::media(
                &path,
                format!(
                    "is {width}x{height}, but {} is {}x{}; frames of a clip have one size",
                    name(&self.first_path),
                    self.info.width,
                    self.info.height
                ),
            ));
        }
        Ok(Some(pixels))
    }
}

/// Width, height and RGB of an image file. Alpha is dropped, 16 bits are rounded to 8.
fn decode(path: &Path) -> Result<(usize, usize, Vec<u8>)> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut reader = reader.map_err(Error::io("cannot open", path))?;
    reader.limits(limits());
    let image = reader.decode().map_err(|problem| damaged(path, "image", problem))?.into_rgb8();
    Ok((image.width() as usize, image.height() as usize, image.into_raw()))
}

/// What decoders may allocate, whatever a header claims.
pub(super) fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(1 << 16), Some(1 << 16));
    limits.max_alloc = Some(8 * MAX_PIXELS as u64);
    limits
}

/// The error for a `what` that cannot be decoded.
pub(super) fn damaged(path: &Path, what: &str, problem: ImageError) -> Error {
    match problem {
        ImageError::Limits(_) => Error::media(path, format!("{what}: larger than the 8192x8192 pixels that are read")),
        other => Error::media(path, format!("damaged or truncated {what}: {other}")),
    }
}

/// Order of names in which numbers count as numbers: `2` before `10`. Names that differ in zeros alone keep an order.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let order = match (digits(left), digits(right)) {
            (0, _) | (_, 0) => match (left.chars().next(), right.chars().next()) {
                (Some(x), Some(y)) if x == y => {
                    (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
                    continue;
                }
                (None, None) => return a.cmp(b),
                (x, y) => x.cmp(&y),
            },
            (x, y) => {
                let (p, q) = (left[..x].trim_start_matches('0'), right[..y].trim_start_matches('0'));
                (left, right) = (&left[x..], &right[y..]);
                p.len().cmp(&q.len()).then_with(|| p.cmp(q))
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Bytes of the number that `text` begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

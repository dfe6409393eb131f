//! Single images and folders of images: writes PNG, reads PNG, JPEG and WebP.

use super::format::frame_name;
use super::stream::{FrameSink, FrameSource, Stream};
use super::view::{Turn, View};
use super::{FrameRate, MAX_PIXELS, VideoInfo, jpeg, webp};
use crate::error::{Error, Result};
use crate::reading;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use png::{BitDepth, ColorType, Compression, EncodingError, Filter};
use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The first bytes of a JPEG.
pub(super) const JPEG_MAGIC: &[u8] = b"\xff\xd8\xff";

/// The keyword of a PNG's comment.
pub(super) const COMMENT: &str = "Comment";

/// Writes one PNG, or a folder with one PNG for each frame.
pub(super) struct Sink {
    staged: PathBuf,
    target: PathBuf,
    info: VideoInfo,
    /// The number of the next frame in a folder; `None` for a single file.
    index: Option<usize>,
    /// The comment of the next frame.
    comment: Option<String>,
}

impl Sink {
    /// One PNG at `staged`. Errors name `target`.
    pub fn file(staged: &Path, target: &Path, info: VideoInfo) -> Self {
        Self { staged: staged.to_path_buf(), target: target.to_path_buf(), info, index: None, comment: None }
    }

    /// PNGs in the folder `staged`. Errors name `target`.
    pub fn folder(staged: &Path, target: &Path, info: VideoInfo) -> Self {
        Self { index: Some(0), ..Self::file(staged, target, info) }
    }
}

impl FrameSink for Sink {
    fn describe(&mut self, text: &str) -> Result<()> {
        self.comment = Some(text.to_owned());
        Ok(())
    }

    fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let path = match &mut self.index {
            None => self.staged.clone(),
            Some(index) => {
                *index += 1;
                self.staged.join(frame_name(*index - 1))
            }
        };
        let failed = || Error::io("cannot write", &self.target);
        let file = BufWriter::new(File::create(path).map_err(failed())?);
        encode(file, rgb, self.info, self.comment.take()).map_err(|problem| match problem {
            EncodingError::IoError(source) => failed()(source),
            other => Error::media(&self.target, format!("cannot encode PNG: {other}")),
        })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// One frame, `[H, W, 3]`, as the bytes of a PNG.
///
/// # Errors
/// [`Error::Shape`] if it has another number of bytes; [`Error::Unsupported`] if the encoder refuses it.
pub fn png_bytes(rgb: &[u8], info: VideoInfo) -> Result<Vec<u8>> {
    if rgb.len() != info.frame_bytes() {
        return Err(Error::Shape {
            op: "png",
            argument: "frame",
            expected: format!("{}x{}x3 bytes", info.height, info.width),
            found: format!("{} bytes", rgb.len()),
        });
    }
    let mut bytes = Vec::new();
    encode(&mut bytes, rgb, info, None)
        .map_err(|problem| Error::Unsupported(format!("cannot encode PNG: {problem}")))?;
    Ok(bytes)
}

/// Writes a PNG, and its comment before the image. The sides fit: the writer has checked that.
fn encode(
    out: impl Write,
    rgb: &[u8],
    info: VideoInfo,
    comment: Option<String>,
) -> std::result::Result<(), EncodingError> {
    let mut encoder = png::Encoder::new(out, info.width as u32, info.height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::Adaptive);
    if let Some(text) = comment {
        encoder.add_itxt_chunk(COMMENT.to_owned(), text)?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()
}

/// Images of a folder in order. The first is already decoded and gives the size.
struct Source {
    first: Option<Vec<u8>>,
    rest: std::vec::IntoIter<PathBuf>,
    first_path: PathBuf,
    info: VideoInfo,
}

/// Reads a PNG, JPEG or WebP.
///
/// # Errors
/// [`Error::Media`] if it is damaged, [`Error::Io`] if it cannot be read.
pub(super) fn open_file(input: BufReader<File>, path: &Path) -> Result<Stream> {
    start(decode(input, path)?, path.to_path_buf(), Vec::new())
}

/// Opens a folder of images.
///
/// # Errors
/// Those of [`in_folder`]; [`Error::Media`] if the first image is damaged.
pub(super) fn open_folder(path: &Path) -> Result<Stream> {
    let mut names = in_folder(path)?;
    let rest = names.split_off(1);
    let first = names.remove(0);
    start(decode_file(&first)?, first, rest)
}

/// The images of a folder, in [`natural`] order of their names. Other files and hidden files are ignored: macOS puts a
/// companion `._a.png` beside `a.png`.
///
/// # Errors
/// [`Error::Media`] if there is no image, [`Error::Io`] if the folder cannot be read.
pub(super) fn in_folder(path: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("cannot read", path))? {
        let found = entry.map_err(Error::io("cannot read", path))?.path();
        let ending = found.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if matches!(ending.as_str(), "png" | "jpg" | "jpeg" | "webp") && !name(&found).starts_with('.') {
            names.push(found);
        }
    }
    if names.is_empty() {
        return Err(Error::media(path, "the folder holds no .png, .jpg, .jpeg or .webp"));
    }
    names.sort_by(|a, b| natural(&name(a), &name(b)));
    Ok(names)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn start((info, pixels): (VideoInfo, Vec<u8>), first_path: PathBuf, rest: Vec<PathBuf>) -> Result<Stream> {
    let source = Source { first: Some(pixels), rest: rest.into_iter(), first_path, info };
    Ok(Stream::new(info, (1, 1), Box::new(source)))
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(path) = self.rest.next() else { return Ok(None) };
        let (VideoInfo { width, height, .. }, pixels) = decode_file(&path)?;
        if (width, height) != (self.info.width, self.info.height) {
            return Err(Error::media(
                &path,
                format!(
                    "is {width}x{height}, but {} is {}x{}; all frames of a clip need the same size",
                    name(&self.first_path),
                    self.info.width,
                    self.info.height
                ),
            ));
        }
        Ok(Some(pixels))
    }
}

fn decode_file(path: &Path) -> Result<(VideoInfo, Vec<u8>)> {
    decode(BufReader::new(reading::open(path).map_err(Error::io("cannot open", path))?), path)
}

/// Size and RGB of an image, rotated upright, on black; 16 bits are rounded to 8.
fn decode(mut input: BufReader<File>, path: &Path) -> Result<(VideoInfo, Vec<u8>)> {
    let bad = |problem| damaged(path, "image", problem);
    let turn = webp::turn(&mut input).map_err(|problem| bad(problem.into()))?;
    let is_jpeg = input.fill_buf().map_err(Error::io("cannot read", path))?.starts_with(JPEG_MAGIC);
    if is_jpeg && !jpeg::is_whole(&mut input).map_err(Error::io("cannot read", path))? {
        return Err(Error::media(path, "damaged or truncated image: a JPEG without its end"));
    }
    let mut reader = ImageReader::new(input).with_guessed_format().map_err(Error::io("cannot read", path))?;
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(bad)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    if width * height > MAX_PIXELS {
        return Err(too_large(path, "image"));
    }
    let turn = turn.map_or_else(|| decoder.orientation().map(Turn::exif), Ok).map_err(bad)?;
    let image = DynamicImage::from_decoder(decoder).map_err(bad)?;
    let rgb = match image.color().has_alpha() {
        true => onto_black(image.into_rgba8().as_raw()),
        false => image.into_rgb8().into_raw(),
    };
    let view = View::new(VideoInfo { width, height, fps: FrameRate::default() }, turn, (1, 1));
    Ok((view.shown(), view.apply(rgb)))
}

/// RGBA to RGB on black: each colour is multiplied by its alpha.
pub(super) fn onto_black(rgba: &[u8]) -> Vec<u8> {
    rgba.chunks_exact(4).flat_map(|pixel| [0, 1, 2].map(|channel| weighed(pixel[channel], pixel[3]))).collect()
}

/// `colour · alpha / 255`, rounded.
pub(super) fn weighed(colour: u8, alpha: u8) -> u8 {
    ((u32::from(colour) * u32::from(alpha) + 127) / 255) as u8
}

/// Limits on what a decoder may allocate, against headers that claim huge sizes.
pub(super) fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(1 << 16), Some(1 << 16));
    limits.max_alloc = Some(8 * MAX_PIXELS as u64);
    limits
}

/// The error for a `what` of more than [`MAX_PIXELS`].
pub(super) fn too_large(path: &Path, what: &str) -> Error {
    Error::media(path, format!("{what}: larger than 8192x8192 pixels, the most that can be read"))
}

/// The error for a `what` that cannot be decoded.
pub(super) fn damaged(path: &Path, what: &str, problem: ImageError) -> Error {
    match problem {
        ImageError::Limits(_) => too_large(path, what),
        other => Error::media(path, format!("damaged or truncated {what}: {other}")),
    }
}

/// The order of names in which numbers compare as numbers: `2` before `10`. It is also defined for names that differ
/// only in leading zeros.
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

/// The length in bytes of the number at the start of `text`.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

//! Animated images: GIF, PNG and WebP. Each frame is drawn onto earlier frames as the file says, then onto black.

use super::stream::{FrameSource, Stream};
use super::view::Turn;
use super::webp::{self, read_whole};
use super::{FrameRate, MAX_PIXELS, VideoInfo, apng, images};
use crate::error::{Error, Result};
use ::gif::DecodeOptions;
use image::codecs::gif::GifDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, Frames, ImageDecoder, ImageResult};
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::{Path, PathBuf};

/// A format that may be animated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Gif,
    Png,
    WebP,
}

impl Format {
    /// The format of a file that begins with `head`.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [b'G', b'I', b'F', b'8', ..] => Some(Self::Gif),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gif => "GIF",
            Self::Png => "animated PNG",
            Self::WebP => "animated WebP",
        }
    }
}

/// How long an animation is.
#[derive(Default)]
struct Length {
    frames: u64,
    milliseconds: f64,
}

impl Length {
    /// Adds a frame. As in browsers, a frame with the duration 0 is shown for a tenth of a second.
    fn add(&mut self, milliseconds: f64) {
        self.frames += 1;
        self.milliseconds += if milliseconds <= 10.0 { 100.0 } else { milliseconds };
    }
}

/// Frames of an animation.
struct Source {
    frames: Frames<'static>,
    path: PathBuf,
    kind: Format,
    done: usize,
}

/// Reads size and timing; of a file that is not animated, the image.
///
/// # Errors
/// [`Error::Media`] if the file is damaged or truncated.
pub(super) fn open(file: File, kind: Format, path: &Path) -> Result<Stream> {
    let failed = || Error::io("cannot read", path);
    let mut input = BufReader::new(file);
    let length = match kind {
        Format::Gif => Some(gif_length(&mut input, path)?),
        Format::Png => png_length(&mut input).map_err(failed())?,
        Format::WebP => webp_length(&mut input).map_err(failed())?,
    };
    input.rewind().map_err(failed())?;
    let Some(length) = length else { return images::open_file(input, path) };
    let fps = if kind == Format::Gif { gif_rate(&length) } else { rate(&length) };
    let bad = |problem| images::damaged(path, kind.name(), problem);
    let (frames, size, turn) = match kind {
        Format::Png => return apng::open(input, fps, path),
        Format::Gif => gif_frames(input).map_err(bad)?,
        Format::WebP => webp_frames(input).map_err(bad)?,
    };
    let (width, height) = (size.0 as usize, size.1 as usize);
    if width * height > MAX_PIXELS {
        return Err(images::too_large(path, kind.name()));
    }
    let source = Source { frames, path: path.to_path_buf(), kind, done: 0 };
    Ok(Stream::turned(VideoInfo { width, height, fps }, turn, (1, 1), Box::new(source)))
}

/// Frames, (width, height), and the turn of the frames.
type Animation = (Frames<'static>, (u32, u32), Turn);

fn gif_frames(input: BufReader<File>) -> ImageResult<Animation> {
    let mut decoder = GifDecoder::new(input)?;
    decoder.set_limits(images::limits())?;
    let size = decoder.dimensions();
    Ok((decoder.into_frames(), size, Turn::default()))
}

fn webp_frames(mut input: BufReader<File>) -> ImageResult<Animation> {
    let turn = webp::turn(&mut input)?.unwrap_or_default();
    let decoder = WebPDecoder::new(input)?;
    let size = decoder.dimensions();
    Ok((decoder.into_frames(), size, turn))
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(frame) = self.frames.next() else { return Ok(None) };
        let what = || format!("{}, frame {}", self.kind.name(), self.done);
        let frame = frame.map_err(|problem| images::damaged(&self.path, &what(), problem))?;
        self.done += 1;
        Ok(Some(images::onto_black(frame.into_buffer().as_raw())))
    }
}

/// Walks over all frames without unpacking them.
fn gif_length(input: &mut BufReader<File>, path: &Path) -> Result<Length> {
    let bad = |problem: ::gif::DecodingError| Error::media(path, format!("damaged or truncated GIF: {problem}"));
    let mut options = DecodeOptions::new();
    options.skip_frame_decoding(true);
    let mut decoder = options.read_info(input).map_err(bad)?;
    let mut length = Length::default();
    while let Some(frame) = decoder.next_frame_info().map_err(bad)? {
        length.add(f64::from(frame.delay) * 10.0);
    }
    Ok(length)
}

/// The rate of a GIF, whose times are rounded to hundredths of a second. Prefers a whole rate that agrees with the
/// total time, first of all the model's 24.
fn gif_rate(length: &Length) -> FrameRate {
    let (frames, hundredths) = (length.frames, (length.milliseconds / 10.0).round() as u64);
    let nearest = (frames * 100 + hundredths / 2) / hundredths.max(1);
    let explains = |rate: &u64| *rate > 0 && 2 * (frames * 100).abs_diff(hundredths * rate) <= *rate;
    match [24, nearest].into_iter().find(explains) {
        Some(whole) if frames > 1 => FrameRate::new(whole, 1).unwrap_or_default(),
        _ => rate(length),
    }
}

/// The mean rate of frames whose times are in milliseconds.
fn rate(length: &Length) -> FrameRate {
    let intervals = if length.frames < 2 { 0 } else { length.frames };
    FrameRate::of_times(intervals, length.milliseconds.round() as u64, (1000, 1)).unwrap_or_default()
}

/// Walks over the chunks of a PNG; `None` if it is not animated.
fn png_length(input: &mut BufReader<File>) -> io::Result<Option<Length>> {
    let mut length = Length::default();
    let mut animated = false;
    input.seek_relative(8)?;
    let mut head = [0; 8];
    while read_whole(input, &mut head)? {
        let [a, b, c, d, name @ ..] = head;
        let mut bytes = i64::from(u32::from_be_bytes([a, b, c, d]));
        match &name {
            b"acTL" => animated = true,
            b"IDAT" if !animated => return Ok(None),
            b"fcTL" => {
                let mut control = [0; 26];
                if bytes < 26 || !read_whole(input, &mut control)? {
                    break;
                }
                let [above, below] = [20, 22].map(|at| f64::from(u16::from_be_bytes([control[at], control[at + 1]])));
                length.add(1000.0 * above / if below == 0.0 { 100.0 } else { below });
                bytes -= 26;
            }
            _ => {}
        }
        // A checksum follows each chunk.
        input.seek_relative(bytes + 4)?;
    }
    Ok(animated.then_some(length))
}

/// Walks over the chunks of a WebP; `None` if it is not animated.
fn webp_length(input: &mut BufReader<File>) -> io::Result<Option<Length>> {
    const ANIMATION: u8 = 2;
    let mut length = Length::default();
    input.seek_relative(12)?;
    let mut head = [0; 8];
    let mut extended = false;
    while read_whole(input, &mut head)? {
        let [name @ .., a, b, c, d] = head;
        // Chunks are padded to even sizes.
        let bytes = i64::from(u32::from_le_bytes([a, b, c, d]));
        let mut bytes = bytes + bytes % 2;
        match &name {
            b"VP8X" => {
                let mut flags = [0];
                if bytes == 0 || !read_whole(input, &mut flags)? || flags[0] & ANIMATION == 0 {
                    return Ok(None);
                }
                (extended, bytes) = (true, bytes - 1);
            }
            b"ANMF" if extended => {
                let mut frame = [0; 16];
                if bytes < 16 || !read_whole(input, &mut frame)? {
                    break;
                }
                length.add(f64::from(u32::from_le_bytes([frame[12], frame[13], frame[14], 0])));
                bytes -= 16;
            }
            _ if !extended => return Ok(None),
            _ => {}
        }
        input.seek_relative(bytes)?;
    }
    Ok(extended.then_some(length))
}

//! Clips: reading and writing them, resizing, comparing and tiling.
//!
//! A [`Clip`] is 8-bit RGB frames in memory. [`Writer`] takes one frame at a time; its output (a file or a folder of
//! PNGs) appears only when it is complete. [`Reader`] returns one frame at a time.
//!
//! | ending      | written                                     | read                                            |
//! |-------------|---------------------------------------------|-------------------------------------------------|
//! | `.mp4`      | H.264 4:2:0, BT.709, limited range          | progressive 8-bit 4:2:0 H.264                   |
//! | `.gif`      | 256 colours a frame, loops; to 50 frames/s  | any                                             |
//! | `.y4m`      | 4:4:4, BT.601, limited range                | 8-bit 4:2:0, 4:2:2, 4:4:4 and mono              |
//! | `.png`      | one frame                                   | one frame or animated; `.jpg`, `.webp` as well  |
//! | none or `/` | folder: `frame_00000.png`, …                | folder of images, in the names' order           |
//!
//! MP4, GIF and PNG also hold a description, one text: [`Writer::described`] writes it, and [`description()`] reads it.
//!
//! A reader recognises a file by its content. Other formats are read through `ffmpeg`, if it is installed. Frames, size
//! and rate are the same, whether this crate or ffmpeg reads a file. `docs/formats.md` says what is kept of each
//! format.

mod animation;
mod apng;
mod description;
mod ffmpeg;
mod format;
mod gathering;
mod gif;
mod h264;
mod images;
mod input;
mod jpeg;
mod mask;
pub mod metrics;
mod mp4;
mod rate;
mod reader;
pub mod resize;
pub mod sheet;
mod sps;
mod stream;
mod tags;
mod view;
mod webp;
mod writer;
mod y4m;
mod yuv;

pub use description::description;
pub use format::{Format, check_writable, is_frame, is_stdout};
pub use gathering::Gathering;
pub use images::png_bytes;
pub use mask::Mask;
pub use rate::FrameRate;
pub use reader::{ReadOptions, Reader, read_clip};
pub use writer::{Writer, write_clip};

use crate::error::{Error, Result};
use std::path::Path;

/// The most pixels of a frame that can be read: 8192×8192. A header that claims more is treated as damaged.
const MAX_PIXELS: usize = 1 << 26;
/// The most bytes of a description, in UTF-8: a mebibyte. A file with a longer one is treated as damaged.
pub const MAX_DESCRIPTION: usize = 1 << 20;

/// Size and rate of a clip's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoInfo {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Frames per second.
    pub fps: FrameRate,
}

impl VideoInfo {
    /// Bytes of one RGB frame.
    pub fn frame_bytes(&self) -> usize {
        self.width * self.height * 3
    }
}

/// Frames in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Number of frames, T.
    pub frames: usize,
    /// Rows of a frame, H.
    pub height: usize,
    /// Pixels in a row, W.
    pub width: usize,
    /// Frames per second.
    pub fps: FrameRate,
    /// sRGB bytes `[T, H, W, 3]`.
    pub pixels: Vec<u8>,
}

impl Clip {
    /// A clip of `pixels`, `[T, H, W, 3]`; T follows from their number.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not a whole number of frames, or there is no frame.
    pub fn new(info: VideoInfo, pixels: Vec<u8>) -> Result<Self> {
        let VideoInfo { width, height, fps } = info;
        let frame = info.frame_bytes();
        if frame == 0 || pixels.is_empty() || !pixels.len().is_multiple_of(frame) {
            return Err(Error::Shape {
                op: "clip",
                argument: "pixels",
                expected: format!("a multiple of {height}x{width}x3 bytes, not zero"),
                found: format!("{} bytes", pixels.len()),
            });
        }
        Ok(Self { frames: pixels.len() / frame, height, width, fps, pixels })
    }

    /// Size and rate of the frames.
    pub fn info(&self) -> VideoInfo {
        VideoInfo { width: self.width, height: self.height, fps: self.fps }
    }

    /// Frame `index`: `[H, W, 3]`.
    ///
    /// # Panics
    /// If the clip has no such frame.
    pub fn frame(&self, index: usize) -> &[u8] {
        let bytes = self.info().frame_bytes();
        &self.pixels[index * bytes..(index + 1) * bytes]
    }

    /// Writes the clip to `path`, whose ending decides the format: see the table above.
    ///
    /// # Errors
    /// [`Error::Usage`] for an ending that is not in the table; [`Error::Io`] and [`Error::Media`] if it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_clip(path.as_ref(), self)
    }

    /// All frames in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pixels.chunks_exact(self.info().frame_bytes())
    }
}

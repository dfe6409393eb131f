//! Reading clips frame by frame.

use super::{Clip, VideoInfo, ffmpeg, gif, images, mp4, y4m};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A format's frames, one after the other.
pub(super) trait FrameSource {
    /// The next frame `[H, W, 3]`, of the size that was announced; none at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>>;
}

/// What came of opening a file whose format is known.
pub(super) enum Opened {
    /// Frames can be read.
    Ready(VideoInfo, Box<dyn FrameSource>),
    /// Nothing is wrong with it, but it is of a kind that is not read; which is said.
    NotHandled(String),
}

/// Which frames are read, and how.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Frames to leave out at the beginning.
    pub start: usize,
    /// Most frames to read; none for all. Frames beyond are not decoded.
    pub max_frames: Option<usize>,
    /// Whether `ffmpeg`, where it is installed, may be run for what is not read otherwise.
    pub ffmpeg: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { start: 0, max_frames: None, ffmpeg: true }
    }
}

/// A video, image or folder of images that is being read. Iterating gives frames, `[H, W, 3]`; after an error it ends.
pub struct Reader {
    path: PathBuf,
    info: VideoInfo,
    source: Box<dyn FrameSource>,
    skip: usize,
    left: usize,
}

impl Reader {
    /// Opens `path`: MP4 (H.264), GIF, Y4M, PNG, JPEG, a folder of PNGs or JPEGs, or what ffmpeg reads. Content decides,
    /// not the name. Images and folders have 24 frames/s.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened; [`Error::Media`] if it is empty, damaged or of another format.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let (info, source) = open_source(path, options.ffmpeg)?;
        let left = options.max_frames.unwrap_or(usize::MAX);
        Ok(Self { path: path.to_path_buf(), info, source, skip: options.start, left })
    }

    /// Size and rate of the frames.
    pub fn info(&self) -> VideoInfo {
        self.info
    }

    fn next_frame(&mut self) -> Result<Option<Vec<u8>>> {
        let start = std::mem::take(&mut self.skip);
        for skipped in 0..start {
            if self.source.next()?.is_none() {
                return Err(Error::media(&self.path, format!("has {skipped} frames, none after the first {start}")));
            }
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.source.next()
    }
}

impl Iterator for Reader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = self.next_frame().transpose();
        if !matches!(frame, Some(Ok(_))) {
            (self.skip, self.left) = (0, 0);
        }
        frame
    }
}

/// Reads `path` into memory.
///
/// # Errors
/// Those of [`Reader::open`]; [`Error::Media`] if a frame is damaged or there is none.
pub fn read_clip(path: &Path, options: &ReadOptions) -> Result<Clip> {
    let reader = Reader::open(path, options)?;
    let info = reader.info();
    let mut pixels = Vec::new();
    for frame in reader {
        pixels.extend_from_slice(&frame?);
    }
    if pixels.is_empty() {
        return Err(Error::media(path, "no frames to read"));
    }
    Clip::new(info, pixels)
}

fn open_source(path: &Path, may_run_ffmpeg: bool) -> Result<(VideoInfo, Box<dyn FrameSource>)> {
    let opened = if path.is_dir() { images::open_folder(path)? } else { open_file(path)? };
    let problem = match opened {
        Opened::Ready(info, source) => return Ok((info, source)),
        Opened::NotHandled(problem) => problem,
    };
    if may_run_ffmpeg && let Some(running) = ffmpeg::start(path)? {
        return running
            .map_err(|reason| Error::media(path, format!("{problem}; ffmpeg cannot read it either: {reason}")));
    }
    Err(Error::media(
        path,
        format!("{problem}; convert it to H.264 MP4, or install ffmpeg, which is then used to read it"),
    ))
}

fn open_file(path: &Path) -> Result<Opened> {
    let mut file = File::open(path).map_err(Error::io("cannot open", path))?;
    let mut head = Vec::new();
    file.by_ref().take(12).read_to_end(&mut head).map_err(Error::io("cannot read", path))?;
    if head.is_empty() {
        return Err(Error::media(path, "is empty: 0 bytes"));
    }
    let reopen = || File::open(path).map_err(Error::io("cannot open", path));
    if head.starts_with(y4m::MAGIC) {
        y4m::open(reopen()?, path)
    } else if head.starts_with(gif::MAGIC) {
        gif::open(path)
    } else if head.starts_with(images::PNG_MAGIC) || head.starts_with(images::JPEG_MAGIC) {
        images::open_file(path)
    } else if head.get(4..8) == Some(b"ftyp") {
        mp4::open(reopen()?, path)
    } else {
        Ok(Opened::NotHandled("is no MP4, GIF, Y4M, PNG or JPEG".into()))
    }
}

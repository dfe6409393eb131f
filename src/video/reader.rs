//! Reads clips frame by frame.

use super::input::Input;
use super::stream::{Opened, Stream};
use super::{Clip, Gathering, VideoInfo, animation, ffmpeg, images, mp4, y4m};
use crate::error::{Error, Result};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Which frames are read, and how.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Frames to skip at the beginning.
    pub start: usize,
    /// The most frames to read; `None` for all. Later frames are not decoded.
    pub max_frames: Option<usize>,
    /// Whether `ffmpeg`, if installed, may read formats that this crate does not read.
    pub ffmpeg: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { start: 0, max_frames: None, ffmpeg: true }
    }
}

/// A video, image or folder of images that is being read. It iterates over frames, `[H, W, 3]`, upright and with square
/// pixels, and ends after an error.
pub struct Reader {
    path: PathBuf,
    stream: Stream,
    skip: usize,
    left: usize,
}

impl Reader {
    /// Opens `path`: MP4 (H.264), GIF, Y4M, PNG, JPEG, WebP, a folder of images, or any format that ffmpeg reads; from
    /// a file, a pipe, or `-` for stdin. The content decides, not the name. Single frames and folders have 24 frames/s.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened; [`Error::Media`] if it is empty, damaged or of another format.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let stream = open_stream(path, options.ffmpeg)?;
        let VideoInfo { height, width, .. } = stream.view.shown();
        if height == 0 || width == 0 {
            return Err(Error::media(path, format!("has frames of {height}x{width} pixels, expected at least 1x1")));
        }
        let left = options.max_frames.unwrap_or(usize::MAX);
        Ok(Self { path: path.to_path_buf(), stream, skip: options.start, left })
    }

    /// Size and rate of the frames.
    pub fn info(&self) -> VideoInfo {
        self.stream.view.shown()
    }

    /// Warnings, one line each: information that was lost, or assumptions that were made. The list is complete when the
    /// last frame has been read.
    pub fn notices(&self) -> Vec<String> {
        self.stream.notices.iter().cloned().chain(self.stream.frames.notice()).collect()
    }

    /// All frames that are left.
    ///
    /// # Errors
    /// [`Error::Media`] if a frame is damaged or there are none; [`Error::OutOfMemory`] if there is no room for them.
    pub fn clip(&mut self) -> Result<Clip> {
        let mut gathering = Gathering::new(&self.path, self.info());
        for frame in self {
            gathering.push(&frame?)?;
        }
        gathering.clip(usize::MAX)
    }

    fn next_frame(&mut self) -> Result<Option<Vec<u8>>> {
        let start = std::mem::take(&mut self.skip);
        for skipped in 0..start {
            if self.stream.frames.next()?.is_none() {
                return Err(Error::media(
                    &self.path,
                    format!("has {skipped} frames, and all of them are skipped: start is {start}"),
                ));
            }
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        Ok(self.stream.frames.next()?.map(|frame| self.stream.view.apply(frame)))
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
/// Those of [`Reader::open`] and [`Reader::clip`].
pub fn read_clip(path: &Path, options: &ReadOptions) -> Result<Clip> {
    Reader::open(path, options)?.clip()
}

fn open_stream(path: &Path, may_run_ffmpeg: bool) -> Result<Stream> {
    if path.is_dir() {
        return images::open_folder(path);
    }
    let mut input = Input::open(path)?;
    let problem = match open_file(&mut input)? {
        Opened::Ready(stream) => return Ok(stream),
        Opened::NotHandled(problem) => problem,
    };
    if may_run_ffmpeg && let Some(started) = ffmpeg::start(&mut input)? {
        return started
            .map_err(|reason| Error::media(path, format!("{problem}; ffmpeg cannot read it either: {reason}")));
    }
    Err(Error::media(
        path,
        format!(
            "{problem}; convert it to H.264 MP4 or PNG, or install ffmpeg, and this program will read it through ffmpeg"
        ),
    ))
}

fn open_file(input: &mut Input) -> Result<Opened> {
    let path = input.path().to_path_buf();
    let head = input.head();
    if head.starts_with(y4m::MAGIC) {
        y4m::open(input.stream()?, &path)
    } else if let Some(kind) = animation::Format::of(head) {
        animation::open(input.file()?, kind, &path).map(Opened::Ready)
    } else if head.starts_with(images::JPEG_MAGIC) {
        images::open_file(BufReader::new(input.file()?), &path).map(Opened::Ready)
    } else if head.get(4..8) == Some(b"ftyp") {
        mp4::open(input.file()?, &path)
    } else {
        Ok(Opened::NotHandled("is not an MP4, GIF, Y4M, PNG, JPEG or WebP".into()))
    }
}

//! Writes clips frame by frame.

use super::format::{Format, check_folder, check_writable, is_stdout};
use super::stream::FrameSink;
use super::{Clip, MAX_DESCRIPTION, VideoInfo, gif, images, mp4, y4m};
use crate::error::{Error, Result};
use crate::staged::Staged;
use std::path::{Path, PathBuf};

/// A clip that is being written. The output appears when [`finish`](Self::finish) succeeds. A writer that is dropped
/// before that writes nothing and keeps an existing output.
///
/// ```no_run
/// # fn main() -> osp::Result<()> {
/// use osp::video::{Format, FrameRate, VideoInfo, Writer};
/// let path = std::path::Path::new("black.mp4");
/// let info = VideoInfo { width: 64, height: 64, fps: FrameRate::default() };
/// let mut writer = Writer::create(path, Format::from_path(path)?, info, Some(24))?;
/// for _ in 0..24 {
///     writer.push(&vec![0; info.frame_bytes()])?;
/// }
/// writer.finish()
/// # }
/// ```
pub struct Writer {
    target: PathBuf,
    info: VideoInfo,
    frames: usize,
    format: Format,
    /// Goes to the sink before the first frame.
    description: Option<String>,
    // Dropped before `staged`, so that the temporary file is closed before it is removed.
    sink: Box<dyn FrameSink>,
    staged: Staged,
}

impl Writer {
    /// Starts to write `path`, at the [rate](Format::rate) of the format that is nearest to the rate of `info`. If
    /// `frames` is known, a clip that is too long for the format is refused now.
    ///
    /// # Errors
    /// Those of [`check_writable`]; [`Error::Usage`] if the format cannot hold frames of this size or this many.
    pub fn create(path: &Path, format: Format, info: VideoInfo, frames: Option<usize>) -> Result<Self> {
        check_writable(path)?;
        check_size(path, format, info)?;
        let info = VideoInfo { fps: format.rate(info.fps), ..info };
        if format == Format::Png && frames.is_some_and(|frames| frames > 1) {
            return Err(one_frame(path));
        }
        if format == Format::Mp4 && frames.is_some_and(|frames| !mp4::holds(info.fps, frames)) {
            let problem = "the clip is too long for an MP4; use a name without ending (a folder of PNGs)";
            return Err(Error::Usage(format!("output {}: {problem}", path.display())));
        }
        let staged = match format {
            _ if is_stdout(path) => Staged::stdout()?,
            Format::Frames => Staged::folder(path, check_folder)?,
            _ => Staged::file(path)?,
        };
        let sink: Box<dyn FrameSink> = match format {
            Format::Mp4 => Box::new(mp4::Sink::new(staged.open()?, path, info)?),
            Format::Gif => Box::new(gif::Sink::new(staged.open()?, path, info)?),
            Format::Y4m => Box::new(y4m::Sink::new(staged.open()?, path, info)?),
            Format::Png => Box::new(images::Sink::file(staged.path(), path, info)),
            Format::Frames => Box::new(images::Sink::folder(staged.path(), path, info)),
        };
        Ok(Self { target: path.to_path_buf(), info, frames: 0, format, description: None, sink, staged })
    }

    /// The same writer, which also puts `text` into the output as its [description](super::description()): the comment of
    /// an MP4, a GIF, a PNG, or a folder's first PNG. Other programs show it. Y4M cannot hold a text and drops it. The
    /// bytes of the output depend on nothing but frames, rate and text.
    ///
    /// # Errors
    /// [`Error::Usage`] if a frame was already added, or if the text is longer than [`MAX_DESCRIPTION`] or contains the
    /// character NUL, at which other programs would end it.
    pub fn described(mut self, text: &str) -> Result<Self> {
        let refused = |problem: String| Err(Error::Usage(format!("output {}: {problem}", self.target.display())));
        let bytes = text.len();
        if self.frames > 0 {
            return refused("a description comes before the first frame".into());
        }
        if bytes > MAX_DESCRIPTION {
            return refused(format!("a description of {bytes} bytes; a video holds at most {MAX_DESCRIPTION}"));
        }
        if let Some(at) = text.find('\0') {
            return refused(format!("the description has a NUL character at byte {at}; a video cannot hold one"));
        }
        self.description = Some(text.to_owned());
        Ok(self)
    }

    /// Adds a frame, `[H, W, 3]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another size, [`Error::Usage`] for a second frame of a PNG, else an error of the format or
    /// file.
    pub fn push(&mut self, rgb: &[u8]) -> Result<()> {
        if rgb.len() != self.info.frame_bytes() {
            return Err(Error::Shape {
                op: "video writer",
                argument: "frame",
                expected: format!("{}x{}x3 bytes", self.info.height, self.info.width),
                found: format!("{} bytes", rgb.len()),
            });
        }
        if self.format == Format::Png && self.frames == 1 {
            return Err(one_frame(&self.target));
        }
        if let Some(text) = self.description.take() {
            self.sink.describe(&text)?;
        }
        self.frames += 1;
        self.sink.push(rgb)
    }

    /// Size and rate of the output.
    pub fn info(&self) -> VideoInfo {
        self.info
    }

    /// The number of frames that were added.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Completes the output and puts it in place.
    ///
    /// # Errors
    /// Those of [`Self::written`]; [`Error::Media`] if it cannot be moved.
    pub fn finish(self) -> Result<()> {
        self.written()?.commit()
    }

    /// Completes the output. [`Staged::commit`] puts it in place.
    ///
    /// # Errors
    /// [`Error::Usage`] if no frame was added; [`Error::Io`] or [`Error::Media`] if it cannot be completed.
    pub fn written(self) -> Result<Staged> {
        if self.frames == 0 {
            return Err(Error::Usage(format!("output {}: no frames to write", self.target.display())));
        }
        self.sink.finish()?;
        self.staged.lasting()
    }
}

/// Writes all of `clip` to `path`, in the format of its ending.
///
/// # Errors
/// Those of [`Format::from_path`] and [`Writer`].
pub fn write_clip(path: &Path, clip: &Clip) -> Result<()> {
    let mut writer = Writer::create(path, Format::from_path(path)?, clip.info(), Some(clip.frames))?;
    for frame in clip.iter() {
        writer.push(frame)?;
    }
    writer.finish()
}

fn one_frame(path: &Path) -> Error {
    Error::Usage(format!(
        "output {}: a PNG holds one frame; use .mp4, .gif, .y4m or a name without ending (a folder of PNGs)",
        path.display()
    ))
}

fn check_size(path: &Path, format: Format, info: VideoInfo) -> Result<()> {
    let VideoInfo { width, height, .. } = info;
    let (least, most_long, most_short) = match format {
        Format::Mp4 => (mp4::MIN_SIDE, mp4::MAX_LONG_SIDE, mp4::MAX_SHORT_SIDE),
        Format::Gif => (1, usize::from(u16::MAX), usize::from(u16::MAX)),
        Format::Png | Format::Y4m | Format::Frames => (1, i32::MAX as usize, i32::MAX as usize),
    };
    if width.min(height) >= least && width.max(height) <= most_long && width.min(height) <= most_short {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "output {}: {width}x{height} frames do not fit the format, which holds {least}x{least} to {most_long}x{most_short}; \
         use a name without ending (a folder of PNGs)",
        path.display()
    )))
}

//! The format that an output's name chooses, and whether the output can be written: both are checked before any work.

use super::{FrameRate, gif};
use crate::error::{Error, Result};
use crate::staged;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// The format of an output, chosen by the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.mp4`: H.264, 4:2:0, BT.709 limited range, for every player.
    Mp4,
    /// `.gif`: 256 colours a frame, times in hundredths of a second.
    Gif,
    /// `.png`: exactly one frame, lossless.
    Png,
    /// `.y4m`: raw 4:4:4, BT.601 limited range.
    Y4m,
    /// No ending, or a `/` at the end: a folder of `frame_00000.png`, …, lossless.
    Frames,
}

impl Format {
    /// The format of the ending of `path`, in upper or lower case; Y4M for [stdout](is_stdout).
    ///
    /// # Errors
    /// [`Error::Usage`] with a list of the known endings.
    pub fn from_path(path: &Path) -> Result<Self> {
        if is_stdout(path) {
            return Ok(Self::Y4m);
        }
        let text = path.as_os_str().as_encoded_bytes();
        if path.file_name().is_none() {
            return Err(Error::Usage(format!("output {:?} names no file or folder", path.display())));
        }
        if text.last().is_some_and(|&last| std::path::is_separator(char::from(last))) {
            return Ok(Self::Frames);
        }
        let hidden = path.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_prefix('.'));
        if hidden.and_then(Self::of_ending).is_some() {
            return Err(Error::Usage(format!("output {} has no name before its ending", path.display())));
        }
        let Some(ending) = path.extension().map(OsStr::to_string_lossy) else { return Ok(Self::Frames) };
        Self::of_ending(&ending).ok_or_else(|| {
            let (path, ending) = (path.display(), ending.to_ascii_lowercase());
            Error::Usage(format!(
                "output {path}: .{ending} files cannot be written; \
                 use .mp4, .gif, .y4m, .png (one frame) or a name without ending (a folder of PNGs)"
            ))
        })
    }

    /// The format of files with this ending.
    fn of_ending(ending: &str) -> Option<Self> {
        match ending.to_ascii_lowercase().as_str() {
            "mp4" => Some(Self::Mp4),
            "gif" => Some(Self::Gif),
            "png" => Some(Self::Png),
            "y4m" => Some(Self::Y4m),
            _ => None,
        }
    }
}

impl Format {
    /// The rate nearest to `fps` that the format can hold. Images hold none; for them, `fps` is returned.
    pub fn rate(self, fps: FrameRate) -> FrameRate {
        match self {
            Self::Gif => gif::rate(fps),
            // Other fractions overflow 32-bit fields and programs.
            Self::Mp4 | Self::Y4m => fps.simple(),
            Self::Png | Self::Frames => fps,
        }
    }
}

/// Whether `path` is `-`, which stands for stdout. A file of this name is `./-`.
pub fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Fails, with one clear line, if `path` cannot be written: unknown ending, folder missing or not writable, name too
/// long, or something of another kind already there. Files are overwritten; a folder only if it holds nothing but
/// frames of an earlier run and files that desktop systems put into folders.
///
/// # Errors
/// [`Error::Usage`] or [`Error::Io`].
pub fn check_writable(path: &Path) -> Result<()> {
    match Format::from_path(path)? {
        _ if is_stdout(path) => Ok(()),
        Format::Frames if path.exists() && !path.is_dir() && !path.is_file() => {
            let problem = "is neither a file nor a folder; name another, or - for stdout";
            Err(Error::Usage(format!("output {} {problem}", path.display())))
        }
        Format::Frames => {
            staged::check_parent(path)?;
            let folder = staged::destination(path)?;
            check_folder(&folder)?;
            if folder.exists() { staged::check_removable(&folder) } else { Ok(()) }
        }
        _ => staged::check_file(path),
    }
}

/// Fails unless nothing is at `path`, or a folder that may be replaced as a whole.
pub(super) fn check_folder(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    if !path.is_dir() {
        return Err(Error::Usage(format!("output {} is a file; a folder of frames cannot replace it", path.display())));
    }
    for entry in fs::read_dir(path).map_err(Error::io("cannot read", path))? {
        let name = entry.map_err(Error::io("cannot read", path))?.file_name();
        let text = name.to_string_lossy();
        if !is_frame(&name) && !staged::is_litter(&text) {
            return Err(Error::Usage(format!(
                "output folder {} holds {:?}, which is not a frame_NNNNN.png and would be lost; choose another folder",
                path.display(),
                name
            )));
        }
    }
    Ok(())
}

/// The name of frame `index` in a folder.
pub(super) fn frame_name(index: usize) -> String {
    format!("frame_{index:05}.png")
}

/// Whether a file of a folder of frames is one of them, by its name.
pub fn is_frame(name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix("frame_")).and_then(|rest| rest.strip_suffix(".png"));
    digits.is_some_and(|digits| digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

//! The interface between formats and the code that reads and writes clips.

use super::VideoInfo;
use super::view::{Turn, View};
use crate::error::Result;

/// A format's frames, one after the other.
pub(super) trait FrameSource {
    /// The next frame `[H, W, 3]`, of the stream's size; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>>;

    /// A warning about something that was found only while frames were read.
    fn notice(&self) -> Option<String> {
        None
    }
}

/// A format that can be read.
pub(super) struct Stream {
    /// How to show the frames.
    pub view: View,
    pub frames: Box<dyn FrameSource>,
    /// Warnings.
    pub notices: Vec<String>,
}

impl Stream {
    /// Frames without warnings. `aspect` is the pixel aspect ratio.
    pub fn new(stored: VideoInfo, aspect: (u32, u32), frames: Box<dyn FrameSource>) -> Self {
        Self::turned(stored, Turn::default(), aspect, frames)
    }

    /// As [`Self::new`], for frames that must also be turned.
    pub fn turned(stored: VideoInfo, turn: Turn, aspect: (u32, u32), frames: Box<dyn FrameSource>) -> Self {
        let view = View::new(stored, turn, aspect);
        Self { view, frames, notices: view.warning().into_iter().collect() }
    }
}

/// The result of opening a file of a known format.
pub(super) enum Opened {
    /// Frames can be read.
    Ready(Stream),
    /// It is not damaged, but of a kind that this crate does not read. The text names the kind.
    NotHandled(String),
}

/// Writes frames in a format; [`super::Writer`] has checked their size and number.
pub(super) trait FrameSink: Send {
    /// Puts `text` into the output as its description; called at most once, before the first frame. A format that cannot
    /// hold it drops it.
    fn describe(&mut self, text: &str) -> Result<()>;
    /// Takes the next frame, `[H, W, 3]`.
    fn push(&mut self, rgb: &[u8]) -> Result<()>;
    /// Writes the rest and closes the file.
    fn finish(self: Box<Self>) -> Result<()>;
}

//! What formats are to those who read and write them.

use super::VideoInfo;
use super::view::{Turn, View};
use crate::error::Result;

/// A format's frames, one after the other.
pub(super) trait FrameSource {
    /// The next frame `[H, W, 3]`, of the size that was announced; none at the end.
    fn next(&mut self) -> Result<Option<Vec<u8>>>;

    /// What turned out only while frames were read, for a warning.
    fn notice(&self) -> Option<String> {
        None
    }
}

/// A format that can be read.
pub(super) struct Stream {
    /// How frames that come are to be shown.
    pub view: View,
    pub frames: Box<dyn FrameSource>,
    /// What is good to know of it, for warnings.
    pub notices: Vec<String>,
}

impl Stream {
    /// Frames of which nothing is to be said, and whose pixels have `aspect`.
    pub fn new(stored: VideoInfo, aspect: (u32, u32), frames: Box<dyn FrameSource>) -> Self {
        Self::turned(stored, Turn::default(), aspect, frames)
    }

    /// Frames that are to be turned as well.
    pub fn turned(stored: VideoInfo, turn: Turn, aspect: (u32, u32), frames: Box<dyn FrameSource>) -> Self {
        let view = View::new(stored, turn, aspect);
        Self { view, frames, notices: view.warning().into_iter().collect() }
    }
}

/// What came of opening a file whose format is known.
pub(super) enum Opened {
    /// Frames can be read.
    Ready(Stream),
    /// Nothing is wrong with it, but it is of a kind that is not read; which is said.
    NotHandled(String),
}

/// What a format does with frames; [`super::Writer`] has checked their size and number.
pub(super) trait FrameSink: Send {
    /// Takes the next frame, `[H, W, 3]`.
    fn push(&mut self, rgb: &[u8]) -> Result<()>;
    /// Writes what is left and closes the file.
    fn finish(self: Box<Self>) -> Result<()>;
}

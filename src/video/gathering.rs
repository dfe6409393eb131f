//! Frames that are kept until their clip is whole.

use super::{Clip, VideoInfo};
use crate::error::{Error, Relief, Result};
use crate::room;
use std::path::{Path, PathBuf};

/// Bytes of a clip that is small: it is not asked whether there is room.
const SMALL: usize = 64 << 20;

/// A clip that is being read. A file of a few bytes for each frame can have more of them than any memory holds. So the memory
/// grows with the frames, and only as far as there is room.
#[derive(Debug)]
pub struct Gathering {
    path: PathBuf,
    info: VideoInfo,
    pixels: Vec<u8>,
}

impl Gathering {
    /// No frame yet of the clip at `path`, which errors name.
    pub fn new(path: &Path, info: VideoInfo) -> Self {
        Self { path: path.to_path_buf(), info, pixels: Vec::new() }
    }

    /// Frames so far.
    pub fn frames(&self) -> usize {
        self.pixels.len() / self.info.frame_bytes().max(1)
    }

    /// Adds a frame, `[H, W, 3]`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no room for it.
    pub fn push(&mut self, frame: &[u8]) -> Result<()> {
        if frame.len() > self.pixels.capacity() - self.pixels.len() {
            self.grow(frame.len())?;
        }
        self.pixels.extend_from_slice(frame);
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> Result<()> {
        let held = self.pixels.capacity();
        let more = bytes.max(held / 4).max(held.min(SMALL));
        if held + more > SMALL {
            // What is done with the clip needs room, too.
            let checked = room::check(&self.path.display().to_string(), held as u64, 2 * more as u64);
            checked.map_err(|error| match error {
                Error::OutOfMemory { stage, needed, free, .. } => {
                    Error::OutOfMemory { stage, needed, free, relief: Relief::Clip }
                }
                other => other,
            })?;
        }
        self.pixels.reserve_exact(self.pixels.capacity() - self.pixels.len() + more);
        Ok(())
    }

    /// The clip of the first `frames` frames.
    ///
    /// # Errors
    /// [`Error::Media`] if there are none.
    pub fn clip(mut self, frames: usize) -> Result<Clip> {
        self.pixels.truncate(frames.saturating_mul(self.info.frame_bytes()));
        if self.pixels.is_empty() {
            return Err(Error::media(&self.path, "has no frames"));
        }
        Clip::new(self.info, self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::FrameRate;

    #[test]
    fn a_clip_has_the_frames_that_were_added_in_their_order() {
        let info = VideoInfo { width: 1, height: 1, fps: FrameRate::default() };
        let mut gathering = Gathering::new(Path::new("a.gif"), info);
        (0..5).for_each(|level| gathering.push(&[level; 3]).unwrap());
        assert_eq!(gathering.frames(), 5);
        assert_eq!(gathering.clip(2).unwrap().pixels, [0, 0, 0, 1, 1, 1]);
        assert!(
            Gathering::new(Path::new("a.gif"), info).clip(1).unwrap_err().to_string().contains("a.gif: has no frames")
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn frames_beyond_the_memory_of_the_machine_are_an_error_before_memory_is_taken() {
        let info = VideoInfo { width: 1 << 13, height: 1 << 13, fps: FrameRate::default() };
        let mut gathering = Gathering::new(Path::new("a.gif"), info);
        let all = usize::try_from(room::Room::now().unwrap().all).unwrap();
        let error = gathering.grow(all / 2 + 1).unwrap_err();
        assert!(matches!(&error, Error::OutOfMemory { relief: Relief::Clip, .. }), "{error}");
        assert!(error.to_string().starts_with("a.gif: out of memory") && gathering.pixels.capacity() == 0, "{error}");
    }
}

//! The context of one run of a coder.

use super::features::Features;
use crate::backend::Backend;
use crate::error::Result;

/// Receives the output of every named block, to compare it with another implementation.
pub type Probe<'a, Buffer> = &'a mut dyn FnMut(&str, &Buffer, [usize; 4]);

/// The context of one run of a coder.
pub(super) struct CoderRun<'a, B: Backend> {
    pub backend: &'a B,
    pub probe: Option<Probe<'a, B::Buffer>>,
    /// Positions of all frames that a layer takes at a time; `None` takes all frames.
    pub positions: Option<usize>,
}

/// The fewest frames that a layer takes at a time: a kernel of three frames needs two earlier ones.
const FEWEST_FRAMES: usize = 2;

impl<B: Backend> CoderRun<'_, B> {
    /// Frames of this size that a layer takes at a time.
    pub fn frames(&self, height: usize, width: usize) -> usize {
        self.positions.map_or(usize::MAX, |positions| (positions / (height * width)).max(FEWEST_FRAMES))
    }

    /// Shows `x` to the probe under the module's name in the checkpoint.
    pub fn show(&mut self, name: impl FnOnce() -> String, x: &Features<B>) -> Result<()> {
        match &mut self.probe {
            None => {}
            Some(probe) if x.is_whole() => probe(&name(), x.data(), x.shape()),
            Some(probe) => probe(&name(), &x.copied(self.backend)?, x.shape()),
        }
        Ok(())
    }
}

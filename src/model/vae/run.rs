//! What a run of a coder carries along.

use super::features::Features;
use crate::backend::Backend;
use crate::error::Result;

/// Sees the output of every named block; for checking against another implementation.
pub type Probe<'a, Buffer> = &'a mut dyn FnMut(&str, &Buffer, [usize; 4]);

/// What a run of a coder carries along.
pub(super) struct CoderRun<'a, B: Backend> {
    pub backend: &'a B,
    pub probe: Option<Probe<'a, B::Buffer>>,
    /// Positions of all frames that a layer takes at a time; `None` for all there are.
    pub positions: Option<usize>,
}

/// The fewest frames that a layer takes at a time: those that the next ones see of them through a kernel of three.
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

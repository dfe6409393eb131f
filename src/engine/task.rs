//! What a batch makes: videos from their beginning, or from where an earlier run stopped.

use super::{Footage, RunState, Settings, Stage};
use crate::error::{Error, Result};
use crate::model::vae::tiling::window_ends;
use crate::room;
use std::borrow::Cow;
use std::sync::Arc;

/// A video of a batch.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its settings.
    pub settings: Settings,
    /// The pixels that an edit begins with; they may be missing until a batch makes it.
    pub footage: Option<Arc<Footage>>,
    /// Where it begins.
    pub start: Start,
}

/// Where a video begins. From each, the rest of its run has the bits of a run without a stop.
#[derive(Clone, Debug)]
pub enum Start {
    /// At its noise.
    Noise,
    /// Between two calls of the model.
    Call(RunState),
    /// At its latent.
    Latent {
        /// `[T, H, W, C]`.
        values: Vec<f32>,
        /// Windows in time that are decoded; the batch gives only the frames behind them.
        windows: usize,
    },
}

impl From<Settings> for Task {
    fn from(settings: Settings) -> Self {
        Self { settings, footage: None, start: Start::Noise }
    }
}

impl Task {
    /// This task as an edit of `footage`.
    #[must_use]
    pub fn of_footage(self, footage: Option<Arc<Footage>>) -> Self {
        Self { footage, ..self }
    }

    /// Checks that an edit has the pixels that its settings name.
    ///
    /// # Errors
    /// [`Error::Usage`] says what is missing or differs.
    pub(super) fn check_footage(&self) -> Result<()> {
        match (&self.settings.edit, &self.footage) {
            (None, None) => Ok(()),
            (_, Some(footage)) => footage.check(&self.settings),
            (Some(_), None) => Err(Error::Usage("the pixels that the edit begins with are missing".into())),
        }
    }

    /// Whether the transformer, and so the text encoder, have work left.
    pub(crate) fn needs_transformer(&self) -> bool {
        !matches!(self.start, Start::Latent { .. })
    }

    /// The state of the run, if the task begins with one.
    pub(crate) fn state(&self) -> Option<&RunState> {
        if let Start::Call(state) = &self.start { Some(state) } else { None }
    }

    /// Windows in time that are decoded.
    pub(crate) fn windows(&self) -> usize {
        if let Start::Latent { windows, .. } = self.start { windows } else { 0 }
    }

    /// The first frame that the decoder makes.
    pub(super) fn first_frame(&self) -> usize {
        self.windows().checked_sub(1).map_or(0, |last| self.settings.window_ends()[last])
    }

    /// Decoded frame `index` as it is shown.
    pub(super) fn pasted<'a>(&'a self, index: usize, rgb: &'a [u8]) -> Cow<'a, [u8]> {
        self.footage.as_ref().map_or(rgb.into(), |footage| footage.pasted(index, rgb))
    }

    /// Values of the latent.
    fn len(&self) -> usize {
        self.settings.latent_size().iter().product::<usize>() * self.settings.factors.channels
    }

    /// Checks that the host has room for the latent and its noise. What a stage needs beside them, its device knows.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn check_room(&self) -> Result<()> {
        room::check(Stage::Denoise.name(), 0, 2 * (self.len() * size_of::<f32>()) as u64)
    }

    /// Checks the settings, and that the start fits them.
    ///
    /// # Errors
    /// [`Error::Usage`] says what does not fit.
    pub fn validate(&self) -> Result<()> {
        self.settings.validate()?;
        let len = self.len();
        match &self.start {
            Start::Noise => Ok(()),
            Start::Call(state) => state.validate(&self.settings.schedule()?, &self.settings.shortcuts, len),
            Start::Latent { values, windows } => {
                let all = self.settings.window_ends().len();
                if values.len() == len && *windows < all {
                    return Ok(());
                }
                Err(Error::Usage(format!(
                    "a latent of {} values with {windows} decoded windows is not one of {len} values in {all} windows",
                    values.len()
                )))
            }
        }
    }
}

impl Settings {
    /// The frames of the video that are complete when each window in time is decoded.
    pub fn window_ends(&self) -> Vec<usize> {
        window_ends(self.latent_size(), self.tiling, self.factors)
    }
}

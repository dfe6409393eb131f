//! What a batch makes: videos from their beginning, or from where an earlier run stopped.

use super::Settings;
use crate::error::{Error, Result};
use crate::model::vae::tiling::window_ends;
use crate::sampler::SamplerState;

/// A video of a batch.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its settings.
    pub settings: Settings,
    /// Where it begins.
    pub start: Start,
}

/// Where a video begins. From each, the rest of its run has the bits of a run without a stop.
#[derive(Clone, Debug)]
pub enum Start {
    /// At its noise.
    Noise,
    /// Between two calls of the model.
    Call(SamplerState),
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
        Self { settings, start: Start::Noise }
    }
}

impl Task {
    /// Whether the transformer, and so the text encoder, have work left.
    pub(crate) fn needs_transformer(&self) -> bool {
        !matches!(self.start, Start::Latent { .. })
    }

    /// The state of the sampler, if the task begins with one.
    pub(crate) fn state(&self) -> Option<&SamplerState> {
        if let Start::Call(state) = &self.start { Some(state) } else { None }
    }

    /// Windows in time that are decoded.
    pub(crate) fn windows(&self) -> usize {
        if let Start::Latent { windows, .. } = self.start { windows } else { 0 }
    }

    /// Checks the settings, and that the start fits them.
    ///
    /// # Errors
    /// [`Error::Usage`] says what does not fit.
    pub fn validate(&self) -> Result<()> {
        self.settings.validate()?;
        let len = self.settings.latent_size().iter().product::<usize>() * self.settings.factors.channels;
        match &self.start {
            Start::Noise => Ok(()),
            Start::Call(state) => state.validate(&self.settings.sampler.schedule(self.settings.steps)?, len),
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

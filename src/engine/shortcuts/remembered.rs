//! Where a run stands between two calls of the model, shortcuts included.

use super::{Cache, Shortcuts, SinceEvaluation};
use crate::error::{Error, Result};
use crate::sampler::{Call, SamplerState, Schedule};

/// All that the calls of the model after a stop need, on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunState {
    /// The sampler.
    pub sampler: SamplerState,
    /// What shortcuts remember.
    pub remembered: Remembered,
}

/// What shortcuts remember between two calls of the model; nothing without shortcuts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// What a cache has let pass since the last evaluation.
    pub since: SinceEvaluation,
    /// The last evaluated predictions `[T, H, W, C]` with their timesteps, newest first.
    pub predictions: Vec<(f32, Vec<f32>)>,
    /// The model's last input `[T, H, W, C]`, if the cache compares inputs.
    pub input: Option<Vec<f32>>,
    /// The last evaluated difference of the branches of guidance, negative prompt less prompt, and the calls that it has served.
    pub difference: Option<(usize, Vec<f32>)>,
}

impl Cache {
    /// How many predictions it remembers.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::TeaCache { .. } | Self::MagCache { .. } => 1,
            Self::Taylor { .. } => 2,
        }
    }

    /// Whether it compares the model's inputs.
    pub(super) fn compares_inputs(&self) -> bool {
        matches!(self, Self::TeaCache { .. })
    }
}

impl RunState {
    /// Checks that the state is one of `schedule` with `shortcuts`, whose samples have `len` elements.
    ///
    /// # Errors
    /// [`Error::Usage`] says what does not fit.
    pub fn validate(&self, schedule: &Schedule, shortcuts: &Shortcuts, len: usize) -> Result<()> {
        self.sampler.validate(schedule, len)?;
        if self.remembered.fits(shortcuts, &schedule.calls[..self.sampler.done], len) {
            return Ok(());
        }
        let done = self.sampler.done;
        Err(Error::Usage(format!("this is no state of a run with these shortcuts after call {done} of the model")))
    }
}

impl Remembered {
    /// How many tensors there are of each kind.
    pub(in crate::engine) fn tensors(&self) -> [usize; 3] {
        [self.predictions.len(), usize::from(self.input.is_some()), usize::from(self.difference.is_some())]
    }

    /// Whether it is what shortcuts remember after these calls.
    fn fits(&self, shortcuts: &Shortcuts, done: &[Call], len: usize) -> bool {
        let Self { since, predictions, input, difference } = self;
        let sizes = predictions.iter().map(|(_, values)| values.len()).chain(input.iter().map(Vec::len));
        let sizes = sizes.chain(difference.iter().map(|(_, values)| values.len()));
        let cached = match shortcuts.caching() {
            Some(cache) if !done.is_empty() => {
                (1..=cache.depth()).contains(&predictions.len()) && input.is_some() == cache.compares_inputs()
            }
            _ => predictions.is_empty() && input.is_none() && *since == SinceEvaluation::default(),
        };
        let evaluated = |timestep: f32| done.iter().any(|call| call.timestep == timestep);
        let timesteps = predictions.iter().all(|(timestep, _)| evaluated(*timestep))
            && predictions.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let counted =
            since.change >= 0.0 && since.change.is_finite() && since.growth.is_finite() && since.calls <= done.len();
        let reused =
            difference.as_ref().is_none_or(|(served, _)| shortcuts.reuse().is_some_and(|calls| *served < calls));
        cached && reused && timesteps && counted && sizes.into_iter().all(|size| size == len)
    }
}

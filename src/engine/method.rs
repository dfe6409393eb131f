//! How an edit gets from its clip to the new one.

use super::Settings;
use crate::error::{Error, Result};
use crate::sampler::{Call, SamplerKind, Schedule};
use serde::{Deserialize, Serialize};

/// How an edit uses its clip. A source prompt says what the clip shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub enum Method {
    /// The clip gets the noise of a seed, and the sampler denoises it (SDEdit).
    #[default]
    Noise,
    /// The clip gets the noise from which the sampler would make it for the source prompt, which
    /// [`SamplerKind::inverted`] finds.
    Inversion {
        /// What the clip shows.
        source: String,
    },
    /// The clip moves along the difference of the predictions for the source prompt and the new one
    /// ([`SamplerKind::delta`]).
    Delta {
        /// What the clip shows.
        source: String,
    },
}

impl Method {
    /// Its name, as the option `--method` takes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Inversion { .. } => "inversion",
            Self::Delta { .. } => "delta",
        }
    }

    /// Whether it is the usual one.
    pub(super) fn is_noise(&self) -> bool {
        *self == Self::Noise
    }

    /// The source prompt, if the method has one.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::Noise => None,
            Self::Inversion { source } | Self::Delta { source } => Some(source),
        }
    }

    /// The calls of the last `made` of `steps` steps.
    pub(super) fn schedule(&self, sampler: SamplerKind, steps: usize, made: usize) -> Result<Schedule> {
        match self {
            Self::Noise => sampler.last_of(steps, made),
            Self::Inversion { .. } => sampler.inverted(steps, made),
            Self::Delta { .. } => sampler.delta(steps, made),
        }
    }
}

impl Settings {
    /// How an edit uses its clip.
    fn method(&self) -> Option<&Method> {
        self.edit.as_ref().map(|edit| &edit.method)
    }

    /// These settings with the edit's source prompt as the prompt, if it has one. An inversion has no guidance, which would not
    /// lead back the same way.
    pub(super) fn source(&self) -> Option<Self> {
        let method = self.method()?;
        let guidance = if matches!(method, Method::Inversion { .. }) { 1.0 } else { self.guidance };
        Some(Self { prompt: method.source()?.to_owned(), guidance, edit: None, ..self.clone() })
    }

    /// Checks that the source prompt says something, and that no call takes an earlier prediction, which may be one for the other
    /// prompt.
    pub(super) fn validate_source(&self) -> Result<()> {
        let Some(source) = self.source() else { return Ok(()) };
        if source.prepared(&source.prompt).is_empty() {
            return Err(Error::Usage(format!(
                "nothing is left of the source prompt {:?} when it is cleaned; say in English what the clip shows",
                source.prompt
            )));
        }
        if self.shortcuts.caching().is_none() && self.shortcuts.reuse().is_none() {
            return Ok(());
        }
        let method = self.method().map_or("", Method::name);
        Err(Error::Usage(format!(
            "the method {method} can reuse no prediction, because neighbouring ones have different prompts: take fewer steps"
        )))
    }

    /// How much of the clip and of the noise the sampler's first sample holds; `None` for pure noise.
    pub(super) fn begins_at(&self, first: &Call) -> Option<(f32, f32)> {
        let all = self.edit.as_ref()?.made_steps(self.sampler, self.steps).is_ok_and(|made| made == self.steps);
        match self.method()? {
            Method::Noise if all => None,
            Method::Noise | Method::Delta { .. } => Some(self.sampler.signal_and_noise(first)),
            Method::Inversion { .. } => Some((1.0, 0.0)),
        }
    }
}

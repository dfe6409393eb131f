//! Ways to make fewer evaluations of the transformer than a sampler asks for. Other values come out.
//!
//! A cache lets some calls of the model take an earlier prediction in place of their own. Guidance can be reused, or left out
//! where it matters little. `docs/shortcuts.md` compares them with fewer steps of a sampler.

mod bands;
mod cached;
mod guidance;
mod measure;
mod pace;
mod predictor;
mod remembered;

pub use pace::SinceEvaluation;
pub use remembered::{Remembered, RunState};

pub(crate) use measure::{Measured, MeasuredCall};
pub(super) use predictor::{Predictor, Purpose};

use crate::checkpoint::{COEFFICIENTS, Calibrated};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The thresholds and the interval that a cache has by default. With each of them, 50 steps of the demo model make half of the
/// evaluations or fewer (`docs/shortcuts.md`).
const TEACACHE: f32 = 0.05;
const MAGCACHE: f32 = 0.1;
const TAYLOR: usize = 3;
/// The last timestep, which is all noise.
const MOST_TIMESTEP: f32 = 999.0;
/// The most calls of the model that one evaluation may serve.
const MOST_CALLS: usize = 1000;

/// Which calls of the model take an earlier prediction in place of their own. A threshold of 0 and an interval of 1 evaluate
/// every call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// Calls whose input has changed little since the last evaluation (TeaCache, Liu et al. 2024,
    /// <https://arxiv.org/abs/2411.19108>).
    TeaCache {
        /// Change of the prediction, relative, that is let pass before the next evaluation.
        threshold: f32,
        /// Estimates the change of the prediction from that of the input, highest power first; if missing, that of the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        polynomial: Option<[f32; COEFFICIENTS]>,
        /// The largest change of an input that the polynomial was fitted to; beyond it, the estimate grows in proportion.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fitted_to: Option<f32>,
    },
    /// Calls before which the transformer's work has changed little in magnitude (MagCache, Ma et al. 2025,
    /// <https://arxiv.org/abs/2506.09045>).
    MagCache {
        /// Change of the magnitude, relative and added up over calls, that is let pass before the next evaluation.
        threshold: f32,
        /// Timesteps, falling, and the magnitudes there; if missing, those of the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        magnitudes: Option<Vec<[f32; 2]>>,
    },
    /// All but every N-th call; the prediction goes on as a line through the last two (TaylorSeer, Liu et al. 2025,
    /// <https://arxiv.org/abs/2503.06923>).
    Taylor {
        /// N.
        interval: usize,
    },
}

/// Ways to make fewer evaluations. The default makes all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Shortcuts {
    /// Which calls take an earlier prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// N: one call of N evaluates both branches of guidance; the others take the difference of the branches from it
    /// (FasterCache, Lv et al. 2024, <https://arxiv.org/abs/2410.19355>).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_reuse: Option<usize>,
    /// The noise between which guidance works, as shares of the timesteps from 0 (clean) to 1 (noise); beyond, only the prompt's
    /// branch is evaluated (Kynkäänniemi et al. 2024, <https://arxiv.org/abs/2404.07724>).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<[f32; 2]>,
}

impl Cache {
    /// Whether every call is evaluated.
    pub fn is_exact(&self) -> bool {
        match self {
            Self::TeaCache { threshold, .. } | Self::MagCache { threshold, .. } => *threshold == 0.0,
            Self::Taylor { interval } => *interval == 1,
        }
    }

    /// The cache with its coefficients: its own, else those of the model.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model has none, and the cache needs them; [`Error::Config`] if the model's are damaged.
    pub(super) fn calibrated(self, of_model: &Calibrated) -> Result<Self> {
        if self.is_exact() {
            return Ok(self);
        }
        let missing = |cache: &Self| {
            Error::Usage(format!("the model has no coefficients for {cache}: run `osp calibrate` on it once"))
        };
        match self {
            Self::TeaCache { threshold, polynomial: None, .. } => {
                let known = of_model.known()?.ok_or_else(|| missing(&self))?;
                Ok(Self::TeaCache { threshold, polynomial: Some(known.polynomial), fitted_to: known.fitted_to })
            }
            Self::MagCache { threshold, magnitudes: None } => {
                let known = of_model.known()?.filter(|known| !known.magnitudes.is_empty());
                let known = known.ok_or_else(|| missing(&self))?;
                Ok(Self::MagCache { threshold, magnitudes: Some(known.magnitudes.clone()) })
            }
            given => Ok(given),
        }
    }

    /// Checks the threshold or the interval, and the coefficients.
    fn validate(&self) -> Result<()> {
        let wrong = |found: String, expected: &str| Err(Error::Usage(format!("the cache has {found}; {expected}")));
        let (threshold, coefficients): (f32, Vec<f32>) = match self {
            Self::TeaCache { threshold, polynomial, fitted_to } => {
                (*threshold, polynomial.iter().flatten().chain(fitted_to).copied().collect())
            }
            Self::MagCache { threshold, magnitudes } => {
                (*threshold, magnitudes.iter().flatten().flatten().copied().collect())
            }
            Self::Taylor { interval } if (1..=MOST_CALLS).contains(interval) => return Ok(()),
            Self::Taylor { interval } => {
                return wrong(format!("an interval of {interval} calls"), "choose between 1 and 1000");
            }
        };
        if !threshold.is_finite() || threshold < 0.0 {
            return wrong(format!("the threshold {threshold}"), "choose a number of at least 0; 0.05 is usual");
        }
        let calibrated = self.is_exact() || !coefficients.is_empty();
        let magnitudes = matches!(self, Self::MagCache { .. });
        if !calibrated || coefficients.iter().any(|value| !value.is_finite() || magnitudes && *value < 0.0) {
            return wrong("no coefficients, or wrong ones".to_owned(), "run `osp calibrate` on the model");
        }
        Ok(())
    }
}

impl Shortcuts {
    /// The cache, unless it evaluates every call.
    pub(super) fn caching(&self) -> Option<&Cache> {
        self.cache.as_ref().filter(|cache| !cache.is_exact())
    }

    /// N of the reuse of guidance, unless every call evaluates both branches.
    pub(super) fn reuse(&self) -> Option<usize> {
        self.guidance_reuse.filter(|&calls| calls > 1)
    }

    /// Whether some calls evaluate only one branch of guidance.
    pub(super) fn split_guidance(&self) -> bool {
        self.reuse().is_some() || self.guidance_interval.is_some()
    }

    /// Whether guidance works at a timestep.
    fn guides_at(&self, timestep: f32) -> bool {
        let noise = timestep / MOST_TIMESTEP;
        self.guidance_interval.is_none_or(|[from, to]| (from..=to).contains(&noise))
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that everything makes sense.
    ///
    /// # Errors
    /// [`Error::Usage`] says what to change.
    pub(super) fn validate(&self) -> Result<()> {
        self.cache.as_ref().map_or(Ok(()), Cache::validate)?;
        if let Some(calls) = self.guidance_reuse.filter(|calls| !(1..=MOST_CALLS).contains(calls)) {
            return Err(Error::Usage(format!(
                "guidance cannot be reused for {calls} calls: choose between 1 and 1000"
            )));
        }
        match self.guidance_interval {
            Some([from, to]) if !(0.0 <= from && from < to && to <= 1.0) => Err(Error::Usage(format!(
                "guidance cannot work between {from} and {to}: give two shares from 0 (clean) to 1 (noise), such as 0.2-0.9"
            ))),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TeaCache { threshold, .. } => write!(f, "teacache:{threshold}"),
            Self::MagCache { threshold, .. } => write!(f, "magcache:{threshold}"),
            Self::Taylor { interval } => write!(f, "taylor:{interval}"),
        }
    }
}

impl FromStr for Cache {
    type Err = Error;

    /// Reads `teacache[:THRESHOLD]`, `magcache[:THRESHOLD]` or `taylor[:INTERVAL]`, without coefficients.
    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value)));
        let wrong = || {
            let expected = "expected teacache[:THRESHOLD] or magcache[:THRESHOLD], a threshold of at least 0, or \
                            taylor[:CALLS], 1 to 1000 calls";
            Error::Usage(expected.into())
        };
        let threshold = |default: f32| {
            let given = value.map_or(Some(default), |value| value.parse().ok());
            given.filter(|given| given.is_finite() && *given >= 0.0).ok_or_else(wrong)
        };
        let cache = match name {
            "teacache" => Self::TeaCache { threshold: threshold(TEACACHE)?, polynomial: None, fitted_to: None },
            "magcache" => Self::MagCache { threshold: threshold(MAGCACHE)?, magnitudes: None },
            "taylor" => {
                let interval = value.map_or(Some(TAYLOR), |value| value.parse().ok());
                let interval = interval.filter(|calls| (1..=MOST_CALLS).contains(calls));
                Self::Taylor { interval: interval.ok_or_else(wrong)? }
            }
            _ => return Err(wrong()),
        };
        Ok(cache)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_read_as_they_are_written() {
        for text in ["teacache:0.05", "magcache:0.2", "taylor:4", "teacache:0"] {
            assert_eq!(text.parse::<Cache>().unwrap().to_string(), text);
        }
        assert_eq!("taylor".parse::<Cache>().unwrap(), Cache::Taylor { interval: TAYLOR });
        let names = ["", "tea", "TeaCache", "teacache:", "magcache:0.1:2"];
        let values = ["teacache:x", "teacache:-0.1", "magcache:inf", "taylor:1.5", "taylor:0", "taylor:1001"];
        for wrong in names.into_iter().chain(values) {
            let error = wrong.parse::<Cache>().unwrap_err().to_string();
            assert!(error.contains("expected teacache[:THRESHOLD] or magcache[:THRESHOLD]"), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_exact_cache_needs_no_coefficients_and_another_says_how_to_get_them() {
        let calibrated = |text: &str| text.parse::<Cache>().unwrap().calibrated(&Calibrated::Nothing);
        for exact in ["teacache:0", "magcache:0", "taylor:1"] {
            assert!(calibrated(exact).unwrap().is_exact(), "{exact}");
        }
        for needs in ["teacache:0.05", "magcache"] {
            let error = calibrated(needs).unwrap_err().to_string();
            assert!(error.contains("no coefficients") && error.contains("osp calibrate"), "{error}");
        }
        assert!(!calibrated("taylor:3").unwrap().is_exact());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let said = |shortcuts: Shortcuts| shortcuts.validate().unwrap_err().to_string();
        let with = |cache: Cache| Shortcuts { cache: Some(cache), ..Shortcuts::default() };
        for threshold in [-0.1, f32::NAN, f32::INFINITY] {
            assert!(
                said(with(Cache::TeaCache { threshold, polynomial: Some([0.0; 5]), fitted_to: None }))
                    .contains("the threshold")
            );
        }
        assert!(
            said(with(Cache::TeaCache { threshold: 0.1, polynomial: None, fitted_to: None })).contains("osp calibrate")
        );
        let negative = Cache::MagCache { threshold: 0.1, magnitudes: Some(vec![[900.0, -1.0]]) };
        assert!(said(with(negative)).contains("wrong ones"));
        assert!(said(with(Cache::Taylor { interval: 0 })).contains("an interval of 0 calls"));
        for guidance_interval in [[0.5, 0.5], [0.9, 0.2], [-0.1, 0.5], [0.2, 1.1], [f32::NAN, 1.0]] {
            let shortcuts = Shortcuts { guidance_interval: Some(guidance_interval), ..Shortcuts::default() };
            assert!(said(shortcuts).contains("two shares"), "{guidance_interval:?}");
        }
        assert!(said(Shortcuts { guidance_reuse: Some(0), ..Shortcuts::default() }).contains("0 calls"));
    }
}

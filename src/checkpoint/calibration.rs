//! What `osp calibrate` has measured of a transformer, for caches of its predictions.

use super::folder::read_if_there;
use crate::error::{Error, Result};
use crate::model::latte::LatteConfig;
use crate::staged;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Coefficients of TeaCache's polynomial.
pub const COEFFICIENTS: usize = 5;

/// The coefficients of caches for a transformer: `calibration.json` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Where it comes from, in words.
    pub source: String,
    /// Estimates the relative change of a prediction from that of the model's input, highest power first (TeaCache).
    pub polynomial: [f32; COEFFICIENTS],
    /// The largest change of an input that the polynomial was fitted to; beyond it, the estimate grows in proportion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted_to: Option<f32>,
    /// Timesteps, falling, and the mean length of what the blocks add to a token there (MagCache); empty if unknown.
    pub magnitudes: Vec<[f32; 2]>,
}

impl Calibration {
    /// The file in the folder of a transformer.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("calibration.json")
    }

    /// What was published of transformers with the config of v1.1.0: the polynomial of TeaCache, for 65×512×512
    /// (<https://github.com/ali-vilab/TeaCache>, `eval/teacache/experiments/opensora_plan.py`).
    pub fn published(config: &LatteConfig) -> Option<Self> {
        let of_v1_1_0 = config.num_layers == 28 && config.channels() == 1152 && config.caption_channels == 4096;
        of_v1_1_0.then(|| Self {
            source: "published with TeaCache, for 65x512x512".to_owned(),
            polynomial: [2.059_436_7e5, -1.487_592_9e4, 306.085_98, 1.314_180_8, 2.396_584_7e-3],
            fitted_to: None,
            magnitudes: Vec::new(),
        })
    }

    /// Writes the file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Usage`] if it could not be read again, because a number makes no sense; [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(problem) = self.problem() {
            return Err(Error::Usage(format!(
                "these videos give no calibration: {problem}; take other prompts or more steps"
            )));
        }
        let mut text = serde_json::to_string_pretty(self).expect("plain values have a JSON form");
        text.push('\n');
        staged::write_file(path, text.as_bytes())
    }

    /// What is wrong with the numbers.
    fn problem(&self) -> Option<String> {
        let numbers = self.polynomial.iter().chain(&self.fitted_to).chain(self.magnitudes.iter().flatten());
        let finite = numbers.into_iter().all(|value| value.is_finite());
        let positive = self.magnitudes.iter().all(|[_, magnitude]| *magnitude > 0.0);
        let falling = self.magnitudes.is_sorted_by(|[a, _], [b, _]| a > b);
        let faults = [
            (!finite, "a number is not finite"),
            (!positive, "a magnitude is not above 0"),
            (!falling, "the timesteps do not fall"),
        ];
        faults.into_iter().find(|(wrong, _)| *wrong).map(|(_, problem)| problem.to_owned())
    }
}

/// What is known of a transformer for caches.
#[derive(Clone, Debug, Default)]
pub enum Calibrated {
    /// Nothing.
    #[default]
    Nothing,
    /// Its coefficients.
    Known(Calibration),
    /// Its file is damaged. Only a run that needs it fails, so that `osp calibrate` can replace it.
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Calibrated {
    /// What is known of the transformer in `folder`: its file, else what was published of its kind.
    pub fn of(config: &LatteConfig, folder: &Path) -> Self {
        let file = Calibration::path(folder);
        let read = match read_if_there(&file) {
            Ok(Some(text)) => serde_json::from_str::<Calibration>(&text).map_err(|error| error.to_string()),
            Ok(None) => return Self::published(config),
            Err(error) => Err(error.to_string()),
        };
        match read.and_then(|read| read.problem().map_or(Ok(read), Err)) {
            Ok(known) => Self::Known(known),
            Err(problem) => Self::Damaged { file, problem },
        }
    }

    /// What was published of transformers with this config.
    pub(crate) fn published(config: &LatteConfig) -> Self {
        Calibration::published(config).map_or(Self::Nothing, Self::Known)
    }

    /// The coefficients, if there are any.
    ///
    /// # Errors
    /// [`Error::Config`] if the file is damaged.
    pub fn known(&self) -> Result<Option<&Calibration>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Known(known) => Ok(Some(known)),
            Self::Damaged { file, problem } => {
                Err(Error::config(file, format!("{problem}; make it anew with `osp calibrate`")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn a_file_is_read_as_it_was_written_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = &preset::open("v1.1.0", None).unwrap().transformer.unwrap().config;
        let read = || Calibrated::of(config, folder.path());
        let published = read().known().unwrap().unwrap().clone();
        assert!(published.source.contains("TeaCache") && published.magnitudes.is_empty());
        let own = Calibration {
            source: "a test".to_owned(),
            polynomial: [0.1, -2.0e5, 3.0, 1.0e-7, 5.0],
            fitted_to: Some(0.123_456_7),
            magnitudes: vec![[999.0, 0.3], [1.0, 7.123_456_7]],
        };
        let path = Calibration::path(folder.path());
        own.write(&path).unwrap();
        assert_eq!(read().known().unwrap(), Some(&own));
        let infinite = [f32::INFINITY, 0.0, 0.0, 0.0, 0.0];
        for (wrong, said) in [
            (Calibration { magnitudes: vec![[1.0, 0.0]], ..own.clone() }, "not above 0"),
            (Calibration { magnitudes: vec![[1.0, 1.0], [1.0, 2.0]], ..own.clone() }, "the timesteps do not fall"),
            (Calibration { polynomial: infinite, ..own.clone() }, "not finite"),
            (Calibration { fitted_to: Some(f32::NAN), ..own.clone() }, "not finite"),
        ] {
            let error = wrong.write(&path).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(said), "{error}");
        }
        assert_eq!(read().known().unwrap(), Some(&own), "the file is as it was");
        let fall = "{\"source\": \"\", \"polynomial\": [1, 2, 3, 4, 5], \"magnitudes\": [[1, 1], [2, 1]]}";
        for text in ["", "{}", "{\"source\": \"\", \"polynomial\": [1, 2], \"magnitudes\": []}", fall] {
            std::fs::write(&path, text).unwrap();
            let error = read().known().unwrap_err();
            assert!(error.exit_code() == 5 && error.to_string().contains("calibration.json"), "{text}: {error}");
        }
    }
}

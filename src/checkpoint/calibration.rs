//! What `osp calibrate` has measured of a transformer, for caches of its predictions.

use super::folder::read_if_there;
use crate::error::{Error, Result};
use crate::model::latte::LatteConfig;
use crate::staged;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The coefficients of caches for a transformer: `calibration.json` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Where it comes from, in words.
    pub source: String,
    /// Estimates the relative change of a prediction from that of the model's input, highest power first (TeaCache).
    pub polynomial: [f32; 5],
    /// Timesteps, falling, and the mean length of what the blocks add to a token there (MagCache); empty if unknown.
    pub magnitudes: Vec<[f32; 2]>,
}

impl Calibration {
    /// The file in the folder of a transformer.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("calibration.json")
    }

    /// What is known of the transformer in `folder`: its file, else what was published of its kind.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong with the file.
    pub fn of(config: &LatteConfig, folder: &Path) -> Result<Option<Self>> {
        let path = Self::path(folder);
        let Some(text) = read_if_there(&path)? else { return Ok(Self::published(config)) };
        let fault = |problem: String| Error::config(&path, problem);
        let read: Self = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
        match read.problem() {
            None => Ok(Some(read)),
            Some(problem) => Err(fault(format!("{problem}; make it anew with `osp calibrate`"))),
        }
    }

    /// What was published of transformers with the config of v1.1.0: the polynomial of TeaCache, for 65×512×512
    /// (<https://github.com/ali-vilab/TeaCache>, `eval/teacache/experiments/opensora_plan.py`).
    pub fn published(config: &LatteConfig) -> Option<Self> {
        let of_v1_1_0 = config.num_layers == 28 && config.channels() == 1152 && config.caption_channels == 4096;
        of_v1_1_0.then(|| Self {
            source: "published with TeaCache, for 65x512x512".to_owned(),
            polynomial: [2.059_436_7e5, -1.487_592_9e4, 306.085_98, 1.314_180_8, 2.396_584_7e-3],
            magnitudes: Vec::new(),
        })
    }

    /// Writes the file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("plain values have a JSON form");
        text.push('\n');
        staged::write_file(path, text.as_bytes())
    }

    /// What is wrong with the numbers.
    fn problem(&self) -> Option<String> {
        let finite = self.polynomial.iter().chain(self.magnitudes.iter().flatten()).all(|value| value.is_finite());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn a_file_is_read_as_it_was_written_and_a_wrong_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = &preset::open("v1.1.0", None).unwrap().transformer.unwrap().config;
        let published = Calibration::of(config, folder.path()).unwrap().unwrap();
        assert!(published.source.contains("TeaCache") && published.magnitudes.is_empty());
        let own = Calibration {
            source: "a test".to_owned(),
            polynomial: [0.1, -2.0e5, 3.0, 1.0e-7, 5.0],
            magnitudes: vec![[999.0, 0.3], [1.0, 7.123_456_7]],
        };
        let path = Calibration::path(folder.path());
        own.write(&path).unwrap();
        assert_eq!(Calibration::of(config, folder.path()).unwrap(), Some(own.clone()));
        for (magnitudes, said) in
            [(vec![[1.0, 0.0]], "not above 0"), (vec![[1.0, 1.0], [1.0, 2.0]], "the timesteps do not fall")]
        {
            Calibration { magnitudes, ..own.clone() }.write(&path).unwrap();
            let error = Calibration::of(config, folder.path()).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("calibration.json"), "{error}");
        }
        for text in ["", "{}", "{\"source\": \"\", \"polynomial\": [1, 2], \"magnitudes\": []}"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Calibration::of(config, folder.path()).unwrap_err().exit_code(), 5, "{text}");
        }
    }
}

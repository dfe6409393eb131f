//! A model's defaults for a request.

use super::folder::read_if_there;
use super::{Calibrated, Component};
use crate::error::{Error, Result};
use crate::model::latte::LatteConfig;
use crate::model::vae::Factors;
use crate::sampler::{SamplerKind, validate_guidance};
use serde::Deserialize;
use std::path::Path;

/// The most pixels of a default video. The published models make 2^26.
const MOST_PIXELS: usize = 1 << 31;

/// A model's defaults for everything that a request leaves open.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Frames.
    pub frames: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
    /// Sampler.
    pub sampler: SamplerKind,
    /// Steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f32,
    /// Pixels and frames of a latent.
    pub factors: Factors,
    /// Rows and columns of latents in one of the transformer's tokens.
    pub patch: usize,
    /// A sentence to show with every run, if the model's `sampling.json` has one.
    pub notice: Option<String>,
    /// The coefficients of caches, if any are known.
    pub calibration: Calibrated,
}

/// `sampling.json` of a model: the recommended settings. Every key is optional.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sampling {
    sampler: Option<String>,
    steps: Option<usize>,
    guidance_scale: Option<f32>,
    notice: Option<String>,
}

impl Defaults {
    /// Checks a model's `sampling.json`, if it has one.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong with it.
    pub fn check(folder: &Path) -> Result<()> {
        Self::read(folder, None, Factors::PUBLISHED).map(drop)
    }

    /// Frames and size from the transformer's config; sampler, steps and guidance from `sampling.json`, else those of the
    /// original's scripts.
    pub(super) fn read(folder: &Path, transformer: Option<&Component<LatteConfig>>, factors: Factors) -> Result<Self> {
        let path = folder.join("sampling.json");
        let fault = |error: Error| Error::config(&path, error.to_string());
        let sampling: Sampling = match read_if_there(&path)? {
            Some(text) => serde_json::from_str(&text).map_err(|error| Error::config(&path, error.to_string()))?,
            None => Sampling::default(),
        };
        let sampler: SamplerKind =
            sampling.sampler.map_or(Ok(SamplerKind::Pndm), |name| name.parse().map_err(fault))?;
        let steps = sampling.steps.unwrap_or(150);
        sampler.schedule(steps).map_err(fault)?;
        let guidance = sampling.guidance_scale.unwrap_or(7.5);
        validate_guidance(guidance).map_err(fault)?;
        let [frames, height, width] = trained_on(transformer, factors)?;
        let calibration = transformer.map(|part| Calibrated::of(&part.config, &part.folder)).unwrap_or_default();
        let transformer = transformer.map(|part| &part.config);
        Ok(Self {
            frames,
            height,
            width,
            sampler,
            steps,
            guidance,
            factors,
            patch: transformer.map_or(2, |config| config.patch_size),
            notice: sampling.notice,
            calibration,
        })
    }
}

/// Frames, rows and columns of the transformer's training videos, for a VAE with these factors.
fn trained_on(transformer: Option<&Component<LatteConfig>>, factors: Factors) -> Result<[usize; 3]> {
    let latents = transformer.map_or((17, [64; 2]), |part| (part.config.video_length, part.config.sample_size));
    let (frames, [height, width]) = (factors.frames(latents.0), latents.1.map(|side| side * factors.space));
    match transformer {
        Some(part) if frames.saturating_mul(height).saturating_mul(width) > MOST_PIXELS => {
            let problem = format!(
                "video_length and sample_size mean videos of {frames}x{height}x{width} with this VAE, \
                 expected at most {MOST_PIXELS} pixels"
            );
            Err(Error::config(part.folder.join("config.json"), problem))
        }
        _ => Ok([frames, height, width]),
    }
}

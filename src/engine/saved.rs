//! Settings as plain values, for files that a later run reads.

use super::{Edit, Settings, Shortcuts, Span};
use crate::checkpoint::Model;
use crate::error::Result;
use crate::hash::fnv1a;
use crate::latent;
use crate::model::vae::tiling::Tiling;
use crate::model::vae::{Factors, MOST_SIDE};
use serde::{Deserialize, Serialize};

/// The most of a model's factors: the bytes of all latents of the largest video can still be counted.
const MOST_FACTOR: usize = 1 << 12;

/// [`Settings`] for a file. Numbers are written so that they are read with the same bits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct SavedSettings {
    prompt: String,
    negative_prompt: String,
    clean_caption: bool,
    frames: usize,
    height: usize,
    width: usize,
    sampler: String,
    steps: usize,
    guidance: f32,
    seed: u64,
    fps: String,
    tiling: Option<SavedTiling>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edit: Option<Edit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    span: Option<Span>,
    #[serde(default, skip_serializing_if = "Shortcuts::is_empty")]
    shortcuts: Shortcuts,
    factors: [usize; 3],
    patch: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct SavedTiling {
    size: usize,
    frames: usize,
    /// As text, because not every parser of JSON keeps the last bit of an f64.
    overlap: String,
}

impl From<&Settings> for SavedSettings {
    fn from(settings: &Settings) -> Self {
        let tiling = settings.tiling.map(|tiling| SavedTiling {
            size: tiling.sample_size,
            frames: tiling.sample_frames,
            overlap: tiling.overlap.to_string(),
        });
        let Factors { space, time, channels } = settings.factors;
        Self {
            prompt: settings.prompt.clone(),
            negative_prompt: settings.negative_prompt.clone(),
            clean_caption: settings.clean_caption,
            frames: settings.frames,
            height: settings.height,
            width: settings.width,
            sampler: settings.sampler.name().to_owned(),
            steps: settings.steps,
            guidance: settings.guidance,
            seed: settings.seed,
            fps: latent::rate_text(settings.fps),
            tiling,
            edit: settings.edit.clone(),
            span: settings.span,
            shortcuts: settings.shortcuts.clone(),
            factors: [space, time, channels],
            patch: settings.patch,
        }
    }
}

impl SavedSettings {
    /// The settings; `None` if a value is none of a request. They are not validated.
    pub fn settings(self) -> Option<Settings> {
        let tiling = |tiling: SavedTiling| {
            let overlap = tiling.overlap.parse().ok()?;
            Some(Tiling { sample_size: tiling.size, sample_frames: tiling.frames, overlap })
        };
        let [space, time, channels] = self.factors;
        // Sizes whose products fit into a word, and no divisor of 0.
        let given = [
            self.span.map(|span| span.frames),
            self.span.map(|span| span.overlap.saturating_add(1)),
            self.edit.as_ref().and_then(|edit| edit.extend),
            self.tiling.as_ref().map(|tiling| tiling.size),
            self.tiling.as_ref().map(|tiling| tiling.frames),
        ];
        let sides = [self.frames, self.height, self.width].into_iter().chain(given.into_iter().flatten());
        let factors = [self.patch, space, time, channels].into_iter();
        let all = sides.map(|side| (side, MOST_SIDE)).chain(factors.map(|factor| (factor, MOST_FACTOR)));
        if all.into_iter().any(|(count, most)| count == 0 || count > most) {
            return None;
        }
        Some(Settings {
            prompt: self.prompt,
            negative_prompt: self.negative_prompt,
            clean_caption: self.clean_caption,
            frames: self.frames,
            height: self.height,
            width: self.width,
            sampler: self.sampler.parse().ok()?,
            steps: self.steps,
            guidance: self.guidance,
            seed: self.seed,
            fps: self.fps.parse().ok()?,
            tiling: match self.tiling {
                Some(saved) => Some(tiling(saved)?),
                None => None,
            },
            edit: self.edit,
            span: self.span,
            shortcuts: self.shortcuts,
            factors: Factors { space, time, channels },
            patch: self.patch,
        })
    }
}

impl Settings {
    /// A fingerprint of the video that `model` makes of these settings: equal if the settings, the weights and the program's
    /// version are. Devices differ in last bits and count as equal.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if the model was opened without one of its parts.
    pub fn fingerprint(&self, model: &Model) -> Result<String> {
        let settings = serde_json::to_string(&SavedSettings::from(self)).expect("plain values have a JSON form");
        let weights = [
            model.need_text_encoder()?.source.fingerprint(),
            model.need_transformer()?.source.fingerprint(),
            model.need_vae()?.source.fingerprint(),
        ];
        let all = format!("{} {settings} {}", env!("CARGO_PKG_VERSION"), weights.join(" "));
        Ok(format!("{:016x}", fnv1a(all.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn sizes_that_no_request_has_are_refused() {
        let saved = json!({
            "prompt": "a cat", "negative_prompt": "", "clean_caption": true, "frames": 5, "height": 16, "width": 16,
            "sampler": "DDIM", "steps": 4, "guidance": 7.5, "seed": 1, "fps": "24/1", "tiling": null,
            "factors": [8, 4, 4], "patch": 2,
        });
        let read = |key: &str, value: Value| {
            let mut saved = saved.clone();
            saved[key] = value;
            serde_json::from_value::<SavedSettings>(saved).unwrap().settings()
        };
        assert!(read("frames", json!(9)).is_some());
        assert!(read("span", json!({"frames": 5, "overlap": 0})).is_some());
        let wrong = [
            ("frames", json!(0)),
            ("width", json!(1u64 << 40)),
            ("span", json!({"frames": 0, "overlap": 0})),
            ("span", json!({"frames": 5, "overlap": u64::MAX})),
            ("tiling", json!({"size": 0, "frames": 5, "overlap": "0.25"})),
        ];
        for (key, value) in wrong {
            assert!(read(key, value.clone()).is_none(), "{key} {value}");
        }
    }
}

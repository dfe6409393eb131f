//! What a video of `osp sample` says about itself: its description, as JSON.
//!
//! It holds no time, no path and no device, so equal requests make equal files.

use super::model::Fingerprints;
use osp::engine::{Edit, SavedSettings, Settings, Shortcuts};
use osp::state::{State, is_state};
use osp::video::description;
use osp::{Error, Model, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The description of a video.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Made {
    /// Version of the program.
    pub osp: String,
    pub request: SavedSettings,
    /// Of the request and the weights.
    pub fingerprint: String,
    pub weights: Fingerprints,
}

impl Made {
    /// What `model` makes of `settings`.
    pub fn new(settings: &Settings, model: &Model) -> Result<Self> {
        Ok(Self {
            osp: env!("CARGO_PKG_VERSION").to_owned(),
            request: settings.into(),
            fingerprint: settings.fingerprint(model)?,
            weights: Fingerprints::of(model),
        })
    }

    /// The text in the video.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("plain values have a JSON form")
    }

    /// What a description says, if it is one of `osp sample`.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// The settings of the video at `path`, or of a state.
///
/// # Errors
/// Those of reading the file; [`Error::Media`] if it does not hold the settings of a video.
pub fn settings_of(path: &Path) -> Result<(Settings, Option<Made>)> {
    if is_state(path) {
        return Ok((State::read(path)?.settings, None));
    }
    let made = description(path)?.as_deref().and_then(Made::parse);
    let found = made.and_then(|made| Some((made.request.clone().settings()?, Some(made))));
    found.ok_or_else(|| {
        let problem = "does not say how it was made; expected a .mp4, .gif, .png or folder of osp sample, or a state";
        Error::media(path, problem)
    })
}

/// A request in one line: `seed 0, 33 frames of 64x64, PNDM in 30 steps, guidance 4.5`.
pub fn in_words(settings: &Settings) -> String {
    let Settings { seed, frames, height, width, sampler, steps, guidance, edit, span, factors, shortcuts, .. } =
        settings;
    let size = if *frames == 1 { "an image".to_owned() } else { format!("{frames} frames") };
    let edit = match edit {
        None => String::new(),
        Some(Edit { clip: None, .. }) => ", from an image".to_owned(),
        Some(Edit { extend: Some(frames), .. }) => format!(", the last {frames} behind a clip"),
        Some(Edit { strength, mask, first_frame, method, .. }) => {
            let mask = if mask.is_some() { ", with a mask" } else { "" };
            let first = if first_frame.is_some() { ", with another first frame" } else { "" };
            let source = method.source().map(|source| format!(" from {source:?}"));
            let method = source.map_or_else(String::new, |source| format!("{}{source}, ", method.name()));
            format!(", {method}strength {strength}{mask}{first}")
        }
    };
    let shortcuts = shortcuts_in_words(shortcuts);
    let spans = span.map_or_else(String::new, |span| format!(", in spans of {}", factors.frames(span.frames)));
    format!(
        "seed {seed}, {size} of {height}x{width}, {sampler} in {steps} steps, guidance {guidance}{shortcuts}{spans}{edit}"
    )
}

/// What shortcuts a request takes: `, cache teacache:0.1`.
fn shortcuts_in_words(shortcuts: &Shortcuts) -> String {
    let Shortcuts { cache, guidance_reuse, guidance_interval } = shortcuts;
    let cache = cache.as_ref().map(|cache| format!(", cache {cache}"));
    let reuse = guidance_reuse.map(|calls| format!(", guidance reused for {calls} calls"));
    let interval = guidance_interval.map(|[from, to]| format!(", guided in {from}-{to}"));
    [cache, reuse, interval].into_iter().flatten().collect()
}

//! The stages of a run, and the observer of their progress.

use super::{RunState, StagePlan};
use crate::error::{Error, Result};
use std::fmt;

/// One component's work in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Text encoder; a unit is a block of T5 for one caption.
    Text,
    /// Transformer; a unit is one call of the model.
    Denoise,
    /// VAE decoder; a unit is one tile of one window.
    Decode,
    /// VAE encoder; a unit is one tile of one window.
    Encode,
}

impl Stage {
    /// The name in plans, records, profiles, progress and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
            Self::Encode => "encode",
        }
    }
}

/// A place in the sampling of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The video's index in the batch.
    pub video: usize,
    /// Calls of the model that are complete.
    pub done: usize,
    /// Calls of the model that the video needs.
    pub calls: usize,
}

/// Receives the progress of a run, and can cancel it. The default methods do nothing.
pub trait Observer {
    /// A stage was planned; no work of the run is done yet.
    fn planned(&mut self, stage: Stage, plan: &StagePlan) {
        let _ = (stage, plan);
    }

    /// A stage of `units` units of work begins.
    fn begin(&mut self, stage: Stage, units: u64) {
        let _ = (stage, units);
    }

    /// `units` more units are done.
    fn advance(&mut self, units: u64) {
        let _ = units;
    }

    /// The stage ends.
    fn end(&mut self) {}

    /// A problem that does not end the run.
    fn warn(&mut self, warning: &Warning) {
        let _ = warning;
    }

    /// Whether [`Self::preview`] is to be called after call `step` of the model, from 1 to `steps`. If so, the device waits for a
    /// copy; if not, it never does.
    fn wants_preview(&mut self, step: usize, steps: usize) -> bool {
        let _ = (step, steps);
        false
    }

    /// What the video looks like after call `step`: the latent `[T, H, W, C]` that this call's prediction leads to, as
    /// [`Self::reached`] gets it; after the last call, the video's own latent. [`crate::model::vae::Projection`] draws it
    /// without the decoder.
    fn preview(&mut self, step: usize, latent: &[f32]) {
        let _ = (step, latent);
    }

    /// Whether [`Self::reached`] is to be called when call `at.done` of the model is complete. The device waits for the copy.
    fn wants_state(&mut self, at: Reached) -> bool {
        let _ = at;
        false
    }

    /// Where a video's run stands: from `state`, [`crate::Engine::resume`] goes on. `draft` is the latent `[T, H, W, C]`
    /// that the last prediction leads to.
    fn reached(&mut self, at: Reached, state: &RunState, draft: &[f32]) {
        let _ = (at, state, draft);
    }

    /// The latent `[T, H, W, C]` of a video of the batch is complete.
    fn denoised(&mut self, video: usize, latent: &[f32]) {
        let _ = (video, latent);
    }

    /// Whether to cancel the run; it then ends with [`Error::Interrupted`].
    fn cancelled(&mut self) -> bool {
        false
    }
}

/// An observer that ignores everything and never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {}

/// Reports one unit, or ends the run if the observer cancels.
pub(crate) fn tick(observer: &mut dyn Observer) -> Result<()> {
    observer.advance(1);
    if observer.cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

/// A problem that does not end a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The caption holds no letter and no digit.
    BareCaption {
        /// `caption` or `source prompt`.
        text: &'static str,
        /// The caption.
        caption: String,
    },
    /// Cleaning left nothing of the negative prompt.
    EmptyNegativePrompt {
        /// As the user wrote it.
        prompt: String,
    },
    /// A text is longer than the text encoder takes.
    Cut {
        /// `caption`, `negative prompt` or `source prompt`.
        text: &'static str,
        /// The encoder's limit in tokens.
        most: usize,
        /// The text that is cut off.
        rest: String,
    },
    /// The tokenizer has no token for some characters of a text.
    Unknown {
        /// `caption`, `negative prompt` or `source prompt`.
        text: &'static str,
        /// Number of unknown tokens.
        parts: usize,
    },
    /// The video is longer than what the transformer sees at once.
    Spans {
        /// Frames of the video.
        frames: usize,
        /// Frames of a span.
        span: usize,
    },
    /// The model was trained for another length.
    OtherLength {
        /// Frames that the transformer sees at once.
        frames: usize,
        /// Frames of the training videos.
        trained: usize,
    },
    /// The text cache cannot be written. The run continues without it.
    NotCached(Error),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareCaption { text, caption } => {
                write!(f, "the {text} is {caption:?} and nothing more; is that all that the video should show?")
            }
            Self::EmptyNegativePrompt { prompt } => {
                write!(f, "nothing is left of the negative prompt {prompt:?} when it is cleaned")
            }
            Self::Cut { text, most, rest } => {
                write!(f, "the {text} is longer than {most} tokens; this part of it is cut off: {rest}")
            }
            Self::Unknown { text, parts: 1 } => {
                write!(f, "a part of the {text} is unknown to the text encoder, and means nothing")
            }
            Self::Unknown { text, parts } => {
                write!(f, "{parts} parts of the {text} are unknown to the text encoder, and mean nothing")
            }
            Self::Spans { frames, span } => {
                write!(
                    f,
                    "{frames} frames are made in spans of {span}, which overlap; motion may change where they meet"
                )
            }
            Self::OtherLength { frames, trained } => write!(
                f,
                "the model was trained for videos of {trained} frames, and for images; {frames} frames may look worse"
            ),
            Self::NotCached(error) => write!(f, "text embeddings are not cached: {error}"),
        }
    }
}

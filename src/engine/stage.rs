//! The stages of a run, and who is told how they go on.

use super::StagePlan;
use crate::error::{Error, Result};
use std::fmt;

/// The parts of a run that a user waits for.
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
    /// What plans, records, profiles, progress and errors call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
            Self::Encode => "encode",
        }
    }
}

/// Is told how a run goes on, and asked whether to stop. Every method does nothing unless it is written.
pub trait Observer {
    /// A stage was planned, before any of the run's work is done.
    fn planned(&mut self, stage: Stage, plan: &StagePlan) {
        let _ = (stage, plan);
    }

    /// A stage begins that has `units` units of work.
    fn begin(&mut self, stage: Stage, units: u64) {
        let _ = (stage, units);
    }

    /// Units that are done.
    fn advance(&mut self, units: u64) {
        let _ = units;
    }

    /// The stage is over.
    fn end(&mut self) {}

    /// Something that the user should know and that does not stop the run.
    fn warn(&mut self, warning: &Warning) {
        let _ = warning;
    }

    /// Whether [`Self::preview`] wants the latent after call `step` of the model, from 1 to `steps`. The device waits for the
    /// copy.
    fn wants_preview(&mut self, step: usize, steps: usize) -> bool {
        let _ = (step, steps);
        false
    }

    /// What the sampler has after call `step`: `[frames/4 + 1, height/8, width/8, 4]`. It is noise at first, and the
    /// video's latent after the last step.
    fn preview(&mut self, step: usize, latent: &[f32]) {
        let _ = (step, latent);
    }

    /// Whether to stop; the run then ends with [`Error::Interrupted`].
    fn cancelled(&mut self) -> bool {
        false
    }
}

/// An observer that says nothing and never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {}

/// Counts one unit, or ends the run if the user wants to stop.
pub(crate) fn tick(observer: &mut dyn Observer) -> Result<()> {
    observer.advance(1);
    if observer.cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

/// What a user should know of a run that goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The caption holds no letter and no digit.
    BareCaption {
        /// All of it.
        caption: String,
    },
    /// Cleaning left nothing of the negative prompt.
    EmptyNegativePrompt {
        /// As the user wrote it.
        prompt: String,
    },
    /// A text is longer than the text encoder takes.
    Cut {
        /// `caption` or `negative prompt`.
        text: &'static str,
        /// Tokens that the encoder takes.
        most: usize,
        /// What is cut off.
        rest: String,
    },
    /// The tokenizer does not know parts of a text.
    Unknown {
        /// `caption` or `negative prompt`.
        text: &'static str,
        /// How many parts.
        parts: usize,
    },
    /// The video has another length than those that the model was trained for.
    OtherLength {
        /// Frames of the video.
        frames: usize,
        /// Frames of the training's videos.
        trained: usize,
    },
    /// The text cache takes no embeddings. The run goes on without it.
    NotCached(Error),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareCaption { caption } => {
                write!(f, "the caption is {caption:?} and nothing more; is that all that the video should show?")
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
            Self::OtherLength { frames, trained } => write!(
                f,
                "the model was trained for videos of {trained} frames, and for images; {frames} frames may look worse"
            ),
            Self::NotCached(error) => write!(f, "text embeddings are not cached: {error}"),
        }
    }
}

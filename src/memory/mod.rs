//! Device memory: how much of it to save at the cost of time, and where every buffer of a stage lies.
//!
//! A stage is rehearsed on a device that executes nothing; [`plan`] gives each buffer of its log a place in one arena,
//! [`choose`] finds how little must be saved for the arena to fit, and [`arena`] hands the places out to the run.

pub mod arena;
pub mod choose;
mod place;
pub mod plan;

use serde::Serialize;
use std::fmt;

/// How the stages of a run save memory. Nothing here changes a bit of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct MemoryOptions {
    /// Stream the text encoder: each block is on the device only while it computes all captions of the run.
    pub stream_text: bool,
    /// Stream the transformer: in every step, each block is on the device only while it computes.
    pub stream_transformer: bool,
    /// Compute the two guidance branches one after the other, not as one batch.
    pub branches_in_turn: bool,
    /// The number of parts in which the transformer computes queries, keys and values, and its feed-forward; at least
    /// 1.
    pub transformer_parts: usize,
    /// The number of frames that a layer of the VAE takes together, so that its output replaces its input; `None` for
    /// all.
    pub vae_frames: Option<usize>,
}

impl MemoryOptions {
    /// No savings: the fastest.
    pub const NONE: Self = Self {
        stream_text: false,
        stream_transformer: false,
        branches_in_turn: false,
        transformer_parts: 1,
        vae_frames: None,
    };

    /// All savings: the least memory.
    pub const MOST: Self = Self {
        stream_text: true,
        stream_transformer: true,
        branches_in_turn: true,
        transformer_parts: 8,
        vae_frames: Some(4),
    };
}

impl fmt::Display for MemoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream_text, stream_transformer, branches_in_turn, transformer_parts, vae_frames } = *self;
        let said = [
            stream_text.then(|| "text encoder streamed".to_owned()),
            stream_transformer.then(|| "transformer streamed".to_owned()),
            branches_in_turn.then(|| "guidance branches in turn".to_owned()),
            (transformer_parts > 1).then(|| format!("transformer in {transformer_parts} parts")),
            vae_frames.map(|frames| format!("VAE by {frames} frames")),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        if said.is_empty() { f.write_str("nothing saved") } else { f.write_str(&said.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryOptions;

    #[test]
    fn savings_are_printed_in_words() {
        assert_eq!(MemoryOptions::NONE.to_string(), "nothing saved");
        let some = MemoryOptions { branches_in_turn: true, transformer_parts: 2, ..MemoryOptions::NONE };
        assert_eq!(some.to_string(), "guidance branches in turn, transformer in 2 parts");
        assert_eq!(MemoryOptions::MOST.to_string().split(", ").count(), 5);
    }
}

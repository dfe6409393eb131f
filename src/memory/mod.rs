//! Device memory: how much of it to save, at the cost of time.

/// How the stages of a run save memory. Nothing here changes a bit of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savings {
    /// Blocks of the text encoder come to the device one after the other, for all captions of a run, and leave again.
    pub stream_text: bool,
    /// Blocks of the transformer come to the device in every step, one after the other.
    pub stream_transformer: bool,
    /// The evaluations with the caption and without it go through the transformer one after the other, not as one batch.
    pub halves_in_turn: bool,
    /// Parts that the transformer's queries, keys and values, and its feed-forward, are computed in; at least 1.
    pub transformer_parts: usize,
    /// Frames that a layer of the VAE takes at a time, so that its input gives way to its output; `None` for all.
    pub vae_frames: Option<usize>,
}

impl Savings {
    /// Everything at once: the fastest.
    pub const NONE: Self = Self {
        stream_text: false,
        stream_transformer: false,
        halves_in_turn: false,
        transformer_parts: 1,
        vae_frames: None,
    };

    /// As little memory as can be.
    pub const MOST: Self = Self {
        stream_text: true,
        stream_transformer: true,
        halves_in_turn: true,
        transformer_parts: 8,
        vae_frames: Some(4),
    };
}

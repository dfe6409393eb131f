//! `config.json` of the transformer.

use crate::model::config::{Config, out_of_range};
use serde::Deserialize;

/// LatteT2V.
#[derive(Clone, Debug, Deserialize)]
pub struct LatteConfig {
    /// Pairs of a spatial and a temporal block.
    pub num_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Features of a head.
    pub attention_head_dim: usize,
    /// Side of a patch.
    pub patch_size: usize,
    /// Latent channels.
    pub in_channels: usize,
    /// Channels of the output: the noise prediction, then its variance.
    pub out_channels: usize,
    /// Channels of the text embedding.
    pub caption_channels: usize,
    /// Latent rows and columns of the training videos.
    pub sample_size: [usize; 2],
    /// Latent frames of the training videos.
    pub video_length: usize,
    /// Added to the variance in LayerNorm.
    pub norm_eps: f32,
    /// Whether the projections of attention have biases.
    pub attention_bias: bool,
    /// `gelu-approximate`, the only one supported.
    pub activation_fn: String,
    /// `ada_norm_single`, the only one supported.
    pub norm_type: String,
    /// Rotate queries and keys of self-attention, in addition to the sine-cosine embeddings.
    #[serde(default)]
    pub use_rope: bool,
    /// Stride of the convolution that shortens keys and values in the second half of the pairs; 1 for none.
    #[serde(default = "one")]
    pub compress_kv_factor: usize,
    /// Divisor of the frame index in the temporal embedding; by default from `video_length`.
    #[serde(default)]
    pub interpolation_scale_1d: Option<f32>,
    /// Tokens that a caption is padded to.
    #[serde(default = "model_max_length")]
    pub model_max_length: usize,
}

fn one() -> usize {
    1
}

fn model_max_length() -> usize {
    300
}

impl LatteConfig {
    /// D, the channels of a token.
    pub fn channels(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Divisor of spatial positions: how many times larger than 64 latents the training videos are.
    pub fn spatial_scale(&self) -> usize {
        (self.sample_size[0] / 64).max(1)
    }

    /// Divisor of the frame index.
    pub fn temporal_scale(&self) -> f32 {
        let frames = self.video_length - self.video_length % 2;
        self.interpolation_scale_1d.unwrap_or((frames / 16).max(1) as f32)
    }

    /// Whether keys and values of pair `pair` are shortened.
    pub fn compresses(&self, pair: usize) -> bool {
        self.compress_kv_factor > 1 && pair >= self.num_layers / 2
    }
}

impl Config for LatteConfig {
    fn problem(&self) -> Option<String> {
        let sizes = [
            ("num_layers", self.num_layers, 1..=1000),
            ("num_attention_heads", self.num_attention_heads, 1..=1024),
            ("attention_head_dim", self.attention_head_dim, 1..=1024),
            ("patch_size", self.patch_size, 1..=64),
            ("in_channels", self.in_channels, 1..=1024),
            ("out_channels", self.out_channels, 1..=2048),
            ("caption_channels", self.caption_channels, 1..=65_536),
            ("sample_size", self.sample_size[0], 1..=8192),
            ("sample_size", self.sample_size[1], 1..=8192),
            ("video_length", self.video_length, 1..=16_384),
            ("compress_kv_factor", self.compress_kv_factor, 1..=64),
            ("model_max_length", self.model_max_length, 1..=65_536),
        ];
        if let Some(problem) = out_of_range(&sizes) {
            return Some(problem);
        }
        // No weight has these sizes, so no file has to be large for them.
        let products = [
            (
                "video_length · sample_size · in_channels",
                self.sample_size.iter().product::<usize>() * self.video_length * self.in_channels,
                1..=1 << 26,
            ),
            ("model_max_length · caption_channels", self.model_max_length * self.caption_channels, 1..=1 << 26),
        ];
        if let Some(problem) = out_of_range(&products) {
            return Some(problem);
        }
        if !(self.norm_eps >= 0.0 && self.norm_eps.is_finite()) {
            return Some(format!("norm_eps is {}, expected a small number of at least 0", self.norm_eps));
        }
        if let Some(scale) = self.interpolation_scale_1d.filter(|scale| !(*scale > 0.0 && scale.is_finite())) {
            return Some(format!("interpolation_scale_1d is {scale}, expected a number above 0"));
        }
        if self.out_channels < self.in_channels {
            return Some(format!(
                "out_channels is {}, less than in_channels {}: no room for the noise prediction",
                self.out_channels, self.in_channels
            ));
        }
        if self.activation_fn != "gelu-approximate" {
            return Some(format!("activation_fn is {:?}; only \"gelu-approximate\" is supported", self.activation_fn));
        }
        if self.norm_type != "ada_norm_single" {
            return Some(format!("norm_type is {:?}; only \"ada_norm_single\" is supported", self.norm_type));
        }
        if !self.channels().is_multiple_of(4) {
            return Some(format!(
                "num_attention_heads · attention_head_dim is {}; the position embedding needs a multiple of 4",
                self.channels()
            ));
        }
        if self.use_rope && self.compress_kv_factor > 1 {
            return Some("use_rope and compress_kv_factor > 1 exclude each other".into());
        }
        if self.use_rope && !self.attention_head_dim.is_multiple_of(4) {
            return Some(format!("attention_head_dim is {}; use_rope needs a multiple of 4", self.attention_head_dim));
        }
        None
    }
}

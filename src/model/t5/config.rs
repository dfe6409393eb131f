//! `config.json` of the text encoder.

use crate::model::config::{Config, out_of_range};
use serde::Deserialize;

/// T5 v1.1 encoder.
#[derive(Clone, Debug, Deserialize)]
pub struct T5Config {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Channels of a token.
    pub d_model: usize,
    /// Features of a head.
    pub d_kv: usize,
    /// Inner features of the feed-forward.
    pub d_ff: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Heads.
    pub num_heads: usize,
    /// `gated-gelu` in v1.1, the only one supported.
    pub feed_forward_proj: String,
    /// Buckets of the relative positions.
    #[serde(default = "buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distance from which all positions share a bucket.
    #[serde(default = "distance")]
    pub relative_attention_max_distance: usize,
    /// Added to the mean square in RMSNorm.
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f32,
}

fn buckets() -> usize {
    32
}

fn distance() -> usize {
    128
}

fn epsilon() -> f32 {
    1e-6
}

impl Config for T5Config {
    fn problem(&self) -> Option<String> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1..=1 << 24),
            ("d_model", self.d_model, 1..=65_536),
            ("d_kv", self.d_kv, 1..=1024),
            ("d_ff", self.d_ff, 1..=1 << 20),
            ("num_layers", self.num_layers, 1..=1000),
            ("num_heads", self.num_heads, 1..=1024),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets, 4..=4096),
            ("relative_attention_max_distance", self.relative_attention_max_distance, 2..=1 << 20),
        ];
        if let Some(problem) = out_of_range(&sizes) {
            return Some(problem);
        }
        if !(self.layer_norm_epsilon >= 0.0 && self.layer_norm_epsilon.is_finite()) {
            let found = self.layer_norm_epsilon;
            return Some(format!("layer_norm_epsilon is {found}, expected a small number of at least 0"));
        }
        if self.feed_forward_proj != "gated-gelu" {
            return Some(format!(
                "feed_forward_proj is {:?}; only \"gated-gelu\" (T5 v1.1) is supported",
                self.feed_forward_proj
            ));
        }
        let buckets = self.relative_attention_num_buckets;
        if !buckets.is_multiple_of(4) || self.relative_attention_max_distance <= buckets / 4 {
            return Some(format!(
                "relative_attention_num_buckets is {buckets} and relative_attention_max_distance {}; expected a multiple of 4 and a distance above a quarter of it",
                self.relative_attention_max_distance
            ));
        }
        None
    }
}

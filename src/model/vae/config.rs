//! `config.json` of the CausalVideoVAE: sizes, and the class of every block by name.

use crate::model::config::{Config, out_of_range};
use serde::Deserialize;

/// A convolution at either end of a coder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ConvClass {
    /// 3-D, padded in front by copies of the first frame.
    CausalConv3d,
    /// 2-D, on every frame.
    Conv2d,
}

/// A residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ResnetClass {
    /// Causal convolutions, GroupNorm statistics over all frames.
    ResnetBlock3D,
    /// The same of every frame by itself.
    ResnetBlock2D,
}

/// An attention block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AttentionClass {
    /// Among the positions of each frame.
    AttnBlock3DFix,
    /// As `AttnBlock3DFix`, with channels and frames mixed by v1.0.0's reshape.
    AttnBlock3D,
    /// Among the positions of each frame, GroupNorm statistics of each frame.
    AttnBlock,
    /// Among the frames of each position.
    TemporalAttnBlock,
}

/// What halves height and width at the end of an encoder level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SpatialDownsample {
    /// Nothing.
    #[serde(rename = "")]
    None,
    /// 2-D convolution of stride 2.
    Downsample,
    /// The same as a causal convolution with one tap in time.
    SpatialDownsample2x,
}

/// What doubles height and width at the end of a decoder level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SpatialUpsample {
    /// Nothing.
    #[serde(rename = "")]
    None,
    /// Nearest neighbour, then a 2-D convolution.
    Upsample,
    /// The same as a causal convolution with one tap in time.
    SpatialUpsample2x,
}

/// What halves the frame rate at the end of an encoder level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TemporalDownsample {
    /// Nothing.
    #[serde(rename = "")]
    None,
    /// Mean of three frames.
    TimeDownsample2x,
    /// Mixed with a strided convolution.
    TimeDownsampleRes2x,
    /// The same, the convolution behind a residual and a temporal attention block.
    TimeDownsampleResAdv2x,
}

/// What doubles the frame rate at the end of a decoder level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TemporalUpsample {
    /// Nothing.
    #[serde(rename = "")]
    None,
    /// Linear interpolation.
    TimeUpsample2x,
    /// Mixed with a convolution of it.
    TimeUpsampleRes2x,
    /// The same, the convolution behind a residual and a temporal attention block.
    TimeUpsampleResAdv2x,
}

/// CausalVideoVAE. Lists have one entry per level, the full resolution first.
#[derive(Clone, Debug, Deserialize)]
pub struct VaeConfig {
    /// Channels of the first level.
    pub hidden_size: usize,
    /// Channels of each level, as multiples.
    pub hidden_size_mult: Vec<usize>,
    /// Channels between the coders.
    pub z_channels: usize,
    /// Latent channels.
    pub embed_dim: usize,
    /// Whether the encoder makes means and log variances.
    pub double_z: bool,
    /// Residual blocks of an encoder level; a decoder level has one more.
    pub num_res_blocks: usize,
    /// Pixels a side that `attn_resolutions` refers to.
    pub resolution: usize,
    /// Levels with attention, by their resolution.
    pub attn_resolutions: Vec<usize>,
    /// First convolution of the encoder.
    pub encoder_conv_in: ConvClass,
    /// Last convolution of the encoder.
    pub encoder_conv_out: ConvClass,
    /// Attention of the encoder.
    pub encoder_attention: AttentionClass,
    /// Residual blocks of the encoder's levels.
    pub encoder_resnet_blocks: Vec<ResnetClass>,
    /// Ends of the encoder's levels.
    pub encoder_spatial_downsample: Vec<SpatialDownsample>,
    /// Ends of the encoder's levels.
    pub encoder_temporal_downsample: Vec<TemporalDownsample>,
    /// Residual blocks of the encoder's middle.
    pub encoder_mid_resnet: ResnetClass,
    /// First convolution of the decoder.
    pub decoder_conv_in: ConvClass,
    /// Last convolution of the decoder.
    pub decoder_conv_out: ConvClass,
    /// Attention of the decoder.
    pub decoder_attention: AttentionClass,
    /// Residual blocks of the decoder's levels.
    pub decoder_resnet_blocks: Vec<ResnetClass>,
    /// Ends of the decoder's levels.
    pub decoder_spatial_upsample: Vec<SpatialUpsample>,
    /// Ends of the decoder's levels.
    pub decoder_temporal_upsample: Vec<TemporalUpsample>,
    /// Residual blocks of the decoder's middle.
    pub decoder_mid_resnet: ResnetClass,
    /// The 1×1 convolutions around the latent.
    #[serde(default = "causal")]
    pub q_conv: ConvClass,
}

fn causal() -> ConvClass {
    ConvClass::CausalConv3d
}

impl VaeConfig {
    /// Levels of either coder.
    pub fn levels(&self) -> usize {
        self.hidden_size_mult.len()
    }

    /// Channels of level `level`.
    pub fn channels(&self, level: usize) -> usize {
        self.hidden_size * self.hidden_size_mult[level]
    }

    /// Whether the residual blocks of `level` are followed by attention.
    pub fn has_attention(&self, level: usize) -> bool {
        self.attn_resolutions.contains(&(self.resolution >> level))
    }

    /// Pixels per latent in space.
    pub fn spatial_factor(&self) -> usize {
        1 << self.encoder_spatial_downsample.iter().filter(|&&class| class != SpatialDownsample::None).count()
    }

    /// Frames per latent frame, the first frame aside.
    pub fn temporal_factor(&self) -> usize {
        1 << self.encoder_temporal_downsample.iter().filter(|&&class| class != TemporalDownsample::None).count()
    }
}

impl Config for VaeConfig {
    fn problem(&self) -> Option<String> {
        let levels = self.levels();
        let mut sizes = vec![
            ("the length of hidden_size_mult", levels, 1..=10),
            ("hidden_size", self.hidden_size, 1..=8192),
            ("z_channels", self.z_channels, 1..=1024),
            ("embed_dim", self.embed_dim, 1..=1024),
            ("num_res_blocks", self.num_res_blocks, 0..=1000),
            ("resolution", self.resolution, 0..=65_536),
        ];
        sizes.extend(self.hidden_size_mult.iter().map(|&factor| ("hidden_size_mult", factor, 1..=64)));
        if let Some(problem) = out_of_range(&sizes) {
            return Some(problem);
        }
        let lists = [
            ("encoder_resnet_blocks", self.encoder_resnet_blocks.len()),
            ("encoder_spatial_downsample", self.encoder_spatial_downsample.len()),
            ("encoder_temporal_downsample", self.encoder_temporal_downsample.len()),
            ("decoder_resnet_blocks", self.decoder_resnet_blocks.len()),
            ("decoder_spatial_upsample", self.decoder_spatial_upsample.len()),
            ("decoder_temporal_upsample", self.decoder_temporal_upsample.len()),
        ];
        if let Some((name, found)) = lists.into_iter().find(|&(_, len)| len != levels) {
            return Some(format!("{name} has {found} entries, hidden_size_mult {levels}: one per level is expected"));
        }
        if let Some(level) = (0..levels).find(|&level| !self.channels(level).is_multiple_of(32)) {
            return Some(format!(
                "level {level} has {} channels; GroupNorm needs a multiple of 32",
                self.channels(level)
            ));
        }
        if !self.double_z {
            return Some("double_z is false; only encoders that make a mean and a log variance are supported".into());
        }
        let up = self.decoder_spatial_upsample.iter().filter(|&&class| class != SpatialUpsample::None).count();
        let faster = self.decoder_temporal_upsample.iter().filter(|&&class| class != TemporalUpsample::None).count();
        if (1 << up, 1 << faster) != (self.spatial_factor(), self.temporal_factor()) {
            return Some("the decoder does not undo the encoder's downsampling: their spatial or temporal lists differ in number".into());
        }
        None
    }
}

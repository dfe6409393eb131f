//! Encoder and decoder of one window.

use super::attention::AttentionBlock;
use super::config::{ConvClass, SpatialDownsample, SpatialUpsample, VaeConfig};
use super::conv::Conv;
use super::features::Features;
use super::norm::Norm;
use super::normed::Normed;
use super::resample::{TimeDownsample, TimeUpsample};
use super::resnet::Resnet;
use super::run::CoderRun;
use crate::backend::Backend;
use crate::error::Result;
use crate::weights::Scope;

/// Residual blocks of one level, each with attention behind it where the level has it.
#[derive(Debug)]
struct Blocks<W> {
    block: Vec<Resnet<W>>,
    attn: Vec<AttentionBlock<W>>,
}

impl<W> Blocks<W> {
    fn run<B: Backend<Weight = W>>(
        &self,
        run: &mut CoderRun<'_, B>,
        name: &str,
        mut x: Features<B>,
    ) -> Result<Features<B>> {
        for (i, block) in self.block.iter().enumerate() {
            x = block.run(run, x)?;
            run.show(|| format!("{name}.block.{i}"), &x)?;
            if let Some(attention) = self.attn.get(i) {
                x = attention.run(run.backend, x.whole(run.backend)?)?;
                run.show(|| format!("{name}.attn.{i}"), &x)?;
            }
        }
        Ok(x)
    }
}

/// Residual block, attention, residual block.
#[derive(Debug)]
struct Mid<W> {
    block_1: Resnet<W>,
    attn_1: AttentionBlock<W>,
    block_2: Resnet<W>,
}

impl<W> Mid<W> {
    fn run<B: Backend<Weight = W>>(
        &self,
        run: &mut CoderRun<'_, B>,
        name: &str,
        x: Features<B>,
    ) -> Result<Features<B>> {
        let x = self.block_1.run(run, x)?;
        run.show(|| format!("{name}.mid.block_1"), &x)?;
        let x = self.attn_1.run(run.backend, x.whole(run.backend)?)?;
        run.show(|| format!("{name}.mid.attn_1"), &x)?;
        let x = self.block_2.run(run, x)?;
        run.show(|| format!("{name}.mid.block_2"), &x)?;
        Ok(x)
    }
}

/// GroupNorm–SiLU–convolution at the end of a coder.
#[derive(Debug)]
struct Head<W> {
    norm_out: Norm<W>,
    conv_out: Conv<W>,
}

impl<W> Head<W> {
    fn build(scope: &mut Scope<'_, W>, class: ConvClass, cin: usize, cout: usize) -> Result<Self> {
        let norm_out = Norm::build(scope.at("norm_out"), cin, false)?;
        Ok(Self { norm_out, conv_out: Conv::build(scope.at("conv_out"), class, cin, cout, 3)? })
    }

    fn run<B: Backend<Weight = W>>(
        &self,
        run: &mut CoderRun<'_, B>,
        name: &str,
        mut x: Features<B>,
    ) -> Result<Features<B>> {
        let mut out = Features::empty([x.frames, x.height, x.width, self.conv_out.cout]);
        let mut normed = Normed::new(run, &self.norm_out, &self.conv_out, &mut x)?;
        for stretch in normed.stretches() {
            normed.fill(run, &x, &stretch)?;
            x.give_up_before(stretch.end);
            out.push(normed.convolve(run, &stretch, None)?);
        }
        run.show(|| format!("{name}.conv_out"), &out)?;
        Ok(out)
    }
}

/// Pixels to moments (mean and log variance).
#[derive(Debug)]
pub(super) struct Encoder<W> {
    conv_in: Conv<W>,
    down: Vec<Down<W>>,
    mid: Mid<W>,
    head: Head<W>,
    quant_conv: Conv<W>,
}

#[derive(Debug)]
struct Down<W> {
    blocks: Blocks<W>,
    downsample: Option<Conv<W>>,
    time_downsample: Option<TimeDownsample<W>>,
}

impl<W> Encoder<W> {
    /// Asks `scope`, the root, for the encoder and quant_conv.
    pub fn build(c: &VaeConfig, mut root: Scope<'_, W>) -> Result<Self> {
        let mut scope = root.at("encoder");
        let conv_in = Conv::build(scope.at("conv_in"), c.encoder_conv_in, 3, c.hidden_size, 3)?;
        let mut channels = c.hidden_size;
        let mut down = Vec::with_capacity(c.levels());
        for level in 0..c.levels() {
            let cout = c.channels(level);
            down.push(Down::build(c, level, channels, cout, scope.at(format!("down.{level}")))?);
            channels = cout;
        }
        let mid = Mid {
            block_1: Resnet::build(scope.at("mid.block_1"), c.encoder_mid_resnet, channels, channels)?,
            attn_1: AttentionBlock::build(scope.at("mid.attn_1"), c.encoder_attention, channels)?,
            block_2: Resnet::build(scope.at("mid.block_2"), c.encoder_mid_resnet, channels, channels)?,
        };
        let head = Head::build(&mut scope, c.encoder_conv_out, channels, 2 * c.z_channels)?;
        let quant_conv = Conv::build(root.at("quant_conv"), c.q_conv, 2 * c.z_channels, 2 * c.embed_dim, 1)?;
        Ok(Self { conv_in, down, mid, head, quant_conv })
    }

    /// `x [T, H, W, 3]` → moments `[(T−1)/4 + 1, H/8, W/8, 2·embed_dim]`.
    pub fn run<B: Backend<Weight = W>>(&self, run: &mut CoderRun<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let mut x = self.conv_in.run(run, x)?;
        run.show(|| "encoder.conv_in".into(), &x)?;
        for (level, down) in self.down.iter().enumerate() {
            let name = format!("encoder.down.{level}");
            x = down.blocks.run(run, &name, x)?;
            if let Some(downsample) = &down.downsample {
                x = downsample.downsample(run, x)?;
                run.show(|| format!("{name}.downsample"), &x)?;
            }
            if let Some(time_downsample) = &down.time_downsample {
                x = time_downsample.run(run, x.whole(run.backend)?)?;
                run.show(|| format!("{name}.time_downsample"), &x)?;
            }
        }
        let x = self.mid.run(run, "encoder", x)?;
        let x = self.head.run(run, "encoder", x)?;
        let x = self.quant_conv.run(run, x)?;
        run.show(|| "quant_conv".into(), &x)?;
        Ok(x)
    }
}

impl<W> Down<W> {
    fn build(c: &VaeConfig, level: usize, cin: usize, cout: usize, mut scope: Scope<'_, W>) -> Result<Self> {
        let mut blocks = Blocks { block: Vec::new(), attn: Vec::new() };
        for i in 0..c.num_res_blocks {
            let cin = if i == 0 { cin } else { cout };
            blocks.block.push(Resnet::build(
                scope.at(format!("block.{i}")),
                c.encoder_resnet_blocks[level],
                cin,
                cout,
            )?);
            if c.has_attention(level) {
                blocks.attn.push(AttentionBlock::build(scope.at(format!("attn.{i}")), c.encoder_attention, cout)?);
            }
        }
        let downsample = match c.encoder_spatial_downsample[level] {
            SpatialDownsample::None => None,
            SpatialDownsample::Downsample => {
                Some(Conv::build(scope.at("downsample.conv"), ConvClass::Conv2d, cout, cout, 3)?)
            }
            SpatialDownsample::SpatialDownsample2x => {
                Some(Conv::build_3d(scope.at("downsample.conv.conv"), cout, cout, [1, 3, 3])?)
            }
        };
        let time_downsample =
            TimeDownsample::build(scope.at("time_downsample"), c.encoder_temporal_downsample[level], cout)?;
        Ok(Self { blocks, downsample, time_downsample })
    }
}

/// Latents to pixels.
#[derive(Debug)]
pub(super) struct Decoder<W> {
    post_quant_conv: Conv<W>,
    conv_in: Conv<W>,
    mid: Mid<W>,
    /// By level, the full resolution first; run from the last to the first.
    up: Vec<Up<W>>,
    head: Head<W>,
}

#[derive(Debug)]
struct Up<W> {
    blocks: Blocks<W>,
    upsample: Option<Conv<W>>,
    time_upsample: Option<TimeUpsample<W>>,
}

impl<W> Decoder<W> {
    /// Asks `scope`, the root, for the decoder and post_quant_conv.
    pub fn build(c: &VaeConfig, mut root: Scope<'_, W>) -> Result<Self> {
        let post_quant_conv = Conv::build(root.at("post_quant_conv"), c.q_conv, c.embed_dim, c.z_channels, 1)?;
        let mut scope = root.at("decoder");
        let mut channels = c.channels(c.levels() - 1);
        let conv_in = Conv::build(scope.at("conv_in"), c.decoder_conv_in, c.z_channels, channels, 3)?;
        let mid = Mid {
            block_1: Resnet::build(scope.at("mid.block_1"), c.decoder_mid_resnet, channels, channels)?,
            attn_1: AttentionBlock::build(scope.at("mid.attn_1"), c.decoder_attention, channels)?,
            block_2: Resnet::build(scope.at("mid.block_2"), c.decoder_mid_resnet, channels, channels)?,
        };
        let mut up = Vec::with_capacity(c.levels());
        for level in (0..c.levels()).rev() {
            let cout = c.channels(level);
            up.push(Up::build(c, level, channels, cout, scope.at(format!("up.{level}")))?);
            channels = cout;
        }
        up.reverse();
        let head = Head::build(&mut scope, c.decoder_conv_out, channels, 3)?;
        Ok(Self { post_quant_conv, conv_in, mid, up, head })
    }

    /// `x [T, H, W, embed_dim]` → pixels `[4(T−1) + 1, 8H, 8W, 3]`.
    pub fn run<B: Backend<Weight = W>>(&self, run: &mut CoderRun<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let x = self.post_quant_conv.run(run, x)?;
        run.show(|| "post_quant_conv".into(), &x)?;
        let x = self.conv_in.run(run, x)?;
        run.show(|| "decoder.conv_in".into(), &x)?;
        let mut x = self.mid.run(run, "decoder", x)?;
        for (level, up) in self.up.iter().enumerate().rev() {
            let name = format!("decoder.up.{level}");
            x = up.blocks.run(run, &name, x)?;
            if let Some(upsample) = &up.upsample {
                x = upsample.upsample(run, x)?;
                run.show(|| format!("{name}.upsample"), &x)?;
            }
            if let Some(time_upsample) = &up.time_upsample {
                x = time_upsample.run(run, x.whole(run.backend)?)?;
                run.show(|| format!("{name}.time_upsample"), &x)?;
            }
        }
        self.head.run(run, "decoder", x)
    }
}

impl<W> Up<W> {
    fn build(c: &VaeConfig, level: usize, cin: usize, cout: usize, mut scope: Scope<'_, W>) -> Result<Self> {
        let mut blocks = Blocks { block: Vec::new(), attn: Vec::new() };
        for i in 0..=c.num_res_blocks {
            let cin = if i == 0 { cin } else { cout };
            blocks.block.push(Resnet::build(
                scope.at(format!("block.{i}")),
                c.decoder_resnet_blocks[level],
                cin,
                cout,
            )?);
            if c.has_attention(level) {
                blocks.attn.push(AttentionBlock::build(scope.at(format!("attn.{i}")), c.decoder_attention, cout)?);
            }
        }
        let upsample = match c.decoder_spatial_upsample[level] {
            SpatialUpsample::None => None,
            SpatialUpsample::Upsample => {
                Some(Conv::build(scope.at("upsample.conv"), ConvClass::Conv2d, cout, cout, 3)?)
            }
            SpatialUpsample::SpatialUpsample2x => {
                Some(Conv::build_3d(scope.at("upsample.conv.conv"), cout, cout, [1, 3, 3])?)
            }
        };
        let time_upsample = TimeUpsample::build(scope.at("time_upsample"), c.decoder_temporal_upsample[level], cout)?;
        Ok(Self { blocks, upsample, time_upsample })
    }
}

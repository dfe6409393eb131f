//! The configs of the published models, without weights: for runs that only count, or that generate weights.

use crate::checkpoint::{Calibrated, Component, ComponentConfig, Defaults, Model};
use crate::error::{Error, Result};
use crate::model::latte::LatteConfig;
use crate::model::vae::Factors;
use crate::sampler::SamplerKind;
use crate::weights::Source;
use crate::weights::shapes::Shapes;
use crate::weights::synthetic::Synthetic;
use std::path::PathBuf;

/// Names of presets, each with its default number of frames.
const PRESETS: [(&str, usize); 3] = [("v1.1.0", 65), ("v1.1.0-65x512x512", 65), ("v1.1.0-221x512x512", 221)];

/// DeepFloyd/t5-v1_1-xxl.
const T5_XXL: &str = r#"{
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu"
}"#;

/// LatteT2V-XL/122 of Open-Sora-Plan v1.1.0, for 65 frames of 512×512.
const LATTE_XL: &str = r#"{
    "num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72, "patch_size": 2, "in_channels": 4,
    "out_channels": 8, "caption_channels": 4096, "sample_size": [64, 64], "video_length": 17, "norm_eps": 1e-6,
    "attention_bias": true, "activation_fn": "gelu-approximate", "norm_type": "ada_norm_single"
}"#;

/// Latent frames that LatteT2V was published for; nothing else differs.
const VIDEO_LENGTHS: [usize; 3] = [17, 56, 129];

/// CausalVideoVAE of Open-Sora-Plan v1.1.0.
const VAE: &str = r#"{
    "hidden_size": 128, "hidden_size_mult": [1, 2, 4, 4], "z_channels": 4, "embed_dim": 4, "double_z": true,
    "num_res_blocks": 2, "resolution": 256, "attn_resolutions": [],
    "encoder_conv_in": "Conv2d", "encoder_conv_out": "CausalConv3d", "encoder_attention": "AttnBlock3DFix",
    "encoder_resnet_blocks": ["ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"],
    "encoder_spatial_downsample": ["Downsample", "Downsample", "Downsample", ""],
    "encoder_temporal_downsample": ["", "TimeDownsampleRes2x", "TimeDownsampleRes2x", ""],
    "encoder_mid_resnet": "ResnetBlock3D",
    "decoder_conv_in": "CausalConv3d", "decoder_conv_out": "CausalConv3d", "decoder_attention": "AttnBlock3DFix",
    "decoder_resnet_blocks": ["ResnetBlock3D", "ResnetBlock3D", "ResnetBlock3D", "ResnetBlock3D"],
    "decoder_spatial_upsample": ["", "SpatialUpsample2x", "SpatialUpsample2x", "SpatialUpsample2x"],
    "decoder_temporal_upsample": ["", "", "TimeUpsampleRes2x", "TimeUpsampleRes2x"],
    "decoder_mid_resnet": "ResnetBlock3D"
}"#;

/// The preset `name` without weights. Its transformer is the published one for `frames` frames, or for the next longer length.
///
/// # Errors
/// [`Error::Usage`] lists the names.
pub fn open(name: &str, frames: Option<usize>) -> Result<Model> {
    assemble(name, frames, None)
}

/// The preset `name` with weights that are generated from a seed.
///
/// # Errors
/// As for [`open`].
pub fn open_synthetic(name: &str, frames: Option<usize>, seed: u64) -> Result<Model> {
    assemble(name, frames, Some(seed))
}

fn assemble(name: &str, frames: Option<usize>, seed: Option<u64>) -> Result<Model> {
    let Some((_, usual)) = PRESETS.into_iter().find(|(preset, _)| *preset == name) else {
        let names = PRESETS.map(|(name, _)| name).join(", ");
        return Err(Error::Usage(format!("there is no preset {name:?}; these are: {names}")));
    };
    let mut transformer: LatteConfig = parse(LATTE_XL);
    let frames = frames.unwrap_or(usual);
    let factors = Factors::PUBLISHED;
    transformer.video_length =
        VIDEO_LENGTHS.into_iter().find(|&length| factors.frames(length) >= frames).unwrap_or(VIDEO_LENGTHS[2]);
    let defaults = Defaults {
        frames: factors.frames(transformer.video_length),
        height: 512,
        width: 512,
        sampler: SamplerKind::Pndm,
        steps: 150,
        guidance: 7.5,
        factors,
        patch: transformer.patch_size,
        notice: None,
        calibration: Calibrated::published(&transformer),
    };
    let folder = PathBuf::from(name);
    Ok(Model {
        place: folder.clone(),
        text_encoder: Some(part(folder.join("text_encoder"), parse(T5_XXL), seed)),
        transformer: Some(part(folder.join("transformer"), transformer, seed)),
        vae: Some(part(folder.join("vae"), parse(VAE), seed)),
        tokenizer: None,
        defaults,
    })
}

fn parse<C: ComponentConfig>(json: &str) -> C {
    serde_json::from_str(json).expect("the configs above are whole")
}

fn part<C: ComponentConfig>(folder: PathBuf, config: C, seed: Option<u64>) -> Component<C> {
    let tensors = config.manifest(None).tensors;
    let source: Box<dyn Source> = match seed {
        Some(seed) => Box::new(Synthetic::new(&folder, seed, tensors)),
        None => Box::new(Shapes::new(&folder, tensors)),
    };
    Component { folder, config, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The config in a manifest of a published checkpoint.
    fn published<C: ComponentConfig>(name: &str) -> C {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifests").join(name);
        let mut manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        serde_json::from_value(manifest["config"].take()).unwrap()
    }

    fn assert_same<C: ComponentConfig + std::fmt::Debug>(part: Option<Component<C>>, name: &str) {
        let part = part.unwrap();
        assert_eq!(format!("{:?}", part.config), format!("{:?}", published::<C>(name)), "{name}");
        part.config.manifest(Some(&*part.source)).check(&*part.source, C::ignored).unwrap();
    }

    #[test]
    fn presets_are_the_published_configs() {
        for (frames, name) in
            [(1, "65"), (65, "65"), (69, "221"), (221, "221"), (225, "513"), (513, "513"), (1025, "513")]
        {
            let checkpoint = open("v1.1.0", Some(frames)).unwrap();
            assert_same(checkpoint.transformer, &format!("latte_{name}x512x512.json"));
            assert_same(checkpoint.text_encoder, "t5_v1_1_xxl.json");
            assert_same(checkpoint.vae, "vae_v1.1.0.json");
        }
        for (name, frames) in PRESETS {
            assert_eq!(open(name, None).unwrap().defaults.frames, frames);
        }
        assert!(open("v2", None).is_err_and(|error| error.to_string().contains("v1.1.0")));
    }
}

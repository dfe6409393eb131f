//! Golden folders of the VAE: encodes and decodes whole cases, and compares every block of one traced run.

use super::golden::{self, Bf16Error, Golden, Tile};
use super::{Check, open, relative_l2, tolerance};
use crate::backend::Backend;
use crate::checkpoint::is_there;
use crate::engine::{load_decoder, load_encoder};
use crate::error::{Error, Result};
use crate::layout::{nchw_from_nhwc, nhwc_from_nchw};
use crate::model::vae::{ClipValues, CoderInput, Frames, VaeConfig, VaeDecoder, VaeEncoder};
use crate::ops::DeviceBuffer;
use crate::tensor::Tensor;
use crate::weights::Files;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    tile: Option<Tile>,
    torch_bf16_rel_error: Bf16Error,
}

pub(super) fn run<B: Backend>(backend: &B, check: &mut Check<'_>) -> Result<()> {
    let component = open::<VaeConfig>(check.folder)?;
    let encoder = load_encoder(backend, &component)?;
    let decoder = load_decoder(backend, &component)?;
    let golden = Golden::open(check.folder)?;
    for (name, case) in golden.cases() {
        let case: Case = golden.read(name, case)?;
        let tiling = case.tile.map(Into::into);
        let frames_at_a_time = check.savings.vae_frames;
        for (input, output) in [("video", "moments"), ("latent", "decoded")] {
            let x = golden.floats(name, input, 5)?;
            let expected = golden.floats(name, output, 5)?;
            let found = each_sample(&x, |values, size| {
                let clip = CoderInput { size, values: ClipValues::Floats(values), tiling, frames_at_a_time };
                let mut out = Vec::new();
                let mut channels = 0;
                let emit = &mut |frames: Frames<'_, B>| {
                    channels = frames.channels;
                    crate::engine::download(backend, &frames, &mut out)
                };
                match output {
                    "moments" => encoder.encode(backend, &clip, &mut || Ok(()), emit)?,
                    _ => decoder.decode(backend, &clip, &mut || Ok(()), emit)?,
                }
                Ok(nchw_from_nhwc(&out, channels))
            })?;
            let allowed = check.precision.relative(tolerance::VAE, case.torch_bf16_rel_error.of(output));
            check.at_most(format!("{name}.{output}"), "relative L2", relative_l2(&found, &expected.to_f32()), allowed);
        }
    }
    trace(backend, check, &encoder, &decoder)
}

/// Runs `code` on every sample of `x` (N, C, T, H, W), in the engine's layout, and concatenates the results.
fn each_sample(x: &Tensor, mut code: impl FnMut(&[f32], [usize; 3]) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
    let [_, channels, frames, height, width] = x.shape[..] else { panic!("read with five axes") };
    let values = x.to_f32();
    let samples = values.chunks_exact(channels * frames * height * width);
    let mut out = Vec::new();
    for sample in samples {
        out.extend(code(&nhwc_from_nchw(sample, channels), [frames, height, width])?);
    }
    Ok(out)
}

/// Compares every block that the trace names: the encoder gets `video`, the decoder the posterior's mean. The trace has
/// the norms before SiLU, but the engine fuses both; so norms are checked through the convolutions after them.
fn trace<B: Backend>(
    backend: &B,
    check: &mut Check<'_>,
    encoder: &VaeEncoder<B::Weight>,
    decoder: &VaeDecoder<B::Weight>,
) -> Result<()> {
    let path = check.folder.join("trace.safetensors");
    if !is_there(&path) || check.precision != super::Precision::F32 {
        return Ok(());
    }
    let source = Files::open(&path)?;
    let expect = |name: &str| golden::find(&source, &format!("trace.{name}"));
    let missing = |name: &str| Error::weight(&path, name, "is missing");
    let mut results = Vec::new();
    let mut failure = None;
    let mut moments = None;
    let frames_at_a_time = check.savings.vae_frames;
    let mut probe = |name: &str, x: &B::Buffer, [frames, height, width, channels]: [usize; 4]| {
        let mut compare = || -> Result<()> {
            let mut values = vec![0.0; x.len()];
            backend.download(x, 0, &mut values)?;
            if name == "quant_conv" {
                moments = Some((values.clone(), [frames, height, width], channels));
            }
            if let Some(expected) = expect(name)? {
                let found = nchw_from_nhwc(&values, channels);
                results.push((format!("trace.{name}"), relative_l2(&found, &expected.to_f32())));
            }
            Ok(())
        };
        failure = failure.take().or_else(|| compare().err());
    };
    let video = golden::find(&source, "video")?.ok_or_else(|| missing("video"))?;
    if video.shape.len() != 5 || video.is_empty() {
        let problem = format!("has the shape {:?}; expected five axes", video.shape);
        return Err(Error::weight(&path, "video", problem));
    }
    each_sample(&video, |values, size| {
        let values = ClipValues::Floats(values);
        encoder.encode_probed(backend, &CoderInput { size, values, tiling: None, frames_at_a_time }, &mut probe)?;
        Ok(Vec::new())
    })?;
    let (values, size, channels) = moments.take().ok_or_else(|| missing("trace.quant_conv"))?;
    let mean: Vec<f32> = values.chunks_exact(channels).flat_map(|pixel| &pixel[..channels / 2]).copied().collect();
    let mut probe = |name: &str, x: &B::Buffer, [_, _, _, channels]: [usize; 4]| {
        let mut compare = || -> Result<()> {
            let mut values = vec![0.0; x.len()];
            backend.download(x, 0, &mut values)?;
            if let Some(expected) = expect(name)? {
                results.push((
                    format!("trace.{name}"),
                    relative_l2(&nchw_from_nhwc(&values, channels), &expected.to_f32()),
                ));
            }
            Ok(())
        };
        failure = failure.take().or_else(|| compare().err());
    };
    let values = ClipValues::Floats(&mean);
    decoder.decode_probed(backend, &CoderInput { size, values, tiling: None, frames_at_a_time }, &mut probe)?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    for (name, error) in results {
        check.at_most(name, "relative L2", error, tolerance::VAE);
    }
    Ok(())
}

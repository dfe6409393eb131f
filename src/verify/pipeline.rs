//! Golden data of the pipeline: from a prompt to a latent and frames.

use super::golden::{Bf16Error, Golden, Tile};
use super::{Check, Precision, all_numbers, relative_l2, tolerance};
use crate::backend::Backend;
use crate::checkpoint::{Defaults, Model};
use crate::engine::{Captions, Denoiser, Denoising, Noise, Quiet, Sampled, Settings, Shortcuts, Texts, decode, embed};
use crate::error::{Error, Result};
use crate::layout::nchw_from_nhwc;
use crate::sampler::SamplerKind;
use crate::video::FrameRate;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    prompt: String,
    negative_prompt: String,
    clean_caption: bool,
    frames: usize,
    height: usize,
    width: usize,
    sampler: String,
    steps: usize,
    guidance_scale: f32,
    tile: Option<Tile>,
    torch_bf16_rel_error: Bf16Error,
    torch_bf16_video_psnr: f64,
}

pub(super) fn run<B: Backend>(backend: &B, check: &mut Check<'_>) -> Result<()> {
    let model = Model::open(check.folder)?;
    let (transformer, encoder, tokenizer) =
        (model.need_transformer()?, model.need_text_encoder()?, model.need_tokenizer()?);
    all_numbers(transformer)?;
    all_numbers(encoder)?;
    all_numbers(model.need_vae()?)?;
    let denoiser = Denoiser::load(backend, transformer, check.savings)?;
    let golden = Golden::open(check.folder)?;
    for (name, case) in golden.cases() {
        let case: Case = golden.read(name, case)?;
        let settings = settings(&case, &model.defaults)?;
        settings.validate()?;
        let captions = [Captions::of(tokenizer, transformer.config.model_max_length, &settings, &mut Quiet)?];
        let mut texts = Texts::new(&captions, encoder.config.d_model);
        let embedded = embed(backend, encoder, texts.missing(), check.savings, &mut Quiet)?;
        texts.add(embedded, None, &mut Quiet);
        let text = texts.into_texts().remove(0);
        let schedule = settings.sampler.schedule(settings.steps)?;
        let values = settings.latent_size().iter().product::<usize>() * settings.factors.channels;
        let mut draws = draws(&golden, name, values)?.into_iter();
        if draws.len() != 1 + schedule.calls.iter().filter(|call| call.draws_noise).count() {
            return Err(Error::Usage(format!(
                "case {name}: the number of noise draws is not that of {}",
                settings.sampler
            )));
        }
        let denoising =
            Denoising { settings: &settings, schedule: &schedule, text: &text, original: None, state: None, video: 0 };
        let Sampled { latent, .. } = denoiser.run(backend, denoising, &mut Noise::Given(&mut draws), &mut Quiet)?;

        let expected = golden.floats(name, "final_latent", 5)?;
        if expected.shape[1] != settings.factors.channels {
            let problem = format!(
                "final_latent has the shape {:?}, and the model's has {} channels",
                expected.shape, settings.factors.channels
            );
            return Err(Error::Usage(format!("case {name}: {problem}")));
        }
        let found = nchw_from_nhwc(&latent, expected.shape[1]);
        let allowed = check.precision.relative(tolerance::PIPELINE, case.torch_bf16_rel_error.of("final_latent"));
        check.at_most(format!("{name}.final_latent"), "relative L2", relative_l2(&found, &expected.to_f32()), allowed);

        let mut video = Vec::new();
        let mut push = |rgb: &[u8]| {
            video.extend_from_slice(rgb);
            Ok(())
        };
        decode(backend, &model, &latent, settings.windowed(), check.savings, &mut Quiet, &mut push)?;
        compare_frames(check, name, &video, &golden.frames(name, "video")?, case.torch_bf16_video_psnr);
    }
    Ok(())
}

fn settings(case: &Case, defaults: &Defaults) -> Result<Settings> {
    let &Defaults { factors, patch, .. } = defaults;
    let sampler: SamplerKind = case.sampler.parse()?;
    Ok(Settings {
        prompt: case.prompt.clone(),
        negative_prompt: case.negative_prompt.clone(),
        clean_caption: case.clean_caption,
        frames: case.frames,
        height: case.height,
        width: case.width,
        sampler,
        steps: case.steps,
        guidance: case.guidance_scale,
        seed: 0,
        fps: FrameRate::default(),
        tiling: case.tile.map(Into::into),
        edit: None,
        span: None,
        shortcuts: Shortcuts::default(),
        factors,
        patch,
    })
}

/// The initial noise, then the later draws, of `len` values each.
fn draws(golden: &Golden, name: &str, len: usize) -> Result<Vec<Vec<f32>>> {
    let initial = golden.floats(name, "initial_noise", 5)?.to_f32();
    let later = match golden.find(&format!("{name}.noise"))? {
        Some(noise) => noise.to_f32(),
        None => Vec::new(),
    };
    if initial.len() != len || !later.len().is_multiple_of(len) {
        let problem = format!("draws of {} and {} values of noise for latents of {len}", initial.len(), later.len());
        return Err(Error::Usage(format!("case {name}: {problem}")));
    }
    Ok(std::iter::once(initial).chain(later.chunks_exact(len).map(<[f32]>::to_vec)).collect())
}

fn compare_frames(check: &mut Check<'_>, name: &str, found: &[u8], expected: &[u8], torch_psnr: f64) {
    let case = format!("{name}.video");
    let differences = || found.iter().zip(expected).map(|(&a, &b)| (a as f64 - b as f64).abs());
    let count = if found.len() == expected.len() { expected.len() as f64 } else { 0.0 };
    if check.precision == Precision::F32 {
        let largest = if count > 0.0 { differences().fold(0.0, f64::max) } else { f64::INFINITY };
        let off = differences().filter(|&difference| difference > 0.0).count() as f64 / count;
        check.at_most(&case, "largest byte step", largest, tolerance::BYTE_STEP);
        check.at_most(&case, "share of bytes off", off, tolerance::BYTES_OFF);
        return;
    }
    let square = differences().map(|difference| difference * difference).sum::<f64>() / count;
    check.at_least(&case, "PSNR dB", 10.0 * (255.0 * 255.0 / square).log10(), torch_psnr - tolerance::PSNR_MARGIN);
}

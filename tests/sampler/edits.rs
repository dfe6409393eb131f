//! Schedules of edits, with models whose predictions are known.

use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::sampler::{Combine, CombineArgs};
use osp::sampler::{Call, SamplerKind, SamplerRun, Schedule, TorchRng};

const LEN: usize = 64;

/// A clean sample between the ±1 to which DDPM and DDIM clamp.
fn clean(seed: u64) -> Vec<f32> {
    TorchRng::new(seed).randn(LEN).into_iter().map(|value| value.clamp(-1.0, 1.0)).collect()
}

fn host(backend: &Cpu, tensor: &<Cpu as Backend>::Buffer) -> Vec<f32> {
    let mut values = vec![0.0; LEN];
    backend.download(tensor, 0, &mut values).unwrap();
    values
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max)
}

/// Runs a schedule that edits `original`. `begin`: how much of it and of noise the first sample holds. `model` sees the input of each
/// call. Returns the result, and the sample before the first call for the prompt.
fn run(
    schedule: &Schedule,
    original: &[f32],
    begin: (f32, f32),
    mut model: impl FnMut(&Call, &[f32]) -> Vec<f32>,
) -> [Vec<f32>; 2] {
    let (backend, mut rng) = (Cpu::new(), TorchRng::new(3));
    let [original, noise] = [original.to_vec(), rng.randn(LEN)].map(|values| backend.upload_f32(&values).unwrap());
    let mut sample = backend.alloc_f32(LEN).unwrap();
    let op = Combine { len: LEN, coefficients: &[begin.0, begin.1], clamp: None };
    backend.combine(&op, CombineArgs { inputs: &[&original, &noise], out: &mut sample }).unwrap();
    let mut run = SamplerRun::begin(&backend, schedule, sample).unwrap().of_original(&original);
    let mut first = None;
    while let Some(call) = run.call() {
        if !call.source {
            first.get_or_insert_with(|| host(&backend, run.sample()));
        }
        let input = host(&backend, run.model_input().unwrap());
        let drawn = call.draws_noise.then(|| rng.randn(LEN));
        run.step(&backend.upload_f32(&model(call, &input)).unwrap(), drawn.as_deref()).unwrap();
    }
    [host(&backend, run.result()), first.expect("some call is for the prompt")]
}

/// The samplers that an inversion can serve.
fn reversible() -> impl Iterator<Item = SamplerKind> {
    SamplerKind::ALL.into_iter().filter(|kind| kind.inverted(8, 8).is_ok())
}

#[test]
fn an_inversion_finds_the_noise_of_a_model_that_always_predicts_it() {
    let (clean, noise) = (clean(1), TorchRng::new(2).randn(LEN));
    assert_eq!(reversible().count(), 6);
    for kind in reversible() {
        for (steps, made) in [(30, 30), (30, 12), (8, 4)] {
            let schedule = kind.inverted(steps, made).unwrap();
            let [result, first] = run(&schedule, &clean, (1.0, 0.0), |_, _| noise.clone());
            let call = schedule.calls.iter().find(|call| !call.source).unwrap();
            let (signal, level) = kind.signal_and_noise(call);
            let expected: Vec<f32> = clean.iter().zip(&noise).map(|(x, noise)| signal * x + level * noise).collect();
            assert!(worst(&first, &expected) < 1e-3 * level.max(1.0), "{kind}: {}", worst(&first, &expected));
            assert!(worst(&result, &clean) < 0.05, "{kind}, {made} of {steps}: {}", worst(&result, &clean));
        }
    }
}

/// The best prediction for samples that are N(0, s²): ε = √(1−ᾱ)·x / (ᾱ·s² + 1 − ᾱ).
fn of_normal_samples(kind: SamplerKind, call: &Call, input: &[f32]) -> Vec<f32> {
    const VARIANCE: f32 = 0.25;
    let (signal, noise) = kind.signal_and_noise(call);
    let alpha_bar = signal * signal / (signal * signal + noise * noise);
    let factor = (1.0 - alpha_bar).sqrt() / (alpha_bar * VARIANCE + 1.0 - alpha_bar);
    input.iter().map(|x| factor * x).collect()
}

#[test]
fn the_way_back_leads_to_the_clip_and_the_nearer_the_more_steps() {
    let clean = clean(1);
    for kind in reversible() {
        let error = |steps| {
            let schedule = kind.inverted(steps, steps / 2).unwrap();
            worst(&run(&schedule, &clean, (1.0, 0.0), |call, x| of_normal_samples(kind, call, x))[0], &clean)
        };
        let [few, many] = [20, 200].map(error);
        assert!(many < 0.06 && many < few / 2.0, "{kind}: {few} in 20 steps, {many} in 200");
    }
}

#[test]
fn a_sampler_that_adds_noise_or_clamps_cannot_serve_an_inversion() {
    use SamplerKind::{Ddim, Ddpm, EulerAncestralDiscrete, Kdpm2AncestralDiscrete};
    for kind in [Ddim, Ddpm, EulerAncestralDiscrete, Kdpm2AncestralDiscrete] {
        let error = kind.inverted(30, 15).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let said = error.to_string();
        assert!(said.starts_with(&format!("{kind} adds noise or clamps")) && said.contains("EulerDiscrete"), "{said}");
    }
}

/// The model for the source prompt leads to one clean sample, the model for the prompt to another.
#[test]
fn a_delta_leads_from_what_one_model_makes_to_what_the_other_makes() {
    let (from, to) = (clean(1), clean(2));
    for kind in SamplerKind::ALL {
        for (steps, made) in [(30, 30), (30, 7)] {
            let schedule = kind.delta(steps, made).unwrap();
            let [result, _] = run(&schedule, &from, kind.signal_and_noise(&schedule.calls[0]), |call, input| {
                let (signal, noise) = kind.signal_and_noise(call);
                let leads_to = if call.source { &from } else { &to };
                input.iter().zip(leads_to).map(|(x, clean)| (x - signal * clean) / noise).collect()
            });
            assert!(worst(&result, &to) < 1e-3, "{kind}, {made} of {steps}: {}", worst(&result, &to));
        }
    }
}

#[test]
fn a_delta_of_equal_predictions_leaves_the_bits_of_the_clip() {
    let clean = clean(1);
    for kind in SamplerKind::ALL {
        let schedule = kind.delta(30, 20).unwrap();
        let [result, _] =
            run(&schedule, &clean, (0.6, 0.8), |call, x| x.iter().map(|x| x.sin() + call.timestep / 1000.0).collect());
        assert!(result == clean, "{kind}");
    }
}

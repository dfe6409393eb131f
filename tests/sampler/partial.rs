//! Samplers that make only their last steps, from a clean sample with noise.

use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::DeviceBuffer;
use osp::sampler::{SamplerKind, SamplerRun, Schedule, TorchRng};

const LEN: usize = 64;

/// Runs `schedule` from `clean` with noise. The model knows the clean sample: it predicts the noise that leads to it.
fn recover(kind: SamplerKind, schedule: &Schedule, clean: &[f32]) -> Vec<f32> {
    let backend = Cpu::new();
    let mut rng = TorchRng::new(3);
    let noise = rng.randn(LEN);
    let (signal, level) = kind.signal_and_noise(&schedule.calls[0]);
    let begin: Vec<f32> = clean.iter().zip(&noise).map(|(clean, noise)| signal * clean + level * noise).collect();
    let mut run = SamplerRun::begin(&backend, schedule, backend.upload_f32(&begin).unwrap()).unwrap();
    while let Some(call) = run.call() {
        let (signal, level) = kind.signal_and_noise(call);
        let mut sample = vec![0.0; LEN];
        assert_eq!(run.sample().len(), LEN);
        backend.download(run.sample(), 0, &mut sample).unwrap();
        let predicted: Vec<f32> =
            sample.iter().zip(clean).map(|(sample, clean)| (sample - signal * clean) / level).collect();
        let drawn = call.draws_noise.then(|| rng.randn(LEN));
        run.step(&backend.upload_f32(&predicted).unwrap(), drawn.as_deref()).unwrap();
    }
    let mut found = vec![0.0; LEN];
    backend.download(run.sample(), 0, &mut found).unwrap();
    found
}

#[test]
fn from_any_step_a_perfect_model_leads_every_sampler_to_the_clean_sample() {
    let clean: Vec<f32> = TorchRng::new(1).randn(LEN).into_iter().map(|value| value.clamp(-1.0, 1.0)).collect();
    for kind in SamplerKind::ALL {
        for (steps, made) in [(30, 30), (30, 29), (30, 18), (30, 7), (30, 4), (50, 10)] {
            let schedule = kind.last_of(steps, made).unwrap();
            let found = recover(kind, &schedule, &clean);
            let worst = found.iter().zip(&clean).map(|(found, clean)| (found - clean).abs()).fold(0.0, f32::max);
            // PNDM and DEIS end with the noise of timestep 0, a hundredth.
            assert!(worst < 0.05, "{kind}, the last {made} of {steps} steps: {worst}");
        }
    }
}

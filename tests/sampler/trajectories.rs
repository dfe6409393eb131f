//! The sample after every model call. A formula replaces the model, the same one as in the golden data.

use super::Golden;
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::sampler::{SamplerKind, SamplerRun, guide};

/// The formula for the noise prediction in the golden data.
fn model(input: &[f32], timestep: f32) -> Vec<f32> {
    let shift = (0.3 * (f64::from(timestep) / 1000.0 * std::f64::consts::PI).cos()) as f32;
    input.iter().map(|x| (0.9 * x + shift).tanh() * 0.8).collect()
}

/// ‖found − expected‖ / ‖expected‖.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (difference / expected.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// Every sample of a run over the golden initial noise and draws.
fn trajectory(golden: &Golden, kind: SamplerKind, steps: usize) -> Vec<Vec<f32>> {
    let backend = Cpu::new();
    let initial = golden.tensor("initial_noise");
    let schedule = kind.schedule(steps).unwrap();
    let draws = match schedule.calls.iter().filter(|call| call.draws_noise).count() {
        0 => Vec::new(),
        _ => golden.tensor(&format!("{kind}.{steps}.noise")),
    };
    let mut draws = draws.chunks_exact(initial.len());
    let mut run = SamplerRun::new(&backend, &schedule, &initial).unwrap();
    let mut samples = Vec::new();
    while let Some(call) = run.call() {
        let prediction = model(run.model_input().unwrap(), call.timestep);
        let prediction = backend.upload(&prediction).unwrap();
        let noise = call.draws_noise.then(|| draws.next().unwrap());
        run.step(&prediction, noise).unwrap();
        samples.push(run.sample().to_vec());
    }
    assert!(draws.next().is_none(), "{kind} {steps}: not all draws are used");
    samples
}

#[test]
fn every_sample_equals_that_of_diffusers() {
    let golden = Golden::open("samplers");
    for kind in SamplerKind::ALL {
        for steps in [5, 20] {
            let expected = golden.tensor(&format!("{kind}.{steps}.trajectory"));
            let found = trajectory(&golden, kind, steps);
            assert_eq!(found.len() * found[0].len(), expected.len(), "{kind} {steps}");
            for (call, (found, expected)) in found.iter().zip(expected.chunks(found[0].len())).enumerate() {
                let error = relative_error(found, expected);
                // Measured: at most 4e-7.
                assert!(error <= 1e-5, "{kind} {steps}: {error:e} after call {call}");
            }
        }
    }
}

#[test]
fn a_prediction_of_another_size_is_refused() {
    let backend = Cpu::new();
    let schedule = SamplerKind::Pndm.schedule(4).unwrap();
    let mut run = SamplerRun::new(&backend, &schedule, &[0.0; 64]).unwrap();
    let prediction = backend.upload(&[0.0; 128]).unwrap();
    let error = run.step(&prediction, None).unwrap_err();
    assert_eq!(error.to_string(), "combine: input has 128 elements, expected 64 elements");
}

#[test]
fn guidance_moves_from_the_unconditional_prediction_past_the_conditional_one() {
    let backend = Cpu::new();
    let upload = |values: [f32; 3]| backend.upload(&values).unwrap();
    let (unconditional, conditional, mut out) = (upload([0.0, 1.0, -2.0]), upload([1.0, 1.0, 2.0]), upload([0.0; 3]));
    guide(&backend, 7.5, &unconditional, &conditional, &mut out).unwrap();
    assert_eq!(out[..], [7.5, 1.0, 28.0]);
    guide(&backend, 1.0, &unconditional, &conditional, &mut out).unwrap();
    assert_eq!(out[..], conditional[..]);
}

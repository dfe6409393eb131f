//! Golden data of the samplers: timesteps, trajectories and noise.

use super::golden::Golden;
use super::{Check, relative_l2, tolerance};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::sampler::{SamplerKind, SamplerRun, TorchRng};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Step counts are JSON strings. A step count that the sampler refuses has null timesteps and no other entries.
#[derive(Deserialize)]
struct Case {
    timesteps: BTreeMap<String, Option<Vec<f32>>>,
    init_noise_sigma: BTreeMap<String, f64>,
    model_calls: BTreeMap<String, usize>,
}

pub(super) fn run<B: Backend>(backend: &B, check: &mut Check<'_>) -> Result<()> {
    let golden = Golden::open(check.folder)?;
    for (name, case) in golden.cases().filter(|(_, case)| case.is_object()) {
        let kind: SamplerKind = name.parse()?;
        let case: Case = golden.read(name, case)?;
        if case.timesteps.is_empty() {
            return Err(Error::Usage(format!("case {name}: has no timesteps")));
        }
        let mut faults = 0;
        for (steps, timesteps) in &case.timesteps {
            let count =
                steps.parse().map_err(|_| Error::Usage(format!("case {name}: {steps:?} is not a number of steps")))?;
            let schedule = kind.schedule(count);
            faults += match (schedule, timesteps) {
                (Err(_), None) => 0,
                (Ok(schedule), Some(timesteps)) => {
                    let found: Vec<f32> = schedule.calls.iter().map(|call| call.timestep).collect();
                    let sigma = case
                        .init_noise_sigma
                        .get(steps)
                        .is_some_and(|&sigma| (schedule.init_noise_sigma as f64 - sigma).abs() <= 1e-5 * sigma);
                    let calls = case.model_calls.get(steps) == Some(&found.len());
                    usize::from(!(sigma && calls && same_timesteps(kind, &found, timesteps)))
                }
                _ => 1,
            };
        }
        check.at_most(format!("{name}.timesteps"), "step counts that differ", faults as f64, 0.0);
        for steps in case.timesteps.keys() {
            if let Some(expected) = golden.find(&format!("{name}.{steps}.trajectory"))? {
                let found = trajectory(backend, &golden, kind, name, steps)?;
                let error = relative_l2(&found, &expected.to_f32());
                check.at_most(format!("{name}.{steps}.trajectory"), "relative L2", error, tolerance::TRAJECTORY);
            }
        }
    }
    Ok(())
}

/// Whether timesteps agree: equal, or within a tolerance for the two samplers that interpolate them.
fn same_timesteps(kind: SamplerKind, found: &[f32], expected: &[f32]) -> bool {
    let allowed = match kind {
        SamplerKind::HeunDiscrete | SamplerKind::Kdpm2AncestralDiscrete => tolerance::TIMESTEP,
        _ => 0.0,
    };
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= allowed)
}

/// The sample after every model call. A formula replaces the model.
fn trajectory<B: Backend>(
    backend: &B,
    golden: &Golden,
    kind: SamplerKind,
    name: &str,
    steps: &str,
) -> Result<Vec<f32>> {
    let case = format!("{name}.{steps}");
    let initial = golden.floats("", "initial_noise", 5)?.to_f32();
    let mut draws = match golden.find(&format!("{case}.noise"))? {
        Some(noise) => noise.to_f32().chunks_exact(initial.len()).map(<[f32]>::to_vec).collect::<Vec<_>>(),
        None => Vec::new(),
    }
    .into_iter();
    let schedule = kind.schedule(steps.parse().expect("parsed before"))?;
    let mut run = SamplerRun::new(backend, &schedule, &initial)?;
    let mut found = Vec::new();
    let mut values = vec![0.0; initial.len()];
    while let Some(call) = run.call() {
        backend.download(run.model_input()?, 0, &mut values)?;
        let angle = call.timestep as f64 / 1000.0 * PI;
        let prediction: Vec<f32> =
            values.iter().map(|&x| ((0.9 * x as f64 + 0.3 * angle.cos()).tanh() * 0.8) as f32).collect();
        let noise = call.draws_noise.then(|| draws.next()).flatten();
        if noise.is_none() && call.draws_noise {
            return Err(Error::Usage(format!("{case}: the schedule draws more noise than the golden data holds")));
        }
        run.step(&backend.upload_f32(&prediction)?, noise.as_deref())?;
        backend.download(run.sample(), 0, &mut values)?;
        found.extend_from_slice(&values);
    }
    Ok(found)
}

/// Values of a draw of noise.
const MOST_NOISE: usize = 1 << 26;

#[derive(Deserialize)]
struct NoiseCase {
    seed: u64,
    shape: Vec<usize>,
    mean_abs: f64,
}

/// Two draws of one seed: the first values of the first draw, the last of the second, and the first draw's mean
/// magnitude.
pub(super) fn noise(check: &mut Check<'_>) -> Result<()> {
    let golden = Golden::open(check.folder)?;
    for (name, case) in golden.cases() {
        let case: NoiseCase = golden.read(name, case)?;
        let mut rng = TorchRng::new(case.seed);
        let len = case.shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size)).unwrap_or(usize::MAX);
        if !(1..=MOST_NOISE).contains(&len) {
            let shape = &case.shape;
            return Err(Error::Usage(format!("case {name}: shape {shape:?} has not 1 to {MOST_NOISE} values")));
        }
        let (first, second) = (rng.randn(len), rng.randn(len));
        let head = golden.floats(name, "first", 1)?.to_f32();
        let tail = golden.floats(name, "second", 1)?.to_f32();
        if head.len() > len || tail.len() > len {
            return Err(Error::Usage(format!("case {name}: keeps more values than its shape {:?} has", case.shape)));
        }
        let difference = |found: &[f32], expected: &[f32]| {
            found.iter().zip(expected).map(|(&a, &b)| (a as f64 - b as f64).abs()).fold(0.0, f64::max)
        };
        let error = difference(&first[..head.len()], &head).max(difference(&second[len - tail.len()..], &tail));
        check.at_most(name, "largest difference", error, tolerance::NOISE);
        let mean = first.iter().map(|&value| value.abs() as f64).sum::<f64>() / len as f64;
        check.at_most(format!("{name}.mean_abs"), "difference", (mean - case.mean_abs).abs(), tolerance::NOISE);
    }
    Ok(())
}

//! Timesteps, first scale and number of model calls of every sampler, for 1 to 150 steps.

use super::Golden;
use osp::sampler::SamplerKind;
use serde_json::Value;

/// Calls `check(sampler, steps, schedule or error, key ↦ golden value)` for every golden step count.
fn for_each_case(check: impl Fn(SamplerKind, usize, osp::Result<osp::sampler::Schedule>, &dyn Fn(&str) -> Value)) {
    let golden = Golden::open("samplers").json;
    for kind in SamplerKind::ALL {
        let cases = &golden[kind.name()];
        let counts: Vec<&String> = cases["timesteps"].as_object().unwrap().keys().collect();
        assert!(counts.len() >= 6, "{kind}");
        for count in counts {
            let steps = count.parse().unwrap();
            check(kind, steps, kind.schedule(steps), &|key| cases[key][count].clone());
        }
    }
}

#[test]
fn timesteps_equal_those_of_diffusers() {
    for_each_case(|kind, steps, schedule, golden| {
        let timesteps: Option<Vec<f32>> = serde_json::from_value(golden("timesteps")).unwrap();
        let Some(expected) = timesteps else {
            return assert_eq!(schedule.unwrap_err().exit_code(), 2, "{kind} {steps}");
        };
        let tolerance = if kind == SamplerKind::Kdpm2AncestralDiscrete { 1e-2 } else { 0.0 };
        let found: Vec<f32> = schedule.unwrap().calls.iter().map(|call| call.timestep).collect();
        assert_eq!(found.len(), expected.len(), "{kind} {steps}");
        for (index, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            assert!((found - expected).abs() <= tolerance, "{kind} {steps}: call {index} at {found}, not {expected}");
        }
    });
}

#[test]
fn calls_and_first_scale_equal_those_of_diffusers() {
    for_each_case(|kind, steps, schedule, golden| {
        let Ok(schedule) = schedule else { return };
        assert_eq!(golden("model_calls"), schedule.calls.len(), "{kind} {steps}");
        let expected = golden("init_noise_sigma").as_f64().unwrap() as f32;
        assert!((schedule.init_noise_sigma / expected - 1.0).abs() < 1e-6, "{kind} {steps}");
    });
}

#[test]
fn pndm_with_150_steps_calls_the_model_159_times_and_starts_at_timestep_894() {
    let calls = SamplerKind::Pndm.schedule(150).unwrap().calls;
    assert_eq!((calls.len(), calls[0].timestep), (159, 894.0));
}

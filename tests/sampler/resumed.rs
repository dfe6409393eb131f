//! Samplers that go on from a state on the host.

use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::DeviceBuffer;
use osp::sampler::{SamplerKind, SamplerRun, SamplerState, Schedule, TorchRng};

const LEN: usize = 48;

/// A model of no particular meaning.
fn predict(backend: &Cpu, run: &mut SamplerRun<'_, Cpu>) -> <Cpu as Backend>::Buffer {
    let input = run.model_input().unwrap();
    let mut values = vec![0.0; input.len()];
    backend.download(input, 0, &mut values).unwrap();
    let predicted: Vec<f32> = values.iter().enumerate().map(|(i, x)| (0.7 * x + i as f32 * 0.1).sin()).collect();
    backend.upload_f32(&predicted).unwrap()
}

/// Makes calls until `until`, and returns the state.
fn calls(backend: &Cpu, mut run: SamplerRun<'_, Cpu>, rng: &mut TorchRng, until: usize) -> SamplerState {
    while run.done() < until {
        let draws = run.call().unwrap().draws_noise;
        let prediction = predict(backend, &mut run);
        run.step(&prediction, draws.then(|| rng.randn(LEN)).as_deref()).unwrap();
    }
    run.state().unwrap()
}

/// Goes on from a state to the end.
fn rest(backend: &Cpu, schedule: &Schedule, state: &SamplerState) -> SamplerState {
    let mut rng = TorchRng::new(5);
    (0..state.draws(schedule)).for_each(|_| drop(rng.randn(LEN)));
    let run = SamplerRun::resume(backend, schedule, state).unwrap();
    calls(backend, run, &mut rng, schedule.calls.len())
}

#[test]
fn a_stop_between_any_two_calls_changes_no_bit() {
    let backend = Cpu::new();
    for kind in SamplerKind::ALL {
        let schedule = kind.schedule(9).unwrap();
        let all = schedule.calls.len();
        let begin = |until| {
            let mut rng = TorchRng::new(5);
            let run = SamplerRun::new(&backend, &schedule, &rng.randn(LEN)).unwrap();
            calls(&backend, run, &mut rng, until)
        };
        let whole = begin(all);
        for until in 0..=all {
            let state = begin(until);
            assert_eq!(state.done, until);
            assert!(rest(&backend, &schedule, &state) == whole, "{kind}, stopped after call {until} of {all}");
        }
    }
}

#[test]
fn a_state_of_another_schedule_is_refused() {
    let backend = Cpu::new();
    let schedule = SamplerKind::DpmSolverMultistep.schedule(9).unwrap();
    let run = SamplerRun::new(&backend, &schedule, &[0.5; LEN]).unwrap();
    let good = calls(&backend, run, &mut TorchRng::new(5), 4);
    assert!(good.validate(&schedule, LEN).is_ok() && !good.history.is_empty());
    for wrong in [
        SamplerState { done: 10, ..good.clone() },
        SamplerState { sample: vec![0.5; LEN - 1], ..good.clone() },
        SamplerState { sample: Vec::new(), ..good.clone() },
        SamplerState { history: Vec::new(), ..good.clone() },
        SamplerState { history: vec![Vec::new(); good.history.len()], ..good.clone() },
        SamplerState { done: 0, ..good.clone() },
    ] {
        let problem = wrong.validate(&schedule, LEN).unwrap_err();
        assert_eq!(problem.exit_code(), 2, "{problem}");
    }
}

//! A compiled sampler: a list of model calls, each followed by linear combinations of a few tensors.

/// A sampler compiled for a number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Factor on N(0, 1) noise that gives the first sample.
    pub init_noise_sigma: f32,
    /// The number of [`Slot::History`] tensors that the updates use.
    pub history: usize,
    /// The model calls, in order.
    pub calls: Vec<Call>,
    /// The tensor of the history that becomes the result, if it is not the sample: the sample is then a noisy form of it.
    pub result: Option<usize>,
    /// The tensor of the history that gets the noise which an inversion finds in an edit's clip. The last call of the inversion
    /// writes it.
    pub inverted: Option<usize>,
}

/// One call of the model and the updates after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The timestep that the model receives, in training steps (0 to 999; whole for most samplers).
    pub timestep: f32,
    /// Factor on the sample that gives the model's input.
    pub input_scale: f32,
    /// Whether a tensor of N(0, 1) noise is drawn after the prediction. Some calls draw noise that no update uses: the
    /// original draws it, and the same seed must give the same later draws here.
    pub draws_noise: bool,
    /// Whether the model predicts for the source prompt of an edit, and not for the prompt.
    pub source: bool,
    /// The updates, in order; each sees the results of earlier updates.
    pub updates: Vec<Update>,
}

/// `out = clamp(Σ factor·slot)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The tensor that the result replaces. It may be among the terms, with its old value.
    pub out: Slot,
    /// The terms, at most [`MAX_TERMS`](crate::ops::sampler::MAX_TERMS).
    pub terms: Vec<(Slot, f32)>,
    /// Clamp the result to ± this value.
    pub clamp: Option<f32>,
}

/// A tensor of the sampler; all have the size of the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The sample itself.
    Sample,
    /// The noise that the model predicted in this call; never written.
    Prediction,
    /// The noise drawn in this call; never written.
    Noise,
    /// The clean sample that an edit begins with; never written.
    Original,
    /// A tensor that is kept between calls, by number; unspecified before its first write.
    History(usize),
}

impl Schedule {
    /// Calls that make a sample from noise.
    pub(super) fn new(init_noise_sigma: f32, history: usize, calls: Vec<Call>) -> Self {
        Self { init_noise_sigma, history, calls, result: None, inverted: None }
    }

    /// Whether no update adds fresh noise or clamps: then the result decides the noise from which it is made.
    pub(super) fn is_reversible(&self) -> bool {
        let plain =
            |update: &Update| update.clamp.is_none() && update.terms.iter().all(|&(slot, _)| slot != Slot::Noise);
        self.calls.iter().flat_map(|call| &call.updates).all(plain)
    }

    /// Which tensors of the history the first `calls` calls have written.
    pub(super) fn written(&self, calls: usize) -> Vec<bool> {
        let updates = self.calls[..calls].iter().flat_map(|call| &call.updates);
        let mut written = vec![false; self.history];
        for update in updates {
            if let Slot::History(index) = update.out {
                written[index] = true;
            }
        }
        written
    }
}

impl Call {
    /// A call whose input is the unscaled sample, and that draws no noise.
    pub(super) fn new(timestep: f32, updates: impl Into<Vec<Update>>) -> Self {
        Self { timestep, input_scale: 1.0, draws_noise: false, source: false, updates: updates.into() }
    }
}

impl Update {
    /// An update without a clamp.
    pub(super) fn new(out: Slot, terms: &[(Slot, f32)]) -> Self {
        Self { out, terms: terms.to_vec(), clamp: None }
    }

    /// A copy of `from`.
    pub(super) fn copy(out: Slot, from: Slot) -> Self {
        Self::new(out, &[(from, 1.0)])
    }
}

#[cfg(test)]
mod tests {
    use super::Slot::{History, Noise, Original, Prediction, Sample};
    use super::*;
    use crate::ops::sampler::MAX_TERMS;
    use crate::sampler::SamplerKind;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Checks what the executor relies on.
    fn check(schedule: &Schedule) {
        assert!(schedule.init_noise_sigma.is_finite() && schedule.init_noise_sigma > 0.0);
        let mut written = HashSet::from([Sample, Prediction, Original]);
        for call in &schedule.calls {
            assert!((0.0..1000.0).contains(&call.timestep), "{call:?}");
            assert!(call.input_scale > 0.0 && call.input_scale <= 1.0, "{call:?}");
            for update in &call.updates {
                assert!((1..=MAX_TERMS).contains(&update.terms.len()), "{call:?}");
                for &(slot, factor) in &update.terms {
                    assert!(factor.is_finite(), "{call:?}");
                    assert!(written.contains(&slot) || (slot == Noise && call.draws_noise), "{slot:?} in {call:?}");
                }
                match update.out {
                    Sample => {}
                    History(index) => assert!(index < schedule.history, "{call:?}"),
                    Noise | Prediction | Original => panic!("{call:?}"),
                }
                written.insert(update.out);
            }
        }
        let last = schedule.calls.last().expect("a schedule has calls");
        assert!(last.updates.iter().any(|update| update.out == schedule.result.map_or(Sample, History)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn every_schedule_is_finite_and_reads_only_what_was_written(steps in 4usize..=1000) {
            for kind in SamplerKind::ALL {
                check(&kind.schedule(steps).unwrap());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn so_is_every_end_of_a_schedule(all in 4usize..=300, share in 0.0..=1.0) {
            let made = 4 + (share * (all - 4) as f64) as usize;
            for kind in SamplerKind::ALL {
                check(&kind.last_of(all, made).unwrap());
                check(&kind.delta(all, made).unwrap());
                let inverted = kind.inverted(all, made);
                assert_eq!(inverted.is_ok(), kind.schedule(4).unwrap().is_reversible(), "{kind}");
                inverted.iter().for_each(check);
            }
        }
    }

    /// Samplers that use no earlier step go on as in the middle of the whole.
    #[test]
    fn one_step_samplers_end_alike_wherever_they_begin() {
        use SamplerKind::{Ddim, Ddpm, EulerAncestralDiscrete, EulerDiscrete, HeunDiscrete, Kdpm2AncestralDiscrete};
        for kind in [Ddim, Ddpm, EulerDiscrete, EulerAncestralDiscrete, HeunDiscrete, Kdpm2AncestralDiscrete] {
            let (whole, part) = (kind.schedule(30).unwrap(), kind.last_of(30, 11).unwrap());
            assert!(whole.calls.ends_with(&part.calls), "{kind}");
        }
    }

    #[test]
    fn the_shortest_and_the_longest_schedules_are_finite_too() {
        for kind in SamplerKind::ALL {
            for steps in [1, 2, 3, 4, 5, 14, 15, 500, 501, 999, 1000] {
                if steps >= 4 || kind != SamplerKind::Pndm {
                    check(&kind.schedule(steps).unwrap());
                }
            }
        }
    }

    #[test]
    fn timesteps_never_rise() {
        for kind in SamplerKind::ALL {
            for steps in [4, 5, 7, 50, 333, 1000] {
                let calls = kind.schedule(steps).unwrap().calls;
                // The middle of DPM-Solver-2's step down is the end of its whole step, up to rounding.
                assert!(calls.is_sorted_by(|a, b| a.timestep >= b.timestep - 0.01), "{kind} {steps}");
            }
        }
    }
}

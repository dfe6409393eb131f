//! Which calls of the model a cache evaluates.

use super::Cache;
use serde::{Deserialize, Serialize};

/// The share of a run's calls, at its beginning, that MagCache and Taylor always evaluate: there a video takes shape.
const BEGINNING: f64 = 0.2;
/// The most calls in turn that MagCache does not evaluate.
const MOST_IN_TURN: usize = 4;

/// What a cache has let pass since the last evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// The sum that is compared with a threshold.
    pub change: f32,
    /// Magnitude of the transformer's work, relative to that of the last evaluation, less 1.
    pub growth: f32,
    /// Calls.
    pub calls: usize,
}

/// A call of the model among those of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its index, and the number of all calls.
    pub index: usize,
    pub calls: usize,
    pub timestep: f32,
    /// The timestep of the call before.
    pub before: f32,
}

impl Place {
    /// Whether it is the first or the last call, which every cache evaluates.
    pub fn is_end(&self) -> bool {
        self.index == 0 || self.index + 1 == self.calls
    }

    fn is_of_beginning(&self) -> bool {
        (self.index as f64) < BEGINNING * self.calls as f64
    }
}

impl Spent {
    /// Whether the call takes an earlier prediction. `input_change` is the relative change of the model's input since the call
    /// before, which only TeaCache needs.
    pub(super) fn lets_pass(&mut self, cache: &Cache, place: &Place, input_change: f64) -> bool {
        let passes = !place.is_end() && self.has_room(cache, place, input_change);
        if !passes {
            *self = Self::default();
        }
        passes
    }

    fn has_room(&mut self, cache: &Cache, place: &Place, input_change: f64) -> bool {
        self.calls += 1;
        match cache {
            Cache::TeaCache { threshold, polynomial } => {
                let polynomial = polynomial.expect("a cache that is not exact is calibrated");
                let estimate = polynomial.iter().fold(0.0, |sum, &factor| sum * input_change + f64::from(factor));
                // Zeros have no relative change, and a product with infinity may be NaN.
                self.change += if estimate.is_nan() { f32::INFINITY } else { estimate.max(0.0) as f32 };
                self.change < *threshold
            }
            Cache::MagCache { threshold, magnitudes } => {
                let magnitudes = magnitudes.as_ref().expect("a cache that is not exact is calibrated");
                let [before, now] = [place.before, place.timestep].map(|timestep| magnitude(magnitudes, timestep));
                self.growth = (1.0 + self.growth) * now / before - 1.0;
                self.change += self.growth.abs();
                !place.is_of_beginning() && self.calls <= MOST_IN_TURN && self.change <= *threshold
            }
            Cache::Taylor { interval } => !place.is_of_beginning() && self.calls < *interval,
        }
    }
}

/// The magnitude at a timestep, on the line between its neighbours; `known` has falling timesteps.
fn magnitude(known: &[[f32; 2]], timestep: f32) -> f32 {
    let after = known.partition_point(|[at, _]| *at > timestep);
    let (Some(&[below, low]), Some(&[above, high])) = (known.get(after), known[..after].last()) else {
        return known[after.min(known.len() - 1)][1];
    };
    low + (high - low) * (timestep - below) / (above - below)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `changes.len()` calls pass; the timesteps fall by 10.
    fn passed(cache: &Cache, changes: &[f64]) -> Vec<bool> {
        let mut spent = Spent::default();
        let at = |index: usize| 10.0 * (changes.len() - index) as f32;
        let call = |(index, &change): (usize, &f64)| {
            let before = at(index.saturating_sub(1));
            let place = Place { index, calls: changes.len(), timestep: at(index), before };
            spent.lets_pass(cache, &place, change)
        };
        changes.iter().enumerate().map(call).collect()
    }

    fn words(cache: &Cache, changes: &[f64]) -> String {
        passed(cache, changes).into_iter().map(|passed| if passed { '.' } else { 'E' }).collect()
    }

    #[test]
    fn teacache_adds_the_estimates_up_to_the_threshold() {
        // The estimate is twice the change.
        let cache = Cache::TeaCache { threshold: 0.5, polynomial: Some([0.0, 0.0, 0.0, 2.0, 0.0]) };
        assert_eq!(words(&cache, &[0.1; 8]), "E..E..EE");
        assert_eq!(words(&cache, &[0.0, 0.3, 0.0, 0.1, 0.1, 0.1, 0.0, 0.0]), "EE...E.E");
        let infinite = [f64::INFINITY; 4];
        assert_eq!(words(&cache, &infinite), "EEEE", "an input behind zeros has no relative change");
    }

    #[test]
    fn magcache_adds_the_changes_of_magnitude_and_waits_for_the_beginning() {
        let cache = |threshold| Cache::MagCache { threshold, magnitudes: Some(vec![[150.0, 2.0], [0.0, 1.0]]) };
        assert_eq!(words(&cache(0.1), &[0.0; 15]), "EEE.E.E.E.E.E.E");
        assert_eq!(words(&cache(10.0), &[0.0; 15]), "EEE....E....E.E");
    }

    #[test]
    fn taylor_evaluates_every_nth_call_behind_the_beginning() {
        assert_eq!(words(&Cache::Taylor { interval: 3 }, &[0.0; 15]), "EEE..E..E..E..E");
        assert_eq!(words(&Cache::Taylor { interval: 2 }, &[0.0; 3]), "E.E");
        assert_eq!(words(&Cache::Taylor { interval: 9 }, &[0.0]), "E");
    }

    #[test]
    fn magnitudes_lie_on_lines_between_those_that_are_known() {
        let known = [[900.0, 8.0], [500.0, 4.0], [100.0, 5.0]];
        assert_eq!(
            [999.0, 900.0, 700.0, 500.0, 300.0, 100.0, 0.0].map(|at| magnitude(&known, at)),
            [8.0, 8.0, 6.0, 4.0, 4.5, 5.0, 5.0]
        );
    }
}

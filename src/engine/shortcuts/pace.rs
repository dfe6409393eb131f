//! Which calls of the model a cache evaluates.

use super::Cache;
use serde::{Deserialize, Serialize};

/// The share of a run's calls, at its beginning, that MagCache and Taylor always evaluate: there a video takes shape.
const BEGINNING: f64 = 0.2;
/// The most calls in turn that MagCache does not evaluate.
const MOST_IN_TURN: usize = 4;

/// What a cache has let pass since the last evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinceEvaluation {
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
    /// That of the call before.
    pub timestep_before: f32,
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

impl SinceEvaluation {
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
            Cache::TeaCache { threshold, polynomial, fitted_to } => {
                let polynomial = polynomial.expect("a cache that is not exact is calibrated");
                self.change += estimate(&polynomial, *fitted_to, input_change) as f32;
                self.change < *threshold
            }
            Cache::MagCache { threshold, magnitudes } => {
                let magnitudes = magnitudes.as_ref().expect("a cache that is not exact is calibrated");
                let [before, now] =
                    [place.timestep_before, place.timestep].map(|timestep| magnitude(magnitudes, timestep));
                self.growth = (1.0 + self.growth) * now / before - 1.0;
                self.change += self.growth.abs();
                !place.is_of_beginning() && self.calls <= MOST_IN_TURN && self.change <= *threshold
            }
            Cache::Taylor { interval } => !place.is_of_beginning() && self.calls < *interval,
        }
    }
}

/// The change of the prediction, from that of the input. Nothing is known beyond the largest change that the polynomial was fitted
/// to, where it may fall; there, the estimate grows in proportion.
fn estimate(polynomial: &[f32], fitted_to: Option<f32>, input_change: f64) -> f64 {
    // Inputs behind zeros have no finite change.
    if !input_change.is_finite() {
        return f64::INFINITY;
    }
    let within = fitted_to.map_or(input_change, |most| input_change.min(f64::from(most)));
    let value = polynomial.iter().fold(0.0, |sum, &factor| sum * within + f64::from(factor));
    value.max(0.0) * if within > 0.0 { input_change / within } else { 1.0 }
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
        let mut since = SinceEvaluation::default();
        let at = |index: usize| 10.0 * (changes.len() - index) as f32;
        let call = |(index, &change): (usize, &f64)| {
            let timestep_before = at(index.saturating_sub(1));
            let place = Place { index, calls: changes.len(), timestep: at(index), timestep_before };
            since.lets_pass(cache, &place, change)
        };
        changes.iter().enumerate().map(call).collect()
    }

    fn words(cache: &Cache, changes: &[f64]) -> String {
        passed(cache, changes).into_iter().map(|passed| if passed { '.' } else { 'E' }).collect()
    }

    #[test]
    fn teacache_adds_the_estimates_up_to_the_threshold() {
        // The estimate is twice the change.
        let cache = Cache::TeaCache { threshold: 0.5, polynomial: Some([0.0, 0.0, 0.0, 2.0, 0.0]), fitted_to: None };
        assert_eq!(words(&cache, &[0.1; 8]), "E..E..EE");
        assert_eq!(words(&cache, &[0.0, 0.3, 0.0, 0.1, 0.1, 0.1, 0.0, 0.0]), "EE...E.E");
        let infinite = [f64::INFINITY; 4];
        assert_eq!(words(&cache, &infinite), "EEEE", "an input behind zeros has no relative change");
    }

    #[test]
    fn beyond_the_changes_that_were_measured_the_estimate_grows_in_proportion() {
        // x − x², which falls from 0.5 on, and is negative from 1 on.
        let falls = [0.0, 0.0, -1.0, 1.0, 0.0];
        let at = |change: f64| estimate(&falls, Some(0.5), change);
        assert_eq!([at(0.25), at(0.5), at(1.0), at(2.0)], [0.1875, 0.25, 0.5, 1.0]);
        assert_eq!(estimate(&falls, None, 2.0), 0.0, "less than nothing is nothing");
        assert_eq!([at(f64::INFINITY), estimate(&falls, None, f64::NAN)], [f64::INFINITY; 2]);
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

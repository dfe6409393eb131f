//! Measures what caches need to know of a model.

use super::shortcuts::MeasuredCall;
use super::{Cache, Engine, Observer, Request, Shortcuts};
use crate::checkpoint::{COEFFICIENTS, Calibration, Model};
use crate::error::{Error, Result};

/// How well a calibration describes what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Pairs of calls that were measured.
    pub pairs: usize,
    /// The mean change of the prediction between two calls, relative.
    pub change: f64,
    /// The polynomial's root-mean-square error.
    pub error: f64,
}

impl Engine {
    /// Samples videos, every call of the model evaluated, and finds out how their predictions follow from their inputs. The
    /// requests say with which sampler and steps; their shortcuts play no part.
    ///
    /// # Errors
    /// Those of [`Engine::sample`]; [`Error::Usage`] if too few calls of the model were measured.
    pub fn calibrate(
        &self,
        model: &Model,
        requests: &[Request],
        observer: &mut dyn Observer,
    ) -> Result<(Calibration, Fit)> {
        let mut settings = Vec::new();
        for request in requests {
            let mut exact = request.clone().shortcuts(Shortcuts::default()).settle(&model.defaults)?;
            // The plan of a cache that compares inputs has the memory for it. A measured run evaluates every call.
            let polynomial = Some([0.0; COEFFICIENTS]);
            exact.shortcuts.cache = Some(Cache::TeaCache { threshold: 1.0, polynomial, fitted_to: None });
            settings.push(exact);
        }
        let calls = settings.iter().map(|settings| Ok(settings.schedule()?.calls.len())).sum::<Result<usize>>()?;
        let pairs = calls - settings.len();
        if pairs < COEFFICIENTS {
            return Err(Error::Usage(format!(
                "{pairs} pairs of steps are too few for a calibration, which needs {COEFFICIENTS}; take more steps or more prompts"
            )));
        }
        let mut batch = self.batch(model, &settings, observer)?;
        let calls = (0..settings.len()).map(|video| batch.measure(video, observer)).collect::<Result<Vec<_>>>()?;
        let calls = calls.concat();
        let (polynomial, fitted_to, fit) = fitted(&calls)?;
        let first = settings.first().expect("a batch of nothing fails");
        let source = format!(
            "osp calibrate: {} videos of {}x{}x{}, {} in {} steps, guidance {}",
            settings.len(),
            first.frames,
            first.height,
            first.width,
            first.sampler,
            first.steps,
            first.guidance
        );
        Ok((Calibration { source, polynomial, fitted_to: Some(fitted_to), magnitudes: magnitudes(&calls) }, fit))
    }
}

/// The polynomial of least squares from the changes of inputs to those of predictions, and the largest change of an input.
fn fitted(calls: &[MeasuredCall]) -> Result<([f32; COEFFICIENTS], f32, Fit)> {
    let pairs: Vec<[f64; 2]> = calls.iter().filter_map(|call| call.changes).collect();
    let most = pairs.iter().map(|[input, _]| *input).fold(0.0, f64::max);
    // Of inputs from 0 to 1, so that their powers are of one size.
    let powers = |input: f64| [4, 3, 2, 1, 0].map(|power| (input / most).powi(power));
    let mut equations = [[0.0; COEFFICIENTS + 1]; COEFFICIENTS];
    for &[input, output] in &pairs {
        let powers = powers(input);
        for (equation, power) in equations.iter_mut().zip(powers) {
            let terms = powers.into_iter().chain([output]);
            equation.iter_mut().zip(terms).for_each(|(sum, term)| *sum += power * term);
        }
    }
    let solved = solve(equations).ok_or_else(|| {
        Error::Usage(format!(
            "{} pairs of steps are too few or too alike for a calibration; take more steps or more prompts",
            pairs.len()
        ))
    })?;
    let value = |input: f64| powers(input).iter().zip(solved).map(|(power, factor)| power * factor).sum::<f64>();
    let squares: f64 = pairs.iter().map(|&[input, output]| (value(input) - output).powi(2)).sum();
    let count = pairs.len() as f64;
    let change = pairs.iter().map(|[_, output]| output).sum::<f64>() / count;
    let fit = Fit { pairs: pairs.len(), change, error: (squares / count).sqrt() };
    let mut polynomial = [0.0; COEFFICIENTS];
    for (power, (factor, solved)) in polynomial.iter_mut().rev().zip(solved.into_iter().rev()).enumerate() {
        *factor = (solved / most.powi(power as i32)) as f32;
    }
    Ok((polynomial, most as f32, fit))
}

/// Solves equations `[a₀, …, b]` with Gauss's elimination; `None` if they have no single solution.
fn solve(mut equations: [[f64; COEFFICIENTS + 1]; COEFFICIENTS]) -> Option<[f64; COEFFICIENTS]> {
    for column in 0..COEFFICIENTS {
        let size = |row: &usize| equations[*row][column].abs();
        let best = (column..COEFFICIENTS).max_by(|a, b| size(a).total_cmp(&size(b)))?;
        equations.swap(column, best);
        let pivot = equations[column];
        // Far below the size of the sums, which are of powers from 0 to 1.
        if pivot[column].is_nan() || pivot[column].abs() < 1e-12 {
            return None;
        }
        for (_, equation) in equations.iter_mut().enumerate().filter(|(row, _)| *row != column) {
            let factor = equation[column] / pivot[column];
            equation.iter_mut().zip(pivot).for_each(|(value, of_pivot)| *value -= factor * of_pivot);
        }
    }
    let mut solved = [0.0; COEFFICIENTS];
    for (index, solved) in solved.iter_mut().enumerate() {
        *solved = equations[index][COEFFICIENTS] / equations[index][index];
    }
    Some(solved)
}

/// The mean magnitude at each timestep, in falling order.
fn magnitudes(calls: &[MeasuredCall]) -> Vec<[f32; 2]> {
    let mut timesteps: Vec<f32> = calls.iter().map(|call| call.timestep).collect();
    timesteps.sort_by(|a, b| b.total_cmp(a));
    timesteps.dedup();
    let mean = |timestep: f32| {
        let there = || calls.iter().filter(|call| call.timestep == timestep);
        (there().map(|call| call.magnitude).sum::<f64>() / there().count() as f64) as f32
    };
    timesteps.into_iter().map(|timestep| [timestep, mean(timestep)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(timestep: f32, changes: Option<[f64; 2]>, magnitude: f64) -> MeasuredCall {
        MeasuredCall { timestep, changes, magnitude }
    }

    #[test]
    fn the_polynomial_that_made_the_changes_is_found() {
        let known = [3.0e4, -2.0e3, 50.0, 1.5, 0.01];
        let output = |input: f64| known.iter().fold(0.0, |sum, factor| sum * input + factor);
        let inputs = (0..40).map(|index| 0.002 * f64::from(index));
        let calls: Vec<_> = inputs.map(|input| call(1.0, Some([input, output(input)]), 1.0)).collect();
        let (found, most, fit) = fitted(&calls).unwrap();
        for (found, known) in found.into_iter().zip(known) {
            assert!((f64::from(found) / known - 1.0).abs() < 1e-4, "{found} {known}");
        }
        assert!(fit.error < 1e-8 && fit.pairs == 40 && most == 0.078, "{fit:?} {most}");
    }

    #[test]
    fn too_few_or_equal_inputs_are_refused() {
        let few: Vec<_> = (0..4).map(|index| call(1.0, Some([f64::from(index), 1.0]), 1.0)).collect();
        let alike = vec![call(1.0, Some([0.1, 0.2]), 1.0); 50];
        for calls in [vec![], vec![call(1.0, None, 1.0)], few, alike] {
            assert!(fitted(&calls).unwrap_err().to_string().contains("too few or too alike"), "{calls:?}");
        }
    }

    #[test]
    fn magnitudes_are_means_by_falling_timestep() {
        let calls = [call(1.0, None, 2.0), call(9.0, None, 6.0), call(9.0, None, 8.0)];
        assert_eq!(magnitudes(&calls), [[9.0, 7.0], [1.0, 2.0]]);
    }
}

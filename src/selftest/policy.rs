//! The allowed error of a kernel. Inputs are exact in 16 bits, and the CPU computes the operation in f32. The kernel's
//! error may be twice the error of rounding the CPU's result to 16 bits, plus a floor. Kernels that only move data must
//! be bit-equal.

use super::values::rounded;
use crate::cuda::Half;

/// The allowed error of a result that needs no rounding, relative to its norm.
const FLOOR: f64 = 1e-6;

/// The largest error of a result divided by the allowed error, or a message that says what is wrong.
pub(super) type Verdict = Result<f64, String>;

fn distance(found: &[f32], expected: &[f32]) -> f64 {
    found.iter().zip(expected).map(|(&found, &expected)| f64::from(found - expected).powi(2)).sum::<f64>().sqrt()
}

/// Compares a kernel's result with the f32 result, by the policy above.
pub(super) fn close(found: &[f32], expected: &[f32], half: Half) -> Verdict {
    same_length(found, expected)?;
    let norm = distance(expected, &vec![0.0; expected.len()]);
    let allowed = 2.0 * distance(&rounded(expected, half), expected) + FLOOR * norm;
    let error = distance(found, expected);
    if !within(error, allowed) {
        return Err(format!("error {error:.3e}, allowed {allowed:.3e}, of {norm:.3e}"));
    }
    // The norm above could hide one bad element among many.
    let typical = norm / (expected.len() as f64).sqrt();
    let step = if half == Half::F16 { 1.0 / 1024.0 } else { 1.0 / 128.0 };
    let mut worst = ratio(error, allowed);
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = f64::from(found - expected).abs();
        let allowed = 4.0 * step * (typical + f64::from(expected).abs());
        if !within(error, allowed) {
            return Err(format!("element {i} is {found}, expected {expected}"));
        }
        worst = worst.max(ratio(error, allowed));
    }
    Ok(worst)
}

/// False if either is NaN.
fn within(error: f64, allowed: f64) -> bool {
    error <= allowed
}

/// Compares the bits of two results.
pub(super) fn same(found: &[f32], expected: &[f32]) -> Verdict {
    same_length(found, expected)?;
    match found.iter().zip(expected).position(|(found, expected)| found.to_bits() != expected.to_bits()) {
        Some(i) => Err(format!("element {i} is {}, expected {}: not the same bits", found[i], expected[i])),
        None => Ok(0.0),
    }
}

fn same_length(found: &[f32], expected: &[f32]) -> Result<(), String> {
    if found.len() == expected.len() {
        return Ok(());
    }
    Err(format!("{} elements, expected {}", found.len(), expected.len()))
}

fn ratio(error: f64, allowed: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / allowed }
}

#[cfg(test)]
mod tests {
    use super::super::values::{half_values, values};
    use super::*;

    #[test]
    fn an_error_of_rounding_passes_and_a_larger_one_fails() {
        for half in [Half::F16, Half::Bf16] {
            let expected = values(1, 4000);
            let mut found = rounded(&expected, half);
            let worst = close(&found, &expected, half).unwrap();
            assert!((0.3..0.6).contains(&worst), "{worst}");
            let step = if half == Half::F16 { 1.0 / 1024.0 } else { 1.0 / 128.0 };
            assert!(close(&found.iter().map(|x| x + step).collect::<Vec<_>>(), &expected, half).is_err());
            // One element among many.
            found[500] += 8.0 * step;
            assert!(close(&found, &expected, half).unwrap_err().contains("element 500"));
            assert!(close(&expected[..999], &expected, half).unwrap_err().contains("999 elements, expected 4000"));
        }
    }

    #[test]
    fn nan_and_infinities_never_pass() {
        let expected = half_values(1, 10, Half::F16);
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut found = expected.clone();
            found[3] = wrong;
            assert!(close(&found, &expected, Half::F16).is_err());
            assert!(close(&expected, &found, Half::F16).is_err());
            assert!(same(&found, &expected).is_err());
            assert_eq!(same(&found, &found), Ok(0.0));
        }
        assert!(same(&[0.0], &[-0.0]).is_err());
    }
}

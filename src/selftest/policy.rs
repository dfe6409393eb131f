//! How far a kernel may be from the CPU. Its error against the f32 operation on 16-bit-exact inputs may be twice that of
//! the f32 operation's own result rounded to 16 bits, plus a floor. Movement of data must be bit-equal.

use super::values::rounded;
use crate::cuda::Half;

/// What one step of rounding may be off where everything cancels, relative to the root of the mean square.
const FLOOR: f64 = 1e-6;

/// The largest error of a result, as a part of what is allowed, or what is wrong with it.
pub(super) type Verdict = Result<f64, String>;

fn distance(found: &[f32], expected: &[f32]) -> f64 {
    found.iter().zip(expected).map(|(&found, &expected)| f64::from(found - expected).powi(2)).sum::<f64>().sqrt()
}

/// A kernel's result against the f32 result, by the policy above.
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
    let mut worst = part(error, allowed);
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = f64::from(found - expected).abs();
        let allowed = 4.0 * step * (typical + f64::from(expected).abs());
        if !within(error, allowed) {
            return Err(format!("element {i} is {found}, expected {expected}"));
        }
        worst = worst.max(part(error, allowed));
    }
    Ok(worst)
}

/// What is no number is within nothing, and nothing is within it.
fn within(error: f64, allowed: f64) -> bool {
    error <= allowed
}

/// A result that must have the bits of another.
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

fn part(error: f64, allowed: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / allowed }
}

#[cfg(test)]
mod tests {
    use super::super::values::{half_values, values};
    use super::*;

    #[test]
    fn rounding_passes_and_more_does_not() {
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
    fn what_is_no_number_never_passes() {
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

//! Exact values in f64 with the error that a backend may make: arithmetic that counts the roundings of f32.
//!
//! Every step of a formula adds the error that one rounding to f32 makes, to what the errors of its operands become. So
//! the bound of a result follows from its formula and from the size of its terms, and no tolerance is chosen.

use super::super::policy::Verdict;
use crate::cuda::Half;

/// The unit roundoff of f32.
pub(super) const UNIT: f64 = 1.0 / (1 << 24) as f64;
/// The smallest normal number of f32. A GPU may replace smaller ones by zero.
pub(super) const SMALLEST: f64 = f32::MIN_POSITIVE as f64;
/// The error of a zero whose sign is not known. Products of some such errors are no zeros yet.
const EITHER_ZERO: f64 = 1e-80;

/// A floating-point type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::selftest) enum Precision {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
}

impl From<Half> for Precision {
    fn from(half: Half) -> Self {
        match half {
            Half::F16 => Self::F16,
            Half::Bf16 => Self::Bf16,
        }
    }
}

impl Precision {
    /// Digits of a normal number, and the exponent of the smallest.
    fn format(self) -> (i32, i32) {
        match self {
            Self::F32 => (24, -126),
            Self::F16 => (11, -14),
            Self::Bf16 => (8, -126),
        }
    }

    /// The largest number.
    pub fn largest(self) -> f64 {
        let (digits, lowest) = self.format();
        (2.0 - 2f64.powi(1 - digits)) * 2f64.powi(1 - lowest)
    }

    /// The distance of `x` to the next number away from zero.
    pub fn step(self, x: f64) -> f64 {
        let (digits, lowest) = self.format();
        let exponent = (x.to_bits() >> 52 & 0x7FF) as i32 - 1023;
        2f64.powi(exponent.max(lowest) + 1 - digits)
    }

    /// The nearest number, of two the even one; ∞ from half a step beyond the largest.
    pub fn round(self, x: f64) -> f64 {
        if !x.is_finite() {
            return x;
        }
        let rounded = (x / self.step(x)).round_ties_even() * self.step(x);
        if rounded.abs() > self.largest() { f64::INFINITY.copysign(x) } else { rounded }
    }
}

/// An exact value, and the largest error that a backend may have made before it stores the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::selftest) struct Bounded {
    /// The exact value.
    pub value: f64,
    /// The bound of the error.
    pub error: f64,
}

impl Bounded {
    /// A value without error.
    pub fn exactly(value: impl Into<f64>) -> Self {
        Self { value: value.into(), error: 0.0 }
    }

    /// A result of f32 arithmetic, from operands whose errors change it by up to `error`: it is rounded `roundings`
    /// times. Beyond the largest f32 nothing is known of it.
    pub fn rounded(value: f64, error: f64, roundings: f64) -> Self {
        let flushed = if value == 0.0 && error == 0.0 { 0.0 } else { 4.0 * SMALLEST };
        let error = error + roundings * UNIT * value.abs() + flushed;
        Self { value, error: if value.abs() + error > f64::from(f32::MAX) { f64::INFINITY } else { error } }
    }

    /// The value rounded to 16 bits, where `to` has 16: half a step.
    pub fn stored(self, to: Precision) -> Self {
        if to == Precision::F32 { self } else { Self { error: self.error + to.step(self.value) / 2.0, ..self } }
    }

    pub fn plus(self, other: Self) -> Self {
        Self::rounded(self.value + other.value, self.error + other.error, 1.0)
    }

    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { value: -other.value, ..other })
    }

    pub fn times(self, other: Self) -> Self {
        let error = self.value.abs() * other.error + other.value.abs() * self.error + self.error * other.error;
        Self::rounded(self.value * other.value, error, 1.0)
    }

    /// The quotient by a positive number, computed as a product with its reciprocal: two roundings.
    pub fn over(self, other: Self) -> Self {
        let value = self.value / other.value;
        Self::rounded(value, (self.error + value.abs() * other.error) / (other.value - other.error), 2.0)
    }

    /// x·σ(slope·x) for a slope that may depend on x, where |z| is the size of σ's argument: SiLU and GELU. `steepest` is
    /// the largest derivative of the function.
    ///
    /// The argument has up to six roundings, which change σ by (1 − σ)·|z| units each. The exponential has an error of
    /// four units, the reciprocal of two; the sum and the product are rounded. Exponentials that are no numbers of f32
    /// make a result of less than 2⁻¹²⁰ zero.
    fn gated(self, z: f64, steepest: f64) -> Self {
        let gate = 1.0 / (1.0 + (-z).exp());
        let roundings = 8.0 + 6.0 * z.abs() * (1.0 - gate);
        let value = self.value * gate;
        let flushed = if self.value == 0.0 { 0.0 } else { 2f64.powi(-120) };
        Self::rounded(value, steepest * self.error + flushed, roundings)
    }

    /// x·σ(x)
    pub fn silu(self) -> Self {
        self.gated(self.value, 1.1)
    }

    /// The tanh approximation of GELU, as x·σ(2·√(2/π)·(x + 0.044715·x³)).
    pub fn gelu_tanh(self) -> Self {
        let x = self.value;
        self.gated(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3)), 1.13)
    }

    /// The value limited to ±`limit`; NaN stays.
    pub fn clamp(self, limit: f64) -> Self {
        Self { value: self.value.clamp(-limit, limit), ..self }
    }

    /// The sum of terms in any order, with `additions` additions on the longest way of a term to the result.
    ///
    /// An addition rounds a sum of some of the terms, so it is off by a unit of the sum of all magnitudes at most.
    pub fn sum(terms: &[Self], additions: f64) -> Self {
        let value = terms.iter().map(|term| term.value).sum();
        let (error, size) =
            terms.iter().fold((0.0, 0.0), |(error, size), term| (error + term.error, size + term.value.abs()));
        // A sum of zeros is a zero of either sign, and so is a product with it.
        let flushed = if size == 0.0 { EITHER_ZERO } else { additions * SMALLEST };
        // Some order may have a partial sum beyond f32.
        let error = if size > f64::from(f32::MAX) { f64::INFINITY } else { error + additions * UNIT * size + flushed };
        Self { value, error }
    }

    /// An inner product by tensor cores or by f32: products of 16-bit numbers are exact.
    ///
    /// A tensor core adds up to 16 products and the sum so far. It may cut each of these 17 off below the largest's last
    /// place, which is two units; other devices round every addition. So n terms cost less than 2·(17/16·n + 17) units.
    pub fn product(terms: &[Self]) -> Self {
        Self::sum(terms, 2.125 * terms.len() as f64 + 34.0)
    }
}

/// How results are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::selftest) enum Stored {
    /// Rounded to the nearest number.
    Number(Precision),
    /// Truncated to a byte.
    Byte,
}

/// The exact result of a case.
#[derive(Clone, Debug)]
pub(in crate::selftest) struct Exact {
    pub values: Vec<Bounded>,
    pub stored: Stored,
}

impl Exact {
    /// Results that are stored as `precision`.
    pub fn numbers(values: Vec<Bounded>, precision: Precision) -> Self {
        Self { values, stored: Stored::Number(precision) }
    }

    /// The least and the largest result that is allowed.
    fn range(&self, Bounded { value, error }: Bounded) -> [f64; 2] {
        let ends = [value - error, value + error];
        match self.stored {
            Stored::Number(precision) => ends.map(|end| precision.round(end)),
            Stored::Byte => ends.map(|end| end.clamp(0.0, 255.0).floor()),
        }
    }

    /// Whether each result lies between the exact values' bounds, rounded as the result is: so near the largest number
    /// of the type ∞ may be right, beyond it ∞ is the only right result, and without an error the bits must be equal.
    /// Returns the largest share of an allowed error.
    pub fn judge(&self, found: &[f32]) -> Verdict {
        if found.len() != self.values.len() {
            return Err(format!("{} elements, expected {}", found.len(), self.values.len()));
        }
        let mut worst: f64 = 0.0;
        for (i, (&found, &exact)) in found.iter().zip(&self.values).enumerate() {
            let wrong = |what: String| Err(format!("element {i} is {found:e}, {what}"));
            let found = f64::from(found);
            // Nothing is known of a result whose way leads beyond f32.
            if !exact.error.is_finite() {
                continue;
            }
            if exact.value.is_nan() {
                if !found.is_nan() {
                    return wrong("expected NaN".into());
                }
                continue;
            }
            let [least, most] = self.range(exact);
            let same_sign = exact.error > 0.0 || found.is_sign_negative() == exact.value.is_sign_negative();
            if !(least <= found && found <= most && same_sign) {
                let Bounded { value, error } = exact;
                return wrong(format!("exactly {value:e} with an error of {error:.1e}: {least:e} to {most:e}"));
            }
            if least < most && found.is_finite() {
                let (above, below) = (most - exact.value, exact.value - least);
                let allowed = if found > exact.value { above } else { below };
                worst = worst.max((found - exact.value).abs() / allowed.max(f64::MIN_POSITIVE)).min(1.0);
            }
        }
        Ok(worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn numbers_of_a_type_round_to_themselves_and_others_to_the_nearer_neighbour() {
        for bits in 0..=u16::MAX {
            let numbers = [
                (Precision::F16, f16::from_bits(bits).to_f64(), f16::from_bits(bits.wrapping_add(1)).to_f64()),
                (Precision::Bf16, bf16::from_bits(bits).to_f64(), bf16::from_bits(bits.wrapping_add(1)).to_f64()),
            ];
            for (precision, x, next) in numbers {
                assert!(x.is_nan() || precision.round(x).to_bits() == x.to_bits(), "{x:e}");
                if !x.is_finite() || !next.is_finite() || next.is_sign_negative() != x.is_sign_negative() {
                    continue;
                }
                let middle = (x + next) / 2.0;
                let even = if bits % 2 == 0 { x } else { next };
                assert_eq!(precision.round(middle), even, "between {x:e} and {next:e}");
                assert_eq!(precision.round(middle * 0.999_999 + next * 0.000_001), next);
                assert_eq!(precision.step(x), (next - x).abs());
            }
        }
        assert_eq!(Precision::F32.round(1.0 + 2f64.powi(-25)), 1.0);
        assert_eq!([Precision::F16, Precision::F32].map(Precision::largest), [65504.0, f64::from(f32::MAX)]);
    }

    fn judge(value: f64, error: f64, found: f32) -> bool {
        Exact::numbers(vec![Bounded { value, error }], Precision::F16).judge(&[found]).is_ok()
    }

    #[test]
    fn infinity_is_right_from_the_edge_on() {
        let edge = 65520.0;
        assert!(judge(edge - 0.01, 0.0, 65504.0) && !judge(edge - 0.01, 0.0, f32::INFINITY));
        assert!(judge(edge, 0.0, f32::INFINITY) && !judge(edge, 0.0, 65504.0));
        assert!(judge(edge - 0.01, 0.1, 65504.0) && judge(edge - 0.01, 0.1, f32::INFINITY));
        assert!(judge(-1e6, 1.0, f32::NEG_INFINITY) && !judge(-1e6, 1.0, f32::INFINITY) && !judge(-1e6, 1.0, -65504.0));
        assert!(!judge(1.0, 0.1, f32::NAN) && judge(f64::NAN, 0.0, f32::NAN) && !judge(f64::NAN, 0.0, 1.0));
    }

    #[test]
    fn without_an_error_the_bits_must_be_equal() {
        assert!(judge(-0.0, 0.0, -0.0) && !judge(-0.0, 0.0, 0.0) && judge(-0.0, 1e-9, 0.0));
        assert!(judge(f64::INFINITY, 0.0, f32::INFINITY) && !judge(f64::INFINITY, 0.0, 65504.0));
        assert!(judge(1.0, 0.0, 1.0) && !judge(1.0, 0.0, 1.000_976_6));
    }
}

//! exp and the activations that use it. They are branch-free, so that a loop over a slice becomes vector code in every
//! function that is compiled for wide registers.
//!
//! Products and sums are separate instructions on purpose: without a fused multiply-add, the same input gives the same
//! bits on every machine, and no machine calls the C library for it.

/// Runs `f`, compiled for the widest registers of this processor. Mark the closure and the functions that it calls
/// `#[inline(always)]`.
///
/// [`pulp::Arch::dispatch`] would wrap a closure in another function, which is not inlined and so is compiled for the
/// narrow registers that all processors have.
#[inline(always)]
pub(super) fn widest<R>(f: impl FnMut() -> R) -> R {
    struct Call<F>(F);
    impl<R, F: FnMut() -> R> pulp::WithSimd for Call<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Call(f))
}

/// e^x to about one unit in the last place; 0 or ∞ beyond the range of f32 (so masked scores of −∞ give 0), NaN for
/// NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2. e^r is its Taylor polynomial of degree 7, whose remainder is 5e-9.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding and subtracting 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has 9 bits, so that its product with n is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let tail =
        1.0 / 2.0 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))));
    let fraction = 1.0 + (r + r * r * tail);
    // 2ⁿ as a product of two normal numbers, because n runs from −150 to 128.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    fraction * power(half) * power(n.wrapping_sub(half))
}

/// x·σ(x) = x / (1 + e^−x)
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), computed as x·σ(2·…), which has no cancellation.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    x / (1.0 + exp(-TWICE_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 1009th f32 of both signs up to `limit`.
    fn samples(limit: f32) -> impl Iterator<Item = f32> {
        (0..limit.to_bits()).step_by(1009).flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
    }

    /// The largest error of `f` against `exact`, relative to the value or, below `floor`, to `floor`.
    fn worst(limit: f32, floor: f64, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        samples(limit)
            .map(|x| {
                let expected = exact(f64::from(x));
                (f64::from(f(x)) - expected).abs() / expected.abs().max(floor)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_accurate_over_the_whole_range_and_defined_beyond_it() {
        assert!(worst(87.0, 0.0, exp, f64::exp) < 1.5e-7);
        // Subnormal results have a fixed absolute precision.
        assert!((exp(-100.0) - (-100.0f64).exp() as f32).abs() <= f32::from_bits(1));
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([exp(f32::NEG_INFINITY), exp(-1e30)], [0.0, 0.0]);
        assert_eq!([exp(f32::INFINITY), exp(89.0)], [f32::INFINITY, f32::INFINITY]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_activations_are_accurate() {
        let exact_sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let exact_gelu =
            |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
        assert!(worst(87.0, 1e-30, silu, |x| x * exact_sigmoid(x)) < 3e-7);
        assert!(worst(100.0, 1.0, gelu_tanh, exact_gelu) < 2e-7);
        assert!(worst(1.0, 1e-30, gelu_tanh, exact_gelu) < 4e-7);
        for f in [silu, gelu_tanh] {
            assert_eq!((f(0.0), f(-1000.0), f(1000.0)), (0.0, -0.0, 1000.0));
            assert!(f(f32::NAN).is_nan());
        }
    }
}

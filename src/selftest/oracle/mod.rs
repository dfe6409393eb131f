//! The oracle: random cases with inputs that are made to hurt, and their exact results in f64.
//!
//! Each file holds the cases of one stem: a naive formula of each operation, from its definition in
//! [`crate::ops`], in arithmetic that counts the roundings of f32 ([`bounded`]). A backend's result must lie within the
//! bound that follows. Operations that only move values must keep their bits.
//!
//! A case follows from its number. [`VARIABLE`] chooses the numbers: `OSP_ORACLE=5000` runs the cases below 5,000, and
//! `OSP_ORACLE=417..418` one case again.

mod attention;
pub(super) mod bounded;
mod conv3d;
mod depthwise;
mod distance;
mod embed;
mod enlarge;
mod finite;
mod folded;
mod gemm;
mod groupnorm;
mod hostile;
mod norm;
mod patch;
mod pixels;
mod resample;
mod sampler;
mod spread;
mod tile;

use super::trial::{Body, Trial};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::{Error, Result};
use bounded::{Exact, Precision};
use hostile::Draw;
use std::fmt;
use std::ops::Range;

/// The environment variable that chooses cases.
pub const VARIABLE: &str = "OSP_ORACLE";

/// Cases of each check on a device that has time for few, and for many.
const CASES: [u64; 2] = [21, 210];

/// A case whose exact result is known.
pub(super) trait Known: Body + Sized {
    /// Draws a case.
    fn draw(draw: &mut Draw) -> Self;

    /// Whether kernels of several variants can compute the case.
    fn has_variants(&self) -> bool {
        false
    }

    /// The exact result for inputs that `half` holds, with the errors that a backend may make whose activations are
    /// `precision`.
    fn exact(&self, half: Half, precision: Precision) -> Exact;
}

/// A case with its number.
pub(super) struct Numbered<C> {
    number: u64,
    pub case: C,
}

impl<C: fmt::Debug> fmt::Debug for Numbered<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, case } = self;
        write!(f, "{VARIABLE}={number}..{} {case:?}", number + 1)
    }
}

impl<C: Known> Numbered<C> {
    /// Case `number`.
    pub fn new(number: u64) -> Self {
        Self { number, case: C::draw(&mut Draw::of(number)) }
    }
}

impl<C: Body> Body for Numbered<C> {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        self.case.run(backend, half)
    }
}

/// The numbers of cases that `OSP_ORACLE` chooses; `None` if it is not set.
///
/// # Errors
/// [`Error::Usage`] if it holds neither a number nor a range.
pub fn chosen_cases() -> Result<Option<Range<u64>>> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else { return Ok(None) };
    let text = text.to_string_lossy();
    let (first, end) = text.split_once("..").unwrap_or(("0", &text));
    match (first.parse(), end.parse()) {
        (Ok(first), Ok(end)) => Ok(Some(first..end)),
        _ => {
            Err(Error::Usage(format!("{VARIABLE} is {text:?}, expected a number of cases or a range such as 417..418")))
        }
    }
}

/// Compares the cases of a stem with the oracle. A quick trial has none.
fn check<C: Known>(trial: &mut Trial) -> Result<()> {
    if trial.is_quick() {
        return Ok(());
    }
    let [few, many] = CASES;
    let numbers = chosen_cases()?.unwrap_or(0..if trial.is_thorough() { many } else { few });
    numbers.map(Numbered::<C>::new).try_for_each(|case| {
        let compare = |trial: &mut Trial| trial.against_the_oracle(&case);
        if case.case.has_variants() { trial.with_each_variant(compare) } else { compare(trial) }
    })
}

/// The check of a stem's cases, for each stem that has some.
macro_rules! stems {
    ($($stem:ident)*) => {
        /// The check of a stem against the oracle.
        pub(super) fn check_of(stem: &str) -> Option<super::Check> {
            let run = match stem {
                $(stringify!($stem) => check::<$stem::Case>,)*
                _ => return None,
            };
            Some(super::Check { name: "hostile_inputs_stay_within_the_bounds", run })
        }

        /// The CPU backend computes in f32, from the inputs of both types.
        #[cfg(test)]
        mod on_the_cpu {
            $(#[test]
            fn $stem() {
                super::tests::on_the_cpu::<super::$stem::Case>();
            })*
        }
    };
}

stems! {
    attention conv3d depthwise distance embed enlarge finite folded gemm groupnorm norm patch pixels resample sampler tile
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::selftest::rounded;

    pub(super) fn on_the_cpu<C: Known>() {
        for number in chosen_cases().unwrap().unwrap_or(0..CASES[1]) {
            let case = Numbered::<C>::new(number);
            for half in [Half::F16, Half::Bf16] {
                let found = case.run(&Cpu::new(), half).unwrap();
                let verdict = case.case.exact(half, Precision::F32).judge(&found);
                assert!(verdict.is_ok(), "{case:?}, inputs in {}: {}", half.suffix(), verdict.unwrap_err());
            }
        }
    }

    /// How many of some cases the oracle refuses in f16 if `wrong` computes them, and how many there are.
    pub(super) fn refused<C: Known>(which: impl Fn(&C) -> bool, wrong: impl Fn(&C) -> Vec<f32>) -> [usize; 2] {
        let cases = (0..20_000).map(|number| Numbered::<C>::new(number).case).filter(which).take(40);
        let refuses = |case: C| {
            let found = rounded(&wrong(&case), Half::F16);
            case.exact(Half::F16, Precision::F16).judge(&found).is_err()
        };
        let verdicts: Vec<bool> = cases.map(refuses).collect();
        assert!(verdicts.len() > 4, "too few cases");
        [verdicts.iter().filter(|&&refused| refused).count(), verdicts.len()]
    }

    #[test]
    fn a_case_names_itself_and_follows_from_its_number() {
        let line = |number| format!("{:?}", Numbered::<gemm::Case>::new(number));
        assert!(line(417).starts_with("OSP_ORACLE=417..418 Case {"), "{}", line(417));
        assert_eq!(line(417), line(417));
        assert_ne!(line(417), line(418));
    }
}

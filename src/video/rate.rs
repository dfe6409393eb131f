//! Frame rates as exact fractions: 24, or 30000/1001, for which decimals would drift.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Bounds of a simple fraction: GIF and old players cannot hold larger numbers.
const MAX_NUMERATOR: u32 = 65_535;
const MAX_DENOMINATOR: u32 = 1001;

/// Rates of films, television and screens, the model's rate first.
const USUAL: [(u32, u32); 8] =
    [(24, 1), (25, 1), (30, 1), (50, 1), (60, 1), (24_000, 1001), (30_000, 1001), (60_000, 1001)];

/// Frames per second, a reduced fraction between 1/1000 and 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

impl FrameRate {
    /// `numerator / denominator` frames per second.
    ///
    /// # Errors
    /// [`Error::Usage`] outside 1/1000 … 1000, or if the reduced fraction needs more than 32 bits.
    pub fn new(numerator: u64, denominator: u64) -> Result<Self> {
        let bad = || {
            Error::Usage(format!(
                "{numerator}/{denominator} is not a valid frame rate: expected 0.001 to 1000 frames/s"
            ))
        };
        let divisor = gcd(numerator.into(), denominator.into()).max(1) as u64;
        let (reduced, below) = (numerator / divisor, denominator / divisor);
        let in_range = reduced <= below.saturating_mul(1000) && below <= reduced.saturating_mul(1000);
        match (u32::try_from(reduced), u32::try_from(below)) {
            (Ok(numerator), Ok(denominator)) if in_range && numerator > 0 && denominator > 0 => {
                Ok(Self { numerator, denominator })
            }
            _ => Err(bad()),
        }
    }

    /// The nearest usual rate, which is whole or N·1000/1001 (the NTSC rates); else the nearest [simple](Self::simple)
    /// rate.
    ///
    /// # Errors
    /// [`Error::Usage`] outside 1/1000 … 1000.
    pub fn from_f64(rate: f64) -> Result<Self> {
        if !(0.001..=1000.0).contains(&rate) {
            return Err(Error::Usage(format!("{rate} is not a valid frame rate: expected 0.001 to 1000 frames/s")));
        }
        let ntsc = rate * 1.001;
        if (rate - rate.round()).abs() < 0.0005 {
            Self::new(rate.round() as u64, 1)
        } else if (ntsc - ntsc.round()).abs() < 0.005 && ntsc.round() >= 1.0 {
            Self::new(ntsc.round() as u64 * 1000, 1001)
        } else {
            Ok(nearest(rate))
        }
    }

    /// The nearest rate with a simple fraction: numerator up to 65535, denominator up to 1001. Readers give such rates,
    /// so that every format can hold them.
    pub fn simple(self) -> Self {
        let simple = self.numerator <= MAX_NUMERATOR && self.denominator <= MAX_DENOMINATOR;
        if simple { self } else { nearest(self.as_f64()) }
    }

    /// The mean rate of frames: the last begins `intervals` frames and `ticks` ticks after the first. A second has
    /// `second.0 / second.1` ticks. Times are rounded to ticks, so a usual rate within this error is preferred. A
    /// single frame has no interval, and gets the default rate.
    ///
    /// # Errors
    /// [`Error::Usage`] outside 1/1000 … 1000.
    pub(super) fn of_times(intervals: u64, ticks: u64, second: (u64, u64)) -> Result<Self> {
        if intervals == 0 {
            return Ok(Self::default());
        }
        let (frames, time) = (u128::from(intervals) * u128::from(second.0), u128::from(ticks) * u128::from(second.1));
        if let Some(exact) = Self::reduced(frames, time).filter(|rate| rate.is_usual()) {
            return Ok(exact);
        }
        let rate = frames as f64 / time as f64;
        let explains = |usual: &Self| (frames as f64 / usual.as_f64() - time as f64).abs() <= second.1 as f64;
        let near =
            [rate.round(), (rate * 1.001).round() / 1.001].into_iter().filter_map(|near| Self::from_f64(near).ok());
        let usual = USUAL.map(|(numerator, denominator)| Self { numerator, denominator });
        if let Some(usual) = usual.into_iter().chain(near).find(explains) {
            return Ok(usual);
        }
        Self::reduced(frames, time).map_or_else(|| Self::from_f64(rate), |exact| Ok(exact.simple()))
    }

    /// The reduced fraction of numbers of any size; `None` if it does not fit.
    fn reduced(numerator: u128, denominator: u128) -> Option<Self> {
        let divisor = gcd(numerator, denominator).max(1);
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        Self::new(numerator.try_into().ok()?, denominator.try_into().ok()?).ok()
    }

    /// Whether it is whole or an NTSC rate.
    fn is_usual(self) -> bool {
        self.denominator == 1 || (self.denominator == 1001 && self.numerator.is_multiple_of(1000))
    }

    /// The fraction's numerator.
    pub fn numerator(self) -> u32 {
        self.numerator
    }

    /// The fraction's denominator.
    pub fn denominator(self) -> u32 {
        self.denominator
    }

    /// Frames per second.
    pub fn as_f64(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

/// 24 frames per second, the model's.
impl Default for FrameRate {
    fn default() -> Self {
        Self { numerator: 24, denominator: 1 }
    }
}

/// Reads `24`, `23.976` or `30000/1001`.
impl FromStr for FrameRate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::Usage(format!("{text:?} is not a valid frame rate: expected e.g. 24, 23.976 or 30000/1001"));
        match text.split_once('/') {
            Some((above, below)) => {
                Self::new(above.trim().parse().map_err(|_| bad())?, below.trim().parse().map_err(|_| bad())?)
            }
            None => Self::from_f64(text.trim().parse().map_err(|_| bad())?),
        }
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.denominator == 1 { write!(f, "{}", self.numerator) } else { write!(f, "{:.3}", self.as_f64()) }
    }
}

/// The simple fraction nearest to `rate`, which lies within 1/1000 … 1000; of equally near fractions the simplest.
fn nearest(rate: f64) -> FrameRate {
    let mut best = FrameRate { numerator: 1, denominator: MAX_DENOMINATOR };
    for denominator in 1..=MAX_DENOMINATOR {
        let numerator = (rate * f64::from(denominator)).round() as u32;
        let next = FrameRate { numerator, denominator };
        let error = |fraction: FrameRate| (fraction.as_f64() - rate).abs();
        if (1..=MAX_NUMERATOR).contains(&numerator) && error(next) < error(best) {
            best = next;
        }
    }
    best
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_times(intervals: u64, ticks: u64, second: u64) -> (u32, u32) {
        let rate = FrameRate::of_times(intervals, ticks, (second, 1)).unwrap();
        (rate.numerator, rate.denominator)
    }

    #[test]
    fn times_rounded_to_milliseconds_give_the_original_rate() {
        for (numerator, denominator) in [(24, 1), (25, 1), (30, 1), (60, 1), (12, 1), (24_000, 1001), (30_000, 1001)] {
            for intervals in [100u64, 250, 2000] {
                let ticks = intervals * 1000 * u64::from(denominator) / u64::from(numerator);
                assert_eq!(of_times(intervals, ticks, 1000), (numerator, denominator), "{intervals} intervals");
            }
        }
        assert_eq!(of_times(1, 42, 1000), (24, 1));
    }

    #[test]
    fn exact_times_give_exact_rates() {
        assert_eq!(of_times(1, 1001, 30_000), (30_000, 1001));
        assert_eq!(of_times(16, 16 * 512, 12_288), (24, 1));
        assert_eq!(of_times(1, 1000, 1), (1, 1000));
        assert_eq!(of_times(3, 3 * 1200, 9000), (15, 2));
    }

    #[test]
    fn other_rates_become_the_nearest_simple_fraction() {
        let (numerator, denominator) = of_times(16, 384_000_001, 240_000_000);
        assert_eq!((numerator, denominator), (10, 1));
        let (numerator, denominator) = of_times(1000, 41_234_567, 1_000_000);
        assert!(numerator <= 65_535 && denominator <= 1001);
        assert!((f64::from(numerator) / f64::from(denominator) - 1000.0 / 41.234567).abs() < 1e-5);
        assert_eq!(FrameRate::new(1_000_000, 999_999).unwrap().simple(), FrameRate::new(1, 1).unwrap());
        assert_eq!(FrameRate::new(65_537, 66).unwrap().simple(), FrameRate::new(64_544, 65).unwrap());
    }

    #[test]
    fn a_single_frame_has_the_default_rate_and_frames_without_time_have_none() {
        assert_eq!(of_times(0, 1, 90_000), (24, 1));
        assert!(FrameRate::of_times(5, 0, (1000, 1)).is_err());
        assert!(FrameRate::of_times(1, 1, (90_000, 1)).is_err());
    }
}

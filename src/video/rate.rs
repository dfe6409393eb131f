//! Frame rates as exact fractions: 24, or 30000/1001 where decimals would drift.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

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
        let bad =
            || Error::Usage(format!("{numerator}/{denominator} is no frame rate: expected 0.001 to 1000 frames/s"));
        let divisor = gcd(numerator, denominator).max(1);
        let (reduced, below) = (numerator / divisor, denominator / divisor);
        let in_range = reduced <= below.saturating_mul(1000) && below <= reduced.saturating_mul(1000);
        match (u32::try_from(reduced), u32::try_from(below)) {
            (Ok(numerator), Ok(denominator)) if in_range && numerator > 0 && denominator > 0 => {
                Ok(Self { numerator, denominator })
            }
            _ => Err(bad()),
        }
    }

    /// The nearest usual rate: whole, or N·1000/1001 (the NTSC rates), else in thousandths.
    ///
    /// # Errors
    /// [`Error::Usage`] outside 1/1000 … 1000.
    pub fn from_f64(rate: f64) -> Result<Self> {
        if !(0.001..=1000.0).contains(&rate) {
            return Err(Error::Usage(format!("{rate} is no frame rate: expected 0.001 to 1000 frames/s")));
        }
        let ntsc = rate * 1.001;
        if (rate - rate.round()).abs() < 0.0005 {
            Self::new(rate.round() as u64, 1)
        } else if (ntsc - ntsc.round()).abs() < 0.005 && ntsc.round() >= 1.0 {
            Self::new(ntsc.round() as u64 * 1000, 1001)
        } else {
            Self::new((rate * 1000.0).round() as u64, 1000)
        }
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
        let bad = || Error::Usage(format!("{text:?} is no frame rate: expected e.g. 24, 23.976 or 30000/1001"));
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

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

//! Ranges of axes, and their ticks.

use std::ops::RangeInclusive;

/// An axis from one tick to another.
pub struct Axis {
    /// The ticks are these multiples of the step.
    ticks: RangeInclusive<i64>,
    step: f64,
    decimals: usize,
}

impl Axis {
    /// An axis for values from `least` to `most`, about `count` steps long. Steps are 1, 2 or 5 times a power of ten, at
    /// least `finest`.
    pub fn new(least: f64, most: f64, count: usize, finest: f64) -> Self {
        let step = round_step((most - least) / count as f64, finest);
        // A value that lies on a tick, but for rounding, needs no further tick.
        let (first, last) = ((least / step + 1e-9).floor() as i64, (most / step - 1e-9).ceil() as i64);
        let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        Self { ticks: first..=last.max(first), step, decimals }
    }

    /// The axis with more steps at its end.
    pub fn longer(self, steps: i64) -> Self {
        Self { ticks: *self.ticks.start()..=self.ticks.end() + steps, ..self }
    }

    /// The axis with further steps at its beginning, until it has `steps`.
    pub fn at_least(self, steps: i64) -> Self {
        let (first, last) = (*self.ticks.start(), *self.ticks.end());
        Self { ticks: first.min(last - steps)..=last, ..self }
    }

    /// Where `value` is on the axis, from 0 to 1; values beyond its ends are at the ends.
    pub fn place(&self, value: f64) -> f64 {
        let (first, last) = (*self.ticks.start() as f64, *self.ticks.end() as f64);
        ((value / self.step - first) / (last - first).max(1.0)).clamp(0.0, 1.0)
    }

    /// The ticks: the value of each, and as text.
    pub fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        let value = |tick: i64| tick as f64 * self.step;
        self.ticks.clone().map(move |tick| (value(tick), format!("{:.*}", self.decimals, value(tick))))
    }
}

/// The least of 1, 2 or 5 times a power of ten that is not less than `span` and `finest`.
fn round_step(span: f64, finest: f64) -> f64 {
    let span = span.max(finest);
    let power = 10f64.powf(span.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= span * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<String> {
        axis.ticks().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(texts(&Axis::new(31.03, 35.4, 4, 0.5)), ["30", "32", "34", "36"]);
        assert_eq!(texts(&Axis::new(0.91, 0.9455, 4, 0.001)), ["0.91", "0.92", "0.93", "0.94", "0.95"]);
        assert_eq!(texts(&Axis::new(-0.1, 1.0, 4, 0.001)), ["-0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(texts(&Axis::new(0.0, 32.0, 12, 1.0)), ["0", "5", "10", "15", "20", "25", "30", "35"]);
    }

    #[test]
    fn equal_values_have_an_axis_too() {
        let axis = Axis::new(1.0, 1.0, 4, 0.01).at_least(2);
        assert_eq!(texts(&axis), ["0.98", "0.99", "1.00"]);
        assert_eq!([axis.place(1.0), axis.place(0.99), axis.place(0.0)], [1.0, 0.5, 0.0]);
        let axis = Axis::new(30.0, 30.0, 4, 0.5).longer(1);
        assert_eq!(texts(&axis), ["30.0", "30.5"]);
        assert_eq!([axis.place(30.0), axis.place(f64::INFINITY)], [0.0, 1.0]);
    }
}

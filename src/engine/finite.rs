//! Finds NaN and infinity in the output of a stage, and names the weights that caused them.

use crate::arriving::Arriving;
use crate::backend::Backend;
use crate::checkpoint::{Component, ComponentConfig};
use crate::error::{Error, Result};
use crate::ops::finite::{Finite, FiniteArgs};
use crate::weights::strange;

/// The axes of a buffer, outermost first: their names and sizes. The first size is not used.
pub(crate) type Axes<'a> = &'a [(&'static str, usize)];

/// Element `index` by its place on each axis: `frame 1, row 0, column 7, channel 2`.
fn place(mut index: usize, axes: Axes<'_>) -> String {
    let mut places = Vec::new();
    for &(name, size) in axes.iter().skip(1).rev() {
        places.push(format!("{name} {}", index % size));
        index /= size;
    }
    places.extend(axes.first().map(|(name, _)| format!("{name} {index}")));
    places.reverse();
    places.join(", ")
}

/// The output of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Made<'a> {
    /// The stage, with its step if it has any.
    pub stage: String,
    /// `the latent`, say.
    pub what: &'static str,
    /// Its layout.
    pub axes: Axes<'a>,
}

impl Made<'_> {
    /// Checks values that are on the host: finite, and at most `largest` in magnitude.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the place of the first other value.
    pub fn check(&self, values: &[f32], largest: f32) -> Result<()> {
        match values.iter().position(|value| value.is_nan() || value.abs() > largest) {
            None => Ok(()),
            Some(first) => Err(self.error(first, largest)),
        }
    }

    /// The error for element `first`.
    fn error(&self, first: usize, largest: f32) -> Error {
        let Self { stage, what, axes } = self;
        Error::NotFinite { stage: stage.clone(), what: (*what).to_owned(), place: place(first, axes), largest }
    }
}

/// A check of values on a device whose result is still in flight.
pub(crate) struct Checking {
    op: Finite,
    counts: Box<dyn Arriving>,
    largest: f32,
}

impl Checking {
    /// Starts to check `len` elements of `x` from `offset` on.
    pub fn start<B: Backend>(backend: &B, x: &B::Buffer, offset: usize, len: usize) -> Result<Self> {
        let op = Finite { offset, len };
        Ok(Self { op, counts: backend.finite(&op, FiniteArgs { x })?, largest: backend.largest() })
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the place of the first value that is not finite; element 0 of the check is element `start` of
    /// `made`.
    pub fn end(mut self, made: &Made<'_>, start: usize) -> Result<()> {
        match self.op.first(self.counts.bytes()?) {
            None => Ok(()),
            Some(first) => Err(made.error(start + first, self.largest)),
        }
    }
}

/// If a weight is not finite, the error names the weight instead of the output.
pub(crate) fn blame<C: ComponentConfig>(error: Error, part: &Component<C>) -> Error {
    let Error::NotFinite { stage, what, place, largest } = &error else { return error };
    let tensors = part.config.manifest(Some(&*part.source)).tensors;
    match strange::first(&*part.source, &tensors, *largest) {
        Ok(None) => error,
        Ok(Some(found)) => {
            let cure =
                if found.value.is_finite() { "f16 holds no such value: choose bf16" } else { "download it again" };
            let problem = format!("{found}; {cure} ({stage}: {what} is NaN or infinite from {place} on)");
            Error::weight(part.source.path(), found.tensor, problem)
        }
        Err(unread) => unread,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_axis_by_axis() {
        let axes = [("frame", 3), ("row", 4), ("column", 5), ("channel", 2)];
        assert_eq!(place(0, &axes), "frame 0, row 0, column 0, channel 0");
        assert_eq!(place(40 + 10 * 3 + 2 * 4 + 1, &axes), "frame 1, row 3, column 4, channel 1");
        assert_eq!(place(7, &[("token", 9)]), "token 7");
    }

    #[test]
    fn the_first_value_that_is_no_number_or_too_large_is_named() {
        let made =
            Made { stage: "denoise, step 2 of 3".into(), what: "the latent", axes: &[("row", 2), ("column", 2)] };
        assert!(made.check(&[1.0, -3.0, f32::MAX], f32::MAX).is_ok());
        for (value, largest) in
            [(f32::NAN, f32::MAX), (f32::NEG_INFINITY, f32::MAX), (3e38, 65504.0), (-70_000.0, 65504.0)]
        {
            let problem = made.check(&[1.0, 2.0, 3.0, value, f32::NAN], largest).unwrap_err().to_string();
            assert!(problem.contains("step 2 of 3") && problem.contains("row 1, column 1"), "{problem}");
        }
    }
}

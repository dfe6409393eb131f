//! The operations: each has a descriptor with the sizes, operands (`…Args`), a check of both, and a cost.
//!
//! A descriptor holds only sizes. `validate` checks the element counts of buffers and the shapes of parameters. Only
//! [`crate::backend::Backend`] calls it, before any backend accesses memory. `flops` counts a multiply-add as two. `bytes` counts
//! every input once and every output once, at `element` bytes an activation. Each descriptor's stem names its body in
//! `cpu/`, its kernel in `kernels/`, its test and its bench.

pub mod attention;
pub mod conv3d;
pub mod embed;
pub mod enlarge;
pub mod finite;
pub mod folded;
pub mod gemm;
pub mod groupnorm;
pub mod norm;
mod operands;
pub mod patch;
pub mod pixels;
pub mod resample;
pub mod sampler;
pub mod tile;

pub use operands::{DeviceBuffer, DeviceWeight};

use crate::error::{Error, Result};

/// An argument check: `found` elements must be `expected`.
pub(crate) fn expect_len(op: &'static str, argument: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape { op, argument, expected: format!("{expected} elements"), found: format!("{found} elements") })
}

/// An argument check: a buffer of `found` elements must reach `needed`.
pub(crate) fn expect_at_least(op: &'static str, argument: &'static str, found: usize, needed: usize) -> Result<()> {
    if found >= needed {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        argument,
        expected: format!("at least {needed} elements"),
        found: format!("{found} elements"),
    })
}

/// An argument check: a parameter's shape must be `expected`.
pub(crate) fn expect_shape(
    op: &'static str,
    argument: &'static str,
    found: &[usize],
    expected: &[usize],
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape { op, argument, expected: format!("shape {expected:?}"), found: format!("shape {found:?}") })
}

/// An argument check: a size must not be zero, and other conditions on the descriptor itself.
pub(crate) fn expect_that(
    op: &'static str,
    argument: &'static str,
    holds: bool,
    expected: &str,
    found: impl std::fmt::Debug,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Shape { op, argument, expected: expected.to_owned(), found: format!("{found:?}") })
}

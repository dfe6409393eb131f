//! `combine`: `kernels/sampler.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, ElementType, int};
use crate::error::Result;
use crate::ops::sampler::{Combine, CombineArgs, MAX_TERMS};

params! {
    /// See `kernels/sampler.cu`.
    CombineParams {
        inputs[8]: Address,
        out: Address,
        coefficients[8]: f32,
        limit: f32,
        terms: i32,
        single: i32,
        count: i32,
    }
}

/// Launches [`Combine`]; each buffer may be 16-bit or f32.
pub(super) fn combine(cuda: &Cuda, op: &Combine<'_>, args: CombineArgs<'_, Buffer>) -> Result<()> {
    let CombineArgs { inputs, out } = args;
    let width = if op.len.is_multiple_of(4) { 4 } else { 1 };
    let count = op.len / width;
    let terms = op.coefficients.len();
    let mut params = CombineParams {
        inputs: [Address::NULL; MAX_TERMS],
        out: out.address(),
        coefficients: [0.0; MAX_TERMS],
        limit: op.clamp.unwrap_or(f32::INFINITY),
        terms: int(terms)?,
        single: 0,
        count: int(count)?,
    };
    params.coefficients[..terms].copy_from_slice(op.coefficients);
    for (address, input) in params.inputs.iter_mut().zip(inputs) {
        *address = input.address();
    }
    let places = inputs.iter().copied().zip(0..).chain([(&*out, MAX_TERMS)]);
    let mut bytes = 0;
    for (buffer, place) in places {
        params.single |= i32::from(buffer.precision == ElementType::Single) << place;
        bytes += (op.len * buffer.precision.bytes()) as u64;
    }
    cuda.launch(&cuda.flat("combine", width > 1, count, op.flops(), bytes), &params)
}

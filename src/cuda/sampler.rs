//! `combine`, `hold`: `kernels/sampler.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, ElementType, LaunchPlan, int};
use crate::error::Result;
use crate::ops::sampler::{Combine, CombineArgs, Hold, HoldArgs, MAX_TERMS};

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

params! {
    /// See `kernels/sampler.cu`.
    HoldParams {
        original: Address,
        noise: Address,
        weight: Address,
        sample: Address,
        signal: f32,
        noise_level: f32,
        count: i32,
        padding: i32,
    }
}

/// Elements of a thread: four, if they divide all elements.
fn width(len: usize) -> usize {
    if len.is_multiple_of(4) { 4 } else { 1 }
}

/// Launches [`Combine`]; each buffer may be 16-bit or f32.
pub(super) fn combine(cuda: &Cuda, op: &Combine<'_>, args: CombineArgs<'_, Buffer>) -> Result<()> {
    let CombineArgs { inputs, out } = args;
    let width = width(op.len);
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

/// Launches [`Hold`].
pub(super) fn hold(cuda: &Cuda, op: &Hold, args: HoldArgs<'_, Buffer>) -> Result<()> {
    let width = width(op.len);
    let count = op.len / width;
    let params = HoldParams {
        original: args.original.single(),
        noise: args.noise.single(),
        weight: args.weight.single(),
        sample: args.sample.single(),
        signal: op.signal,
        noise_level: op.noise_level,
        count: int(count)?,
        padding: 0,
    };
    let kernel = if width > 1 { "hold_f32" } else { "hold_ragged_f32" }.to_owned();
    cuda.launch(&LaunchPlan { kernel, ..cuda.flat("hold", width > 1, count, op.flops(), op.bytes()) }, &params)
}

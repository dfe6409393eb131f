//! `linear`: `kernels/gemm.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, LaunchPlan, Weight, int};
use crate::error::Result;
use crate::ops::gemm::{Activation, Linear, LinearArgs, Store};

/// Threads of a block that makes a large tile, and of any other.
pub(crate) const THREADS: [u32; 2] = [256, 128];

params! {
    /// See `kernels/gemm.cu`.
    GemmParams {
        x: Address,
        weight: Address,
        bias: Address,
        gate: Address,
        out: Address,
        rows: i32,
        in_features: i32,
        out_features: i32,
        activation: i32,
        store: i32,
        wide: i32,
        rows_per_gate: i32,
        gate_stride: i32,
        gate_offset: i32,
        first_row: i32,
    }
}

/// Up to this many rows large tiles would be too few for all multiprocessors of a GPU.
const FEW_ROWS: usize = 1024;
/// Shared memory of every kernel: three stages, each a slice of x and one of the weight.
const SHARED_BYTES: usize = 48 << 10;

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tile {
    /// Tiles of 128×128, slices of 32 steps.
    Large,
    /// Tiles of 64×64, slices of 64 steps.
    Small,
    /// The same, loaded element by element.
    Ragged,
}

impl Tile {
    fn of(op: &Linear) -> Self {
        match op.rows {
            _ if !op.in_features.is_multiple_of(8) => Self::Ragged,
            ..=FEW_ROWS => Self::Small,
            _ => Self::Large,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small => "small",
            Self::Ragged => "ragged",
        }
    }

    /// Rows and columns.
    fn side(self) -> usize {
        if self == Self::Large { 128 } else { 64 }
    }

    fn threads(self) -> u32 {
        THREADS[usize::from(self != Self::Large)]
    }

    fn blocks(self, op: &Linear) -> usize {
        // A gated tile holds both halves of half as many columns.
        let columns = if op.activation == Activation::GatedGeluTanh { self.side() / 2 } else { self.side() };
        op.rows.div_ceil(self.side()) * op.out_features.div_ceil(columns)
    }
}

/// `Activation` of the kernel.
fn activation(activation: Activation) -> i32 {
    match activation {
        Activation::None => 0,
        Activation::Silu => 1,
        Activation::GeluTanh => 2,
        Activation::GatedGeluTanh => 3,
    }
}

/// Launches [`Linear`].
pub(super) fn linear(cuda: &Cuda, op: &Linear, args: LinearArgs<'_, Buffer, Weight>) -> Result<()> {
    let LinearArgs { x, weight, bias, gate, out } = args;
    // Sizes of the gate are only read by a gated store.
    let (store, rows_per_gate, gate_stride, gate_offset) = match op.store {
        Store::Overwrite => (0, 1, 0, 0),
        Store::Add => (1, 1, 0, 0),
        Store::AddGated { rows_per_gate, gate_stride, gate_offset } => (2, rows_per_gate, gate_stride, gate_offset),
    };
    let place = op.place();
    let wide = [op.out_features, gate_stride, gate_offset, place.weight_row].iter().all(|len| len.is_multiple_of(8));
    // Rows of x and of the weight begin on multiples of sixteen bytes wherever the kernel needs it, as all of them do.
    let behind = |address: Address, elements: usize| Address(address.0 + 2 * elements as u64);
    let params = GemmParams {
        x: behind(x.half(), place.x_row * op.in_features),
        weight: behind(weight.address(), place.weight_row * op.in_features),
        bias: bias.map_or(Address::NULL, |bias| behind(bias.address(), place.weight_row)),
        gate: gate.map_or(Address::NULL, Buffer::half),
        out: behind(out.half(), place.out_row * op.out_features),
        rows: int(op.rows)?,
        in_features: int(op.in_features)?,
        out_features: int(op.out_features)?,
        activation: activation(op.activation),
        store,
        wide: i32::from(wide),
        rows_per_gate: int(rows_per_gate)?,
        gate_stride: int(gate_stride)?,
        gate_offset: int(gate_offset)?,
        first_row: int(place.out_row)?,
    };
    let tile = Tile::of(op);
    let plan = LaunchPlan {
        kernel: format!("linear_{}_{}", tile.name(), cuda.half.suffix()),
        grid: [tile.blocks(op), 1, 1],
        threads: tile.threads(),
        shared_bytes: SHARED_BYTES,
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch(&plan, &params)
}

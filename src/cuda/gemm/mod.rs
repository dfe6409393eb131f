//! `linear`: `kernels/gemm.cu`, and `kernels/gemm_sm90.cu` on Hopper.

pub(super) mod sm90;

use super::choice::Tile;
use super::params::{Address, params};
use super::{Buffer, Cuda, LaunchPlan, Variant, Weight, int};
use crate::error::Result;
use crate::ops::gemm::{Activation, Linear, LinearArgs, Store};

/// Threads of a block for a large tile, and for any other.
pub(crate) const THREADS: [u32; 2] = [256, 128];

params! {
    /// See `kernels/gemm.cu`.
    GemmParams {
        x: Address,
        weight: Address,
        bias: Address,
        gate: Address,
        statistics: Address,
        columns: Address,
        moments: Address,
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

/// Shared memory of every kernel: three stages, each a slice of x and one of the weight.
const SHARED_BYTES: usize = 48 << 10;

pub(super) const OPERATION: &str = "linear";
/// The tiles of `kernels/gemm.cu`. An element has the same bits in each.
pub(super) const TILES: [Tile; 3] =
    [Tile::new("small", [64, 64], [2, 2]), Tile::new(LARGE, [128, 128], [2, 4]), Tile::new(RAGGED, [64, 64], [2, 2])];
const LARGE: &str = "large";
/// The only tile for rows that are not whole vectors.
const RAGGED: &str = "ragged";

/// The tiles for a product, with the blocks of each launch. A part of a linear layer may take another tile than the
/// whole.
fn candidates(op: &Linear) -> impl Iterator<Item = (Tile, usize)> {
    let ragged = !op.in_features.is_multiple_of(8);
    TILES.iter().filter(move |tile| ragged == (tile.name == RAGGED)).map(|tile| (*tile, blocks(tile, op)))
}

fn blocks(tile: &Tile, op: &Linear) -> usize {
    // Half of a gated tile's columns are values, the other half their gates.
    let columns = if op.activation == Activation::GatedGeluTanh { tile.columns / 2 } else { tile.columns };
    op.rows.div_ceil(tile.rows) * op.out_features.div_ceil(columns)
}

/// The kernel's number for an activation.
fn activation(activation: Activation) -> i32 {
    match activation {
        Activation::None => 0,
        Activation::Silu => 1,
        Activation::GeluTanh => 2,
        Activation::GatedGeluTanh => 3,
    }
}

/// What a layer does with its sums, as the kernels take it.
struct Fused {
    bias: Address,
    gate: Address,
    statistics: Address,
    columns: Address,
    moments: Address,
    out: Address,
    activation: i32,
    store: i32,
    wide: i32,
    rows_per_gate: i32,
    gate_stride: i32,
    gate_offset: i32,
    first_row: i32,
}

/// The address of an element of a 16-bit buffer.
fn behind(address: Address, elements: usize) -> Address {
    Address(address.0 + 2 * elements as u64)
}

/// The address of a pair of f32.
fn pair(buffer: &Buffer, index: usize) -> Address {
    Address(buffer.single().0 + (index * 2 * size_of::<f32>()) as u64)
}

impl Fused {
    fn of(op: &Linear, args: &LinearArgs<'_, Buffer, Weight>) -> Result<Self> {
        // Only a gated store reads the gate's sizes.
        let (store, rows_per_gate, gate_stride, gate_offset) = match op.store {
            Store::Overwrite => (0, 1, 0, 0),
            Store::Add => (1, 1, 0, 0),
            Store::AddGated { rows_per_gate, gate_stride, gate_offset } => (2, rows_per_gate, gate_stride, gate_offset),
        };
        let (place, groups) = (op.place(), op.moments().groups());
        let wide =
            [op.out_features, gate_stride, gate_offset, place.weight_row].iter().all(|len| len.is_multiple_of(8));
        Ok(Self {
            bias: args.bias.map_or(Address::NULL, |bias| behind(bias.address(), place.weight_row)),
            gate: args.gate.map_or(Address::NULL, Buffer::half),
            statistics: args.norm.as_ref().map_or(Address::NULL, |norm| pair(norm.statistics, place.x_row)),
            columns: args.norm.as_ref().map_or(Address::NULL, |norm| pair(norm.columns, place.weight_row)),
            moments: args.moments.as_deref().map_or(Address::NULL, |moments| pair(moments, place.out_row * groups)),
            out: behind(args.out.half(), place.out_row * op.out_features),
            activation: activation(op.activation),
            store,
            wide: i32::from(wide),
            rows_per_gate: int(rows_per_gate)?,
            gate_stride: int(gate_stride)?,
            gate_offset: int(gate_offset)?,
            first_row: int(place.out_row)?,
        })
    }
}

/// Launches [`Linear`].
pub(super) fn linear(cuda: &Cuda, op: &Linear, args: LinearArgs<'_, Buffer, Weight>) -> Result<()> {
    let fused = Fused::of(op, &args)?;
    if cuda.variant == Variant::Sm90 && sm90::takes(op) {
        return sm90::linear(cuda, op, args, &fused);
    }
    let place = op.place();
    // Where the kernel needs it, all rows of x and of the weight begin at multiples of 16 bytes, and so do a part's.
    let params = GemmParams {
        x: behind(args.x.half(), place.x_row * op.in_features),
        weight: behind(args.weight.address(), place.weight_row * op.in_features),
        bias: fused.bias,
        gate: fused.gate,
        statistics: fused.statistics,
        columns: fused.columns,
        moments: fused.moments,
        out: fused.out,
        rows: int(op.rows)?,
        in_features: int(op.in_features)?,
        out_features: int(op.out_features)?,
        activation: fused.activation,
        store: fused.store,
        wide: fused.wide,
        rows_per_gate: fused.rows_per_gate,
        gate_stride: fused.gate_stride,
        gate_offset: fused.gate_offset,
        first_row: fused.first_row,
    };
    let choice = cuda.choose(OPERATION, candidates(op))?;
    let plan = LaunchPlan {
        kernel: format!("linear_{}_{}", choice.taken.name, cuda.half.suffix()),
        grid: [choice.taken.blocks, 1, 1],
        threads: THREADS[usize::from(choice.taken.name != LARGE)],
        shared_bytes: SHARED_BYTES,
        flops: op.flops(),
        bytes: args.bytes(op, 2),
    };
    cuda.launch_chosen(&plan, Some(&choice), &params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Choice;

    #[test]
    fn the_tile_depends_on_the_gpu_and_the_shape() {
        let published = |rows, inner, outer| Linear::new(rows, inner, outer);
        let gated = |rows| Linear::new(rows, 4096, 10_240).activation(Activation::GatedGeluTanh);
        for (op, [on_132, on_30, on_16]) in [
            // LatteT2V at 65 frames: the layers of a block, and the last one, whose 32 columns fill little of a tile.
            (published(34_816, 1152, 1152), ["large"; 3]),
            (published(34_816, 1152, 3456), ["large"; 3]),
            (published(34_816, 1152, 32), ["small"; 3]),
            // An image: of 144 large tiles, some multiprocessors of a large GPU get two, and most get one.
            (published(2048, 1152, 1152), ["small", "large", "large"]),
            (published(2048, 1152, 4608), ["large"; 3]),
            // T5-XXL.
            (published(120, 4096, 4096), ["small", "small", "large"]),
            (gated(120), ["small", "large", "large"]),
            (gated(160), ["small", "large", "large"]),
            (gated(300), ["large"; 3]),
            // One vector for each sample.
            (published(2, 1152, 6912), ["small"; 3]),
            (published(34_816, 1150, 1152), ["ragged"; 3]),
        ] {
            for (multiprocessors, expected) in [(132, on_132), (30, on_30), (16, on_16)] {
                let choice = Choice::of(OPERATION, candidates(&op), multiprocessors, None);
                assert_eq!(choice.taken.name, expected, "{op:?} on {multiprocessors}: {choice}");
            }
        }
    }
}

//! `linear`: `kernels/gemm.cu`, and `kernels/gemm_sm90.cu` on Hopper.

pub(super) mod sm90;

use super::choice::Tile;
use super::params::{Address, params};
use super::{Buffer, Cuda, LaunchPlan, Variant, Weight, int};
use crate::error::Result;
use crate::ops::gemm::{Activation, Linear, LinearArgs, Store};

/// Threads of a block.
pub(crate) const THREADS: u32 = 128;

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

/// Shared memory that the system reserves in every block.
const RESERVED: usize = 1 << 10;

pub(super) const OPERATION: &str = "linear";
/// The only tile for rows that are not whole vectors.
const RAGGED: &str = "ragged";

/// A kernel: its tile, and its shared memory, which holds stages of a slice of x and one of the weight.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub tile: Tile,
    shared_bytes: usize,
}

impl Kernel {
    /// Four warps share the tile.
    const fn new(name: &'static str, size: [usize; 2], shared_bytes: usize) -> Self {
        Self { tile: Tile::new(name, size, [2, 2]), shared_bytes }
    }

    /// The tile on a GPU whose blocks may have `most_shared` bytes.
    fn tile_on(&self, most_shared: usize) -> Tile {
        self.tile.with_room_for((most_shared + RESERVED) / (self.shared_bytes + RESERVED))
    }
}

/// The kernels of `kernels/gemm.cu`. An element has the same bits in each.
pub(super) const KERNELS: [Kernel; 4] = [
    Kernel::new("small", [64, 64], 48 << 10),
    Kernel::new("large", [128, 128], 48 << 10),
    Kernel::new("broad", [128, 192], 80 << 10),
    Kernel::new(RAGGED, [64, 64], 48 << 10),
];

/// The tiles for a product, with the blocks of each launch, on a GPU whose blocks may have `most_shared` bytes of
/// shared memory. A part of a linear layer may take another tile than the whole.
fn candidates(op: &Linear, most_shared: usize) -> impl Iterator<Item = (Tile, usize)> {
    let ragged = !op.in_features.is_multiple_of(8);
    let kernels = KERNELS.iter().filter(move |kernel| ragged == (kernel.tile.name == RAGGED));
    kernels.map(move |kernel| (kernel.tile_on(most_shared), blocks(&kernel.tile, op)))
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
    let choice = cuda.choose(OPERATION, candidates(op, cuda.device.most_shared()))?;
    let kernel = KERNELS.iter().find(|kernel| kernel.tile.name == choice.taken.name).expect("it is a candidate");
    let plan = LaunchPlan {
        kernel: format!("linear_{}_{}", kernel.tile.name, cuda.half.suffix()),
        grid: [choice.taken.blocks, 1, 1],
        threads: THREADS,
        shared_bytes: kernel.shared_bytes,
        flops: op.flops(),
        bytes: args.bytes(op, 2),
    };
    cuda.launch_chosen(&plan, Some(&choice), &params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Choice;

    /// The most shared memory of a block on an A100, an H100 and an RTX 4090.
    const A100: usize = 163 << 10;
    const H100: usize = 227 << 10;
    const RTX_4090: usize = 99 << 10;

    fn chosen(op: &Linear, multiprocessors: usize, most_shared: usize) -> Choice {
        Choice::of(OPERATION, candidates(op, most_shared), multiprocessors, None)
    }

    fn published(rows: usize, inner: usize, outer: usize) -> Linear {
        Linear::new(rows, inner, outer)
    }

    #[test]
    fn the_tile_depends_on_the_gpu_and_the_shape() {
        let gated = |rows| published(rows, 4096, 10_240).activation(Activation::GatedGeluTanh);
        for (op, [on_132, on_30, on_16]) in [
            // LatteT2V at 65 frames: the layers of a block, and the last one, whose 32 columns fill little of a tile.
            (published(34_816, 1152, 1152), ["broad"; 3]),
            (published(34_816, 1152, 3456), ["broad"; 3]),
            (published(34_816, 1152, 32), ["small"; 3]),
            // An image: 144 large tiles, 96 broad ones.
            (published(2048, 1152, 1152), ["large", "large", "broad"]),
            (published(2048, 1152, 4608), ["broad"; 3]),
            // T5-XXL.
            (published(120, 4096, 4096), ["small", "large", "large"]),
            (gated(120), ["large", "broad", "large"]),
            (gated(160), ["broad", "large", "large"]),
            (gated(300), ["large", "broad", "large"]),
            // One vector for each sample.
            (published(2, 1152, 6912), ["small"; 3]),
            (published(34_816, 1150, 1152), ["ragged"; 3]),
        ] {
            for (multiprocessors, expected) in [(132, on_132), (30, on_30), (16, on_16)] {
                let choice = chosen(&op, multiprocessors, H100);
                assert_eq!(choice.taken.name, expected, "{op:?} on {multiprocessors}: {choice}");
            }
        }
    }

    #[test]
    fn broad_tiles_are_for_gpus_with_room_for_two() {
        let room = |most_shared| KERNELS.map(|kernel| (most_shared + RESERVED) / (kernel.shared_bytes + RESERVED));
        assert_eq!([A100, H100, RTX_4090].map(room), [[3, 3, 2, 3], [4, 4, 2, 4], [2, 2, 1, 2]]);
        for outer in [1152, 3456, 4608] {
            let op = published(57_344, 1152, outer);
            let names =
                [(108, A100), (132, H100), (128, RTX_4090)].map(|(count, most)| chosen(&op, count, most).taken.name);
            assert_eq!(names, ["broad", "broad", "large"], "{outer}");
        }
    }
}

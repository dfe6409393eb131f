//! `conv3d` on Hopper: `kernels/conv3d_sm90.cu`.

use super::OPERATION;
use crate::cuda::choice::Tile;
use crate::cuda::params::{Address, TensorMap, params};
use crate::cuda::{Buffer, Cuda, LaunchPlan, Weight, int};
use crate::error::{Error, Result};
use crate::ops::conv3d::{Conv3d, ConvArgs, SpacePadding};
use crate::ops::groupnorm::Moments;

/// Threads of a block: a warpgroup that copies, and two that multiply.
pub(crate) const THREADS: u32 = 384;

params! {
    /// See `kernels/conv3d_sm90.cu`.
    CausalConv3dSm90Params {
        x_map: TensorMap,
        weight_map: TensorMap,
        other_map: TensorMap,
        out_map: TensorMap,
        bias: Address,
        moments: Address,
        height: i32,
        width: i32,
        cin: i32,
        cout: i32,
        kt: i32,
        first_frame: i32,
        frames: i32,
        out_frame: i32,
        other_frame: i32,
        adds: i32,
        group: i32,
        groups: i32,
        conv_scale: f32,
        other_scale: f32,
    }
}

/// Taps of a row and of a column of the kernel, and of a phase of an enlargement; those of a column read the same slice of
/// the input.
const TAPS: usize = 3;
const PHASE_TAPS: usize = 2;
/// Channels of a slice, and their bytes, which a swizzle mixes.
const SLICE: usize = 64;
const SWIZZLE: u32 = 128;
/// Rows and columns of a slab of moments; a tile has one or two below each other.
const SLAB: [usize; 2] = [8, 16];
const _: () = assert!(SLAB[0] * SLAB[1] == Moments::SLAB);
/// Channels of a tile: the rows of its products.
const CHANNELS: usize = 128;
/// Blocks of a cluster, which make the boxes beside each other.
const CLUSTER: usize = 2;
/// The most channels of a group of moments.
const LARGEST_GROUP: usize = 16;

/// A kernel: its tile, its taps, the rows of its box, and its shared memory.
pub(in crate::cuda) struct Kernel {
    pub tile: Tile,
    taps: usize,
    rows: usize,
    shared_bytes: usize,
}

/// The kernels of `kernels/conv3d_sm90.cu`. Of those that can compute a convolution, each gives the same bits.
pub(in crate::cuda) const KERNELS: [Kernel; 3] = [
    Kernel::new("small", TAPS, 8, 209 << 10),
    Kernel::new("large", TAPS, 16, 221 << 10),
    Kernel::new("enlarged", PHASE_TAPS, 16, 215 << 10),
];

/// Whether the kernels can compute this convolution, whose output is normalised in groups of `group` channels if at all.
/// The number of frames does not count, so that a stretch of time has the bits of the whole.
pub(super) fn takes(op: &Conv3d, group: Option<usize>) -> bool {
    let Conv3d { height, width, cin, cout, upsample, .. } = *op;
    let taps = op.kernel[1..] == [TAPS; 2] && op.stride == [1, 1] && op.padding == SpacePadding::Same;
    // A slice must be whole, and fewer channels would leave most of a tile empty. Behind the channels of a phase, the map of
    // an enlarged frame goes on with the next phase, so a slab must end with them.
    let channels = cin.is_multiple_of(SLICE) && cout.is_multiple_of(if upsample { SLICE } else { 8 }) && cout >= SLICE;
    // All slabs of moments but a frame's last have the same number of positions.
    let alike = height.is_multiple_of(SLAB[0]) && width.is_multiple_of(SLAB[1]);
    let slabs = alike || !upsample && height <= SLAB[0] && width <= SLAB[1];
    taps && channels && group.is_none_or(|group| group.is_power_of_two() && group <= LARGEST_GROUP && slabs)
}

impl Kernel {
    const fn new(name: &'static str, taps: usize, rows: usize, shared_bytes: usize) -> Self {
        let tile = Tile::of_warpgroup(name, [CHANNELS, rows * SLAB[1]]);
        let brought = CHANNELS + ((rows + taps - 1) * SLAB[1]).div_ceil(taps);
        Self { tile: Tile { brought, ..tile }, taps, rows, shared_bytes }
    }

    /// Whether it can compute a convolution that [`takes`] accepts.
    fn fits(&self, op: &Conv3d) -> bool {
        self.taps == op.taps()[1]
    }

    /// Tiles of the output, in whole clusters.
    fn tiles(&self, op: &Conv3d) -> usize {
        let boxes = op.height.div_ceil(self.rows) * op.width.div_ceil(SLAB[1]);
        op.computed().len() * op.phases() * boxes.next_multiple_of(CLUSTER) * op.cout.div_ceil(CHANNELS)
    }
}

/// The kernels for a convolution.
fn candidates(op: &Conv3d) -> impl Iterator<Item = (Tile, usize)> {
    KERNELS.iter().filter(|kernel| kernel.fits(op)).map(|kernel| (kernel.tile, kernel.tiles(op)))
}

/// A map of frames of `channels` channels, in boxes of a slice by `rows` rows.
fn map_of_frames(address: Address, op: &Conv3d, channels: usize, frames: usize, rows: usize) -> Result<TensorMap> {
    let strides = [channels, op.width * channels, op.height * op.width * channels];
    let sizes = [channels, op.width, op.height, frames];
    let boxes = [SLICE as u32, SLAB[1] as u32, rows as u32, 1];
    TensorMap::new(address, sizes, &strides, boxes, SWIZZLE).map_err(Error::Unsupported)
}

/// A map of frames of the output, in boxes of one slab. A slab of an enlarged frame lies in one phase.
fn map_of_slabs(buffer: &Buffer, op: &Conv3d, frames: usize) -> Result<TensorMap> {
    let address = buffer.half();
    if !op.upsample {
        return map_of_frames(address, op, op.cout, frames, SLAB[0]);
    }
    let (pair, row) = (2 * op.cout, 2 * op.width * op.cout);
    let sizes = [pair, op.width, 2, op.height, frames];
    let boxes = [SLICE as u32, SLAB[1] as u32, 1, SLAB[0] as u32, 1];
    TensorMap::new(address, sizes, &[pair, row, 2 * row, 2 * op.height * row], boxes, SWIZZLE)
        .map_err(Error::Unsupported)
}

/// Launches [`Conv3d`], which [`takes`] must have accepted, with groups of moments of `group` channels.
pub(super) fn conv3d(cuda: &Cuda, op: &Conv3d, args: ConvArgs<'_, Buffer, Weight>, group: Option<usize>) -> Result<()> {
    let ConvArgs { x, weight, bias, other, moments, out } = args;
    let choice = cuda.choose(OPERATION, candidates(op))?;
    let kernel = KERNELS.iter().find(|kernel| kernel.tile.name == choice.taken.name).expect("it is a candidate");
    let computed = op.computed().len();
    let weight_sizes = [op.taps().iter().product::<usize>() * op.cin, op.phases() * op.cout];
    let out_map = map_of_slabs(out, op, op.out_frame() + computed)?;
    let params = CausalConv3dSm90Params {
        x_map: map_of_frames(x.half(), op, op.cin, op.frames, kernel.rows + kernel.taps - 1)?,
        weight_map: TensorMap::new(weight.address(), weight_sizes, &weight_sizes[..1], [SLICE as u32; 2], SWIZZLE)
            .map_err(Error::Unsupported)?,
        other_map: other.map_or(Ok(out_map), |other| map_of_slabs(other, op, op.other_frame() + computed))?,
        out_map,
        bias: bias.map_or(Address::NULL, Weight::address),
        moments: moments.map_or(Address::NULL, |moments| moments.single()),
        height: int(op.height)?,
        width: int(op.width)?,
        cin: int(op.cin)?,
        cout: int(op.cout)?,
        kt: int(op.kernel[0])?,
        first_frame: int(op.computed().start)?,
        frames: int(computed)?,
        out_frame: int(op.out_frame())?,
        other_frame: int(op.other_frame())?,
        adds: i32::from(other.is_some()),
        group: int(group.unwrap_or(1))?,
        groups: int(op.moment_groups)?,
        conv_scale: op.conv_scale,
        other_scale: op.other_scale,
    };
    // Blocks stay on their multiprocessors and make one tile after another.
    let together = (cuda.multiprocessors / CLUSTER * CLUSTER).max(CLUSTER);
    let plan = LaunchPlan {
        kernel: format!("causal_conv3d_sm90_{}_{}", kernel.tile.name, cuda.half.suffix()),
        grid: [choice.taken.blocks.min(together), 1, 1],
        threads: THREADS,
        shared_bytes: kernel.shared_bytes,
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch_chosen(&plan, Some(&choice), &params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Choice;

    fn conv([frames, side, cin, cout]: [usize; 4]) -> Conv3d {
        Conv3d::new(frames, side, side, cin, cout, [3; 3])
    }

    #[test]
    fn the_levels_of_the_vae_run_in_boxes() {
        for (size, group, expected) in [
            ([65, 256, 128, 128], 4, "large"),
            ([65, 128, 256, 256], 8, "large"),
            ([33, 64, 512, 512], 16, "large"),
            // 272 large tiles on 132 multiprocessors: three rounds, where 544 small ones take five of half the length.
            ([17, 32, 512, 512], 16, "small"),
            ([1, 256, 128, 128], 4, "large"),
            ([1, 32, 512, 512], 16, "small"),
        ] {
            let op = conv(size);
            assert!(takes(&op, Some(group)) && takes(&op, None), "{size:?}");
            assert_eq!(Choice::of(OPERATION, candidates(&op), 132, None).taken.name, expected, "{size:?}");
        }
        let op = Conv3d { upsample: true, ..conv([17, 32, 512, 512]) };
        assert!(takes(&op, Some(16)));
        assert_eq!(Choice::of(OPERATION, candidates(&op), 132, None).taken.name, "enlarged");
    }

    #[test]
    fn other_convolutions_are_left_to_the_kernels_of_every_gpu() {
        let good = conv([2, 16, 64, 64]);
        assert!(takes(&good, Some(2)));
        for other in [
            conv([2, 16, 4, 64]),
            conv([2, 16, 96, 64]),
            conv([2, 16, 64, 3]),
            Conv3d { kernel: [3, 1, 1], ..good },
            Conv3d { stride: [2, 1], ..good },
            Conv3d { stride: [1, 2], padding: SpacePadding::RightBottom, ..good },
            Conv3d { upsample: true, ..conv([2, 16, 64, 72]) },
        ] {
            assert!(!takes(&other, None), "{other:?}");
        }
        // Groups of 32 and of three channels; slabs that do not fill a frame of 20×20, and one that holds a whole frame.
        assert!(!takes(&good, Some(32)) && !takes(&conv([2, 16, 64, 96]), Some(3)));
        assert!(!takes(&conv([2, 20, 64, 64]), Some(2)) && takes(&conv([2, 20, 64, 64]), None));
        let one_slab = conv([2, 5, 64, 64]);
        assert!(takes(&one_slab, Some(2)) && !takes(&Conv3d { upsample: true, ..one_slab }, Some(2)));
    }

    #[test]
    fn tiles_come_in_whole_clusters() {
        let tiles = |op: &Conv3d| candidates(op).map(|(_, tiles)| tiles).collect::<Vec<_>>();
        // In each of two frames, 3×2 small boxes or 2×2 large ones; two tiles of channels.
        assert_eq!(tiles(&Conv3d::new(2, 17, 20, 64, 192, [3; 3])), [2 * 6 * 2, 2 * 4 * 2]);
        // One frame: three small boxes and one below the frame, or two large ones.
        let op = Conv3d { only: Some([1, 2]), ..Conv3d::new(2, 24, 16, 64, 64, [3; 3]) };
        assert_eq!(tiles(&op), [4, 2]);
        assert_eq!(tiles(&Conv3d { upsample: true, ..op }), [4 * 2]);
    }
}

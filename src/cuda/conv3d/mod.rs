//! `conv3d`: `kernels/conv3d.cu`, and `kernels/conv3d_sm90.cu` on Hopper.

pub(super) mod sm90;

use super::choice::Tile;
use super::params::{Address, params};
use super::{Buffer, Cuda, LaunchPlan, Variant, Weight, int};
use crate::error::{Error, Result};
use crate::ops::conv3d::{Conv3d, ConvArgs, SpacePadding};
use crate::ops::groupnorm::Moments;

/// Threads of a block.
pub(crate) const THREADS: u32 = 128;

params! {
    /// See `kernels/conv3d.cu`.
    CausalConv3dParams {
        x: Address,
        weight: Address,
        bias: Address,
        other: Address,
        out: Address,
        moments: Address,
        height: i32,
        width: i32,
        cin: i32,
        cout: i32,
        kt: i32,
        kh: i32,
        kw: i32,
        time_stride: i32,
        stride: i32,
        pad_y: i32,
        pad_x: i32,
        factor: i32,
        out_width: i32,
        positions: i32,
        first_frame: i32,
        frames: i32,
        out_frame: i32,
        other_frame: i32,
        columns: i32,
        wide: i32,
        group: i32,
        groups: i32,
        conv_scale: f32,
        other_scale: f32,
    }
}

/// Positions of a tile: one slab of moments.
const POSITIONS: usize = Moments::SLAB;
/// Rows of a kernel's input window.
const WINDOW_ROWS: usize = 160;
/// Taps that read the same window, if the input is not enlarged.
const TAPS: usize = 3;
/// Bytes of a row of a slice.
const SLICE_ROW: usize = 64;
/// Channels of the narrow tile, for the last layer of a coder.
const NARROW: usize = 8;

/// How a kernel loads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// One slice for all taps of a kernel row.
    Windows,
    /// One slice for each tap.
    Strided,
    /// Element by element.
    Ragged,
}

impl Input {
    /// The way for a convolution: windows wherever they are possible, because several taps then read one slice.
    fn of(op: &Conv3d) -> Self {
        let windows = op.kernel[2] == TAPS && op.stride[1] == 1 && op.padding == SpacePadding::Same;
        match op.cin.is_multiple_of(8) {
            false => Self::Ragged,
            true if windows && window_rows(op) <= WINDOW_ROWS => Self::Windows,
            true => Self::Strided,
        }
    }
}

/// The most rows of a window under a tile: its positions, and the zeros beside each row of the frame that it reaches.
fn window_rows(op: &Conv3d) -> usize {
    let (beside, [_, width]) = (op.taps()[2] - 1, phase_size(op));
    // A tile may begin at the end of a row of the frame. Frames without columns have no tiles.
    POSITIONS + beside * ((POSITIONS + width - 2) / width.max(1) + 1)
}

/// Rows and columns of a phase of an output frame.
fn phase_size(op: &Conv3d) -> [usize; 2] {
    let [_, height, width, _] = op.out_shape();
    if op.upsample { [op.height, op.width] } else { [height, width] }
}

/// A kernel: how it loads its input, and its tile of positions and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    input: Input,
    pub tile: Tile,
}

pub(super) const OPERATION: &str = "conv3d";
/// The kernels of `kernels/conv3d.cu`. All kernels that can compute a convolution give the same bits.
pub(super) const KERNELS: [Kernel; 7] = [
    Kernel::new(Input::Windows, "n128", 128, [2, 2]),
    Kernel::new(Input::Windows, "n96", 96, [2, 2]),
    Kernel::new(Input::Windows, "n64", 64, [2, 2]),
    Kernel::new(Input::Windows, "n8", NARROW, [4, 1]),
    Kernel::new(Input::Strided, "strided_n128", 128, [2, 2]),
    Kernel::new(Input::Strided, "strided_n64", 64, [2, 2]),
    Kernel::new(Input::Ragged, "ragged", 64, [2, 2]),
];

impl Kernel {
    const fn new(input: Input, name: &'static str, columns: usize, warps: [usize; 2]) -> Self {
        let tile = Tile::new(name, [POSITIONS, columns], warps);
        let brought = match input {
            Input::Windows => WINDOW_ROWS.div_ceil(TAPS) + columns,
            Input::Strided | Input::Ragged => tile.brought,
        };
        Self { input, tile: Tile { brought, ..tile } }
    }

    /// Bytes of the stages. The input has two slices with windows, else three. The weight has three slices, or for the
    /// narrow tile two, each of three taps.
    fn shared_bytes(self) -> usize {
        let input = if self.input == Input::Windows { 2 * WINDOW_ROWS } else { 3 * POSITIONS };
        let weight = if self.tile.columns == NARROW { 2 * TAPS } else { 3 } * self.tile.columns;
        (input + weight) * SLICE_ROW
    }
}

/// A kernel for a convolution, and how many of its tile's channels the convolution uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fit {
    kernel: Kernel,
    columns: usize,
}

impl Fit {
    /// `moments` is the channels of a group of moments, if the convolution writes moments. `None` if the kernel cannot
    /// compute the convolution.
    fn of(kernel: Kernel, op: &Conv3d, moments: Option<usize>) -> Option<Self> {
        let (width, group) = (kernel.tile.columns, moments.unwrap_or(1));
        // The narrow kernel writes no moments, and takes three taps in a step.
        let narrow = width != NARROW || op.cout <= NARROW && moments.is_none() && !op.upsample;
        // Whole groups, and if possible also rows that begin at multiples of 16 bytes.
        let step = [lcm(8, group), group].into_iter().find(|&step| step <= width)?;
        (kernel.input == Input::of(op) && narrow).then_some(Self { kernel, columns: width / step * step })
    }

    fn blocks(self, op: &Conv3d) -> usize {
        let slabs = phase_size(op).iter().product::<usize>().div_ceil(POSITIONS);
        op.computed().len() * op.phases() * slabs * op.cout.div_ceil(self.columns)
    }
}

/// All kernels that can compute a convolution.
fn fits(op: &Conv3d, moments: Option<usize>) -> Vec<Fit> {
    KERNELS.iter().filter_map(|&kernel| Fit::of(kernel, op, moments)).collect()
}

fn lcm(a: usize, b: usize) -> usize {
    let mut multiples = (1..=b).map(|factor| factor * a);
    multiples.find(|multiple| multiple.is_multiple_of(b)).expect("the product is one")
}

/// Launches [`Conv3d`].
pub(super) fn conv3d(cuda: &Cuda, op: &Conv3d, args: ConvArgs<'_, Buffer, Weight>) -> Result<()> {
    if args.out.len == 0 || op.computed().is_empty() {
        return Ok(());
    }
    let group = args.moments.as_ref().map(|_| op.cout / op.moment_groups);
    if cuda.variant == Variant::Sm90 && sm90::takes(op, group) {
        return sm90::conv3d(cuda, op, args, group);
    }
    let ConvArgs { x, weight, bias, other, moments, out } = args;
    let fits = fits(op, group);
    if fits.is_empty() {
        return Err(Error::Unsupported(format!(
            "moments of groups of {} channels: no kernel's tile holds a whole group",
            group.unwrap_or(1)
        )));
    }
    let choice = cuda.choose(OPERATION, fits.iter().map(|fit| (fit.kernel.tile, fit.blocks(op))))?;
    let chosen = fits.into_iter().find(|fit| fit.kernel.tile.name == choice.taken.name);
    let Fit { kernel, columns } = chosen.expect("it is one of them");
    // Kernels count the elements of a frame of x and of the weight, and the positions of a frame of out, in 32 bits.
    int(op.height * op.width * op.cin)?;
    int(weight.shape.iter().product())?;
    int(op.moments(1).positions)?;
    let ([pad_y, pad_x], [_, kh, kw], [phase_height, phase_width]) = (op.pad_front(), op.taps(), phase_size(op));
    let params = CausalConv3dParams {
        x: x.half(),
        weight: weight.address(),
        bias: bias.map_or(Address::NULL, Weight::address),
        other: other.map_or(Address::NULL, Buffer::half),
        out: out.half(),
        moments: moments.map_or(Address::NULL, |moments| moments.single()),
        height: int(op.height)?,
        width: int(op.width)?,
        cin: int(op.cin)?,
        cout: int(op.cout)?,
        kt: int(op.kernel[0])?,
        kh: int(kh)?,
        kw: int(kw)?,
        time_stride: int(op.stride[0])?,
        stride: int(op.stride[1])?,
        pad_y: int(pad_y)?,
        pad_x: int(pad_x)?,
        factor: if op.upsample { 2 } else { 1 },
        out_width: int(phase_width)?,
        positions: int(phase_height * phase_width)?,
        first_frame: int(op.computed().start)?,
        frames: int(op.computed().len())?,
        out_frame: int(op.out_frame())?,
        other_frame: int(op.other_frame())?,
        columns: int(columns)?,
        wide: i32::from([op.cout, columns].iter().all(|len| len.is_multiple_of(8))),
        group: int(group.unwrap_or(1))?,
        groups: int(op.moment_groups)?,
        conv_scale: op.conv_scale,
        other_scale: op.other_scale,
    };
    let plan = LaunchPlan {
        kernel: format!("causal_conv3d_nthwc_{}_{}", choice.taken.name, cuda.half.suffix()),
        grid: [choice.taken.blocks, 1, 1],
        threads: THREADS,
        shared_bytes: kernel.shared_bytes(),
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch_chosen(&plan, Some(&choice), &params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Choice;

    fn chosen(op: &Conv3d, moments: Option<usize>, multiprocessors: usize) -> &'static str {
        let fits = fits(op, moments);
        let candidates = fits.iter().map(|fit| (fit.kernel.tile, fit.blocks(op)));
        Choice::of(OPERATION, candidates, multiprocessors, None).taken.name
    }

    #[test]
    fn the_tile_depends_on_the_gpu_and_the_shape() {
        let conv = |[frames, side, cin, cout]: [usize; 4]| Conv3d::new(frames, side, side, cin, cout, [3; 3]);
        for (size, group, [on_132, on_30, on_16]) in [
            // Levels of the VAE's decoder: a window of 65 frames, and an image.
            ([17, 32, 512, 512], Some(16), ["n128"; 3]),
            ([65, 256, 128, 128], Some(4), ["n128"; 3]),
            ([65, 256, 128, 3], None, ["n8"; 3]),
            ([1, 32, 512, 512], Some(16), ["n64", "n96", "n128"]),
            ([1, 256, 128, 128], Some(4), ["n128"; 3]),
            // 240 tiles of 96 channels: no multiprocessor of a large GPU gets more than two.
            ([5, 32, 512, 512], Some(16), ["n96", "n128", "n128"]),
            ([33, 64, 96, 96], Some(3), ["n96"; 3]),
            ([33, 64, 192, 192], Some(6), ["n96"; 3]),
            // The narrow kernel writes no moments.
            ([5, 64, 128, 8], Some(1), ["n64"; 3]),
            ([5, 64, 4, 128], Some(4), ["ragged"; 3]),
        ] {
            for (multiprocessors, expected) in [(132, on_132), (30, on_30), (16, on_16)] {
                assert_eq!(chosen(&conv(size), group, multiprocessors), expected, "{size:?} on {multiprocessors}");
            }
        }
        let strided = Conv3d { stride: [1, 2], padding: SpacePadding::RightBottom, ..conv([8, 64, 128, 128]) };
        assert_eq!([132, 30].map(|count| chosen(&strided, None, count)), ["strided_n64", "strided_n128"]);
    }

    #[test]
    fn windows_need_rows_long_enough_for_their_taps() {
        let of = |width, upsample| Input::of(&Conv3d { upsample, ..Conv3d::new(1, 32, width, 8, 8, [1, 3, 3]) });
        assert_eq!([(8, false), (9, false)].map(|(width, twice)| of(width, twice)), [Input::Strided, Input::Windows]);
        assert_eq!([(4, true), (5, true)].map(|(width, twice)| of(width, twice)), [Input::Strided, Input::Windows]);
        assert_eq!(window_rows(&Conv3d::new(1, 32, 9, 8, 8, [1, 3, 3])), WINDOW_ROWS);
    }

    #[test]
    fn an_enlargement_has_the_tiles_of_four_phases() {
        // Two frames of 10×13 positions: two slabs in each phase; no narrow tile, although there are few channels.
        let op = Conv3d { upsample: true, ..Conv3d::new(2, 10, 13, 8, 6, [1, 3, 3]) };
        let names: Vec<_> = fits(&op, None).iter().map(|fit| (fit.kernel.tile.name, fit.blocks(&op))).collect();
        assert_eq!(names, [("n128", 16), ("n96", 16), ("n64", 16)]);
    }

    #[test]
    fn tiles_hold_whole_groups() {
        let op = Conv3d::new(2, 16, 16, 16, 240, [3; 3]);
        let columns = |group| fits(&op, Some(group)).iter().map(|fit| fit.columns).collect::<Vec<_>>();
        assert_eq!(columns(8), [128, 96, 64]);
        assert_eq!(columns(12), [120, 96, 48]);
        assert_eq!(columns(15), [120, 90, 60]);
        assert_eq!(columns(80), [80, 80]);
        assert!(columns(240).is_empty());
    }
}

//! `conv3d`: `kernels/conv3d.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, LaunchPlan, Weight, int};
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
        enlarged: i32,
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

/// Positions of a tile, which is a slab of moments.
const POSITIONS: usize = Moments::SLAB;
/// Rows of a window, and the shortest row of positions with which they suffice.
const WINDOW_ROWS: usize = 160;
const WINDOW_WIDTH: usize = 9;
/// Bytes of a row of a slice.
const SLICE_ROW: usize = 64;
/// Fewer tiles than this would not give two to every multiprocessor of a large GPU.
const FEW_TILES: usize = 264;

/// How a kernel brings its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// A slice for all taps of a kernel row.
    Windows,
    /// A slice for each tap.
    Strided,
    /// Element by element.
    Ragged,
}

impl Input {
    fn of(op: &Conv3d) -> Self {
        let [.., width, _] = op.out_shape();
        let windows = op.kernel[2] == 3 && op.stride[1] == 1 && op.padding == SpacePadding::Same;
        match op.cin.is_multiple_of(8) {
            false => Self::Ragged,
            true if windows && width >= WINDOW_WIDTH => Self::Windows,
            true => Self::Strided,
        }
    }

    /// The channels that kernels make tiles of, the most first. The narrow ones leave no moments.
    fn widths(self, cout: usize, moments: bool) -> &'static [usize] {
        match self {
            Self::Windows if cout <= 8 && !moments => &[8],
            Self::Windows => &[128, 96, 64],
            Self::Strided => &[128, 64],
            Self::Ragged => &[64],
        }
    }
}

/// Which kernel, and how many channels of its tiles are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    input: Input,
    width: usize,
    columns: usize,
}

impl Tile {
    /// The tile for moments of groups of so many channels, or for none. All tiles give the same bits.
    fn of(op: &Conv3d, moments: Option<usize>) -> Option<Self> {
        let (input, group) = (Input::of(op), moments.unwrap_or(1));
        let tiles = input.widths(op.cout, moments.is_some()).iter().filter_map(|&width| {
            // Whole groups, and rows that begin on multiples of sixteen bytes, if both can be had.
            let step = [lcm(8, group), group].into_iter().find(|&step| step <= width)?;
            Some(Self { input, width, columns: width / step * step })
        });
        let tiles: Vec<_> = tiles.collect();
        // The fewest columns beside the output; of equals the widest, as long as there are enough of them.
        let best = tiles.iter().min_by_key(|tile| tile.across(op) * tile.width)?;
        let few = op.out_shape()[0] * best.blocks_of_a_frame(op) < FEW_TILES;
        tiles.last().filter(|_| few).or(Some(best)).copied()
    }

    fn name(self) -> String {
        match self.input {
            Input::Windows => format!("n{}", self.width),
            Input::Strided => format!("strided_n{}", self.width),
            Input::Ragged => "ragged".into(),
        }
    }

    /// Tiles beside each other.
    fn across(self, op: &Conv3d) -> usize {
        op.cout.div_ceil(self.columns)
    }

    fn blocks_of_a_frame(self, op: &Conv3d) -> usize {
        op.moments(1).positions.div_ceil(POSITIONS) * self.across(op)
    }

    /// Two slices of the input, or three, and three of the weight; of few channels two, each of three taps.
    fn shared_bytes(self) -> usize {
        let input = if self.input == Input::Windows { 2 * WINDOW_ROWS } else { 3 * POSITIONS };
        let weight = if self.width == 8 { 2 * 3 } else { 3 } * self.width;
        (input + weight) * SLICE_ROW
    }
}

fn lcm(a: usize, b: usize) -> usize {
    let mut multiples = (1..=b).map(|factor| factor * a);
    multiples.find(|multiple| multiple.is_multiple_of(b)).expect("the product is one")
}

/// Launches [`Conv3d`].
pub(super) fn conv3d(cuda: &Cuda, op: &Conv3d, args: ConvArgs<'_, Buffer, Weight>) -> Result<()> {
    let ConvArgs { x, weight, bias, other, moments, out } = args;
    if out.len == 0 {
        return Ok(());
    }
    let group = moments.as_ref().map(|_| op.cout / op.moment_groups);
    let Some(tile) = Tile::of(op, group) else {
        return Err(Error::Unsupported(format!(
            "moments of groups of {} channels: no kernel makes so many at once",
            group.unwrap_or(1)
        )));
    };
    // Kernels count the elements of a frame and of the weight in 32 bits.
    int(op.height * op.width * op.cin)?;
    int(weight.shape.iter().product())?;
    let [pad_y, pad_x] = op.pad_front();
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
        kh: int(op.kernel[1])?,
        kw: int(op.kernel[2])?,
        time_stride: int(op.stride[0])?,
        stride: int(op.stride[1])?,
        pad_y: int(pad_y)?,
        pad_x: int(pad_x)?,
        enlarged: i32::from(op.upsample),
        out_width: int(op.out_shape()[2])?,
        positions: int(op.moments(1).positions)?,
        first_frame: int(op.computed().start)?,
        frames: int(op.computed().len())?,
        out_frame: int(op.out_frame())?,
        other_frame: int(op.other_frame())?,
        columns: int(tile.columns)?,
        wide: i32::from([op.cout, tile.columns].iter().all(|len| len.is_multiple_of(8))),
        group: int(group.unwrap_or(1))?,
        groups: int(op.moment_groups)?,
        conv_scale: op.conv_scale,
        other_scale: op.other_scale,
    };
    let plan = LaunchPlan {
        kernel: format!("causal_conv3d_nthwc_{}_{}", tile.name(), cuda.half.suffix()),
        grid: [op.computed().len() * tile.blocks_of_a_frame(op), 1, 1],
        threads: THREADS,
        shared_bytes: tile.shared_bytes(),
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch(&plan, &params)
}

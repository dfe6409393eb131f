//! `copy_box`, `blend_box`: windows cut out, cross-faded and put together.

use super::{DeviceBuffer, expect_len, expect_that};
use crate::error::Result;

/// A box in a video: `[frames, height, width]` of the whole, and where the box starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxAt {
    /// Frames, rows, columns of the whole buffer.
    pub size: [usize; 3],
    /// First frame, row, column of the box.
    pub origin: [usize; 3],
}

impl BoxAt {
    /// A box at the origin.
    pub fn whole(size: [usize; 3]) -> Self {
        Self { size, origin: [0; 3] }
    }

    fn expect_inside(
        &self,
        op: &'static str,
        argument: &'static str,
        extent: [usize; 3],
        channels: usize,
        found: usize,
    ) -> Result<()> {
        let fits = (0..3).all(|axis| self.origin[axis] + extent[axis] <= self.size[axis]);
        expect_that(op, argument, fits, "a box inside the buffer", (self, extent))?;
        expect_len(op, argument, found, self.size.iter().product::<usize>() * channels)
    }
}

/// Descriptor of `copy_box`: copies a box of `extent` from `x [from.size, channels]` to `out [to.size, channels]`, of
/// which the rest stays. Bit-equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyBox {
    /// Frames, rows, columns copied.
    pub extent: [usize; 3],
    /// Channels of both videos.
    pub channels: usize,
    /// Where it is read.
    pub from: BoxAt,
    /// Where it is written.
    pub to: BoxAt,
}

/// Operands of [`CopyBox`].
#[derive(Debug)]
pub struct CopyBoxArgs<'a, Buffer> {
    /// `[from.size, channels]`
    pub x: &'a Buffer,
    /// `[to.size, channels]`; only the box is written.
    pub out: &'a mut Buffer,
}

impl CopyBox {
    /// Checks element counts and bounds.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. Both boxes must lie in their videos.
    pub fn validate<B: DeviceBuffer>(&self, args: &CopyBoxArgs<'_, B>) -> Result<()> {
        self.from.expect_inside("copy_box", "x", self.extent, self.channels, args.x.len())?;
        self.to.expect_inside("copy_box", "out", self.extent, self.channels, args.out.len())
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * (self.extent.iter().product::<usize>() * self.channels) as u64 * element
    }
}

/// The axis along which two tiles are cross-faded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlendAxis {
    /// With the tile above.
    Rows,
    /// With the tile to the left.
    Columns,
}

/// Descriptor of `blend_box`: cross-fades the last rows (columns) of `neighbour` into the first of `tile`, in place:
/// `tile[y] = neighbour[size − blend + y]·(1 − y/blend) + tile[y]·(y/blend)` for y < blend.
///
/// The other sides are the smaller of the two tiles', each `[frames, rows, columns, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlendBox {
    /// Frames, rows, columns of `neighbour`.
    pub neighbour: [usize; 3],
    /// Frames, rows, columns of `tile`.
    pub tile: [usize; 3],
    /// Channels of both.
    pub channels: usize,
    /// Direction.
    pub axis: BlendAxis,
    /// Rows or columns that are cross-faded.
    pub blend: usize,
}

/// Operands of [`BlendBox`].
#[derive(Debug)]
pub struct BlendBoxArgs<'a, Buffer> {
    /// `[neighbour, channels]`
    pub neighbour: &'a Buffer,
    /// `[tile, channels]`; changes in place.
    pub tile: &'a mut Buffer,
}

impl BlendBox {
    /// Frames, rows, columns that change.
    pub fn extent(&self) -> [usize; 3] {
        let mut extent = [0, 1, 2].map(|axis| self.neighbour[axis].min(self.tile[axis]));
        extent[self.axis_index()] = self.blend;
        extent
    }

    /// 1 for rows, 2 for columns.
    pub fn axis_index(&self) -> usize {
        match self.axis {
            BlendAxis::Rows => 1,
            BlendAxis::Columns => 2,
        }
    }

    /// Checks element counts and bounds.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. The blend must fit into both tiles.
    pub fn validate<B: DeviceBuffer>(&self, args: &BlendBoxArgs<'_, B>) -> Result<()> {
        const OP: &str = "blend_box";
        let axis = self.axis_index();
        let fits = self.blend <= self.neighbour[axis] && self.blend <= self.tile[axis];
        expect_that(OP, "blend", fits, "at most the side of either tile", self.blend)?;
        expect_len(OP, "neighbour", args.neighbour.len(), self.neighbour.iter().product::<usize>() * self.channels)?;
        expect_len(OP, "tile", args.tile.len(), self.tile.iter().product::<usize>() * self.channels)
    }

    /// Three operations an element that changes.
    pub fn flops(&self) -> u64 {
        3 * (self.extent().iter().product::<usize>() * self.channels) as u64
    }

    /// Two reads, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        3 * (self.extent().iter().product::<usize>() * self.channels) as u64 * element
    }
}

//! `patch_embed`, `unpatchify`: latent pixels to tokens and back.

use super::{DeviceBuffer, DeviceWeight, expect_len, expect_shape, expect_that};
use crate::error::Result;

/// Descriptor of `patch_embed`: a patch×patch convolution of stride patch on every frame.
///
/// `x [frames, height, width, cin] * weight [cout, patch, patch, cin] + bias [cout] → out [frames, height/patch·width/patch, cout]`,
/// tokens in rows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchEmbed {
    /// Frames (of all samples).
    pub frames: usize,
    /// Latent rows.
    pub height: usize,
    /// Latent columns.
    pub width: usize,
    /// Latent channels.
    pub cin: usize,
    /// Token channels.
    pub cout: usize,
    /// Side of a patch.
    pub patch: usize,
}

/// Operands of [`PatchEmbed`].
#[derive(Debug)]
pub struct PatchEmbedArgs<'a, Buffer, Weight> {
    /// `[frames, height, width, cin]`
    pub x: &'a Buffer,
    /// `[cout, patch, patch, cin]`
    pub weight: &'a Weight,
    /// `[cout]`
    pub bias: &'a Weight,
    /// `[frames, tokens, cout]`
    pub out: &'a mut Buffer,
}

impl PatchEmbed {
    /// Tokens of a frame.
    pub fn tokens(&self) -> usize {
        (self.height / self.patch) * (self.width / self.patch)
    }

    /// Checks element counts and the weight's shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. The patch must divide height and width.
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(&self, args: &PatchEmbedArgs<'_, B, W>) -> Result<()> {
        const OP: &str = "patch_embed";
        let whole = self.patch > 0 && self.height.is_multiple_of(self.patch) && self.width.is_multiple_of(self.patch);
        expect_that(OP, "x", whole, "a multiple of the patch in height and width", [self.height, self.width])?;
        expect_len(OP, "x", args.x.len(), self.frames * self.height * self.width * self.cin)?;
        expect_shape(OP, "weight", args.weight.shape(), &[self.cout, self.patch, self.patch, self.cin])?;
        expect_len(OP, "bias", args.bias.len(), self.cout)?;
        expect_len(OP, "out", args.out.len(), self.frames * self.tokens() * self.cout)
    }

    /// Floating-point operations.
    pub fn flops(&self) -> u64 {
        2 * (self.frames * self.height * self.width * self.cin) as u64 * self.cout as u64
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        (self.frames * (self.height * self.width * self.cin + self.tokens() * self.cout)) as u64 * element
    }
}

/// Descriptor of `unpatchify`: `x [frames, rows·columns, patch·patch·channels] → out [frames, rows·patch, columns·patch, kept]`,
/// features ordered (row in patch, column in patch, channel); only the first `kept` channels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpatchify {
    /// Frames (of all samples).
    pub frames: usize,
    /// Token rows.
    pub rows: usize,
    /// Token columns.
    pub columns: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels in a token's features.
    pub channels: usize,
    /// Channels stored.
    pub kept: usize,
}

/// Operands of [`Unpatchify`].
#[derive(Debug)]
pub struct UnpatchifyArgs<'a, Buffer> {
    /// `[frames, rows·columns, patch·patch·channels]`
    pub x: &'a Buffer,
    /// `[frames, rows·patch, columns·patch, kept]`
    pub out: &'a mut Buffer,
}

impl Unpatchify {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. No more channels can be kept than there are.
    pub fn validate<B: DeviceBuffer>(&self, args: &UnpatchifyArgs<'_, B>) -> Result<()> {
        const OP: &str = "unpatchify";
        expect_that(OP, "kept", self.kept <= self.channels, "at most the channels", self.kept)?;
        let pixels = self.frames * self.rows * self.columns * self.patch * self.patch;
        expect_len(OP, "x", args.x.len(), pixels * self.channels)?;
        expect_len(OP, "out", args.out.len(), pixels * self.kept)
    }

    /// Reads and writes what is kept.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * (self.frames * self.rows * self.columns * self.patch * self.patch * self.kept) as u64 * element
    }
}

//! What a block reads besides its tokens and its weights.

use super::Shape;

/// The inputs of a block besides its tokens.
pub(super) struct Inputs<'a, Buffer> {
    pub shape: &'a Shape,
    /// Number of parts of the heads and of the tokens.
    pub parts: usize,
    /// Shifts, scales and gates.
    pub modulation: Modulation<'a, Buffer>,
    /// Cosines and sines of the block's axis.
    pub rope: Option<&'a Buffer>,
    /// Read by spatial blocks only.
    pub text: TextKv<'a, Buffer>,
}

/// The six modulation vectors of one block, within those of all blocks.
#[derive(Clone, Copy)]
pub(super) struct Modulation<'a, Buffer> {
    /// `[N, blocks, 6, D]`: the blocks' tables plus the timestep's six vectors.
    pub vectors: &'a Buffer,
    pub blocks: usize,
    pub block: usize,
}

impl<Buffer> Modulation<'_, Buffer> {
    /// Distance between the vectors of two samples.
    pub fn stride(&self, channels: usize) -> usize {
        self.blocks * 6 * channels
    }

    /// Offset of a vector within a sample.
    pub fn at(&self, vector: usize, channels: usize) -> usize {
        (self.block * 6 + vector) * channels
    }
}

/// Keys and values of the text for one block, and their mask.
pub(super) struct TextKv<'a, Buffer> {
    /// `[N·tokens, 2D]`
    pub kv: &'a Buffer,
    pub tokens: usize,
    /// `[N, tokens]`, added to the scores
    pub mask: Option<&'a Buffer>,
}

//! `attention`: softmax(q·kᵀ·scale + bias)·v for every sequence and head. It reads q, k and v by strides.

use super::{DeviceBuffer, expect_at_least, expect_len, expect_that};
use crate::error::Result;

const OP: &str = "attention";

/// The lowest finite value of a mask. In units of log 2, in which kernels take the exponential, it is still a number of
/// f32; the lowest f32 would count as −∞.
pub const LOWEST_MASK: f32 = -2e38;

/// The layout of the tokens of many sequences in a buffer, in elements.
///
/// Sequence (o, i), token t, head h, feature f is at
/// `offset + o·outer_stride + i·inner_stride + t·token_stride + h·head_dim + f`.
/// So the same projection output serves spatial attention (i = frame), temporal attention (i = position) and, with an
/// inner stride of 0, text keys shared by all frames; nothing is ever transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLayout {
    /// First element.
    pub offset: usize,
    /// Distance between outer sequences (samples).
    pub outer_stride: usize,
    /// Distance between inner sequences (frames or positions).
    pub inner_stride: usize,
    /// Distance between tokens.
    pub token_stride: usize,
}

impl TokenLayout {
    /// Elements that a buffer needs for this layout. A number that is too large becomes the largest.
    fn extent(&self, outer: usize, inner: usize, tokens: usize, row: usize) -> usize {
        let axes = [(outer, self.outer_stride), (inner, self.inner_stride), (tokens, self.token_stride)];
        let last = axes.map(|(count, stride)| count.saturating_sub(1).saturating_mul(stride));
        last.into_iter().fold(self.offset.saturating_add(row), usize::saturating_add)
    }

    /// Whether no two rows share an element: every stride is at least the extent of the smaller strides. The buffer
    /// must have the layout's extent.
    fn rows_are_apart(&self, outer: usize, inner: usize, tokens: usize, row: usize) -> bool {
        let mut axes = [(self.outer_stride, outer), (self.inner_stride, inner), (self.token_stride, tokens)];
        axes.sort_unstable();
        let mut reach = row;
        axes.into_iter().filter(|&(_, count)| count > 1).all(|(stride, count)| {
            let apart = stride >= reach;
            reach += (count - 1) * stride;
            apart
        })
    }
}

/// Descriptor of `attention`.
///
/// For each of `outer·inner` sequences, q and the output hold `[queries, heads, head_dim]`, and k and v hold
/// `[keys, heads, head_dim]`, at the places of their layouts. The buffers may hold more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Outer count of sequences: samples.
    pub outer: usize,
    /// Inner count of sequences: frames (spatial, cross) or positions (temporal).
    pub inner: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Queries of a sequence.
    pub queries: usize,
    /// Keys of a sequence.
    pub keys: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// Layout of q.
    pub q: TokenLayout,
    /// Layout of k.
    pub k: TokenLayout,
    /// Layout of v.
    pub v: TokenLayout,
    /// Layout of the output.
    pub out: TokenLayout,
    /// Features that rotate together when a RoPE table is given: `head_dim` for one coordinate, half of it for two.
    pub rope_group: usize,
}

/// Operands of [`Attention`]. Bias, mask and RoPE are buffers of f32 values.
#[derive(Debug)]
pub struct AttentionArgs<'a, Buffer> {
    /// `[queries, heads, head_dim]` of each sequence, in the layout of the descriptor.
    pub q: &'a Buffer,
    /// `[keys, heads, head_dim]` of each sequence, in the layout of the descriptor.
    pub k: &'a Buffer,
    /// As `k`; all three may be one buffer.
    pub v: &'a Buffer,
    /// Added to the scores of every sequence: `[heads, queries, keys]` (T5's relative positions).
    pub bias: Option<&'a Buffer>,
    /// Added to the scores of every query and head: `[outer, keys]` (masks; −∞ allowed, but not for all keys of a row).
    /// A finite mask is at least [`LOWEST_MASK`].
    pub mask: Option<&'a Buffer>,
    /// `[tokens, 2, head_dim]`: cosines, then sines, of token t's rotation; requires queries = keys.
    /// Within each group of `rope_group` features the halves (a, b) become (a·cos − b·sin, b·cos + a·sin), cosine and
    /// sine taken at the feature's own index.
    pub rope: Option<&'a Buffer>,
    /// `[queries, heads, head_dim]` of each sequence, in the layout of the descriptor.
    pub out: &'a mut Buffer,
}

impl<'a, Buffer> AttentionArgs<'a, Buffer> {
    /// Operands without bias, mask and RoPE.
    pub fn new([q, k, v]: [&'a Buffer; 3], out: &'a mut Buffer) -> Self {
        Self { q, k, v, bias: None, mask: None, rope: None, out }
    }
}

impl Attention {
    /// Checks element counts, and that the rows of the output do not overlap.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument that is too short or has another size. There must be keys and
    /// features, and RoPE takes as many queries as keys, in groups of an even number of features that divides a head.
    pub fn validate<B: DeviceBuffer>(&self, args: &AttentionArgs<'_, B>) -> Result<()> {
        let row = self.heads.saturating_mul(self.head_dim);
        expect_that(OP, "keys", self.keys > 0, "at least one", self.keys)?;
        expect_that(OP, "head_dim", self.head_dim > 0, "at least one", self.head_dim)?;
        expect_at_least(OP, "q", args.q.len(), self.q.extent(self.outer, self.inner, self.queries, row))?;
        expect_at_least(OP, "k", args.k.len(), self.k.extent(self.outer, self.inner, self.keys, row))?;
        expect_at_least(OP, "v", args.v.len(), self.v.extent(self.outer, self.inner, self.keys, row))?;
        expect_at_least(OP, "out", args.out.len(), self.out.extent(self.outer, self.inner, self.queries, row))?;
        let apart = self.out.rows_are_apart(self.outer, self.inner, self.queries, row);
        expect_that(OP, "out", apart, "a layout whose rows do not overlap", self.out)?;
        if let Some(bias) = args.bias {
            expect_len(OP, "bias", bias.len(), self.heads * self.queries * self.keys)?;
        }
        if let Some(mask) = args.mask {
            expect_len(OP, "mask", mask.len(), self.outer * self.keys)?;
        }
        if let Some(rope) = args.rope {
            expect_that(OP, "rope", self.queries == self.keys, "as many queries as keys", (self.queries, self.keys))?;
            let even = self.rope_group > 0
                && self.rope_group.is_multiple_of(2)
                && self.head_dim.is_multiple_of(self.rope_group);
            expect_that(OP, "rope_group", even, "an even divisor of head_dim", self.rope_group)?;
            expect_len(OP, "rope", rope.len(), self.queries * 2 * self.head_dim)?;
        }
        Ok(())
    }

    /// Floating-point operations of the two products.
    pub fn flops(&self) -> u64 {
        4 * (self.outer * self.inner * self.heads) as u64 * (self.queries * self.keys * self.head_dim) as u64
    }

    /// q, k, v and the output once each; keys shared by the inner sequences count once.
    pub fn bytes(&self, element: u64) -> u64 {
        let row = self.heads * self.head_dim;
        let kv_inner = if self.k.inner_stride == 0 { 1 } else { self.inner };
        (2 * self.outer * row * (self.inner * self.queries + kv_inner * self.keys)) as u64 * element
    }
}

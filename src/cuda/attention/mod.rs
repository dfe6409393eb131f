//! `attention`: `kernels/attention.cu`, and `kernels/attention_wide.cu` for more than 128 features a head.

mod params;
pub(super) mod wide;

pub(super) use params::AttentionParams;

use super::{Buffer, Cuda, Half, LaunchPlan};
use crate::error::{Error, Result};
use crate::ops::attention::{Attention, AttentionArgs};
use params::{VECTOR, pack};

/// Threads of a block.
pub(crate) const THREADS: u32 = 128;
/// Rows of keys and values that a block holds, whatever its teams.
const SHARED_ROWS: usize = 256;
/// Queries of a team that adds a bias or a mask, and keys of its tiles.
const MASKED_QUERIES: usize = 64;
/// The most features a head that its teams have room for.
const LARGEST_TEAM: usize = 128;

/// What a kernel adds to the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    Nothing,
    Mask,
    /// And perhaps a mask.
    Bias,
}

impl Added {
    fn of<B>(args: &AttentionArgs<'_, B>) -> Self {
        match (args.bias, args.mask) {
            (Some(_), _) => Self::Bias,
            (None, Some(_)) => Self::Mask,
            (None, None) => Self::Nothing,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Mask => "mask_",
            Self::Bias => "bias_",
        }
    }
}

/// A kernel: queries of a team, the features that it has room for, and what it adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Team {
    queries: usize,
    head_dim: usize,
    added: Added,
}

impl Team {
    /// The smallest that takes a sequence whole, or the largest.
    fn of(queries: usize, head_dim: usize, added: Added) -> Self {
        let head_dim = [16, 64, 72].into_iter().find(|&room| head_dim <= room).unwrap_or(LARGEST_TEAM);
        let largest = if head_dim == LARGEST_TEAM { 64 } else { 128 };
        let queries = match added {
            Added::Nothing => [16, 32, 64].into_iter().find(|&team| queries <= team).unwrap_or(largest),
            Added::Mask | Added::Bias => MASKED_QUERIES,
        };
        Self { queries, head_dim, added }
    }

    fn kernel(self, half: Half) -> String {
        format!("attention_{}q{}_d{}_{}", self.added.name(), self.queries, self.head_dim, half.suffix())
    }

    /// Teams of a block.
    fn per_block(self) -> usize {
        (64 / self.queries).max(1)
    }

    /// Shared memory of a block: rows of an odd number of vectors, and two tiles' masks.
    fn shared_bytes(self) -> usize {
        let pitch = ((self.head_dim * 2 / VECTOR) | 1) * VECTOR;
        let masks = if self.added == Added::Mask { 2 * MASKED_QUERIES * size_of::<f32>() } else { 0 };
        SHARED_ROWS * pitch + masks
    }
}

/// Launches [`Attention`].
pub(super) fn attention(cuda: &Cuda, op: &Attention, args: AttentionArgs<'_, Buffer>) -> Result<()> {
    if op.scale.is_nan() || op.scale <= 0.0 {
        return Err(Error::Unsupported(format!("attention with a scale of {}: only positive ones", op.scale)));
    }
    if op.head_dim > wide::LARGEST || !op.head_dim.is_multiple_of(VECTOR / 2) {
        return Err(Error::Unsupported(format!(
            "attention with {} features a head: at most {}, a multiple of {}",
            op.head_dim,
            wide::LARGEST,
            VECTOR / 2
        )));
    }
    if op.head_dim > LARGEST_TEAM {
        return wide::attention(cuda, op, args);
    }
    if args.rope.is_some() && !op.rope_group.is_multiple_of(4) {
        return Err(Error::Unsupported(format!("RoPE in groups of {}: only multiples of 4", op.rope_group)));
    }
    let team = Team::of(op.queries, op.head_dim, Added::of(&args));
    let tasks = op.outer * op.inner * op.heads * op.queries.div_ceil(team.queries);
    let params = pack(op, tasks, &args)?;
    let plan = LaunchPlan {
        kernel: team.kernel(cuda.half),
        grid: [tasks.div_ceil(team.per_block()), 1, 1],
        threads: THREADS,
        shared_bytes: team.shared_bytes(),
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch(&plan, &params)
}

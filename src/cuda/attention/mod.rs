//! `attention`: `kernels/attention.cu`; `kernels/attention_wide.cu` for more than 128 features per head, and
//! `kernels/attention_sm90.cu` on Hopper.

mod params;
pub(super) mod sm90;
pub(super) mod wide;

pub(super) use params::AttentionParams;

use super::choice::Tile;
use super::{Buffer, Cuda, Half, LaunchPlan, Variant};
use crate::error::{Error, Result};
use crate::ops::attention::{Attention, AttentionArgs};
use params::{VECTOR, pack};

/// Threads of a block.
pub(crate) const THREADS: u32 = 128;
/// Rows of keys and values that a block holds, with any number of teams.
const SHARED_ROWS: usize = 256;
/// Queries of a team that adds a bias or a mask, and keys of its tiles.
const MASKED_QUERIES: usize = 64;
/// The most features per head that a team has room for.
const LARGEST_TEAM: usize = 128;

/// The terms that a kernel adds to the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    Nothing,
    Mask,
    /// A bias, and a mask if there is one.
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

pub(super) const OPERATION: &str = "attention";
/// Names of the teams, and their queries.
pub(super) const TEAMS: [(&str, usize); 4] = [("q16", 16), ("q32", 32), ("q64", 64), ("q128", 128)];

/// A kernel: queries of a team, the features per head that it has room for, and the terms that it adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Team {
    name: &'static str,
    queries: usize,
    head_dim: usize,
    added: Added,
}

impl Team {
    /// All teams for a sequence of `queries`; they give the same bits. The number of keys in a team's tile decides the
    /// order of its sums: 16 and 32 keys for the small teams, 64 for the teams of 64 and of 128 queries.
    fn candidates(queries: usize, head_dim: usize, added: Added) -> impl Iterator<Item = Self> {
        let head_dim = [16, 64, 72].into_iter().find(|&room| head_dim <= room).unwrap_or(LARGEST_TEAM);
        let takes = move |team: usize| match added {
            Added::Mask | Added::Bias => team == MASKED_QUERIES,
            Added::Nothing => match queries {
                ..=16 => team == 16,
                17..=32 => team == 32,
                _ => team == 64 || team == 128 && head_dim < LARGEST_TEAM,
            },
        };
        let teams = TEAMS.into_iter().filter(move |(_, team)| takes(*team));
        teams.map(move |(name, queries)| Self { name, queries, head_dim, added })
    }

    /// The tile of a block: its queries, and the features that it has room for. A step is one key, or its value.
    fn tile(self) -> Tile {
        let Self { name, queries, head_dim, .. } = self;
        let (rows, columns) = (queries * self.per_block(), head_dim);
        // Queries stay in registers. Each team copies its keys to shared memory, and each of the four warps reads them.
        Tile {
            brought: self.per_block() * columns,
            read: THREADS as usize / 32 * columns,
            ..Tile::new(name, [rows, columns], [1, 1])
        }
    }

    fn tasks(self, op: &Attention) -> usize {
        op.outer * op.inner * op.heads * op.queries.div_ceil(self.queries)
    }

    fn blocks(self, op: &Attention) -> usize {
        self.tasks(op).div_ceil(self.per_block())
    }

    fn kernel(self, half: Half) -> String {
        format!("attention_{}{}_d{}_{}", self.added.name(), self.name, self.head_dim, half.suffix())
    }

    /// Teams of a block.
    fn per_block(self) -> usize {
        (64 / self.queries).max(1)
    }

    /// Shared memory of a block: rows with an odd number of vectors, and the masks of two tiles.
    fn shared_bytes(self) -> usize {
        let pitch = ((self.head_dim * 2 / VECTOR) | 1) * VECTOR;
        let masks = if self.added == Added::Mask { 2 * MASKED_QUERIES * size_of::<f32>() } else { 0 };
        SHARED_ROWS * pitch + masks
    }
}

/// Launches [`Attention`].
pub(super) fn attention(cuda: &Cuda, op: &Attention, args: AttentionArgs<'_, Buffer>) -> Result<()> {
    if op.scale.is_nan() || op.scale <= 0.0 {
        return Err(Error::Unsupported(format!("attention with a scale of {}: it must be positive", op.scale)));
    }
    if op.head_dim > wide::LARGEST || !op.head_dim.is_multiple_of(VECTOR / 2) {
        return Err(Error::Unsupported(format!(
            "attention with {} features per head: the kernels take at most {}, a multiple of {}",
            op.head_dim,
            wide::LARGEST,
            VECTOR / 2
        )));
    }
    if op.head_dim > LARGEST_TEAM {
        return wide::attention(cuda, op, args);
    }
    if cuda.variant == Variant::Sm90 && sm90::takes(op, &args) {
        return sm90::attention(cuda, op, args);
    }
    if args.rope.is_some() && !op.rope_group.is_multiple_of(4) {
        return Err(Error::Unsupported(format!("RoPE in groups of {}: it must be a multiple of 4", op.rope_group)));
    }
    let teams: Vec<Team> = Team::candidates(op.queries, op.head_dim, Added::of(&args)).collect();
    let choice = cuda.choose(OPERATION, teams.iter().map(|team| (team.tile(), team.blocks(op))))?;
    let chosen = teams.into_iter().find(|team| team.name == choice.taken.name);
    let team = chosen.expect("it is one of them");
    let params = pack(op, team.tasks(op), &args)?;
    let plan = LaunchPlan {
        kernel: team.kernel(cuda.half),
        grid: [choice.taken.blocks, 1, 1],
        threads: THREADS,
        shared_bytes: team.shared_bytes(),
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch_chosen(&plan, Some(&choice), &params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Choice;

    #[test]
    fn only_teams_that_add_in_the_same_order_are_alternatives() {
        let chosen = |tasks: usize, queries: usize, head_dim, added| {
            let teams = Team::candidates(queries, head_dim, added);
            let blocks = |team: Team| (tasks * queries.div_ceil(team.queries)).div_ceil(team.per_block());
            let choice = Choice::of(OPERATION, teams.map(|team| (team.tile(), blocks(team))), 132, None);
            (choice.taken.name, choice.others.len())
        };
        let none = Added::Nothing;
        for (tasks, queries, head_dim, added, expected) in [
            (16, 16, 72, none, ("q16", 0)),
            (16, 17, 72, none, ("q32", 0)),
            (16, 56, 72, none, ("q64", 1)),
            // All frames of a video, and an image, whose one frame fills too few blocks.
            (544, 1024, 72, none, ("q128", 1)),
            (16, 1024, 72, none, ("q64", 1)),
            (544, 1024, 128, none, ("q64", 0)),
            (544, 1024, 72, Added::Mask, ("q64", 0)),
            (544, 9, 64, Added::Bias, ("q64", 0)),
        ] {
            assert_eq!(chosen(tasks, queries, head_dim, added), expected, "{tasks} of {queries} queries of {head_dim}");
        }
    }
}

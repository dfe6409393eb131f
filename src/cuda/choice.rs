//! Which of several kernels makes an output: the tiles that they make of it, what each should cost, and the choice.
//!
//! All candidates for a shape give it the same bits, so a choice may depend on the GPU.

use serde::Serialize;
use std::fmt;

/// Blocks that keep a multiprocessor busy: one by itself leaves it idle while it waits, and takes as long as two. Every
/// kernel of which there is a choice leaves room for two.
const BUSY: usize = 2;
/// Products that a multiprocessor makes while an element of 16 bits passes its shared memory: on an H100 some 1,270 a clock,
/// as many as `mma.sync` reaches, and 128 bytes.
const PRODUCTS_AN_ELEMENT: usize = 20;

/// What a block makes of an output. A step is one summand of each of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Its name among those of the operation, as in the kernel's.
    pub name: &'static str,
    pub rows: usize,
    pub columns: usize,
    /// Elements of the operands that come to shared memory in a step.
    pub brought: usize,
    /// Elements that warps read there in a step.
    pub read: usize,
}

impl Tile {
    /// A tile of a product. Equal parts of it are warps', so many beneath and so many beside each other; each warp reads
    /// its rows of one operand and its columns of the other.
    pub const fn new(name: &'static str, [rows, columns]: [usize; 2], [beneath, beside]: [usize; 2]) -> Self {
        Self { name, rows, columns, brought: rows + columns, read: rows * beside + columns * beneath }
    }

    /// What a step takes: the longer of its products and what passes shared memory, in products.
    fn step(&self) -> usize {
        (self.rows * self.columns).max(PRODUCTS_AN_ELEMENT * (self.brought + self.read))
    }
}

/// A tile that takes a shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its name among those of the operation.
    pub name: &'static str,
    /// Rows and columns of the tile.
    pub size: [usize; 2],
    /// Blocks of the launch.
    pub blocks: usize,
    /// What is predicted: products that a multiprocessor could make while the one with the most blocks takes a step in each
    /// of them. Costs compare candidates for one shape; they are no times.
    pub cost: usize,
}

impl Candidate {
    fn new(tile: &Tile, blocks: usize, multiprocessors: usize) -> Self {
        // Blocks that run beside each other share their multiprocessor, so it does not count how many do.
        let cost = blocks.div_ceil(multiprocessors).max(BUSY) * tile.step();
        Self { name: tile.name, size: [tile.rows, tile.columns], blocks, cost }
    }
}

/// The tile of a launch, and what else there was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The operation.
    pub operation: &'static str,
    /// What was taken.
    pub taken: Candidate,
    /// What else takes the shape, the cheapest first.
    pub others: Vec<Candidate>,
    /// The tile that was asked for, if any was; where it does not take the shape, another was taken.
    pub asked: Option<&'static str>,
}

impl Choice {
    /// Of `candidates`, at least one, each with the blocks of its launch, the cheapest, of equals the first; but the one that
    /// is asked for, if it is among them.
    pub(super) fn of(
        operation: &'static str,
        candidates: impl IntoIterator<Item = (Tile, usize)>,
        multiprocessors: usize,
        asked: Option<&'static str>,
    ) -> Self {
        let candidates = candidates.into_iter().map(|(tile, blocks)| Candidate::new(&tile, blocks, multiprocessors));
        let mut others: Vec<Candidate> = candidates.collect();
        others.sort_by_key(|candidate| candidate.cost);
        let wanted = others.iter().position(|candidate| Some(candidate.name) == asked);
        let taken = others.remove(wanted.unwrap_or(0));
        Self { operation, taken, others, asked }
    }

    /// The cheapest of the others, and its cost in units of what was taken.
    pub fn next(&self) -> Option<(&'static str, f64)> {
        let next = self.others.first()?;
        Some((next.name, next.cost as f64 / self.taken.cost as f64))
    }

    /// Whether what was asked for was taken; so it is where nothing was.
    pub fn obeys(&self) -> bool {
        self.asked.is_none_or(|name| name == self.taken.name)
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, size: [rows, columns], cost, .. } = self;
        write!(f, "{name} {rows}x{columns} at {cost}")
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, taken, others, asked } = self;
        write!(f, "{operation} takes {taken}")?;
        match asked {
            Some(_) if self.obeys() => write!(f, " as asked")?,
            Some(name) => write!(f, ", for {name} does not take this shape")?,
            None => {}
        }
        let others: Vec<String> = others.iter().map(ToString::to_string).collect();
        if others.is_empty() { Ok(()) } else { write!(f, ", not {}", others.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Tile = Tile::new("wide", [128, 128], [2, 4]);
    const NARROW: Tile = Tile::new("narrow", [64, 64], [2, 2]);

    fn costs(blocks: [usize; 2], multiprocessors: usize) -> [usize; 2] {
        [(WIDE, blocks[0]), (NARROW, blocks[1])]
            .map(|(tile, blocks)| Candidate::new(&tile, blocks, multiprocessors).cost)
    }

    #[test]
    fn the_multiprocessor_with_the_most_blocks_counts() {
        // 20 products an element: 256 that come and 768 that are read, 128 and 256.
        assert_eq!([WIDE.step(), NARROW.step()], [20_480, 7_680]);
        for (blocks, multiprocessors, on_one) in [
            // One block takes as long as two.
            ([1, 4], 132, [2, 2]),
            ([264, 1056], 132, [2, 8]),
            ([265, 1057], 132, [3, 9]),
            ([265, 1057], 30, [9, 36]),
            ([33, 1], 16, [3, 2]),
        ] {
            let expected = [on_one[0] * 20_480, on_one[1] * 7_680];
            assert_eq!(costs(blocks, multiprocessors), expected, "{blocks:?} on {multiprocessors}");
        }
        // Products are the longer part of a tile whose warps' parts are large.
        assert_eq!(Tile::new("square", [128, 128], [2, 2]).step(), 128 * 128);
    }

    #[test]
    fn the_cheapest_is_taken_and_of_equals_the_first() {
        let choice = |candidates: &[(Tile, usize)], asked| Choice::of("op", candidates.iter().copied(), 132, asked);
        let [few, many] = [[(WIDE, 1), (NARROW, 4)], [(WIDE, 2448), (NARROW, 9792)]];
        assert_eq!([few, many].map(|pair| choice(&pair, None).taken.name), ["narrow", "wide"]);
        let equal = [(NARROW, 7), (Tile { name: "same", ..NARROW }, 7)];
        assert_eq!(choice(&equal, None).taken.name, "narrow");
        let (name, cost) = choice(&many, None).next().expect("there is another");
        assert_eq!((name, (cost - 75.0 * 7_680.0 / (19.0 * 20_480.0)).abs() < 1e-9), ("narrow", true));
        assert_eq!(choice(&many[..1], None).next(), None);
    }

    #[test]
    fn what_is_asked_for_is_taken_where_it_takes_the_shape() {
        let candidates = [(WIDE, 2448), (NARROW, 9792)];
        let obeyed = Choice::of("op", candidates, 132, Some("narrow"));
        assert_eq!((obeyed.taken.name, obeyed.others[0].name, obeyed.obeys()), ("narrow", "wide", true));
        assert_eq!(obeyed.to_string(), "op takes narrow 64x64 at 576000 as asked, not wide 128x128 at 389120");
        let refused = Choice::of("op", candidates, 132, Some("ragged"));
        assert_eq!((refused.taken.name, refused.obeys()), ("wide", false));
        let text = refused.to_string();
        assert!(
            text.starts_with("op takes wide 128x128 at 389120, for ragged does not take this shape, not"),
            "{text}"
        );
    }
}

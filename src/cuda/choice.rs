//! Chooses one of several kernels for an output, by the predicted cost of their tiles.
//!
//! All candidates for a shape give the same bits, so the choice may depend on the GPU.

use serde::Serialize;
use std::cmp::Reverse;
use std::fmt;

/// Blocks that keep a multiprocessor busy. A single block leaves it idle while it waits, and takes as long as two.
/// Every kernel with an alternative leaves room for two, unless it copies ahead ([`Tile::of_warpgroup`]).
const BUSY: usize = 2;
/// Products that a multiprocessor makes while a 16-bit element passes through its shared memory. In a clock, an H100
/// moves 128 bytes, and makes some 1,270 products of warps (`mma.sync` reaches no more) or 2,048 of warpgroups.
const PRODUCTS_AN_ELEMENT: usize = 20;
const GROUP_PRODUCTS_AN_ELEMENT: usize = 32;
/// Costs that differ by less than one part in this many count as equal.
const EQUAL: usize = 20;
/// Rows of a warpgroup's product.
const GROUP_ROWS: usize = 64;

/// The rows and columns of an output that one block makes. A step adds one summand to each of the tile's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Its name among the operation's tiles, as the kernel's name has it.
    pub name: &'static str,
    pub rows: usize,
    pub columns: usize,
    /// Elements of the operands that a step copies to shared memory.
    pub brought: usize,
    /// Elements that the warps read from shared memory in a step.
    pub read: usize,
    /// Products that a multiprocessor makes while an element passes through shared memory.
    pub products_an_element: usize,
    /// Tiles that keep a multiprocessor busy.
    pub busy: usize,
    /// Tiles for which a multiprocessor has room at a time; at least `busy` unless [`Self::with_room_for`] says less.
    pub room: usize,
}

impl Tile {
    /// A tile of a product. `beneath` × `beside` warps share it equally. Each warp reads its rows of one operand and
    /// its columns of the other.
    pub const fn new(name: &'static str, [rows, columns]: [usize; 2], [beneath, beside]: [usize; 2]) -> Self {
        let read = rows * beside + columns * beneath;
        let brought = rows + columns;
        let products_an_element = PRODUCTS_AN_ELEMENT;
        Self { name, rows, columns, brought, read, products_an_element, busy: BUSY, room: BUSY }
    }

    /// A tile of products of a warpgroup. Each product reads its 64 rows and all columns. Copies run ahead, so that one
    /// tile keeps a multiprocessor busy.
    pub const fn of_warpgroup(name: &'static str, [rows, columns]: [usize; 2]) -> Self {
        let read = rows + columns * rows.div_ceil(GROUP_ROWS);
        let (brought, products_an_element) = (rows + columns, GROUP_PRODUCTS_AN_ELEMENT);
        Self { name, rows, columns, brought, read, products_an_element, busy: 1, room: 1 }
    }

    /// This tile on a GPU whose multiprocessors have room for `room` of them at a time.
    pub const fn with_room_for(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// Elements of the output.
    fn area(&self) -> usize {
        self.rows * self.columns
    }

    /// The time of a step, in products: its products or the elements that pass through shared memory, whichever takes
    /// longer.
    fn step(&self) -> usize {
        self.area().max(self.products_an_element * (self.brought + self.read))
    }
}

/// A tile that can compute a shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its name among the operation's tiles.
    pub name: &'static str,
    /// Rows and columns of the tile.
    pub size: [usize; 2],
    /// Blocks of the launch.
    pub blocks: usize,
    /// The predicted cost: products that a multiprocessor could make while the one with the most blocks takes a step in
    /// each of them. Costs compare candidates for one shape; they are not times.
    pub cost: usize,
}

impl Candidate {
    fn new(tile: &Tile, blocks: usize, multiprocessors: usize) -> Self {
        let tiles = blocks.div_ceil(multiprocessors);
        // Blocks that run at the same time share their multiprocessor, so their number does not count. If there is no
        // room for those that keep it busy, it is idle in between.
        let cost = if tile.room < tile.busy { tiles * tile.busy } else { tiles.max(tile.busy) } * tile.step();
        Self { name: tile.name, size: [tile.rows, tile.columns], blocks, cost }
    }
}

/// The tile of a launch, and the alternatives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The operation.
    pub operation: &'static str,
    /// The tile of this launch.
    pub taken: Candidate,
    /// The other tiles that can compute the shape, the cheapest first.
    pub others: Vec<Candidate>,
    /// The tile that the user asked for, if any. If it cannot compute the shape, `taken` is another one.
    pub asked: Option<&'static str>,
}

impl Choice {
    /// Takes the cheapest of `candidates`; of equal ones the largest, which copies least, and of equally large ones the
    /// first. But takes `asked` if it is among them. `candidates` has at least one tile, each with the blocks of its
    /// launch.
    pub(super) fn of(
        operation: &'static str,
        candidates: impl IntoIterator<Item = (Tile, usize)>,
        multiprocessors: usize,
        asked: Option<&'static str>,
    ) -> Self {
        let candidates = candidates.into_iter().map(|(tile, blocks)| Candidate::new(&tile, blocks, multiprocessors));
        let mut others: Vec<Candidate> = candidates.collect();
        others.sort_by_key(|candidate| candidate.cost);
        let equal = others.iter().take_while(|candidate| (candidate.cost - others[0].cost) * EQUAL < others[0].cost);
        let largest = equal.enumerate().min_by_key(|(_, candidate)| Reverse(candidate.size[0] * candidate.size[1]));
        let wanted = others.iter().position(|candidate| Some(candidate.name) == asked);
        let wanted = wanted.or(largest.map(|(at, _)| at));
        let taken = others.remove(wanted.unwrap_or(0));
        Self { operation, taken, others, asked }
    }

    /// The cheapest alternative, and its cost divided by the cost of the tile that was taken.
    pub fn next(&self) -> Option<(&'static str, f64)> {
        let next = self.others.first()?;
        Some((next.name, next.cost as f64 / self.taken.cost as f64))
    }

    /// Whether the tile that the user asked for was taken; true if the user asked for none.
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
    use crate::cuda::{conv3d, gemm};

    const WIDE: Tile = Tile::new("wide", [128, 128], [2, 4]);
    const NARROW: Tile = Tile::new("narrow", [64, 64], [2, 2]);

    /// What `scripts/kernel-report` counts in the machine code: FLOPs for each byte that the copies of a step bring.
    fn flops_a_byte(kernel: &str) -> f64 {
        let mut rows = include_str!("../../docs/machine-code/sm_80.txt").lines().map(str::split_whitespace);
        let row = rows.find(|row| row.clone().next() == Some(kernel)).expect("every kernel has a row");
        row.last().and_then(|cell| cell.parse().ok()).expect("the last column of a matrix kernel")
    }

    #[test]
    fn a_step_brings_what_its_machine_code_copies() {
        let kernels = gemm::KERNELS.iter();
        let linear = kernels.map(|kernel| (format!("linear_{}_f16", kernel.tile.name), &kernel.tile));
        let kernels = conv3d::KERNELS.iter();
        let conv = kernels.map(|kernel| (format!("causal_conv3d_nthwc_{}_f16", kernel.tile.name), &kernel.tile));
        for (kernel, tile) in linear.chain(conv) {
            // Two FLOPs a product, two bytes an element. A third of a window is a whole number of elements here.
            let [predicted, counted] = [(tile.rows * tile.columns) as f64 / tile.brought as f64, flops_a_byte(&kernel)];
            assert!((predicted / counted - 1.0).abs() < 0.02, "{kernel}: {predicted} predicted, {counted} counted");
        }
    }

    fn costs(blocks: [usize; 2], multiprocessors: usize) -> [usize; 2] {
        [(WIDE, blocks[0]), (NARROW, blocks[1])]
            .map(|(tile, blocks)| Candidate::new(&tile, blocks, multiprocessors).cost)
    }

    #[test]
    fn the_multiprocessor_with_the_most_blocks_counts() {
        // 20 products an element: 256 elements copied and 768 read; 128 copied and 256 read.
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
        // A warp with a large share of the tile reads little for each product: products take longer than reads.
        assert_eq!(Tile::new("square", [128, 128], [2, 2]).step(), 128 * 128);
    }

    #[test]
    fn a_multiprocessor_without_room_for_two_is_idle_in_between() {
        let cost = |room, blocks| Candidate::new(&WIDE.with_room_for(room), blocks, 132).cost;
        for (blocks, with_room, without) in [(1, 2, 2), (132, 2, 2), (133, 2, 4), (1000, 8, 16)] {
            let costs = [3, 2, 1].map(|room| cost(room, blocks));
            assert_eq!(costs, [with_room, with_room, without].map(|tiles| tiles * WIDE.step()), "{blocks}");
        }
        // Tiles of warpgroups need no room for a second one.
        let group = Tile::of_warpgroup("group", [128, 192]);
        assert_eq!(Candidate::new(&group, 133, 132).cost, 2 * group.step());
    }

    #[test]
    fn of_equal_costs_the_largest_tile_is_taken() {
        let square = |name, side| Tile { brought: 0, read: 0, ..Tile::new(name, [side; 2], [1, 1]) };
        let [small, large] = [square("small", 64), square("large", 128)];
        // 4,096 and 16,384 products: 20 small tiles take as long as 5 large ones.
        for (blocks, expected) in [([20, 5], "large"), ([20, 6], "small"), ([81, 21], "large"), ([80, 21], "small")] {
            let candidates = [(small, blocks[0]), (large, blocks[1])];
            assert_eq!(Choice::of("op", candidates, 1, None).taken.name, expected, "{blocks:?}");
        }
        let choice = Choice::of("op", [(small, 81), (large, 21)], 1, None);
        assert!(choice.next().is_some_and(|(name, cost)| name == "small" && cost < 1.0), "{choice}");
    }

    #[test]
    fn the_first_of_the_cheapest_is_taken() {
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
    fn the_tile_that_is_asked_for_is_taken_if_it_takes_the_shape() {
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

//! The time of the tiles of a launch.

use super::chip::{CACHE_A_CLOCK, FLOPS_A_CLOCK, SHARED_A_CLOCK, WARPS_RATE};
use super::kernels::{ACTIVATE, ADD, Kernel, Pace, STORE, STORE_WITH_MOMENTS, Steps, Stored};
use super::{Chip, Limit, Predicted};
use crate::profile::{Launched, Record};

/// FLOPs of a warp's product, and the quarters of a multiprocessor that multiply.
const WARP_FLOPS: f64 = 4096.0;
const QUARTERS: f64 = 4.0;
/// Blocks that keep a multiprocessor busy, as [`crate::cuda::Choice`] counts them.
const BUSY: usize = 2;

/// The tiles of a launch.
pub(super) struct Tiles<'a> {
    kernel: &'a Kernel,
    /// Tiles of all blocks.
    count: usize,
    /// Steps of each, and those whose bytes come from the second-level cache: a box brings nothing behind the last key.
    steps: f64,
    copied: f64,
    /// Clocks in which a warp stores one, if warps multiply.
    storing: f64,
}

/// The clocks that a tile takes of a multiprocessor: for products and other instructions, for shared memory and for the
/// second-level cache; and how many of the first are for storing.
struct Clocks {
    of: [(f64, Limit); 3],
    storing: f64,
}

impl<'a> Tiles<'a> {
    /// The tiles of a launch of `kernel`; `None` if its parameters lack a size that the kernel's steps follow from.
    pub fn of(kernel: &'a Kernel, record: &Record, launched: &Launched) -> Option<Self> {
        let number = |name: &str| launched.integers.iter().find(|(field, _)| *field == name).map(|&(_, value)| value);
        let blocks = launched.grid.iter().map(|&blocks| blocks as usize).product();
        let (count, area) = match (&record.choice, kernel.pace, number("tasks")) {
            (Some(choice), ..) => (choice.taken.blocks, choice.taken.size[0] * choice.taken.size[1]),
            // Blocks that stay make many of them.
            (None, Pace::Groups { .. }, Some(tasks)) => (tasks as usize, 0),
            _ => (blocks, 0),
        };
        let storing = storing(kernel, area as f64, number);
        let steps = steps(kernel.steps, number)?;
        let copied = match (kernel.steps, kernel.pace) {
            (Steps::Keys(keys), Pace::Groups { .. }) => f64::from(number("keys")?) / f64::from(keys),
            _ => steps,
        };
        Some(Self { kernel, count, steps, copied, storing })
    }

    /// Whether each tile has all keys in one step, and nothing copies ahead.
    pub fn is_attention_over_one(&self) -> bool {
        let ahead = matches!(self.kernel.pace, Pace::Groups { .. });
        matches!(self.kernel.steps, Steps::Keys(_)) && self.steps <= 1.0 && !ahead
    }

    /// The time until `chip` has made all tiles.
    pub fn made_by(&self, chip: &Chip) -> Predicted {
        let Clocks { of, storing } = self.clocks();
        let (clocks, by) = of.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are three");
        let (makers, counted) = self.rounds(chip);
        let seconds = counted as f64 * clocks / chip.clock;
        let cache_bytes = self.count as f64 * self.copied * self.kernel.brought;
        let filled = self.count as f64 / (counted * makers) as f64;
        Predicted { seconds, by, cache_bytes, filled, stored: storing / clocks }
    }

    /// The multiprocessors that make tiles, and the tiles of the one with the most. If a multiprocessor has room for
    /// several blocks, a single one takes as long as two, because nothing runs while it waits.
    fn rounds(&self, chip: &Chip) -> (usize, usize) {
        match self.kernel.pace {
            Pace::Warps { resident, .. } => {
                let tiles = self.count.div_ceil(chip.multiprocessors);
                (chip.multiprocessors, if resident < BUSY { tiles * BUSY } else { tiles.max(BUSY) })
            }
            Pace::Groups { cluster, .. } => {
                let makers = chip.multiprocessors / cluster * cluster;
                (makers, self.count.div_ceil(makers))
            }
        }
    }

    fn clocks(&self) -> Clocks {
        let Self { kernel, steps, copied, .. } = *self;
        let cache = copied * kernel.brought / CACHE_A_CLOCK;
        let (multiplying, storing, sums) = match kernel.pace {
            Pace::Warps { warps, products, others, .. } => {
                let product = WARP_FLOPS / (FLOPS_A_CLOCK / QUARTERS) / WARPS_RATE;
                let of_a_quarter = warps / QUARTERS;
                let step = products * product + others;
                (of_a_quarter * steps * step, of_a_quarter * self.storing, 0.0)
            }
            Pace::Groups { products, columns, rate, sums, rest, .. } => {
                // 64 rows and 16 steps of k.
                let flops = products * columns * 2.0 * 64.0 * 16.0;
                (steps * flops / FLOPS_A_CLOCK / rate, rest, sums)
            }
        };
        let shared = (steps * kernel.shared + sums) / SHARED_A_CLOCK;
        // Storing follows the products, whatever held them.
        let of = [(multiplying, Limit::Products), (shared, Limit::Shared), (cache, Limit::Cache)];
        Clocks { of: self.with_storing(of, storing), storing }
    }

    /// Adds the clocks for storing to those of a step's resources. Other blocks of a multiprocessor copy meanwhile, but a
    /// lone block of warpgroups only brings what its ring holds.
    fn with_storing(&self, of: [(f64, Limit); 3], storing: f64) -> [(f64, Limit); 3] {
        let alone = matches!(self.kernel.pace, Pace::Groups { .. });
        of.map(|(clocks, limit)| (if alone || limit == Limit::Products { clocks + storing } else { clocks }, limit))
    }
}

/// The steps of a tile, from the sizes among the launch's parameters.
fn steps(steps: Steps, number: impl Fn(&str) -> Option<i32>) -> Option<f64> {
    let pieces = |whole: i32, piece: i32| f64::from(whole.div_euclid(piece) + i32::from(whole % piece != 0));
    // Kernels without these fields have three taps in a row and in a column.
    let tap = |name: &str| f64::from(number(name).unwrap_or(3));
    Some(match steps {
        Steps::Inner(piece) => pieces(number("in_features")?, piece),
        Steps::Keys(piece) => pieces(number("keys")?, piece),
        Steps::Taps(piece) => tap("kt") * tap("kh") * tap("kw") * pieces(number("cin")?, piece),
        Steps::Rows(piece) => tap("kt") * tap("kh") * pieces(number("cin")?, piece),
        Steps::Pairs(piece) => 2.0 * tap("kt") * pieces(number("cin")?, piece),
        Steps::Axis(piece) => {
            let taps = number("kt")? * number("kh")? * number("kw")?;
            pieces(taps * number("cin")?, piece)
        }
    })
}

/// Clocks in which a warp stores its part of a tile of `area` elements.
fn storing(kernel: &Kernel, area: f64, number: impl Fn(&str) -> Option<i32>) -> f64 {
    let Pace::Warps { warps, stored, .. } = kernel.pace else { return 0.0 };
    let of_a_lane = area / (32.0 * warps);
    match stored {
        Stored::Instructions(count) => count,
        Stored::Convolution => of_a_lane * STORE_WITH_MOMENTS,
        Stored::Linear => {
            let adds = if number("store").is_some_and(|store| store > 0) { ADD } else { 0.0 };
            // Half of a gated tile's columns are activated, and they alone.
            let activation = match number("activation") {
                Some(3) => ACTIVATE / 2.0,
                Some(1 | 2) => ACTIVATE,
                _ => 0.0,
            };
            of_a_lane * (STORE + adds + activation)
        }
    }
}

//! A model of speed: how long a launch should take on a GPU of compute capability 9.0, before anyone has timed it.
//!
//! A launch takes as long as its memory traffic or its tiles, whichever takes longer, and a pause. A multiprocessor makes
//! its tiles one after the other, or several that share it; the one with the most tiles decides. A tile takes its steps
//! and its storing. A step takes as long as its products, as its bytes through shared memory, or as its bytes from the
//! second-level cache. Warps also issue every other instruction of the loop, one a clock, while no product begins.
//!
//! Rates of the chip are in `chip`, counts of each kernel in `kernels`. Both name their sources. All results are
//! predictions, and no test compares them with a clock.

mod chip;
mod forecast;
mod kernels;
#[cfg(test)]
mod tests;
mod tile;

pub use chip::Chip;
pub use forecast::{Forecast, Gap, forecasts, gaps};

use super::Record;
use chip::{LAUNCH_SECONDS, LONE_TILE_SHARE, MEMORY_SHARE};
use kernels::Known;
use serde::Serialize;
use tile::Tiles;

/// What a launch waits for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The memory.
    Memory,
    /// Products, and the other instructions of their warps.
    Products,
    /// Shared memory.
    Shared,
    /// The second-level cache.
    Cache,
    /// The pause between launches.
    Launch,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Products, Self::Shared, Self::Cache, Self::Launch];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Products => "products",
            Self::Shared => "shared",
            Self::Cache => "cache",
            Self::Launch => "launch",
        }
    }
}

/// The predicted time of a launch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// Seconds.
    pub seconds: f64,
    /// What takes most of them.
    pub by: Limit,
    /// Bytes that its blocks copy from the second-level cache.
    pub cache_bytes: f64,
    /// The part of the multiprocessors' time in which they have a tile; 1 for kernels without tiles.
    pub filled: f64,
    /// The part of a tile's time in which it is stored and nothing is multiplied.
    pub stored: f64,
}

impl Chip {
    /// The predicted time of a launch. `None` for an operation on the CPU, and for a matrix kernel that the model does
    /// not know.
    pub fn predict(&self, record: &Record) -> Option<Predicted> {
        let launched = record.launched.as_ref()?;
        let tiles = match kernels::known(&record.name) {
            Known::Nothing => return None,
            Known::Memory => None,
            Known::Matrix(kernel) => Some(Tiles::of(kernel, record, launched)?),
        };
        let lone = tiles.as_ref().is_some_and(Tiles::is_attention_over_one);
        let share = if lone { LONE_TILE_SHARE } else { MEMORY_SHARE };
        let memory = record.bytes as f64 / (self.memory * share);
        let least = Predicted { seconds: memory, by: Limit::Memory, cache_bytes: 0.0, filled: 1.0, stored: 0.0 };
        let work = tiles.map_or(least, |tiles| {
            let made = tiles.made_by(self);
            if made.seconds > memory { made } else { Predicted { seconds: memory, by: Limit::Memory, ..made } }
        });
        let by = if work.seconds < LAUNCH_SECONDS { Limit::Launch } else { work.by };
        Some(Predicted { seconds: work.seconds + LAUNCH_SECONDS, by, ..work })
    }
}

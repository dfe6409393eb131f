//! Finds the cheapest savings with which a stage fits into memory.

use super::MemoryOptions;
use super::plan::{MemoryPlan, Work};
use crate::cuda::device::Event;
use crate::error::{Error, Relief, Result};
use std::sync::Arc;

/// Numbers of parts in which the transformer can be computed, fewest first.
const PARTS: [usize; 4] = [1, 2, 4, 8];
/// Numbers of frames that a layer of the VAE can take together, most first.
const VAE_FRAMES: [Option<usize>; 4] = [None, Some(16), Some(8), Some(4)];

/// Savings of the text encoder, the cheapest first.
pub fn of_text() -> Vec<MemoryOptions> {
    [false, true].map(|stream_text| MemoryOptions { stream_text, ..MemoryOptions::NONE }).to_vec()
}

/// Savings of the transformer, the cheapest first.
pub fn of_transformer() -> Vec<MemoryOptions> {
    let in_turn = |stream_transformer| {
        PARTS.map(|transformer_parts| MemoryOptions {
            stream_transformer,
            branches_in_turn: true,
            transformer_parts,
            ..MemoryOptions::NONE
        })
    };
    [MemoryOptions::NONE].into_iter().chain(in_turn(false)).chain(in_turn(true)).collect()
}

/// Savings of the VAE, the cheapest first.
pub fn of_vae() -> Vec<MemoryOptions> {
    VAE_FRAMES.map(|vae_frames| MemoryOptions { vae_frames, ..MemoryOptions::NONE }).to_vec()
}

/// A rehearsed stage.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// The savings that it was rehearsed with.
    pub savings: MemoryOptions,
    /// The offsets of its buffers.
    pub plan: Arc<MemoryPlan>,
    /// What it launches.
    pub work: Work,
}

/// How much of a stage to rehearse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The beginning, which needs about as much memory as the rest.
    Start,
    /// Everything.
    Whole,
}

/// Rehearses a stage with these savings, on a device with this many bytes of memory. Returns the log.
pub type Rehearse<'a> = &'a dyn Fn(MemoryOptions, Extent, u64) -> Result<Vec<Event>>;

/// Rehearses `candidates` until one fits into `limit` bytes.
///
/// # Errors
/// The rehearsal's errors; [`Error::OutOfMemory`] with the need of the smallest candidate, if none fits.
pub fn choose(candidates: &[MemoryOptions], limit: Option<u64>, rehearse: Rehearse<'_>) -> Result<Rehearsed> {
    let limit = limit.unwrap_or(u64::MAX);
    for &savings in candidates {
        let start = limit == u64::MAX || fitting(savings, Extent::Start, limit, rehearse)?.is_some();
        if !start {
            continue;
        }
        if let Some(rehearsed) = fitting(savings, Extent::Whole, limit, rehearse)? {
            return Ok(rehearsed);
        }
    }
    let needed = least(candidates, rehearse)?;
    Err(Error::OutOfMemory { stage: "plan".into(), needed, free: limit, relief: Relief::Limit })
}

/// The rehearsed stage, if its arena fits.
fn fitting(savings: MemoryOptions, extent: Extent, limit: u64, rehearse: Rehearse<'_>) -> Result<Option<Rehearsed>> {
    let log = match rehearse(savings, extent, limit) {
        Err(Error::OutOfMemory { .. }) => return Ok(None),
        other => other?,
    };
    let (plan, work) = (Arc::new(MemoryPlan::of(&log)), Work::of(&log));
    Ok((plan.bytes <= limit).then_some(Rehearsed { savings, plan, work }))
}

/// Bytes of the smallest arena among all candidates.
fn least(candidates: &[MemoryOptions], rehearse: Rehearse<'_>) -> Result<u64> {
    let mut smallest = None;
    for &savings in candidates {
        let bytes = MemoryPlan::of(&rehearse(savings, Extent::Start, u64::MAX)?).bytes;
        if smallest.is_none_or(|(least, _)| bytes < least) {
            smallest = Some((bytes, savings));
        }
    }
    let (_, savings) = smallest.expect("a stage can run somehow");
    Ok(MemoryPlan::of(&rehearse(savings, Extent::Whole, u64::MAX)?).bytes)
}

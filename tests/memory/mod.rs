//! Memory plans, arenas, and runs in arenas.

/// Plans of random lifetimes.
mod placement;
/// Whole requests: a run allocates what its plan says.
mod requests;

use osp::engine::{Captions, Devices, Outcome, Quiet, Settings, Task, batch};
use osp::{Model, Result};

/// All frames of a run in order, and the outcome of each request.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    outcomes: Vec<Outcome>,
}

/// Samples videos whose captions have these tokens.
fn run<D: Devices>(devices: D, model: &Model, settings: &[Settings], captions: &[Captions]) -> Result<Frames> {
    let mut frames = Frames::default();
    let tasks: Vec<Task> = settings.iter().cloned().map(Task::from).collect();
    let mut batch = batch(devices, model, &tasks, captions, None, &mut Quiet)?;
    let Frames { bytes, outcomes } = &mut frames;
    let mut take = |rgb: &[u8]| {
        bytes.extend_from_slice(rgb);
        Ok(())
    };
    while let Some(outcome) = batch.decode(&mut Quiet, &mut take)? {
        outcomes.push(outcome);
    }
    Ok(frames)
}

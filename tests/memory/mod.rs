//! Memory plans, arenas, and runs in arenas.

/// Batches: models stay open, and every video has the bits of a run alone.
mod batches;
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
    let captions = captions.iter().cloned().map(Ok).collect();
    let mut batch = batch(devices, model, &tasks, captions, None, &mut Quiet)?;
    let Frames { bytes, outcomes } = &mut frames;
    let mut take = |rgb: &[u8]| {
        bytes.extend_from_slice(rgb);
        Ok(())
    };
    let videos: Vec<usize> = (0..tasks.len()).collect();
    for group in videos.chunks(batch.group()) {
        group.iter().try_for_each(|&video| batch.denoise(video, &mut Quiet))?;
        for &video in group {
            outcomes.push(batch.decode(video, &mut Quiet, &mut take)?);
        }
    }
    Ok(frames)
}

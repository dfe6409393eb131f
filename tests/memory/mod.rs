//! Plans, arenas, and runs in them.

/// Lifetimes at random, placed.
mod placement;
/// Whole requests: what is planned is what is taken.
mod requests;

use osp::checkpoint::Checkpoint;
use osp::pipeline::{Captions, FrameSink, Outcome, Quiet, Request, sample};
use osp::{Result, pipeline};

/// Takes frames and keeps them.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    outcomes: Vec<Outcome>,
}

impl FrameSink for Frames {
    fn begin(&mut self, _: usize, _: &Request) -> Result<()> {
        Ok(())
    }

    fn frame(&mut self, rgb: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(rgb);
        Ok(())
    }

    fn end(&mut self, _: usize, outcome: &Outcome) -> Result<()> {
        self.outcomes.push(outcome.clone());
        Ok(())
    }
}

/// Samples requests whose captions have these tokens.
fn run<D: pipeline::Devices>(
    devices: &D,
    checkpoint: &Checkpoint,
    requests: &[Request],
    captions: &[Captions],
) -> Result<Frames> {
    let mut frames = Frames::default();
    sample(devices, checkpoint, requests, captions, None, &Quiet, &mut frames)?;
    Ok(frames)
}

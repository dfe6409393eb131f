//! The two halves of the VAE, each on a backend that was planned for it.

use super::{Devices, Observer, Stage, StageMemory, StagePlan, Windowed, decode, encode};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// Plans [`encode`] before any work is done.
///
/// # Errors
/// Those of the devices: [`crate::Error::OutOfMemory`] if there is no room.
pub fn plan_encode<D: Devices>(
    devices: &D,
    checkpoint: &Checkpoint,
    pixels: &[u8],
    clip: Windowed,
) -> Result<StagePlan> {
    let shapes = checkpoint.shapes();
    devices.plan(Stage::Encode, &|backend, savings, observer| {
        encode(backend, &shapes, pixels, clip, savings, None, observer).map(drop)
    })
}

/// [`encode`], planned.
///
/// # Errors
/// Those of [`encode`]; [`crate::Error::OutOfMemory`] before any work if there is no room.
pub fn encode_planned<D: Devices>(
    devices: &D,
    checkpoint: &Checkpoint,
    pixels: &[u8],
    clip: Windowed,
    seed: Option<u64>,
    observer: &dyn Observer,
) -> Result<(Vec<f32>, StageMemory)> {
    let plan = plan_encode(devices, checkpoint, pixels, clip)?;
    observer.planned(Stage::Encode, &plan);
    let backend = devices.open(Stage::Encode, &plan).map_err(|error| error.during(Stage::Encode.name()))?;
    let latent = encode(&backend, checkpoint, pixels, clip, plan.savings, seed, observer)?;
    Ok((latent, StageMemory::of(Stage::Encode, &plan)))
}

/// [`decode`], planned.
///
/// # Errors
/// Those of [`decode`]; [`crate::Error::OutOfMemory`] before any work if there is no room.
pub fn decode_planned<D: Devices>(
    devices: &D,
    checkpoint: &Checkpoint,
    latent: &[f32],
    clip: Windowed,
    observer: &dyn Observer,
    frame: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
) -> Result<StageMemory> {
    let shapes = checkpoint.shapes();
    let plan = devices.plan(Stage::Decode, &|backend, savings, observer| {
        decode(backend, &shapes, latent, clip, savings, observer, &mut |_| Ok(()))
    })?;
    observer.planned(Stage::Decode, &plan);
    let backend = devices.open(Stage::Decode, &plan).map_err(|error| error.during(Stage::Decode.name()))?;
    decode(&backend, checkpoint, latent, clip, plan.savings, observer, frame)?;
    Ok(StageMemory::of(Stage::Decode, &plan))
}

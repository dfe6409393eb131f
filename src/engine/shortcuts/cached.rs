//! A cache of predictions on a device.

use super::pace::Place;
use super::{Cache, Remembered, Spent};
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs};

/// The predictions that calls of the model take in place of their own, in f32.
pub(super) struct Cached<'a, B: Backend> {
    cache: &'a Cache,
    spent: Spent,
    /// Newest first, with their timesteps.
    kept: Vec<(f32, B::Buffer)>,
    /// Buffers for more.
    free: Vec<B::Buffer>,
}

impl<'a, B: Backend> Cached<'a, B> {
    /// A cache of predictions of `len` elements, with what an earlier run remembers.
    pub fn new(backend: &B, cache: &'a Cache, len: usize, remembered: &Remembered) -> Result<Self> {
        let free = (0..cache.depth()).map(|_| backend.alloc_f32(len)).collect::<Result<_>>()?;
        let mut cached = Self { cache, spent: remembered.spent, kept: Vec::new(), free };
        for (timestep, values) in remembered.predictions.iter().rev() {
            cached.keep(backend, *timestep, &backend.upload_f32(values)?)?;
        }
        Ok(cached)
    }

    /// Whether the call takes a kept prediction, if the model's input has changed so much since the call before.
    pub fn lets_pass(&mut self, place: &Place, input_change: f64) -> bool {
        self.spent.lets_pass(self.cache, place, input_change)
    }

    /// Keeps the prediction of an evaluated call.
    pub fn keep(&mut self, backend: &B, timestep: f32, prediction: &B::Buffer) -> Result<()> {
        // Of two predictions at one timestep, a line goes through the later one.
        let again = self.kept.first().is_some_and(|(newest, _)| *newest == timestep);
        let oldest = if again { Some(self.kept.remove(0).1) } else { self.free.pop() };
        let mut room = oldest.unwrap_or_else(|| self.kept.pop().expect("a cache keeps something").1);
        copy(backend, prediction, &mut room)?;
        self.kept.insert(0, (timestep, room));
        Ok(())
    }

    /// The prediction at a timestep: the last one, or on the line through the last two.
    pub fn predict(&self, backend: &B, timestep: f32, out: &mut B::Buffer) -> Result<()> {
        match (&self.kept[..], self.cache) {
            ([(newest, last), (older, before)], Cache::Taylor { .. }) => {
                let ahead = (timestep - newest) / (newest - older);
                let op = Combine { len: out.len(), coefficients: &[1.0 + ahead, -ahead], clamp: None };
                backend.combine(&op, CombineArgs { inputs: &[last, before], out })
            }
            ([(_, last), ..], _) => copy(backend, last, out),
            ([], _) => unreachable!("the first call is evaluated"),
        }
    }

    /// Writes what a later run needs into `remembered`. The host waits for the device.
    pub fn remember(&self, backend: &B, remembered: &mut Remembered) -> Result<()> {
        remembered.spent = self.spent;
        for (timestep, prediction) in &self.kept {
            let mut values = vec![0.0; prediction.len()];
            backend.download(prediction, 0, &mut values)?;
            remembered.predictions.push((*timestep, values));
        }
        Ok(())
    }
}

/// `to = from`, rounded to the precision of `to`.
pub(super) fn copy<B: Backend>(backend: &B, from: &B::Buffer, to: &mut B::Buffer) -> Result<()> {
    let op = Combine { len: to.len(), coefficients: &[1.0], clamp: None };
    backend.combine(&op, CombineArgs { inputs: &[from], out: to })
}

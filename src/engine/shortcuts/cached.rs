//! A cache of predictions on a device.

use super::pace::Place;
use super::{Cache, Remembered, SinceEvaluation};
use crate::backend::Backend;
use crate::engine::transfer::{copy, host};
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs};

/// The predictions that calls of the model take in place of their own, in f32.
pub(super) struct Cached<'a, B: Backend> {
    cache: &'a Cache,
    since: SinceEvaluation,
    /// Newest first, with their timesteps.
    kept: Vec<(f32, B::Buffer)>,
    /// Buffers for more.
    free: Vec<B::Buffer>,
}

impl<'a, B: Backend> Cached<'a, B> {
    /// A cache of predictions of `len` elements, with what an earlier run remembers.
    pub fn new(backend: &B, cache: &'a Cache, len: usize, remembered: &Remembered) -> Result<Self> {
        let free = (0..cache.depth()).map(|_| backend.alloc_f32(len)).collect::<Result<_>>()?;
        let mut cached = Self { cache, since: remembered.since, kept: Vec::new(), free };
        for (timestep, values) in remembered.predictions.iter().rev() {
            cached.keep(backend, *timestep, &backend.upload_f32(values)?)?;
        }
        Ok(cached)
    }

    /// Whether the call takes a kept prediction, if the model's input has changed so much since the call before.
    pub fn lets_pass(&mut self, place: &Place, input_change: f64) -> bool {
        self.since.lets_pass(self.cache, place, input_change)
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
        remembered.since = self.since;
        for (timestep, prediction) in &self.kept {
            remembered.predictions.push((*timestep, host(backend, prediction)?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    /// The predictions of a cache at 400 after evaluations with these timesteps and values.
    fn predicted(cache: &Cache, evaluated: &[(f32, f32)]) -> f32 {
        let backend = Cpu::new();
        let mut cached = Cached::new(&backend, cache, 1, &Remembered::default()).unwrap();
        for &(timestep, value) in evaluated {
            cached.keep(&backend, timestep, &backend.upload_f32(&[value]).unwrap()).unwrap();
        }
        let mut out = backend.alloc_f32(1).unwrap();
        cached.predict(&backend, 400.0, &mut out).unwrap();
        host(&backend, &out).unwrap()[0]
    }

    #[test]
    fn taylor_goes_on_along_the_line_of_the_last_two_timesteps() {
        let taylor = Cache::Taylor { interval: 3 };
        assert_eq!(predicted(&taylor, &[(600.0, 5.0)]), 5.0);
        assert_eq!(predicted(&taylor, &[(900.0, 0.0), (600.0, 5.0), (500.0, 7.0)]), 9.0);
        // The later of two predictions at one timestep counts.
        assert_eq!(predicted(&taylor, &[(600.0, 5.0), (500.0, 100.0), (500.0, 7.0)]), 9.0);
    }

    #[test]
    fn other_caches_take_the_last_prediction() {
        let magcache = Cache::MagCache { threshold: 0.1, magnitudes: None };
        assert_eq!(predicted(&magcache, &[(600.0, 5.0), (500.0, 7.0)]), 7.0);
    }
}

//! A device in front of another device, which records every launch.

use super::{Launched, Record, Recorder, Timing};
use crate::arriving::Arriving;
use crate::cuda::Variant;
use crate::cuda::device::{Device, Launch, Memory, MemoryInfo};
use crate::error::Result;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Passes every call to another device, and records every launch.
#[derive(Debug)]
pub struct Profiled {
    device: Arc<dyn Device>,
    recorder: Recorder,
}

impl Profiled {
    /// A device in front of `device`. The recorder says how launches are timed.
    pub fn new(device: Arc<dyn Device>, recorder: Recorder) -> Self {
        Self { device, recorder }
    }
}

impl Device for Profiled {
    fn name(&self) -> String {
        self.device.name()
    }

    fn multiprocessors(&self) -> usize {
        self.device.multiprocessors()
    }

    fn most_shared(&self) -> usize {
        self.device.most_shared()
    }

    fn variant(&self) -> Variant {
        self.device.variant()
    }

    fn set_variant(&mut self, _: Variant) -> Result<()> {
        unreachable!("a variant is chosen before the device is shared")
    }

    fn has(&self, kernel: &str) -> bool {
        self.device.has(kernel)
    }

    fn alloc(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        self.device.alloc(bytes)
    }

    fn alloc_weight(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        self.device.alloc_weight(bytes)
    }

    fn hand_out(&self, memory: &mut dyn Memory, range: Range<usize>) {
        self.device.hand_out(memory, range);
    }

    fn take_back(&self, memory: &dyn Memory, range: Range<usize>) {
        self.device.take_back(memory, range);
    }

    fn write(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        self.device.write(memory, offset, host)
    }

    fn order_prefetch(&self) -> Result<()> {
        self.device.order_prefetch()
    }

    fn write_prefetched(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        self.device.write_prefetched(memory, offset, host)
    }

    fn finish_prefetch(&self) -> Result<()> {
        self.device.finish_prefetch()
    }

    fn read(&self, memory: &dyn Memory, offset: usize, host: &mut [u8]) -> Result<()> {
        self.device.read(memory, offset, host)
    }

    fn read_behind(&self, memory: &dyn Memory, offset: usize, bytes: usize) -> Result<Box<dyn Arriving>> {
        self.device.read_behind(memory, offset, bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let timing = self.recorder.timing();
        if timing == Timing::Cold {
            self.device.clear_caches()?;
        }
        let time = if timing == Timing::None {
            self.device.launch(launch)?;
            None
        } else {
            Some(self.device.timed(&mut || self.device.launch(launch))?)
        };
        let Launch { kernel, grid, flops, bytes, choice, .. } = *launch;
        let (name, choice) = (kernel.to_owned(), choice.cloned());
        let launched = Some(Launched { grid, integers: launch.integers() });
        self.recorder.push(Record { name, launched, flops, bytes, time, choice });
        Ok(())
    }

    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        self.device.timed(work)
    }

    fn clear_caches(&self) -> Result<()> {
        self.device.clear_caches()
    }

    fn synchronize(&self) -> Result<()> {
        self.device.synchronize()
    }

    fn memory_info(&self) -> Result<MemoryInfo> {
        self.device.memory_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::cuda::device::Dry;
    use crate::cuda::{Cuda, Half};
    use crate::ops::sampler::{Combine, CombineArgs};

    #[test]
    fn every_launch_is_recorded_and_timed_if_the_recorder_says_so() {
        for timing in [Timing::None, Timing::Warm, Timing::Cold] {
            let (dry, recorder) = (Arc::new(Dry::new()), Recorder::default());
            let backend = Cuda::new(Arc::new(Profiled::new(dry.clone(), recorder.clone())), Half::Bf16);
            recorder.set_timing(timing);
            let x = backend.upload_f32(&[1.0; 6]).unwrap();
            let mut out = backend.alloc(6).unwrap();
            let op = Combine { len: 6, coefficients: &[2.0, 1.0], clamp: None };
            backend.combine(&op, CombineArgs { inputs: &[&x, &x], out: &mut out }).unwrap();
            assert!(backend.combine(&op, CombineArgs { inputs: &[&x], out: &mut out }).is_err());
            let time = (timing != Timing::None).then_some(Duration::ZERO);
            // Two inputs in f32, the output in 16 bits.
            let name = "combine_ragged_bf16".to_owned();
            let mut records = recorder.take();
            let launched = records[0].launched.take().expect("a launch");
            assert_eq!(launched.grid, [1; 3]);
            assert!(launched.integers.contains(&("count", 6)), "{launched:?}");
            let expected = Record { name, launched: None, flops: 24, bytes: 6 * (4 + 4 + 2), time, choice: None };
            assert_eq!(records, [expected]);
            assert_eq!(recorder.take(), []);
            assert_eq!(dry.allocations(), 2);
        }
    }
}

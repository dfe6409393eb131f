//! The cost of a request, kernel by kernel. Each launch (on the CPU, each operation) states its FLOPs and bytes; a
//! device with a clock also times it.
//!
//! [`Profiled`] stands between the kernels' backend and its device, [`Counted`] between a model and any other backend.
//! Both write into a [`Recorder`]. [`Profiler`] runs one piece of one stage, and [`crate::Engine::profile`] one piece
//! of every stage. [`summarize`] adds records up by kernel, [`gpus`] bounds their time by a data sheet, [`predict`] says
//! what they should take, and [`trace`] draws them.

mod backend;
mod device;
pub mod gpus;
mod passes;
pub mod predict;
mod run;
mod stages;
pub mod trace;
mod whole;

pub use backend::Counted;
pub use device::Profiled;
pub use passes::{Measure, Measured};
pub use run::{Allocated, Profile, StageProfile, Subject, Times};
pub use stages::Profiler;

use crate::cuda::Choice;
use gpus::Gpu;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One launch of a kernel, or one operation on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The kernel's entry point, or the operation.
    pub name: String,
    /// What is known of a launch; the CPU has none.
    pub launched: Option<Launched>,
    /// Floating-point operations.
    pub flops: u64,
    /// The least bytes that must be moved.
    pub bytes: u64,
    /// The measured time, if any.
    pub time: Option<Duration>,
    /// How the kernel's tile was chosen, if the operation has several.
    pub choice: Option<Choice>,
}

/// A launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// The integers among its parameters: their names and values.
    pub integers: Vec<(&'static str, i32)>,
}

/// How [`Profiled`] times each launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// It does not time launches.
    #[default]
    None,
    /// It times each launch separately, so that no launch overlaps with the next.
    Warm,
    /// As [`Self::Warm`], and evicts the operands from the device's caches first.
    Cold,
}

/// Collects records. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    records: Vec<Record>,
    timing: Timing,
}

impl Recorder {
    /// Adds a record.
    pub fn push(&self, record: Record) {
        self.state().records.push(record);
    }

    /// Takes all records since the last call, in order.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.state().records)
    }

    /// Sets how later launches are timed.
    pub fn set_timing(&self, timing: Timing) {
        self.state().timing = timing;
    }

    /// How launches are timed now.
    pub fn timing(&self) -> Timing {
        self.state().timing
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sum of all records of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Kernel or operation.
    pub name: String,
    /// Number of records.
    pub calls: usize,
    /// Floating-point operations.
    pub flops: u64,
    /// The least bytes that must be moved.
    pub bytes: u64,
    /// Measured seconds; `None` if any record has no time.
    pub seconds: Option<f64>,
    /// The least seconds on the given GPU, if any: for each call its arithmetic or its traffic, whichever takes longer.
    pub bound_seconds: Option<f64>,
    /// The closest choice of all calls, if the operation has a choice: the one with the cheapest alternative.
    pub choice: Option<Choice>,
}

/// The cost of a choice's cheapest alternative, divided by the cost of the taken tile.
fn alternative(choice: &Choice) -> f64 {
    choice.next().map_or(f64::INFINITY, |(_, cost)| cost)
}

impl Summary {
    fn empty(name: &str, gpu: Option<&Gpu>) -> Self {
        let bound_seconds = gpu.map(|_| 0.0);
        Self { name: name.to_owned(), calls: 0, flops: 0, bytes: 0, seconds: Some(0.0), bound_seconds, choice: None }
    }

    fn add(&mut self, record: &Record, gpu: Option<&Gpu>) {
        self.calls += 1;
        self.flops += record.flops;
        self.bytes += record.bytes;
        self.seconds = self.seconds.zip(record.time).map(|(sum, time)| sum + time.as_secs_f64());
        self.bound_seconds = self.bound_seconds.zip(gpu).map(|(sum, gpu)| sum + gpu.bound(record.flops, record.bytes));
        let Some(choice) = &record.choice else { return };
        if self.choice.as_ref().is_none_or(|closest| alternative(choice) < alternative(closest)) {
            self.choice = Some(choice.clone());
        }
    }

    /// The key by which a table is sorted, the largest first.
    fn weight(&self) -> f64 {
        self.seconds.or(self.bound_seconds).unwrap_or(self.flops as f64 + 1e-6 * self.bytes as f64)
    }
}

/// Summarizes the records of each name, the most expensive first, and all records together.
pub fn summarize(records: &[Record], gpu: Option<&Gpu>) -> (Vec<Summary>, Summary) {
    let mut all = Summary::empty("all", gpu);
    let mut places = HashMap::new();
    let mut summaries: Vec<Summary> = Vec::new();
    for record in records {
        let place = *places.entry(record.name.as_str()).or_insert_with(|| {
            summaries.push(Summary::empty(&record.name, gpu));
            summaries.len() - 1
        });
        summaries[place].add(record, gpu);
        all.add(record, gpu);
    }
    // Choices of different kernels have nothing in common.
    all.choice = None;
    summaries.sort_by(|a, b| b.weight().total_cmp(&a.weight()).then_with(|| a.name.cmp(&b.name)));
    (summaries, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, flops: u64, bytes: u64, time: Option<u64>) -> Record {
        Record { name: name.into(), launched: None, flops, bytes, time: time.map(Duration::from_millis), choice: None }
    }

    #[test]
    fn calls_of_a_name_are_added_up_and_the_longest_comes_first() {
        let records = [record("a", 1, 10, Some(1)), record("b", 2, 20, Some(5)), record("a", 4, 40, Some(2))];
        let (summaries, all) = summarize(&records, None);
        let names: Vec<_> = summaries.iter().map(|summary| (summary.name.as_str(), summary.calls)).collect();
        assert_eq!(names, [("b", 1), ("a", 2)]);
        assert_eq!((summaries[1].flops, summaries[1].bytes), (5, 50));
        assert!((summaries[1].seconds.unwrap() - 0.003).abs() < 1e-9);
        assert_eq!((all.calls, all.flops, all.bytes, all.bound_seconds), (3, 7, 70, None));
    }

    #[test]
    fn each_call_has_its_own_bound() {
        let gpu = &gpus::GPUS[0];
        let second_of_each = [record("a", gpu.flops as u64, 0, None), record("a", 0, gpu.bytes as u64, None)];
        let (summaries, all) = summarize(&second_of_each, Some(gpu));
        assert!((summaries[0].bound_seconds.unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(all.seconds, None);
    }
}

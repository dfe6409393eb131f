//! What the benches of single operations share.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use std::time::Duration;

/// A group of few and short measurements.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

/// Values in [−1, 1).
pub fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1024) as f32 / 512.0 - 1.0).collect()
}

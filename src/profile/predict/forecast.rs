//! Predictions of many launches.

use super::{Chip, Limit};
use crate::profile::Record;
use crate::profile::gpus::Gpu;
use std::collections::HashMap;

/// The predicted time of several launches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Seconds of all.
    pub seconds: f64,
    /// Bytes that their blocks copy from the second-level cache.
    pub cache_bytes: f64,
    /// Seconds of the launches that wait for each limit most.
    by: [f64; Limit::ALL.len()],
    /// Sums that the averages are made of, weighted by seconds.
    filled: f64,
    stored: f64,
}

impl Forecast {
    /// Adds a launch; `None` if the model does not know it.
    fn add(mut self, chip: &Chip, record: &Record) -> Option<Self> {
        let predicted = chip.predict(record)?;
        self.seconds += predicted.seconds;
        self.cache_bytes += predicted.cache_bytes;
        self.by[predicted.by as usize] += predicted.seconds;
        self.filled += predicted.seconds * predicted.filled;
        self.stored += predicted.seconds * predicted.stored;
        Some(self)
    }

    /// The forecast of these launches, added up; `None` if the model does not know one of them.
    pub fn of<'a>(chip: &Chip, records: impl IntoIterator<Item = &'a Record>) -> Option<Self> {
        records.into_iter().try_fold(Self::default(), |sum, record| sum.add(chip, record))
    }

    /// What holds most of the time.
    pub fn by(&self) -> Limit {
        let most = Limit::ALL.into_iter().max_by(|&a, &b| self.by[a as usize].total_cmp(&self.by[b as usize]));
        most.expect("there are limits")
    }

    /// The part of the multiprocessors' time in which they have a tile.
    pub fn filled(&self) -> f64 {
        if self.seconds > 0.0 { self.filled / self.seconds } else { 1.0 }
    }

    /// The part of the time in which tiles are stored and nothing is multiplied.
    pub fn stored(&self) -> f64 {
        if self.seconds > 0.0 { self.stored / self.seconds } else { 0.0 }
    }
}

/// The forecast of each kernel's launches, by its name.
pub fn forecasts<'a>(chip: &Chip, records: &'a [Record]) -> HashMap<&'a str, Option<Forecast>> {
    let mut sums = HashMap::new();
    for record in records {
        let sum = sums.entry(record.name.as_str()).or_insert(Some(Forecast::default()));
        *sum = sum.and_then(|sum| sum.add(chip, record));
    }
    sums
}

/// What a kernel would give if it reached its bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// The kernel.
    pub name: String,
    /// Its predicted seconds.
    pub seconds: f64,
    /// Its bound by the data sheet.
    pub bound_seconds: f64,
}

impl Gap {
    /// The seconds between prediction and bound.
    pub fn to_give(&self) -> f64 {
        self.seconds - self.bound_seconds
    }
}

/// The gap of each kernel that the model knows, the largest first.
pub fn gaps(chip: &Chip, gpu: &Gpu, records: &[Record]) -> Vec<Gap> {
    let mut bounds: HashMap<&str, f64> = HashMap::new();
    for record in records {
        *bounds.entry(&record.name).or_default() += gpu.bound(record.flops, record.bytes);
    }
    let predicted = forecasts(chip, records).into_iter();
    let mut gaps: Vec<Gap> = predicted
        .filter_map(|(name, sum)| {
            Some(Gap { name: name.to_owned(), seconds: sum?.seconds, bound_seconds: bounds[name] })
        })
        .collect();
    gaps.sort_by(|a, b| b.to_give().total_cmp(&a.to_give()).then_with(|| a.name.cmp(&b.name)));
    gaps
}

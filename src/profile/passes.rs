//! Runs a piece of work several times, measures each run, and takes medians.

use super::{Record, Recorder, Timing};
use crate::error::Result;
use std::time::{Duration, Instant};

/// The quantities that are measured of a piece of work.
#[derive(Clone, Copy)]
pub enum Measure<'a> {
    /// Its launches, without times.
    Counts,
    /// The time of each launch, in the second of two runs.
    Once,
    /// The time of each launch with cold caches, and the time of the whole piece by the host's clock: medians of
    /// several runs.
    Medians {
        /// Runs of each kind.
        repeat: usize,
        /// Waits until the device is done.
        synchronize: &'a dyn Fn() -> Result<()>,
    },
}

/// The measurements of a piece of work.
#[derive(Debug, Default)]
pub struct Measured {
    /// Its launches in order.
    pub records: Vec<Record>,
    /// The time of the whole piece by the host's clock, without a wait between launches.
    pub wall: Option<Duration>,
}

/// One run of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// A first run without measurements. It loads the code, and leaves its memory in the pool.
    WarmUp,
    Launches(Timing),
    Whole,
}

impl Measure<'_> {
    fn passes(self) -> Vec<Pass> {
        match self {
            Self::Counts => vec![Pass::Launches(Timing::None)],
            Self::Once => vec![Pass::WarmUp, Pass::Launches(Timing::Warm)],
            Self::Medians { repeat, .. } => {
                let passes = [vec![Pass::Launches(Timing::Cold); repeat], vec![Pass::Whole; repeat]].concat();
                [vec![Pass::WarmUp], passes].concat()
            }
        }
    }

    /// How often the work is run.
    pub fn runs(self) -> usize {
        self.passes().len()
    }

    fn synchronize(self) -> Result<()> {
        if let Self::Medians { synchronize, .. } = self { synchronize() } else { Ok(()) }
    }
}

/// The runs of one piece of work, one after the other.
pub(super) struct Passes<'a> {
    recorder: &'a Recorder,
    measure: Measure<'a>,
    passes: Vec<Pass>,
    done: usize,
    start: Instant,
    launches: Vec<Vec<Record>>,
    walls: Vec<Duration>,
}

impl<'a> Passes<'a> {
    pub fn new(recorder: &'a Recorder, measure: Measure<'a>) -> Self {
        let passes = measure.passes();
        let (start, launches, walls) = (Instant::now(), Vec::new(), Vec::new());
        Self { recorder, measure, passes, done: 0, start, launches, walls }
    }

    /// Whether another run follows.
    pub fn more(&self) -> bool {
        self.done < self.passes.len()
    }

    /// Begins a run.
    pub fn begin(&mut self) -> Result<()> {
        let timing = match self.passes[self.done] {
            Pass::Launches(timing) => timing,
            Pass::WarmUp | Pass::Whole => Timing::None,
        };
        self.recorder.set_timing(timing);
        self.measure.synchronize()?;
        self.recorder.take();
        self.start = Instant::now();
        Ok(())
    }

    /// Ends a run.
    pub fn end(&mut self) -> Result<()> {
        self.measure.synchronize()?;
        let wall = self.start.elapsed();
        match self.passes[self.done] {
            Pass::WarmUp => {}
            Pass::Launches(_) => self.launches.push(self.recorder.take()),
            Pass::Whole => self.walls.push(wall),
        }
        self.done += 1;
        Ok(())
    }

    /// The measurements of all runs.
    pub fn piece(mut self) -> Measured {
        self.recorder.set_timing(Timing::None);
        let mut runs = self.launches.into_iter();
        let mut records = runs.next().unwrap_or_default();
        let others: Vec<Vec<Record>> = runs.collect();
        for (i, record) in records.iter_mut().enumerate() {
            let of_others = others.iter().map(|run| {
                assert_eq!(run[i].name, record.name, "every run launches the same");
                run[i].time
            });
            let mut times: Vec<Duration> = of_others.chain([record.time]).flatten().collect();
            record.time = median(&mut times);
        }
        Measured { records, wall: median(&mut self.walls) }
    }
}

/// The median; of an even number of times, the larger middle one.
fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_launch_has_its_median_and_runs_come_in_order() {
        let recorder = Recorder::default();
        let measure = Measure::Medians { repeat: 3, synchronize: &|| Ok(()) };
        let mut passes = Passes::new(&recorder, measure);
        let (mut run, mut timings) = (0, Vec::new());
        while passes.more() {
            passes.begin().unwrap();
            timings.push(recorder.timing());
            for (name, base) in [("a", 10), ("b", 20)] {
                // The timed runs take 7, 0 and 3 ms more than the base.
                let time = [None, Some(base + 7), Some(base), Some(base + 3)].get(run).copied().flatten();
                let time = time.map(Duration::from_millis);
                recorder.push(Record { name: name.into(), launched: None, flops: 1, bytes: 1, time, choice: None });
            }
            passes.end().unwrap();
            run += 1;
        }
        let [none, cold] = [Timing::None, Timing::Cold];
        assert_eq!(timings, [none, cold, cold, cold, none, none, none]);
        assert_eq!(run, measure.runs());
        let piece = passes.piece();
        let times: Vec<_> = piece.records.iter().map(|record| record.time.unwrap().as_millis()).collect();
        assert_eq!(times, [13, 23]);
        assert!(piece.wall.is_some());
    }

    #[test]
    fn counted_work_runs_once() {
        let recorder = Recorder::default();
        let mut passes = Passes::new(&recorder, Measure::Counts);
        passes.begin().unwrap();
        recorder.push(Record { name: "a".into(), launched: None, flops: 1, bytes: 1, time: None, choice: None });
        passes.end().unwrap();
        assert!(!passes.more());
        let piece = passes.piece();
        assert_eq!((piece.records.len(), piece.records[0].time, piece.wall), (1, None, None));
    }
}

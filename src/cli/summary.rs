//! What the stages of a run took: units, time and memory.

use super::events::StageSummary;
use super::table::aligned;
use super::units::{duration, megabytes, unit};
use osp::engine::Stage;
use std::time::Duration;

/// The sums over a run. A stage that runs for each video counts once.
#[derive(Default)]
pub struct Summary(Vec<Row>);

struct Row {
    stage: Stage,
    units: u64,
    time: Duration,
    /// Bytes of its memory on a GPU.
    bytes: Option<u64>,
}

impl Summary {
    fn row(&mut self, stage: Stage) -> &mut Row {
        let found = self.0.iter().position(|row| row.stage == stage);
        let index = found.unwrap_or_else(|| {
            self.0.push(Row { stage, units: 0, time: Duration::ZERO, bytes: None });
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    /// A stage will take `bytes` bytes.
    pub fn planned(&mut self, stage: Stage, bytes: u64) {
        let row = self.row(stage);
        row.bytes = row.bytes.max(Some(bytes));
    }

    /// A stage has done `units` units in `time`.
    pub fn done(&mut self, stage: Stage, units: u64, time: Duration) {
        let row = self.row(stage);
        row.units += units;
        row.time += time;
    }

    /// Bytes of a stage's memory, if they are planned.
    pub fn bytes(&self, stage: Stage) -> Option<u64> {
        self.0.iter().find(|row| row.stage == stage)?.bytes
    }

    /// The stages that did something.
    pub fn stages(&self) -> Vec<StageSummary> {
        let summary = |&Row { stage, units, time, bytes }: &Row| StageSummary {
            stage: stage.name(),
            steps: units,
            unit: unit(stage),
            seconds: time.as_secs_f64(),
            bytes,
        };
        self.0.iter().filter(|row| row.units > 0).map(summary).collect()
    }

    /// A table for people; nothing if no stage did anything. `peak`: bytes of the process.
    pub fn lines(&self, peak: Option<u64>) -> Vec<String> {
        let stages = self.stages();
        if stages.is_empty() {
            return Vec::new();
        }
        let bytes = |bytes: Option<u64>| bytes.map(megabytes).unwrap_or_default();
        let time = |seconds: f64| duration(Duration::from_secs_f64(seconds));
        let plan = stages.iter().any(|row| row.bytes.is_some());
        let row = |row: &StageSummary| {
            let plural = if row.steps == 1 { "" } else { "s" };
            let cells = [row.stage.into(), format!("{} {}{plural}", row.steps, row.unit), time(row.seconds)];
            cells.into_iter().chain(plan.then(|| bytes(row.bytes))).collect::<Vec<_>>()
        };
        let header = ["stage", "work", "time"].into_iter().chain(plan.then_some("GPU memory")).map(str::to_owned);
        let all = stages.iter().map(|row| row.seconds).sum();
        let mut rows = vec![header.collect()];
        rows.extend(stages.iter().map(row));
        rows.push(vec!["all".into(), String::new(), time(all)]);
        let table = aligned(&rows);
        let peak = peak.map(|peak| format!("  memory of the process: at most {}", megabytes(peak)));
        table.lines().map(|line| line.trim_end().to_owned()).chain(peak).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_of_several_videos_are_added() {
        let mut summary = Summary::default();
        assert!(summary.lines(Some(1)).is_empty());
        summary.done(Stage::Denoise, 50, Duration::from_millis(1500));
        summary.done(Stage::Decode, 1, Duration::from_secs(2));
        summary.done(Stage::Denoise, 50, Duration::from_millis(1500));
        assert_eq!(
            summary.lines(Some(5_000_000)),
            [
                "  stage         work   time",
                "  denoise  100 steps  3.0 s",
                "  decode      1 tile  2.0 s",
                "  all                 5.0 s",
                "  memory of the process: at most 5.0 MB"
            ]
        );
        summary.planned(Stage::Denoise, 3_000_000);
        summary.planned(Stage::Denoise, 2_000_000);
        assert_eq!(summary.bytes(Stage::Denoise), Some(3_000_000));
        assert_eq!(summary.lines(None)[1], "  denoise  100 steps  3.0 s      3.0 MB");
    }
}

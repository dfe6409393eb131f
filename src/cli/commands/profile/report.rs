//! The report of a profile: as a table, as JSON, as a trace.

use super::predicted::{self, Predicting};
use super::roofline;
use crate::cli::table::{aligned, number};
use crate::cli::variants::Running;
use osp::cuda::Choice;
use osp::profile::gpus::Gpu;
use osp::profile::predict::{Forecast, forecasts};
use osp::profile::trace::{Track, trace};
use osp::profile::{Measured, Profile, Record, StageProfile, Subject, Summary, Times, summarize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// What one command found.
pub struct Report {
    pub model: String,
    pub subject: Subject,
    /// The variant of the kernels; none on the CPU.
    pub running: Option<Running>,
    pub gpu: Option<&'static Gpu>,
    pub profile: Profile,
    /// What predicts the speed of `gpu`, if the user wants predictions.
    pub predicting: Option<Predicting>,
}

/// The predictions of a stage: of each kernel, and of all together.
struct Predictions<'a> {
    each: HashMap<&'a str, Option<Forecast>>,
    all: Option<Forecast>,
}

impl Predictions<'_> {
    /// That of a kernel, or of `all`.
    fn of(&self, name: &str) -> Option<&Forecast> {
        self.each.get(name).unwrap_or(&self.all).as_ref()
    }
}

/// What lies between the calls of a stage.
fn gaps(Measured { records, wall }: &Measured) -> Option<String> {
    let wall = (*wall)?.as_secs_f64();
    let calls: Duration = records.iter().filter_map(|record| record.time).sum();
    let calls = calls.as_secs_f64();
    let share = 100.0 * (wall / calls - 1.0);
    let [wall, calls] = [wall, calls].map(|seconds| number(1e3 * seconds));
    Some(format!("  by the host's clock: {wall} ms for all, {share:+.1} % beside the calls' {calls} ms"))
}

/// A kernel's tile, and what the cheapest alternative would cost beside it.
fn choice_cells(choice: &Choice) -> [String; 2] {
    let [rows, columns] = choice.taken.size;
    // The sum with 0 makes −0 to 0.
    let percent = |cost: f64| (100.0 * (cost - 1.0)).round() + 0.0;
    let next = choice.next().map_or("none".into(), |(name, cost)| format!("{name} {:+.0} %", percent(cost)));
    [format!("{rows}x{columns}"), next]
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        let [frames, height, width] = self.subject.size;
        let mut lines = vec![format!("{} at {frames}x{height}x{width} on {}", self.model, self.profile.device)];
        lines.extend(self.running.map(|running| format!("kernels: {}", running.lines().join("; "))));
        lines.extend(self.gpu.map(|gpu| self.describe(gpu)));
        for stage in &self.profile.stages {
            let memory = stage.memory.as_ref().map(|memory| {
                let gib = memory.peak_bytes as f64 / (1u64 << 30) as f64;
                format!("; at most {gib:.2} GiB at once in {} allocations", memory.allocations)
            });
            lines.push(format!("\n{}: {}{}", stage.stage.name(), stage.what, memory.unwrap_or_default()));
            lines.push(self.table(stage));
            lines.extend(gaps(&stage.piece));
        }
        let outlook = self.outlook(Predicting::outlook);
        lines.extend(outlook.map(|outlook| format!("\n{outlook}")));
        lines.join("\n")
    }

    /// The prediction of the whole request in one form, if the user wants it.
    fn outlook<T>(&self, form: fn(&Predicting, &Profile, [usize; 3], &Gpu) -> T) -> Option<T> {
        let (model, gpu) = self.predicting.as_ref().zip(self.gpu)?;
        Some(form(model, &self.profile, self.subject.size, gpu))
    }

    /// What the figures of a GPU are good for here.
    fn describe(&self, gpu: &Gpu) -> String {
        let Gpu { name, flops, bytes, origin, .. } = gpu;
        let (tera, giga) = (flops / 1e12, bytes / 1e9);
        let peaks = format!("{name} ({origin}): {tera} TFLOP/s in 16 bits, {giga} GB/s");
        match self.profile.times {
            Times::Gpu => format!("roof: {peaks}"),
            _ => format!("a bound, not a measurement: {peaks}"),
        }
    }

    fn table(&self, stage: &StageProfile) -> String {
        let (summaries, all) = summarize(&stage.piece.records, self.gpu);
        let chosen = summaries.iter().any(|summary| summary.choice.is_some());
        let mut rows = vec![self.header(chosen)];
        let predictions = self.predictions(&stage.piece.records);
        for summary in summaries.iter().chain([&all]) {
            let mut row = self.row(summary, &all);
            match &predictions {
                None => row.extend(summary.choice.iter().flat_map(choice_cells)),
                Some(predictions) => {
                    let forecast = predictions.of(&summary.name);
                    row.extend(predicted::cells(summary, forecast, predictions.all.as_ref(), self.profile.times));
                }
            }
            rows.push(row);
        }
        aligned(&rows)
    }

    /// The predictions of a stage's kernels, if the user wants any.
    fn predictions<'a>(&self, records: &'a [Record]) -> Option<Predictions<'a>> {
        let chip = &self.predicting.as_ref()?.chip;
        Some(Predictions { each: forecasts(chip, records), all: Forecast::of(chip, records) })
    }

    /// With columns for predictions, or else for choices, if there were any.
    fn header(&self, chosen: bool) -> Vec<String> {
        let mut cells = vec!["kernel", "calls"];
        match self.profile.times {
            Times::None => cells.extend(["GFLOP", "GB"]),
            Times::Cpu => cells.extend(["CPU ms", "%", "TFLOP/s", "GB/s"]),
            Times::Gpu => cells.extend(["ms", "%", "TFLOP/s", "GB/s"]),
        }
        match (self.gpu, self.profile.times) {
            (None, _) => {}
            (Some(_), Times::Gpu) => cells.push("% of roof"),
            (Some(_), _) => cells.extend(["bound ms", "%", "by"]),
        }
        if self.predicting.is_some() {
            cells.extend(predicted::header(self.profile.times));
        } else if chosen {
            cells.extend(["tile", "next best"]);
        }
        cells.into_iter().map(str::to_owned).collect()
    }

    fn row(&self, summary: &Summary, all: &Summary) -> Vec<String> {
        let (flops, bytes) = (summary.flops as f64, summary.bytes as f64);
        let share = |part: f64, whole: f64| format!("{:.1}", if whole > 0.0 { 100.0 * part / whole } else { 0.0 });
        let mut cells = vec![summary.name.clone(), summary.calls.to_string()];
        let seconds = summary.seconds.filter(|_| self.profile.times != Times::None);
        match (seconds, all.seconds) {
            (Some(seconds), Some(total)) => {
                let rate = |amount: f64| if seconds > 0.0 { number(amount / seconds) } else { "-".into() };
                cells.extend([number(1e3 * seconds), share(seconds, total), rate(flops / 1e12), rate(bytes / 1e9)]);
            }
            _ => cells.extend([number(flops / 1e9), number(bytes / 1e9)]),
        }
        if let (Some(gpu), Some(bound), Some(total)) = (self.gpu, summary.bound_seconds, all.bound_seconds) {
            match seconds {
                Some(seconds) => cells.push(share(bound, seconds)),
                None => {
                    let by_memory = gpu.is_bound_by_memory(summary.flops, summary.bytes);
                    let by = if by_memory { "memory" } else { "FLOPs" };
                    cells.extend([number(1e3 * bound), share(bound, total), by.into()]);
                }
            }
        }
        cells
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let [frames, height, width] = self.subject.size;
        let gpu = self.gpu.map(|gpu| {
            json!({
                "name": gpu.name, "flops_per_second": gpu.flops, "bytes_per_second": gpu.bytes, "origin": gpu.origin,
            })
        });
        let stages: Vec<Value> = self.profile.stages.iter().map(|stage| self.stage_json(stage)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": self.model,
            "device": self.profile.device,
            "frames": frames,
            "height": height,
            "width": width,
            "tokens": self.subject.tokens,
            "variants": self.running.map(Running::lines),
            "gpu": gpu,
            "stages": stages,
            "predicted": self.outlook(Predicting::outlook_json),
        })
    }

    fn stage_json(&self, stage: &StageProfile) -> Value {
        let (summaries, all) = summarize(&stage.piece.records, self.gpu);
        let predictions = self.predictions(&stage.piece.records);
        let json = |summary: &Summary| {
            let mut row = self.summary_json(summary);
            if let Some(predictions) = &predictions {
                row["predicted"] = predicted::cells_json(predictions.of(&summary.name));
            }
            row
        };
        let kernels: Vec<Value> = summaries.iter().map(json).collect();
        let memory = stage.memory.as_ref();
        json!({
            "stage": stage.stage.name(),
            "what": stage.what,
            "kernels": kernels,
            "all": json(&all),
            "wall_seconds": stage.piece.wall.map(|wall| wall.as_secs_f64()),
            "peak_bytes": memory.map(|memory| memory.peak_bytes),
            "allocations": memory.map(|memory| memory.allocations),
        })
    }

    fn summary_json(&self, summary: &Summary) -> Value {
        let Summary { name, calls, flops, bytes, seconds, bound_seconds, choice } = summary;
        let key = if self.profile.times == Times::Cpu { "cpu_seconds" } else { "gpu_seconds" };
        let seconds = seconds.filter(|_| self.profile.times != Times::None);
        json!({
            "kernel": name, "calls": calls, "flops": flops, "bytes": bytes, key: seconds, "bound_seconds": bound_seconds,
            "choice": choice,
        })
    }

    /// Each stage over the roofs of the GPU.
    pub fn roofline(&self, gpu: &Gpu) -> String {
        let [frames, height, width] = self.subject.size;
        let title = format!("{} at {frames}x{height}x{width} on {}", self.model, gpu.name);
        let panels = self.profile.stages.iter().map(|stage| {
            let (summaries, _) = summarize(&stage.piece.records, Some(gpu));
            let predictions = self.predictions(&stage.piece.records);
            let predicted = |name: &str| Some(predictions.as_ref()?.of(name)?.seconds);
            let measured = |summary: &Summary| summary.seconds.filter(|_| self.profile.times == Times::Gpu);
            let points = summaries.iter().map(|summary| roofline::Kernel {
                name: summary.name.clone(),
                flops: summary.flops as f64,
                bytes: summary.bytes as f64,
                bound: summary.bound_seconds.unwrap_or(0.0),
                predicted: predicted(&summary.name),
                measured: measured(summary),
            });
            roofline::Panel { title: format!("{}: {}", stage.stage.name(), stage.what), kernels: points.collect() }
        });
        roofline::draw(&title, gpu, &panels.collect::<Vec<_>>())
    }

    /// For Perfetto: times where there are any, else predictions, else bounds.
    pub fn trace(&self) -> Value {
        let tracks: Vec<Track<'_>> =
            self.profile.stages.iter().map(|stage| (stage.stage.name(), &*stage.piece.records)).collect();
        let kind = match self.profile.times {
            Times::None if self.predicting.is_some() => "predicted",
            Times::None => "bounds by a data sheet",
            Times::Cpu => "measured on the CPU",
            Times::Gpu => "measured on the GPU",
        };
        trace(&tracks, kind, |record| match (record.time, self.gpu) {
            (Some(time), _) => time.as_secs_f64(),
            (None, Some(gpu)) => {
                let predicted = self.predicting.as_ref().and_then(|model| model.chip.predict(record));
                predicted.map_or_else(|| gpu.bound(record.flops, record.bytes), |predicted| predicted.seconds)
            }
            (None, None) => 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osp::engine::Stage;
    use osp::profile::Launched;
    use osp::profile::predict::Chip;

    /// A report on two launches, each of a tenth of a second's work for an H100.
    fn report(times: Times, time: Option<Duration>) -> Report {
        let gpu = Gpu::named("h100").unwrap();
        let (flops, bytes) = ((gpu.flops / 10.0) as u64, (gpu.bytes / 10.0) as u64);
        let record =
            |name: &str, flops, bytes| Record { name: name.into(), launched: None, flops, bytes, time, choice: None };
        let wall = time.map(|time| 3 * time);
        let piece = Measured { records: vec![record("a", flops, 0), record("b", 0, bytes)], wall };
        let stage = StageProfile { stage: Stage::Text, what: "words".into(), piece, memory: None };
        let subject = Subject { size: [1, 16, 16], tokens: 3, tiling: None, repeat: None };
        let profile = Profile { device: "d".into(), times, stages: vec![stage] };
        Report { model: "m".into(), subject, running: None, gpu: Some(gpu), profile, predicting: None }
    }

    #[test]
    fn measured_times_are_held_against_the_roof() {
        let text = report(Times::Gpu, Some(Duration::from_millis(200))).text();
        let row = |name: &str| {
            let row = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap();
            row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("kernel"), ["kernel", "calls", "ms", "%", "TFLOP/s", "GB/s", "%", "of", "roof"]);
        assert_eq!(row("a"), ["a", "1", "200", "50.0", "495", "0.000", "50.0"]);
        assert_eq!(row("b"), ["b", "1", "200", "50.0", "0.000", "1675", "50.0"]);
        assert_eq!(row("all"), ["all", "2", "400", "100.0", "247", "838", "50.0"]);
        assert!(text.contains("by the host's clock: 600 ms for all, +50.0 % beside the calls' 400 ms"), "{text}");
        assert!(text.contains("roof: H100 SXM (NVIDIA H100 data sheet)"), "{text}");
    }

    #[test]
    fn measured_times_are_held_against_predictions() {
        let mut report = report(Times::Gpu, Some(Duration::from_millis(200)));
        let gpu = report.gpu.unwrap();
        let records = &mut report.profile.stages[0].piece.records;
        // The first record has no launch, so that there is no prediction, and none of the sum.
        records[1].launched = Some(Launched { grid: [1; 3], integers: Vec::new() });
        report.predicting = Some(Predicting { chip: Chip::of(gpu).unwrap(), decode: Vec::new() });
        let text = report.text();
        let row = |name: &str| {
            let row = text.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap();
            row.split_whitespace().skip(6).map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        // A tenth of a second at the data sheet's bandwidth, of which 81 % are expected.
        assert_eq!(row("b"), "50.0 123 +62 % memory");
        assert_eq!([row("a"), row("all")], ["50.0 - - -"; 2]);
        let predicted = &report.json()["stages"][0]["kernels"][1]["predicted"];
        assert!((predicted["seconds"].as_f64().unwrap() - 0.1 / 0.81).abs() < 1e-5, "{predicted}");
        let svg = report.roofline(gpu);
        assert!(svg.contains("(measured)") && !svg.contains("(predicted)"), "{svg}");
    }

    #[test]
    fn bounds_are_called_bounds() {
        let report = report(Times::None, None);
        let text = report.text();
        for words in ["bound ms", "a bound, not a measurement", "FLOPs", "memory"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let all = &report.json()["stages"][0]["all"];
        assert_eq!(all["gpu_seconds"], Value::Null);
        assert!((all["bound_seconds"].as_f64().unwrap() - 0.2).abs() < 1e-9);
        assert_eq!(report.trace()["otherData"]["durations"], "bounds by a data sheet");
    }
}

//! The columns and the lines of `--predict`.

use crate::cli::table::{aligned, number};
use osp::engine::Stage;
use osp::profile::gpus::Gpu;
use osp::profile::predict::{Chip, Forecast, Gap, gaps};
use osp::profile::{Profile, Record, Summary, Times};
use serde_json::{Value, json};

/// A model of a GPU's speed, and the launches of a whole decode, which a profile does not run.
pub struct Predicting {
    pub chip: Chip,
    pub decode: Vec<Record>,
}

/// The GPU and the size for which the project has aims, and the seconds of a step with guidance and of a decode.
const AIMED: (&str, [usize; 3]) = ("h100", [221, 512, 512]);
const AIMS: [f64; 2] = [0.36, 4.0];
/// Kernels that are named if an aim is missed.
const NAMED: usize = 6;

/// A whole piece of the request: a step with guidance, or all windows of the decode.
struct Whole<'a> {
    what: &'static str,
    records: &'a [Record],
    aim: Option<f64>,
}

/// The columns for predictions beside counts, or beside measured times.
pub fn header(times: Times) -> &'static [&'static str] {
    match times {
        Times::Gpu => &["predicted ms", "measured", "held by"],
        _ => &["predicted ms", "%", "% of roof", "cache GB", "filled %", "stored %", "held by"],
    }
}

/// The cells of a kernel below [`header`].
pub fn cells(summary: &Summary, forecast: Option<&Forecast>, whole: Option<&Forecast>, times: Times) -> Vec<String> {
    let Some(forecast) = forecast else { return header(times).iter().map(|_| "-".to_owned()).collect() };
    let share = |part: f64, whole: f64| format!("{:.1}", if whole > 0.0 { 100.0 * part / whole } else { 0.0 });
    let predicted = number(1e3 * forecast.seconds);
    let by = forecast.by().name().to_owned();
    match (times, summary.seconds) {
        (Times::Gpu, Some(measured)) => vec![predicted, format!("{:+.0} %", against(measured, forecast)), by],
        _ => vec![
            predicted,
            whole.map_or("-".into(), |whole| share(forecast.seconds, whole.seconds)),
            share(summary.bound_seconds.unwrap_or(0.0), forecast.seconds),
            number(forecast.cache_bytes / 1e9),
            share(forecast.filled(), 1.0),
            share(forecast.stored(), 1.0),
            by,
        ],
    }
}

/// By how many percent a measured time is longer than the predicted one.
fn against(measured: f64, forecast: &Forecast) -> f64 {
    100.0 * (measured / forecast.seconds - 1.0)
}

/// A kernel's prediction for machines.
pub fn cells_json(forecast: Option<&Forecast>) -> Value {
    forecast.map_or(Value::Null, |forecast| {
        json!({
            "seconds": forecast.seconds, "held_by": forecast.by(), "cache_bytes": forecast.cache_bytes,
            "filled": forecast.filled(), "stored": forecast.stored(),
        })
    })
}

/// Milliseconds, or seconds from one second on.
fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{} ms", number(1e3 * seconds)) } else { format!("{} s", number(seconds)) }
}

/// The least seconds of all launches.
fn bound(gpu: &Gpu, records: &[Record]) -> f64 {
    records.iter().map(|record| gpu.bound(record.flops, record.bytes)).sum()
}

impl Predicting {
    /// A step and a decode of the whole request, whose clip has `size`.
    fn wholes<'a>(&'a self, profile: &'a Profile, size: [usize; 3], gpu: &Gpu) -> Vec<Whole<'a>> {
        let aimed = (gpu.key, size) == AIMED;
        let aim = |which: usize| aimed.then_some(AIMS[which]);
        let step = profile.stages.iter().find(|stage| stage.stage == Stage::Denoise);
        let step = step.map(|stage| Whole { what: "a step with guidance", records: &stage.piece.records, aim: aim(0) });
        let decode = Whole { what: "the whole decode", records: &self.decode, aim: aim(1) };
        step.into_iter().chain([decode]).collect()
    }

    /// What the whole request is predicted to take and, where an aim is missed, which kernels have the most to give.
    pub fn outlook(&self, profile: &Profile, size: [usize; 3], gpu: &Gpu) -> String {
        let mut lines = vec![format!("predicted, not measured, for {}:", gpu.name)];
        for Whole { what, records, aim } in self.wholes(profile, size, gpu) {
            let least = time(bound(gpu, records));
            let Some(forecast) = Forecast::of(&self.chip, records) else {
                lines.push(format!("  {what}: no prediction, because a kernel has no model; the bound is {least}"));
                continue;
            };
            let says = aim.map(|aim| match forecast.seconds - aim {
                over if over > 0.0 => format!("; the aim of {} is missed by {}", time(aim), time(over)),
                _ => format!("; the aim of {} is met", time(aim)),
            });
            lines.push(format!("  {what}: {}, bound {least}{}", time(forecast.seconds), says.unwrap_or_default()));
            if aim.is_some_and(|aim| forecast.seconds > aim) {
                lines.push(most_to_give(&gaps(&self.chip, gpu, records)));
            }
        }
        lines.join("\n")
    }

    /// The same for machines, with the gaps of all kernels.
    pub fn outlook_json(&self, profile: &Profile, size: [usize; 3], gpu: &Gpu) -> Value {
        let whole = |Whole { what, records, aim }: Whole<'_>| {
            let gaps: Vec<Value> = gaps(&self.chip, gpu, records).iter().map(gap_json).collect();
            json!({
                "what": what,
                "predicted_seconds": Forecast::of(&self.chip, records).map(|forecast| forecast.seconds),
                "bound_seconds": bound(gpu, records),
                "aim_seconds": aim,
                "gaps": gaps,
            })
        };
        json!({ "gpu": gpu.name, "wholes": self.wholes(profile, size, gpu).into_iter().map(whole).collect::<Vec<_>>() })
    }
}

fn gap_json(gap: &Gap) -> Value {
    let Gap { name, seconds, bound_seconds } = gap;
    json!({ "kernel": name, "predicted_seconds": seconds, "bound_seconds": bound_seconds })
}

/// The kernels that are farthest from their bounds.
fn most_to_give(gaps: &[Gap]) -> String {
    let all: f64 = gaps.iter().map(Gap::to_give).sum();
    let header = ["  to give", "ms", "%", "predicted ms", "bound ms"].map(str::to_owned).to_vec();
    let rows = gaps.iter().take(NAMED).map(|gap| {
        let share = format!("{:.1}", 100.0 * gap.to_give() / all);
        let [give, predicted, bound] =
            [gap.to_give(), gap.seconds, gap.bound_seconds].map(|seconds| number(1e3 * seconds));
        vec![format!("  {}", gap.name), give, share, predicted, bound]
    });
    aligned(&[header].into_iter().chain(rows).collect::<Vec<_>>())
}

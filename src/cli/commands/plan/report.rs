//! Prints a plan as a table, as JSON or as a picture.

use super::svg::{Panel, draw};
use crate::cli::table::{aligned, number};
use osp::engine::{Settings, Stage, StagePlan};
use osp::memory::MemoryOptions;
use osp::memory::choose::Rehearsed;
use osp::profile::gpus::Gpu;
use schemars::JsonSchema;
use serde::Serialize;

/// A plan and its request.
pub struct Report {
    pub model: String,
    pub settings: Settings,
    /// Tokens of the caption; `None` for an encoding.
    pub tokens: Option<usize>,
    /// The most bytes that a stage may take.
    pub limit: Option<u64>,
    pub gpu: Option<&'static Gpu>,
    pub stages: Vec<(Stage, StagePlan)>,
}

/// A plan as JSON.
#[derive(Serialize, JsonSchema)]
pub struct PlanRecord<'a> {
    version: &'static str,
    model: &'a str,
    frames: usize,
    height: usize,
    width: usize,
    /// Of the caption; `null` for an encoding.
    tokens: Option<usize>,
    sampler: &'static str,
    steps: usize,
    guidance: f32,
    /// The most bytes that a stage may take.
    limit_bytes: Option<u64>,
    gpu: Option<Sheet>,
    /// Of the largest arena.
    bytes: u64,
    stages: Vec<StageRecord>,
}

/// A GPU's data sheet.
#[derive(Serialize, JsonSchema)]
struct Sheet {
    name: &'static str,
    flops_per_second: f64,
    bytes_per_second: f64,
    origin: &'static str,
}

/// A stage of a plan.
#[derive(Serialize, JsonSchema)]
struct StageRecord {
    stage: &'static str,
    savings: MemoryOptions,
    weights_bytes: u64,
    activations_bytes: u64,
    arena_bytes: u64,
    peak: PeakRecord,
    allocations: usize,
    launches: u64,
    flops: u64,
    /// That the launches must move.
    bytes: u64,
    /// The least time on the GPU of the data sheet.
    bound_seconds: Option<f64>,
}

/// The moment at which most bytes are alive.
#[derive(Serialize, JsonSchema)]
struct PeakRecord {
    bytes: u64,
    /// The number of launches before it.
    launch: usize,
    /// Most bytes first.
    dominated_by: Vec<Share>,
}

/// Bytes of the buffers with a label.
#[derive(Serialize, JsonSchema)]
struct Share {
    label: &'static str,
    bytes: u64,
}

/// The number of labels that the table names at a peak.
const NAMED: usize = 3;

impl Report {
    /// Each stage with its rehearsal.
    fn rehearsed(&self) -> impl Iterator<Item = (Stage, &Rehearsed)> {
        self.stages.iter().map(|(stage, plan)| (*stage, plan.rehearsed.as_ref().expect("stages are rehearsed here")))
    }

    /// Size of the largest arena.
    fn bytes(&self) -> u64 {
        self.rehearsed().map(|(_, rehearsed)| rehearsed.plan.bytes).max().unwrap_or(0)
    }

    fn bound(&self, rehearsed: &Rehearsed) -> Option<f64> {
        self.gpu.map(|gpu| rehearsed.work.bound(|flops, bytes| gpu.bound(flops, bytes)))
    }

    /// The request, in one line.
    fn title(&self) -> String {
        let Settings { frames, height, width, sampler, steps, guidance, .. } = &self.settings;
        let tokens = self.tokens.map(|tokens| {
            let guidance = if *guidance > 1.0 { "with guidance" } else { "without guidance" };
            format!(", {tokens} tokens, {sampler} in {steps} steps {guidance}")
        });
        format!("{} at {frames}x{height}x{width}{}", self.model, tokens.unwrap_or_default())
    }

    /// The plan as a table.
    pub fn text(&self) -> String {
        let mut lines = vec![self.title()];
        if let Some(gpu) = self.gpu {
            let Gpu { name, flops, bytes, origin, .. } = gpu;
            let (tera, giga) = (flops / 1e12, bytes / 1e9);
            let peaks = format!("{name} ({origin}): {tera} TFLOP/s in 16 bits, {giga} GB/s");
            lines.push(format!("a bound, not a measurement: {peaks}"));
        }
        lines.push(String::new());
        let mut rows = vec![self.header()];
        rows.extend(self.rehearsed().map(|(stage, rehearsed)| self.row(stage, rehearsed)));
        lines.push(aligned(&rows));
        lines.push(String::new());
        lines.extend(self.rehearsed().map(|(stage, rehearsed)| about(stage, rehearsed)));
        let limit = self.limit.map(|limit| format!(", of {} GiB allowed", gib(limit)));
        lines.push(format!("\nat most {} GiB at once{}", gib(self.bytes()), limit.unwrap_or_default()));
        lines.join("\n")
    }

    fn header(&self) -> Vec<String> {
        let cells = ["stage", "weights GiB", "activations GiB", "arena GiB", "launches", "TFLOP", "GB"];
        let bound = self.gpu.map(|_| "bound s");
        cells.into_iter().chain(bound).map(str::to_owned).collect()
    }

    fn row(&self, stage: Stage, rehearsed: &Rehearsed) -> Vec<String> {
        let Rehearsed { plan, work, .. } = rehearsed;
        let mut cells = vec![
            stage.name().to_owned(),
            gib(plan.weights()),
            gib(plan.activations()),
            gib(plan.bytes),
            work.launches().to_string(),
            number(work.flops() as f64 / 1e12),
            number(work.bytes() as f64 / 1e9),
        ];
        cells.extend(self.bound(rehearsed).map(number));
        cells
    }

    /// The plan for JSON.
    pub fn record(&self) -> PlanRecord<'_> {
        let Settings { frames, height, width, sampler, steps, guidance, .. } = self.settings;
        PlanRecord {
            version: env!("CARGO_PKG_VERSION"),
            model: &self.model,
            frames,
            height,
            width,
            tokens: self.tokens,
            sampler: sampler.name(),
            steps,
            guidance,
            limit_bytes: self.limit,
            gpu: self.gpu.map(|gpu| Sheet {
                name: gpu.name,
                flops_per_second: gpu.flops,
                bytes_per_second: gpu.bytes,
                origin: gpu.origin,
            }),
            bytes: self.bytes(),
            stages: self.rehearsed().map(|(stage, rehearsed)| self.stage_record(stage, rehearsed)).collect(),
        }
    }

    fn stage_record(&self, stage: Stage, rehearsed: &Rehearsed) -> StageRecord {
        let Rehearsed { savings, plan, work } = rehearsed;
        let dominated_by = plan.peak.by.iter().map(|&(label, bytes)| Share { label, bytes }).collect();
        StageRecord {
            stage: stage.name(),
            savings: *savings,
            weights_bytes: plan.weights(),
            activations_bytes: plan.activations(),
            arena_bytes: plan.bytes,
            peak: PeakRecord { bytes: plan.peak.bytes, launch: plan.peak.launch, dominated_by },
            allocations: plan.buffers.len(),
            launches: work.launches(),
            flops: work.flops(),
            bytes: work.bytes(),
            bound_seconds: self.bound(rehearsed),
        }
    }

    /// The arenas over time.
    pub fn svg(&self) -> String {
        let panels: Vec<Panel<'_>> = self
            .rehearsed()
            .map(|(stage, rehearsed)| Panel {
                title: format!("{}: {} GiB, {}", stage.name(), gib(rehearsed.plan.bytes), rehearsed.savings),
                plan: &rehearsed.plan,
                launches: rehearsed.work.launches() as usize,
            })
            .collect();
        draw(&self.title(), &panels)
    }
}

/// A stage's savings, and the largest buffers at its peak.
fn about(stage: Stage, rehearsed: &Rehearsed) -> String {
    let Rehearsed { savings, plan, .. } = rehearsed;
    let share =
        |(label, bytes): &(&str, u64)| format!("{label} {:.0} %", 100.0 * *bytes as f64 / plan.peak.bytes as f64);
    let named: Vec<String> = plan.peak.by.iter().take(NAMED).map(share).collect();
    format!("  {}: {savings}; at its peak {}", stage.name(), named.join(", "))
}

/// Gibibytes, to the hundredth.
fn gib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / (1u64 << 30) as f64)
}

//! Provides a backend for each stage of a run; each has its own memory.

use super::{Observer, Stage};
use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cuda::device::{Device, Dry};
use crate::cuda::{Cuda, Half};
use crate::error::{Error, Relief, Result};
use crate::memory::MemoryOptions;
use crate::memory::arena::Arena;
use crate::memory::choose::{self, Extent, Rehearsed, choose};
use serde::Serialize;
use std::fmt::Debug;
use std::sync::Arc;

/// The host code of a stage, to run it on a device that executes nothing.
pub type Rehearsal<'a> = &'a dyn Fn(&Cuda, MemoryOptions, &mut dyn Observer) -> Result<()>;

/// Provides a backend for each stage. A stage's memory is freed when its backend and buffers are dropped.
pub trait Devices {
    /// The backend of a stage.
    type Backend: Backend;

    /// The name of a stage's backend.
    fn name(&self, stage: Stage) -> String;

    /// Plans a stage: its savings and, if the device plans memory, the offsets of its buffers.
    ///
    /// # Errors
    /// Those of the rehearsal; [`Error::OutOfMemory`] if the stage does not fit even with all savings.
    fn plan(&self, stage: Stage, rehearsal: Rehearsal<'_>) -> Result<StagePlan>;

    /// Whether the backends of two planned stages may be open at once.
    fn fit_together(&self, plans: [&StagePlan; 2]) -> bool;

    /// Opens the backend of a planned stage.
    ///
    /// # Errors
    /// Those of the device.
    fn open(&self, stage: Stage, plan: &StagePlan) -> Result<Self::Backend>;
}

/// How a stage will run.
#[derive(Clone, Debug)]
pub struct StagePlan {
    /// Its savings.
    pub savings: MemoryOptions,
    /// Its memory and its work, if it was rehearsed.
    pub rehearsed: Option<Rehearsed>,
}

/// How a stage used memory, for records.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct StageMemory {
    /// Which stage.
    pub stage: &'static str,
    /// Its savings.
    pub savings: MemoryOptions,
    /// Bytes of its arena, if it has one.
    pub arena_bytes: Option<u64>,
}

impl StageMemory {
    /// The use of memory of a planned stage.
    pub fn of(stage: Stage, plan: &StagePlan) -> Self {
        let arena_bytes = plan.rehearsed.as_ref().map(|rehearsed| rehearsed.plan.bytes);
        Self { stage: stage.name(), savings: plan.savings, arena_bytes }
    }
}

/// The CPU plans nothing: its pool grows and shrinks with the buffers in use. It streams the text encoder, which costs no time on
/// a CPU: each block serves all captions at once, and generated weights need memory for one block only.
impl Devices for Cpu {
    type Backend = Cpu;

    fn name(&self, _: Stage) -> String {
        Backend::name(self)
    }

    fn plan(&self, stage: Stage, _: Rehearsal<'_>) -> Result<StagePlan> {
        let savings = MemoryOptions { stream_text: stage == Stage::Text, ..MemoryOptions::NONE };
        Ok(StagePlan { savings, rehearsed: None })
    }

    fn fit_together(&self, _: [&StagePlan; 2]) -> bool {
        // What the stages need is not known.
        false
    }

    fn open(&self, _: Stage, _: &StagePlan) -> Result<Cpu> {
        Ok(self.clone())
    }
}

/// A device on which each stage runs in one allocation, planned by a rehearsal.
#[derive(Clone)]
pub struct PlannedDevice {
    device: Arc<dyn Device>,
    /// The type of the text encoder, and the type of the other models.
    dtypes: [Half; 2],
    /// Bytes that a stage may take.
    limit: Option<u64>,
    /// Fixed savings, where the limit does not choose them.
    savings: Option<MemoryOptions>,
}

impl PlannedDevice {
    /// Chooses the least savings that fit into `limit` bytes. `dtypes`: of the text encoder, and of the other models.
    pub fn within(device: Arc<dyn Device>, dtypes: [Half; 2], limit: Option<u64>) -> Self {
        Self { device, dtypes, limit, savings: None }
    }

    /// Uses exactly these savings.
    pub fn saving(device: Arc<dyn Device>, dtypes: [Half; 2], savings: MemoryOptions) -> Self {
        Self { device, dtypes, limit: None, savings: Some(savings) }
    }

    fn half(&self, stage: Stage) -> Half {
        self.dtypes[usize::from(stage != Stage::Text)]
    }
}

impl Devices for PlannedDevice {
    type Backend = Cuda;

    fn name(&self, stage: Stage) -> String {
        Cuda::new(self.device.clone(), self.half(stage)).name()
    }

    fn plan(&self, stage: Stage, rehearsal: Rehearsal<'_>) -> Result<StagePlan> {
        let candidates = match (self.savings, stage) {
            (Some(savings), _) => vec![savings],
            (None, Stage::Text) => choose::of_text(),
            (None, Stage::Denoise) => choose::of_transformer(),
            (None, Stage::Decode | Stage::Encode) => choose::of_vae(),
        };
        let rehearsed = choose(&candidates, self.limit, &|savings, extent, memory| {
            let dry = Dry::with_memory(memory).like(&*self.device);
            let dry = Arc::new(dry);
            let mut observer = Rehearsing { units: (extent == Extent::Start).then_some(UNITS) };
            match rehearsal(&Cuda::new(dry.clone(), self.half(stage)).silent(), savings, &mut observer) {
                Err(Error::Interrupted) if observer.units == Some(0) => {}
                other => other?,
            }
            Ok(dry.take_log())
        });
        let rehearsed = rehearsed.map_err(|error| no_room(error, stage))?;
        Ok(StagePlan { savings: rehearsed.savings, rehearsed: Some(rehearsed) })
    }

    fn fit_together(&self, plans: [&StagePlan; 2]) -> bool {
        let bytes = plans.map(|plan| plan.rehearsed.as_ref().map_or(0, |rehearsed| rehearsed.plan.bytes));
        self.limit.is_none_or(|limit| bytes.iter().sum::<u64>() <= limit)
    }

    fn open(&self, stage: Stage, plan: &StagePlan) -> Result<Self::Backend> {
        let rehearsed = plan.rehearsed.as_ref().expect("what is planned here is rehearsed");
        let arena = Arena::new(self.device.clone(), rehearsed.plan.clone())?;
        Ok(Cuda::new(Arc::new(arena), self.half(stage)))
    }
}

/// Units of work after which the start of a stage is over: no sampler keeps the results of more model calls.
const UNITS: u64 = 64;

/// Cancels after some units.
struct Rehearsing {
    /// Remaining units; `None` never cancels.
    units: Option<u64>,
}

impl Observer for Rehearsing {
    fn advance(&mut self, units: u64) {
        self.units = self.units.map(|left| left.saturating_sub(units));
    }

    fn cancelled(&mut self) -> bool {
        self.units == Some(0)
    }
}

/// Adds to the error which stage does not fit, and what would help.
fn no_room(error: Error, stage: Stage) -> Error {
    let Error::OutOfMemory { needed, free, .. } = error else { return error };
    let relief = match stage {
        Stage::Text => Relief::Limit,
        Stage::Denoise => Relief::LimitOrVideo,
        Stage::Decode | Stage::Encode => Relief::LimitOrTiles,
    };
    Error::OutOfMemory { stage: stage.name().into(), needed, free, relief }
}

/// Both, or the error of the one that needs more memory.
pub(super) fn both_fit<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(Error::OutOfMemory { needed: less, .. }), Err(error @ Error::OutOfMemory { needed, .. }))
            if needed > less =>
        {
            Err(error)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// All plans, or the error of the stage that needs most memory: with that much, the others fit too.
pub(super) fn all_fit<P: Debug, const N: usize>(plans: [Result<P>; N]) -> Result<[P; N]> {
    let mut fitting = Vec::new();
    let mut worst = None;
    for plan in plans {
        match (plan, &worst) {
            (Ok(plan), _) => fitting.push(plan),
            (Err(Error::OutOfMemory { needed, .. }), Some(Error::OutOfMemory { needed: most, .. }))
                if needed <= *most => {}
            (Err(error @ Error::OutOfMemory { .. }), _) => worst = Some(error),
            (Err(error), _) => return Err(error),
        }
    }
    match worst {
        Some(error) => Err(error),
        None => Ok(fitting.try_into().expect("every plan fits")),
    }
}

//! The latents of edits' footage.

use super::clips::{encode_planned, plan_encode};
use super::edit::Footage;
use super::{Coding, Devices, Observer, Settings, StageMemory, StagePlan, Task, Windowed};
use crate::checkpoint::Model;
use crate::error::Result;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What a sampler needs of the footage of an edit.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    /// The latent that gets noise, `[T, H, W, C]`.
    pub latent: Vec<f32>,
    /// How much of each of its values is held; `None` if nothing is.
    pub weights: Option<Vec<f32>>,
}

impl Original {
    /// Zeros, for runs that only count; `None` if the settings are no edit's.
    pub fn counted(settings: &Settings) -> Option<Self> {
        let edit = settings.edit.as_ref()?;
        let len = settings.latent_size().iter().product::<usize>() * settings.factors.channels;
        Some(Self { latent: vec![0.0; len], weights: edit.holds().then(|| vec![0.0; len]) })
    }
}

/// An encoded original, and what that took.
pub(super) struct Encoded {
    pub original: Original,
    pub seconds: f64,
    pub memory: Vec<StageMemory>,
}

/// The originals of a batch. Videos with the same footage share one.
pub(super) struct Originals(Vec<Entry>);

struct Entry {
    footage: Arc<Footage>,
    settings: Settings,
    encoded: Option<Rc<Encoded>>,
}

impl Originals {
    /// Those that the sampler needs for `tasks`.
    pub fn of<'t>(tasks: impl Iterator<Item = &'t Task>) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for task in tasks.filter(|task| task.needs_transformer()) {
            let Some(footage) = &task.footage else { continue };
            if !entries.iter().any(|entry| entry.is_of(task)) {
                entries.push(Entry { footage: footage.clone(), settings: task.settings.clone(), encoded: None });
            }
        }
        Self(entries)
    }

    /// Plans the encoding of all.
    pub fn plans<D: Devices>(&self, devices: &D, model: &Model) -> Result<Vec<StagePlan>> {
        let plans = self.0.iter().map(|entry| plan_originals(devices, model, &entry.settings));
        Ok(plans.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Encodes all.
    pub fn encode<D: Devices>(&mut self, devices: &D, model: &Model, observer: &mut dyn Observer) -> Result<()> {
        self.0.iter_mut().try_for_each(|entry| {
            entry.encoded = Some(Rc::new(entry.encode(devices, model, observer)?));
            Ok(())
        })
    }

    /// The original of a task that needs one.
    pub fn get(&self, task: &Task) -> Option<Rc<Encoded>> {
        self.0.iter().find(|entry| entry.is_of(task)).and_then(|entry| entry.encoded.clone())
    }
}

impl Entry {
    fn is_of(&self, task: &Task) -> bool {
        let Self { footage, settings, .. } = self;
        let same = |other: &Arc<Footage>| Arc::ptr_eq(footage, other);
        let coded = |settings: &Settings| (settings.latent_size(), settings.tiling);
        task.footage.as_ref().is_some_and(same) && coded(settings) == coded(&task.settings)
    }

    fn encode<D: Devices>(&self, devices: &D, model: &Model, observer: &mut dyn Observer) -> Result<Encoded> {
        let start = Instant::now();
        let (size, factors) = (self.settings.latent_size(), self.settings.factors);
        let mut latent = vec![0.0; size.iter().product::<usize>() * factors.channels];
        let mut memory = Vec::new();
        // The mean, so that an edit draws the same noise as a video without a clip.
        let coding = Coding { tiling: self.settings.tiling, seed: None };
        // The first frame takes the place of the clip's.
        for clip in self.footage.parts().into_iter().flatten() {
            let (part, of_part) = encode_planned(devices, model, clip, coding, observer)?;
            latent[..part.values.len()].copy_from_slice(&part.values);
            memory.push(of_part);
        }
        let original = Original { latent, weights: self.footage.weights(factors, size) };
        Ok(Encoded { original, seconds: start.elapsed().as_secs_f64(), memory })
    }
}

/// Plans the encoding of the footage of such an edit, which need not be there.
pub(super) fn plan_originals<D: Devices>(devices: &D, model: &Model, settings: &Settings) -> Result<Vec<StagePlan>> {
    let Some(edit) = &settings.edit else { return Ok(Vec::new()) };
    let Settings { frames, height, width, tiling, .. } = *settings;
    let of_clip = edit.clip.is_some().then_some(frames - edit.extend.unwrap_or(0));
    let frames = [of_clip, edit.first_frame.is_some().then_some(1)];
    let clips = frames.into_iter().flatten().map(|frames| Windowed { size: [frames, height, width], tiling });
    clips.map(|clip| plan_encode(devices, model, clip)).collect()
}

//! Runs cases on every device under test, and keeps the findings about each kernel that they launch.

use super::oracle::bounded::Exact;
use super::oracle::{Known, Numbered};
use super::policy::{self, Verdict};
use super::values::rounded;
use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cuda::device::{Device, Dry, Emulated};
use crate::cuda::{Cuda, Half, Variant};
use crate::error::{Error, Result};
use crate::ops::DeviceBuffer;
use crate::profile::{Profiled, Recorder};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

/// Both types of activations.
const HALVES: [Half; 2] = [Half::F16, Half::Bf16];
/// Cases of each kernel in a quick trial.
const QUICK_CASES: usize = 2;

/// A computation that runs on any backend and must give the same result on all.
pub(super) trait Body: Debug {
    /// Runs it and returns its result. It may upload only values that `half` holds exactly.
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>>;
}

/// The kernels of a device under test.
pub(super) type Kernels = Cuda;

/// How a result is compared with the CPU's.
#[derive(Clone, Copy)]
enum Comparison {
    /// Within the policy for sums.
    Close,
    /// To the bit.
    Same,
    /// To the bit, with the CPU's result rounded once.
    SameRounded,
}

/// The findings about one kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Cases that launched it. A case counts once, even if it ran with several orders of threads.
    pub cases: usize,
    /// The largest error divided by the allowed error; 0 if only bits were compared.
    pub worst: f64,
    /// The number of wrong results.
    pub failed: usize,
    /// The first wrong result: case, type, and the problem.
    pub failure: Option<String>,
}

/// Findings by entry point.
pub type Findings = BTreeMap<String, Finding>;

/// Adds the findings of another process to `all`.
pub fn merge(all: &mut Findings, more: Findings) {
    for (kernel, Finding { cases, worst, failed, failure }) in more {
        let finding = all.entry(kernel).or_default();
        finding.cases += cases;
        finding.worst = finding.worst.max(worst);
        finding.failed += failed;
        finding.failure = finding.failure.take().or(failure);
    }
}

/// Devices under test.
pub struct Trial {
    devices: Vec<(Kernels, Half)>,
    recorder: Recorder,
    /// In a quick trial: a dry device that runs each case first, to see which kernels it launches.
    scout: Option<Box<Trial>>,
    /// Whether the devices compute, so that results can be compared.
    compares: bool,
    /// Whether there is time for millions of cases.
    thorough: bool,
    findings: Findings,
    /// A variant whose own cases are left out.
    avoided: Option<Variant>,
    /// Hears of each case before the kernels run it, if anyone listens.
    listener: Option<Listener>,
}

/// What hears the variant and the words of a case.
type Listener = Box<dyn Fn(Variant, &str) + Send + Sync>;

impl Trial {
    /// A trial of one device, in both types.
    pub fn new(device: Arc<dyn Device>) -> Self {
        Self { thorough: true, ..Self::of(&[device]) }
    }

    /// A trial of several devices, each in both types. A kernel must be right on all of them.
    pub fn of(devices: &[Arc<dyn Device>]) -> Self {
        let recorder = Recorder::default();
        let kernels = |half: Half, device: &Arc<dyn Device>| {
            (Cuda::new(Arc::new(Profiled::new(device.clone(), recorder.clone())), half), half)
        };
        let devices = HALVES.iter().flat_map(|&half| devices.iter().map(move |device| kernels(half, device))).collect();
        Self {
            devices,
            recorder,
            scout: None,
            compares: true,
            thorough: false,
            findings: Findings::new(),
            avoided: None,
            listener: None,
        }
    }

    /// This trial, but with few cases for each kernel.
    pub fn quick(mut self) -> Self {
        self.scout = Some(Box::new(Trial::dry()));
        self.thorough = false;
        self
    }

    /// This trial, which says before each case which one it is: if a kernel hangs, these are its last words.
    pub fn telling(mut self, listener: impl Fn(Variant, &str) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// This trial, without the cases of a variant, whose kernels have ended or hung an earlier trial.
    pub fn without(mut self, variant: Variant) -> Self {
        self.avoided = Some(variant);
        self
    }

    /// The findings so far.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Whether there is time for millions of cases.
    pub(super) fn is_thorough(&self) -> bool {
        self.thorough
    }

    /// Whether each kernel has few cases.
    pub(super) fn is_quick(&self) -> bool {
        self.scout.is_some()
    }

    /// Compares a kernel with the exact result.
    pub(super) fn against_the_oracle<C: Known>(&mut self, case: &Numbered<C>) -> Result<()> {
        let mut exact: BTreeMap<&str, Exact> = BTreeMap::new();
        let compares = self.compares;
        self.on_each(case, |kernels, half| {
            let found = case.run(kernels, half)?;
            if !compares {
                return Ok(Ok(0.0));
            }
            let exact = exact.entry(half.suffix()).or_insert_with(|| case.case.exact(half, half.into()));
            Ok(exact.judge(&found))
        })
    }

    /// Compares a kernel with the CPU by the policy.
    pub(super) fn against_the_cpu(&mut self, case: &impl Body) -> Result<()> {
        self.compare(case, Comparison::Close)
    }

    /// Compares the bits of a kernel that only moves values with the CPU's.
    pub(super) fn exactly_the_cpu(&mut self, case: &impl Body) -> Result<()> {
        self.compare(case, Comparison::Same)
    }

    /// Compares the bits of a kernel that computes as the CPU does and rounds once with the CPU's result, rounded.
    pub(super) fn exactly_the_cpu_rounded(&mut self, case: &impl Body) -> Result<()> {
        self.compare(case, Comparison::SameRounded)
    }

    fn compare(&mut self, case: &impl Body, comparison: Comparison) -> Result<()> {
        if self.tried_enough(case) {
            return Ok(());
        }
        let mut expected: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        let compares = self.compares;
        self.on_each(case, |kernels, half| {
            let found = case.run(kernels, half)?;
            if !compares {
                return Ok(Ok(0.0));
            }
            let expected = match expected.entry(half.suffix()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(case.run(&Cpu::new(), half)?),
            };
            Ok(match comparison {
                Comparison::Close => policy::close(&found, expected, half),
                Comparison::Same => policy::same(&found, expected),
                Comparison::SameRounded => policy::same(&found, &rounded(expected, half)),
            })
        })
    }

    /// Runs a case that checks its own result.
    pub(super) fn each(&mut self, case: &dyn Debug, run: impl Fn(&Kernels, Half) -> Result<()>) -> Result<()> {
        self.on_each(case, |kernels, half| run(kernels, half).map(|()| Ok(0.0)))
    }

    /// Runs cases with each variant of the kernels, on the devices that have it.
    pub(super) fn with_each_variant(&mut self, mut cases: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        Variant::ALL.into_iter().try_for_each(|variant| self.with_variant(variant, &mut cases))
    }

    /// Runs cases with a variant of the kernels, on each device that has it.
    pub(super) fn with_variant(&mut self, variant: Variant, cases: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let taking = |trial: &Self| -> Vec<(Kernels, Half)> {
            let having = trial.devices.iter().filter(|(kernels, _)| kernels.device().runs(variant));
            having.map(|(kernels, half)| (kernels.taking(variant), *half)).collect()
        };
        let devices = taking(self);
        if devices.is_empty() || self.avoided == Some(variant) {
            return Ok(());
        }
        let of_scout = self.scout.as_deref().map(taking);
        self.on(devices, of_scout, cases)
    }

    /// Runs cases with other devices, and another scout's devices.
    fn on(
        &mut self,
        devices: Vec<(Kernels, Half)>,
        of_scout: Option<Vec<(Kernels, Half)>>,
        cases: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let swap = |trial: &mut Self, devices| std::mem::replace(&mut trial.devices, devices);
        let devices = swap(self, devices);
        let of_scout = self.scout.as_deref_mut().zip(of_scout).map(|(scout, devices)| swap(scout, devices));
        let tried = cases(self);
        self.devices = devices;
        if let (Some(scout), Some(devices)) = (&mut self.scout, of_scout) {
            scout.devices = devices;
        }
        tried
    }

    /// Runs cases with `tiles`, written as in `OSP_TILES`. A case that a tile cannot compute fails.
    pub(super) fn forcing(&mut self, tiles: &str, cases: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let forced = |trial: &Self| -> Result<Vec<(Kernels, Half)>> {
            trial.devices.iter().map(|(kernels, half)| Ok((kernels.forcing(tiles)?, *half))).collect()
        };
        let of_scout = self.scout.as_deref().map(forced).transpose()?;
        self.on(forced(self)?, of_scout, cases)
    }

    /// Checks that a case has the same bits with each of an operation's `tiles` as with the chosen tile. All `tiles`
    /// must be able to compute the case.
    pub(super) fn alike(
        &mut self,
        operation: &str,
        tiles: &[&str],
        case: &dyn Debug,
        run: impl Fn(&Kernels, Half) -> Result<Vec<f32>>,
    ) -> Result<()> {
        self.each(case, |kernels, half| {
            let chosen = run(kernels, half)?;
            tiles.iter().try_for_each(|tile| {
                let forced = kernels.forcing(&format!("{operation}={tile}"))?;
                ensure_same(&run(&forced, half)?, &chosen, tile)
            })
        })
    }

    /// Runs a case on each device, and notes the verdict for every kernel that it launched. What is wrong with a variant's own
    /// kernels is not noted for others.
    ///
    /// # Errors
    /// [`Error::Device`] if the device no longer answers, because later cases would show nothing; [`Error::Failed`] for
    /// a failure before any launch; [`Error::OutOfMemory`].
    fn on_each(&mut self, case: &dyn Debug, mut run: impl FnMut(&Kernels, Half) -> Result<Verdict>) -> Result<()> {
        let mut counted = BTreeSet::new();
        for (kernels, half) in &self.devices {
            if let Some(listener) = &self.listener {
                let variant = kernels.variant();
                listener(variant, &format!("{}, {variant}: {case:?}", half.suffix()));
            }
            let verdict = match run(kernels, *half) {
                // It says nothing about a kernel.
                Err(error @ Error::OutOfMemory { .. }) => return Err(error),
                Err(error) if self.compares || matches!(error, Error::Launch { .. }) => Err(error.to_string()),
                other => other.unwrap_or(Ok(0.0)),
            };
            let verdict = verdict.map_err(|problem| format!("{case:?}, {}: {problem}", half.suffix()));
            let launched: BTreeSet<String> = self.recorder.take().into_iter().map(|record| record.name).collect();
            // The other variant runs the same case, with the same kernels beside its own.
            let own = |kernel: &String| Variant::of_kernel(kernel) == kernels.variant();
            let of_others = |kernel: &String| verdict.is_err() && launched.iter().any(own) && !own(kernel);
            for kernel in launched.iter().filter(|&kernel| !of_others(kernel)) {
                let finding = self.findings.entry(kernel.clone()).or_default();
                finding.cases += usize::from(counted.insert(kernel.clone()));
                finding.note(&verdict);
            }
            let Err(problem) = verdict else { continue };
            if launched.is_empty() {
                return Err(Error::Failed(problem));
            }
            kernels.device().synchronize().map_err(|error| Error::Device(format!("{problem}; then {error}")))?;
        }
        Ok(())
    }

    /// Whether a quick trial has run enough cases of each kernel that a case launches.
    fn tried_enough(&self, case: &impl Body) -> bool {
        let Some(scout) = &self.scout else { return false };
        let enough = |kernel: &str| self.findings.get(kernel).is_some_and(|finding| finding.cases >= QUICK_CASES);
        for (kernels, half) in &scout.devices {
            // The dry device returns zeros, so the case may fail. Only its launches count.
            let _ = case.run(kernels, *half);
        }
        scout.recorder.take().iter().all(|record| enough(&record.name))
    }
}

impl Trial {
    /// A trial of the emulator with several orders of a block's threads: [`Emulated::new`] says what a seed means.
    pub fn emulated(seeds: &[u64]) -> Self {
        let emulated = |&seed: &u64| -> Arc<dyn Device> { Arc::new(Emulated::new(seed)) };
        Self::of(&seeds.iter().map(emulated).collect::<Vec<_>>())
    }

    /// A trial on the dry device: it finds which kernels are launched, and checks that every launch is within the
    /// limits of every GPU.
    pub fn dry() -> Self {
        let mut trial = Self { compares: false, ..Self::of(&[Arc::new(Dry::new())]) };
        trial.devices = trial.devices.into_iter().map(|(kernels, half)| (kernels.silent(), half)).collect();
        trial
    }
}

impl Finding {
    fn note(&mut self, verdict: &Verdict) {
        match verdict {
            Ok(ratio) => self.worst = self.worst.max(*ratio),
            Err(problem) => {
                self.failed += 1;
                self.failure.get_or_insert_with(|| problem.clone());
            }
        }
    }
}

/// Downloads the elements of a buffer.
pub(super) fn host<B: Backend>(backend: &B, buffer: &B::Buffer) -> Result<Vec<f32>> {
    let mut host = vec![f32::NAN; buffer.len()];
    backend.download(buffer, 0, &mut host)?;
    Ok(host)
}

/// Fails with the message `what` unless `right`.
pub(super) fn ensure(right: bool, what: impl FnOnce() -> String) -> Result<()> {
    if right { Ok(()) } else { Err(Error::Failed(what())) }
}

/// Fails unless both have the same bits.
pub(super) fn ensure_same(found: &[f32], expected: &[f32], what: &dyn Debug) -> Result<()> {
    policy::same(found, expected).map(drop).map_err(|problem| Error::Failed(format!("{what:?}: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program may test its kernels beside its other work.
    #[test]
    fn a_trial_may_run_in_another_thread() {
        let trial = Trial::dry().quick().telling(|_, _| ());
        let findings = std::thread::scope(|scope| scope.spawn(|| trial.findings().len()).join().unwrap());
        assert_eq!(std::thread::spawn(move || trial.findings().len()).join().unwrap(), findings);
    }

    #[test]
    fn a_trial_without_a_variant_runs_the_others() {
        let ran = |trial: Trial| {
            let (mut trial, mut ran) = (trial, Vec::new());
            let run = |trial: &mut Trial| {
                ran.push(trial.devices[0].0.variant());
                Ok(())
            };
            trial.with_each_variant(run).unwrap();
            ran
        };
        assert_eq!(ran(Trial::dry()), Variant::ALL);
        assert_eq!(ran(Trial::dry().without(Variant::Sm90)), [Variant::Sm80]);
    }
}

//! The processor of an engine: CPU, GPU, emulator or none.

use crate::backend::Backend;
use crate::cpu::Cpu;
#[cfg(feature = "ptx")]
use crate::cuda::device::{Compiled, PtxMachine};
use crate::cuda::device::{Device, Driver, Dry, Emulated};
use crate::cuda::{Cuda, Half, Variant};
use crate::error::{Error, Result};
use crate::model::latte::Norms;
use std::sync::Arc;

/// The share of free memory that a run takes by default. The driver needs some memory, and so may other programs.
const FREE_PERCENT: u64 = 95;

/// The processor that computes.
pub(crate) enum Processor {
    Cpu(Cpu),
    Gpu {
        device: Arc<dyn Device>,
        /// The driver's name for the card, without the names of replaced kernels.
        card: String,
    },
    /// The CPU runs the kernels.
    Emulated(Arc<dyn Device>),
    /// None: launches of this variant of the kernels are only counted.
    Dry(Variant),
}

impl Processor {
    /// The host.
    pub fn cpu() -> Self {
        Self::Cpu(Cpu::new())
    }

    /// The first GPU.
    pub fn gpu() -> Result<Self> {
        let driver = Driver::open()?;
        let card = driver.card().to_owned();
        Ok(Self::Gpu { device: Arc::new(driver), card })
    }

    /// The emulator, its threads in the plain order.
    pub fn emulated() -> Self {
        Self::Emulated(Arc::new(Emulated::new(0)))
    }

    /// The PTX machine, its warps in the plain order. If it `compares`, each launch also runs on the emulator.
    #[cfg(feature = "ptx")]
    pub fn ptx(compares: bool) -> Result<Self> {
        let machine = match compares {
            true => PtxMachine::new(Compiled::Separate, 0)?.comparing(),
            false => PtxMachine::new(Compiled::Shipped, 0)?,
        };
        Ok(Self::Emulated(Arc::new(machine)))
    }

    /// Chooses the variant of the kernels.
    pub fn set_variant(&mut self, variant: Variant) -> Result<()> {
        match self {
            Self::Cpu(_) => Err(Error::Usage("the CPU runs no kernels, so it has no variants of them".into())),
            Self::Dry(chosen) => {
                *chosen = variant;
                Ok(())
            }
            Self::Gpu { device, .. } | Self::Emulated(device) => {
                Arc::get_mut(device).expect("nobody shares the device yet").set_variant(variant)
            }
        }
    }

    /// Bytes that a stage may take by default.
    pub fn free_bytes(&self) -> Result<Option<u64>> {
        match self {
            Self::Gpu { device, .. } => Ok(Some(device.memory_info()?.free / 100 * FREE_PERCENT)),
            _ => Ok(None),
        }
    }

    /// The device that executes kernels, if there is one.
    pub fn device(&self) -> Option<&Arc<dyn Device>> {
        match self {
            Self::Gpu { device, .. } | Self::Emulated(device) => Some(device),
            Self::Cpu(_) | Self::Dry(_) => None,
        }
    }

    /// The device that takes launches; the dry device counts them.
    pub fn kernels(&self) -> Result<Arc<dyn Device>> {
        match self {
            Self::Gpu { device, .. } | Self::Emulated(device) => Ok(device.clone()),
            Self::Dry(variant) => Ok(Arc::new(Dry::new().with_variant(*variant))),
            Self::Cpu(_) => Err(Error::Device("the CPU runs no kernels".into())),
        }
    }

    /// Refuses a device that executes nothing: its results would be zeros.
    pub fn check_executes(&self) -> Result<()> {
        match self {
            Self::Dry(_) => Err(Error::Usage("this device executes nothing; choose another to get a result".into())),
            _ => Ok(()),
        }
    }

    /// The driver's name for the card.
    pub fn card(&self) -> Option<&str> {
        if let Self::Gpu { card, .. } = self { Some(card) } else { None }
    }

    /// What decides the bits of its results, `dtypes` being those of the text encoder and of the other models. The number of
    /// threads decides none.
    pub fn arithmetic(&self, dtypes: [Half; 2]) -> Result<String> {
        let name = match self {
            Self::Cpu(cpu) => return Ok(without_threads(&cpu.name())),
            Self::Gpu { device, .. } | Self::Emulated(device) => without_threads(&device.name()),
            Self::Dry(_) => Dry::new().name(),
        };
        let ([text, others], variant) = (dtypes.map(Half::suffix), self.kernels()?.variant().name());
        let norms = match Norms::of_environment()? {
            Norms::Cheapest => "",
            Norms::Folded => ", folded norms",
            Norms::Separate => ", separate norms",
        };
        Ok(format!("{name}, {others} (text {text}), kernels {variant}{norms}"))
    }

    /// For messages and records; the transformer and the VAE compute in `half`.
    pub fn name(&self, half: Half) -> String {
        match self {
            Self::Cpu(cpu) => cpu.name(),
            Self::Gpu { device, .. } | Self::Emulated(device) => Cuda::new(device.clone(), half).name(),
            Self::Dry(_) => Dry::new().name(),
        }
    }
}

/// The name of a device without its number of threads.
fn without_threads(name: &str) -> String {
    let threads = format!("{} threads", rayon::current_num_threads());
    [format!("{threads}, "), format!(" ({threads})"), threads]
        .iter()
        .fold(name.to_owned(), |name, part| name.replace(part, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_is_no_part_of_the_arithmetic() {
        let dtypes = [Half::Bf16, Half::F16];
        let cpu = Processor::cpu().arithmetic(dtypes).unwrap();
        let emulated = Processor::emulated().arithmetic(dtypes).unwrap();
        assert_eq!(emulated, "emulated GPU, f16 (text bf16), kernels sm80");
        assert!(cpu.starts_with("cpu (") && !cpu.contains("threads"), "{cpu}");
    }
}

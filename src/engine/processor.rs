//! What an engine runs on.

use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cuda::device::{Device, Driver, Dry, Emulated};
use crate::cuda::{Cuda, Half};
use crate::error::{Error, Result};
use std::sync::Arc;

/// How much of what is free a run takes if it is not told: the driver needs some of it, and others come and go.
const FREE_PERCENT: u64 = 95;

/// What computes.
pub(crate) enum Processor {
    Cpu(Cpu),
    Gpu {
        device: Arc<dyn Device>,
        /// The card's own name, whatever kernels run on it.
        card: String,
    },
    Emulated(Arc<dyn Device>),
    /// Nothing: calls are only counted.
    Dry,
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

    /// What a stage may take if nothing else is said.
    pub fn free_bytes(&self) -> Result<Option<u64>> {
        match self {
            Self::Gpu { device, .. } => Ok(Some(device.memory_info()?.free / 100 * FREE_PERCENT)),
            _ => Ok(None),
        }
    }

    /// What executes kernels.
    pub fn device(&self) -> Option<&Arc<dyn Device>> {
        match self {
            Self::Gpu { device, .. } | Self::Emulated(device) => Some(device),
            Self::Cpu(_) | Self::Dry => None,
        }
    }

    /// What takes launches, if only to count them.
    pub fn kernels(&self) -> Result<Arc<dyn Device>> {
        match self {
            Self::Gpu { device, .. } | Self::Emulated(device) => Ok(device.clone()),
            Self::Dry => Ok(Arc::new(Dry::new())),
            Self::Cpu(_) => Err(Error::Device("the CPU runs no kernels".into())),
        }
    }

    /// Fails on a device that executes nothing: its results would be zeros.
    pub fn check_executes(&self) -> Result<()> {
        match self {
            Self::Dry => Err(Error::Usage("this device executes nothing; choose another to get a result".into())),
            _ => Ok(()),
        }
    }

    /// What the driver calls the card.
    pub fn card(&self) -> Option<&str> {
        if let Self::Gpu { card, .. } = self { Some(card) } else { None }
    }

    /// For messages and records; the transformer and the VAE compute in `half`.
    pub fn name(&self, half: Half) -> String {
        match self {
            Self::Cpu(cpu) => cpu.name(),
            Self::Gpu { device, .. } | Self::Emulated(device) => Cuda::new(device.clone(), half).name(),
            Self::Dry => Dry::new().name(),
        }
    }
}

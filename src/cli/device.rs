//! Which device a command runs on, and in which precision.

use super::console::Console;
use clap::{Args, ValueEnum};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::{Device, Driver, Emulated};
use osp::cuda::{Cuda, Half};
use osp::verify::Precision;
use osp::{Error, Result};
use std::sync::Arc;

/// Which device.
#[derive(Args)]
pub struct DeviceArgs {
    /// Device to run on: `auto` (a GPU if there is one, else the CPU), `cpu`, `cuda`, or `emulated`: the GPU's kernels on
    /// the CPU, slow and strict
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Precision of a GPU's activations and weights [default: f16, and bf16 for the text encoder, whose feed-forward
    /// overflows f16]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<DType>,
}

/// The 16-bit types, as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DType {
    F16,
    Bf16,
}

/// A device that was opened.
pub enum Chosen {
    Cpu(Cpu),
    Emulated(Kernels<Emulated>),
    Gpu(Kernels<Driver>),
}

/// A device that runs kernels, and the precisions of the two models that do so.
pub struct Kernels<D> {
    device: Arc<D>,
    text: Half,
    transformer: Half,
}

impl<D: Device> Kernels<D> {
    /// The same with something in front of the device.
    pub fn behind<E>(self, wrap: impl FnOnce(Arc<D>) -> E) -> Kernels<E> {
        Kernels { device: Arc::new(wrap(self.device)), text: self.text, transformer: self.transformer }
    }

    /// For the text encoder.
    pub fn text(&self) -> Cuda<D> {
        Cuda::new(self.device.clone(), self.text)
    }

    /// For the transformer.
    pub fn transformer(&self) -> Cuda<D> {
        Cuda::new(self.device.clone(), self.transformer)
    }

    /// The error that `osp verify` allows the transformer.
    pub fn precision(&self) -> Precision {
        match self.transformer {
            Half::F16 => Precision::F16,
            Half::Bf16 => Precision::Bf16,
        }
    }
}

impl DeviceArgs {
    /// The device, before anything is read: a wrong name should not cost a minute of loading.
    pub fn open(&self, console: &Console) -> Result<Chosen> {
        let chosen = match self.device.as_str() {
            "auto" => match Driver::open() {
                Ok(driver) => Chosen::Gpu(self.kernels(driver)),
                Err(Error::Device(reason)) => {
                    let cpu = Cpu::new();
                    console.note(&format!("device: auto chose {} ({reason})", cpu.name()));
                    return Ok(Chosen::Cpu(cpu));
                }
                Err(other) => return Err(other),
            },
            "cpu" => Chosen::Cpu(Cpu::new()),
            "cuda" => Chosen::Gpu(self.kernels(Driver::open()?)),
            "emulated" => Chosen::Emulated(self.kernels(Emulated::new(0))),
            other => {
                let known = "auto, cpu, cuda, emulated";
                return Err(Error::Device(format!("there is no device {other:?}: the devices are {known}")));
            }
        };
        console.note(&format!("device: {}", chosen.name()));
        Ok(chosen)
    }

    /// Whether the user named this device.
    pub fn is(&self, name: &str) -> bool {
        self.device == name
    }

    /// Kernels on a device, in the precisions asked for.
    pub fn kernels<D>(&self, device: D) -> Kernels<D> {
        let half = |default: Half| match self.dtype {
            Some(DType::F16) => Half::F16,
            Some(DType::Bf16) => Half::Bf16,
            None => default,
        };
        Kernels { device: Arc::new(device), text: half(Half::Bf16), transformer: half(Half::F16) }
    }

    /// The CPU, for commands of the VAE alone, which has no kernels yet.
    pub fn open_for_vae(&self, console: &Console) -> Result<Cpu> {
        match self.device.as_str() {
            "cuda" | "emulated" => Err(Error::Unsupported(format!(
                "the VAE has no kernels yet: --device {} cannot run it; use --device cpu",
                self.device
            ))),
            "auto" | "cpu" => {
                let cpu = Cpu::new();
                console.note(&format!("device: {}", cpu.name()));
                Ok(cpu)
            }
            _ => self.open(console).map(|_| Cpu::new()),
        }
    }
}

impl Chosen {
    /// What it is, for messages and records.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu(cpu) => cpu.name(),
            Self::Emulated(kernels) => kernels.transformer().name(),
            Self::Gpu(kernels) => kernels.transformer().name(),
        }
    }
}

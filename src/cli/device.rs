//! Which device a command runs on, and in which precision.

use super::console::Console;
use clap::{Args, ValueEnum};
use osp::backend::Backend;
use osp::checkpoint::Checkpoint;
use osp::cpu::Cpu;
use osp::cuda::device::{Device, Driver, Emulated};
use osp::cuda::{Cuda, Half};
use osp::memory::Savings;
use osp::model::vae::tiling::Tiling;
use osp::verify::Precision;
use osp::{Error, Result, pipeline};
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

/// A device that runs kernels, and the precisions of its models.
pub struct Kernels<D> {
    device: Arc<D>,
    text: Half,
    video: Half,
}

impl<D: Device> Kernels<D> {
    /// The same with something in front of the device.
    pub fn behind<E>(self, wrap: impl FnOnce(Arc<D>) -> E) -> Kernels<E> {
        Kernels { device: Arc::new(wrap(self.device)), text: self.text, video: self.video }
    }

    /// For the text encoder.
    pub fn text(&self) -> Cuda<D> {
        Cuda::new(self.device.clone(), self.text)
    }

    /// For the transformer and the VAE.
    pub fn video(&self) -> Cuda<D> {
        Cuda::new(self.device.clone(), self.video)
    }

    /// The error that `osp verify` allows them.
    pub fn precision(&self) -> Precision {
        match self.video {
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
        Kernels { device: Arc::new(device), text: half(Half::Bf16), video: half(Half::F16) }
    }
}

impl Chosen {
    /// [`pipeline::encode`].
    pub fn encode(
        &self,
        checkpoint: &Checkpoint,
        pixels: &[u8],
        size: [usize; 3],
        tiling: Option<Tiling>,
        seed: Option<u64>,
        console: &Console,
    ) -> Result<Vec<f32>> {
        match self {
            Self::Cpu(cpu) => pipeline::encode(cpu, checkpoint, pixels, size, tiling, Savings::NONE, seed, console),
            Self::Emulated(kernels) => {
                pipeline::encode(&kernels.video(), checkpoint, pixels, size, tiling, Savings::NONE, seed, console)
            }
            Self::Gpu(kernels) => {
                pipeline::encode(&kernels.video(), checkpoint, pixels, size, tiling, Savings::NONE, seed, console)
            }
        }
    }

    /// [`pipeline::decode`].
    pub fn decode(
        &self,
        checkpoint: &Checkpoint,
        latent: &[f32],
        size: [usize; 3],
        tiling: Option<Tiling>,
        console: &Console,
        frame: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
    ) -> Result<()> {
        match self {
            Self::Cpu(cpu) => pipeline::decode(cpu, checkpoint, latent, size, tiling, Savings::NONE, console, frame),
            Self::Emulated(kernels) => {
                pipeline::decode(&kernels.video(), checkpoint, latent, size, tiling, Savings::NONE, console, frame)
            }
            Self::Gpu(kernels) => {
                pipeline::decode(&kernels.video(), checkpoint, latent, size, tiling, Savings::NONE, console, frame)
            }
        }
    }

    /// What it is, for messages and records.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu(cpu) => cpu.name(),
            Self::Emulated(kernels) => kernels.video().name(),
            Self::Gpu(kernels) => kernels.video().name(),
        }
    }
}

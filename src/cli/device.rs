//! Which device a command runs on, and in which precision.

use super::console::Console;
use super::selftest;
use clap::{Args, ValueEnum};
use osp::backend::Backend;
use osp::checkpoint::Checkpoint;
use osp::cpu::Cpu;
use osp::cuda::device::{Device, Driver, Emulated};
use osp::cuda::{Cuda, Half};
use osp::pipeline::{FrameSink, Planned, Request, StageMemory, TextCache, Windowed, decode_planned, encode_planned};
use osp::profile::{Profiled, Recorder};
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

/// How much memory.
#[derive(Args)]
pub struct MemoryArgs {
    /// Most memory that a stage may take of the GPU, such as 3GiB, 2500MiB or 4GB, or `auto` for what is free; less memory
    /// takes more time, and gives the same result
    #[arg(long, value_name = "LIMIT", default_value = "auto", value_parser = limit, allow_hyphen_values = true)]
    pub memory: Limit,
}

/// A limit of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// What is free.
    Auto,
    /// So many bytes.
    Bytes(u64),
}

/// How much of what is free a run takes if it is not told: the driver needs some of it, and others come and go.
const FREE_PERCENT: u64 = 95;

/// Units of memory, and their bytes.
const UNITS: [(&str, f64); 8] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
];

/// Reads `auto` or a size.
pub fn limit(text: &str) -> Result<Limit> {
    if text == "auto" {
        return Ok(Limit::Auto);
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text[..split].parse::<f64>(), text[split..].trim_start());
    let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    match (number, unit) {
        (Ok(number), Some((_, bytes))) if number > 0.0 => Ok(Limit::Bytes((number * bytes) as u64)),
        _ => Err(Error::Usage("expected auto, or a size such as 3GiB, 2500MiB or 4GB".into())),
    }
}

/// The 16-bit types, as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DType {
    F16,
    Bf16,
}

/// The precisions of the text encoder and of the other models, if a user asks for `dtype`.
pub fn halves(dtype: Option<DType>) -> [Half; 2] {
    let half = |default: Half| match dtype {
        Some(DType::F16) => Half::F16,
        Some(DType::Bf16) => Half::Bf16,
        None => default,
    };
    [half(Half::Bf16), half(Half::F16)]
}

/// A device that was opened.
pub enum Chosen {
    Cpu(Cpu),
    Emulated(Kernels),
    Gpu {
        kernels: Kernels,
        /// The card's own name, whatever kernels run on it.
        card: String,
    },
}

/// A device that runs kernels, and the precisions of its models.
pub struct Kernels {
    device: Arc<dyn Device>,
    text: Half,
    video: Half,
}

impl Kernels {
    /// The same with a recorder in front of the device.
    pub fn profiled(self, recorder: &Recorder) -> Self {
        Self { device: Arc::new(Profiled::new(self.device, recorder.clone())), ..self }
    }

    /// For the text encoder.
    pub fn text(&self) -> Cuda {
        Cuda::new(self.device.clone(), self.text)
    }

    /// For the transformer and the VAE.
    pub fn video(&self) -> Cuda {
        Cuda::new(self.device.clone(), self.video)
    }

    /// For the stages of a run, each within `limit` bytes.
    pub fn planned(&self, limit: Option<u64>) -> Planned {
        Planned::within(self.device.clone(), [self.text, self.video], limit)
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
                Ok(driver) => self.gpu(driver),
                Err(Error::Device(reason)) => {
                    let cpu = Cpu::new();
                    console.note(&format!("device: auto chose {} ({reason})", cpu.name()));
                    return Ok(Chosen::Cpu(cpu));
                }
                Err(other) => return Err(other),
            },
            "cpu" => Chosen::Cpu(Cpu::new()),
            "cuda" => self.gpu(Driver::open().map_err(|error| error.instead("use --device cpu"))?),
            "emulated" => Chosen::Emulated(self.kernels(Arc::new(Emulated::new(0)))),
            other => {
                let known = "auto, cpu, cuda, emulated";
                return Err(Error::Device(format!("there is no device {other:?}: the devices are {known}")));
            }
        };
        console.note(&format!("device: {}", chosen.name()));
        Ok(chosen)
    }

    /// As [`Self::open`], for what users keep: a GPU that this program has not met before is tested first.
    pub fn open_tried(&self, console: &Console) -> Result<Chosen> {
        let chosen = self.open(console)?;
        if let Chosen::Gpu { kernels, .. } = &chosen {
            selftest::tried(&kernels.device.name(), console)?;
        }
        Ok(chosen)
    }

    /// Whether the user named this device.
    pub fn is(&self, name: &str) -> bool {
        self.device == name
    }

    /// Kernels on a device, in the precisions asked for.
    pub fn kernels(&self, device: Arc<dyn Device>) -> Kernels {
        let [text, video] = halves(self.dtype);
        Kernels { device, text, video }
    }

    fn gpu(&self, driver: Driver) -> Chosen {
        let card = driver.card().to_owned();
        Chosen::Gpu { kernels: self.kernels(Arc::new(driver)), card }
    }
}

impl Chosen {
    /// The bytes that a stage may take.
    ///
    /// # Errors
    /// [`Error::Usage`] if the CPU is to be limited.
    pub fn limit(&self, memory: &MemoryArgs) -> Result<Option<u64>> {
        match (self, memory.memory) {
            (Self::Cpu(_), Limit::Bytes(_)) => {
                Err(Error::Usage("--memory limits what is taken of a GPU, and --device cpu takes none".into()))
            }
            (_, Limit::Bytes(bytes)) => Ok(Some(bytes)),
            (Self::Cpu(_) | Self::Emulated(_), Limit::Auto) => Ok(None),
            (Self::Gpu { kernels, .. }, Limit::Auto) => {
                Ok(Some(kernels.device.memory_info()?.free / 100 * FREE_PERCENT))
            }
        }
    }

    /// [`pipeline::sample`], from tokens to videos.
    pub fn sample(
        &self,
        limit: Option<u64>,
        checkpoint: &Checkpoint,
        requests: &[Request],
        cache: Option<&TextCache>,
        console: &Console,
        sink: &mut (dyn FrameSink + Send),
    ) -> Result<()> {
        let captions = pipeline::tokenize(checkpoint, requests, console)?;
        match self {
            Self::Cpu(cpu) => pipeline::sample(cpu, checkpoint, requests, &captions, cache, console, sink),
            Self::Emulated(kernels) | Self::Gpu { kernels, .. } => {
                pipeline::sample(&kernels.planned(limit), checkpoint, requests, &captions, cache, console, sink)
            }
        }
    }

    /// [`pipeline::encode_planned`].
    pub fn encode(
        &self,
        limit: Option<u64>,
        checkpoint: &Checkpoint,
        pixels: &[u8],
        clip: Windowed,
        seed: Option<u64>,
        console: &Console,
    ) -> Result<(Vec<f32>, StageMemory)> {
        match self {
            Self::Cpu(cpu) => encode_planned(cpu, checkpoint, pixels, clip, seed, console),
            Self::Emulated(kernels) | Self::Gpu { kernels, .. } => {
                encode_planned(&kernels.planned(limit), checkpoint, pixels, clip, seed, console)
            }
        }
    }

    /// [`pipeline::decode_planned`].
    pub fn decode(
        &self,
        limit: Option<u64>,
        checkpoint: &Checkpoint,
        latent: &[f32],
        clip: Windowed,
        console: &Console,
        frame: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
    ) -> Result<StageMemory> {
        match self {
            Self::Cpu(cpu) => decode_planned(cpu, checkpoint, latent, clip, console, frame),
            Self::Emulated(kernels) | Self::Gpu { kernels, .. } => {
                decode_planned(&kernels.planned(limit), checkpoint, latent, clip, console, frame)
            }
        }
    }

    /// What it is, for messages and records.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu(cpu) => cpu.name(),
            Self::Emulated(kernels) | Self::Gpu { kernels, .. } => kernels.video().name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_auto_or_sizes_with_a_unit() {
        assert_eq!(limit("auto").unwrap(), Limit::Auto);
        for (text, bytes) in [
            ("3GiB", 3 << 30),
            ("2500MiB", 2500 << 20),
            ("4GB", 4_000_000_000),
            ("1.5 gib", 3 << 29),
            ("10kb", 10_000),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(limit(text).unwrap(), Limit::Bytes(bytes), "{text}");
        }
        for wrong in ["", "3", "GiB", "3G", "-3GiB", "0GiB", "3 GiB each", "1e3MB", "..GB", "infGB", "Auto", "٣GB"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}

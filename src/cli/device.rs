//! Options for the device: which one, in which precision, and how much of its memory.

use super::commands::selftest;
use super::console::Console;
use super::variants::{Running, Why};
use clap::{Args, ValueEnum};
use osp::cuda::{Half, Variant, check_environment};
use osp::model::latte::Norms;
use osp::{Engine, Error, Result};

/// Options that choose the device.
#[derive(Args)]
pub struct DeviceArgs {
    /// Device to run on: `auto` (a GPU if there is one, else the CPU), `cpu`, `cuda`, or `emulated`: the GPU's kernels
    /// on the CPU, which is slow and strict
    #[cfg_attr(
        feature = "ptx",
        doc = "[or `ptx`: their PTX on the CPU, or `ptx-bits`: also compared with the emulator]"
    )]
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    #[command(flatten)]
    kernels: KernelArgs,
}

/// Options that choose the kernels of a GPU.
#[derive(Args)]
pub struct KernelArgs {
    /// Precision of a GPU's activations and weights [default: f16, and bf16 for the text encoder, whose feed-forward
    /// overflows f16]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<HalfType>,
    /// Kernels to run where there are several: `sm80`, for every GPU, or `sm90`, for compute capability 9.0 only
    /// [default: sm90 on a GPU where they have passed `osp selftest`, else sm80]
    #[arg(long, value_name = "VARIANT")]
    kernels: Option<Variant>,
}

/// Options that limit memory.
#[derive(Args)]
pub struct MemoryArgs {
    /// Most GPU memory that a stage may take, such as 3GiB, 2500MiB or 4GB, or `auto` for all free memory; less memory
    /// takes more time, but the result is the same
    #[arg(long, value_name = "LIMIT", default_value = "auto", value_parser = limit, allow_hyphen_values = true)]
    memory: Limit,
}

/// A limit on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// All free memory.
    Auto,
    /// This number of bytes.
    Bytes(u64),
}

/// The devices of every build.
const KNOWN: &str = "auto, cpu, cuda, emulated";

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

/// The 16-bit types, under their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HalfType {
    F16,
    Bf16,
}

impl KernelArgs {
    /// The engine with the precision and the kernels that the user asks for, or unchanged. Checks the tiles and norms that
    /// the environment asks for.
    ///
    /// # Errors
    /// [`Error::Usage`] if one of these does not exist, or for kernels of a CPU; [`Error::Device`] for kernels that
    /// the GPU cannot run.
    pub fn asked(&self, engine: Engine) -> Result<Engine> {
        check_environment()?;
        Norms::of_environment()?;
        let engine = match self.dtype {
            None => engine,
            Some(HalfType::F16) => engine.dtype(Half::F16),
            Some(HalfType::Bf16) => engine.dtype(Half::Bf16),
        };
        match self.kernels {
            None => Ok(engine),
            Some(variant) => engine.kernels(variant),
        }
    }
}

/// The engine with the kernels for its GPU's generation, if they have passed the self-test there; else a note says why not.
fn newest(engine: Engine, console: &Console) -> Result<Engine> {
    match engine.card().and(engine.device()).map(|card| Running::on_card(&**card)) {
        Some(Running { variant, why: Why::Passed }) => engine.kernels(variant),
        Some(Running { why: Why::Untested, .. }) => {
            console.note("kernels: sm80, because those for sm90 have not passed osp selftest on this GPU");
            Ok(engine)
        }
        _ => Ok(engine),
    }
}

impl MemoryArgs {
    /// The engine with this limit.
    ///
    /// # Errors
    /// [`Error::Usage`] if the user limits the CPU.
    pub fn limited(&self, engine: Engine) -> Result<Engine> {
        match self.memory {
            Limit::Auto => Ok(engine),
            Limit::Bytes(bytes) => engine.memory_limit(bytes).map_err(|_| {
                Error::Usage("--memory limits GPU memory, but --device cpu uses none; omit --memory".into())
            }),
        }
    }
}

impl DeviceArgs {
    /// Opens the device. Done before anything is read: a wrong name should not cost a minute of loading.
    pub fn open(&self, console: &Console) -> Result<Engine> {
        self.chosen(self.named(console)?, console)
    }

    /// The engine with the newest kernels that can be trusted, unless the user chose.
    fn chosen(&self, engine: Engine, console: &Console) -> Result<Engine> {
        if self.kernels.kernels.is_some() { Ok(engine) } else { newest(engine, console) }
    }

    fn named(&self, console: &Console) -> Result<Engine> {
        let engine = match self.device.as_str() {
            "auto" => Engine::auto()?,
            "cpu" => Engine::cpu(),
            "cuda" => Engine::cuda().map_err(|error| error.instead("use --device cpu"))?,
            "emulated" => Engine::emulated(),
            #[cfg(feature = "ptx")]
            "ptx" => Engine::ptx(false)?,
            #[cfg(feature = "ptx")]
            "ptx-bits" => Engine::ptx(true)?,
            other => {
                let known = if cfg!(feature = "ptx") { "auto, cpu, cuda, emulated, ptx, ptx-bits" } else { KNOWN };
                return Err(Error::Device(format!("there is no device {other:?}: the devices are {known}")));
            }
        };
        let engine = self.kernels.asked(engine)?;
        let name = engine.name();
        console.note(&match engine.no_gpu() {
            Some(reason) => format!("device: auto chose {name} ({reason})"),
            None => format!("device: {name}"),
        });
        Ok(engine)
    }

    /// As [`Self::open`], for results that users keep, with the limit `memory`. A GPU that this program has never used
    /// is tested first.
    pub fn open_tried(&self, memory: &MemoryArgs, console: &Console) -> Result<Engine> {
        let engine = self.named(console)?;
        if let (Some(_), Some(device)) = (engine.card(), engine.device()) {
            selftest::tried(&device.name(), console)?;
        }
        memory.limited(self.chosen(engine, console)?)
    }

    /// The device that only counts, in the requested precision.
    ///
    /// # Errors
    /// Those of [`KernelArgs::asked`].
    pub fn dry(&self) -> Result<Engine> {
        self.kernels.asked(Engine::dry())
    }

    /// Which variant of the kernels runs on the engine that [`Self::open`] or [`Self::dry`] made, and why; none on the CPU.
    pub fn running(&self, engine: &Engine) -> Option<Running> {
        let kernels = engine.device().is_some() || self.is("dry");
        let running = match (self.kernels.kernels, engine.card().and(engine.device())) {
            (Some(variant), _) => Running { variant, why: Why::Asked },
            (None, Some(card)) => Running::on_card(&**card),
            (None, None) => Running { variant: Variant::default(), why: Why::NoGpu },
        };
        kernels.then_some(running)
    }

    /// The options that choose what computes, by name, for a later run.
    pub fn noted(&self) -> [(&'static str, Option<String>); 3] {
        let dtype = self.kernels.dtype.and_then(|dtype| dtype.to_possible_value());
        [
            ("device", Some(self.device.clone())),
            ("dtype", dtype.map(|value| value.get_name().to_owned())),
            ("kernels", self.kernels.kernels.map(|variant| variant.name().to_owned())),
        ]
    }

    /// The options that an earlier run noted, if the user chose no device.
    pub fn or_noted(&self, noted: impl Fn(&str) -> Option<String>) -> Self {
        let KernelArgs { dtype, kernels } = self.kernels;
        let noted = |name| Some(name).filter(|_| self.is("auto")).and_then(&noted);
        let device = noted("device").unwrap_or_else(|| self.device.clone());
        let dtype = dtype.or_else(|| HalfType::from_str(&noted("dtype")?, true).ok());
        let kernels = kernels.or_else(|| noted("kernels")?.parse().ok());
        Self { device, kernels: KernelArgs { dtype, kernels } }
    }

    /// Whether the user named a device that runs kernels on the CPU, whose times say nothing.
    pub fn emulates(&self) -> bool {
        ["emulated", "ptx", "ptx-bits"].iter().any(|name| self.is(name))
    }

    /// Whether the user named this device.
    pub fn is(&self, name: &str) -> bool {
        self.device == name
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

//! `osp doctor`: reports the devices of this machine, and what prevents their use.

use crate::cli::console::Console;
use crate::cli::variants::Running;
use osp::Result;
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::cuda::device::{Driver, architectures, driver_version};
use serde::Serialize;

/// Reports the devices of this machine, and what prevents their use
#[derive(clap::Args)]
pub struct Args {}

#[derive(Serialize)]
struct Report {
    cpu: String,
    /// Architectures that this binary holds kernels for.
    kernels: Vec<String>,
    /// The newest version of CUDA that the driver supports.
    driver: Option<String>,
    gpu: Option<Gpu>,
    /// Why the GPU cannot be used.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Gpu {
    name: String,
    compute_capability: String,
    multiprocessors: usize,
    memory_bytes: u64,
    free_bytes: u64,
    code: String,
    /// Which kernels run where there are several.
    variants: Vec<String>,
    /// Kernel files of OSP_KERNELS that replace the program's own.
    replaced: Vec<String>,
}

/// Runs the command.
pub fn run(_: &Args, console: &Console) -> Result<()> {
    let (gpu, problem) = match Driver::open().and_then(|driver| Ok((driver.gpu()?, Running::on_card(&driver).lines())))
    {
        Ok(gpu) => (Some(gpu), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let report = Report {
        cpu: Cpu::new().name(),
        kernels: architectures(),
        driver: driver_version().map(|(major, minor)| format!("CUDA {major}.{minor}")),
        gpu: gpu.map(|(gpu, variants)| Gpu {
            name: gpu.name,
            compute_capability: format!("{}.{}", gpu.capability.0, gpu.capability.1),
            multiprocessors: gpu.multiprocessors,
            memory_bytes: gpu.memory.total,
            free_bytes: gpu.memory.free,
            code: gpu.code,
            variants,
            replaced: gpu.replaced.iter().map(|path| path.display().to_string()).collect(),
        }),
        problem,
    };
    if console.json() { console.json_result(&report) } else { console.result(table(&report)) }
}

fn table(report: &Report) -> String {
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let gpu = report.gpu.as_ref().map(|gpu| {
        let Gpu { name, compute_capability, multiprocessors, memory_bytes, free_bytes, code, variants, .. } = gpu;
        let (total, free) = (gib(*memory_bytes), gib(*free_bytes));
        format!(
            "{name}, compute capability {compute_capability}, {multiprocessors} multiprocessors, {free:.1} of {total:.1} GiB free\nruns         {code}; {}",
            variants.join("; ")
        )
    });
    let replaced: Vec<&str> = report.gpu.iter().flat_map(|gpu| &gpu.replaced).map(String::as_str).collect();
    let kernels =
        if report.kernels.is_empty() { "none: built without nvcc".to_owned() } else { report.kernels.join(" ") };
    let lines = [
        ("cpu", Some(report.cpu.clone())),
        ("kernels", Some(kernels)),
        ("driver", Some(report.driver.clone().unwrap_or_else(|| "none".into()))),
        ("gpu", Some(gpu.unwrap_or_else(|| "none".into()))),
        ("OSP_KERNELS", Some(replaced.join(" ")).filter(|replaced| !replaced.is_empty())),
        ("problem", report.problem.clone()),
    ];
    let lines = lines.into_iter().filter_map(|(key, value)| Some(format!("{key:<12} {}", value?)));
    lines.collect::<Vec<_>>().join("\n")
}

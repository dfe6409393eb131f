//! Estimates the times of a published model, without a GPU and without weights: counts every launch of one step, and
//! computes a bound on its time from a data sheet.
//!
//! ```sh
//! cargo run --release --example profile -- h100
//! ```
//!
//! With a GPU, `Engine::cuda()` instead of `Engine::dry()` measures the same launches. It needs a model with weights:
//! `preset::open_synthetic` generates them.

use osp::profile::gpus::Gpu;
use osp::profile::{Subject, summarize};
use osp::{Engine, Quiet, Result, preset};

fn main() -> Result<()> {
    let gpu = Gpu::named(&std::env::args().nth(1).unwrap_or_else(|| "h100".into()))?;
    let model = preset::open("v1.1.0-221x512x512", None)?;
    let subject = Subject { size: [221, 512, 512], tokens: 120, tiling: Some(Default::default()), repeat: None };
    let profile = Engine::dry().profile(&model, &subject, &mut Quiet)?;

    for stage in &profile.stages {
        println!("\n{}: {}", stage.stage.name(), stage.what);
        let (kernels, all) = summarize(&stage.piece.records, Some(gpu));
        for kernel in kernels.iter().take(5).chain([&all]) {
            let (teraflops, bound) = (kernel.flops as f64 / 1e12, 1e3 * kernel.bound_seconds.unwrap_or(0.0));
            println!("{:<40} {:>6} calls {teraflops:>9.3} TFLOP  at least {bound:>8.2} ms", kernel.name, kernel.calls);
        }
    }
    println!("\nbounds of {} ({}), not measurements", gpu.name, gpu.origin);
    Ok(())
}

//! Host memory of the largest text encoder: T5-XXL encodes a prompt on the CPU. Its weights are synthetic, and each
//! block is generated when it is needed.
//!
//! `cargo bench --bench text` prints the time and, on Linux, the peak of anonymous memory, which the system cannot
//! reclaim. Weights in files would be mapped and take no anonymous memory; synthetic weights take it while their block
//! is held.

use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::model::t5::{Caption, T5};
use osp::preset;
use osp::weights::synthetic::Synthetic;
use std::hint::black_box;
use std::time::Instant;

/// Tokens of the prompt.
const TOKENS: usize = 120;
/// The goal, in bytes.
const GOAL: u64 = 3 << 29;

/// A line of the process's status, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

fn main() {
    use osp::checkpoint::ComponentConfig;
    let config = preset::open("v1.1.0", None)
        .expect("the preset is built in")
        .text_encoder
        .expect("the preset has all components")
        .config;
    let source = Synthetic::new("synthetic", 1, config.manifest(None).tensors);
    let backend = Cpu::new();
    println!("{}", backend.name());
    let caption = Caption { ids: (0..TOKENS as u32).collect(), mask: vec![true; TOKENS] };
    let model = T5::load(&config, &source, &backend, true).expect("the plan fits");
    let mut anonymous = 0;
    let start = Instant::now();
    // Called within the blocks, while two blocks are held.
    let mut look = || {
        anonymous = anonymous.max(status("RssAnon").unwrap_or(0));
        Ok(())
    };
    black_box(model.encode(&backend, &[caption], &mut look).expect("host memory"));
    let seconds = start.elapsed().as_secs_f64();
    println!("T5-XXL, {TOKENS} tokens: {seconds:.1} s, with the time to generate the weights");
    match status("VmHWM") {
        Some(peak) => {
            println!("anonymous memory {:.2} GiB of {:.2}, peak of all {:.2} GiB", gib(anonymous), gib(GOAL), gib(peak))
        }
        None => println!("this system does not report the memory of a process"),
    }
}

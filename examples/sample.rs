//! Samples a video from a prompt, prints the progress, and writes pictures of the video before it is done.
//!
//! ```sh
//! cargo run --release --example sample -- "a large red circle moving right" circle.mp4
//! ```
//!
//! It shows how to write an [`Observer`]: this one prints the progress, keeps the draft of every tenth step, and stops
//! the run after a minute. After the video, the drafts are decoded to `step-10.png` and so on beside it.

use osp::engine::{Coding, Stage, Warning};
use osp::{Engine, Latent, Model, Observer, Quiet, Request, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// Steps between the drafts that are kept.
const STEPS: usize = 10;

struct Watcher {
    start: Instant,
    stage: &'static str,
    units: [u64; 2],
    latents: Vec<(usize, Vec<f32>)>,
}

impl Observer for Watcher {
    fn begin(&mut self, stage: Stage, units: u64) {
        (self.stage, self.units) = (stage.name(), [0, units]);
    }

    fn advance(&mut self, units: u64) {
        self.units[0] += units;
        let [done, all] = self.units;
        eprintln!("{:>5.1} s  {} {done} of {all}", self.start.elapsed().as_secs_f64(), self.stage);
    }

    fn warn(&mut self, warning: &Warning) {
        eprintln!("{warning}");
    }

    fn wants_preview(&mut self, step: usize, _: usize) -> bool {
        step.is_multiple_of(STEPS)
    }

    fn preview(&mut self, step: usize, latent: &[f32]) {
        self.latents.push((step, latent.to_vec()));
    }

    fn cancelled(&mut self) -> bool {
        self.start.elapsed() > Duration::from_secs(60)
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let prompt = args.next().unwrap_or_else(|| "a large red circle moving right on a black background".into());
    let output = args.next().unwrap_or_else(|| "circle.mp4".into());

    let engine = Engine::auto()?;
    let model = Model::open("assets/demo")?;
    println!("on {}", engine.name());

    let mut watcher = Watcher { start: Instant::now(), stage: "", units: [0; 2], latents: Vec::new() };
    let sample = engine.sample(&model, &Request::new(prompt).seed(1), &mut watcher)?;
    sample.clip.save(&output)?;
    let timings = sample.outcome.timings;
    println!("{output}: text {:.1} s, transformer {:.1} s, VAE {:.1} s", timings.text, timings.denoise, timings.decode);

    for (step, values) in watcher.latents {
        // Only the first frame is decoded: it does not depend on later frames, and takes little time.
        let [frames, height, width] = sample.outcome.latent.size;
        let first = Latent { values: values[..values.len() / frames].to_vec(), size: [1, height, width], fps: None };
        let (image, _) = engine.decode(&model, &first, Coding::default(), &mut Quiet)?;
        let path = Path::new(&output).with_file_name(format!("step-{step}.png"));
        image.save(&path)?;
        println!("{}", path.display());
    }
    Ok(())
}

//! Compares ways to make fewer evaluations, on the demo model: the table of `docs/shortcuts.md`, and a picture of it.
//!
//! ```sh
//! cargo run --release --example shortcuts -- target/shortcuts.jsonl target/shortcuts.svg
//! ```
//!
//! It takes hours, and appends what it measures to the first file. What stands there is not measured again; without the file,
//! everything is. `scripts/comparisons` puts the result into the documents. A third argument is the number of videos, 96 if it is missing: those that
//! `tools/demo_model/results/evaluation.json` lists.

#[path = "shortcuts/chart.rs"]
mod chart;
#[path = "shortcuts/judge.rs"]
mod judge;
#[path = "shortcuts/results.rs"]
mod results;

use chart::{Point, chart};
use judge::{Asked, judge};
use osp::engine::{Settings, Shortcuts};
use osp::sampler::SamplerKind;
use osp::video::VideoInfo;
use osp::video::metrics::{psnr, ssim};
use osp::{Clip, Engine, Error, Model, Quiet, Request, Result};
use results::{Key, Results, Row, Worth};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Steps of the exact runs.
const STEPS: usize = 50;
/// Options of `osp sample`: `--cache`, `--guidance-reuse` and `--guidance-interval`.
type Options = (&'static str, usize, Option<[f32; 2]>);

/// A sampler, the numbers of fewer steps to try with it, and the options.
const TRIED: [(SamplerKind, &[usize], &[Options]); 2] = [
    (
        SamplerKind::DpmSolverMultistep,
        &[40, 30, 25, 20, 15, 10],
        &[
            ("taylor:2", 1, None),
            ("taylor:3", 1, None),
            ("taylor:4", 1, None),
            ("magcache:0.05", 1, None),
            ("magcache:0.2", 1, None),
            ("teacache:0.03", 1, None),
            ("teacache:0.1", 1, None),
            ("", 2, None),
            ("", 5, None),
            ("", 1, Some([0.0, 0.9])),
            ("taylor:2", 2, None),
            ("taylor:3", 2, None),
        ],
    ),
    (
        SamplerKind::Pndm,
        &[40, 30, 20, 15],
        &[
            ("taylor:2", 1, None),
            ("taylor:3", 1, None),
            ("magcache:0.1", 1, None),
            ("teacache:0.05", 1, None),
            ("", 2, None),
            ("taylor:2", 2, None),
        ],
    ),
];

/// A way to sample.
struct Way {
    sampler: SamplerKind,
    steps: usize,
    shortcuts: Shortcuts,
}

impl Way {
    fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (sampler, fewer, options) in TRIED {
            let steps = std::iter::once(&STEPS).chain(fewer);
            all.extend(steps.map(|&steps| Self { sampler, steps, shortcuts: Shortcuts::default() }));
            for &(cache, calls, guidance_interval) in options {
                let cache = (!cache.is_empty()).then(|| cache.parse()).transpose()?;
                let guidance_reuse = (calls > 1).then_some(calls);
                let shortcuts = Shortcuts { cache, guidance_reuse, guidance_interval };
                all.push(Self { sampler, steps: STEPS, shortcuts });
            }
        }
        Ok(all)
    }

    fn is_exact(&self) -> bool {
        self.steps == STEPS && self.shortcuts.is_empty()
    }

    /// The options of `osp sample` besides the sampler.
    fn name(&self) -> String {
        let Shortcuts { cache, guidance_reuse, guidance_interval } = &self.shortcuts;
        let options = [
            cache.as_ref().map(|cache| format!("--cache {cache}")),
            guidance_reuse.map(|calls| format!("--guidance-reuse {calls}")),
            guidance_interval.map(|[from, to]| format!("--guidance-interval {from}-{to}")),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        if options.is_empty() { format!("--steps {}", self.steps) } else { options.join(" ") }
    }

    fn key(&self, videos: usize) -> Key {
        Key { sampler: self.sampler.to_string(), options: self.name(), videos }
    }

    fn kind(&self) -> &'static str {
        let Shortcuts { cache, guidance_reuse, .. } = &self.shortcuts;
        match (cache.as_ref().map(ToString::to_string), guidance_reuse) {
            (None, None) if self.shortcuts.is_empty() => "fewer steps",
            (None, _) => "guidance",
            (Some(_), Some(_)) => "cache and guidance",
            (Some(name), None) if name.starts_with("teacache") => "TeaCache",
            (Some(name), None) if name.starts_with("magcache") => "MagCache",
            (Some(_), None) => "Taylor",
        }
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let [Some(results), Some(picture)] = [arguments.next(), arguments.next()] else {
        return Err(Error::Usage("name two files: FILE.jsonl for the results, and FILE.svg for the picture".into()));
    };
    let videos = arguments.next().map_or(96, |text| text.parse().expect("the third argument is a number"));
    let asked = asked("tools/demo_model/results/evaluation.json", videos)?;
    let ways = Way::all()?;
    let results = Results::open(results.into())?;
    let missing: Vec<&Way> = ways.iter().filter(|way| results.row(&way.key(videos)).is_none()).collect();
    let results = Mutex::new(results);
    let needs_exact = |way: &&Way| way.is_exact() && missing.iter().any(|other| other.sampler == way.sampler);
    let exact: Vec<&Way> = ways.iter().filter(needs_exact).collect();
    let exact = side_by_side(&exact, |way| Ok((way.sampler, Made::by(way, &asked)?)))?;
    side_by_side(&missing, |way| {
        let of_sampler = &exact.iter().find(|(sampler, _)| *sampler == way.sampler).expect("each sampler has one").1;
        let worth = match way.is_exact() {
            true => worth(of_sampler, of_sampler, &asked)?,
            false => worth(of_sampler, &Made::by(way, &asked)?, &asked)?,
        };
        results.lock().expect("no thread panics").add(Row { key: way.key(videos), worth })
    })?;
    let results = results.into_inner().expect("no thread panics");
    println!("| sampler | options | evaluations | PSNR, dB: median | worst tenth | SSIM | judged right |");
    println!("|---|---|---|---|---|---|---|");
    let mut points = Vec::new();
    for way in &ways {
        let row = results.row(&way.key(videos)).expect("all are measured");
        println!("{row}");
        if let [Some(median), _] = row.worth.psnr {
            points.push(Point { sampler: way.sampler, kind: way.kind(), at: [row.worth.evaluations, median] });
        }
    }
    std::fs::write(&picture, chart(&points)).map_err(|error| Error::Usage(format!("{picture}: {error}")))
}

/// Does `work` for each item, some on each core. A model this small gains little from several threads.
fn side_by_side<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread can be had");
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = alone.install(|| work(item));
                    done.lock().expect("no thread panics").push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The videos that are asked for, as the list of the demo model's evaluation says.
fn asked(path: &str, count: usize) -> Result<Vec<Asked>> {
    let wrong = |problem: String| Error::Usage(format!("{path}: {problem}"));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let list: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let samples = list["samples"].as_array().ok_or_else(|| wrong("holds no samples".to_owned()))?;
    samples.iter().take(count).map(|sample| Asked::of(sample).ok_or_else(|| wrong(sample.to_string()))).collect()
}

/// The videos of a way, and the evaluations of the transformer for all of them.
struct Made {
    clips: Vec<Clip>,
    evaluations: usize,
}

impl Made {
    fn by(way: &Way, asked: &[Asked]) -> Result<Self> {
        let (engine, model) = (Engine::cpu(), Model::open("assets/demo")?);
        let settled = |asked: &Asked| {
            let request = Request::new(&asked.prompt).seed(asked.seed).sampler(way.sampler).steps(way.steps);
            request.shortcuts(way.shortcuts.clone()).settle(&model.defaults)
        };
        let settings: Vec<Settings> = asked.iter().map(settled).collect::<Result<_>>()?;
        let mut batch = engine.batch(&model, &settings, &mut Quiet)?;
        // All latents before the first is decoded, so that each model is opened once.
        (0..settings.len()).try_for_each(|video| batch.denoise(video, &mut Quiet))?;
        let mut made = Self { clips: Vec::new(), evaluations: 0 };
        for (video, Settings { height, width, fps, .. }) in settings.iter().enumerate() {
            let mut pixels = Vec::new();
            let outcome = batch.decode(video, &mut Quiet, &mut |rgb| {
                pixels.extend_from_slice(rgb);
                Ok(())
            })?;
            made.evaluations += outcome.evaluations;
            made.clips.push(Clip::new(VideoInfo { width: *width, height: *height, fps: *fps }, pixels)?);
        }
        Ok(made)
    }
}

fn worth(exact: &Made, made: &Made, asked: &[Asked]) -> Result<Worth> {
    let count = asked.len() as f64;
    let pairs = || exact.clips.iter().zip(&made.clips);
    let mut decibels = pairs().map(|(a, b)| Ok(psnr(a, b)?.overall)).collect::<Result<Vec<f64>>>()?;
    decibels.sort_by(f64::total_cmp);
    let similar = pairs().map(|(a, b)| Ok(ssim(a, b)?.overall)).sum::<Result<f64>>()?;
    let right = made.clips.iter().zip(asked).filter(|(clip, asked)| judge(clip) == asked.content).count();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let psnr = [decibels[decibels.len() / 2], mean(&decibels[..decibels.len().div_ceil(10)])];
    Ok(Worth {
        evaluations: made.evaluations as f64 / count,
        psnr: psnr.map(|value| value.is_finite().then_some(value)),
        ssim: similar / count,
        judged: right as f64 / count,
    })
}

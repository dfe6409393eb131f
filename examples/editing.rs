//! Compares the ways to edit: the table and the picture of `docs/editing.md`, on the demo model.
//!
//! ```sh
//! cargo run --release --example editing -- docs/images/editing.png
//! ```
//!
//! Each pair of captions and each seed gives a clip to edit, and the shape and colour that it should become.

#[path = "editing/shapes.rs"]
mod shapes;

use osp::engine::{Footage, Method};
use osp::video::metrics::{psnr_where, warp_error_along};
use osp::video::{Mask, VideoInfo, sheet};
use osp::{Clip, Engine, Model, Quiet, Request, Result};
use shapes::{background, kind, pixels, redrawn, shape};
use std::time::Instant;

/// The shape and the colour of a clip, and those that it should get.
struct Change {
    from: [&'static str; 2],
    to: [&'static str; 2],
    /// The rest of both captions.
    around: [&'static str; 2],
}

const CHANGES: [Change; 4] = [
    Change {
        from: ["red", "circle"],
        to: ["blue", "square"],
        around: ["a large", "moving right on a black background"],
    },
    Change {
        from: ["green", "square"],
        to: ["red", "circle"],
        around: ["a large", "moving down on a white background"],
    },
    Change {
        from: ["yellow", "circle"],
        to: ["magenta", "triangle"],
        around: ["a large", "moving left on a navy background"],
    },
    Change { from: ["blue", "square"], to: ["green", "square"], around: ["a small", "moving up on a gray background"] },
];

const SEEDS: [u64; 2] = [1, 2];
/// Pixels around the shape of the clip that a mask lets change, and that do not count as kept.
const MARGIN: usize = 6;
/// Frames of a strip, and pixels between them.
const STRIP: [usize; 2] = [8, 2];

impl Change {
    fn caption(&self, [colour, shape]: [&str; 2]) -> String {
        let [before, behind] = self.around;
        format!("{before} {colour} {shape} {behind}")
    }
}

/// A way to edit.
#[derive(Clone, Copy)]
enum Way {
    /// Sampling with the new caption, which knows nothing of the clip.
    Sample,
    Strength(f32),
    Mask(f32),
    FirstFrame(f32),
    /// With the caption of the clip as source prompt.
    Inversion(f32),
    Delta(f32),
    DeltaMask(f32),
}

const WAYS: [Way; 18] = [
    Way::Sample,
    Way::Strength(0.3),
    Way::Strength(0.4),
    Way::Strength(0.5),
    Way::Strength(0.6),
    Way::Strength(0.8),
    Way::Mask(0.5),
    Way::Mask(0.8),
    Way::Mask(1.0),
    Way::FirstFrame(0.4),
    Way::FirstFrame(0.5),
    Way::FirstFrame(0.6),
    Way::Inversion(0.5),
    Way::Inversion(0.8),
    Way::Inversion(1.0),
    Way::Delta(0.5),
    Way::Delta(0.8),
    Way::DeltaMask(0.8),
];

impl Way {
    /// The options of `osp edit`.
    fn name(self) -> String {
        match self {
            Self::Sample => "`osp sample`".to_owned(),
            Self::Strength(strength) => format!("`--strength {strength}`"),
            Self::Mask(strength) => format!("`--strength {strength} --mask`"),
            Self::FirstFrame(strength) => format!("`--strength {strength} --first-frame`"),
            Self::Inversion(strength) => format!("`--strength {strength} --method inversion`"),
            Self::Delta(strength) => format!("`--strength {strength} --method delta`"),
            Self::DeltaMask(strength) => format!("`--strength {strength} --method delta --mask`"),
        }
    }

    fn method(self, source: String) -> Method {
        match self {
            Self::Inversion(_) => Method::Inversion { source },
            Self::Delta(_) | Self::DeltaMask(_) => Method::Delta { source },
            _ => Method::Noise,
        }
    }

    /// The strength, and what the edit begins with; `None` for noise.
    fn footage(self, clip: &Clip, around: &Around, to: [&str; 2]) -> Result<Option<(f32, Footage)>> {
        let footage = Footage::clip(clip.clone());
        Ok(match self {
            Self::Sample => None,
            Self::Strength(strength) | Self::Inversion(strength) | Self::Delta(strength) => Some((strength, footage)),
            Self::Mask(strength) | Self::DeltaMask(strength) => Some((strength, footage.mask(around.mask(clip))?)),
            Self::FirstFrame(strength) => {
                let VideoInfo { width, height, fps } = clip.info();
                let first = redrawn(clip, to[1], to[0])?;
                assert_eq!((first.width, first.height, first.fps), (width, height, fps));
                Some((strength, footage.first_frame(first)?))
            }
        })
    }
}

/// Which pixels of a clip are near its shape, `[frames, height, width]`.
struct Around(Vec<bool>);

impl Around {
    fn of(clip: &Clip) -> Self {
        let near = |frame: usize| {
            let inside = pixels(clip, frame);
            let places: Vec<[usize; 2]> =
                (0..inside.len()).filter(|&i| inside[i]).map(|i| [i / clip.width, i % clip.width]).collect();
            let close = |a: usize, b: usize| a.abs_diff(b) <= MARGIN;
            let near = move |i: usize| {
                places.iter().any(|place| close(place[0], i / clip.width) && close(place[1], i % clip.width))
            };
            (0..inside.len()).map(near).collect::<Vec<_>>()
        };
        Self((0..clip.frames).flat_map(near).collect())
    }

    fn mask(&self, clip: &Clip) -> Mask {
        Mask::new([clip.frames, clip.height, clip.width], &self.0, 1)
    }
}

/// What an edit is worth; sums over all edits.
#[derive(Default)]
struct Score {
    edits: f64,
    /// Mean squared error where nothing should change.
    error: f64,
    /// Warp errors along the clip's motion.
    warp: f64,
    coloured: f64,
    shaped: f64,
    /// Distance of the shape's centre from that of the clip's, in pixels.
    away: f64,
    /// Seconds, and those of sampling.
    seconds: [f64; 2],
}

impl Score {
    fn add(&mut self, clip: &Clip, made: &Clip, around: &Around, to: [&str; 2]) -> Result<()> {
        let kept: Vec<bool> = around.0.iter().map(|near| !near).collect();
        let decibels = psnr_where(clip, made, &kept)?.overall;
        let shown: Vec<_> =
            (0..clip.frames).filter_map(|frame| Some((shape(clip, frame)?, shape(made, frame)?))).collect();
        let count = shown.len().max(1) as f64;
        let colours = shown.iter().filter(|(_, new)| new.colour_name() == to[0]).count() as f64;
        let distance = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        self.edits += 1.0;
        self.error += 255f64.powi(2) / 10f64.powf(decibels / 10.0);
        self.warp += warp_error_along(clip, made)?.unwrap_or(0.0);
        self.coloured += f64::from(colours > count / 2.0);
        self.shaped += f64::from(kind(made) == to[1]);
        self.away += shown.iter().map(|(old, new)| distance(old.centre, new.centre)).sum::<f64>() / count;
        Ok(())
    }

    fn row(&self, way: Way) -> String {
        let mean = |sum: f64| sum / self.edits;
        let decibels = 10.0 * (255f64.powi(2) / mean(self.error)).log10();
        let kept = if decibels.is_finite() { format!("{decibels:.1}") } else { "exact".to_owned() };
        format!(
            "| {} | {kept} | {:.1} | {:.0} % | {:.0} % | {:.1} | {:.2} |",
            way.name(),
            1000.0 * mean(self.warp),
            100.0 * mean(self.coloured),
            100.0 * mean(self.shaped),
            mean(self.away),
            self.seconds[0] / self.seconds[1]
        )
    }
}

fn main() -> Result<()> {
    let picture = std::env::args().nth(1);
    let (engine, model) = (Engine::cpu(), Model::open("assets/demo")?);
    let mut scores: Vec<Score> = WAYS.iter().map(|_| Score::default()).collect();
    let mut strips = Vec::new();
    for change in &CHANGES {
        for seed in SEEDS {
            let clip = engine.sample(&model, &Request::new(change.caption(change.from)).seed(seed), &mut Quiet)?.clip;
            let made = edits(&engine, &model, change, &clip, seed + 100, &mut scores)?;
            if strips.is_empty() {
                strips = [vec![clip], made].concat();
            }
        }
    }
    println!("| way | kept, dB | warp error · 1000 | colour | shape | away, pixels | time |");
    println!("|---|---|---|---|---|---|---|");
    WAYS.iter().zip(&scores).for_each(|(way, score)| println!("{}", score.row(*way)));
    picture.map_or(Ok(()), |path| strip_of(&strips)?.save(path))
}

/// Edits a clip in each way, and adds what the edits are worth.
fn edits(
    engine: &Engine,
    model: &Model,
    change: &Change,
    clip: &Clip,
    seed: u64,
    scores: &mut [Score],
) -> Result<Vec<Clip>> {
    let (around, request) = (Around::of(clip), Request::new(change.caption(change.to)).seed(seed));
    let mut made = Vec::<Clip>::new();
    let mut sampling = 0.0;
    for (way, score) in WAYS.into_iter().zip(scores) {
        let start = Instant::now();
        let sample = match way.footage(clip, &around, change.to)? {
            None => engine.sample(model, &request, &mut Quiet)?,
            Some((strength, footage)) => {
                let method = way.method(change.caption(change.from));
                engine.edit(model, &request.clone().edits_by(method, &footage, strength), footage, &mut Quiet)?
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        if made.is_empty() {
            sampling = seconds;
        }
        score.seconds = [score.seconds[0] + seconds, score.seconds[1] + sampling];
        score.add(clip, &sample.clip, &around, change.to)?;
        made.push(sample.clip);
    }
    eprintln!("{} (background {:?})", request.prompt, background(clip));
    Ok(made)
}

/// The clip and its edits below each other, some frames of each.
fn strip_of(clips: &[Clip]) -> Result<Clip> {
    let [frames, gap] = STRIP;
    let rows: Vec<Clip> = clips.iter().map(|clip| sheet::strip(clip, frames, gap)).collect::<Result<_>>()?;
    let all: Vec<u8> = rows.iter().flat_map(|row| row.pixels.clone()).collect();
    sheet::tiled(&Clip::new(rows[0].info(), all)?, 1, gap)
}

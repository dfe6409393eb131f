//! Pictures of a video while its sampler works on it, drawn without the decoder.

use crate::cli::console::{Console, colours_are_off};
use crate::cli::{blocks, interrupt};
use osp::engine::{Observer, ProjectionCache};
use osp::model::vae::Projection;
use osp::video::{Format, resize, sheet, write_clip};
use osp::{Clip, Engine, Error, Model, Result};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where previews are shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// In this PNG, which each preview replaces.
    File(PathBuf),
    Terminal,
}

/// Reads `FILE.png` or `terminal`.
pub fn shown(text: OsString) -> Result<Shown> {
    let path = PathBuf::from(text);
    match Format::from_path(&path) {
        _ if path.as_os_str() == "terminal" => Ok(Shown::Terminal),
        Ok(Format::Png) => Ok(Shown::File(path)),
        _ => Err(Error::Usage("expected the name of a .png file, or terminal".into())),
    }
}

impl Shown {
    /// Fails if a terminal is asked for that cannot show pictures.
    pub fn check(&self, console: &Console) -> Result<()> {
        let usage = |problem: &str| Err(Error::Usage(format!("--preview terminal {problem}; use --preview FILE.png")));
        match self {
            Self::File(_) => Ok(()),
            Self::Terminal if console.events() => usage("prints to stderr, which holds events"),
            Self::Terminal if colours_are_off() => usage("shows colours, and NO_COLOR is set"),
            Self::Terminal if !io::stderr().is_terminal() => usage("prints to stderr, which is not a terminal"),
            Self::Terminal => Ok(()),
        }
    }
}

/// Shows the previews of a run.
pub struct Previews<'a> {
    projection: Projection,
    /// Pixels of a position of the latent, in rows and in columns.
    factor: usize,
    console: &'a Console,
    /// Whether one could not be shown; no other is tried.
    failed: AtomicBool,
}

/// Previews of a run.
const COUNT: usize = 10;
/// The most frames of a preview.
const FRAMES: usize = 8;
/// Pixels between frames that are not enlarged.
const GAP: usize = 1;
/// The most rows and columns of pixels of a file.
const SIDE: usize = 2160;
/// The most lines in a terminal.
const LINES: usize = 24;

impl<'a> Previews<'a> {
    /// The previews of a run with `model`. Its colours are those that the VAE comes with, or are in the user's cache if `cached`,
    /// or are fitted now.
    pub fn new(engine: &Engine, model: &Model, cached: bool, console: &'a Console) -> Result<Self> {
        let projection = projection(engine, model, cached, console)?;
        Ok(Self { projection, factor: model.factors()?.space, console, failed: AtomicBool::new(false) })
    }

    /// Whether a preview is due after call `step` of `steps`.
    pub fn are_due(&self, step: usize, steps: usize) -> bool {
        is_due(step, steps) && !self.failed.load(Ordering::Relaxed)
    }

    /// Shows a latent of `size` in its file, or in the terminal. A failure is a warning, and ends the previews.
    pub fn show(&self, file: Option<&Path>, latent: &[f32], size: [usize; 3]) {
        let drawn = self.projection.image(latent, size);
        let shown = drawn.and_then(|clip| match file {
            Some(path) => write_clip(path, &picture(&clip, [SIDE; 2], self.factor)?),
            None => {
                let room = [2 * LINES, self.console.columns()];
                self.console.picture(&blocks::lines(&picture(&clip, room, self.factor)?));
                Ok(())
            }
        });
        if let Err(error) = shown {
            self.failed.store(true, Ordering::Relaxed);
            self.console.warning(&format!("there are no more previews: {error}"));
        }
    }
}

/// Whether a preview is due after call `step` of `steps`: about ten times in a run, and after the last call.
fn is_due(step: usize, steps: usize) -> bool {
    step == steps || step.is_multiple_of(steps.div_ceil(COUNT))
}

/// The size of a frame in a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// Each pixel is a square of this many pixels a side.
    Times(usize),
    /// One of this many rows and columns.
    Part(usize),
}

impl Scale {
    /// A frame of this size, scaled.
    fn of(self, frame: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Times(times) => frame.map(|side| side * times),
            Self::Part(part) => frame.map(|side| (side / part).max(1)),
        }
    }
}

/// Evenly spaced frames of `clip` in one picture, as large as `room` allows (rows and columns of pixels), and at most `most` times
/// larger than they are.
fn picture(clip: &Clip, room: [usize; 2], most: usize) -> Result<Clip> {
    let few = sheet::spaced(clip, clip.frames.min(FRAMES))?;
    let (scale, columns) = arrangement([few.height, few.width], few.frames, room, most);
    let scaled = match scale {
        Scale::Times(times) => resize::repeat(&few, times)?,
        Scale::Part(_) => {
            let [height, width] = scale.of([few.height, few.width]);
            resize::cover(&few, height, width, resize::Filter::Triangle)?
        }
    };
    sheet::tiled(&scaled, columns, gap(scale))
}

/// The largest scale at which `count` frames of a size fit into `room`, and the most columns in which they do.
fn arrangement(frame: [usize; 2], count: usize, room: [usize; 2], most: usize) -> (Scale, usize) {
    let smallest = frame[0].max(frame[1]);
    let scales = (1..=most).rev().map(Scale::Times).chain((2..=smallest).map(Scale::Part));
    let fits = |scale: Scale, columns: usize| {
        let counts = [count.div_ceil(columns), columns];
        let side = |axis: usize| counts[axis] * (scale.of(frame)[axis] + gap(scale)) - gap(scale);
        side(0) <= room[0] && side(1) <= room[1]
    };
    let columns = |scale: Scale| Some((scale, (1..=count).rev().find(|&columns| fits(scale, columns))?));
    // A terminal of no width gets single pixels.
    scales.into_iter().find_map(columns).unwrap_or((Scale::Part(smallest), 1))
}

/// Pixels between frames of this scale.
fn gap(scale: Scale) -> usize {
    if let Scale::Times(times) = scale { GAP * times.div_ceil(2) } else { GAP }
}

/// The projection of the model's VAE: beside its weights, else in the cache, else fitted and kept there.
fn projection(engine: &Engine, model: &Model, cached: bool, console: &Console) -> Result<Projection> {
    let vae = model.need_vae()?;
    if let Some(known) = vae.projection()? {
        return Ok(known);
    }
    let cache = ProjectionCache::of_user().filter(|_| cached);
    if let Some(known) = cache.as_ref().and_then(|cache| cache.get(vae)) {
        return Ok(known);
    }
    console.note("previews: the VAE encodes a few small images, to learn its colours");
    let fitted = engine.fit_projection(model, &mut Silent)?;
    if let Some(Err(error)) = cache.map(|cache| cache.put(vae, &fitted)) {
        console.warning(&format!("the colours of previews are not cached: {error} (--no-cache does without)"));
    }
    Ok(fitted)
}

/// Shows nothing of the small images, and can cancel.
struct Silent;

impl Observer for Silent {
    fn cancelled(&mut self) -> bool {
        interrupt::requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osp::video::{FrameRate, VideoInfo};

    #[test]
    fn previews_go_to_a_png_or_to_the_terminal() {
        let read = |text: &str| shown(text.into());
        assert_eq!(read("terminal").unwrap(), Shown::Terminal);
        for name in ["a.png", "a/terminal.PNG"] {
            assert_eq!(read(name).unwrap(), Shown::File(name.into()));
        }
        for wrong in ["", "-", "a", "a.gif", "Terminal", "png", "a.png/"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(".png") && error.contains("terminal"), "{wrong}: {error}");
        }
    }

    #[test]
    fn about_ten_previews_are_spread_over_a_run_and_the_last_call_has_one() {
        let due = |steps: usize| (1..=steps).filter(|step| is_due(*step, steps)).collect::<Vec<_>>();
        assert_eq!(due(1), [1]);
        assert_eq!(due(4), [1, 2, 3, 4]);
        assert_eq!(due(30), [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]);
        assert_eq!(due(13), [2, 4, 6, 8, 10, 12, 13]);
        assert_eq!(due(159), [16, 32, 48, 64, 80, 96, 112, 128, 144, 159]);
        assert!((1..500).all(|steps| (1..=10).contains(&due(steps).len()) && *due(steps).last().unwrap() == steps));
    }

    #[test]
    fn frames_are_as_large_as_fits() {
        use Scale::{Part, Times};
        let file = |side: usize, count: usize| arrangement([side; 2], count, [SIDE; 2], 8);
        assert_eq!(file(8, 8), (Times(8), 8));
        assert_eq!(file(64, 8), (Times(8), 4));
        assert_eq!(file(64, 1), (Times(8), 1));
        assert_eq!(file(256, 8).0, Times(2));
        assert_eq!(file(3000, 1), (Part(2), 1));
        let terminal = |frame: [usize; 2], columns: usize| arrangement(frame, 8, [2 * LINES, columns], 8);
        assert_eq!(terminal([8, 8], 80), (Times(2), 4));
        assert_eq!(terminal([64, 64], 80), (Part(4), 4));
        // Below each other, five rows and columns each.
        assert_eq!(terminal([64, 64], 10), (Part(11), 1));
        for frame in [[1, 1], [2, 300], [300, 2], [64, 64], [8, 8]] {
            for columns in [1, 2, 20, 80, 300] {
                let (scale, count) = terminal(frame, columns);
                let [height, width] = scale.of(frame);
                let space = gap(scale);
                assert!(count * (width + space) - space <= columns, "{frame:?} in {columns}: {scale:?}");
                assert!(8usize.div_ceil(count) * (height + space) - space <= 2 * LINES, "{frame:?}: {scale:?}");
            }
        }
    }

    #[test]
    fn a_picture_shows_the_first_and_the_last_frame() {
        let info = VideoInfo { width: 2, height: 2, fps: FrameRate::default() };
        let clip = Clip::new(info, (0..17u8).flat_map(|frame| [frame * 10; 12]).collect()).unwrap();
        let sheet = picture(&clip, [SIDE; 2], 8).unwrap();
        assert_eq!((sheet.frames, sheet.height, sheet.width), (1, 16, 8 * 16 + 7 * 4));
        assert_eq!((sheet.pixels[0], *sheet.pixels.last().unwrap()), (0, 160));
        let small = picture(&clip, [2 * LINES, 5], 8).unwrap();
        assert!(small.width <= 5 && small.height <= 48, "{}x{}", small.height, small.width);
    }
}

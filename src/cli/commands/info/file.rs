//! What a file is: a video and how it was made, a latent, or the state of a stopped run.

use super::row;
use crate::cli::console::Console;
use crate::cli::made::{Made, in_words};
use crate::cli::record::lossy;
use osp::engine::{SavedSettings, Settings};
use osp::error::one_line;
use osp::state::{Origin, State, is_state};
use osp::video::{ReadOptions, Reader, description};
use osp::{Latent, Result};
use serde::Serialize;
use std::path::Path;

/// A file, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "lossy")]
    file: &'a Path,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum What {
    Video {
        height: usize,
        width: usize,
        fps: f64,
        /// How `osp sample` made it.
        made: Option<Made>,
        /// The comment of another program.
        comment: Option<String>,
    },
    Latent {
        channels: usize,
        frames: usize,
        rows: usize,
        columns: usize,
        fps: Option<f64>,
    },
    State {
        request: SavedSettings,
        stands: String,
        origin: Origin,
    },
}

/// Whether a folder holds the frames of a video that says how it was made.
pub fn is_video_folder(path: &Path) -> bool {
    path.is_dir() && matches!(description(path), Ok(Some(_)))
}

/// Runs the command for a file, or a folder of frames.
pub fn run(path: &Path, console: &Console) -> Result<()> {
    let what = What::of(path)?;
    if console.json() {
        return console.json_result(&Report { file: path, what });
    }
    let lines = [vec![one_line(&path.to_string_lossy())], what.lines()].concat();
    console.result(lines.join("\n"))
}

impl What {
    fn of(path: &Path) -> Result<Self> {
        if is_state(path) {
            let state = State::read(path)?;
            let stands = state.stands();
            return Ok(Self::State { request: (&state.settings).into(), stands, origin: state.origin });
        }
        if path.extension().is_some_and(|ending| ending == "safetensors") {
            let latent = Latent::read(path)?;
            let [frames, rows, columns] = latent.size;
            let fps = latent.fps.map(|fps| fps.as_f64());
            return Ok(Self::Latent { channels: latent.channels()?, frames, rows, columns, fps });
        }
        let info = Reader::open(path, &ReadOptions::default())?.info();
        let comment = description(path)?;
        let made = comment.as_deref().and_then(Made::parse);
        let comment = comment.filter(|_| made.is_none());
        Ok(Self::Video { height: info.height, width: info.width, fps: info.fps.as_f64(), made, comment })
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Video { height, width, fps, made, comment } => {
                let mut lines = vec![row("video", &format!("{height}x{width} at {fps} frames/s"))];
                lines.extend(made.iter().flat_map(Made::lines).map(|(name, value)| row(name, &value)));
                lines.extend(comment.iter().map(|comment| row("comment", comment)));
                lines
            }
            Self::Latent { channels, frames, rows, columns, fps } => {
                let rate = fps.map(|fps| format!(", for {fps} frames/s")).unwrap_or_default();
                vec![row("latent", &format!("{frames} frames of {rows}x{columns} with {channels} channels{rate}"))]
            }
            Self::State { request, stands, origin } => {
                let request = request.clone().settings();
                let mut lines = vec![row("state", stands)];
                lines.extend(request.iter().flat_map(of_request).map(|(name, value)| row(name, &value)));
                lines.extend([row("device", &origin.device), row("program", &origin.program)]);
                lines
            }
        }
    }
}

/// The prompts and settings of a request, by name.
fn of_request(settings: &Settings) -> Vec<(&'static str, String)> {
    let negative = Some(settings.negative_prompt.clone()).filter(|text| !text.is_empty());
    let prompt = [("prompt", settings.prompt.clone())].into_iter();
    prompt.chain(negative.map(|text| ("negative", text))).chain([("request", in_words(settings))]).collect()
}

impl Made {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines: Vec<_> = self.request.clone().settings().iter().flat_map(of_request).collect();
        lines.push(("fingerprint", self.fingerprint.clone()));
        lines.extend(self.weights.named().map(|(name, weights)| (name, weights.to_owned())));
        lines.push(("program", format!("osp {}", self.osp)));
        lines
    }
}

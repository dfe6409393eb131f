//! The record of an output: the request, the program and model that made it, and its cost.

use super::console::Console;
use super::memory::peak_rss;
use super::model::Fingerprints;
use osp::model::vae::tiling::Tiling;
use osp::reading::{self, TEXT};
use osp::staged::{self, Staged};
use osp::video::{is_frame, is_stdout};
use osp::{Error, Model, Result};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use std::fs;
use std::path::{Path, PathBuf};

/// The path of the record of `output`: `out.mp4` → `out.mp4.json`, `frames/` → `frames.json`.
pub fn path(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".json");
    output.with_file_name(name)
}

/// Fails if the record of `output` cannot be written, or would replace a file that is not a record. Stdout has no
/// record.
pub fn check(output: &Path) -> Result<()> {
    if is_stdout(output) {
        return Ok(());
    }
    let path = path(output);
    staged::check_file(&path)?;
    if path.exists() && !is_record(&reading::bytes(&path, TEXT).map_err(Error::io("cannot read", &path))?) {
        return Err(Error::Usage(format!(
            "{} is not a record, but the record of output {} would replace it; move it or choose another output",
            path.display(),
            output.display()
        )));
    }
    Ok(())
}

/// Removes the record of `output`, which need not exist.
pub fn remove(output: &Path) {
    if !is_stdout(output) {
        staged::remove_file(&path(output));
    }
}

/// Whether `output` exists, and its record has this fingerprint and its size.
pub fn is_of(output: &Path, fingerprint: &str) -> bool {
    let record = || serde_json::from_slice::<serde_json::Value>(&reading::bytes(&path(output), TEXT).ok()?).ok();
    let is_it = |record: serde_json::Value| {
        // Records of earlier versions have no size.
        let bytes = &record["bytes"];
        record["fingerprint"] == fingerprint && (bytes.is_null() || bytes.as_u64() == size(output))
    };
    !is_stdout(output) && output.exists() && record().is_some_and(is_it)
}

/// The bytes of a video: of its file, or of the frames in its folder.
pub fn size(video: &Path) -> Option<u64> {
    let Ok(files) = fs::read_dir(video) else { return fs::metadata(video).ok().map(|file| file.len()) };
    let frames = files.flatten().filter(|file| is_frame(&file.file_name()));
    // Links count as what they lead to.
    frames.map(|file| fs::metadata(file.path()).ok().map(|file| file.len())).sum()
}

/// Whether a file is a [`Record`].
fn is_record(bytes: &[u8]) -> bool {
    const KEYS: [&str; 5] = ["output", "version", "device", "model", "weights"];
    let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(bytes).ok();
    object.is_some_and(|object| KEYS.iter().all(|key| object.contains_key(*key)))
}

/// The program, device and model that made an output; equal for all outputs of a run.
#[derive(Serialize, JsonSchema)]
pub struct Origin {
    version: &'static str,
    device: String,
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    model: PathBuf,
    weights: Fingerprints,
}

impl Origin {
    /// A run of `model` on `device`.
    pub fn new(model: &Model, device: String) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            device,
            model: model.place.clone(),
            weights: Fingerprints::of(model),
        }
    }
}

/// The windows of the VAE, with the names of the options.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub struct Tiles {
    tile_size: usize,
    tile_frames: usize,
    tile_overlap: f64,
}

impl From<Tiling> for Tiles {
    fn from(tiling: Tiling) -> Self {
        Self { tile_size: tiling.sample_size, tile_frames: tiling.sample_frames, tile_overlap: tiling.overlap }
    }
}

/// A record: the output, its command's entries, the origin, and the peak of memory.
#[derive(Serialize, JsonSchema)]
pub struct Record<'a, F> {
    #[serde(serialize_with = "lossy")]
    #[schemars(with = "String")]
    output: &'a Path,
    #[serde(flatten)]
    facts: F,
    #[serde(flatten)]
    origin: &'a Origin,
    peak_rss_bytes: Option<u64>,
}

impl<'a, F: Serialize> Record<'a, F> {
    /// The record of `output`, which is complete.
    pub fn new(output: &'a Path, facts: F, origin: &'a Origin) -> Self {
        Self { output, facts, origin, peak_rss_bytes: peak_rss() }
    }

    /// Writes the record beside the output, unless the output is stdout.
    pub fn save(&self) -> Result<()> {
        self.written()?.map_or(Ok(()), Staged::commit)
    }

    /// As [`Self::save`], but [`Staged::commit`] gives the record its name.
    pub fn written(&self) -> Result<Option<Staged>> {
        if is_stdout(self.output) {
            return Ok(None);
        }
        let mut text = serde_json::to_string_pretty(self).expect("records have string keys and plain values");
        text.push('\n');
        staged::written(&path(self.output), text.as_bytes()).map(Some)
    }

    /// Prints the record if results are JSON, else the output's path. Prints nothing if the output is stdout.
    pub fn print(&self, console: &Console) -> Result<()> {
        if is_stdout(self.output) {
            return Ok(());
        }
        if console.json() { console.json_result(self) } else { console.path(self.output) }
    }
}

/// Writes a path into JSON, which holds only text: replacement characters stand for bytes that are not UTF-8.
pub fn lossy<S: Serializer>(path: &impl AsRef<Path>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.as_ref().to_string_lossy())
}

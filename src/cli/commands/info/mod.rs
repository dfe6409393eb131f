//! `osp info`: describes a checkpoint, and lists everything that is wrong with it; or says what a file is and how it was made.

mod file;

use crate::cli::args::weight_source;
use crate::cli::console::{Colour, Console};
use crate::cli::record::lossy;
use crate::cli::units::megabytes;
use osp::checkpoint::{self, Calibrated, Component, ComponentConfig, Defaults, Opening, WeightSource};
use osp::error::one_line;
use osp::model::{latte::LatteConfig, t5::T5Config, vae::VaeConfig};
use osp::reading::{self, TEXT};
use osp::weights::manifest::CheckpointManifest;
use osp::weights::{Entry, Source, hub, strange};
use osp::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  osp info models/Open-Sora-Plan-v1.1.0 --text-encoder models/t5-v1_1-xxl
  osp info models/Open-Sora-Plan-v1.1.0/vae --json
  osp info circle.mp4
  osp info circle.mp4.state

Exit code 5 if there is a problem.";

/// Describes a model's folder (or one component's), and lists what is wrong with it; or says how a video was made
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a model or of one component, or ORG/NAME in the cache of the Hugging Face hub; or a video, a latent or a state
    #[arg(value_name = "DIR|FILE")]
    folder: PathBuf,
    /// Folder of the text encoder [default: text_encoder in the model's folder]
    #[arg(long, value_name = "DIR")]
    text_encoder: Option<PathBuf>,
    /// Source of the weights: `files`, or `synthetic:SEED` to check only the configs
    #[arg(long, value_name = "SOURCE", default_value = "files", value_parser = weight_source)]
    weights: WeightSource,
    /// Also check that every weight is a finite number; this reads all weight files
    #[arg(long)]
    values: bool,
}

/// A folder and its components.
#[derive(Serialize)]
struct Report {
    #[serde(serialize_with = "lossy")]
    folder: PathBuf,
    parts: Vec<ComponentReport>,
    samples: Option<Samples>,
    /// Problems that concern more than one component.
    problems: Vec<String>,
}

/// The model's defaults for a sample.
#[derive(Serialize)]
struct Samples {
    frames: usize,
    height: usize,
    width: usize,
    sampler: &'static str,
    steps: usize,
    guidance: f32,
    notice: Option<String>,
}

#[derive(Serialize)]
struct ComponentReport {
    part: &'static str,
    #[serde(serialize_with = "lossy")]
    folder: PathBuf,
    /// The main values of the config, for people.
    #[serde(skip)]
    sizes: Vec<(&'static str, String)>,
    /// The content of `config.json`.
    config: Option<serde_json::Value>,
    weights: Option<Weights>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Weights {
    /// The number of parameters that the model needs.
    parameters: u64,
    /// The number of tensors that the model needs.
    tensors: usize,
    /// The number of tensors in the file by stored type.
    stored: BTreeMap<&'static str, usize>,
    bytes: u64,
    fingerprint: String,
    /// Tensors in the file that the model does not need.
    not_read: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    if args.folder.is_file() || file::is_video_folder(&args.folder) {
        return file::run(&args.folder, console);
    }
    let folder = hub::locate(&args.folder)?;
    if !folder.is_dir() {
        return Err(Error::config(
            &folder,
            "there is no such file or folder; name a model, a component, a video, a latent or a state",
        ));
    }
    let report = Report::new(folder, args)?;
    if console.json() {
        console.json_result(&report)?
    } else {
        console.result(report.text(console))?
    }
    match report.count() {
        0 => Ok(()),
        1 => Err(Error::config(&args.folder, "1 problem")),
        count => Err(Error::config(&args.folder, format!("{count} problems"))),
    }
}

impl Report {
    fn new(folder: PathBuf, args: &Args) -> Result<Self> {
        if let Some(part) = single_component(&folder, args)? {
            return Ok(Self { folder, parts: vec![part], samples: None, problems: Vec::new() });
        }
        let transformers = checkpoint::transformers(&folder)?;
        let text_encoder = args.text_encoder.as_deref().map(hub::locate).transpose()?;
        let text_encoder = text_encoder.unwrap_or_else(|| folder.join("text_encoder"));
        let mut parts = vec![inspect::<T5Config>(&text_encoder, args)];
        parts.extend(transformers.iter().map(|folder| inspect::<LatteConfig>(folder, args)));
        parts.push(inspect::<VaeConfig>(&folder.join("vae"), args));
        let mut report = Self { folder, parts, samples: None, problems: Vec::new() };
        if transformers.is_empty() {
            report.problems.push(checkpoint::no_transformer(&report.folder).to_string());
        }
        if report.count() == 0 {
            report.try_together(&text_encoder, &transformers, args.weights);
        } else {
            report.problems.extend(Defaults::check(&report.folder).err().map(|error| error.to_string()));
        }
        Ok(report)
    }

    /// Opens each transformer with the other components, to check that they fit together and to get the defaults.
    fn try_together(&mut self, text_encoder: &Path, transformers: &[PathBuf], weights: WeightSource) {
        for transformer in transformers {
            let name = transformer.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (text_encoder, transformer) = (Some(text_encoder.to_path_buf()), Some(name));
            match (Opening { text_encoder, transformer, weights, ..Opening::default() }).open(&self.folder) {
                Ok(model) => self.samples = Some(model.defaults.into()),
                Err(error) => self.problems.push(error.to_string()),
            }
        }
    }

    fn count(&self) -> usize {
        self.problems.len() + self.parts.iter().map(|part| part.problems.len()).sum::<usize>()
    }

    fn text(&self, console: &Console) -> String {
        let mut lines = vec![one_line(&self.folder.to_string_lossy())];
        if let Some(samples) = &self.samples {
            let Samples { frames, height, width, sampler, steps, guidance, notice } = samples;
            lines.push(row(
                "samples",
                &format!("{frames} frames of {height}x{width}, {sampler} {steps} steps, guidance {guidance}"),
            ));
            lines.extend(notice.iter().map(|notice| row("notice", notice)));
        }
        lines.extend(self.problems.iter().map(|problem| problem_row(problem, console)));
        for part in &self.parts {
            lines.push(String::new());
            lines.extend(part.lines(console));
        }
        lines.join("\n")
    }
}

impl From<Defaults> for Samples {
    fn from(defaults: Defaults) -> Self {
        let Defaults { frames, height, width, sampler, steps, guidance, notice, .. } = defaults;
        Self { frames, height, width, sampler: sampler.name(), steps, guidance, notice }
    }
}

/// The component in `folder`, if it is a component's folder.
fn single_component(folder: &Path, args: &Args) -> Result<Option<ComponentReport>> {
    Ok(match checkpoint::class_of(folder)?.as_deref() {
        Some(T5Config::CLASS) => Some(inspect::<T5Config>(folder, args)),
        Some(LatteConfig::CLASS) => Some(inspect::<LatteConfig>(folder, args)),
        Some(VaeConfig::CLASS) => Some(inspect::<VaeConfig>(folder, args)),
        _ => None,
    })
}

/// A component that lists its main sizes.
trait Describe: ComponentConfig {
    fn sizes(&self) -> Vec<(&'static str, String)>;

    /// What is wrong with files beside it that only some runs need.
    fn problem_beside(&self, folder: &Path) -> Option<Error> {
        let _ = folder;
        None
    }
}

impl Describe for T5Config {
    fn sizes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("blocks", self.num_layers.to_string()),
            ("channels", format!("{}, {} in feed-forward", self.d_model, self.d_ff)),
            ("heads", format!("{} of {}", self.num_heads, self.d_kv)),
            ("vocabulary", self.vocab_size.to_string()),
        ]
    }
}

impl Describe for LatteConfig {
    fn problem_beside(&self, folder: &Path) -> Option<Error> {
        Calibrated::of(self, folder).known().err()
    }

    fn sizes(&self) -> Vec<(&'static str, String)> {
        let [height, width] = self.sample_size;
        let frames = self.video_length;
        let mut sizes = vec![
            ("blocks", format!("{} pairs, spatial and temporal", self.num_layers)),
            ("channels", self.channels().to_string()),
            ("heads", format!("{} of {}", self.num_attention_heads, self.attention_head_dim)),
            ("trained on", format!("latents of {frames}x{height}x{width}")),
        ];
        if self.use_rope {
            sizes.push(("positions", "rotary, besides sine-cosine".into()));
        }
        if self.compress_kv_factor > 1 {
            sizes.push(("keys, values", format!("shortened by {} in the second half", self.compress_kv_factor)));
        }
        sizes
    }
}

impl Describe for VaeConfig {
    fn sizes(&self) -> Vec<(&'static str, String)> {
        let channels: Vec<String> = (0..self.levels()).map(|level| self.channels(level).to_string()).collect();
        let (space, time) = (self.spatial_factor(), self.temporal_factor());
        vec![
            ("levels", format!("{} channels", channels.join(", "))),
            ("latents", format!("{} channels, 1 for {time} frames of {space}x{space} pixels", self.embed_dim)),
        ]
    }
}

fn inspect<C: Describe>(folder: &Path, args: &Args) -> ComponentReport {
    let text = reading::text(&folder.join("config.json"), TEXT).unwrap_or_default();
    let mut report = ComponentReport {
        part: C::NAME,
        folder: folder.to_path_buf(),
        sizes: Vec::new(),
        config: serde_json::from_str(&text).ok(),
        weights: None,
        problems: Vec::new(),
    };
    match Component::<C>::open_unchecked(folder, args.weights) {
        Err(error) => report.problems.push(error.to_string()),
        Ok(part) => {
            let manifest = part.config.manifest(Some(&*part.source));
            report.sizes = part.config.sizes();
            report.weights = Some(Weights::new(&manifest, &*part.source));
            let mut problems = manifest.problems(&*part.source, C::ignored);
            problems.extend(part.config.check_beside(folder).err());
            problems.extend(part.config.problem_beside(folder));
            if args.values && problems.is_empty() {
                problems.extend(strange::check(&*part.source, &manifest.tensors).err());
            }
            report.problems = problems.iter().map(Error::to_string).collect();
        }
    }
    report
}

impl Weights {
    fn new(manifest: &CheckpointManifest, source: &dyn Source) -> Self {
        let entries = source.entries();
        let mut stored = BTreeMap::new();
        for entry in &entries {
            *stored.entry(entry.dtype.name()).or_default() += 1;
        }
        let size = |entry: &Entry| (entry.shape.iter().product::<usize>() * entry.dtype.size()) as u64;
        let bytes = entries.iter().map(size).sum();
        let read: HashSet<&str> = manifest.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let unread = entries.into_iter().map(|entry| entry.name).filter(|name| !read.contains(name.as_str()));
        Self {
            parameters: manifest.parameters(),
            tensors: manifest.tensors.len(),
            stored,
            bytes,
            fingerprint: source.fingerprint(),
            not_read: unread.collect(),
        }
    }
}

impl ComponentReport {
    fn lines(&self, console: &Console) -> Vec<String> {
        let mut lines = vec![format!("{}  {}", self.part, one_line(&self.folder.to_string_lossy()))];
        lines.extend(self.sizes.iter().map(|(name, size)| row(name, size)));
        if let Some(weights) = &self.weights {
            lines.push(row("parameters", &format!("{} in {} tensors", count(weights.parameters), weights.tensors)));
            let types: Vec<&str> = weights.stored.keys().copied().collect();
            lines.push(row("stored", &format!("{}, {}", types.join(" and "), megabytes(weights.bytes))));
            lines.push(row("fingerprint", &weights.fingerprint));
            if !weights.not_read.is_empty() {
                lines.push(row("not read", &some(&weights.not_read)));
            }
        }
        if self.problems.is_empty() {
            lines.push(row("problems", "none"));
        }
        lines.extend(self.problems.iter().map(|problem| problem_row(problem, console)));
        lines
    }
}

/// A row of the report. A value may come from a stranger's file: what controls a terminal does not reach it.
fn row(name: &str, value: &str) -> String {
    format!("  {name:<12}  {}", one_line(value))
}

fn problem_row(problem: &str, console: &Console) -> String {
    // Coloured after padding: escape sequences have no width.
    let label = console.coloured(&format!("{:<12}", "PROBLEM"), Colour::Red);
    format!("  {label}  {problem}")
}

/// The first few names, and the number of the others.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A readable number of parameters.
fn count(parameters: u64) -> String {
    match parameters {
        0..100_000 => parameters.to_string(),
        100_000..1_000_000_000 => format!("{:.1} M", parameters as f64 / 1e6),
        _ => format!("{:.2} G", parameters as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_readable() {
        assert_eq!(count(12_345), "12345");
        assert_eq!(count(246_940_000), "246.9 M");
        assert_eq!(count(4_762_000_000), "4.76 G");
    }

    #[test]
    fn long_lists_are_cut() {
        let names = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(some(&names(3)), "0, 1, 2");
        assert_eq!(some(&names(5)), "0, 1, 2 and 2 more");
    }
}

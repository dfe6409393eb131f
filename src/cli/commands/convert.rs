//! `osp convert`: converts weights of any format to safetensors.

use crate::cli::claims::Claims;
use crate::cli::console::Console;
use crate::cli::model;
use crate::cli::record::lossy;
use crate::cli::transfer::Transfer;
use crate::cli::units::megabytes;
use clap::ValueEnum;
use osp::checkpoint::{self, BESIDE, Component, ComponentConfig, Defaults, WeightSource};
use osp::model::{latte::LatteConfig, t5::T5Config, vae::VaeConfig};
use osp::reading;
use osp::staged::{self, Staged};
use osp::tensor;
use osp::text::tokenizer;
use osp::video::is_stdout;
use osp::weights::manifest::CheckpointManifest;
use osp::weights::write::Writer;
use osp::weights::{Source, hub};
use osp::{Error, Result};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  osp convert models/t5-v1_1-xxl -o models/t5-bf16
  osp convert models/vae/checkpoint.ckpt -o models/vae-f32 --dtype f32
  osp convert LanguageBind/Open-Sora-Plan-v1.1.0 -o models/osp

Tensors of a loss or an optimizer are not written.";

/// Writes a model's weights (PyTorch's .bin or .ckpt, or safetensors) as safetensors
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a model or of one component, a weight file, or ORG/NAME in the cache of the Hugging Face hub
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// Folder to write: weights, config and tokenizer; it appears when it is complete
    #[arg(short, long, value_name = "DST")]
    output: PathBuf,
    /// Type to store
    #[arg(long, value_name = "TYPE", default_value = "bf16")]
    dtype: StoredType,
    /// Replace an older output
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum StoredType {
    Bf16,
    F16,
    F32,
}

/// The most bytes of one file; more are divided among several files.
const MOST: u64 = 10_000_000_000;

/// An open component of any kind.
struct Opened {
    part: &'static str,
    /// Name of the component's folder in the model's folder; empty if the user named the component.
    name: PathBuf,
    folder: PathBuf,
    stem: &'static str,
    source: Box<dyn Source>,
    manifest: CheckpointManifest,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "lossy")]
    output: &'a Path,
    dtype: &'static str,
    parts: Vec<Written>,
}

#[derive(Serialize)]
struct Written {
    part: &'static str,
    files: Vec<String>,
    tensors: usize,
    /// Tensors of the source that were not written.
    left_out: usize,
    bytes: u64,
}

/// Runs the command.
pub fn run(args: &Args, console: &Console) -> Result<()> {
    let source = hub::locate(&args.source)?;
    if !source.exists() {
        return Err(Error::config(
            &source,
            "there is no such folder or file; name a model, a component, or its weights",
        ));
    }
    args.check(&source)?;
    let dtype = args.dtype.into();
    let parts = open(&source)?;
    let writers: Vec<_> =
        parts.iter().map(|part| Writer::new(&*part.source, &part.manifest.tensors, dtype, MOST)).collect();

    let staged = Staged::folder(&args.output, check_ours)?;
    let transfer = Transfer::new(console, "convert", writers.iter().map(Writer::bytes).sum());
    let mut report = Report { output: &args.output, dtype: dtype.name(), parts: Vec::new() };
    let named = |error| in_output(error, staged.path(), &args.output);
    for (part, writer) in parts.iter().zip(&writers) {
        report.parts.push(part.write(writer, staged.path(), &args.output, &transfer).map_err(named)?);
    }
    if parts.iter().all(|part| !part.name.as_os_str().is_empty()) {
        copy_beside(&source, staged.path()).map_err(named)?;
    }
    staged.lasting()?.commit()?;
    transfer.finish();
    let lacks = |part: &&Opened| {
        part.part == T5Config::NAME && !tokenizer::FILES.iter().any(|name| part.folder.join(name).exists())
    };
    if let Some(part) = parts.iter().find(lacks) {
        let folder = part.folder.display();
        console
            .warning(&format!("{folder} has no tokenizer ({}), which osp sample needs", tokenizer::FILES.join(" or ")));
    }
    if console.json() { console.json_result(&report) } else { console.result(report.text()) }
}

/// The error about a file in the temporary folder, with the name that the file would have had.
fn in_output(error: Error, staged: &Path, output: &Path) -> Error {
    match error {
        Error::Io { path, action, source } => {
            let path = path.strip_prefix(staged).map_or(path.clone(), |file| output.join(file));
            Error::Io { path, action, source }
        }
        other => other,
    }
}

impl Args {
    /// Fails if the output folder cannot be written: it exists and `--force` is not given, it holds files that this
    /// command does not write or inputs of `source`, or its parent is not writable.
    fn check(&self, source: &Path) -> Result<()> {
        let usage = |problem: &str| Err(Error::Usage(format!("output {} {problem}", self.output.display())));
        if self.output.file_name().is_none() || is_stdout(&self.output) {
            return usage("has no name; name a folder");
        }
        staged::check_parent(&self.output)?;
        let folder = if source.is_file() { source.parent().unwrap_or(Path::new("")) } else { source };
        Claims::new(model::files_in(folder)).reads(source).writes(&self.output).check()?;
        if !self.output.exists() {
            return Ok(());
        }
        if !self.output.is_dir() {
            return usage("is a file; name a folder");
        }
        let mut entries = fs::read_dir(&self.output).map_err(Error::io("cannot list", &self.output))?;
        if !self.force && entries.next().is_some() {
            return usage("already exists; choose another, or replace it with --force");
        }
        check_ours(&self.output)?;
        check_removable(&self.output)
    }
}

/// Fails if a folder of an older output is write-protected.
fn check_removable(folder: &Path) -> Result<()> {
    staged::check_removable(folder)?;
    // A link is removed without its target.
    let folders = checkpoint::subfolders(folder)?.into_iter().filter(|folder| !folder.is_symlink());
    folders.into_iter().try_for_each(|folder| check_removable(&folder))
}

/// Fails if `folder` holds a file that this command does not write.
fn check_ours(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(Error::io("cannot list", folder))? {
        let path = entry.map_err(Error::io("cannot list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Links are not followed: their targets stay.
        if path.is_dir() && !path.is_symlink() {
            check_ours(&path)?;
        } else if !is_ours(&name) && !staged::is_litter(&name) {
            let (folder, path) = (folder.display(), path.display());
            return Err(Error::Usage(format!(
                "output {folder} holds {path}, which would be lost; choose another folder"
            )));
        }
    }
    Ok(())
}

/// The component at `source`, or the components in its subfolders.
fn open(source: &Path) -> Result<Vec<Opened>> {
    let own = if source.is_file() { source.parent().unwrap_or(Path::new("")) } else { source };
    if let Some(part) = open_component(own, source)? {
        return Ok(vec![part]);
    }
    if source.is_file() {
        let problem = "has no config.json beside it that says which component it is; copy the model's there";
        return Err(Error::config(source, problem));
    }
    let mut parts = Vec::new();
    for folder in checkpoint::subfolders(source)? {
        match open_component(&folder, &folder)? {
            Some(part) => parts.push(Opened { name: folder.file_name().unwrap_or_default().into(), ..part }),
            None => nothing_lost(&folder)?,
        }
    }
    if parts.is_empty() {
        return Err(Error::config(
            source,
            "is not a component of a model, and none of its subfolders is; name a model's folder",
        ));
    }
    Defaults::check(source)?;
    Ok(parts)
}

/// Fails for a subfolder with weights or a config that does not say which component it is.
fn nothing_lost(folder: &Path) -> Result<()> {
    let config = folder.join("config.json");
    let problem = match (config.exists(), checkpoint::has_weights(folder)) {
        (true, true) if checkpoint::class_of(folder)?.is_none() => {
            "does not name the component of the weights beside it"
        }
        (false, true) => "is missing beside the weights",
        _ => return Ok(()),
    };
    Err(Error::config(config, format!("{problem}; it should have a _class_name, or a model_type")))
}

/// The component in `folder` with the weights of `source`, which is the folder or a file in it; `None` if `folder` is
/// not a component's.
fn open_component(folder: &Path, source: &Path) -> Result<Option<Opened>> {
    Ok(match checkpoint::class_of(folder)?.as_deref() {
        Some(T5Config::CLASS) => Some(opened::<T5Config>(source)?),
        Some(LatteConfig::CLASS) => Some(opened::<LatteConfig>(source)?),
        Some(VaeConfig::CLASS) => Some(opened::<VaeConfig>(source)?),
        _ => None,
    })
}

fn opened<C: ComponentConfig>(source: &Path) -> Result<Opened> {
    let part = if source.is_file() {
        Component::open_file(source)
    } else {
        Component::<C>::open(source, WeightSource::Files)
    }?;
    part.config.check_beside(&part.folder)?;
    let manifest = part.config.manifest(Some(&*part.source));
    let Component { folder, source, .. } = part;
    Ok(Opened { part: C::NAME, name: PathBuf::new(), folder, stem: C::STEM, source, manifest })
}

impl Opened {
    /// Writes the component into `staged`, which will become `output`.
    fn write(&self, writer: &Writer<'_>, staged: &Path, output: &Path, transfer: &Transfer<'_>) -> Result<Written> {
        let folder = staged.join(&self.name);
        fs::create_dir_all(&folder).map_err(Error::io("cannot write", &folder))?;
        let files = writer.write(&folder, self.stem, &mut |bytes| transfer.advance(bytes))?;
        copy_beside(&self.folder, &folder)?;
        let left_out = self.source.entries().len() - writer.tensors();
        let files = files.iter().map(|file| output.join(&self.name).join(file).display().to_string()).collect();
        Ok(Written { part: self.part, files, tensors: writer.tensors(), left_out, bytes: writer.bytes() })
    }
}

/// The most bytes of a file beside weights. The largest is a tokenizer, of some megabytes.
const MOST_BESIDE: u64 = 64 << 20;

/// Copies the files that belong to weights. Of links, as in caches, the targets are copied.
fn copy_beside(from: &Path, to: &Path) -> Result<()> {
    for name in BESIDE.iter().filter(|name| checkpoint::is_there(&from.join(name))) {
        let target = to.join(name);
        let bytes = reading::bytes(&from.join(name), MOST_BESIDE).map_err(Error::io("cannot read", from.join(name)))?;
        fs::write(&target, bytes).map_err(Error::io("cannot write", &target))?;
    }
    Ok(())
}

/// Whether this command writes files of this name.
fn is_ours(name: &str) -> bool {
    BESIDE.contains(&name) || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
}

impl Report<'_> {
    fn text(&self) -> String {
        let lines = self.parts.iter().flat_map(|part| {
            let Written { tensors, left_out, bytes, .. } = part;
            let left_out = if *left_out > 0 { format!(", {left_out} not written") } else { String::new() };
            let head = format!("{}: {tensors} tensors, {} {}{left_out}", part.part, self.dtype, megabytes(*bytes));
            [head].into_iter().chain(part.files.iter().map(|file| format!("  {file}")))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl From<StoredType> for tensor::DType {
    fn from(dtype: StoredType) -> Self {
        match dtype {
            StoredType::Bf16 => Self::Bf16,
            StoredType::F16 => Self::F16,
            StoredType::F32 => Self::F32,
        }
    }
}

//! Checks the paths that a command reads against the paths that it will write, before any work.

use osp::video::is_stdout;
use osp::{Error, Result, staged};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The file of options that this run has read.
static OPTIONS: OnceLock<PathBuf> = OnceLock::new();

/// The run has read this file of options, so no output may replace it.
pub fn options_are_from(file: &Path) {
    // A run reads one.
    let _ = OPTIONS.set(file.to_path_buf());
}

/// The files that a command reads, and the outputs that it will write.
pub struct Claims {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
}

impl Claims {
    /// A command that reads `files`, which are a model's.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { reads: files.into_iter().chain(OPTIONS.get().cloned()).collect(), writes: Vec::new() }
    }

    /// Adds an input: a video, an image, another file, or the images of a folder.
    pub fn reads(mut self, input: &Path) -> Self {
        let entries = fs::read_dir(input).into_iter().flatten().flatten().map(|entry| entry.path());
        self.reads.extend(entries.filter(|path| is_image(path)));
        self.reads.push(input.to_path_buf());
        self
    }

    /// Adds an output: a file, or a folder that is replaced as a whole.
    pub fn writes(mut self, output: &Path) -> Self {
        // Stdout replaces no file.
        if !is_stdout(output) {
            self.writes.push(output.to_path_buf());
        }
        self
    }

    /// Fails if an output would replace an input, under any name or link, or another output.
    pub fn check(&self) -> Result<()> {
        let ids: HashMap<_, &Path> = self.reads.iter().filter_map(|path| Some((id(path)?, &**path))).collect();
        let names = |path| [place(path), itself(path)].map(|place| (place, path));
        let places: BTreeMap<PathBuf, &Path> = self.reads.iter().flat_map(|path| names(&**path)).collect();
        for output in &self.writes {
            let target = place(output);
            // In this order, paths below a folder directly follow the folder.
            let below = places.range(target.clone()..).next().filter(|(path, _)| path.starts_with(&target));
            let same = id(output).and_then(|id| ids.get(&id));
            if let Some(input) = same.or(below.map(|(_, input)| input)) {
                return Err(Error::Usage(format!(
                    "output {} would replace {}, which is an input; choose another name",
                    output.display(),
                    input.display()
                )));
            }
        }
        self.check_apart()
    }

    /// Fails if two outputs are the same, or one lies in another that is replaced as a whole.
    fn check_apart(&self) -> Result<()> {
        let mut places: Vec<(PathBuf, &PathBuf)> = self.writes.iter().map(|path| (place(path), path)).collect();
        places.sort();
        match places.windows(2).find(|pair| pair[1].0.starts_with(&pair[0].0)) {
            None => Ok(()),
            Some(pair) => Err(Error::Usage(format!(
                "output {} would replace output {}; choose another name",
                pair[0].1.display(),
                pair[1].1.display()
            ))),
        }
    }
}

/// Whether a folder with such files is read as a clip.
fn is_image(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ["png", "jpg", "jpeg", "webp"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// The identity of a file, equal under all its names; `None` if it does not exist.
#[cfg(unix)]
fn id(path: &Path) -> Option<impl Hash + Eq + use<>> {
    use std::os::unix::fs::MetadataExt;
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn id(path: &Path) -> Option<impl Hash + Eq + use<>> {
    fs::canonicalize(path).ok()
}

/// The absolute path that `path` leads to through links; it need not exist.
fn place(path: &Path) -> PathBuf {
    let end = staged::destination(path).unwrap_or_else(|_| path.to_path_buf());
    fs::canonicalize(&end).unwrap_or_else(|_| itself(&end))
}

/// The absolute path of `path`, without following it if it is a link.
fn itself(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (fs::canonicalize(folder), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_path_buf(),
    }
}

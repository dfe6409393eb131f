//! What a command reads and what it is going to write, held against each other before any work.

use osp::video::is_stdout;
use osp::{Error, Result, staged};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};

/// Files that a command reads, and outputs that it is going to write.
pub struct Claims {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
}

impl Claims {
    /// Nothing but `files` is read, those of a model.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { reads: files, writes: Vec::new() }
    }

    /// A video, an image or another file is read, or the images of a folder.
    pub fn reads(mut self, input: &Path) -> Self {
        let entries = fs::read_dir(input).into_iter().flatten().flatten().map(|entry| entry.path());
        self.reads.extend(entries.filter(|path| is_image(path)));
        self.reads.push(input.to_path_buf());
        self
    }

    /// `output` is written, a file or a folder that is replaced as a whole.
    pub fn writes(mut self, output: &Path) -> Self {
        // Stdout is in nobody's place.
        if !is_stdout(output) {
            self.writes.push(output.to_path_buf());
        }
        self
    }

    /// Fails if an output would take the place of something that is read, by whatever name or link, or of another output.
    pub fn check(&self) -> Result<()> {
        let ids: HashMap<_, &Path> = self.reads.iter().filter_map(|path| Some((id(path)?, &**path))).collect();
        let names = |path| [place(path), itself(path)].map(|place| (place, path));
        let places: BTreeMap<PathBuf, &Path> = self.reads.iter().flat_map(|path| names(&**path)).collect();
        for output in &self.writes {
            let target = place(output);
            // Paths below a folder come next after it.
            let below = places.range(target.clone()..).next().filter(|(path, _)| path.starts_with(&target));
            let same = id(output).and_then(|id| ids.get(&id));
            if let Some(input) = same.or(below.map(|(_, input)| input)) {
                return Err(Error::Usage(format!(
                    "output {} would replace {}, which is read; choose another",
                    output.display(),
                    input.display()
                )));
            }
        }
        self.check_apart()
    }

    /// Fails if two outputs are one, or one lies in another, which is replaced as a whole.
    fn check_apart(&self) -> Result<()> {
        let mut places: Vec<(PathBuf, &PathBuf)> = self.writes.iter().map(|path| (place(path), path)).collect();
        places.sort();
        match places.windows(2).find(|pair| pair[1].0.starts_with(&pair[0].0)) {
            None => Ok(()),
            Some(pair) => Err(Error::Usage(format!(
                "output {} would replace output {}; choose another",
                pair[0].1.display(),
                pair[1].1.display()
            ))),
        }
    }
}

/// Whether a clip is made of such files.
fn is_image(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ["png", "jpg", "jpeg", "webp"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// What a file is under all its names; none if it is not there.
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

/// The absolute path of what `path` leads to, also if nothing is there yet.
fn place(path: &Path) -> PathBuf {
    let end = staged::destination(path).unwrap_or_else(|_| path.to_path_buf());
    fs::canonicalize(&end).unwrap_or_else(|_| itself(&end))
}

/// The absolute path of `path` itself, be it a link.
fn itself(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (fs::canonicalize(folder), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_path_buf(),
    }
}

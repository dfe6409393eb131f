//! What each way is worth, in a file of JSON Lines that grows as ways are measured.

use osp::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Write;
use std::path::PathBuf;

/// What was measured.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    pub sampler: String,
    /// The options of `osp sample` besides the sampler.
    pub options: String,
    pub videos: usize,
}

/// What a way is worth; means over all videos.
#[derive(Debug, Serialize, Deserialize)]
pub struct Worth {
    pub evaluations: f64,
    /// To the exact run, in dB: the median, and the mean of the worst tenth; `None` if nothing differs.
    pub psnr: [Option<f64>; 2],
    pub ssim: f64,
    /// Share of videos that show what the prompt asks for.
    pub judged: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    #[serde(flatten)]
    pub key: Key,
    #[serde(flatten)]
    pub worth: Worth,
}

/// The rows of a file.
pub struct Results {
    path: PathBuf,
    rows: Vec<Row>,
}

impl Results {
    /// Reads the rows that are there.
    pub fn open(path: PathBuf) -> Result<Self> {
        let text = if path.exists() {
            std::fs::read_to_string(&path).map_err(|error| wrong(&path, error))?
        } else {
            String::new()
        };
        let rows = text.lines().map(|line| serde_json::from_str(line).map_err(|error| wrong(&path, error)));
        Ok(Self { rows: rows.collect::<Result<_>>()?, path })
    }

    pub fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == *key)
    }

    /// Adds a row, also to the file.
    pub fn add(&mut self, row: Row) -> Result<()> {
        let line = serde_json::to_string(&row).map_err(|error| wrong(&self.path, error))?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(|error| wrong(&self.path, error))?;
        self.rows.push(row);
        Ok(())
    }
}

fn wrong(path: &std::path::Path, error: impl fmt::Display) -> Error {
    Error::Usage(format!("{}: {error}", path.display()))
}

/// A row of a table in Markdown.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key: Key { sampler, options, .. }, worth: Worth { evaluations, psnr, ssim, judged } } = self;
        let [median, worst] = psnr.map(|value| value.map_or("exact".to_owned(), |value| format!("{value:.1}")));
        let judged = 100.0 * judged;
        write!(f, "| {sampler} | `{options}` | {evaluations:.0} | {median} | {worst} | {ssim:.3} | {judged:.0} % |")
    }
}

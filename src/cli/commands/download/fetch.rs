//! Downloads the files of a model that the engine reads.

use super::http::Hub;
use super::list::{File, Model};
use super::settings::Settings;
use crate::cli::console::Console;
use crate::cli::record::lossy;
use crate::cli::transfer::Transfer;
use crate::cli::units::megabytes;
use osp::reading::TEXT;
use osp::video::is_stdout;
use osp::{Error, Result, room, staged};
use serde::Serialize;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "lossy")]
    output: &'a Path,
    commit: &'a str,
    files: Vec<&'a str>,
    bytes: u64,
}

/// Runs `osp download`.
pub fn run(name: &str, output: Option<&Path>, only: &[String], console: &Console) -> Result<()> {
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if name.split('/').count() != 2 || !name.split('/').all(is_name) {
        return Err(Error::Usage(format!("{:?} is not a model's name: expected ORG/NAME", name)));
    }
    let output = output.map_or_else(|| PathBuf::from(name), Path::to_path_buf);
    check(&output)?;
    let hub = Hub::new(Settings::new(|name| std::env::var(name))?);
    let list = format!("api/models/{}/revision/main?blobs=true", name);
    let listed = |problem| hub.fault(&list, problem);
    let model = Model::of(&hub.get(&list, TEXT)?).map_err(listed)?;
    let files = model.wanted(only).map_err(listed)?;
    let bytes = sum(files.iter().map(|file| file.size)).map_err(listed)?;
    check_room(&files, &output)?;

    console.note(&format!("{} files, {}, to {}", files.len(), megabytes(bytes), output.display()));
    let transfer = Transfer::new(console, "download", bytes);
    for file in &files {
        let url = format!("{}/resolve/{}/{}", name, model.sha, escaped(&file.path));
        file.fetch(&hub, &url, &output.join(&file.path), &transfer)?;
    }
    transfer.finish();
    let files = files.iter().map(|file| file.path.as_str()).collect();
    let report = Report { output: &output, commit: &model.sha, files, bytes };
    if console.json() { console.json_result(&report) } else { console.result(output.display()) }
}

/// Fails if no file can be written into `output`, which need not exist yet.
fn check(output: &Path) -> Result<()> {
    if is_stdout(output) || output.as_os_str().is_empty() {
        return Err(Error::Usage(format!("output {output:?} does not name a folder")));
    }
    match there(output) {
        Some(found) if found.is_file() => {
            Err(Error::Usage(format!("output {}: {} is a file; name a folder", output.display(), found.display())))
        }
        Some(folder) => staged::check_parent(&folder.join("config.json")),
        None => Ok(()),
    }
}

/// The part of a path that exists already; empty for the current folder.
fn there(output: &Path) -> Option<&Path> {
    output.ancestors().find(|folder| folder.as_os_str().is_empty() || folder.exists())
}

fn sum(mut sizes: impl Iterator<Item = u64>) -> std::result::Result<u64, String> {
    let total = sizes.try_fold(0_u64, u64::checked_add);
    total.ok_or_else(|| "the sizes in the list are larger than any disk".to_owned())
}

/// Fails if the disk of `output` has no room for what is still to be downloaded.
fn check_room(files: &[File], output: &Path) -> Result<()> {
    let missing: u64 = files.iter().map(|file| file.missing(&output.join(&file.path))).sum();
    let Some(free) = there(output).and_then(room::on_disk).filter(|free| *free < missing) else { return Ok(()) };
    let (missing, free) = (megabytes(missing), megabytes(free));
    let problem = format!("{missing} are to be downloaded, but its disk has {free} left");
    Err(Error::io("cannot download to", output)(io::Error::new(ErrorKind::StorageFull, problem)))
}

/// A path, escaped for a URL.
fn escaped(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(byte).collect()
}

//! Chooses a model's files on the Hugging Face hub, and downloads and checks them.

use super::http::{File, Hash, Hub};
use crate::cli::console::Console;
use crate::cli::model::BESIDE;
use crate::cli::record::lossy;
use crate::cli::transfer::Transfer;
use crate::cli::units::megabytes;
use osp::video::is_stdout;
use osp::{Error, Result, staged};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The hub's description of a model.
#[derive(Deserialize)]
struct Model {
    /// Commit.
    sha: String,
    siblings: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "rfilename")]
    path: String,
    size: Option<u64>,
    /// Git's hash, for a file that is stored in git.
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

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
    let hub = Hub::new();
    let list = format!("api/models/{}/revision/main?blobs=true", name);
    let model: Model = serde_json::from_slice(&hub.get(&list)?)
        .map_err(|error| hub.fault(&list, format!("the answer is not a list of files: {error}")))?;
    let files = wanted(&model, only).map_err(|problem| hub.fault(&list, problem))?;

    let bytes = files.iter().map(|file| file.size).sum();
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
    let there = output.ancestors().find(|folder| folder.as_os_str().is_empty() || folder.exists());
    match there {
        Some(found) if found.is_file() => {
            Err(Error::Usage(format!("output {}: {} is a file; name a folder", output.display(), found.display())))
        }
        Some(folder) => staged::check_parent(&folder.join("config.json")),
        None => Ok(()),
    }
}

/// The files that the engine reads: from each folder with a config, with the weights in one format only.
fn wanted(model: &Model, only: &[String]) -> std::result::Result<Vec<File>, String> {
    let mut folders: BTreeMap<&str, Vec<(&str, &Listed)>> = BTreeMap::new();
    for listed in &model.siblings {
        if !Path::new(&listed.path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!("the list names a file {:?}, outside of the model", listed.path));
        }
        let (folder, name) = listed.path.rsplit_once('/').unwrap_or(("", &listed.path));
        if only.is_empty() || only.iter().any(|only| only.trim_end_matches('/') == folder) {
            folders.entry(folder).or_default().push((name, listed));
        }
    }
    let mut files = Vec::new();
    for (folder, listed) in folders {
        let names: BTreeSet<&str> = listed.iter().map(|(name, _)| *name).collect();
        let ending = names.contains("config.json").then(|| form(&names)).flatten();
        let reads = |name: &str| BESIDE.contains(&name) || ending.is_some_and(|ending| is_weights(name, ending));
        // The model's root folder may hold a licence and pictures, but never a component.
        if ending.is_some() || folder.is_empty() {
            files.extend(listed.iter().filter(|(name, _)| reads(name)).map(|(_, listed)| *listed));
        }
    }
    let gives_none = |only: &&String| {
        let within = |listed: &&Listed| {
            listed.path.rsplit_once('/').is_some_and(|(folder, _)| folder == only.trim_end_matches('/'))
        };
        !files.iter().any(within)
    };
    if let Some(only) = only.iter().find(gives_none) {
        return Err(format!("{only} holds no files that the engine reads"));
    }
    if files.is_empty() {
        return Err("the model holds no files that the engine reads".into());
    }
    files.into_iter().map(file).collect()
}

/// The ending of the weights to download: the one that the engine prefers when it opens a folder.
fn form(names: &BTreeSet<&str>) -> Option<&'static str> {
    ["safetensors", "bin", "ckpt"].into_iter().find(|ending| names.iter().any(|name| is_weights(name, ending)))
}

/// Whether a file of this name holds weights in the format `ending`, or is their index.
fn is_weights(name: &str, ending: &str) -> bool {
    let name = name.strip_suffix(".index.json").unwrap_or(name);
    let is_model = ending != "bin" || name.starts_with("pytorch_model") || name.starts_with("diffusion_pytorch_model");
    is_model && name.strip_suffix(ending).is_some_and(|stem| stem.ends_with('.'))
}

fn file(listed: &Listed) -> std::result::Result<File, String> {
    let Listed { path, size, blob, lfs } = listed;
    let (hash, size) = match (lfs, size, blob) {
        (Some(lfs), ..) => (Hash::Sha256(lfs.sha256.to_lowercase()), lfs.size),
        (None, Some(size), Some(blob)) => (Hash::GitBlob(blob.to_lowercase()), *size),
        _ => return Err(format!("the list lacks the size or the hash of {path}")),
    };
    Ok(File { path: path.clone(), size, hash })
}

/// A path, escaped for a URL.
fn escaped(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &str) -> Listed {
        Listed { path: path.to_owned(), size: Some(1), blob: Some("00".into()), lfs: None }
    }

    fn chosen(paths: &[&str], only: &[&str]) -> std::result::Result<Vec<String>, String> {
        let model = Model { sha: String::new(), siblings: paths.iter().map(|path| listed(path)).collect() };
        let only: Vec<String> = only.iter().map(|only| (*only).to_owned()).collect();
        let files = wanted(&model, &only)?;
        Ok(files.into_iter().map(|file| file.path).collect())
    }

    #[test]
    fn weights_are_taken_in_one_format_and_only_beside_a_config() {
        let paths = [
            "README.md",
            "vae/checkpoint.ckpt",
            "vae/config.json",
            "65x512x512/config.json",
            "65x512x512/diffusion_pytorch_model.bin",
            "65x512x512/diffusion_pytorch_model.safetensors",
            "optimizer/state.bin",
        ];
        let all = ["65x512x512/config.json", "65x512x512/diffusion_pytorch_model.safetensors"];
        let vae = ["vae/checkpoint.ckpt", "vae/config.json"];
        assert_eq!(chosen(&paths, &[]).unwrap(), [all, vae].concat());
        assert_eq!(chosen(&paths, &["vae/"]).unwrap(), vae);
        for only in [&["vea"][..], &["vae", "vea"]] {
            assert!(chosen(&paths, only).unwrap_err().contains("vea"));
        }
    }

    #[test]
    fn shards_come_with_their_index_and_training_files_do_not() {
        let paths = [
            "config.json",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
            "pytorch_model.bin.index.json",
            "spiece.model",
            "tf_model.h5",
            "training_args.bin",
        ];
        assert_eq!(chosen(&paths, &[]).unwrap(), paths[..5]);
    }

    #[test]
    fn files_outside_of_the_model_are_refused() {
        for path in ["../config.json", "/etc/config.json", "vae/../../config.json"] {
            assert!(chosen(&[path], &[]).unwrap_err().contains("outside"), "{path}");
        }
    }
}

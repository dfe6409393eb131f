//! The hub's list of a model's files, which is not trusted, and the choice of the files that the engine reads.

use osp::checkpoint::BESIDE;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// The hub's description of a model.
#[derive(Deserialize)]
pub struct Model {
    /// Commit.
    pub sha: String,
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

/// A file of a model.
#[derive(Debug)]
pub struct File {
    /// Path in the model.
    pub path: String,
    pub size: u64,
    pub hash: Hash,
}

/// A file's hash according to the hub, in hexadecimal.
#[derive(Debug)]
pub enum Hash {
    /// SHA-256 of the bytes.
    Sha256(String),
    /// Git's SHA-1, of a header and the bytes.
    GitBlob(String),
}

/// The most bytes of a path. Systems take four times as many.
const LONGEST_PATH: usize = 1 << 10;

/// What is wrong with a list, or with the choice from it.
type Checked<T> = Result<T, String>;

impl Model {
    /// The model in an answer of the hub.
    pub fn of(answer: &[u8]) -> Checked<Self> {
        let model: Self =
            serde_json::from_slice(answer).map_err(|error| format!("the answer is not a list of files: {error}"))?;
        // It becomes a part of addresses.
        let is_commit = !model.sha.is_empty() && model.sha.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_commit { Ok(model) } else { Err(format!("the list is of a commit {:?}", model.sha)) }
    }

    /// The files that the engine reads, all or those of the subfolders `only`: from each folder with a config, with the weights in
    /// one format only.
    pub fn wanted(&self, only: &[String]) -> Checked<Vec<File>> {
        let mut folders: BTreeMap<&str, Vec<(&str, &Listed)>> = BTreeMap::new();
        for listed in &self.siblings {
            check(&listed.path)?;
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
        let mut paths = BTreeSet::new();
        if let Some(twice) = files.iter().find(|listed| !paths.insert(&listed.path)) {
            return Err(format!("the list names {} twice", twice.path));
        }
        files.into_iter().map(Listed::file).collect()
    }
}

/// Fails for a path that leads out of the model, or that a terminal would not print as it is.
fn check(path: &str) -> Checked<()> {
    let parts = Path::new(path).components();
    let inside = parts.clone().all(|part| matches!(part, Component::Normal(_)));
    // Components drop what means nothing, such as a second slash.
    let as_is = parts.map(|part| part.as_os_str().len() + 1).sum::<usize>() == path.len() + 1;
    match inside && as_is && path.len() <= LONGEST_PATH && !path.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(format!("the list names a file {path:?}, outside of the model or with a strange name")),
    }
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

impl Listed {
    fn file(&self) -> Checked<File> {
        let Self { path, size, blob, lfs } = self;
        let (hash, size, digits) = match (lfs, size, blob) {
            (Some(lfs), ..) => (&lfs.sha256, lfs.size, 64),
            (None, Some(size), Some(blob)) => (blob, *size, 40),
            _ => return Err(format!("the list lacks the size or the hash of {path}")),
        };
        if hash.len() != digits || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!(
                "the list says that {path} has the hash {hash:?}, expected {digits} hexadecimal digits"
            ));
        }
        let hash = hash.to_ascii_lowercase();
        let hash = if lfs.is_some() { Hash::Sha256(hash) } else { Hash::GitBlob(hash) };
        Ok(File { path: path.clone(), size, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(paths: &[&str], only: &[&str]) -> Checked<Vec<String>> {
        let listed = |path: &&str| serde_json::json!({"rfilename": path, "size": 1, "blobId": "0".repeat(40)});
        let siblings: Vec<serde_json::Value> = paths.iter().map(listed).collect();
        let model = Model::of(serde_json::json!({"sha": "0a", "siblings": siblings}).to_string().as_bytes())?;
        let only: Vec<String> = only.iter().map(|only| (*only).to_owned()).collect();
        let files = model.wanted(&only)?;
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

    #[test]
    fn names_that_a_terminal_or_a_system_would_change_are_refused() {
        let long = "x/".repeat(600) + "config.json";
        for path in [
            &long,
            "vae/\u{1b}[2Jconfig.json",
            "vae\n/config.json",
            "vae//config.json",
            "vae/./config.json",
            "vae/",
            "",
        ] {
            let said = chosen(&["config.json", path], &[]).unwrap_err();
            assert!(said.contains("strange name") && !said.contains(char::is_control), "{path:?}: {said}");
        }
        let said = chosen(&["vae/config.json", "vae/a.ckpt", "vae/config.json"], &[]).unwrap_err();
        assert!(said.contains("vae/config.json twice"), "{said}");
    }

    #[test]
    fn commits_and_hashes_that_are_none_are_refused() {
        for sha in ["", "main/../..", "0 1"] {
            let answer = serde_json::json!({"sha": sha, "siblings": []}).to_string();
            assert!(Model::of(answer.as_bytes()).err().unwrap().contains("commit"), "{sha}");
        }
        for hash in ["", "00", &"g".repeat(64), &"0".repeat(65)] {
            let lfs = serde_json::json!({"sha256": hash, "size": 1});
            let siblings = [serde_json::json!({"rfilename": "config.json", "lfs": lfs})];
            let answer = serde_json::json!({"sha": "0a", "siblings": siblings}).to_string();
            let said = Model::of(answer.as_bytes()).unwrap().wanted(&[]).unwrap_err();
            assert!(said.contains("expected 64 hexadecimal digits"), "{said}");
        }
    }
}

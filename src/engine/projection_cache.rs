//! Projections on disk: a VAE without a `preview.json` is fitted once.

use crate::checkpoint::Component;
use crate::error::Result;
use crate::hash::fnv1a;
use crate::model::vae::{Projection, VaeConfig};
use crate::program;
use crate::reading::{self, TEXT};
use crate::staged;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A folder of projections. Its files are small, and a file that cannot be read counts as absent.
#[derive(Clone, Debug)]
pub struct ProjectionCache {
    folder: PathBuf,
}

/// A file of the cache.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The program and the VAE. The file's name is a hash of this.
    key: String,
    projection: Projection,
    /// A hash of the projection's JSON.
    check: String,
}

impl Kept {
    fn new(key: String, projection: Projection) -> Self {
        let text = serde_json::to_string(&projection).expect("finite numbers under plain keys");
        Self { key, projection, check: format!("{:016x}", fnv1a(text.as_bytes())) }
    }
}

impl ProjectionCache {
    /// The cache in `folder`. The first write creates the folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The user's: `preview` in the program's folder of caches, if there is one.
    pub fn of_user() -> Option<Self> {
        Some(Self::new(program::cache_folder()?.join("preview")))
    }

    /// The projection that was fitted to this VAE, if it is there. The device that fitted it does not matter.
    pub fn get(&self, vae: &Component<VaeConfig>) -> Option<Projection> {
        let key = key(vae);
        let text = reading::text(&self.folder.join(name(&key)), TEXT).ok()?;
        let Kept { key: found, projection, check } = serde_json::from_str(&text).ok()?;
        let fits = found == key && projection.problem(vae.config.embed_dim).is_none();
        let whole = Kept::new(key, projection);
        (fits && whole.check == check).then_some(whole.projection)
    }

    /// Keeps the projection of a VAE.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the folder cannot be written.
    pub fn put(&self, vae: &Component<VaeConfig>, projection: &Projection) -> Result<()> {
        let kept = Kept::new(key(vae), projection.clone());
        let text = serde_json::to_string(&kept).expect("finite numbers under plain keys");
        staged::keep(&self.folder, &name(&kept.key), text.as_bytes())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Everything that decides a projection: another program may fit other images.
fn key(vae: &Component<VaeConfig>) -> String {
    format!("{}; {}; {:?}", program::identity(), vae.source.identity(), vae.config)
}

/// The file name of a key.
fn name(key: &str) -> String {
    format!("{:016x}.json", fnv1a(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;
    use std::fs;

    #[test]
    fn what_was_put_is_found_and_a_damaged_file_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ProjectionCache::new(folder.path().join("a/b"));
        let vae = preset::open("v1.1.0", None).unwrap().vae.unwrap();
        let projection =
            Projection { weights: std::array::from_fn(|i| vec![0.1 + i as f32; 4]), bias: [0.5, 1.0 / 3.0, -1.0] };
        assert_eq!(cache.get(&vae), None);
        cache.put(&vae, &projection).unwrap();
        assert_eq!(cache.get(&vae), Some(projection.clone()));
        let path = cache.folder().join(name(&key(&vae)));
        let whole = fs::read_to_string(&path).unwrap();
        let others = [("osp", "ops"), ("0.1,", ""), ("0.1,", "0.2,")].map(|(from, to)| whole.replacen(from, to, 1));
        for damaged in [&whole[..whole.len() / 2], "", &others[0], &others[1], &others[2]] {
            assert!(damaged != whole);
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.get(&vae), None, "{damaged}");
        }
        cache.put(&vae, &projection).unwrap();
        assert_eq!(cache.get(&vae), Some(projection));
    }
}

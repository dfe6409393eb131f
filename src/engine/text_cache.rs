//! Text embeddings on disk: a caption that was encoded once needs no text encoder again.
//!
//! A file holds one caption's embeddings and, in its metadata, everything that decides their bits. Its name is a hash of
//! this metadata; a file is used only if the whole metadata match. A file that cannot be read counts as absent.

use super::captions::Wanted;
use super::{Observer, Warning};
use crate::checkpoint::Component;
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::model::t5::T5Config;
use crate::program::{self, modified};
use crate::reading;
use crate::staged;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Most bytes of the cache, some hundred captions of T5-XXL. Beyond it, the least recently used files are removed.
const MOST_BYTES: u64 = 256 << 20;
/// The tensor of a file.
const TENSOR: &str = "embeddings";
/// The entry of its metadata that says what it is.
const KEY: &str = "key";
/// The entry with a hash of the tensor.
const CHECK: &str = "check";

/// A folder of embeddings.
#[derive(Clone, Debug)]
pub struct TextCache {
    folder: PathBuf,
    most_bytes: u64,
}

/// The part of a key that all captions of a run share.
pub(crate) struct Key(String);

impl Key {
    /// The engine, the device and the encoder.
    pub fn new(backend: &str, part: &Component<T5Config>) -> Self {
        let (program, config, weights) = (program::identity(), &part.config, part.source.identity());
        Self(format!("{program}; {backend}; {weights}; {config:?}"))
    }

    /// The whole key of one caption.
    pub fn of(&self, wanted: &Wanted) -> String {
        let Wanted { caption, kept } = wanted;
        let mask: String = caption.mask.iter().map(|&kept| if kept { '1' } else { '0' }).collect();
        format!("{}; {kept} of {:?} masked {mask}", self.0, caption.ids)
    }
}

impl TextCache {
    /// The cache in `folder`. The first write creates the folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), most_bytes: MOST_BYTES }
    }

    /// The user's: `text` in the program's folder of caches, if there is one.
    pub fn of_user() -> Option<Self> {
        Some(Self::new(program::cache_folder()?.join("text")))
    }

    /// The embeddings `[kept, channels]` of a caption, if they are there.
    pub(super) fn get(&self, key: &str, shape: [usize; 2]) -> Option<Vec<f32>> {
        let path = self.path(key);
        let bytes = reading::bytes(&path, MOST_BYTES).ok()?;
        let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
        let metadata = header.metadata().as_ref()?;
        let tensors = SafeTensors::deserialize(&bytes).ok()?;
        let tensor = tensors.tensor(TENSOR).ok()?;
        let is_whole = *metadata.get(CHECK)? == check(tensor.data());
        if !is_whole || metadata.get(KEY)? != key || tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return None;
        }
        // The time marks the file as recently used. A folder that cannot be written may still be read, so this may fail.
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        // A damaged file is replaced.
        values.map(|value| value.is_finite().then_some(value)).collect()
    }

    /// Writes embeddings of `channels` channels. A failure is only a warning.
    pub(super) fn put_all<'a>(
        &self,
        mut files: impl Iterator<Item = (String, &'a [f32])>,
        channels: usize,
        observer: &mut dyn Observer,
    ) {
        let kept = files.try_for_each(|(key, embeddings)| self.put(&key, channels, embeddings));
        if let Err(error) = kept.and_then(|()| self.make_room()) {
            observer.warn(&Warning::NotCached(error));
        }
    }

    fn put(&self, key: &str, channels: usize, embeddings: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = embeddings.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![embeddings.len() / channels, channels], &bytes)
            .expect("the number of bytes fits the shape");
        let metadata = HashMap::from([(KEY, key.to_owned()), (CHECK, check(&bytes))]);
        let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let bytes = safetensors::serialize([(TENSOR, view)], Some(metadata)).expect("one whole tensor");
        staged::keep(&self.folder, &name(key), &bytes)
    }

    /// Removes the least recently used files until the cache is small enough.
    fn make_room(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder).map_err(Error::io("cannot list", &self.folder))?;
        let file = |path: PathBuf| {
            let ours = path.extension().is_some_and(|found| found == "safetensors");
            let facts = fs::metadata(&path).ok().filter(|facts| ours && facts.is_file())?;
            Some((modified(&facts), facts.len(), path))
        };
        let mut files: Vec<_> = entries.filter_map(|entry| file(entry.ok()?.path())).collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size, path) in files {
            if bytes <= self.most_bytes {
                break;
            }
            // Another run may have removed it.
            let _ = fs::remove_file(path);
            bytes -= size;
        }
        Ok(())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(name(key))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A hash of a file's tensor: another bit of it would make another video.
fn check(bytes: &[u8]) -> String {
    format!("{:016x}", fnv1a(bytes))
}

/// The file name of a key.
fn name(key: &str) -> String {
    format!("{:016x}.safetensors", fnv1a(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Quiet;
    use crate::model::t5::Caption;
    use crate::preset;

    #[test]
    fn what_was_put_is_found_under_its_whole_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = TextCache::new(folder.path().join("a/b"));
        let values = [1.5, -0.0, f32::MIN_POSITIVE, 4.0, 5.0, 6.0];
        assert_eq!(cache.get("key", [2, 3]), None);
        cache.put_all([("key".to_owned(), &values[..])].into_iter(), 3, &mut Quiet);
        let found = cache.get("key", [2, 3]).unwrap();
        assert!(found.iter().map(|value| value.to_bits()).eq(values.iter().map(|value| value.to_bits())));
        assert_eq!(cache.get("key", [3, 2]), None);
        // A collision: another key with the same hash.
        fs::copy(cache.path("key"), cache.path("other")).unwrap();
        assert_eq!(cache.get("other", [2, 3]), None);
    }

    #[test]
    fn keys_tell_devices_captions_masks_and_lengths_apart() {
        let part = preset::open("v1.1.0", None).unwrap().text_encoder.unwrap();
        let wanted = |id: u32, masked: bool, kept: usize| Wanted {
            caption: Caption { ids: vec![7, id], mask: vec![true, !masked] },
            kept,
        };
        let of = |backend: &str, wanted: Wanted| Key::new(backend, &part).of(&wanted);
        let keys = [
            of("a", wanted(1, false, 2)),
            of("b", wanted(1, false, 2)),
            of("a", wanted(2, false, 2)),
            of("a", wanted(1, true, 2)),
            of("a", wanted(1, false, 1)),
        ];
        let distinct: std::collections::HashSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(of("a", wanted(1, false, 2)), keys[0]);
    }

    #[test]
    fn a_damaged_file_is_absent_and_gets_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = TextCache::new(folder.path());
        let put = || cache.put_all([("key".to_owned(), &[1.0, 2.0][..])].into_iter(), 2, &mut Quiet);
        put();
        let whole = fs::read(cache.path("key")).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&flipped, &whole[..whole.len() - 1], &whole[..9], b"", b"no table at all"] {
            fs::write(cache.path("key"), damaged).unwrap();
            assert_eq!(cache.get("key", [1, 2]), None);
        }
        put();
        assert_eq!(cache.get("key", [1, 2]), Some(vec![1.0, 2.0]));
    }

    #[test]
    fn what_was_used_last_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = TextCache { most_bytes: 2500, ..TextCache::new(folder.path()) };
        let values = [0.5; 256];
        let put = |key: &str| cache.put_all([(key.to_owned(), &values[..])].into_iter(), 256, &mut Quiet);
        let age = |key: &str, seconds: u64| {
            let time = SystemTime::now() - std::time::Duration::from_secs(seconds);
            File::options().append(true).open(cache.path(key)).unwrap().set_modified(time).unwrap();
        };
        put("a");
        put("b");
        age("a", 30);
        age("b", 20);
        assert!(cache.get("a", [1, 256]).is_some());
        put("c");
        let found = ["a", "b", "c"].map(|key| cache.get(key, [1, 256]).is_some());
        assert_eq!(found, [true, false, true]);
    }
}

//! The two containers of `torch.save`: since PyTorch 1.6 a zip archive whose entries are not compressed; before that a
//! row of pickles, followed by the storages. In both, a storage is a range of the file.

use super::machine::{self, Pickle};
use super::value::Value;
use std::collections::HashMap;
use std::ops::Range;

/// An opened container.
pub(super) struct Archive<'a> {
    /// The saved object.
    pub pickle: Pickle<'a>,
    /// The range of each storage in the file, by key.
    pub storages: HashMap<&'a str, Range<usize>>,
}

/// The first bytes of the old container: a pickle of a magic number.
const OLD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Opens a container, recognised by its first bytes.
pub(super) fn open(file: &[u8]) -> Result<Archive<'_>, String> {
    match file {
        [b'P', b'K', 3, 4, ..] => zip(file),
        _ if file.starts_with(OLD) => row_of_pickles(file),
        // A pickle without a container cannot hold tensors. It is still read, so that the error can name what it would
        // do.
        [0x80 | b'c' | b'(' | b'}' | b']', ..] => {
            machine::run(file, 0)?;
            Err("is a pickle without tensors, not a PyTorch checkpoint".into())
        }
        _ => Err("is not a PyTorch checkpoint: it is neither a zip archive nor a pickle; download it again".into()),
    }
}

fn zip<'a>(file: &'a [u8]) -> Result<Archive<'a>, String> {
    let entries = super::zip::entries(file)?;
    let is_pickle = |name: &&str| *name == "data.pkl" || name.ends_with("/data.pkl");
    let mut roots = entries.keys().copied().filter(is_pickle);
    let (Some(name), None) = (roots.next(), roots.next()) else {
        return Err("is a zip archive, but not a PyTorch checkpoint: it does not hold exactly one data.pkl".into());
    };
    let root = name.strip_suffix("data.pkl").expect("the name ends so");
    if entries.get(format!("{root}byteorder").as_str()).is_some_and(|range| &file[range.clone()] == b"big") {
        return Err(BIG_ENDIAN.into());
    }
    let pickle = machine::run(&file[entries[name].clone()], 0)?;
    let storage = |(name, range): (&'a str, _)| Some((name.strip_prefix(root)?.strip_prefix("data/")?, range));
    let storages = entries.into_iter().filter_map(storage).collect();
    Ok(Archive { pickle, storages })
}

const BIG_ENDIAN: &str = "was saved on a big-endian machine, which cannot be read; save it again on another";

/// Magic number, version, system, object, keys: five pickles; then per key the number of elements and the elements.
fn row_of_pickles(file: &[u8]) -> Result<Archive<'_>, String> {
    let version = machine::run(file, OLD.len())?;
    let system = machine::run(file, version.end)?;
    if system.get("little_endian").is_some_and(|value| matches!(value, Value::Bool(false))) {
        return Err(BIG_ENDIAN.into());
    }
    let pickle = machine::run(file, system.end)?;
    let keys = machine::run(file, pickle.end)?;
    let Value::Sequence(ids) = keys.root() else { return Err("holds no list of storages; download it again".into()) };

    // Only references to a storage give the type of its elements, and so its length.
    let sizes: HashMap<&str, usize> = pickle.storages().map(|storage| (storage.key, storage.size())).collect();
    let mut storages = HashMap::new();
    let mut at = keys.end;
    for &id in ids {
        let Value::Text(key) = *keys.value(id) else {
            return Err("has a storage name that is not text".into());
        };
        let size = *sizes.get(key).ok_or_else(|| format!("holds storage {key}, which no tensor uses"))?;
        let cut = || format!("is cut off in storage {key}: it has {} bytes; download it again", file.len());
        let count = file.get(at..at + 8).ok_or_else(cut)?.try_into().expect("eight bytes are eight bytes");
        let length = usize::try_from(i64::from_le_bytes(count)).ok().and_then(|count| count.checked_mul(size));
        let start = at + 8;
        at = length.and_then(|length| start.checked_add(length)).filter(|end| *end <= file.len()).ok_or_else(cut)?;
        storages.insert(key, start..at);
    }
    Ok(Archive { pickle, storages })
}

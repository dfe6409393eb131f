//! Golden data of the text stage: captions, tokens and text embeddings.

use super::golden::{Bf16Error, Golden};
use super::{Check, open, relative_l2, tolerance};
use crate::backend::Backend;
use crate::checkpoint::is_there;
use crate::engine::MOST_PROMPT;
use crate::error::{Error, Result};
use crate::model::t5::{self, T5, T5Config};
use crate::reading::{self, TEXT};
use crate::text::caption;
use crate::text::tokenizer::Tokenizer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;

#[derive(Deserialize)]
struct Caption {
    text: String,
    cleaned: String,
    lowered: String,
}

#[derive(Deserialize)]
struct Tokens {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    torch_bf16_rel_error: Bf16Error,
}

/// Reads a list, which must not be empty.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = reading::text(path, TEXT).map_err(Error::io("cannot read", path))?;
    let list: Vec<T> = serde_json::from_str(&text).map_err(|error| Error::config(path, error.to_string()))?;
    if list.is_empty() { Err(Error::config(path, "is an empty list")) } else { Ok(list) }
}

/// Compares cleaned captions, and captions that are only lower-cased, character by character.
pub(super) fn captions(check: &mut Check<'_>) -> Result<()> {
    let captions: Vec<Caption> = read(&check.folder.join("captions.json"))?;
    if let Some(long) = captions.iter().find(|caption| caption.text.len() > MOST_PROMPT) {
        let problem = format!("holds a text of {} bytes; a prompt has at most {MOST_PROMPT}", long.text.len());
        return Err(Error::config(check.folder.join("captions.json"), problem));
    }
    let differ = |of: &dyn Fn(&Caption) -> bool| captions.iter().filter(|caption| of(caption)).count() as f64;
    let cleaned = differ(&|golden| caption::clean(&golden.text) != golden.cleaned);
    let lowered = differ(&|golden| caption::lower(&golden.text) != golden.lowered);
    check.at_most("cleaned", "captions that differ", cleaned, 0.0);
    check.at_most("lowered", "captions that differ", lowered, 0.0);
    Ok(())
}

/// Compares token ids, if the folder has them, and the encoder's output.
pub(super) fn encoder<B: Backend>(backend: &B, check: &mut Check<'_>) -> Result<()> {
    let tokens = check.folder.join("tokens.json");
    if is_there(&tokens) {
        let golden: Vec<Tokens> = read(&tokens)?;
        let tokenizer = Tokenizer::open(check.folder)?;
        let mut differ = 0;
        for text in &golden {
            differ += usize::from(tokenizer.encode(&text.text)? != text.ids);
        }
        check.at_most("tokens", "texts that differ", differ as f64, 0.0);
    }
    let component = open::<T5Config>(check.folder)?;
    let model = T5::load(&component.config, &*component.source, backend, check.savings.stream_text)?;
    let golden = Golden::open(check.folder)?;
    for (name, case) in golden.cases() {
        let case: Case = golden.read(name, case)?;
        let expected = golden.floats(name, "hidden", 3)?;
        let [samples, length, channels] = expected.shape[..] else { panic!("read with three axes") };
        let (ids, mask) = (golden.integers(name, "ids")?, golden.integers(name, "mask")?);
        if ids.len() != samples * length || mask.len() != ids.len() {
            return Err(Error::Usage(format!(
                "case {name}: {} ids and {} mask values for {samples} texts of {length}",
                ids.len(),
                mask.len()
            )));
        }
        let caption = |(ids, mask): (&[i64], &[i64])| t5::Caption {
            ids: ids.iter().map(|&id| id as u32).collect(),
            mask: mask.iter().map(|&kept| kept != 0).collect(),
        };
        let captions: Vec<t5::Caption> = ids.chunks_exact(length).zip(mask.chunks_exact(length)).map(caption).collect();
        let hidden = model.encode(backend, &captions, &mut || Ok(()))?;
        let mut found = vec![0.0; expected.len()];
        for (hidden, out) in hidden.iter().zip(found.chunks_exact_mut(length * channels)) {
            backend.download(hidden, 0, out)?;
        }
        let allowed = check.precision.relative(tolerance::TRANSFORMER, case.torch_bf16_rel_error.of("hidden"));
        check.at_most(format!("{name}.hidden"), "relative L2", relative_l2(&found, &expected.to_f32()), allowed);
    }
    Ok(())
}

use super::golden;
use osp::Error;
use osp::text::tokenizer::{END, PAD, Tokenizer};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
    ids_fast: Vec<u32>,
}

const FILES: [&str; 2] = ["spiece.model", "tokenizer.json"];

fn golden_bytes(name: &str) -> Vec<u8> {
    std::fs::read(golden("pipeline/text_encoder").join(name)).unwrap()
}

fn folder_with(name: &str, bytes: &[u8]) -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join(name), bytes).unwrap();
    folder
}

fn open(folder: &Path) -> Tokenizer {
    Tokenizer::open(folder).unwrap()
}

fn open_golden() -> Tokenizer {
    open(&golden("pipeline/text_encoder"))
}

fn error_of(folder: &Path) -> Error {
    Tokenizer::open(folder).err().expect("the file is not a tokenizer")
}

#[test]
fn both_files_give_the_ids_of_the_original() {
    let cases: Vec<Golden> = serde_json::from_slice(&golden_bytes("tokens.json")).unwrap();
    for name in FILES {
        let folder = folder_with(name, &golden_bytes(name));
        let tokenizer = open(folder.path());
        for case in &cases {
            assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{name}: {:?}", case.text);
            assert_eq!(case.ids, case.ids_fast);
        }
    }
}

#[test]
fn special_tokens_in_a_text_keep_their_ids() {
    // The original's tokenizer made these ids. Text before a special token loses its trailing space; text after it
    // begins a word.
    let cases: [(&str, &[u32]); 4] = [
        ("a</s>a", &[4, 1, 4, 1]),
        ("a <pad> a", &[4, 0, 4, 1]),
        ("<extra_id_0><extra_id_99>", &[236, 137, 1]),
        ("<unk>", &[2, 1]),
    ];
    for name in FILES {
        let folder = folder_with(name, &golden_bytes(name));
        let tokenizer = open(folder.path());
        for (text, ids) in cases {
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
        }
    }
}

#[test]
fn short_texts_are_padded() {
    let tokens = open_golden().encode_padded("a", 5).unwrap();
    assert_eq!(tokens.ids, [4, END, PAD, PAD, PAD]);
    assert_eq!(tokens.unmasked, 2);
    assert_eq!(tokens.cut, None);
}

#[test]
fn a_text_that_just_fits_is_not_cut() {
    let tokenizer = open_golden();
    let ids = tokenizer.encode("a cat walks").unwrap();
    let tokens = tokenizer.encode_padded("a cat walks", ids.len()).unwrap();
    assert_eq!((tokens.unmasked, tokens.cut), (ids.len(), None));
    assert_eq!(tokens.ids, ids);
}

#[test]
fn long_texts_are_cut_and_the_lost_end_is_returned() {
    let tokenizer = open_golden();
    let text = "a cat walks along the blue sea";
    let all = tokenizer.encode(text).unwrap();
    let tokens = tokenizer.encode_padded(text, all.len() - 8).unwrap();
    assert_eq!(tokens.ids[..all.len() - 9], all[..all.len() - 9]);
    assert_eq!(tokens.ids.last(), Some(&END));
    assert_eq!(tokens.unmasked, all.len() - 8);
    let cut = tokens.cut.unwrap();
    assert!(cut.len() > 4 && text.ends_with(&cut), "{cut:?}");

    let tokens = tokenizer.encode_padded(text, 1).unwrap();
    assert_eq!((tokens.ids, tokens.cut.as_deref()), (vec![END], Some(text)));
}

#[test]
fn no_room_for_the_end_is_a_usage_error() {
    assert!(matches!(open_golden().encode_padded("a", 0), Err(Error::Usage(_))));
}

#[test]
fn the_sentencepiece_model_is_preferred() {
    let folder = folder_with("spiece.model", &golden_bytes("spiece.model"));
    std::fs::write(folder.path().join("tokenizer.json"), "damaged").unwrap();
    open(folder.path());
}

#[test]
fn a_missing_tokenizer_is_named() {
    let folder = TempDir::new().unwrap();
    let message = error_of(folder.path()).to_string();
    for part in ["spiece.model", "tokenizer.json", folder.path().to_str().unwrap()] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn damaged_files_are_refused() {
    for name in FILES {
        let bytes = golden_bytes(name);
        // The last cut is in the last field of the model. Tokenizing does not need this field, but reading detects the
        // cut.
        for length in [0, 1, 10, 1000, bytes.len() / 2, bytes.len() - 1] {
            let folder = folder_with(name, &bytes[..length]);
            let error = error_of(folder.path());
            assert!(matches!(error, Error::Weight { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(name) && !message.contains('\n'), "{message}");
        }
        assert!(Tokenizer::open(folder_with(name, b"not a tokenizer").path()).is_err());
    }
}

#[test]
fn a_folder_in_place_of_the_file_cannot_be_read() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("spiece.model")).unwrap();
    assert!(matches!(error_of(folder.path()), Error::Io { .. }));
}

#[test]
fn a_damaged_normalisation_in_json_is_refused() {
    let mut json: serde_json::Value = serde_json::from_slice(&golden_bytes("tokenizer.json")).unwrap();
    let charsmap = &mut json["normalizer"]["normalizers"][0]["precompiled_charsmap"];
    // The first four bytes are the size of the table.
    let damaged = charsmap.as_str().unwrap().replacen("ALQCAACE", "ALQC/ACE", 1);
    assert_ne!(charsmap.as_str(), Some(damaged.as_str()));
    *charsmap = damaged.into();
    let refused = |json: &serde_json::Value| {
        let folder = folder_with("tokenizer.json", json.to_string().as_bytes());
        assert!(error_of(folder.path()).to_string().contains("normalisation"));
    };
    refused(&json);
    // The same, within another normalizer.
    json["normalizer"] = serde_json::json!({"type": "Sequence", "normalizers": [json["normalizer"]]});
    refused(&json);
}

#[test]
fn a_json_that_is_not_t5s_or_contradicts_itself_is_refused() {
    let golden: serde_json::Value = serde_json::from_slice(&golden_bytes("tokenizer.json")).unwrap();
    let end = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]);
    let bytes = json!({"type": "TemplateProcessing", "single": [end[0]], "pair": [], "special_tokens": {}});
    let token = |id: usize, content: &str| json!({"id": id, "content": content, "special": true});
    for (place, value, said) in [
        ("/model/type", json!("BPE"), "its model is a BPE, expected a Unigram"),
        ("/model/byte_fallback", json!(true), "byte_fallback"),
        ("/model/unk_id", json!(null), "it has no unk_id"),
        ("/model/unk_id", json!(237), "its unk_id is 237, but it has 237 pieces"),
        ("/model/vocab/7/0", json!(""), "a piece is empty"),
        ("/post_processor", bytes, "post_processor"),
        ("/post_processor", json!(null), "post_processor"),
        ("/post_processor/single/1/SpecialToken/id", json!("</e>"), "post_processor"),
        ("/post_processor/type", json!("ByteLevel"), "ByteLevel"),
        ("/pre_tokenizer/type", json!("Digits"), "Digits"),
        ("/pre_tokenizer/replacement", json!("_"), "writes '_' for a space"),
        ("/normalizer/normalizers/1/type", json!("Lowercase"), "Lowercase"),
        ("/normalizer/normalizers/2/pattern", json!({"String": "a"}), "it replaces \"a\""),
        ("/normalizer/normalizers/2/content", json!("a".repeat(1001)), "a piece has 1001 bytes"),
        ("/pre_tokenizer", json!(null), "does not end with a Metaspace"),
        ("/pre_tokenizer", json!({"type": "WhitespaceSplit"}), "does not end with a Metaspace"),
        ("/pre_tokenizer/add_prefix_space", json!(false), "contradict each other"),
        ("/pre_tokenizer/prepend_scheme", json!("last"), "unknown variant `last`"),
        ("/added_tokens/0", token(3, "<pad>"), "its token 3 is both"),
        ("/added_tokens/0", token(999, "<cat>"), "has the id 999, expected 237"),
        ("/added_tokens/0", token(0, ""), "a piece is empty"),
    ] {
        let mut json = golden.clone();
        *json.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value;
        let error = error_of(folder_with("tokenizer.json", json.to_string().as_bytes()).path()).to_string();
        assert!(error.contains(said) && !error.contains(char::is_control), "{place}: {error}");
    }
}

/// The ids of texts according to the golden `tokenizer.json` with changes.
fn ids_with(changes: &[(&str, serde_json::Value)], text: &str) -> Vec<u32> {
    let mut json: serde_json::Value = serde_json::from_slice(&golden_bytes("tokenizer.json")).unwrap();
    for (place, value) in changes {
        *json.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value.clone();
    }
    let folder = folder_with("tokenizer.json", json.to_string().as_bytes());
    open(folder.path()).encode(text).unwrap()
}

#[test]
fn the_forms_of_json_in_which_t5_is_published_give_the_same_ids() {
    let mut json: serde_json::Value = serde_json::from_slice(&golden_bytes("tokenizer.json")).unwrap();
    let spaces = json["pre_tokenizer"].take();
    json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]});
    json["normalizer"] = json["normalizer"]["normalizers"][0].take();
    json["model"].as_object_mut().unwrap().remove("type");
    // Newer files list the extra tokens only among those that are added.
    json["model"]["vocab"].as_array_mut().unwrap().retain(|piece| !piece[0].as_str().unwrap().starts_with("<extra"));
    let mut bare = json.clone();
    bare["normalizer"] = json!(null);
    for (json, texts) in [
        (json, ["a cat  walks ", "\ta\u{a0}b", "a<extra_id_0> <extra_id_99>", "ｆｕｌｌ"]),
        // Without a table of characters, the pre-tokenizer alone knows what a space is.
        (bare, ["a cat  walks ", "a cat\nwalks", "\ta\u{a0}b\u{3000}c", "a\u{2028}b"]),
    ] {
        let folder = folder_with("tokenizer.json", json.to_string().as_bytes());
        for text in texts {
            assert_eq!(open(folder.path()).encode(text).unwrap(), TOKENIZER.encode(text).unwrap(), "{text:?}");
        }
    }
}

#[test]
fn a_json_says_where_spaces_go() {
    let [always, first, never] = ["always", "first", "never"].map(|scheme| {
        let changes =
            [("/pre_tokenizer/prepend_scheme", json!(scheme)), ("/pre_tokenizer/add_prefix_space", json!(null))];
        ids_with(&changes, "a</s>cat")
    });
    assert!(always == TOKENIZER.encode("a</s>cat").unwrap() && always != first && first != never && always != never);
    let doubled = ids_with(&[("/normalizer/normalizers/2/content", json!("a"))], "a  cat");
    assert_eq!(doubled, TOKENIZER.encode("aacat").unwrap());
    let whole = json!({"type": "Strip", "strip_left": true, "strip_right": false});
    assert_ne!(ids_with(&[("/normalizer/normalizers/1", whole)], "a "), TOKENIZER.encode("a ").unwrap());
}

#[test]
fn a_piece_that_is_too_long_is_refused() {
    let long = "a".repeat(1001);
    // Field 1 of the model is a piece. Its field 1 is the text, its field 2 the score.
    let piece = [&b"\x0a\xe9\x07"[..], long.as_bytes(), b"\x15\0\0\0\0"].concat();
    let more = [&golden_bytes("spiece.model")[..], b"\x0a\xf1\x07", &piece].concat();
    assert_eq!(piece.len(), 0x71 + 7 * 128);
    let mut json: serde_json::Value = serde_json::from_slice(&golden_bytes("tokenizer.json")).unwrap();
    json["model"]["vocab"].as_array_mut().unwrap().push(serde_json::json!([long, -1.0]));
    for (name, bytes) in [("spiece.model", more), ("tokenizer.json", json.to_string().into_bytes())] {
        let said = error_of(folder_with(name, &bytes).path()).to_string();
        assert!(said.contains(name) && said.contains("has 1001 bytes, expected at most 1000"), "{said}");
    }
}

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(open_golden);
static MODEL: LazyLock<Vec<u8>> = LazyLock::new(|| golden_bytes("spiece.model"));

/// Opens a damaged model and, if that succeeds, tokenizes text of many scripts. Must not panic.
fn try_model(bytes: &[u8]) {
    if let Ok(tokenizer) = Tokenizer::open(folder_with("spiece.model", bytes).path()) {
        let text: String = ('\0'..'\u{3000}').step_by(7).chain('\u{fb00}'..'\u{ffff}').collect();
        let _ = tokenizer.encode_padded(&text, 300);
    }
}

proptest! {
    #[test]
    fn any_text_can_be_tokenized(text in "(?s).*") {
        let ids = TOKENIZER.encode(&text).unwrap();
        prop_assert_eq!(ids.last(), Some(&END));
        let tokens = TOKENIZER.encode_padded(&text, 8).unwrap();
        prop_assert_eq!(tokens.ids.len(), 8);
        prop_assert_eq!(tokens.cut.is_some(), ids.len() > 8);
        prop_assert_eq!(tokens.ids[tokens.unmasked - 1], END);
    }

    #[test]
    fn arbitrary_bytes_are_not_a_model(bytes: Vec<u8>) {
        try_model(&bytes);
    }
}

proptest! {
    // Each case reads a whole model.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_truncated_model_does_not_panic(length in 0..MODEL.len()) {
        try_model(&MODEL[..length]);
    }

    #[test]
    fn a_flipped_bit_does_not_panic(bits in prop::collection::vec(0..MODEL.len() * 8, 1..4)) {
        let mut bytes = MODEL.clone();
        bits.iter().for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
        try_model(&bytes);
    }
}

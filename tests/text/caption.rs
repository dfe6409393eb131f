use super::golden;
use osp::text::{caption, html};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Deserialize)]
struct Golden {
    text: String,
    cleaned: String,
    lowered: String,
}

#[derive(Deserialize)]
struct Extra {
    text: String,
    expected: String,
}

/// Reads `captions_extra.json`. The original function (of diffusers 0.27.2, with ftfy 6.1.3 and 6.3.1, Beautiful Soup
/// 4.12.3 and 4.15.0, on Python 3.11) made it from texts that trigger its steps: the texts under `captions` went
/// through all steps twice, those under `html` only through the HTML step.
fn extra() -> HashMap<String, Vec<Extra>> {
    serde_json::from_str(include_str!("captions_extra.json")).unwrap()
}

#[test]
fn golden_captions_are_cleaned_as_in_the_original() {
    let json = std::fs::read(golden("captions/captions.json")).unwrap();
    let cases: Vec<Golden> = serde_json::from_slice(&json).unwrap();
    assert_eq!(cases.len(), 63);
    for case in cases {
        assert_eq!(caption::clean(&case.text), case.cleaned, "{:?}", case.text);
        assert_eq!(caption::lower(&case.text), case.lowered, "{:?}", case.text);
    }
}

#[test]
fn awkward_captions_are_cleaned_as_in_the_original() {
    for case in &extra()["captions"] {
        assert_eq!(caption::clean(&case.text), case.expected, "{:?}", case.text);
    }
}

#[test]
fn malformed_html_has_the_same_text_as_in_the_original() {
    for case in &extra()["html"] {
        assert_eq!(html::text(&case.text), case.expected, "{:?}", case.text);
    }
}

#[test]
fn markup_that_the_original_refuses_is_a_comment() {
    assert_eq!(html::text("a<![x y>b"), "ab");
    assert_eq!(html::text("a<![1>b"), "ab");
}

/// Texts made of pieces that the steps react to, so that random texts reach the later steps, too.
fn awkward_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "<",
        ">",
        "</",
        "<b ",
        "='",
        "\"",
        "<!--",
        "-->",
        "<![cdata[",
        "]]>",
        "<script>",
        "&",
        "&#",
        "&#x",
        ";",
        "amp",
        "#",
        "123",
        "http:",
        "www:",
        ".com",
        "@",
        ".",
        "-",
        "_",
        ":",
        "/",
        "\\n",
        " ",
        "\n",
        "%",
        "%C3",
        "ã",
        "â€",
        "\u{fffd}",
        "é",
        "\u{301}",
        "中",
        "\u{1c}",
        "Σ",
        "x",
        "free",
        "download",
        "page ",
        ".png",
    ]);
    prop::collection::vec(prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => ".{0,3}"], 0..12)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_can_be_cleaned(text in prop_oneof![".*", "(?s).{0,40}", awkward_text()]) {
        let cleaned = caption::clean(&text);
        prop_assert_eq!(cleaned.trim(), &cleaned);
        prop_assert!(!cleaned.contains(['\n', '\t', '\u{a0}', '(', '@', '*']), "{:?}", cleaned);
        prop_assert!(!cleaned.contains("  "), "{:?}", cleaned);
    }
}

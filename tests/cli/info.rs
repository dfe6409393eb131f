//! `osp info` of models without faults, and of strangers' files.

use super::weights::copy_of_the_model;
use super::{fails, golden, model_argument, osp, succeeds};
use serde_json::Value;

#[test]
fn a_model_is_described_component_by_component() {
    let folder = tempfile::tempdir().unwrap();
    let text = succeeds(folder.path(), &["info", &model_argument()]);
    for word in ["text encoder", "transformer", "vae", "17 frames of 32x32", "1.4 M in 83 tensors", "bf16"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.contains("caption_projection.y_embedding") && !text.contains("PROBLEM"), "{text}");
    assert!(!text.contains("shared.weight"), "shared.weight is read, but listed as not read: {text}");
}

#[test]
fn json_has_the_same_facts_and_the_configs() {
    let folder = tempfile::tempdir().unwrap();
    let report: Value = serde_json::from_str(&succeeds(folder.path(), &["info", &model_argument(), "--json"])).unwrap();
    assert_eq!(report["samples"]["frames"], 17);
    let part = |name: &str| report["parts"].as_array().unwrap().iter().find(|part| part["part"] == name).unwrap();
    assert_eq!(part("vae")["weights"]["parameters"], 4_042_219);
    assert_eq!(part("vae")["config"]["hidden_size"], 32);
    assert_eq!(part("transformer")["weights"]["not_read"], serde_json::json!(["caption_projection.y_embedding"]));
    assert_eq!(part("text encoder")["problems"], serde_json::json!([]));
}

#[test]
fn a_single_component_is_described() {
    let folder = tempfile::tempdir().unwrap();
    for (name, part) in [("latte", "transformer"), ("vae_mixed", "vae"), ("pipeline/text_encoder", "text encoder")] {
        let path = golden(name);
        let output = succeeds(folder.path(), &["info", path.to_str().unwrap(), "--json"]);
        let report: Value = serde_json::from_str(&output).unwrap();
        let parts = report["parts"].as_array().unwrap();
        assert_eq!((parts.len(), &parts[0]["part"]), (1, &Value::from(part)), "{name}");
    }
}

#[test]
fn configs_without_weights_can_be_described_with_synthetic_weights() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("latte/config.json"), folder.path().join("config.json")).unwrap();
    let args = ["info", ".", "--weights", "synthetic:7"];
    assert!(succeeds(folder.path(), &args).contains("synthetic:7"));
}

#[test]
fn every_fault_of_a_model_is_listed() {
    let model = copy_of_the_model();
    let damage = |name: &str, text: &str| std::fs::write(model.path().join(name), text).unwrap();
    let faults = || {
        let output = osp(model.path()).args(["info", "."]).assert().code(5).get_output().clone();
        String::from_utf8(output.stdout).unwrap()
    };
    damage("transformer/calibration.json", "{}");
    let said = faults();
    assert!(said.contains("calibration.json") && said.matches("PROBLEM").count() == 1, "{said}");
    damage("sampling.json", "{");
    damage("vae/preview.json", "{");
    let said = faults();
    for file in ["calibration.json", "sampling.json", "preview.json"] {
        assert!(said.contains(file), "{file}: {said}");
    }
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fails(folder.path(), &["info", "absent"], 5, &["absent", "no such file or folder"]);
}

#[test]
fn what_a_file_says_does_not_control_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("a.png")).unwrap();
    let mut image = png::Encoder::new(file, 1, 1);
    image.add_itxt_chunk("Comment".to_owned(), "red\u{1b}[2J\u{9b}1mcat\r\nvae".to_owned()).unwrap();
    image.write_header().unwrap().write_image_data(&[7]).unwrap();
    let text = succeeds(folder.path(), &["info", "a.png"]);
    assert!(text.contains("  comment       red [2J 1mcat  vae"), "{text:?}");
    assert!(!text.lines().any(|line| line.contains(char::is_control)), "{text:?}");

    let model = folder.path().join("a\u{1b}[31mb");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(
        model.join("config.json"),
        r#"{"model_type": "t5", "a\u001b[31m\nb": 0, "d_model": "c\u001b[31m\nd"}"#,
    )
    .unwrap();
    let said = osp(folder.path()).args(["info", "a\u{1b}[31mb"]).output().unwrap();
    for text in [&said.stdout, &said.stderr] {
        let text = String::from_utf8_lossy(text);
        assert!(!text.lines().any(|line| line.contains(char::is_control)), "{text:?}");
    }
}

//! `osp verify` on golden folders, whole and damaged.

use super::{fails, golden, osp, succeeds};
use serde_json::Value;
use std::fs;

#[test]
fn every_check_has_a_line_and_the_total_is_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden("latte");
    let text = succeeds(folder.path(), &["verify", path.to_str().unwrap()]);
    let lines: Vec<&str> = text.lines().collect();
    let (total, checks) = lines.split_last().unwrap();
    assert!(!checks.is_empty() && checks.iter().all(|line| line.starts_with("pass  latte  ")), "{text}");
    assert!(total.starts_with(&format!("{} checks, all passed, in ", checks.len())), "{text}");
}

#[test]
fn machines_get_every_error_and_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden("latte");
    let report: Value =
        serde_json::from_str(&succeeds(folder.path(), &["verify", "--json", path.to_str().unwrap()])).unwrap();
    let cases = report["cases"].as_array().unwrap();
    assert_eq!((report["passed"].as_u64().unwrap() as usize, report["failed"].as_u64()), (cases.len(), Some(0)));
    for case in cases {
        assert!(case["error"].as_f64().unwrap() <= case["tolerance"].as_f64().unwrap(), "{case}");
    }
}

#[test]
fn a_wrong_result_fails_the_run() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "synthetic.json", "cases.json", "cases.safetensors"] {
        fs::copy(golden("latte").join(file), folder.path().join(file)).unwrap();
    }
    let path = folder.path().join("synthetic.json");
    let mut recipe: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    recipe["seed"] = 5.into();
    fs::write(&path, recipe.to_string()).unwrap();
    let output = osp(folder.path()).args(["verify", ".", "--quiet"]).assert().code(1).get_output().clone();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        stdout.lines().count() > 1 && stdout.lines().rev().skip(1).all(|line| line.starts_with("FAIL")),
        "{stdout}"
    );
    assert!(stdout.contains(" FAILED, in ") && stderr.contains("checks failed"), "{stdout}{stderr}");
}

#[test]
fn a_folder_without_golden_data_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fails(folder.path(), &["verify", "."], 2, &["golden"]);
    fails(folder.path(), &["verify", "absent"], 1, &["absent"]);
}

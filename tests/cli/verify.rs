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
fn json_has_every_error_and_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden("latte");
    let report: Value =
        serde_json::from_str(&succeeds(folder.path(), &["verify", "--json", path.to_str().unwrap()])).unwrap();
    let cases = report["cases"].as_array().unwrap();
    assert_eq!((report["passed"].as_u64().unwrap() as usize, report["failed"].as_u64()), (cases.len(), Some(0)));
    assert_eq!(report["errors"].as_array().map(Vec::len), Some(0));
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

/// Folders `latte`, `noise` and `samplers`. `latte` lacks its tensors, and `noise` has only half of its table of cases.
fn two_damaged_of_three() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, files) in [
        ("latte", &["config.json", "synthetic.json", "cases.json"][..]),
        ("noise", &["cases.json", "cases.safetensors"]),
        ("samplers", &["cases.json", "cases.safetensors"]),
    ] {
        fs::create_dir(folder.path().join(name)).unwrap();
        for file in files {
            fs::copy(golden(name).join(file), folder.path().join(name).join(file)).unwrap();
        }
    }
    let cases = folder.path().join("noise/cases.json");
    let text = fs::read_to_string(&cases).unwrap();
    fs::write(&cases, &text[..text.len() / 2]).unwrap();
    folder
}

#[test]
fn a_damaged_folder_is_one_error_and_the_next_is_checked() {
    let folder = two_damaged_of_three();
    let output = osp(folder.path()).args(["verify", "."]).assert().code(5).get_output().clone();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let (total, checks) = stdout.lines().collect::<Vec<_>>().split_last().map(|(a, b)| (*a, b.to_vec())).unwrap();
    assert!(checks.len() >= 30 && checks.iter().all(|line| line.starts_with("pass  samplers  ")), "{stdout}");
    assert!(total.contains(" checks, all passed, 2 folders UNCHECKED, in "), "{stdout}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("osp: error: ")).collect();
    assert_eq!(errors.len(), 3, "{stderr}");
    let summary = format!("2 of 3 folders could not be checked; 0 of {} checks failed", checks.len());
    for (line, words) in errors.iter().zip(["latte/cases.safetensors", "noise/cases.json", &summary]) {
        assert!(line.contains(words), "{line:?} does not say {words:?}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_one_error_and_the_next_is_checked() {
    let folder = two_damaged_of_three();
    let output = osp(folder.path()).args(["verify", "nope", "samplers"]).assert().code(5).get_output().clone();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("pass  samplers") && stdout.contains("1 folder UNCHECKED"), "{stdout}");
    assert!(stderr.contains("nope") && stderr.contains("1 of 2 folders could not be checked"), "{stderr}");
    let output = osp(folder.path()).args(["verify", "latte", "noise"]).assert().code(5).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("0 checks, none passed, 2 folders UNCHECKED"));
}

#[test]
fn json_has_the_errors_of_damaged_folders() {
    let folder = two_damaged_of_three();
    let output = osp(folder.path()).args(["verify", "--json", "."]).assert().code(5).get_output().clone();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["passed"].as_u64().unwrap() >= 30 && report["failed"] == 0, "{report}");
    let errors = report["errors"].as_array().unwrap();
    let of = |name: &str| errors.iter().filter(|error| error["folder"].as_str().unwrap().ends_with(name)).count();
    assert_eq!([errors.len(), of("latte"), of("noise")], [2, 1, 1], "{report}");
    assert!(errors.iter().all(|error| error["error"].as_str().unwrap().contains("cases.")), "{report}");
}

#[test]
fn a_folder_without_golden_data_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fails(folder.path(), &["verify", "."], 2, &["golden"]);
    fails(folder.path(), &["verify", "absent"], 1, &["absent"]);
}

#[test]
fn the_launches_of_each_variant_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden("latte_d64");
    let verify = ["verify", path.to_str().unwrap(), "--device", "emulated"];
    let launches = |kernels: &str| {
        let text = succeeds(folder.path(), &[&verify[..], &["--json", "--kernels", kernels]].concat());
        let report: Value = serde_json::from_str(&text).unwrap();
        ["sm80", "sm90"].map(|name| report["launches"][name].as_u64().unwrap_or(0))
    };
    let ([old, none], [others, new]) = (launches("sm80"), launches("sm90"));
    assert_eq!((none, others + new), (0, old));
    // All but a few layers of this folder have in_features that are multiples of 8.
    assert!(new > 20, "{new}");
    fails(
        folder.path(),
        &["verify", path.to_str().unwrap(), "--device", "cpu", "--kernels", "sm90"],
        2,
        &["the CPU runs no kernels"],
    );
    fails(folder.path(), &[&verify[..], &["--kernels", "sm100"]].concat(), 2, &["sm100", "expected sm80 or sm90"]);
}

#[test]
#[cfg(unix)]
fn links_lead_nowhere_and_names_do_not_control_the_terminal() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("g")).unwrap();
    for file in ["cases.json", "cases.safetensors"] {
        fs::copy(golden("noise").join(file), folder.path().join("g").join(file)).unwrap();
    }
    for (link, to) in [("a", "."), ("b", "."), ("c", "/")] {
        symlink(to, folder.path().join("g").join(link)).unwrap();
    }
    fs::rename(folder.path().join("g"), folder.path().join("g\u{1b}[2J")).unwrap();
    let text = succeeds(folder.path(), &["verify", "."]);
    assert!(!text.contains('\u{1b}') && text.contains("all passed"), "{text}");
}

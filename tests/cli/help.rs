//! Help, version, and arguments that make no sense.

use super::{fails, osp, succeeds};

const COMMANDS: [&str; 16] = [
    "sample",
    "edit",
    "reconstruct",
    "compare",
    "encode",
    "decode",
    "verify",
    "calibrate",
    "info",
    "plan",
    "profile",
    "convert",
    "download",
    "schema",
    "completions",
    "man",
];

#[test]
fn help_of_every_command_ends_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let top = succeeds(folder.path(), &["--help"]);
    for command in COMMANDS {
        assert!(top.contains(&format!("\n  {command} ")), "{top}");
        let help = succeeds(folder.path(), &[command, "--help"]);
        let (_, examples) = help.split_once("Examples:").expect("there are examples");
        assert!(examples.contains(&format!("osp {command} ")), "{help}");
    }
}

#[test]
fn version_is_the_crates() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(succeeds(folder.path(), &["--version"]), format!("osp {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_command_shows_the_help_and_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let output = osp(folder.path()).assert().code(2).get_output().clone();
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: osp"));
}

#[test]
fn wrong_arguments_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["sampel"], "sampel"),
        (&["sample", "a cat", "--stepps", "3"], "'--steps'"),
        (&["sample", "a cat", "--steps", "many"], "'many'"),
        (&["encode", "a.gif"], "--output"),
        (&["verify"], "DIR"),
        (&["completions", "tcsh"], "bash"),
    ];
    for (args, word) in cases {
        fails(folder.path(), args, 2, &[word]);
    }
}

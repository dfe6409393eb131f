//! Completion scripts.

use super::succeeds;

#[test]
fn every_shell_gets_a_script_with_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = succeeds(folder.path(), &["completions", shell]);
        assert!(script.contains("reconstruct") && script.contains("tile-overlap"), "{shell}");
    }
}

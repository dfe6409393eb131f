//! `osp download` from a hub on this machine, and builds without it.

#[cfg(feature = "download")]
mod hub;

#[cfg(not(feature = "download"))]
#[test]
fn a_build_without_the_command_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    super::fails(folder.path(), &["download", "ORG/NAME"], 1, &["without the command download", "--features download"]);
}

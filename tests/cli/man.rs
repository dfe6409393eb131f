//! Man pages.

use super::{contents, fails, names, succeeds};
use std::fs;

#[test]
fn the_page_of_the_program_has_its_options_commands_and_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let page = succeeds(folder.path(), &["man"]);
    for line in [
        ".TH osp 1",
        ".SH NAME",
        ".SH SYNOPSIS",
        ".SH OPTIONS",
        "osp\\-sample(1)",
        ".SH EXAMPLES",
        ".SH \"EXIT CODES\"",
    ] {
        assert!(page.lines().any(|shown| shown.starts_with(line)), "{line} is not in\n{page}");
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn every_command_has_a_page_and_pages_depend_on_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let printed = succeeds(folder.path(), &["man", "--dir", "share/man1"]);
    let expected = |name: &str| printed.lines().any(|line| line.ends_with(name));
    let pages = names(&at("share/man1"));
    assert!(pages.len() > 13 && pages.iter().all(|name| expected(name)), "{pages:?}: {printed}");
    for (name, has) in [
        ("osp.1", ".SH EXAMPLES"),
        ("osp-sample.1", "negative\\-prompt"),
        ("osp-sample.1", ".SH SAMPLERS"),
        ("osp-sample.1", "\\fBosp sample\\fR [OPTIONS] [PROMPT]..."),
        ("osp-decode.1", "tile\\-size"),
        ("osp-man.1", "osp\\-man \\- Prints the man page"),
    ] {
        let page = fs::read_to_string(at("share/man1").join(name)).unwrap();
        assert!(page.contains(has), "{has} is not in {name}:\n{page}");
        assert!(!page.contains(env!("CARGO_MANIFEST_DIR")), "{name} names the folder of the build");
    }
    let first = contents(&at("share/man1"));
    succeeds(folder.path(), &["man", "--dir", "share/man1", "--quiet"]);
    assert!(contents(&at("share/man1")) == first, "the same pages again");
    let whole = fs::read_to_string(at("share/man1").join("osp.1")).unwrap();
    assert_eq!(succeeds(folder.path(), &["man"]).trim_end(), whole.trim_end());
}

#[test]
fn a_file_in_the_place_of_the_folder_stays() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pages"), "mine").unwrap();
    fails(folder.path(), &["man", "--dir", "pages"], 1, &["pages"]);
}

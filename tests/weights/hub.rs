//! Models in a cache of the Hugging Face hub.

use osp::weights::hub::locate_in;
use std::fs;
use std::path::{Path, PathBuf};

/// A cache with two snapshots of the model ORG/NAME; `refs/main` names the second.
fn cache() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("models--ORG--NAME");
    fs::create_dir_all(model.join("snapshots/0123abcd/vae")).unwrap();
    fs::create_dir_all(model.join("snapshots/4567ef89/vae")).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), "4567ef89\n").unwrap();
    folder
}

fn found(name: impl AsRef<Path>, caches: &[PathBuf]) -> PathBuf {
    locate_in(name.as_ref(), caches).unwrap()
}

#[test]
fn models_are_found_by_name_and_by_folder() {
    let (cache, empty) = (cache(), tempfile::tempdir().unwrap());
    let caches = [empty.path().to_path_buf(), cache.path().to_path_buf()];
    let snapshot = cache.path().join("models--ORG--NAME/snapshots/4567ef89");
    assert_eq!(found("ORG/NAME", &caches), snapshot);
    assert_eq!(found("ORG/NAME/vae", &caches), snapshot.join("vae"));
    assert_eq!(found("models--ORG--NAME", &caches), snapshot);
    assert_eq!(found(cache.path().join("models--ORG--NAME"), &[]), snapshot);
    // Names of folders outside a cache are returned unchanged, whether they exist or not.
    assert_eq!(found(&snapshot, &caches), snapshot);
    assert_eq!(found("/absent/folder", &caches), Path::new("/absent/folder"));
    assert_eq!(found("absent", &caches), Path::new("absent"));
}

#[test]
fn an_error_says_where_it_looked() {
    let cache = cache();
    let line = |caches: &[PathBuf]| locate_in(Path::new("ORG/OTHER"), caches).unwrap_err().to_string();
    let here = line(&[cache.path().to_path_buf(), PathBuf::from("/second")]);
    for word in ["ORG/OTHER", "models--ORG--OTHER", &cache.path().display().to_string(), "/second", "download it"] {
        assert!(here.contains(word), "{here}");
    }
    assert!(line(&[]).contains("no cache"));
}

#[test]
fn without_a_reference_the_only_snapshot_counts() {
    let cache = cache();
    let model = cache.path().join("models--ORG--NAME");
    fs::remove_file(model.join("refs/main")).unwrap();
    let error = locate_in(&model, &[]).unwrap_err();
    assert!(error.to_string().contains("2 snapshots") && error.exit_code() == 5, "{error}");
    fs::remove_dir_all(model.join("snapshots/0123abcd")).unwrap();
    assert_eq!(found(&model, &[]), model.join("snapshots/4567ef89"));
}

#[test]
fn a_reference_to_nothing_or_out_of_the_cache_is_refused() {
    let cache = cache();
    let model = cache.path().join("models--ORG--NAME");
    for reference in ["89abcdef", "", "..", "../../..", "/etc"] {
        fs::write(model.join("refs/main"), reference).unwrap();
        let line = locate_in(&model, &[]).unwrap_err().to_string();
        assert!(line.contains("refs/main") && line.contains("is missing"), "{reference}: {line}");
    }
}

use super::{ALONE, smooth};
use osp::Error;
use osp::video::{check_writable, read_clip, write_clip};
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::tempdir;

#[test]
fn frames_go_into_the_folder_that_a_link_leads_to() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("disk/frames")).unwrap();
    symlink("disk/frames", at("link")).unwrap();
    symlink("disk/new", at("dangling")).unwrap();
    for (name, target) in [("link", "disk/frames"), ("link/", "disk/frames"), ("dangling", "disk/new")] {
        for frames in [3, 2] {
            write_clip(&at(name), &smooth(frames, 16, 16)).unwrap();
            assert_eq!(read_clip(&at(target), &ALONE).unwrap().frames, frames, "{name}");
        }
    }
    assert!(at("link").is_symlink() && at("dangling").is_symlink());
    assert_eq!(fs::read_dir(at("disk")).unwrap().count(), 2, "a temporary folder remains");
    fs::write(at("disk/frames/notes.txt"), "mine").unwrap();
    assert!(check_writable(&at("link")).unwrap_err().to_string().contains("notes.txt"));
}

#[test]
fn files_go_to_the_target_of_a_link() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("disk")).unwrap();
    fs::write(at("disk/a.gif"), "old").unwrap();
    for (link, to) in [("a.gif", "disk/a.gif"), ("lost.gif", "absent/a.gif"), ("round.gif", "round.gif")] {
        symlink(to, at(link)).unwrap();
    }
    write_clip(&at("a.gif"), &smooth(2, 16, 16)).unwrap();
    assert!(at("a.gif").is_symlink());
    assert_eq!(read_clip(&at("disk/a.gif"), &ALONE).unwrap().frames, 2);
    for name in ["lost.gif", "round.gif"] {
        assert!(matches!(check_writable(&at(name)), Err(Error::Usage(_))), "{name}");
    }
}

#[test]
fn files_of_desktop_systems_do_not_prevent_replacement() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("frames");
    write_clip(&path, &smooth(2, 16, 16)).unwrap();
    for name in [".DS_Store", "Thumbs.db", "desktop.ini", "._frame_00000.png"] {
        fs::write(path.join(name), "").unwrap();
    }
    write_clip(&path, &smooth(1, 16, 16)).unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

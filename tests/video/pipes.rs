use super::{ALONE, file, has_ffmpeg, smooth};
use osp::video::{Clip, ReadOptions, description, read_clip, write_clip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tempfile::tempdir;

/// Reads `path` through a named pipe.
fn piped(path: &Path, options: &ReadOptions) -> osp::Result<Clip> {
    let folder = tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (bytes, end) = (fs::read(path).unwrap(), pipe.clone());
    // Fails if the reader closes the pipe early.
    let writing = thread::spawn(move || drop(fs::write(end, bytes)));
    let clip = read_clip(&pipe, options);
    writing.join().unwrap();
    clip
}

#[test]
fn every_format_is_read_from_a_pipe_as_from_a_file() {
    let folder = tempdir().unwrap();
    let mut paths: Vec<PathBuf> = ["a.mp4", "a.gif", "a.y4m"].map(|name| folder.path().join(name)).into();
    for path in &paths {
        write_clip(path, &smooth(9, 32, 48)).unwrap();
    }
    paths.push(folder.path().join("a.png"));
    write_clip(&paths[3], &smooth(1, 32, 48)).unwrap();
    paths.extend(["b_frames.mp4", "animated.png", "animated.webp", "exif6.jpg", "trimmed.mp4"].map(file));
    for path in &paths {
        assert!(piped(path, &ALONE).unwrap() == read_clip(path, &ALONE).unwrap(), "{}", path.display());
    }
    let part = ReadOptions { start: 2, max_frames: Some(3), ..ALONE };
    assert_eq!(piped(&paths[2], &part).unwrap().frames, 3);
}

#[test]
fn ffmpeg_reads_clips_from_a_pipe() {
    for name in ["browser.webm", "rot90_hevc.mp4", "lossless.mp4"] {
        assert!(piped(&file(name), &ALONE).unwrap_err().to_string().contains("install ffmpeg"));
        if has_ffmpeg() {
            let direct = read_clip(&file(name), &ReadOptions::default()).unwrap();
            assert!(piped(&file(name), &ReadOptions::default()).unwrap() == direct, "{name}");
        }
    }
}

#[test]
fn an_empty_pipe_is_reported_as_empty_and_devices_are_refused() {
    let folder = tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, "").unwrap();
    assert!(piped(&empty, &ALONE).unwrap_err().to_string().contains("empty"));
    assert!(super::problem(Path::new("/dev/zero")).contains("device"));
}

/// A user who names a pipe wants to wait for it. In a folder that came from elsewhere, a pipe is a trap.
#[test]
fn a_pipe_in_a_folder_of_images_is_refused_at_once() {
    let folder = tempdir().unwrap();
    write_clip(&folder.path().join("a.png"), &smooth(1, 8, 8)).unwrap();
    for name in ["b.png", "0.png"] {
        assert!(Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap().success());
        let (done, said) = mpsc::channel();
        let path = folder.path().to_path_buf();
        thread::spawn(move || {
            let read = [read_clip(&path, &ALONE).map(drop), description(&path).map(drop)];
            done.send(read.map(|result| result.map_err(|error| error.to_string())))
        });
        let [read, described] = said.recv_timeout(Duration::from_secs(60)).expect("nothing waits for the pipe");
        let error = read.unwrap_err();
        assert!(error.contains(name) && error.contains("is a pipe or a device"), "{error}");
        // The description is in the first image.
        assert_eq!(described.is_err(), name == "0.png");
    }
}

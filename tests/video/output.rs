use super::{ALONE, smooth};
use osp::Error;
use osp::video::{Format, FrameRate, VideoInfo, Writer, check_writable, read_clip, write_clip};
use std::fs;
use std::path::Path;
use tempfile::tempdir;

fn info() -> VideoInfo {
    VideoInfo { width: 16, height: 16, fps: FrameRate::default() }
}

#[test]
fn the_ending_chooses_the_format() {
    let formats = [
        ("a.mp4", Format::Mp4),
        ("a/b.c.MP4", Format::Mp4),
        ("a.gif", Format::Gif),
        ("a.Png", Format::Png),
        ("a.y4m", Format::Y4m),
        ("frames", Format::Frames),
        ("a.mp4/", Format::Frames),
        ("v1.1/frames", Format::Frames),
    ];
    for (path, format) in formats {
        assert_eq!(Format::from_path(Path::new(path)).unwrap(), format, "{path}");
    }
}

#[test]
fn an_unknown_ending_lists_the_known_ones() {
    let error = Format::from_path(Path::new("a.webm")).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_code(), 2);
    for known in [".webm", ".mp4", ".gif", ".y4m", ".png", "folder"] {
        assert!(text.contains(known), "{text}");
    }
    assert_eq!(Format::from_path(Path::new("..")).unwrap_err().exit_code(), 2);
    assert_eq!(Format::from_path(Path::new("")).unwrap_err().exit_code(), 2);
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_any_work() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    check_writable(&at("new.mp4")).unwrap();
    check_writable(&at("new")).unwrap();
    fs::create_dir(at("folder.mp4")).unwrap();
    fs::write(at("file"), "text").unwrap();
    fs::create_dir(at("photos")).unwrap();
    fs::write(at("photos/holiday.png"), "mine").unwrap();
    let refusals = [
        ("missing/a.mp4", "does not exist"),
        ("folder.mp4", "is a folder"),
        ("file", "is a file"),
        ("file/a.mp4", "does not exist"),
        ("photos", "holiday.png"),
        ("a.avi", ".avi"),
    ];
    for (name, reason) in refusals {
        let error = check_writable(&at(name)).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{name}: {error:?}");
        assert!(error.to_string().contains(reason), "{name}: {error}");
        assert!(!error.to_string().contains('\n'));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "the check has left a file");
}

#[test]
fn a_dropped_writer_changes_nothing() {
    let folder = tempdir().unwrap();
    for name in ["a.mp4", "a.gif", "a.png", "a.y4m"] {
        let path = folder.path().join(name);
        fs::write(&path, "earlier").unwrap();
        let mut writer = Writer::create(&path, Format::from_path(&path).unwrap(), info(), None).unwrap();
        writer.push(&vec![7; info().frame_bytes()]).unwrap();
        drop(writer);
        assert_eq!(fs::read(&path).unwrap(), b"earlier", "{name}");
    }
    let path = folder.path().join("frames");
    write_clip(&path, &smooth(2, 8, 8)).unwrap();
    let mut writer = Writer::create(&path, Format::Frames, info(), None).unwrap();
    writer.push(&vec![7; info().frame_bytes()]).unwrap();
    drop(writer);
    assert_eq!(read_clip(&path, &ALONE).unwrap(), smooth(2, 8, 8));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "a temporary file remains");
}

#[test]
fn finished_outputs_replace_earlier_ones() {
    let folder = tempdir().unwrap();
    for name in ["a.y4m", "a.png", "frames", "frames.mp4/"] {
        let path = folder.path().join(name);
        let frames = if name == "a.png" { 1 } else { 3 };
        write_clip(&path, &smooth(frames, 24, 16)).unwrap();
        write_clip(&path, &smooth(1, 16, 32)).unwrap();
        let clip = read_clip(&path, &ALONE).unwrap();
        assert_eq!((clip.frames, clip.height, clip.width), (1, 16, 32), "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "a temporary file remains");
}

#[test]
fn a_folder_that_gets_other_files_during_the_work_is_kept_and_so_are_the_frames() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("frames");
    let mut writer = Writer::create(&path, Format::Frames, info(), None).unwrap();
    writer.push(&vec![7; info().frame_bytes()]).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("notes.txt"), "mine").unwrap();
    let error = writer.finish().unwrap_err().to_string();
    assert_eq!(fs::read(path.join("notes.txt")).unwrap(), b"mine");
    let place = error.rsplit("it is at ").next().unwrap();
    assert_eq!(read_clip(Path::new(place), &ALONE).unwrap().frames, 1, "{error}");
}

#[test]
fn a_png_holds_one_frame() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.png");
    let two = write_clip(&path, &smooth(2, 8, 8)).unwrap_err();
    assert!(matches!(two, Error::Usage(_)) && two.to_string().contains(".mp4"), "{two}");
    let mut writer = Writer::create(&path, Format::Png, info(), None).unwrap();
    writer.push(&vec![7; info().frame_bytes()]).unwrap();
    assert!(matches!(writer.push(&vec![7; info().frame_bytes()]), Err(Error::Usage(_))));
    writer.finish().unwrap();
    assert_eq!(read_clip(&path, &ALONE).unwrap().pixels, vec![7; info().frame_bytes()]);
}

#[test]
fn frames_of_the_wrong_size_and_missing_frames_are_errors() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let mut writer = Writer::create(&path, Format::Mp4, info(), None).unwrap();
    assert!(matches!(writer.push(&[0; 3]), Err(Error::Shape { .. })));
    assert!(matches!(writer.finish(), Err(Error::Usage(_))));
    assert!(!path.exists());
}

#[test]
fn sizes_that_a_format_cannot_hold_are_refused_at_once() {
    let folder = tempdir().unwrap();
    for (name, width, height) in [("a.mp4", 8, 64), ("a.mp4", 64, 15), ("a.mp4", 4096, 64), ("a.gif", 65536, 1)] {
        let path = folder.path().join(name);
        let info = VideoInfo { width, height, fps: FrameRate::default() };
        let error = Writer::create(&path, Format::from_path(&path).unwrap(), info, None).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error}");
        assert!(error.to_string().contains(&format!("{width}x{height}")), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn outputs_have_the_permissions_of_a_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    fs::write(folder.path().join("plain"), "").unwrap();
    fs::create_dir(folder.path().join("plain_folder")).unwrap();
    write_clip(&folder.path().join("a.y4m"), &smooth(1, 8, 8)).unwrap();
    write_clip(&folder.path().join("frames"), &smooth(1, 8, 8)).unwrap();
    assert_eq!(mode("a.y4m"), mode("plain"));
    assert_eq!(mode("frames"), mode("plain_folder"));
}

#[test]
fn equal_frames_make_equal_files() {
    let folder = tempdir().unwrap();
    for ending in ["mp4", "gif", "y4m"] {
        let paths = ["first", "second"].map(|name| folder.path().join(name).with_extension(ending));
        for path in &paths {
            write_clip(path, &smooth(20, 64, 48)).unwrap();
        }
        assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap(), "{ending}");
    }
}

#[test]
fn frame_rates_are_exact_fractions() {
    let rate = |text: &str| text.parse::<FrameRate>();
    let parts = |rate: FrameRate| (rate.numerator(), rate.denominator());
    assert_eq!(parts(rate("24").unwrap()), (24, 1));
    assert_eq!(parts(rate("23.976").unwrap()), (24000, 1001));
    assert_eq!(parts(rate("29.97").unwrap()), (30000, 1001));
    assert_eq!(parts(rate("60/2").unwrap()), (30, 1));
    assert_eq!(parts(rate("12.5").unwrap()), (25, 2));
    assert_eq!(parts(rate("0.5").unwrap()), (1, 2));
    for bad in ["0", "-1", "x", "1/0", "0/0", "5000", "nan", "inf", ""] {
        assert!(matches!(rate(bad), Err(Error::Usage(_))), "{bad}");
    }
    assert_eq!(rate("24").unwrap().to_string(), "24");
    assert_eq!(rate("24000/1001").unwrap().to_string(), "23.976");
}

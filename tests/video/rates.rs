use super::{ALONE, smooth};
use osp::Error;
use osp::video::{Format, FrameRate, VideoInfo, Writer, read_clip, write_clip};
use tempfile::tempdir;

fn rate(above: u64, below: u64) -> FrameRate {
    FrameRate::new(above, below).unwrap()
}

#[test]
fn a_file_has_the_rate_that_its_writer_reports() {
    let folder = tempdir().unwrap();
    let awkward = [rate(60, 1), rate(1000, 1), rate(1, 1000), rate(30_000, 1001), rate(4_294_967_291, 429_496_730)];
    for fps in awkward {
        for name in ["a.mp4", "a.gif", "a.y4m"] {
            let path = folder.path().join(name);
            let mut clip = smooth(50, 16, 16);
            clip.fps = fps;
            let writer = Writer::create(&path, Format::from_path(&path).unwrap(), clip.info(), Some(50)).unwrap();
            let plays = writer.info().fps;
            write_clip(&path, &clip).unwrap();
            let found = read_clip(&path, &ALONE).unwrap().fps;
            if name == "a.gif" {
                // Times are rounded, so 50 frames give the rate only to this accuracy.
                assert!((found.as_f64() / plays.as_f64() - 1.0).abs() < 0.01, "{name} of {fps}: {found}");
            } else {
                assert_eq!(found, plays, "{name} of {fps}");
                assert!((plays.as_f64() / fps.as_f64() - 1.0).abs() < 1e-6, "{name} of {fps}: {plays}");
            }
        }
    }
}

#[test]
fn a_gif_has_at_most_50_frames_a_second() {
    for (asked, plays) in [(rate(60, 1), rate(50, 1)), (rate(50, 1), rate(50, 1)), (rate(49, 1), rate(49, 1))] {
        assert_eq!(Format::Gif.rate(asked), plays);
    }
    assert_eq!(Format::Gif.rate(rate(1, 1000)), rate(100, 65_535));
    assert_eq!(Format::Frames.rate(rate(60, 1)), rate(60, 1));
}

#[test]
fn a_clip_too_long_for_an_mp4_is_refused_at_once() {
    let folder = tempdir().unwrap();
    let create = |frames| {
        let info = VideoInfo { width: 16, height: 16, fps: rate(30_000, 1001) };
        Writer::create(&folder.path().join("a.mp4"), Format::Mp4, info, Some(frames)).map(drop)
    };
    create(4_290_676).unwrap();
    assert!(matches!(create(4_290_677), Err(Error::Usage(_))));
}

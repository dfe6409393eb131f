//! When frames are shown: the tables of times, and the edit list, which can omit frames.

use super::demux::{Refusal, find, missing, rows, word};
use crate::video::FrameRate;
use std::collections::VecDeque;
use std::iter;
use std::ops::Range;

/// Which frames are shown, and at what rate.
pub(super) struct Showing {
    /// Ranges of frames in presentation order; ascending, none empty.
    pub shown: VecDeque<Range<usize>>,
    pub fps: FrameRate,
    /// A warning about wrong times.
    pub notice: Option<String>,
}

/// A range of the track that is shown, or a time in which nothing is shown.
struct Edit {
    /// In ticks of the movie.
    duration: u64,
    /// In ticks of the track; −1 if nothing is shown.
    media_time: i64,
    /// 65536 is the speed of the track.
    speed: u32,
}

/// Reads the times of a track of `count` frames.
pub(super) fn showing(moov: &[u8], trak: &[u8], mdia: &[u8], count: usize) -> Result<Showing, Refusal> {
    let timescale = timescale(find(mdia, b"mdhd")).ok_or_else(|| missing("mdhd"))?;
    let tables = find(mdia, b"minf").and_then(|minf| find(minf, b"stbl")).unwrap_or_default();
    let times = times(tables, count).ok_or_else(|| missing("stts"))?;
    let edits = match find(trak, b"edts").and_then(|edts| find(edts, b"elst")) {
        Some(elst) => edits(elst).ok_or_else(|| missing("elst"))?,
        None => Vec::new(),
    };
    let movie = self::timescale(find(moov, b"mvhd")).unwrap_or(timescale);
    let (shown, ticks) = apply(&edits, &times, i128::from(timescale), i128::from(movie))?;
    let frames: usize = shown.iter().map(Range::len).sum();
    let rate = FrameRate::of_times(frames as u64 - 1, ticks, (timescale.into(), 1));
    let notice = rate
        .is_err()
        .then(|| format!("the times of the frames are impossible; {} frames/s are assumed", FrameRate::default()));
    Ok(Showing { shown, fps: rate.unwrap_or_default(), notice })
}

/// Ticks per second, from the box `mdhd` or `mvhd`.
fn timescale(header: Option<&[u8]>) -> Option<u32> {
    let header = header?;
    word(header, if header.first() == Some(&1) { 5 } else { 3 })
}

/// The presentation time of each frame, in order. Frames missing in the tables get the time of the last.
fn times(tables: &[u8], count: usize) -> Option<Vec<i64>> {
    let runs = |table: Vec<[u32; 2]>| {
        table.into_iter().flat_map(|[count, value]| iter::repeat_n(value, count as usize)).take(count)
    };
    let durations = runs(rows(find(tables, b"stts")?)?);
    let offsets = find(tables, b"ctts").and_then(rows).unwrap_or_default();
    let offsets = runs(offsets).map(|offset| i64::from(offset as i32)).chain(iter::repeat(0));
    let begins = iter::once(0).chain(durations.scan(0i64, |now, ticks| {
        *now = now.saturating_add(i64::from(ticks));
        Some(*now)
    }));
    let mut times: Vec<i64> =
        begins.zip(offsets).map(|(begin, offset)| begin.saturating_add(offset)).take(count).collect();
    let last = times.last().copied().unwrap_or(0);
    times.resize(count, last);
    times.sort_unstable();
    Some(times)
}

/// The rows of the box `elst`.
fn edits(elst: &[u8]) -> Option<Vec<Edit>> {
    let wide = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    if elst.first()? == &1 {
        let edit = |[a, b, c, d, speed]: [u32; 5]| Edit { duration: wide(a, b), media_time: wide(c, d) as i64, speed };
        return Some(rows(elst)?.into_iter().map(edit).collect());
    }
    let edit = |[duration, time, speed]: [u32; 3]| Edit {
        duration: duration.into(),
        media_time: i64::from(time as i32),
        speed,
    };
    Some(rows(elst)?.into_iter().map(edit).collect())
}

/// The frames that are shown, and the ticks from the first to the last. As in players, a frame belongs to the edit in
/// which it begins.
fn apply(
    edits: &[Edit],
    times: &[i64],
    timescale: i128,
    movie: i128,
) -> Result<(VecDeque<Range<usize>>, u64), Refusal> {
    let other = |kind: &str| Err(Refusal::NotHandled(format!("MP4 with an edit list that {kind}")));
    let Some((&first, &last)) = times.first().zip(times.last()) else { return Err(missing("stts")) };
    if edits.is_empty() {
        return Ok((iter::once(0..times.len()).collect(), last.abs_diff(first)));
    }
    let ticks = |duration: u64| (i128::from(duration) * timescale + movie / 2) / movie.max(1);
    let (mut shown, mut now, mut span) = (VecDeque::<Range<usize>>::new(), 0i128, None);
    for edit in edits {
        let (begin, length) = (i128::from(edit.media_time), ticks(edit.duration));
        if edit.media_time != -1 {
            if edit.speed != 1 << 16 {
                return other("changes the speed");
            }
            // The duration 0 means: to the end.
            let end = if edit.duration == 0 { i128::MAX } else { begin + length };
            let frame = |time: i128| times.partition_point(|&at| i128::from(at) < time);
            let range = frame(begin)..frame(end);
            if shown.back().is_some_and(|before| before.end > range.start) {
                return other("shows frames twice or in another order");
            }
            if !range.is_empty() {
                let at = |index: usize| now + i128::from(times[index]) - begin;
                let first = span.map_or_else(|| at(range.start), |(first, _)| first);
                span = Some((first, at(range.end - 1)));
                shown.push_back(range);
            }
        }
        now += length;
    }
    let Some((first, last)) = span else { return other("shows no frame") };
    Ok((shown, u64::try_from(last - first).unwrap_or(u64::MAX)))
}

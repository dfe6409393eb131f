//! What ffmpeg reports of a file without decoding it.

use super::messages::KEPT;
use super::{command, spawn};
use crate::error::{Error, Result};
use crate::video::FrameRate;
use crate::video::input::Input;
use crate::video::tags::{Tags, is_high_definition};
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;

/// The most frames whose times are read: ten minutes at 30 frames/s.
const MOST_FRAMES: &str = "18000";

/// Codecs whose default decoder in ffmpeg ignores alpha, each with the decoder that reads it.
const ALPHA_DECODERS: [(&str, &str); 2] = [("vp8", "libvpx"), ("vp9", "libvpx-vp9")];

/// ffmpeg's names of formats that are texts with the names of other files.
const PLAYLISTS: [&str; 4] = ["hls", "concat", "dash", "imf"];

/// How ffmpeg must decode a file.
pub(super) struct Facts {
    /// Mean rate of the frames.
    pub rate: FrameRate,
    /// Why the file must not be decoded.
    pub refusal: Option<&'static str>,
    /// A warning about colours that are lost.
    pub warning: Option<String>,
    /// The decoder that must be named, because the default one would ignore alpha.
    pub decoder: Option<&'static str>,
    has_alpha: bool,
    /// The assumed matrix, if the file does not name one.
    matrix: Option<&'static str>,
    /// The option for the chroma siting, if ffmpeg would assume a wrong one.
    siting: &'static str,
}

impl Facts {
    /// The filters that ffmpeg applies to frames before it sends them. The first interpolates chroma as in `yuv`, the
    /// second converts to the matrix: ffmpeg is inexact if one filter does both. Y4M has no flag for the matrix; this
    /// crate reads it as BT.601 in limited range.
    pub fn filters(&self) -> String {
        let flags = "scale=flags=bilinear+accurate_rnd+full_chroma_int";
        let from = self.matrix.map_or(String::new(), |matrix| format!(":in_color_matrix={matrix}"));
        let (format, onto_black) =
            if self.has_alpha { ("yuva444p", ",premultiply=inplace=1,format=yuv444p") } else { ("yuv444p", "") };
        format!(
            "{flags}{},format={format},{flags}{from}:out_color_matrix=bt601:out_range=limited,format={format}{onto_black}",
            self.siting
        )
    }
}

/// Runs ffmpeg; `None` if it is not installed. A file that it cannot read gets facts, too: decoding reports the better
/// reason.
///
/// # Errors
/// [`Error::Io`] if it cannot be run.
pub(super) fn run(input: &mut Input) -> Result<Option<Facts>> {
    let path = input.path().to_path_buf();
    let mut command = command(input, "info", None)?;
    command.args(["-c", "copy", "-frames:v", MOST_FRAMES, "-f", "framecrc", "pipe:1"]);
    let Some((mut child, mut messages)) = spawn(command, &path)? else { return Ok(None) };
    let times = Times::read(child.stdout.take().expect("its output is piped"));
    child.wait().map_err(Error::io("cannot run ffmpeg on", &path))?;
    let messages = messages.all();
    let line =
        messages.lines().find(|line| line.contains("Stream #") && line.contains(": Video: ")).unwrap_or_default();
    let description = Description::parse(line);
    // WebM keeps alpha in a separate stream.
    let is_apart = messages.lines().any(|line| line.trim_start().starts_with("alpha_mode") && line.ends_with(": 1"));
    let decoder = ALPHA_DECODERS.into_iter().find(|(codec, _)| is_apart && description.codec == *codec);
    let is_meant = |height| !description.has_matrix && description.is_yuv && is_high_definition(height);
    Ok(Some(Facts {
        refusal: refusal(&messages),
        rate: times.rate().or(description.rate).unwrap_or_default(),
        warning: description.tags.warning(),
        decoder: decoder.map(|(_, decoder)| decoder),
        has_alpha: description.has_alpha || decoder.is_some(),
        siting: description.siting(rotation(&messages)),
        matrix: description.height.filter(|&height| is_meant(height)).map(|_| "bt709"),
    }))
}

/// Why the file that ffmpeg said this of must not be decoded. Whoever writes a playlist chooses which files of this machine become
/// frames. Only ffmpeg knows what it takes for one: it passes over other data before the first words.
fn refusal(messages: &str) -> Option<&'static str> {
    let mut formats =
        messages.lines().filter_map(|line| line.strip_prefix("Input #0, ")?.split_once(", from ")).peekable();
    if formats.peek().is_none() {
        return (messages.len() as u64 >= KEPT).then_some("it has too many faults to tell its format");
    }
    let playlist = formats.any(|(names, _)| names.split(',').any(|name| PLAYLISTS.contains(&name)));
    playlist.then_some("it is a list of other files; name the video itself")
}

/// Times of the frames of a stream.
#[derive(Default)]
struct Times {
    /// The length of a tick in seconds, as a fraction.
    tick: (u64, u64),
    frames: u64,
    /// The first and the last time.
    span: Option<(i64, i64)>,
}

impl Times {
    /// Reads a list of packets. A line holds stream, decoding time, presentation time, duration, size, checksum and
    /// perhaps flags; a line `#tb 0: 1/1000` before them gives the tick.
    fn read(list: ChildStdout) -> Self {
        let mut times = Self::default();
        for line in BufReader::new(list).lines().map_while(std::result::Result::ok) {
            match line.strip_prefix("#tb 0:") {
                Some(tick) => times.tick = fraction(tick).unwrap_or_default(),
                None => drop(times.add(&line)),
            }
        }
        times
    }

    /// Adds a packet; `None` if the line is not a packet, or the packet is decoded but not shown.
    fn add(&mut self, line: &str) -> Option<()> {
        /// The flag of a frame that an edit list omits.
        const DISCARD: u32 = 4;
        let mut fields = line.split(',').map(str::trim);
        let time: i64 = fields.nth(2)?.parse().ok()?;
        let flags = fields.find_map(|field| u32::from_str_radix(field.strip_prefix("F=0x")?, 16).ok());
        if flags.is_some_and(|flags| flags & DISCARD != 0) || time == i64::MIN {
            return None;
        }
        self.frames += 1;
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
        Some(())
    }

    fn rate(&self) -> Option<FrameRate> {
        let (first, last) = self.span?;
        let (seconds, ticks) = self.tick;
        FrameRate::of_times(self.frames - 1, last.abs_diff(first), (ticks, seconds)).ok()
    }
}

/// ffmpeg's description of a stream, such as `Video: vp9 (Profile 0), yuv420p(tv, bt709), 64x64 [SAR 1:1 DAR 1:1], 24
/// fps`.
struct Description<'a> {
    codec: &'a str,
    has_alpha: bool,
    is_yuv: bool,
    /// Whether chroma has half the columns and half the rows.
    is_halved: bool,
    /// Whether chroma lies on the left luma sample of two, not between them.
    is_left: bool,
    has_matrix: bool,
    tags: Tags,
    height: Option<usize>,
    rate: Option<FrameRate>,
}

impl<'a> Description<'a> {
    fn parse(line: &'a str) -> Self {
        let (_, line) = line.split_once(": Video: ").unwrap_or_default();
        let fields = fields(line);
        let (format, colours) = fields.get(1).map_or(("", ""), |field| field.split_once('(').unwrap_or((field, "")));
        let codec = line.split([' ', ',']).next().unwrap_or_default();
        let is = |names: &[&str]| names.iter().any(|name| format.starts_with(name));
        // Space, primaries and transfer; one word if all three are equal.
        let known = |name: &&str| colours.contains(name);
        let point = |names: &[(&str, u32)]| names.iter().find(|(name, _)| known(name)).map(|&(_, point)| point);
        let mut tags = Tags::NONE;
        tags.transfer = point(&[("smpte2084", 16), ("arib-std-b67", 18)]).unwrap_or(tags.transfer);
        tags.primaries = point(&[("bt2020", 9)]).unwrap_or(tags.primaries);
        let spaces = ["bt709", "bt470bg", "smpte170m", "smpte240m", "fcc", "ycgco", "bt2020", "gbr", "ictcp"];
        let space =
            |word: &str| word.split('/').next().is_some_and(|word| spaces.iter().any(|name| word.starts_with(name)));
        let size = fields.iter().find_map(|field| {
            let (width, height) = field.split_whitespace().next()?.split_once('x')?;
            width.parse::<usize>().ok().and(height.parse().ok())
        });
        let rate = |field: &&str| FrameRate::from_f64(field.strip_suffix(" fps")?.parse().ok()?).ok();
        Self {
            codec,
            has_alpha: is(&["rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya8", "ya16", "pal8", "ayuv"]),
            is_yuv: is(&["yuv", "nv", "p0"]) && codec != "rawvideo",
            is_halved: format.contains("420") || is(&["nv12", "nv21", "p0"]),
            is_left: !["mjpeg", "mpeg1video", "rawvideo"].contains(&codec),
            has_matrix: colours.split([',', ')']).any(|word| space(word.trim())),
            tags,
            height: size,
            rate: fields.iter().find_map(rate),
        }
    }

    /// The option for the chroma siting: ffmpeg assumes that chroma lies between columns. A rotation moves it from the
    /// left to another side. 128 is between two samples, 256 on the second.
    fn siting(&self, rotation: i32) -> &'static str {
        match (self.is_left, rotation) {
            (true, 0) => ":in_h_chr_pos=0",
            (true, 90) if self.is_halved => ":in_h_chr_pos=128:in_v_chr_pos=256",
            (true, -90) if self.is_halved => ":in_h_chr_pos=128:in_v_chr_pos=0",
            (true, 180 | -180) if self.is_halved => ":in_h_chr_pos=256",
            _ => "",
        }
    }
}

/// Degrees, counter-clockwise, by which ffmpeg rotates frames before all other filters.
fn rotation(messages: &str) -> i32 {
    let told = messages.split_once("displaymatrix: rotation of ").and_then(|(_, rest)| rest.split_once(' '));
    told.and_then(|(degrees, _)| degrees.parse().ok()).map_or(0, |degrees: f64| degrees.round() as i32)
}

/// The fields of a line: text between commas, except commas in brackets.
fn fields(line: &str) -> Vec<&str> {
    let mut depth = 0;
    let is_border = |letter: char| {
        match letter {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    };
    line.split(is_border).map(str::trim).collect()
}

fn fraction(text: &str) -> Option<(u64, u64)> {
    let (above, below) = text.trim().split_once('/')?;
    Some((above.parse().ok()?, below.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_of_streams_are_understood() {
        let hdr = "  Stream #0:0(und): Video: hevc (Main 10) (hvc1 / 0x31637668), yuv420p10le(tv, bt2020nc/bt2020/smpte2084, \
                   progressive), 1920x1080 [SAR 1:1 DAR 16:9], 29.97 fps, 30 tbr, 90k tbn";
        let found = Description::parse(hdr);
        assert!(found.tags.warning().unwrap().contains("PQ"));
        assert_eq!((found.height, found.has_alpha, found.has_matrix), (Some(1080), false, true));
        assert_eq!(found.rate, Some(FrameRate::new(30_000, 1001).unwrap()));
        let plain =
            Description::parse("  Stream #0:0: Video: vp8, yuv420p(progressive), 64x72, SAR 1:1 DAR 1:1, 1k tbr");
        assert_eq!((plain.height, plain.is_yuv, plain.has_matrix, plain.rate), (Some(72), true, false, None));
        let unknown =
            "Stream #0:0: Video: h264 (High), yuv420p(tv, unknown/bt709/bt709, progressive), 1280x720, 24 fps";
        assert!(!Description::parse(unknown).has_matrix);
        assert!(Description::parse("Stream #0:0: Video: png, rgba(pc), 96x64, 25 fps").has_alpha);
        assert_eq!(Description::parse("no stream").height, None);
    }

    #[test]
    fn lists_of_other_files_are_refused() {
        let said = |formats: &str| {
            refusal(&format!("[x @ 0x1] words\nInput #0, {formats}, from 'file:Input #0, hls, from':\n"))
        };
        assert!(PLAYLISTS.iter().all(|format| said(format).unwrap().contains("list of other files")));
        assert_eq!(["matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"].map(said), [None; 2]);
        assert_eq!(refusal("file:a: Invalid data found when processing input\n"), None);
        assert!(refusal(&"Skip ('#words')\n".repeat(5000)).unwrap().contains("too many faults"));
    }

    #[test]
    fn only_frames_that_are_shown_count_as_times() {
        let mut times = Times { tick: (1, 1000), ..Times::default() };
        for line in
            ["0, 0, -80, 40, 9, 0x1, F=0x5", "0, 0, 40, 40, 9, 0x1", "0, 0, 0, 40, 9, 0x1, F=0x0", "#sar 0: 1/1", "x"]
        {
            times.add(line);
        }
        assert_eq!((times.frames, times.span), (2, Some((0, 40))));
        assert_eq!(times.rate(), Some(FrameRate::new(25, 1).unwrap()));
    }
}

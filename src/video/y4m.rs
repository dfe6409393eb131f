//! Y4M: a line of text, then for each frame the line `FRAME` and raw planes.
//!
//! Files are written as 4:4:4 in limited-range BT.601: the format has no flag for the matrix, and ffmpeg assumes
//! BT.601.

use super::stream::{FrameSink, FrameSource, Opened, Stream};
use super::yuv::{self, Colour, Planes, Siting, chroma_size};
use super::{FrameRate, MAX_PIXELS, VideoInfo};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The first bytes of every file.
pub(super) const MAGIC: &[u8] = b"YUV4MPEG2";
/// The longest header line that is read.
pub(super) const MAX_LINE: u64 = 4096;

/// Writes each frame when it arrives.
pub(super) struct Sink {
    out: BufWriter<File>,
    target: PathBuf,
    planes: Vec<u8>,
}

impl Sink {
    pub fn new(file: File, target: &Path, info: VideoInfo) -> Result<Self> {
        let mut out = BufWriter::new(file);
        let VideoInfo { width, height, fps } = info;
        let (rate, scale) = (fps.numerator(), fps.denominator());
        writeln!(out, "YUV4MPEG2 W{width} H{height} F{rate}:{scale} Ip A1:1 C444 XCOLORRANGE=LIMITED")
            .map_err(Error::io("cannot write", target))?;
        Ok(Self { out, target: target.to_path_buf(), planes: Vec::new() })
    }
}

impl FrameSink for Sink {
    /// The header is one line of words, which cannot hold a text.
    fn describe(&mut self, _text: &str) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, rgb: &[u8]) -> Result<()> {
        self.planes.clear();
        self.planes.extend_from_slice(b"FRAME\n");
        yuv::to_444(rgb, Colour::BT601, &mut self.planes);
        self.out.write_all(&self.planes).map_err(Error::io("cannot write", &self.target))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.out.flush().map_err(Error::io("cannot write", &self.target))
    }
}

/// The planes and the chroma siting.
#[derive(Clone, Copy)]
enum Layout {
    Mono,
    Colour { halved: (bool, bool), siting: Siting },
}

impl Layout {
    /// The layout of a header's `C` field; `None` if it is not 8 bits or of an unknown kind.
    fn parse(name: &str) -> Option<Self> {
        let colour = |halved, siting| Some(Self::Colour { halved, siting });
        match name {
            "mono" => Some(Self::Mono),
            "420" | "420jpeg" => colour((true, true), Siting::Centre),
            "420mpeg2" | "420paldv" => colour((true, true), Siting::Left),
            "422" => colour((true, false), Siting::Left),
            "444" => colour((false, false), Siting::Left),
            _ => None,
        }
    }
}

/// Frames of a Y4M file, or of ffmpeg's output.
pub(super) struct Source<R> {
    input: BufReader<R>,
    path: PathBuf,
    info: VideoInfo,
    layout: Layout,
    colour: Colour,
    done: usize,
    planes: Vec<u8>,
}

/// Reads the header.
///
/// # Errors
/// [`Error::Media`] if it is damaged, [`Error::Io`] if it cannot be read.
pub(super) fn open<R: Read + 'static>(input: R, path: &Path) -> Result<Opened> {
    open_at(input, path, None)
}

/// As [`open`], but a `known` rate replaces the rate in the header.
pub(super) fn open_at<R: Read + 'static>(input: R, path: &Path, known: Option<FrameRate>) -> Result<Opened> {
    let mut input = BufReader::new(input);
    let line = read_line(&mut input, path)?.unwrap_or_default();
    let bad = |problem: String| Error::media(path, format!("damaged Y4M header: {problem}"));
    let mut fields = line.split_ascii_whitespace();
    if fields.next().map(str::as_bytes) != Some(MAGIC) {
        return Err(bad(format!("expected YUV4MPEG2, found {line:?}")));
    }
    let (mut width, mut height, mut fps, mut aspect) = (0, 0, FrameRate::default(), (1, 1));
    let (mut chroma, mut colour) = ("420", Colour::BT601);
    for field in fields {
        let value = field.get(1..).unwrap_or_default();
        match field.as_bytes()[0] {
            b'W' => width = value.parse().map_err(|_| bad(format!("width {value:?}")))?,
            b'H' => height = value.parse().map_err(|_| bad(format!("height {value:?}")))?,
            // 0:0 is "unknown".
            b'F' if value != "0:0" && known.is_none() => {
                let rate: Result<FrameRate> = value.replace(':', "/").parse();
                fps = rate.map_err(|_| bad(format!("frame rate {value:?}")))?.simple();
            }
            b'C' => chroma = value,
            b'A' => {
                let parts = value.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                aspect = parts.ok_or_else(|| bad(format!("pixel aspect {value:?}")))?;
            }
            b'X' if value == "COLORRANGE=FULL" => colour.full_range = true,
            _ => {}
        }
    }
    if !(1..=MAX_PIXELS).contains(&usize::checked_mul(width, height).unwrap_or(0)) {
        return Err(bad(format!("frames of {width}x{height}; at most 8192x8192 can be read")));
    }
    let Some(layout) = Layout::parse(chroma) else {
        return Ok(Opened::NotHandled(format!(
            "Y4M with pixels of kind C{chroma}, which is not 8-bit 4:2:0, 4:2:2, 4:4:4 or mono"
        )));
    };
    let info = VideoInfo { width, height, fps: known.unwrap_or(fps) };
    let source = Source { input, path: path.to_path_buf(), info, layout, colour, done: 0, planes: Vec::new() };
    Ok(Opened::Ready(Stream::new(info, aspect, Box::new(source))))
}

/// A line without its end; `None` at the end of the input.
fn read_line(input: &mut impl BufRead, path: &Path) -> Result<Option<String>> {
    let mut line = Vec::new();
    input.take(MAX_LINE).read_until(b'\n', &mut line).map_err(Error::io("cannot read", path))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(String::from_utf8_lossy(&line).into_owned())),
        Some(_) => Err(Error::media(path, "damaged or truncated Y4M: a header line has no end")),
    }
}

impl<R: Read> FrameSource for Source<R> {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(line) = read_line(&mut self.input, &self.path)? else { return Ok(None) };
        if line != "FRAME" && !line.starts_with("FRAME ") {
            return Err(Error::media(
                &self.path,
                format!("damaged Y4M: frame {} does not begin with FRAME", self.done),
            ));
        }
        let VideoInfo { width, height, .. } = self.info;
        let (halved, siting) = match self.layout {
            Layout::Mono => ((false, false), Siting::Left),
            Layout::Colour { halved, siting } => (halved, siting),
        };
        let (columns, luma) = (chroma_size(width, halved.0), width * height);
        let chroma = columns * chroma_size(height, halved.1);
        let stored = if matches!(self.layout, Layout::Mono) { luma } else { luma + 2 * chroma };
        self.planes.clear();
        // The buffer grows with the bytes that are really there, whatever the header claims.
        let input = &mut self.input;
        input.take(stored as u64).read_to_end(&mut self.planes).map_err(Error::io("cannot read", &self.path))?;
        if self.planes.len() < stored {
            return Err(Error::media(
                &self.path,
                format!("truncated: frame {} has {} of {stored} bytes", self.done, self.planes.len()),
            ));
        }
        self.planes.resize(luma + 2 * chroma, 128);
        let (y, chroma_planes) = self.planes.split_at(luma);
        let (u, v) = chroma_planes.split_at(chroma);
        self.done += 1;
        let planes = Planes { width, height, data: [y, u, v], stride: [width, columns, columns], halved, siting };
        Ok(Some(yuv::to_rgb(&planes, self.colour)))
    }
}

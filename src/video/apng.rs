//! Frames of an animated PNG. The image crate also composes them, but restores the wrong picture after a cleared frame,
//! and does not read 16 bits.

use super::stream::{FrameSource, Stream};
use super::view::Turn;
use super::{FrameRate, MAX_PIXELS, VideoInfo, images};
use crate::error::{Error, Result};
use image::metadata::Orientation;
use png::{BlendOp, DecodingError, DisposeOp, FrameControl, Limits, OutputInfo, Reader, Transformations};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// The name of the format in errors.
const NAME: &str = "animated PNG";

struct Source {
    reader: Reader<BufReader<File>>,
    path: PathBuf,
    left: u32,
    /// The composed picture on black, `[H, W, 3]`.
    canvas: Vec<u8>,
    width: usize,
    /// The change to the canvas before the next frame.
    undo: Undo,
}

enum Undo {
    Nothing,
    /// This rectangle becomes black.
    Clear(FrameControl),
    /// The canvas becomes this earlier picture.
    Restore(Vec<u8>),
}

/// Opens a PNG that has an `acTL`.
///
/// # Errors
/// [`Error::Media`] if it is damaged or too large.
pub(super) fn open(input: BufReader<File>, fps: FrameRate, path: &Path) -> Result<Stream> {
    let mut decoder = png::Decoder::new_with_limits(input, Limits { bytes: 8 * MAX_PIXELS });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|problem| damaged(path, &problem))?;
    let info = reader.info();
    let (width, height) = (info.width as usize, info.height as usize);
    if width * height > MAX_PIXELS {
        return Err(images::too_large(path, NAME));
    }
    let left = info.animation_control().map_or(0, |control| control.num_frames);
    let exif = info.exif_metadata.as_ref().and_then(|exif| Orientation::from_exif_chunk(exif));
    let turn = exif.map_or_else(Turn::default, Turn::exif);
    if info.frame_control().is_none() {
        // The first image is for programs that cannot show animations.
        frame(&mut reader, path)?;
    }
    let canvas = vec![0; width * height * 3];
    let source = Source { reader, path: path.to_path_buf(), left, canvas, width, undo: Undo::Nothing };
    Ok(Stream::turned(VideoInfo { width, height, fps }, turn, (1, 1), Box::new(source)))
}

fn damaged(path: &Path, problem: &DecodingError) -> Error {
    match problem {
        DecodingError::LimitsExceeded => images::too_large(path, NAME),
        other => Error::media(path, format!("damaged or truncated {NAME}: {other}")),
    }
}

/// The next image in the file, as stored.
fn frame(reader: &mut Reader<BufReader<File>>, path: &Path) -> Result<(Vec<u8>, OutputInfo)> {
    let bytes = reader.output_buffer_size().ok_or_else(|| images::too_large(path, NAME))?;
    let mut pixels = vec![0; bytes];
    let info = reader.next_frame(&mut pixels).map_err(|problem| damaged(path, &problem))?;
    pixels.truncate(info.buffer_size());
    Ok((pixels, info))
}

impl Source {
    /// Calls `change` with every pixel of a rectangle of the canvas and the pixel's number in the rectangle.
    fn each(&mut self, place: &FrameControl, mut change: impl FnMut(&mut [u8], usize)) {
        let (left, top, width) = (place.x_offset as usize, place.y_offset as usize, place.width as usize);
        let rows = self.canvas.chunks_exact_mut(self.width * 3).skip(top).take(place.height as usize);
        let pixels = rows.flat_map(|row| row.chunks_exact_mut(3).skip(left).take(width));
        pixels.enumerate().for_each(|(index, pixel)| change(pixel, index));
    }

    /// Draws a frame onto the canvas. A colour has the weight of its alpha, the colour below has the remaining weight.
    fn draw(&mut self, place: &FrameControl, pixels: &[u8], channels: usize) {
        let is_over = place.blend_op == BlendOp::Over;
        self.each(place, |shown, index| {
            let Some(stored) = pixels.get(index * channels..(index + 1) * channels) else { return };
            let (colours, alpha) =
                if channels.is_multiple_of(2) { stored.split_at(channels - 1) } else { (stored, &[255][..]) };
            let below = if is_over { 255 - alpha[0] } else { 0 };
            for (channel, shown) in shown.iter_mut().enumerate() {
                let colour = colours[channel % colours.len()];
                *shown = images::weighed(colour, alpha[0]).saturating_add(images::weighed(*shown, below));
            }
        });
    }
}

impl FrameSource for Source {
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        match std::mem::replace(&mut self.undo, Undo::Nothing) {
            Undo::Nothing => {}
            Undo::Clear(place) => self.each(&place, |pixel, _| pixel.fill(0)),
            Undo::Restore(before) => self.canvas = before,
        }
        let (pixels, info) = frame(&mut self.reader, &self.path)?;
        let Some(place) = self.reader.info().frame_control().copied() else {
            return Err(Error::media(&self.path, format!("damaged {NAME}: a frame has no fcTL")));
        };
        self.undo = match place.dispose_op {
            DisposeOp::None => Undo::Nothing,
            DisposeOp::Background => Undo::Clear(place),
            DisposeOp::Previous => Undo::Restore(self.canvas.clone()),
        };
        self.draw(&place, &pixels, info.color_type.samples());
        Ok(Some(self.canvas.clone()))
    }
}

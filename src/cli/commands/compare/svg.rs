//! Draws PSNR and SSIM over the frames, and below them the worst frame of both clips and its differences.

use super::axis::Axis;
use crate::cli::quality::Quality;
use crate::cli::svg::{Category, embedded, escaped, head};
use osp::Result;
use osp::video::{Clip, VideoInfo, png_bytes};

/// What is drawn.
pub struct Picture<'a> {
    /// The names of A and B.
    pub names: [String; 2],
    /// A and B.
    pub clips: [&'a Clip; 2],
    pub psnr: &'a Quality,
    pub ssim: &'a Quality,
    /// The index of the worst frame.
    pub worst: usize,
}

/// Width of everything below the head, and the room around it.
const WIDTH: f64 = 1080.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 30.0;
const HEAD: f64 = 74.0;
/// Height of a curve's panel, and the room above it for its title and below it for the axis of frames.
const TALL: f64 = 190.0;
const ABOVE: f64 = 34.0;
const BELOW: f64 = 52.0;
/// Room between the three images, and below them.
const GAP: f64 = 24.0;
/// The most that an image takes in height.
const TALLEST: f64 = 420.0;
/// The most frames whose values have a dot each.
const DOTS: usize = 100;
/// The most characters of a name.
const NAME: usize = 24;

const PSNR: Category = (&[], "PSNR", "#3b7dd8");
const SSIM: Category = (&[], "SSIM", "#2e9e6b");
const WORST: Category = (&[], "the frame of the lowest PSNR", "#c94f4f");
const INFINITE: Category = (&[], "infinite PSNR (equal frames), drawn at the top edge", "#9aa5b1");

/// A curve over the frames.
struct Panel<'a> {
    title: String,
    unit: &'static str,
    colour: &'static str,
    values: &'a [f64],
    axis: Axis,
    worst: Option<usize>,
}

impl Picture<'_> {
    /// The picture.
    pub fn draw(&self) -> Result<String> {
        let infinite = |value: &f64| value.is_infinite();
        let (some, all) = (self.psnr.frames.iter().any(infinite), self.psnr.frames.iter().all(infinite));
        let marks: &[Category] = match (some, all) {
            (false, _) => &[WORST],
            (true, false) => &[WORST, INFINITE],
            (true, true) => &[INFINITE],
        };
        let legend = [&[PSNR, SSIM][..], marks].concat();
        let images = HEAD + 2.0 * (ABOVE + TALL + BELOW) + ABOVE;
        let size = [LEFT + WIDTH + RIGHT, images + self.image_size()[1] + GAP];
        let mut svg = head(&self.title(), size, LEFT, &legend);
        for (index, panel) in self.panels().iter().enumerate() {
            panel.draw(HEAD + (ABOVE + TALL + BELOW) * index as f64 + ABOVE, &mut svg);
        }
        self.images(images, &mut svg)?;
        Ok(svg + "</svg>\n")
    }

    fn title(&self) -> String {
        let [Clip { frames, height, width, .. }, _] = self.clips;
        let [a, b] = [0, 1].map(|index| short(&self.names[index]));
        let frames = if *frames == 1 { "1 frame".to_owned() } else { format!("{frames} frames") };
        format!("{a} (A) and {b} (B): {frames} of {height}x{width}")
    }

    fn panels(&self) -> [Panel<'_>; 2] {
        let (psnr, ssim, worst) = (&self.psnr, &self.ssim, self.worst);
        let differs = psnr.frames[worst].is_finite().then_some(worst);
        let decibels = |value: f64| if value.is_finite() { format!("{value:.2} dB") } else { "infinite".to_owned() };
        let title = |name: &str, text: &dyn Fn(f64) -> String, quality: &Quality| {
            let of_worst = differs.map(|worst| format!(", {} in frame {worst}", text(quality.frames[worst])));
            format!("{name}: {} over all frames{}", text(quality.overall), of_worst.unwrap_or_default())
        };
        [
            Panel {
                title: title("PSNR", &decibels, psnr),
                unit: "PSNR in dB",
                colour: PSNR.2,
                values: &psnr.frames,
                axis: psnr_axis(&psnr.frames),
                worst: differs,
            },
            Panel {
                title: title("SSIM", &|value| format!("{value:.4}"), ssim),
                unit: "SSIM",
                colour: SSIM.2,
                values: &ssim.frames,
                axis: axis(&ssim.frames, 0.001).at_least(2),
                worst: differs,
            },
        ]
    }

    /// Width and height of an image of a frame in the picture.
    fn image_size(&self) -> [f64; 2] {
        let [width, height] = [self.clips[0].width, self.clips[0].height].map(|side| side as f64);
        let scale = ((WIDTH - 2.0 * GAP) / 3.0 / width).min(TALLEST / height);
        [width * scale, height * scale]
    }

    /// The worst frame of A, of B, and their differences, side by side.
    fn images(&self, top: f64, svg: &mut String) -> Result<()> {
        let info = self.clips[0].info();
        let [a, b] = self.clips.map(|clip| clip.frame(self.worst));
        let (differences, factor) = amplified(a, b);
        let [of_a, of_b] = [0, 1].map(|index| {
            let mark = ["A", "B"][index];
            format!("{mark}: {}, frame {}", short(&self.names[index]), self.worst)
        });
        let of_both = match factor {
            None => "|A − B|: no difference".to_owned(),
            Some(factor) => format!("|A − B| × {factor}"),
        };
        for (index, (rgb, text)) in [(a, of_a), (b, of_b), (&differences, of_both)].into_iter().enumerate() {
            let x = LEFT + index as f64 * ((WIDTH - 2.0 * GAP) / 3.0 + GAP);
            *svg += &format!("<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"15\">{}</text>\n", top - 10.0, escaped(&text));
            *svg += &self.image([x, top], &png_bytes(rgb, info)?);
        }
        Ok(())
    }

    /// An image with its left upper corner here. Small frames show their pixels as squares.
    fn image(&self, [x, y]: [f64; 2], png: &[u8]) -> String {
        let [width, height] = self.image_size();
        let VideoInfo { width: pixels, .. } = self.clips[0].info();
        let squares = if width > pixels as f64 { " style=\"image-rendering:pixelated\"" } else { "" };
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        format!("<image {place}{squares} href=\"{}\"/>\n<rect {place} fill=\"none\" stroke=\"#333\"/>\n", embedded(png))
    }
}

impl Panel<'_> {
    fn draw(&self, top: f64, svg: &mut String) {
        *svg += &format!("<text x=\"{LEFT}\" y=\"{}\" font-size=\"15\">{}</text>\n", top - 10.0, escaped(&self.title));
        self.axes(top, svg);
        let at = |frame: usize| [self.x(frame), top + TALL * (1.0 - self.axis.place(self.values[frame]))];
        let points = (0..self.values.len()).map(at).map(|[x, y]| format!("{x:.1},{y:.1}"));
        let points = points.collect::<Vec<_>>().join(" ");
        let colour = self.colour;
        *svg += &format!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n");
        let few = self.values.len() <= DOTS;
        for frame in (0..self.values.len()).filter(|&frame| few || self.values[frame].is_infinite()) {
            let colour = if self.values[frame].is_infinite() { INFINITE.2 } else { colour };
            *svg += &dot(at(frame), if few { 3.0 } else { 2.0 }, colour);
        }
        if let Some(worst) = self.worst {
            let ([x, y], colour) = (at(worst), WORST.2);
            let line = format!("x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{}\"", top + TALL);
            *svg += &format!("<line {line} stroke=\"{colour}\" stroke-dasharray=\"4 4\"/>\n");
            *svg += &dot([x, y], 4.5, colour);
        }
    }

    /// The frame around the curve, with a line for each tick, values to the left and frames below.
    fn axes(&self, top: f64, svg: &mut String) {
        let (bottom, infinite) = (top + TALL, self.values.iter().any(|value| value.is_infinite()));
        for (value, text) in self.axis.ticks() {
            let place = self.axis.place(value);
            let (y, text) = (bottom - TALL * place, if infinite && place == 1.0 { "∞" } else { &*text });
            let line = format!("x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\"", LEFT + WIDTH);
            *svg += &format!("<line {line} stroke=\"#e4e4e4\"/>\n");
            let (x, y) = (LEFT - 6.0, y + 4.5);
            *svg += &format!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{text}</text>\n");
        }
        let last = self.values.len() - 1;
        for frame in Axis::new(0.0, last as f64, 12, 1.0).ticks().map(|(value, _)| value as usize) {
            if frame <= last {
                let (x, y) = (self.x(frame), bottom + 17.0);
                *svg += &format!("<path d=\"M{x:.1} {bottom}v4\" stroke=\"#333\"/>");
                *svg += &format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{frame}</text>\n");
            }
        }
        let around = format!("x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{TALL}\"");
        *svg += &format!("<rect {around} fill=\"none\" stroke=\"#333\"/>\n");
        let (x, y) = (LEFT + WIDTH / 2.0, bottom + 36.0);
        *svg += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">frame</text>\n");
        let (x, y) = (LEFT - 62.0, top + TALL / 2.0);
        let (turn, unit) = (format!("transform=\"rotate(-90 {x} {y})\""), self.unit);
        *svg += &format!("<text x=\"{x}\" y=\"{y}\" {turn} text-anchor=\"middle\">{unit}</text>\n");
    }

    /// Where a frame is; a single frame is in the middle.
    fn x(&self, frame: usize) -> f64 {
        match self.values.len() - 1 {
            0 => LEFT + WIDTH / 2.0,
            last => LEFT + WIDTH * frame as f64 / last as f64,
        }
    }
}

fn dot([x, y]: [f64; 2], radius: f64, colour: &str) -> String {
    format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>\n")
}

/// An axis for the finite values.
fn axis(values: &[f64], finest: f64) -> Axis {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    Axis::new(finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max), 4, finest)
}

/// An axis for PSNR, whose end stands for infinite values if there are any.
fn psnr_axis(values: &[f64]) -> Axis {
    let infinite = values.iter().filter(|value| value.is_infinite()).count();
    match infinite {
        0 => axis(values, 0.5).at_least(2),
        all if all == values.len() => Axis::new(0.0, 40.0, 4, 0.5).longer(1),
        _ => axis(values, 0.5).at_least(2).longer(1),
    }
}

/// The absolute differences, times a power of two so that they can be seen: the largest of up to 64 that cuts at most one
/// value in a hundred. No factor if there is no difference.
fn amplified(a: &[u8], b: &[u8]) -> (Vec<u8>, Option<u8>) {
    let mut differences: Vec<u8> = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).collect();
    let mut counts = [0; 256];
    differences.iter().for_each(|&difference| counts[usize::from(difference)] += 1);
    if counts[0] == differences.len() {
        return (differences, None);
    }
    let above = |level: u8| counts[usize::from(level) + 1..].iter().sum::<usize>();
    let factors = [64, 32, 16, 8, 4, 2];
    let factor = factors.into_iter().find(|factor| above(255 / factor) * 100 <= differences.len()).unwrap_or(1);
    differences.iter_mut().for_each(|difference| *difference = difference.saturating_mul(factor));
    (differences, Some(factor))
}

/// A name whose middle is left out if it is long.
fn short(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= NAME {
        return name.to_owned();
    }
    let [start, end] = [&letters[..NAME / 2], &letters[letters.len() - NAME / 2 + 1..]].map(String::from_iter);
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_amplified_as_far_as_they_go() {
        assert_eq!(amplified(&[7, 9], &[7, 9]), (vec![0, 0], None));
        assert_eq!(amplified(&[10, 20], &[13, 19]), (vec![192, 64], Some(64)));
        assert_eq!(amplified(&[0, 255], &[200, 255]), (vec![200, 0], Some(1)));
        // One value in a hundred may be cut.
        let mut other = [4; 100];
        other[50] = 200;
        let (differences, factor) = amplified(&[0; 100], &other);
        assert_eq!((differences[0], differences[50], factor), (128, 255, Some(32)));
    }

    #[test]
    fn infinite_values_are_above_all_others() {
        let axis = psnr_axis(&[30.0, f64::INFINITY, 38.0]);
        assert_eq!(axis.place(f64::INFINITY), 1.0);
        assert!(axis.place(38.0) < 0.9 && axis.place(30.0) == 0.0);
        assert_eq!(psnr_axis(&[f64::INFINITY]).place(f64::INFINITY), 1.0);
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(short("clip.mp4"), "clip.mp4");
        assert_eq!(short("a-large-red-circle-moving-right.mp4"), "a-large-red-…g-right.mp4");
    }
}

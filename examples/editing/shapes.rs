//! The demo model's clips: one flat shape that moves over a flat background. What the shape is, and a picture of another one.

use osp::{Clip, Result};

/// The colours of the demo model's shapes.
pub const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [220, 40, 40]),
    ("green", [40, 180, 60]),
    ("blue", [50, 80, 230]),
    ("yellow", [240, 210, 50]),
    ("cyan", [50, 210, 220]),
    ("magenta", [210, 60, 200]),
];

/// The distance of colours from which a pixel is not background.
const CONTRAST: f64 = 60.0;
/// The fewest pixels of a shape.
const AREA: usize = 20;
/// The share of its bounding box that a shape fills at most: a triangle half, a circle π/4.
const FILLS: [(f64, &str); 3] = [(0.64, "triangle"), (0.89, "circle"), (f64::INFINITY, "square")];

/// What a frame shows.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Row and column of its centre.
    pub centre: [f64; 2],
    /// Half the side of its bounding box.
    pub radius: f64,
    pub colour: [f64; 3],
    /// The share of its bounding box that it fills.
    pub fill: f64,
}

/// The colour at the upper left, which is the background's.
pub fn background(clip: &Clip) -> [u8; 3] {
    [clip.pixels[0], clip.pixels[1], clip.pixels[2]]
}

/// Which pixels of a frame belong to its shape: those whose colour is nearer to the shape's than to the background's.
pub fn pixels(clip: &Clip, frame: usize) -> Vec<bool> {
    let back = background(clip);
    let distance = |pixel: &[u8]| {
        pixel.iter().zip(back).map(|(&value, back)| f64::from(value.abs_diff(back)).powi(2)).sum::<f64>().sqrt()
    };
    let contrasts: Vec<f64> = clip.frame(frame).chunks_exact(3).map(distance).collect();
    let mut visible: Vec<f64> = contrasts.iter().copied().filter(|&contrast| contrast > CONTRAST).collect();
    visible.sort_by(f64::total_cmp);
    let of_shape = visible.get(visible.len() * 4 / 5).map_or(CONTRAST, |most| (most / 2.0).max(CONTRAST));
    contrasts.into_iter().map(|contrast| contrast > of_shape).collect()
}

/// The shape of a frame; `None` if there is none.
pub fn shape(clip: &Clip, frame: usize) -> Option<Shape> {
    let inside = pixels(clip, frame);
    let places: Vec<[usize; 2]> = inside
        .iter()
        .enumerate()
        .filter(|(_, inside)| **inside)
        .map(|(i, _)| [i / clip.width, i % clip.width])
        .collect();
    if places.len() < AREA {
        return None;
    }
    let count = places.len() as f64;
    let mean = |axis: usize| places.iter().map(|place| place[axis] as f64).sum::<f64>() / count;
    let side = |axis: usize| {
        let of_axis = || places.iter().map(|place| place[axis]);
        (of_axis().max().unwrap_or(0) - of_axis().min().unwrap_or(0) + 1) as f64
    };
    let channel = |channel: usize| {
        let value =
            |[row, column]: &[usize; 2]| f64::from(clip.frame(frame)[(row * clip.width + column) * 3 + channel]);
        places.iter().map(value).sum::<f64>() / count
    };
    Some(Shape {
        centre: [mean(0), mean(1)],
        radius: side(0).max(side(1)) / 2.0,
        colour: [0, 1, 2].map(channel),
        fill: count / (side(0) * side(1)),
    })
}

impl Shape {
    /// The name of the nearest colour.
    pub fn colour_name(&self) -> &'static str {
        let distance =
            |to: [u8; 3]| -> f64 { self.colour.iter().zip(to).map(|(a, b)| (a - f64::from(b)).powi(2)).sum() };
        COLOURS.into_iter().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1))).expect("there are colours").0
    }
}

/// The kind of shape of most frames, from the median of their fill.
pub fn kind(clip: &Clip) -> &'static str {
    let mut fills: Vec<f64> = (0..clip.frames).filter_map(|frame| Some(shape(clip, frame)?.fill)).collect();
    fills.sort_by(f64::total_cmp);
    let Some(median) = fills.get(fills.len() / 2) else { return "none" };
    FILLS.iter().find(|(most, _)| median < most).expect("the last has no limit").1
}

/// The first frame of `clip`, with another shape where its shape is.
pub fn redrawn(clip: &Clip, kind: &str, colour: &str) -> Result<Clip> {
    let rgb = COLOURS.into_iter().find(|(name, _)| *name == colour).expect("it is a colour of the demo model").1;
    let shape = shape(clip, 0).expect("the first frame shows a shape");
    let [row, column] = shape.centre;
    let drawn = |index: usize| {
        let [down, right] = [(index / clip.width) as f64 - row, (index % clip.width) as f64 - column];
        let (down, right) = (down / shape.radius, right / shape.radius);
        let inside = match kind {
            "circle" => down * down + right * right <= 1.0,
            "square" => down.abs() <= 0.9 && right.abs() <= 0.9,
            _ => (-1.0..=1.0).contains(&down) && right.abs() <= (down + 1.0) / 2.0,
        };
        if inside { rgb } else { background(clip) }
    };
    Clip::new(clip.info(), (0..clip.width * clip.height).flat_map(drawn).collect())
}

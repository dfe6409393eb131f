//! What a clip of the demo model shows, by classical vision: the judge of `tools/demo_model/judge.py`.

use osp::Clip;
use serde_json::Value;

/// Colour, background, shape, size and direction.
pub type Content = [String; 5];

/// The names of a content's parts.
pub const KEYS: [&str; 5] = ["colour", "background", "shape", "size", "direction"];
const COLOURS: [(&str, [f64; 3]); 6] = [
    ("red", [230.0, 30.0, 30.0]),
    ("green", [30.0, 200.0, 50.0]),
    ("blue", [50.0, 90.0, 255.0]),
    ("yellow", [250.0, 220.0, 40.0]),
    ("cyan", [40.0, 220.0, 230.0]),
    ("magenta", [230.0, 50.0, 220.0]),
];
const BACKGROUNDS: [(&str, [f64; 3]); 4] =
    [("black", [0.0; 3]), ("white", [255.0; 3]), ("gray", [128.0; 3]), ("navy", [16.0, 20.0, 90.0])];
/// Distance in RGB from which a pixel is not background.
const LEAST_CONTRAST: f64 = 60.0;
/// Pixels of a shape in a frame.
const LEAST_AREA: usize = 20;
/// Pixels from the first to the last frames.
const LEAST_MOTION: f64 = 5.0;
/// The share of its bounding box that a shape fills at most; ideally a half, π/4 and 1.
const FILLS: [(f64, &str); 3] = [(0.64, "triangle"), (0.89, "circle"), (f64::INFINITY, "square")];
/// The longer side of the bounding box of a small shape, at most.
const SMALL: f64 = 20.5;
const NOTHING: &str = "none";

/// A video that is asked for.
pub struct Asked {
    pub prompt: String,
    pub seed: u64,
    pub content: Content,
}

impl Asked {
    /// What an entry of the list says.
    pub fn of(sample: &Value) -> Option<Self> {
        let content = KEYS.map(|key| sample[key]["asked"].as_str().map(str::to_owned));
        let content: Vec<String> = content.into_iter().collect::<Option<_>>()?;
        Some(Self {
            prompt: sample["prompt"].as_str()?.to_owned(),
            seed: sample["seed"].as_u64()?,
            content: content.try_into().ok()?,
        })
    }
}

/// What a frame shows.
struct Seen {
    /// Row and column.
    centre: [f64; 2],
    /// Of the bounding box.
    sides: [f64; 2],
    area: f64,
    colours: Vec<[f64; 3]>,
}

/// What a clip shows.
pub fn judge(clip: &Clip) -> Content {
    let back = border(clip);
    let background = nearest(back, &BACKGROUNDS);
    let limit = limit(clip, back);
    let seen: Vec<Seen> = (0..clip.frames).filter_map(|frame| see(clip, frame, back, limit)).collect();
    if 2 * seen.len() < clip.frames {
        return [NOTHING, background, NOTHING, NOTHING, NOTHING].map(str::to_owned);
    }
    let fill = median(seen.iter().map(|seen| seen.area / (seen.sides[0] * seen.sides[1])).collect());
    let side = median(seen.iter().map(|seen| seen.sides[0].max(seen.sides[1])).collect());
    let colour =
        [0, 1, 2].map(|c| median(seen.iter().flat_map(|seen| seen.colours.iter().map(move |rgb| rgb[c])).collect()));
    let shape = FILLS.iter().find(|(most, _)| fill < *most).expect("the last has no limit").1;
    let size = if side < SMALL { "small" } else { "large" };
    [nearest(colour, &COLOURS), background, shape, size, direction(&seen)].map(str::to_owned)
}

/// The median colour of the outermost pixels of all frames.
fn border(clip: &Clip) -> [f64; 3] {
    let edges = (0..clip.frames * clip.height * clip.width).filter(|index| {
        let (row, column) = (index / clip.width % clip.height, index % clip.width);
        let corner = (row == 0 || row + 1 == clip.height) as usize + (column == 0 || column + 1 == clip.width) as usize;
        corner > 0
    });
    let edges: Vec<[f64; 3]> = edges.map(|index| rgb(clip, index)).collect();
    [0, 1, 2].map(|channel| median(edges.iter().map(|rgb| rgb[channel]).collect()))
}

fn rgb(clip: &Clip, index: usize) -> [f64; 3] {
    [0, 1, 2].map(|channel| f64::from(clip.pixels[3 * index + channel]))
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn nearest(colour: [f64; 3], palette: &[(&'static str, [f64; 3])]) -> &'static str {
    palette.iter().min_by(|a, b| distance(colour, a.1).total_cmp(&distance(colour, b.1))).expect("it has colours").0
}

/// The distance from the background from which a pixel's colour is nearer to the shape's.
fn limit(clip: &Clip, back: [f64; 3]) -> f64 {
    let all = (0..clip.frames * clip.height * clip.width).map(|index| distance(rgb(clip, index), back));
    let mut visible: Vec<f64> = all.filter(|&contrast| contrast > LEAST_CONTRAST).collect();
    if visible.is_empty() {
        return f64::INFINITY;
    }
    visible.sort_by(f64::total_cmp);
    LEAST_CONTRAST.max(visible[(visible.len() - 1) * 4 / 5] / 2.0)
}

/// The shape in a frame, if it is large enough.
fn see(clip: &Clip, frame: usize, back: [f64; 3], limit: f64) -> Option<Seen> {
    let first = frame * clip.height * clip.width;
    let inside = (0..clip.height * clip.width).filter(|index| distance(rgb(clip, first + index), back) > limit);
    let inside: Vec<usize> = inside.collect();
    if inside.len() < LEAST_AREA {
        return None;
    }
    let places = [0, 1]
        .map(|axis| inside.iter().map(|index| [index / clip.width, index % clip.width][axis]).collect::<Vec<usize>>());
    let side =
        |places: &Vec<usize>| places.iter().max().zip(places.iter().min()).map_or(0, |(most, least)| most - least + 1);
    Some(Seen {
        centre: places.each_ref().map(|places| places.iter().sum::<usize>() as f64 / places.len() as f64),
        sides: places.each_ref().map(|places| side(places) as f64),
        area: inside.len() as f64,
        colours: inside.iter().map(|index| rgb(clip, first + index)).collect(),
    })
}

/// The direction of the centre from the first to the last quarter of the frames.
fn direction(seen: &[Seen]) -> &'static str {
    let quarter = (seen.len() / 4).max(1);
    let mean = |seen: &[Seen], axis: usize| seen.iter().map(|seen| seen.centre[axis]).sum::<f64>() / seen.len() as f64;
    let [down, right] = [0, 1].map(|axis| mean(&seen[seen.len() - quarter..], axis) - mean(&seen[..quarter], axis));
    match (down, right) {
        _ if down.abs().max(right.abs()) < LEAST_MOTION => NOTHING,
        _ if right.abs() > down.abs() => {
            if right > 0.0 {
                "right"
            } else {
                "left"
            }
        }
        _ => {
            if down > 0.0 {
                "down"
            } else {
                "up"
            }
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[half - 1] + values[half]) / 2.0 } else { values[half] }
}

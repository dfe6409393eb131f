//! Draws rooflines: x is FLOPs for each byte of memory, y is FLOPs a second, and each kernel is a circle.

use crate::cli::svg::{CATEGORIES, colour, escaped, head};
use osp::profile::gpus::Gpu;

/// A kernel of a stage, all its calls together.
pub struct Kernel {
    pub name: String,
    pub flops: f64,
    pub bytes: f64,
    /// The least seconds by the data sheet, the sum over all calls.
    pub bound: f64,
    /// Seconds, if they are known.
    pub predicted: Option<f64>,
    pub measured: Option<f64>,
}

/// One stage.
pub struct Panel {
    pub title: String,
    pub kernels: Vec<Kernel>,
}

/// Width and height of a panel's drawing, and the room around it for titles and axes.
const SIZE: [f64; 2] = [1080.0, 400.0];
const LEFT: f64 = 90.0;
const RIGHT: f64 = 30.0;
const HEAD: f64 = 74.0;
const ABOVE: f64 = 34.0;
const BELOW: f64 = 52.0;
/// Powers of ten at the ends of the axes: FLOPs a byte, and TFLOPs a second.
const X: [f64; 2] = [-1.0, 4.0];
const Y: [f64; 2] = [-1.0, 3.25];
/// Kernels of a panel that have a number and a line of text, those with the largest share of the time.
const NAMED: usize = 6;
/// Radius of the circle of a kernel that takes no time, and how much one that takes all of it has more.
const RADIUS: [f64; 2] = [3.0, 15.0];

/// A place on the axes, and the share of the time there.
struct Point {
    x: f64,
    y: f64,
    radius: f64,
}

/// All panels below each other.
pub fn draw(title: &str, gpu: &Gpu, panels: &[Panel]) -> String {
    let (width, one) = (LEFT + SIZE[0] + RIGHT, ABOVE + SIZE[1] + BELOW);
    let height = HEAD + one * panels.len() as f64;
    // Parameters are no kernels.
    let mut svg = head(title, [width, height], LEFT, &CATEGORIES[1..]);
    for (index, panel) in panels.iter().enumerate() {
        panel.draw(gpu, HEAD + one * index as f64 + ABOVE, &mut svg);
    }
    svg + "</svg>\n"
}

/// A place along an axis, from 0 to 1.
fn along([from, to]: [f64; 2], value: f64) -> f64 {
    ((value.log10() - from) / (to - from)).clamp(0.0, 1.0)
}

fn place_x(flops_a_byte: f64) -> f64 {
    LEFT + SIZE[0] * along(X, flops_a_byte)
}

fn place_y(top: f64, flops_a_second: f64) -> f64 {
    top + SIZE[1] * (1.0 - along(Y, flops_a_second / 1e12))
}

fn text(svg: &mut String, [x, y]: [f64; 2], more: &str, words: &str) {
    *svg += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\"{more}>{}</text>\n", escaped(words));
}

fn line(svg: &mut String, [x, y]: [f64; 2], [to_x, to_y]: [f64; 2], style: &str) {
    *svg += &format!("<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\" {style}/>\n");
}

impl Panel {
    fn draw(&self, gpu: &Gpu, top: f64, svg: &mut String) {
        *svg += &format!("<text x=\"{LEFT}\" y=\"{}\" font-size=\"15\">{}</text>\n", top - 10.0, escaped(&self.title));
        axes(top, svg);
        roofs(gpu, top, svg);
        // The largest first, so that smaller circles lie above them.
        let mut kernels: Vec<&Kernel> = self.kernels.iter().filter(|kernel| kernel.seconds().is_some()).collect();
        kernels.sort_by(|a, b| b.seconds().unwrap_or(0.0).total_cmp(&a.seconds().unwrap_or(0.0)));
        let [predicted, measured] = [Kernel::predicted, Kernel::measured]
            .map(|seconds| kernels.iter().filter_map(|kernel| seconds(kernel)).sum::<f64>());
        for kernel in &kernels {
            kernel.circles(top, [predicted, measured], svg);
        }
        let named = kernels.iter().filter(|kernel| kernel.flops > 0.0).take(NAMED);
        for (number, kernel) in (1..).zip(named) {
            kernel.label(top, number, [predicted, measured], svg);
        }
        legend(top, [predicted > 0.0, measured > 0.0], svg);
    }
}

impl Kernel {
    fn predicted(&self) -> Option<f64> {
        self.predicted
    }

    fn measured(&self) -> Option<f64> {
        self.measured
    }

    /// The measured time, or else the predicted one.
    fn seconds(&self) -> Option<f64> {
        self.measured.or(self.predicted)
    }

    fn point(&self, top: f64, seconds: f64, all: f64) -> Point {
        let [least, more] = RADIUS;
        // The area follows the share of the time, from a circle that can still be seen.
        let radius = least + more * (seconds / all).sqrt();
        Point { x: place_x(self.flops / self.bytes), y: place_y(top, self.flops / seconds), radius }
    }

    /// A hollow circle for a prediction, a full one for a measurement. Kernels without arithmetic have no place.
    fn circles(&self, top: f64, [predicted, measured]: [f64; 2], svg: &mut String) {
        if self.flops <= 0.0 || self.bytes <= 0.0 {
            return;
        }
        let colour = colour(&self.name);
        let styles = [
            (self.predicted, predicted, format!("fill=\"{colour}\" fill-opacity=\"0.12\" stroke=\"{colour}\"")),
            (self.measured, measured, format!("fill=\"{colour}\" fill-opacity=\"0.75\"")),
        ];
        for (seconds, all, style) in styles {
            let Some(seconds) = seconds else { continue };
            let Point { x, y, radius } = self.point(top, seconds, all);
            let title = format!("<title>{}</title>", escaped(&self.name));
            *svg += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" {style}>{title}</circle>\n");
        }
    }

    /// A number in the circle, and what it means in the empty corner above the roofs.
    fn label(&self, top: f64, number: usize, [predicted, measured]: [f64; 2], svg: &mut String) {
        let Some(seconds) = self.seconds() else { return };
        let (all, how) = if self.measured.is_some() { (measured, "measured") } else { (predicted, "predicted") };
        let Point { x, y, .. } = self.point(top, seconds, all);
        text(svg, [x, y + 4.0], " text-anchor=\"middle\" font-size=\"11\"", &number.to_string());
        let [of_time, of_roof] = [seconds / all, self.bound / seconds].map(|share| 100.0 * share);
        let words = format!("{number} {}: {of_time:.1} % of the time, {of_roof:.0} % of the roof ({how})", self.name);
        text(svg, [LEFT + 14.0, top + 22.0 + 18.0 * (number - 1) as f64], "", &words);
    }
}

/// The frame with a line for each power of ten.
fn axes(top: f64, svg: &mut String) {
    let ([width, height], bottom) = (SIZE, top + SIZE[1]);
    let grid = "stroke=\"#ddd\"";
    for power in X[0] as i32..=X[1] as i32 {
        let (value, middle) = (10f64.powi(power), " text-anchor=\"middle\"");
        let x = place_x(value);
        line(svg, [x, top], [x, bottom], grid);
        text(svg, [x, bottom + 17.0], middle, &value.to_string());
    }
    for power in Y[0] as i32..=Y[1] as i32 {
        let value = 10f64.powi(power);
        let y = place_y(top, 1e12 * value);
        line(svg, [LEFT, y], [LEFT + width, y], grid);
        text(svg, [LEFT - 6.0, y + 4.0], " text-anchor=\"end\"", &value.to_string());
    }
    *svg += &format!(
        "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#333\"/>\n"
    );
    let middle = " text-anchor=\"middle\"";
    text(svg, [LEFT + width / 2.0, bottom + 36.0], middle, "FLOPs for each byte of memory");
    let (x, y) = (LEFT - 52.0, top + height / 2.0);
    let turned = format!(" transform=\"rotate(-90 {x} {y})\"{middle}");
    text(svg, [x, y], &turned, "TFLOP/s");
}

/// The roofs of memory and products by the data sheet. They meet at the ridge.
fn roofs(gpu: &Gpu, top: f64, svg: &mut String) {
    let ridge = gpu.flops / gpu.bytes;
    let least = 10f64.powf(X[0]);
    let (corner, style) = ([place_x(ridge), place_y(top, gpu.flops)], "stroke=\"#333\" stroke-width=\"1.5\"");
    line(svg, [LEFT, place_y(top, least * gpu.bytes)], corner, style);
    line(svg, corner, [LEFT + SIZE[0], corner[1]], style);
    let words = format!("{:.0} TFLOP/s, {:.2} TB/s ({})", gpu.flops / 1e12, gpu.bytes / 1e12, gpu.origin);
    text(svg, [LEFT + SIZE[0] - 8.0, corner[1] - 8.0], " text-anchor=\"end\"", &words);
}

/// What the circles mean, in the empty corner below the roofs.
fn legend(top: f64, [predicted, measured]: [bool; 2], svg: &mut String) {
    let (x, mut y) = (LEFT + SIZE[0] - 16.0, top + SIZE[1] - 16.0);
    let mut entry = |shown: bool, style: &str, words: &str| {
        if shown {
            *svg += &format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"6\" {style}/>\n");
            text(svg, [x - 14.0, y + 4.0], " text-anchor=\"end\"", words);
            y -= 20.0;
        }
    };
    entry(predicted, "fill=\"none\" stroke=\"#333\"", "predicted; larger circles take more of the time");
    entry(measured, "fill=\"#333\"", "measured; larger circles take more of the time");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(predicted: Option<f64>, measured: Option<f64>) -> String {
        let gpu = Gpu::named("h100").unwrap();
        let kernel =
            |name: &str, flops| Kernel { name: name.into(), flops, bytes: 1e9, bound: 1e-3, predicted, measured };
        let kernels = vec![kernel("linear_broad_f16", 1e12), kernel("copy_box_f16", 0.0)];
        draw("a < b", gpu, &[Panel { title: "denoise".into(), kernels }])
    }

    #[test]
    fn predicted_and_measured_points_differ() {
        let circles = |svg: &str, style: &str| {
            svg.lines().filter(|line| line.starts_with("<circle ") && line.contains(style)).count()
        };
        // A copy has no arithmetic, and so no place; a kind of points has an entry in the legend if there are any.
        let hollow = "fill-opacity=\"0.12\"";
        let full = "fill-opacity=\"0.75\"";
        for (predicted, measured) in [(Some(2e-3), None), (None, Some(2e-3)), (Some(2e-3), Some(3e-3))] {
            let svg = drawn(predicted, measured);
            let expected = [predicted, measured].map(|seconds| usize::from(seconds.is_some()));
            assert_eq!([hollow, full].map(|style| circles(&svg, style)), expected);
            for (words, seconds) in [("predicted;", predicted), ("measured;", measured)] {
                assert_eq!(svg.contains(words), seconds.is_some(), "{words}");
            }
        }
        let svg = drawn(Some(2e-3), None);
        // Half of the time, which the copy shares.
        assert!(svg.contains("1 linear_broad_f16: 50.0 % of the time, 50 % of the roof (predicted)"), "{svg}");
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn axes_are_logarithmic_and_keep_all_points_inside() {
        assert_eq!([0.1, 10.0, 1e4].map(place_x), [LEFT, LEFT + 0.4 * SIZE[0], LEFT + SIZE[0]]);
        assert_eq!([1e-9, 1e9].map(place_x), [LEFT, LEFT + SIZE[0]]);
        assert!(place_y(0.0, 1e15) < place_y(0.0, 1e13));
    }
}

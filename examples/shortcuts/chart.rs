//! Draws what each way keeps over the evaluations that it makes.

use osp::sampler::SamplerKind;
use std::fmt::Write;

/// A way to sample.
pub struct Point {
    pub sampler: SamplerKind,
    /// What is left out.
    pub kind: &'static str,
    /// Evaluations, and PSNR to the exact run in dB.
    pub at: [f64; 2],
}

const KINDS: [(&str, &str); 6] = [
    ("fewer steps", "#9aa5b1"),
    ("TeaCache", "#3b7dd8"),
    ("MagCache", "#2e9e6b"),
    ("Taylor", "#e07b39"),
    ("guidance", "#b05cc6"),
    ("cache and guidance", "#c94f4f"),
];
/// A panel for each sampler.
const PANEL: [f64; 2] = [460.0, 320.0];
const LEFT: f64 = 60.0;
const ABOVE: f64 = 90.0;
const BELOW: f64 = 60.0;
/// The axes: evaluations and dB.
const EVALUATIONS: f64 = 120.0;
const DECIBELS: [f64; 2] = [10.0, 60.0];

/// The picture, SVG.
pub fn chart(points: &[Point]) -> String {
    let mut samplers: Vec<SamplerKind> = points.iter().map(|point| point.sampler).collect();
    samplers.dedup();
    let size = [samplers.len() as f64 * (LEFT + PANEL[0]) + 20.0, ABOVE + PANEL[1] + BELOW];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"18\">What fewer evaluations keep of the exact run, demo model</text>\n",
        size[0], size[1]
    );
    for (index, (name, colour)) in KINDS.iter().enumerate() {
        let x = LEFT + 150.0 * index as f64;
        text(&mut svg, [x + 12.0, 52.0], "start", name);
        circle(&mut svg, [x, 48.0], colour);
    }
    for (index, sampler) in samplers.into_iter().enumerate() {
        let of_sampler: Vec<&Point> = points.iter().filter(|point| point.sampler == sampler).collect();
        panel(&mut svg, LEFT + index as f64 * (LEFT + PANEL[0]), sampler, &of_sampler);
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, left: f64, sampler: SamplerKind, points: &[&Point]) {
    let place = |[evaluations, decibels]: [f64; 2]| {
        let [low, high] = DECIBELS;
        let up = (decibels.clamp(low, high) - low) / (high - low);
        [left + PANEL[0] * evaluations / EVALUATIONS, ABOVE + PANEL[1] * (1.0 - up)]
    };
    text(svg, [left, ABOVE - 10.0], "start", &format!("{sampler}, 50 steps"));
    for decibels in [10.0, 20.0, 30.0, 40.0, 50.0, 60.0] {
        let [x, y] = place([0.0, decibels]);
        let _ = writeln!(svg, "<path d=\"M{x} {y:.1}h{}\" stroke=\"#ddd\"/>", PANEL[0]);
        text(svg, [x - 6.0, y + 4.0], "end", &format!("{decibels} dB"));
    }
    for evaluations in [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0] {
        let [x, y] = place([evaluations, DECIBELS[0]]);
        text(svg, [x, y + 18.0], "middle", &evaluations.to_string());
    }
    text(svg, [left + PANEL[0] / 2.0, ABOVE + PANEL[1] + 40.0], "middle", "evaluations of the transformer");
    for (kind, colour) in KINDS {
        let mut of_kind: Vec<[f64; 2]> =
            points.iter().filter(|point| point.kind == kind).map(|point| point.at).collect();
        of_kind.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let places: Vec<[f64; 2]> = of_kind.into_iter().map(place).collect();
        // Only ways that differ in one number lie on a line.
        if kind != "guidance" {
            let line: Vec<String> = places.iter().map(|[x, y]| format!("{x:.1} {y:.1}")).collect();
            let _ = writeln!(svg, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\"/>", line.join("L"));
        }
        places.into_iter().for_each(|at| circle(svg, at, colour));
    }
}

fn circle(svg: &mut String, [x, y]: [f64; 2], colour: &str) {
    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
}

fn text(svg: &mut String, [x, y]: [f64; 2], anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

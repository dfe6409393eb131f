//! Draws arenas over time: x is launches, y is offsets, and each buffer is a rectangle.

use crate::cli::svg::{CATEGORIES, colour, escaped, head};
use osp::memory::plan::{MemoryPlan, PlannedBuffer};
use std::ops::Range;

/// One stage.
pub struct Panel<'a> {
    pub title: String,
    pub plan: &'a MemoryPlan,
    /// Launches of the whole stage.
    pub launches: usize,
}

/// Width and height of a panel's drawing, and the room around it for titles and axes.
const SIZE: [f64; 2] = [1080.0, 300.0];
const LEFT: f64 = 90.0;
const RIGHT: f64 = 30.0;
const HEAD: f64 = 74.0;
const ABOVE: f64 = 34.0;
const BELOW: f64 = 52.0;
/// The most buffers of a panel that are not parameters: a file stays below a megabyte.
const MOST: usize = 1500;
/// Buffers of less height are not drawn.
const THINNEST: f64 = 0.25;

/// All panels below each other.
pub fn draw(title: &str, panels: &[Panel<'_>]) -> String {
    let (width, one) = (LEFT + SIZE[0] + RIGHT, ABOVE + SIZE[1] + BELOW);
    let height = HEAD + one * panels.len() as f64;
    let mut svg = head(title, [width, height], LEFT, &CATEGORIES);
    for (index, panel) in panels.iter().enumerate() {
        let top = HEAD + one * index as f64 + ABOVE;
        panel.draw(top, &mut svg);
    }
    svg + "</svg>\n"
}

impl Panel<'_> {
    fn draw(&self, top: f64, svg: &mut String) {
        let shown = self.shown();
        let [width, height] = SIZE;
        let x = |launch: usize| LEFT + width * (launch - shown.start) as f64 / shown.len() as f64;
        let y = |offset: u64| top + height * (1.0 - offset as f64 / self.plan.bytes.max(1) as f64);
        *svg += &format!("<text x=\"{LEFT}\" y=\"{}\" font-size=\"15\">{}</text>\n", top - 10.0, escaped(&self.title));
        *svg += "<g stroke=\"#fff\" stroke-width=\"0.15\">\n";
        for buffer in self.plan.buffers.iter().filter(|buffer| meets(buffer, &shown)) {
            let (from, to) = (buffer.launches.start.max(shown.start), buffer.launches.end.min(shown.end));
            let (high, low) = (y(buffer.offset + buffer.room()), y(buffer.offset));
            if low - high < THINNEST {
                continue;
            }
            let colour = colour(buffer.label);
            let (left, wide, tall) = (x(from), x(to) - x(from), low - high);
            let size = format!("x=\"{left:.1}\" y=\"{high:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\"");
            *svg += &format!("<rect {size} fill=\"{colour}\"/>\n");
        }
        *svg += "</g>\n";
        self.axes(top, &shown, svg);
    }

    /// The frame, with offsets to the left and launches below.
    fn axes(&self, top: f64, shown: &Range<usize>, svg: &mut String) {
        let [width, height] = SIZE;
        let bottom = top + height;
        let frame = format!("x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"");
        *svg += &format!("<rect {frame} fill=\"none\" stroke=\"#333\"/>\n");
        for quarter in 0..=4 {
            let share = f64::from(quarter) / 4.0;
            let gib = share * self.plan.bytes as f64 / (1u64 << 30) as f64;
            let (x, y) = (LEFT - 6.0, bottom - share * height + 4.0);
            *svg += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{gib:.2}</text>\n");
            let launch = shown.start + shown.len() * quarter as usize / 4;
            let (x, y) = (LEFT + share * width, bottom + 17.0);
            *svg += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{launch}</text>\n");
        }
        let all = if shown.len() < self.launches {
            format!("launches around the peak, of {} in all", self.launches)
        } else {
            "launches".to_owned()
        };
        let (x, y) = (LEFT + width / 2.0, bottom + 36.0);
        *svg += &format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{all}</text>\n");
        let (x, y) = (LEFT - 62.0, top + height / 2.0);
        let turn = format!("transform=\"rotate(-90 {x} {y})\"");
        *svg += &format!("<text x=\"{x}\" y=\"{y}\" {turn} text-anchor=\"middle\">offset in GiB</text>\n");
    }

    /// The launches that are drawn: all, or those around the peak until they have [`MOST`] buffers.
    fn shown(&self) -> Range<usize> {
        let buffers = &self.plan.buffers;
        let mut born: Vec<usize> =
            buffers.iter().filter(|buffer| !buffer.weight).map(|buffer| buffer.launches.start).collect();
        born.sort_unstable();
        if born.len() <= MOST {
            return 0..self.launches.max(1);
        }
        let peak = born.partition_point(|&launch| launch < self.plan.peak.launch);
        let first = peak.saturating_sub(MOST / 2).min(born.len() - MOST);
        born[first]..born[first + MOST - 1].max(born[first] + 1)
    }
}

/// Whether a buffer is alive during some of these launches.
fn meets(buffer: &PlannedBuffer, launches: &Range<usize>) -> bool {
    let life = &buffer.launches;
    life.start < launches.end && life.end > launches.start && !life.is_empty()
}

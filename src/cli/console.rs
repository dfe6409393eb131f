//! Prints results to stdout; progress, notices, warnings and errors to stderr.

use super::events::{Clock, Event, Pace};
use super::memory::peak_rss;
use super::summary::Summary;
use super::units::{duration, unit};
use super::{hints, interrupt};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use osp::engine::{Observer, Stage, StagePlan, Warning};
use osp::error::one_line;
use osp::{Error, Result};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The two output streams of the process. As the [`Observer`] of a run, it shows a bar for each stage, and prints a
/// line when the stage is done. If stderr is not a terminal, it prints only the line. With [`Progress::Json`], all that it prints
/// on stderr is [`Event`]s.
pub struct Console {
    json: bool,
    quiet: bool,
    progress: Progress,
    /// Whether stdout was a terminal when the process started.
    terminal: bool,
    stage: Mutex<Option<Running>>,
    summary: Mutex<Summary>,
    /// Warnings that are not repeated.
    said: Mutex<BTreeSet<String>>,
}

/// What stderr holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// Lines for people, and on a terminal bars
    #[default]
    Auto,
    /// One JSON object on each line, and nothing else
    Json,
}

struct Running {
    stage: Stage,
    units: Cell<u64>,
    of: u64,
    start: Instant,
    bar: ProgressBar,
    clock: RefCell<Clock>,
}

/// A colour of the terminal, by its ANSI number.
#[derive(Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl Console {
    /// `json`: results are JSON. `quiet`: stderr gets only errors.
    pub fn new(json: bool, quiet: bool, progress: Progress) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            json,
            quiet,
            progress,
            terminal,
            stage: Mutex::new(None),
            summary: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// Whether results are JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether stderr gets only errors.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// Whether no bars are shown: stderr gets only errors, or events.
    pub fn hides_bars(&self) -> bool {
        self.quiet || self.events()
    }

    /// Whether stderr gets events.
    pub fn events(&self) -> bool {
        self.progress == Progress::Json
    }

    /// Prints an event, if stderr gets events and not only errors.
    pub fn event(&self, event: &Event<'_>) {
        if self.events() && !self.quiet {
            event.print();
        }
    }

    /// Prints one or more lines of results.
    pub fn result(&self, text: impl fmt::Display) -> Result<()> {
        self.above_bar(|| {
            let mut out = io::stdout().lock();
            match writeln!(out, "{text}").and_then(|()| out.flush()) {
                // The reader has closed the pipe (`osp info … | head`), or the terminal is closed: not a failure of
                // ours.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe || self.terminal => Ok(()),
                other => other.map_err(Error::io("cannot write to", "stdout")),
            }
        })
    }

    /// Prints the path of an output: for a program as it is; on a terminal, which its name may have been made to control, without control
    /// characters.
    pub fn path(&self, path: &Path) -> Result<()> {
        let text = path.display().to_string();
        self.result(if self.terminal { one_line(&text) } else { text })
    }

    /// Prints `value` as one line of JSON.
    pub fn json_result(&self, value: &impl Serialize) -> Result<()> {
        self.result(serde_json::to_string(value).expect("records have string keys and plain values"))
    }

    /// Prints a notice.
    pub fn note(&self, text: &str) {
        self.event(&Event::Note { text });
        if !self.hides_bars() {
            self.above_bar(|| say("", text));
        }
    }

    /// Prints a picture of characters.
    pub fn picture(&self, lines: &str) {
        if !self.quiet {
            // A closed stderr does not stop the program.
            self.above_bar(|| drop(io::stderr().lock().write_all(lines.as_bytes())));
        }
    }

    /// Characters in a line of stderr.
    pub fn columns(&self) -> usize {
        terminal_columns().unwrap_or(80)
    }

    /// Prints a warning.
    pub fn warning(&self, text: &str) {
        self.event(&Event::Warning { text });
        if !self.hides_bars() {
            let label = paint("warning: ", Colour::Yellow, io::stderr().is_terminal());
            self.above_bar(|| say(&label, text));
        }
    }

    /// Prints an error that does not end the process.
    pub fn error(&self, text: &str) {
        self.print_error(text, None);
    }

    /// Prints that a video, asked for at `place`, cannot be made.
    pub fn failed(&self, place: &str, error: &Error) {
        self.error(&format!("{place}: {}", hints::error(error)));
    }

    /// Prints the error that ends the process with this exit code. It is the last line.
    pub fn last_error(&self, text: &str, exit_code: u8) {
        self.print_error(text, Some(exit_code));
    }

    fn print_error(&self, text: &str, exit_code: Option<u8>) {
        if self.events() {
            return Event::Error { text, exit_code }.print();
        }
        let label = paint("error: ", Colour::Red, io::stderr().is_terminal());
        self.clear();
        say(&label, text);
    }

    /// `text` in a colour, if stdout is a terminal and colours are not switched off.
    pub fn coloured(&self, text: &str, colour: Colour) -> String {
        paint(text, colour, io::stdout().is_terminal())
    }

    /// Hides the bar while `print` prints.
    fn above_bar<T>(&self, print: impl FnOnce() -> T) -> T {
        match &*self.stage() {
            Some(running) => running.bar.suspend(print),
            None => print(),
        }
    }

    fn stage(&self) -> MutexGuard<'_, Option<Running>> {
        self.stage.lock().expect("no panic while the stage is locked")
    }

    fn summary(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().expect("no panic while the summary is locked")
    }

    /// Prints an event of progress, if one is due.
    fn progress(&self, running: &Running) {
        let (step, of, time) = (running.units.get(), running.of, running.start.elapsed());
        if self.events() && running.clock.borrow_mut().due(time, step >= of) {
            let (stage, bytes) = (running.stage.name(), self.summary().bytes(running.stage));
            self.event(&Event::Progress { stage, step, of, pace: Pace::of(step, of, time), bytes });
        }
    }

    /// Prints what the stages took, if there was work.
    pub fn summarise(&self) {
        // Not locked while something is printed, for which the stage is locked.
        let summary = std::mem::take(&mut *self.summary());
        match self.events() {
            true => self.event(&Event::Summary { stages: summary.stages(), peak_rss_bytes: peak_rss() }),
            false => summary.lines(peak_rss()).iter().for_each(|line| self.note(line)),
        }
    }

    fn clear(&self) -> Option<Running> {
        self.stage().take().inspect(|running| running.bar.finish_and_clear())
    }
}

/// A reference to the console observes a run, because commands share the console.
impl Observer for &Console {
    fn begin(&mut self, stage: Stage, of: u64) {
        let bar = if self.hides_bars() { ProgressBar::hidden() } else { ProgressBar::new(of) };
        self.event(&Event::Begin { stage: stage.name(), of, unit: unit(stage) });
        let (label, unit) = (stage.name(), unit(stage));
        let pace = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            // Formatting into a string cannot fail, and the bar is only decoration.
            let _ = out.write_str(&pace(state.pos(), state.per_sec(), state.eta(), unit));
        };
        let style = ProgressStyle::with_template("{prefix:>8} {bar:32} {pos}/{len}{pace}")
            .expect("the template is well-formed")
            .with_key("pace", pace);
        bar.set_style(style);
        bar.set_prefix(label);
        // It moves at each unit. To move it in between takes a thread, and indicatif panics where the system refuses one.
        bar.tick();
        let (units, clock) = (Cell::new(0), RefCell::default());
        *self.stage() = Some(Running { stage, units, of, start: Instant::now(), bar, clock });
    }

    fn planned(&mut self, stage: Stage, plan: &StagePlan) {
        let Some(rehearsed) = &plan.rehearsed else { return };
        let (name, bytes, savings) = (stage.name(), rehearsed.plan.bytes, plan.savings.to_string());
        self.summary().planned(stage, bytes);
        match self.events() {
            true => self.event(&Event::Plan { stage: name, bytes, savings }),
            false => self.note(&format!("{name}: {} MiB of memory, {savings}", bytes.div_ceil(1 << 20))),
        }
    }

    fn advance(&mut self, units: u64) {
        if let Some(running) = &*self.stage() {
            running.units.set(running.units.get() + units);
            running.bar.inc(units);
            self.progress(running);
        }
    }

    fn end(&mut self) {
        let Some(running) = self.clear() else { return };
        let (label, unit) = (running.stage.name(), unit(running.stage));
        let (count, time) = (running.units.get(), running.start.elapsed());
        let plural = if count == 1 { "" } else { "s" };
        self.summary().done(running.stage, count, time);
        match self.events() {
            true => self.event(&Event::End { stage: label, step: count, seconds: time.as_secs_f64() }),
            false => self.note(&format!("{label}: {count} {unit}{plural} in {}", duration(time))),
        }
    }

    fn warn(&mut self, warning: &Warning) {
        let text = hints::warning(warning);
        // What is true of many videos is said to people once. Events are about the video that is made.
        let of_many = matches!(warning, Warning::Spans { .. } | Warning::OtherLength { .. }) && !self.events();
        if !of_many || self.said.lock().expect("no panic while it is locked").insert(text.clone()) {
            self.warning(&text);
        }
    }

    fn cancelled(&mut self) -> bool {
        interrupt::requested()
    }
}

/// Units per second, or seconds per unit if units are slow, and the time left; empty before the first unit is done.
fn pace(done: u64, per_second: f64, left: Duration, unit: &str) -> String {
    if done == 0 || !per_second.is_normal() {
        return String::new();
    }
    let rate = if per_second >= 1.0 {
        format!("{per_second:.1} {unit}s/s")
    } else {
        format!("{:.1} s/{unit}", 1.0 / per_second)
    };
    format!("  {rate}, {} left", duration(left))
}

/// Colours `text` on a terminal, unless colours are switched off.
fn paint(text: &str, colour: Colour, terminal: bool) -> String {
    if terminal && !colours_are_off() { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
}

/// Whether `NO_COLOR` is set and not empty (no-color.org).
pub fn colours_are_off() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Characters in a line of the terminal that stderr is, if it says so.
#[cfg(unix)]
fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(not(unix))]
fn terminal_columns() -> Option<usize> {
    None
}

/// Prints a line on stderr. A closed stderr (a closed terminal, `2>&1 | head -1`) does not stop the program.
fn say(label: &str, text: &str) {
    let line = format!("osp: {label}{}\n", one_line(text));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_rates_are_seconds_per_unit_and_empty_before_the_first() {
        let left = Duration::from_secs(80);
        assert_eq!(pace(1, 12.34, left, "tile"), "  12.3 tiles/s, 80.0 s left");
        assert_eq!(pace(1, 0.125, left, "step"), "  8.0 s/step, 80.0 s left");
        assert_eq!(pace(0, 0.0, left, "step"), "");
        assert_eq!(pace(1, f64::INFINITY, left, "step"), "");
    }
}

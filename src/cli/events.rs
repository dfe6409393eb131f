//! What stderr holds with `--progress json`: an object on each line.

use schemars::JsonSchema;
use serde::Serialize;
use std::io::Write;
use std::time::Duration;

/// A line of stderr with `--progress json`.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A notice for people.
    Note { text: &'a str },
    /// A problem that does not end the run.
    Warning { text: &'a str },
    /// A failure. With an exit code it ends the run, else others of a list go on.
    Error {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<u8>,
    },
    /// What a stage will need of a GPU's memory.
    Plan { stage: &'static str, bytes: u64, savings: String },
    /// The stages that follow are those of this video.
    Video {
        /// Its index among those that are asked for.
        number: usize,
        output: &'a str,
    },
    /// A stage begins.
    Begin {
        stage: &'static str,
        /// Units of work, each a `unit`: `step`, `block` or `tile`.
        of: u64,
        unit: &'static str,
    },
    /// Units of the stage are done. Not every unit has an event: there are at most twenty a second.
    Progress {
        stage: &'static str,
        step: u64,
        of: u64,
        #[serde(flatten)]
        pace: Pace,
        /// The stage's memory on a GPU.
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// A stage ends.
    End { stage: &'static str, step: u64, seconds: f64 },
    /// What the stages of a run took, when all of them are done.
    Summary { stages: Vec<StageSummary>, peak_rss_bytes: Option<u64> },
    /// A download or a conversion goes on.
    Transfer {
        stage: &'a str,
        bytes: u64,
        of_bytes: u64,
        #[serde(flatten)]
        pace: Pace,
    },
}

/// What a stage took, of all videos of a run.
#[derive(Serialize, JsonSchema)]
pub struct StageSummary {
    pub stage: &'static str,
    /// Units of work.
    pub steps: u64,
    pub unit: &'static str,
    pub seconds: f64,
    /// Its memory on a GPU, the most if it was planned several times.
    pub bytes: Option<u64>,
}

/// How fast something goes, and what is left. Unknown at the beginning.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub struct Pace {
    /// Units, or bytes, per second.
    pub rate: Option<f64>,
    pub seconds_left: Option<f64>,
}

/// The least time between two events of progress.
const LEAST: Duration = Duration::from_millis(50);

impl Pace {
    /// `done` of `all` after `time`.
    pub fn of(done: u64, all: u64, time: Duration) -> Self {
        let rate = Some(done as f64 / time.as_secs_f64()).filter(|rate| rate.is_normal());
        Self { rate, seconds_left: rate.map(|rate| all.saturating_sub(done) as f64 / rate) }
    }
}

/// Says when the next event of progress is due.
#[derive(Default)]
pub struct Clock {
    last: Option<Duration>,
}

impl Clock {
    /// Whether an event is due after `time`. The last one always is.
    pub fn due(&mut self, time: Duration, last: bool) -> bool {
        let due = last || self.last.is_none_or(|before| time.saturating_sub(before) >= LEAST);
        if due {
            self.last = Some(time);
        }
        due
    }
}

impl Event<'_> {
    /// Prints the event on stderr. A closed stderr does not stop the program.
    pub fn print(&self) {
        let line = serde_json::to_string(self).expect("events have a JSON form") + "\n";
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_objects_with_a_name() {
        let json = |event: Event<'_>| serde_json::to_string(&event).unwrap();
        assert_eq!(json(Event::Note { text: "a \"b\"" }), r#"{"event":"note","text":"a \"b\""}"#);
        assert_eq!(json(Event::Error { text: "no", exit_code: None }), r#"{"event":"error","text":"no"}"#);
        let pace = Pace::of(5, 20, Duration::from_secs(2));
        assert_eq!(
            json(Event::Progress { stage: "denoise", step: 5, of: 20, pace, bytes: Some(7) }),
            r#"{"event":"progress","stage":"denoise","step":5,"of":20,"rate":2.5,"seconds_left":6.0,"bytes":7}"#
        );
        let begin = Pace::of(0, 20, Duration::ZERO);
        assert!(begin.rate.is_none() && begin.seconds_left.is_none());
    }

    #[test]
    fn events_of_progress_are_rare_and_the_last_one_comes() {
        let mut clock = Clock::default();
        let due = [(0, false), (10, false), (49, false), (50, false), (60, true)];
        let due = due.map(|(ms, last)| clock.due(Duration::from_millis(ms), last));
        assert_eq!(due, [true, false, false, true, true]);
    }
}

//! Writes records as a trace for Perfetto (<https://ui.perfetto.dev>) and Chrome. Each stage is a track, in which calls
//! follow each other without gaps.

use super::Record;
use serde_json::{Value, json};

/// A stage's name and records.
pub type Track<'a> = (&'a str, &'a [Record]);

/// The trace as JSON. `seconds` gives the length of a record; `kind` says whether lengths are measurements or bounds.
pub fn trace(tracks: &[Track<'_>], kind: &str, seconds: impl Fn(&Record) -> f64) -> Value {
    let mut events = Vec::new();
    let mut start = 0.0;
    for (id, (name, records)) in (1..).zip(tracks) {
        events.push(json!({ "ph": "M", "name": "thread_name", "pid": 1, "tid": id, "args": { "name": name } }));
        for record in *records {
            let microseconds = 1e6 * seconds(record);
            let grid = record.launched.as_ref().map(|launched| launched.grid);
            events.push(json!({
                "ph": "X",
                "name": record.name,
                "cat": kind,
                "pid": 1,
                "tid": id,
                "ts": start,
                "dur": microseconds,
                "args": { "flops": record.flops, "bytes": record.bytes, "grid": grid },
            }));
            start += microseconds;
        }
    }
    json!({ "displayTimeUnit": "ms", "otherData": { "durations": kind }, "traceEvents": events })
}

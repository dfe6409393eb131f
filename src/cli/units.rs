//! Times, bytes and units of work for people.

use osp::engine::Stage;
use std::time::Duration;

/// The name of a stage's unit.
pub fn unit(stage: Stage) -> &'static str {
    match stage {
        Stage::Text => "block",
        Stage::Denoise => "step",
        Stage::Decode | Stage::Encode => "tile",
    }
}

/// A readable time.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..120 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A readable number of bytes.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(duration(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(754)), "12 min 34 s");
        assert_eq!(duration(Duration::from_secs(2 * 3600 + 61)), "2 h 1 min");
    }
}

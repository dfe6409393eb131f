//! What `osp calibrate` measures.

use crate::backend::Backend;
use crate::engine::transfer::host;
use crate::error::Result;

/// A call of the model, measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MeasuredCall {
    pub timestep: f32,
    /// Relative changes of the model's input and of the guided prediction since the call before; not for the first call.
    pub changes: Option<[f64; 2]>,
    /// Mean length of what the blocks add to a token.
    pub magnitude: f64,
}

/// The calls of a run so far, and its last prediction.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub calls: Vec<MeasuredCall>,
    prediction: Vec<f32>,
}

impl Measured {
    /// Adds a call with its prediction. The host waits for the device.
    pub fn add<B: Backend>(
        &mut self,
        backend: &B,
        [timestep, magnitude]: [f64; 2],
        input_change: Option<f64>,
        prediction: &B::Buffer,
    ) -> Result<()> {
        let now = host(backend, prediction)?;
        let changes = input_change.map(|input| [input, relative_change(&self.prediction, &now)]);
        self.prediction = now;
        self.calls.push(MeasuredCall { timestep: timestep as f32, changes, magnitude });
        Ok(())
    }
}

/// The mean length of what the blocks add to a token.
pub(super) struct Magnitude {
    channels: usize,
    before: Vec<f32>,
    sum: f64,
    tokens: usize,
}

impl Magnitude {
    pub fn new(channels: usize) -> Self {
        Self { channels, before: Vec::new(), sum: 0.0, tokens: 0 }
    }

    /// Sees the tokens in front of the blocks, then behind them.
    pub fn see<B: Backend>(&mut self, backend: &B, tokens: &B::Buffer) -> Result<()> {
        let now = host(backend, tokens)?;
        if self.before.is_empty() {
            self.before = now;
            return Ok(());
        }
        let before = std::mem::take(&mut self.before);
        for (now, before) in now.chunks_exact(self.channels).zip(before.chunks_exact(self.channels)) {
            let squares = now.iter().zip(before).map(|(a, b)| f64::from(a - b).powi(2));
            self.sum += squares.sum::<f64>().sqrt();
            self.tokens += 1;
        }
        Ok(())
    }

    /// The mean over all tokens.
    pub fn mean(&self) -> f64 {
        self.sum / self.tokens as f64
    }
}

/// Σ|a − b| / Σ|a|.
fn relative_change(a: &[f32], b: &[f32]) -> f64 {
    let change: f64 = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum();
    change / a.iter().map(|a| f64::from(a.abs())).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    #[test]
    fn the_magnitude_is_the_mean_length_of_what_was_added_to_a_token() {
        let backend = Cpu::new();
        let mut magnitude = Magnitude::new(2);
        let mut see = |values: &[f32]| magnitude.see(&backend, &backend.upload(values).unwrap()).unwrap();
        // Two tokens that get (3, 4) and nothing; then, in another span, one that gets (0, -1).
        see(&[1.0, 1.0, 7.0, 7.0]);
        see(&[4.0, 5.0, 7.0, 7.0]);
        see(&[2.0, 2.0]);
        see(&[2.0, 1.0]);
        assert!((magnitude.mean() - 2.0).abs() < 1e-6, "{}", magnitude.mean());
    }

    #[test]
    fn changes_are_relative_to_the_call_before() {
        let backend = Cpu::new();
        let mut measured = Measured::default();
        let mut add = |input, values: &[f32]| {
            measured.add(&backend, [9.0, 1.0], input, &backend.upload_f32(values).unwrap()).unwrap();
        };
        add(None, &[1.0, -3.0]);
        add(Some(0.25), &[2.0, -3.0]);
        assert_eq!(measured.calls.iter().map(|call| call.changes).collect::<Vec<_>>(), [None, Some([0.25, 0.25])]);
    }
}

//! GroupNorm, SiLU and a convolution, stretch by stretch.

use super::conv::Conv;
use super::features::{Features, Piece};
use super::norm::Norm;
use super::run::CoderRun;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::conv3d::Conv3d;
use crate::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};
use std::ops::Range;

/// A stretch of a normalised video after SiLU, with the earlier frames that a causal kernel still needs in front. It is the input of a
/// convolution; the whole input never exists.
pub(super) struct Normed<'a, B: Backend> {
    norm: &'a Norm<B::Weight>,
    conv: &'a Conv<B::Weight>,
    statistics: B::Buffer,
    stretches: Vec<Range<usize>>,
    /// `[frames, height, width, channels]` of the window
    shape: [usize; 4],
    window: Option<B::Buffer>,
    /// The last frames of the previous stretch.
    tail: Option<B::Buffer>,
}

impl<'a, B: Backend> Normed<'a, B> {
    /// The input of `conv`: `x`, normalised by `norm`.
    pub fn new(
        run: &CoderRun<'_, B>,
        norm: &'a Norm<B::Weight>,
        conv: &'a Conv<B::Weight>,
        x: &mut Features<B>,
    ) -> Result<Self> {
        let statistics = norm.statistics(run.backend, x)?;
        let stretches = x.stretches(run.frames(x.height, x.width));
        let longest = stretches.iter().map(Range::len).max().unwrap_or(0);
        let history = if stretches.len() > 1 { conv.history() } else { 0 };
        let [_, height, width, channels] = x.shape();
        let shape = [history + longest, height, width, channels];
        let window = Some(run.backend.alloc(shape.iter().product())?);
        let tail = match history {
            0 => None,
            frames => Some(run.backend.alloc(frames * height * width * channels)?),
        };
        Ok(Self { norm, conv, statistics, stretches, shape, window, tail })
    }

    /// The stretches in order; each is first normalised, then convolved.
    pub fn stretches(&self) -> Vec<Range<usize>> {
        self.stretches.clone()
    }

    /// Normalises a stretch of `x` into the window. `x` does not need the stretch afterwards.
    pub fn fill(&mut self, run: &CoderRun<'_, B>, x: &Features<B>, stretch: &Range<usize>) -> Result<()> {
        let at = self.history(stretch);
        let window = self.window.as_mut().expect("stretches come in order, each once");
        if let (Some(tail), 1..) = (&self.tail, at) {
            let op = copy_frames(self.shape, at, [at, 0], [self.shape[0], 0]);
            run.backend.copy_box(&op, CopyBoxArgs { x: tail, out: window })?;
        }
        self.norm.norm(run.backend, x, stretch, &self.statistics, true, (window, at))
    }

    /// Convolves the stretch in the window, and adds the same stretch of `other`.
    pub fn convolve(
        &mut self,
        run: &CoderRun<'_, B>,
        stretch: &Range<usize>,
        other: Option<&Features<B>>,
    ) -> Result<Piece<B>> {
        let window = self.window.take().expect("stretches come in order, each once");
        let (start, [frames, height, width, _]) = (self.history(stretch), self.shape);
        let (other, other_frame) = other.map(|other| other.part(stretch)).unzip();
        let op = Conv3d {
            only: Some([start, start + stretch.len()]),
            out_frame: Some(0),
            other_frame,
            ..self.conv.op(frames, height, width)
        };
        let piece = self.conv.piece(run.backend, op, &window, other)?;
        let last = self.stretches.last().is_none_or(|last| last == stretch);
        if !last {
            if let Some(tail) = &mut self.tail {
                let kept = self.conv.history();
                let from = [frames, start + stretch.len() - kept];
                let op = copy_frames(self.shape, kept, from, [kept, 0]);
                run.backend.copy_box(&op, CopyBoxArgs { x: &window, out: tail })?;
            }
            self.window = Some(window);
        }
        Ok(piece)
    }

    /// Frames in front of a stretch in the window; 0 for the first stretch, which the convolution pads.
    fn history(&self, stretch: &Range<usize>) -> usize {
        if stretch.start == 0 { 0 } else { self.conv.history() }
    }
}

/// Copies `count` frames of the window's shape; `from` and `to` are buffers with their number of frames and the first frame.
fn copy_frames([_, height, width, channels]: [usize; 4], count: usize, from: [usize; 2], to: [usize; 2]) -> CopyBox {
    let place = |[frames, at]: [usize; 2]| BoxAt { size: [frames, height, width], origin: [at, 0, 0] };
    CopyBox { extent: [count, height, width], channels, from: place(from), to: place(to) }
}

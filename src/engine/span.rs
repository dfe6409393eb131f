//! Videos longer than the transformer was trained for: it sees spans of a video's latent frames, which overlap.
//!
//! Every call of the model predicts the noise of each span alone, with the positions of a video of that length. Where spans overlap,
//! the prediction fades from the earlier one to the later one (MultiDiffusion, Bar-Tal et al. 2023, in time). The sampler sees one
//! prediction of the whole video, so neighbouring spans agree more with each step.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};
use serde::{Deserialize, Serialize};

/// How the frames of a latent are cut into spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Span {
    /// Latent frames of a span.
    pub frames: usize,
    /// Latent frames that neighbouring spans have in common, at least.
    pub overlap: usize,
}

impl Span {
    /// Spans of `frames` latent frames that overlap by a quarter.
    pub fn of(frames: usize) -> Self {
        Self { frames, overlap: (frames / 4).max(1).min(frames.saturating_sub(1)) }
    }

    /// Checks that spans can cover a video.
    ///
    /// # Errors
    /// [`Error::Usage`] unless they have two frames and advance.
    pub(super) fn validate(self) -> Result<()> {
        let Self { frames, overlap } = self;
        if frames >= 2 && overlap < frames {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "spans of {frames} latent frames that overlap by {overlap} cannot cover a video; give at least 2, and less overlap"
        )))
    }

    /// The first frame of each span of a latent of `all` frames, as evenly as whole frames allow. One span if the latent is not
    /// longer.
    pub(super) fn starts(self, all: usize) -> Vec<usize> {
        let Self { frames, overlap } = self;
        if all <= frames {
            return vec![0];
        }
        let rest = all - frames;
        let steps = rest.div_ceil(frames - overlap);
        (0..=steps).map(|step| (step * rest + steps / 2) / steps).collect()
    }
}

/// How much of a video the transformer sees at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spans {
    /// As many frames as the training videos had.
    #[default]
    Trained,
    /// The whole video.
    Whole,
    /// So many frames of the video.
    Of(usize),
}

/// The buffers of a call's spans.
pub(super) struct SpanBuffers<B: Backend> {
    starts: Vec<usize>,
    frames: usize,
    /// Frames of the whole latent, and elements of one of them.
    all: usize,
    frame_len: usize,
    /// The latent of a span.
    input: B::Buffer,
    /// The predictions of this span and of the one before, for each branch of guidance.
    made: [Vec<B::Buffer>; 2],
}

impl<B: Backend> SpanBuffers<B> {
    /// The buffers of the spans of a latent of `all` frames of `frame_len` elements; `None` if it is a single span.
    pub fn new(backend: &B, span: Option<Span>, all: usize, frame_len: usize, branches: usize) -> Result<Option<Self>> {
        let Some(span) = span.filter(|span| span.frames < all) else { return Ok(None) };
        let len = span.frames * frame_len;
        let outputs = || (0..branches).map(|_| backend.alloc(len)).collect::<Result<Vec<_>>>();
        let (input, made) = (backend.alloc(len)?, [outputs()?, outputs()?]);
        Ok(Some(Self { starts: span.starts(all), frames: span.frames, all, frame_len, input, made }))
    }

    /// Predicts the noise of each span of `latent`, `[all, …]`, by `predict`, and puts the predictions together in `outputs`, one
    /// for each branch.
    pub fn predict(
        &mut self,
        backend: &B,
        mut predict: impl FnMut(&B::Buffer, &mut [B::Buffer]) -> Result<()>,
        latent: &B::Buffer,
        outputs: &mut [B::Buffer],
    ) -> Result<()> {
        let Self { frames, all, frame_len, .. } = *self;
        let mut end = 0;
        let Self { starts, input, made: pair, .. } = self;
        for &start in starts.iter() {
            let [made, before] = pair;
            let (part, whole) = (at(frames, 0), at(all, start));
            let copy = |from, to| CopyBox { extent: [frames, 1, 1], channels: frame_len, from, to };
            backend.copy_box(&copy(whole, part), CopyBoxArgs { x: latent, out: input })?;
            predict(input, &mut made[..outputs.len()])?;
            for (branch, output) in outputs.iter_mut().enumerate() {
                if start > 0 {
                    let blend = end - start;
                    let sides = [1, frames, 1];
                    let op =
                        BlendBox { neighbour: sides, tile: sides, channels: frame_len, axis: BlendAxis::Rows, blend };
                    backend.blend_box(&op, BlendBoxArgs { neighbour: &before[branch], tile: &mut made[branch] })?;
                }
                backend.copy_box(&copy(part, whole), CopyBoxArgs { x: &made[branch], out: output })?;
            }
            end = start + frames;
            pair.swap(0, 1);
        }
        Ok(())
    }

    /// Gives each span of two latents, `[all, …]`, to `each`.
    pub fn each_of_two(
        &mut self,
        backend: &B,
        latents: [&B::Buffer; 2],
        mut each: impl FnMut([&B::Buffer; 2]) -> Result<()>,
    ) -> Result<()> {
        let Self { starts, input, frames, all, frame_len, .. } = self;
        let mut other = backend.alloc(*frames * *frame_len)?;
        for &start in starts.iter() {
            let op =
                CopyBox { extent: [*frames, 1, 1], channels: *frame_len, from: at(*all, start), to: at(*frames, 0) };
            for (part, latent) in [&mut *input, &mut other].into_iter().zip(latents) {
                backend.copy_box(&op, CopyBoxArgs { x: latent, out: part })?;
            }
            each([input, &other])?;
        }
        Ok(())
    }
}

/// The frames from `first` on, of `whole`.
fn at(whole: usize, first: usize) -> BoxAt {
    BoxAt { size: [whole, 1, 1], origin: [first, 0, 0] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_cover_every_frame_and_overlap(frames in 2usize..60, share in 0.0..1.0, all in 1usize..300) {
            let span = Span { frames, overlap: (share * frames as f64) as usize };
            prop_assume!(span.validate().is_ok());
            let starts = span.starts(all);
            prop_assert_eq!(starts[0], 0);
            prop_assert_eq!(starts.last().unwrap() + frames.min(all), all);
            for pair in starts.windows(2) {
                prop_assert!(pair[0] < pair[1] && pair[0] + frames >= pair[1] + span.overlap, "{:?}", starts);
            }
        }
    }

    #[test]
    fn spans_are_even_and_only_as_many_as_needed() {
        assert_eq!(Span::of(56), Span { frames: 56, overlap: 14 });
        assert_eq!(Span::of(56).starts(129), [0, 37, 73]);
        assert_eq!(Span::of(56).starts(56), [0]);
        assert_eq!(Span::of(2).starts(4), [0, 1, 2]);
        assert!(
            Span { frames: 1, overlap: 0 }.validate().is_err() && Span { frames: 9, overlap: 9 }.validate().is_err()
        );
    }
}

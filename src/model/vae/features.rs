//! Videos in feature space, whole or in pieces.

use crate::backend::Backend;
use crate::error::Result;
use crate::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};
use std::collections::VecDeque;
use std::ops::Range;

/// Some frames, `[frames, height, width, channels]`.
pub(super) struct Piece<B: Backend> {
    pub data: B::Buffer,
    pub frames: usize,
    /// The moments of `data` in order, with the frames of each; empty if the layer before did not compute them.
    pub moments: Vec<(B::Buffer, usize)>,
}

/// A video `[frames, height, width, channels]`, in one piece or in several consecutive ones. A piece can be freed as soon as it is no
/// longer needed, so a layer's output takes the room of its input.
pub(super) struct Features<B: Backend> {
    pieces: VecDeque<Piece<B>>,
    /// The first frame of the first piece.
    start: usize,
    pub frames: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl<B: Backend> Features<B> {
    /// A video without pieces.
    pub fn empty([frames, height, width, channels]: [usize; 4]) -> Self {
        Self { pieces: VecDeque::new(), start: 0, frames, height, width, channels }
    }

    /// One piece of unspecified values.
    pub fn alloc(backend: &B, shape: [usize; 4]) -> Result<Self> {
        let data = backend.alloc(shape.iter().product())?;
        Ok(Self::of(Piece { data, frames: shape[0], moments: Vec::new() }, shape))
    }

    /// A video of this piece.
    pub fn of(piece: Piece<B>, shape: [usize; 4]) -> Self {
        let mut video = Self::empty(shape);
        video.push(piece);
        video
    }

    /// Adds the next piece.
    pub fn push(&mut self, piece: Piece<B>) {
        self.pieces.push_back(piece);
    }

    /// `[frames, height, width, channels]`
    pub fn shape(&self) -> [usize; 4] {
        [self.frames, self.height, self.width, self.channels]
    }

    /// Height times width.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// The pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece<B>> {
        self.pieces.iter()
    }

    /// The pieces, to set their moments.
    pub fn pieces_mut(&mut self) -> impl Iterator<Item = &mut Piece<B>> {
        self.pieces.iter_mut()
    }

    /// Whether there is one piece.
    pub fn is_whole(&self) -> bool {
        self.pieces.len() == 1
    }

    /// All frames of a video in one piece.
    pub fn data(&self) -> &B::Buffer {
        assert!(self.is_whole(), "only a video in one piece has its frames in one buffer");
        &self.pieces[0].data
    }

    /// All frames of a video in one piece, to change them; its moments are dropped.
    pub fn data_mut(&mut self) -> &mut B::Buffer {
        assert!(self.is_whole(), "only a video in one piece has its frames in one buffer");
        self.pieces[0].moments.clear();
        &mut self.pieces[0].data
    }

    /// The stretches that a layer takes together: the pieces, or `most` frames each of a video in one piece.
    pub fn stretches(&self, most: usize) -> Vec<Range<usize>> {
        if self.is_whole() {
            return stretches(self.frames, most);
        }
        let ends = self.pieces.iter().scan(self.start, |end, piece| {
            *end += piece.frames;
            Some(*end - piece.frames..*end)
        });
        ends.collect()
    }

    /// The buffer of a stretch, and the first frame of the stretch in it.
    pub fn part(&self, stretch: &Range<usize>) -> (&B::Buffer, usize) {
        let mut start = self.start;
        for piece in &self.pieces {
            if stretch.end <= start + piece.frames {
                return (&piece.data, stretch.start - start);
            }
            start += piece.frames;
        }
        panic!("frames {stretch:?} of {} are in no piece", self.frames);
    }

    /// Takes the first piece if all of its frames are before `end`.
    pub fn take_before(&mut self, end: usize) -> Option<Piece<B>> {
        let next = self.start + self.pieces.front()?.frames;
        if next > end {
            return None;
        }
        self.start = next;
        self.pieces.pop_front()
    }

    /// Frees all pieces whose frames are before `end`.
    pub fn give_up_before(&mut self, end: usize) {
        while self.take_before(end).is_some() {}
    }

    /// The video in one piece. Each piece is freed after it was copied.
    pub fn whole(mut self, backend: &B) -> Result<Self> {
        if self.is_whole() {
            return Ok(self);
        }
        let mut whole = Self::alloc(backend, self.shape())?;
        let mut at = 0;
        while let Some(piece) = self.take_before(self.frames) {
            whole.copy_in(backend, &piece, at)?;
            at += piece.frames;
            whole.pieces[0].moments.extend(piece.moments);
        }
        Ok(whole)
    }

    /// A copy in one buffer.
    pub fn copied(&self, backend: &B) -> Result<B::Buffer> {
        let mut whole = Self::alloc(backend, self.shape())?;
        let mut at = self.start;
        for piece in &self.pieces {
            whole.copy_in(backend, piece, at)?;
            at += piece.frames;
        }
        let piece = whole.take_before(self.frames).expect("it was just made");
        Ok(piece.data)
    }

    fn copy_in(&mut self, backend: &B, piece: &Piece<B>, at: usize) -> Result<()> {
        let [frames, height, width, channels] = self.shape();
        let extent = [piece.frames, height, width];
        let to = BoxAt { size: [frames, height, width], origin: [at, 0, 0] };
        let op = CopyBox { extent, channels, from: BoxAt::whole(extent), to };
        backend.copy_box(&op, CopyBoxArgs { x: &piece.data, out: &mut self.pieces[0].data })
    }
}

/// Splits `frames` into stretches of `most` frames.
pub(super) fn stretches(frames: usize, most: usize) -> Vec<Range<usize>> {
    (0..frames).step_by(most.min(frames).max(1)).map(|start| start..frames.min(start.saturating_add(most))).collect()
}

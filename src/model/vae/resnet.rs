//! Residual blocks.

use super::config::{ConvClass, ResnetClass};
use super::conv::Conv;
use super::features::Features;
use super::norm::Norm;
use super::normed::Normed;
use super::pointwise::Pointwise;
use super::run::CoderRun;
use crate::backend::Backend;
use crate::error::Result;
use crate::weights::Scope;

/// GroupNorm–SiLU–convolution twice, plus the input.
#[derive(Debug)]
pub(super) struct Resnet<W> {
    norm1: Norm<W>,
    conv1: Conv<W>,
    norm2: Norm<W>,
    conv2: Conv<W>,
    /// The shortcut's convolution, if the number of channels changes.
    nin_shortcut: Option<Pointwise<W>>,
}

impl<W> Resnet<W> {
    /// The block `scope`.
    pub fn build(mut scope: Scope<'_, W>, class: ResnetClass, cin: usize, cout: usize) -> Result<Self> {
        let (per_frame, conv) = match class {
            ResnetClass::ResnetBlock3D => (false, ConvClass::CausalConv3d),
            ResnetClass::ResnetBlock2D => (true, ConvClass::Conv2d),
        };
        let nin_shortcut = match (cin == cout, conv) {
            (true, _) => None,
            (false, ConvClass::CausalConv3d) => Some(Pointwise::build(scope.at("nin_shortcut.conv"), cin, cout, 5)?),
            (false, ConvClass::Conv2d) => Some(Pointwise::build(scope.at("nin_shortcut"), cin, cout, 4)?),
        };
        Ok(Self {
            norm1: Norm::build(scope.at("norm1"), cin, per_frame)?,
            conv1: Conv::build(scope.at("conv1"), conv, cin, cout, 3)?,
            norm2: Norm::build(scope.at("norm2"), cout, per_frame)?,
            conv2: Conv::build(scope.at("conv2"), conv, cout, cout, 3)?,
            nin_shortcut,
        })
    }

    /// Takes the input by value, to free its memory as soon as it is no longer needed.
    pub fn run<B: Backend<Weight = W>>(&self, run: &CoderRun<'_, B>, mut x: Features<B>) -> Result<Features<B>> {
        // If frames do not depend on each other, each piece passes through the whole block before the next piece.
        if !self.norm1.is_per_frame() || x.is_whole() {
            return self.run_together(run, x);
        }
        let [frames, height, width, _] = x.shape();
        let mut out = Features::empty([frames, height, width, self.conv2.cout]);
        while let Some(piece) = x.take_before(frames) {
            let shape = [piece.frames, height, width, x.channels];
            let mut made = self.run_together(run, Features::of(piece, shape))?;
            while let Some(piece) = made.take_before(made.frames) {
                out.push(piece);
            }
        }
        Ok(out)
    }

    fn run_together<B: Backend<Weight = W>>(&self, run: &CoderRun<'_, B>, mut x: Features<B>) -> Result<Features<B>> {
        let (positions, shape) = (x.positions(), [x.frames, x.height, x.width, self.conv2.cout]);
        let mut shortcut = Features::empty(shape);
        let mut h = Features::empty(shape);
        let mut normed = Normed::new(run, &self.norm1, &self.conv1, &mut x)?;
        for stretch in normed.stretches() {
            normed.fill(run, &x, &stretch)?;
            h.push(normed.convolve(run, &stretch, None)?);
            let Some(layer) = &self.nin_shortcut else { continue };
            // The output of the piece takes no more room than the piece.
            while let Some(piece) = x.take_before(stretch.end) {
                shortcut.push(layer.run(run.backend, &piece, positions)?);
            }
        }
        drop(normed);
        let mut other = if self.nin_shortcut.is_some() { shortcut } else { x };
        let mut out = Features::empty(shape);
        let mut normed = Normed::new(run, &self.norm2, &self.conv2, &mut h)?;
        for stretch in normed.stretches() {
            normed.fill(run, &h, &stretch)?;
            h.give_up_before(stretch.end);
            out.push(normed.convolve(run, &stretch, Some(&other))?);
            other.give_up_before(stretch.end);
        }
        Ok(out)
    }
}

//! Halves and doubles the frame rate between levels.

use super::attention::AttentionBlock;
use super::config::{AttentionClass, ResnetClass, TemporalDownsample, TemporalUpsample};
use super::conv::Conv;
use super::features::Features;
use super::norm::Norm;
use super::resnet::Resnet;
use super::run::CoderRun;
use crate::backend::Backend;
use crate::error::Result;
use crate::ops::conv3d::Conv3d;
use crate::ops::resample::{TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs};
use crate::ops::tile::{BoxAt, CopyBox, CopyBoxArgs};
use crate::weights::Scope;

/// A convolution mixed with the plain resampling by α = sigmoid(mix_factor): `α·plain + (1 − α)·conv`.
#[derive(Debug)]
struct Mixed<W> {
    /// `[1]`
    mix_factor: W,
    conv: Conv<W>,
}

impl<W> Mixed<W> {
    fn op<B: Backend>(&self, x: &Features<B>) -> Conv3d {
        self.conv.op(x.frames, x.height, x.width)
    }

    fn scales<B: Backend<Weight = W>>(&self, backend: &B, op: Conv3d) -> Result<Conv3d> {
        let factor = backend.weight_values(&self.mix_factor)?[0];
        let alpha = 1.0 / (1.0 + (-factor).exp());
        Ok(Conv3d { other_scale: alpha, conv_scale: 1.0 - alpha, ..op })
    }
}

/// The blocks in front of the convolution in the "Adv" classes.
#[derive(Debug)]
struct Refine<W> {
    res: Resnet<W>,
    attn: AttentionBlock<W>,
}

impl<W> Refine<W> {
    fn build(scope: &mut Scope<'_, W>, channels: usize) -> Result<Self> {
        let res = Resnet::build(scope.at("res"), ResnetClass::ResnetBlock3D, channels, channels)?;
        let attn = AttentionBlock::build(scope.at("attn"), AttentionClass::TemporalAttnBlock, channels)?;
        Ok(Self { res, attn })
    }

    fn run<B: Backend<Weight = W>>(&self, run: &CoderRun<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let x = self.res.run(run, x)?;
        self.attn.run(run.backend, x.whole(run.backend)?)
    }
}

/// Halves the frame rate.
#[derive(Debug)]
pub(super) struct TimeDownsample<W> {
    mixed: Option<Mixed<W>>,
    refine: Option<Refine<W>>,
}

impl<W> TimeDownsample<W> {
    /// The block `scope`, or none.
    pub fn build(mut scope: Scope<'_, W>, class: TemporalDownsample, channels: usize) -> Result<Option<Self>> {
        let (mix, adv) = match class {
            TemporalDownsample::None => return Ok(None),
            TemporalDownsample::TimeDownsample2x => (false, false),
            TemporalDownsample::TimeDownsampleRes2x => (true, false),
            TemporalDownsample::TimeDownsampleResAdv2x => (true, true),
        };
        let mixed = match mix {
            true => Some(Mixed {
                mix_factor: scope.plain("mix_factor", &[1])?,
                conv: Conv::build_3d(scope.at("conv"), channels, channels, [3; 3])?,
            }),
            false => None,
        };
        let refine = if adv { Some(Refine::build(&mut scope, channels)?) } else { None };
        Ok(Some(Self { mixed, refine }))
    }

    /// T frames, in one piece → ceil(T/2).
    pub fn run<B: Backend<Weight = W>>(&self, run: &CoderRun<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let backend = run.backend;
        let frame_len = x.height * x.width * x.channels;
        let op = TimeAverage { frames: x.frames, frame_len };
        let mut average = Features::alloc(backend, [op.out_frames(), x.height, x.width, x.channels])?;
        backend.time_average(&op, TimeAverageArgs { x: x.data(), out: average.data_mut() })?;
        let Some(mixed) = &self.mixed else { return Ok(average) };
        let strided = |x: &Features<B>| mixed.scales(backend, Conv3d { stride: [2, 1], ..mixed.op(x) });
        let Some(refine) = &self.refine else {
            // The class repeats two frames in front; these are the causal padding of the convolution.
            return mixed.conv.run_as(run, strided(&x)?, &x, Some(&average));
        };
        // Here the repeated frames pass through the refining blocks, and the convolution is not padded. A causal convolution of
        // stride 2 gives the same frames after one more, which is dropped.
        let refined = refine.run(run, pad_front(backend, &x, 2)?)?;
        let average = pad_front(backend, &average, 1)?;
        let out = mixed.conv.run_as(run, strided(&refined)?, &refined, Some(&average))?;
        drop_first(backend, &out.whole(backend)?)
    }
}

/// Doubles the frame rate.
#[derive(Debug)]
pub(super) struct TimeUpsample<W> {
    mixed: Option<Mixed<W>>,
    refine: Option<Refine<W>>,
}

impl<W> TimeUpsample<W> {
    /// The block `scope`, or none.
    pub fn build(mut scope: Scope<'_, W>, class: TemporalUpsample, channels: usize) -> Result<Option<Self>> {
        let (mix, adv) = match class {
            TemporalUpsample::None => return Ok(None),
            TemporalUpsample::TimeUpsample2x => (false, false),
            TemporalUpsample::TimeUpsampleRes2x => (true, false),
            TemporalUpsample::TimeUpsampleResAdv2x => (true, true),
        };
        let mixed = match mix {
            true => Some(Mixed {
                mix_factor: scope.plain("mix_factor", &[1])?,
                conv: Conv::build_3d(scope.at("conv.conv"), channels, channels, [3; 3])?,
            }),
            false => None,
        };
        let refine = if adv { Some(Refine::build(&mut scope, channels)?) } else { None };
        if adv {
            // The class stores a norm that it never applies; a checkpoint must still hold it.
            Norm::build(scope.at("norm"), channels, false)?;
        }
        Ok(Some(Self { mixed, refine }))
    }

    /// T frames, in one piece → 2T − 1.
    pub fn run<B: Backend<Weight = W>>(&self, run: &CoderRun<'_, B>, x: Features<B>) -> Result<Features<B>> {
        let backend = run.backend;
        let op = TimeDouble { frames: x.frames, frame_len: x.height * x.width * x.channels };
        let mut doubled = Features::alloc(backend, [op.out_frames(), x.height, x.width, x.channels])?;
        backend.time_double(&op, TimeDoubleArgs { x: x.data(), out: doubled.data_mut() })?;
        drop(x);
        let Some(mixed) = &self.mixed else { return Ok(doubled) };
        let op = mixed.scales(backend, mixed.op(&doubled))?;
        match &self.refine {
            None => mixed.conv.run_as(run, op, &doubled, Some(&doubled)),
            Some(refine) => {
                let refined = refine.run(run, pad_front(backend, &doubled, 0)?)?;
                mixed.conv.run_as(run, op, &refined, Some(&doubled))
            }
        }
    }
}

/// A copy of `x` with its first frame repeated `count` times in front.
fn pad_front<B: Backend>(backend: &B, x: &Features<B>, count: usize) -> Result<Features<B>> {
    let [frames, height, width, channels] = x.shape();
    let mut out = Features::alloc(backend, [frames + count, height, width, channels])?;
    let size = [frames + count, height, width];
    let mut copy = |extent: usize, to: usize| {
        let from = BoxAt::whole([frames, height, width]);
        let op = CopyBox { extent: [extent, height, width], channels, from, to: BoxAt { size, origin: [to, 0, 0] } };
        backend.copy_box(&op, CopyBoxArgs { x: x.data(), out: out.data_mut() })
    };
    for frame in 0..count {
        copy(1, frame)?;
    }
    copy(frames, count)?;
    Ok(out)
}

/// A copy of `x` without its first frame.
fn drop_first<B: Backend>(backend: &B, x: &Features<B>) -> Result<Features<B>> {
    let [frames, height, width, channels] = x.shape();
    let mut out = Features::alloc(backend, [frames - 1, height, width, channels])?;
    let extent = [frames - 1, height, width];
    let from = BoxAt { size: [frames, height, width], origin: [1, 0, 0] };
    let op = CopyBox { extent, channels, from, to: BoxAt::whole(extent) };
    backend.copy_box(&op, CopyBoxArgs { x: x.data(), out: out.data_mut() })?;
    Ok(out)
}

//! Golden folders of the transformer: each case is evaluated with its norms computed separately, then with them folded,
//! as they are in large videos.

use super::golden::{Bf16Error, Golden};
use super::{Check, open, relative_l2, tolerance};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::layout::{nchw_from_nhwc, nhwc_from_nchw};
use crate::model::latte::{Latte, LatteConfig, Norms, Shape};
use crate::ops::DeviceBuffer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    masked: bool,
    temporal: bool,
    timestep: f32,
    torch_bf16_rel_error: Bf16Error,
}

/// The ways to compute norms, with their names in a report. `OSP_NORMS` asks for one of them.
const WAYS: [(Norms, &str); 2] = [(Norms::Separate, ""), (Norms::Folded, ", norms folded")];

pub(super) fn run<B: Backend>(backend: &B, check: &mut Check<'_>) -> Result<()> {
    let component = open::<LatteConfig>(check.folder)?;
    let mut model = Latte::load(&component.config, &*component.source, backend, check.savings)?;
    let (golden, asked) = (Golden::open(check.folder)?, Norms::of_environment()?);
    for (name, case) in golden.cases() {
        let case: Case = golden.read(name, case)?;
        let expected = golden.floats(name, "output", 5)?.to_f32();
        let allowed = check.precision.relative(tolerance::TRANSFORMER, case.torch_bf16_rel_error.of("output"));
        for (norms, said) in WAYS.into_iter().filter(|(norms, _)| [Norms::Cheapest, *norms].contains(&asked)) {
            model = model.with_norms(norms);
            let found = evaluate(backend, &model, &golden, name, &case, check.savings.branches_in_turn)?;
            check.at_most(format!("{name}.output{said}"), "relative L2", relative_l2(&found, &expected), allowed);
        }
    }
    Ok(())
}

/// The output (N, out_channels, T, H, W) of one case, with its samples as one batch or one after the other.
fn evaluate<B: Backend>(
    backend: &B,
    model: &Latte<'_, B::Weight>,
    golden: &Golden,
    name: &str,
    case: &Case,
    in_turn: bool,
) -> Result<Vec<f32>> {
    let c = model.config();
    let latent = golden.floats(name, "latent", 5)?;
    let caption = golden.floats(name, "caption", 3)?;
    let [samples, channels, frames, height, width] = latent.shape[..] else { panic!("read with five axes") };
    if caption.shape[0] != samples || channels != c.in_channels || caption.shape[2] != c.caption_channels {
        let found = format!("latent {:?} and caption {:?} do not fit the config", latent.shape, caption.shape);
        return Err(Error::Usage(format!("case {name}: {found}")));
    }
    let tokens = caption.shape[1];
    let mask: Option<Vec<bool>> = match case.masked {
        true => Some(golden.integers(name, "caption_mask")?.into_iter().map(|kept| kept != 0).collect()),
        false => None,
    };
    if let Some(mask) = mask.as_ref().filter(|mask| mask.len() != samples * tokens) {
        let problem = format!("{} mask values for {samples} captions of {tokens} tokens", mask.len());
        return Err(Error::Usage(format!("case {name}: {problem}")));
    }
    let (rows, columns) = (height / c.patch_size, width / c.patch_size);
    let count = if in_turn { 1 } else { samples };
    let shape = Shape { samples: count, batch: samples, frames, rows, columns, temporal: case.temporal };
    let positions = frames * height * width;
    let (latents, captions) = (latent.to_f32(), caption.to_f32());
    let mut found = Vec::new();
    for first in (0..samples).step_by(count) {
        let some = |values: &[f32], len: usize| values[first * len..][..count * len].to_vec();
        let captions = backend.upload(&some(&captions, tokens * c.caption_channels))?;
        let mask = mask.as_ref().map(|mask| &mask[first * tokens..][..count * tokens]);
        let prepared = model.prepare(backend, shape, &captions, tokens, mask)?;
        let turned: Vec<f32> = some(&latents, channels * positions)
            .chunks_exact(channels * positions)
            .flat_map(|sample| nhwc_from_nchw(sample, channels))
            .collect();
        let mut out = backend.alloc(count * positions * c.out_channels)?;
        model.forward(backend, &prepared, &backend.upload(&turned)?, case.timestep, c.out_channels, &mut out)?;
        let mut values = vec![0.0; out.len()];
        backend.download(&out, 0, &mut values)?;
        found.extend(values);
    }
    Ok(found
        .chunks_exact(positions * c.out_channels)
        .flat_map(|sample| nchw_from_nhwc(sample, c.out_channels))
        .collect())
}

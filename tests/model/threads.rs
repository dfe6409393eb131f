//! Models give the same bits with any number of threads.

use super::{component, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::model::latte::{Latte, LatteConfig, Shape};
use osp::model::vae::{ClipValues, CoderInput, Frames, VaeConfig, VaeDecoder};
use osp::weights::Scope;
use osp::weights::load::Loader;

/// Runs `work` in pools of one, two and five threads; the results must be equal bit by bit.
fn same_bits(work: impl Fn() -> Vec<f32> + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let values = pool.install(&work);
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = run(1);
    assert!(one == run(2), "two threads differ from one");
    assert!(one == run(5), "five threads differ from one");
}

#[test]
fn the_decoder_gives_the_same_bits_with_any_number_of_threads() {
    let component = component::<VaeConfig>("vae_v110");
    same_bits(|| {
        let backend = Cpu::new();
        let decoder =
            VaeDecoder::build(&component.config, Scope::root(&mut Loader::new(&*component.source, &backend))).unwrap();
        let latent = values(3 * 4 * 5 * 4);
        let size = [3, 4, 5];
        let latent = CoderInput { size, values: ClipValues::Floats(&latent), tiling: None, frames_at_a_time: None };
        let mut out = Vec::new();
        let emit = &mut |frames: Frames<'_, Cpu>| {
            out.resize(frames.frames * frames.height * frames.width * frames.channels, 0.0);
            backend.download(frames.data, 0, &mut out)
        };
        decoder.decode(&backend, &latent, &mut || Ok(()), emit).unwrap();
        out
    });
}

#[test]
fn the_transformer_gives_the_same_bits_with_any_number_of_threads() {
    let component = component::<LatteConfig>("latte_rope");
    same_bits(|| {
        let backend = Cpu::new();
        let model =
            Latte::build(&component.config, Scope::root(&mut Loader::new(&*component.source, &backend))).unwrap();
        let shape = Shape { samples: 2, batch: 2, frames: 5, rows: 4, columns: 6, temporal: true };
        let captions = backend.upload(&values(2 * 7 * 64)).unwrap();
        let prepared = model.prepare(&backend, shape, &captions, 7, None).unwrap();
        let latent = backend.upload(&values(2 * 5 * 8 * 12 * 4)).unwrap();
        let mut out = backend.alloc(2 * 5 * 8 * 12 * 4).unwrap();
        model.forward(&backend, &prepared, &latent, 321.0, 4, &mut out).unwrap();
        let mut values = vec![0.0; 2 * 5 * 8 * 12 * 4];
        backend.download(&out, 0, &mut values).unwrap();
        values
    });
}

//! Temporal rollback tiling keeps one window in memory at a time.

use super::{component, values};
use osp::cpu::Cpu;
use osp::model::vae::tiling::Tiling;
use osp::model::vae::{ClipValues, CoderInput, Frames, VaeConfig, VaeDecoder};
use osp::ops::DeviceBuffer;
use osp::weights::Scope;
use osp::weights::load::Loader;

const TILING: Tiling = Tiling { sample_size: 32, sample_frames: 9, overlap: 0.25 };

/// Decodes a latent of `size`; returns the number of frames and the peak of bytes.
fn decode(size: [usize; 3]) -> (usize, usize) {
    let backend = Cpu::new();
    let component = component::<VaeConfig>("vae_v110");
    let decoder =
        VaeDecoder::build(&component.config, Scope::root(&mut Loader::new(&*component.source, &backend))).unwrap();
    let latent = values(size.iter().product::<usize>() * 4);
    let latent = CoderInput { size, values: ClipValues::Floats(&latent), tiling: Some(TILING), frames_at_a_time: None };
    let mut count = 0;
    let emit = &mut |frames: Frames<'_, Cpu>| {
        assert_eq!(frames.data.len(), frames.frames * 8 * size[1] * 8 * size[2] * 3);
        count += frames.frames - frames.skip;
        Ok(())
    };
    decoder.decode(&backend, &latent, &mut || Ok(()), emit).unwrap();
    (count, backend.peak_bytes())
}

#[test]
fn a_long_video_needs_no_more_memory_than_one_window_and_its_latent() {
    let (frames, window) = decode([3, 4, 4]);
    assert_eq!(frames, 9);
    let (frames, long) = decode([56, 4, 4]);
    assert_eq!(frames, 221);
    // Tiles that wait to be cross-faded, the window that they form, and the latent of the whole video.
    let frame = 32 * 32 * 3;
    let extra = 4 * (9 * frame + 2 * 9 * frame / 4 + 56 * 4 * 4 * 4);
    assert!(long <= window + extra, "{long} bytes for 221 frames, {window} for 9");
}

#[test]
fn a_wide_video_needs_no_more_memory_than_one_tile_and_its_output() {
    let (_, tile) = decode([3, 4, 4]);
    let (frames, wide) = decode([3, 10, 13]);
    assert_eq!(frames, 9);
    let output = 4 * 9 * 80 * 104 * 3;
    let strips = 4 * 9 * 8 * (104 + 4 * 8 + 32) * 3;
    let latent = 4 * 3 * 10 * 13 * 4;
    assert!(wide <= tile + output + strips + latent, "{wide} bytes for 80x104 pixels, {tile} for 32x32");
}

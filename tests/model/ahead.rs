//! The decoder waits for the consumer of its frames only when the consumer is two windows behind.

use osp::Model;
use osp::cpu::Cpu;
use osp::engine::{Observer, Stage, Windowed, decode};
use osp::memory::MemoryOptions;
use osp::model::vae::tiling::Tiling;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Sends a message when a tile is done.
struct Tiles(Sender<()>);

impl Observer for Tiles {
    fn begin(&mut self, _: Stage, units: u64) {
        assert_eq!(units, 3, "three windows of one tile");
    }

    fn advance(&mut self, _: u64) {
        // The receiver may be gone.
        let _ = self.0.send(());
    }
}

#[test]
fn three_windows_are_decoded_before_a_frame_is_consumed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pipeline");
    let model = Model::open(&folder).unwrap();
    // 33, 32 and 32 frames.
    let tiling = Tiling { sample_size: 32, sample_frames: 33, overlap: 0.25 };
    let clip = Windowed { size: [25, 2, 2], tiling: Some(tiling) };
    let (sender, tiles): (_, Receiver<()>) = channel();
    let mut count = 0;
    let taken = &mut count;
    let mut take = move |rgb: &[u8]| {
        if *taken == 0 {
            for _ in 0..3 {
                tiles.recv_timeout(Duration::from_secs(120)).expect("the device continues meanwhile");
            }
        }
        *taken += 1;
        assert_eq!(rgb.len(), 16 * 16 * 3);
        Ok(())
    };
    let latent = vec![0.1; 25 * 2 * 2 * 4];
    decode(&Cpu::new(), &model, &latent, clip, MemoryOptions::NONE, &mut Tiles(sender), &mut take).unwrap();
    assert_eq!(count, 97);
}

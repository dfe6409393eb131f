//! `kernels/tile.cu`: boxes by vectors and ragged, into videos whose rest must stay.

use super::policy::{body, exactly_the_cpu, half_values, host};
use osp::backend::Backend;
use osp::cuda::Half;
use osp::ops::tile::{BoxAt, CopyBox};

#[derive(Clone, Copy, Debug)]
struct Case(CopyBox);

impl Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        let Self(op) = self;
        let video = |seed, size: [usize; 3]| {
            backend.upload(&half_values(seed, size.iter().product::<usize>() * op.channels, half)).unwrap()
        };
        let x = video(1, op.from.size);
        let mut out = video(2, op.to.size);
        backend.copy_box(op, &x, &mut out).unwrap();
        host(backend, &out)
    }
}

body!(Case);

fn check(extent: [usize; 3], channels: usize, from: ([usize; 3], [usize; 3]), to: ([usize; 3], [usize; 3])) {
    let at = |(size, origin)| BoxAt { size, origin };
    let case = Case(CopyBox { extent, channels, from: at(from), to: at(to) });
    exactly_the_cpu(&case, &case);
}

#[test]
fn copy_box_moves_vectors() {
    for channels in [8, 144, 1152] {
        check([2, 3, 2], channels, ([3, 4, 5], [1, 1, 3]), ([2, 5, 3], [0, 2, 1]));
    }
    // Pixels of less than a vector, but lines that are whole vectors.
    check([1, 5, 6], 4, ([2, 7, 8], [1, 2, 2]), ([1, 5, 10], [0, 0, 4]));
    check([1; 3], 4096, ([2, 1, 1], [1, 0, 0]), ([1; 3], [0; 3]));
}

#[test]
fn copy_box_moves_single_elements() {
    for channels in [1, 7, 1153] {
        check([2, 3, 2], channels, ([3, 4, 5], [1, 1, 3]), ([2, 5, 3], [0, 2, 1]));
    }
    // One of the lines, the starts and the strides of either video is not whole vectors.
    check([1, 5, 5], 4, ([2, 7, 8], [1, 2, 2]), ([1, 5, 10], [0, 0, 4]));
    check([1, 5, 6], 4, ([2, 7, 8], [1, 2, 1]), ([1, 5, 10], [0, 0, 4]));
    check([1, 5, 6], 4, ([2, 7, 8], [1, 2, 2]), ([1, 5, 10], [0, 0, 3]));
    check([1, 5, 6], 4, ([2, 7, 9], [0, 2, 2]), ([1, 5, 10], [0, 0, 4]));
    check([1, 5, 6], 4, ([2, 7, 8], [1, 2, 2]), ([1, 5, 11], [0, 0, 4]));
}

#[test]
fn an_empty_box_changes_nothing() {
    check([0, 3, 2], 8, ([1, 3, 2], [0; 3]), ([1, 3, 2], [0; 3]));
}

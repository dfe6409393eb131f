//! The matrix products of `linear`, `conv3d` and `attention`: register tiles, written once over a vector type and
//! compiled for AVX-512, for AVX2 with FMA, and for all other processors. The choice is made at run time.
//!
//! c (+)= a·b. a is not packed: its rows have any stride and are contiguous along k. b is packed into *panels*: blocks
//! of columns two registers wide, each `[k][width]`. The last panel is one register wide if that suffices, and is
//! padded with zeros (see [`Micro::panels`]). A tile keeps the sums of up to 14 rows by one panel in registers over the
//! whole of k. k may be a list of [`Segment`]s: the taps of a convolution are segments of k at different places of its
//! input.
//!
//! The sum of an element of c runs over k in order, whatever the size of its tile, so results do not depend on how the
//! work was divided into rows or columns. They do depend on where callers divide k (each call adds one sum to c), and
//! in the last bits on the processor.

mod pack;
pub(super) use pack::pack_panel;
mod simd;

use simd::{Args, Portable, Simd};

/// A range of k: `len` elements from `a` on in every row of the left operand, and `len` rows from `b` on of the right
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Elements from the start of a row.
    pub(super) a: usize,
    /// Steps of k from the start of a panel.
    pub(super) b: usize,
    /// Steps of k.
    pub(super) len: usize,
}

/// Rows in memory: row r starts at `r·stride`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    /// The values, from the first row on.
    pub(super) values: &'a [f32],
    /// Elements from one row to the next.
    pub(super) stride: usize,
}

/// Rows to write.
#[derive(Debug)]
pub(super) struct RowsMut<'a> {
    /// The values, from the first row on.
    pub(super) values: &'a mut [f32],
    /// Elements from one row to the next.
    pub(super) stride: usize,
}

/// A block of columns of a packed operand. In an operand of k rows, it starts at element `column·k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Panel {
    /// First column.
    pub(super) column: usize,
    /// Columns that exist; the rest are zeros.
    pub(super) columns: usize,
    /// Columns in memory.
    pub(super) width: usize,
}

type Kernel = unsafe fn(&Args<'_>);

/// The kernels of one instruction set.
#[derive(Debug)]
pub(super) struct Micro {
    lanes: usize,
    /// Indexed by rows − 1, then by registers of a panel − 1.
    tiles: &'static [[Kernel; 2]],
    /// Indexed by rows − 1, then by columns − 1.
    dots: &'static [[Kernel; DOT_COLUMNS]],
}

/// The most columns of b of an inner-product kernel.
pub(super) const DOT_COLUMNS: usize = 4;

impl Micro {
    /// The fastest kernels that this processor can run.
    pub(super) fn best() -> &'static Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            return &AVX512;
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return &AVX2;
        }
        &PORTABLE
    }

    /// Columns of a whole panel.
    pub(super) fn width(&self) -> usize {
        2 * self.lanes
    }

    /// Rows of the largest tile.
    pub(super) fn tile_rows(&self) -> usize {
        self.tiles.len()
    }

    /// Rows of the largest inner-product kernel.
    pub(super) fn dot_rows(&self) -> usize {
        self.dots.len()
    }

    /// The number of packed columns for `n` columns. Times k, it is the number of elements.
    pub(super) fn packed_columns(&self, n: usize) -> usize {
        n.next_multiple_of(self.lanes)
    }

    /// The panels of `n` columns.
    pub(super) fn panels(&self, n: usize) -> impl Iterator<Item = Panel> + use<> {
        let (width, lanes) = (self.width(), self.lanes);
        (0..n).step_by(width).map(move |column| {
            let columns = width.min(n - column);
            Panel { column, columns, width: if columns <= lanes { lanes } else { width } }
        })
    }

    /// c (+)= a·b for up to [`Self::tile_rows`] `rows` and one panel of `width` columns, all of which are written.
    pub(super) fn tile(
        &self,
        [rows, width]: [usize; 2],
        a: Rows<'_>,
        b: &[f32],
        segments: &[Segment],
        c: RowsMut<'_>,
        accumulate: bool,
    ) {
        assert!(c.values.len() >= last(rows, c.stride).saturating_add(width), "the tile lies in c");
        let last_row = last(rows, a.stride);
        for segment in segments {
            let end = segment.a.saturating_add(segment.len);
            assert!(a.values.len() >= end.saturating_add(last_row), "a has the rows");
            assert!(b.len() >= segment.b.saturating_add(segment.len).saturating_mul(width), "b has the segment");
        }
        let args = Args {
            a: a.values.as_ptr(),
            lda: a.stride,
            b: b.as_ptr(),
            ldb: 0,
            segments,
            c: c.values.as_mut_ptr(),
            ldc: c.stride,
            accumulate,
        };
        // SAFETY: `best` chose kernels that the processor can run. The kernel at this index has `rows` rows, and the
        // lanes of its registers are at most `width`; for this tile, the lengths of a, b and c are checked above. c is
        // borrowed mutably, so it shares no element with a and b.
        unsafe { self.tiles[rows - 1][width / self.lanes - 1](&args) }
    }

    /// c (+)= a·bᵀ for up to [`Self::dot_rows`] rows and [`DOT_COLUMNS`] columns. b has a row for each column of c and
    /// is not packed. For results that are too narrow for a panel, and for operands that are read only once.
    pub(super) fn dot(
        &self,
        [rows, columns]: [usize; 2],
        a: Rows<'_>,
        b: Rows<'_>,
        segments: &[Segment],
        c: RowsMut<'_>,
        accumulate: bool,
    ) {
        assert!(c.values.len() >= last(rows, c.stride).saturating_add(columns), "the block lies in c");
        let (last_row, last_column) = (last(rows, a.stride), last(columns, b.stride));
        for segment in segments {
            let [of_a, of_b] = [segment.a, segment.b].map(|start| start.saturating_add(segment.len));
            assert!(a.values.len() >= of_a.saturating_add(last_row), "a has the rows");
            assert!(b.values.len() >= of_b.saturating_add(last_column), "b has the segment");
        }
        let args = Args {
            a: a.values.as_ptr(),
            lda: a.stride,
            b: b.values.as_ptr(),
            ldb: b.stride,
            segments,
            c: c.values.as_mut_ptr(),
            ldc: c.stride,
            accumulate,
        };
        // SAFETY: `best` chose kernels that the processor can run. The kernel at this index has `rows` rows and
        // `columns` columns, for which the lengths of a, b and c are checked above. c is borrowed mutably.
        unsafe { self.dots[rows - 1][columns - 1](&args) }
    }

    /// c (+)= a·b, in one thread. `a` is `[m][k]`, `b` is packed ([`Self::pack_rows`], [`Self::pack_columns`]), c is
    /// `[m][n]`; nothing beyond its n columns is touched.
    pub(super) fn gemm_block(&self, [m, n, k]: [usize; 3], a: Rows<'_>, b: &[f32], c: RowsMut<'_>, accumulate: bool) {
        let segments = [Segment { a: 0, b: 0, len: k }];
        let mut edge = [0.0; 32 * 16];
        for panel in self.panels(n) {
            let b = &b[panel.column * k..][..panel.width * k];
            for rows in cuts(m, self.tile_rows()) {
                let a = Rows { values: &a.values[rows.start * a.stride..], ..a };
                let at = rows.start * c.stride + panel.column;
                let shape = [rows.len(), panel.width];
                if panel.columns == panel.width {
                    let c = RowsMut { values: &mut c.values[at..], stride: c.stride };
                    self.tile(shape, a, b, &segments, c, accumulate);
                    continue;
                }
                let stride = panel.width;
                self.tile(shape, a, b, &segments, RowsMut { values: &mut edge, stride }, false);
                for (i, sums) in edge.chunks_exact(stride).take(rows.len()).enumerate() {
                    let c = &mut c.values[at + i * c.stride..][..panel.columns];
                    for (c, &sum) in c.iter_mut().zip(sums) {
                        *c = if accumulate { *c + sum } else { sum };
                    }
                }
            }
        }
    }
}

/// Where the last of `count` rows starts. A number that is too large becomes the largest, which no slice reaches.
fn last(count: usize, stride: usize) -> usize {
    (count - 1).saturating_mul(stride)
}

/// Divides `0..len` into the fewest pieces of at most `most`, as equal as possible.
pub(super) fn cuts(len: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let pieces = len.div_ceil(most);
    (0..pieces).map(move |i| i * len / pieces..(i + 1) * len / pieces)
}

/// The kernels of one instruction set: its vector, the features that it needs, and how many rows its kernels have.
macro_rules! kernels {
    ($vector:ty, $(#[$features:meta])? tiles [$($rows:literal)*] dots [$($dot_rows:literal)*]) => {{
        /// # Safety
        /// As for [`simd::tile`]; the processor has the features.
        $(#[$features])?
        unsafe fn tile<const M: usize, const N: usize>(args: &Args<'_>) {
            // SAFETY: the same promises, and the features are those of the vector's methods.
            unsafe { simd::tile::<$vector, M, N>(args) }
        }

        /// # Safety
        /// As for [`simd::dot`]; the processor has the features.
        $(#[$features])?
        unsafe fn dot<const M: usize, const N: usize>(args: &Args<'_>) {
            // SAFETY: the same promises, and the features are those of the vector's methods.
            unsafe { simd::dot::<$vector, M, N>(args) }
        }

        Micro {
            lanes: <$vector>::LANES,
            tiles: &[$([tile::<$rows, 1>, tile::<$rows, 2>]),*],
            dots: &[$([dot::<$dot_rows, 1>, dot::<$dot_rows, 2>, dot::<$dot_rows, 3>, dot::<$dot_rows, 4>]),*],
        }
    }};
}

// The largest tile fills the register file: 28 of 32 registers, or 12 of 16, hold sums; the others hold b and a. Inner
// products wait for loads, and gain nothing from larger blocks.

#[cfg(target_arch = "x86_64")]
static AVX512: Micro = kernels!(
    std::arch::x86_64::__m512,
    #[target_feature(enable = "avx512f")]
    tiles [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
    dots [1 2 3 4]
);

#[cfg(target_arch = "x86_64")]
static AVX2: Micro = kernels!(
    std::arch::x86_64::__m256,
    #[target_feature(enable = "avx2,fma")]
    tiles [1 2 3 4 5 6]
    dots [1 2 3]
);

static PORTABLE: Micro = kernels!(Portable, tiles [1 2 3 4 5 6] dots [1 2 3]);

#[cfg(test)]
mod tests {
    use super::*;

    /// All kernels that this processor can run.
    fn all() -> Vec<&'static Micro> {
        let mut all = vec![&PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend((is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(&AVX2));
            all.extend(is_x86_feature_detected!("avx512f").then_some(&AVX512));
        }
        all
    }

    /// Small integers, so that every sum is exact.
    fn integers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7 + seed * 13 + i * i / 5) % 17) as f32 - 8.0).collect()
    }

    #[test]
    fn blocks_of_every_shape_are_exact_and_stay_within_their_columns() {
        for micro in all() {
            for (m, n, k) in (1..30).flat_map(|m| [1, 4, 7, 16, 31, 32, 33, 50, 72].map(|n| (m, n, 1 + (m * n) % 23))) {
                let (lda, ldc) = (k + 3, n + 2);
                let (a, b) = (integers(m * lda, 1), integers(k * n, 2));
                let mut packed = vec![f32::NAN; micro.packed_columns(n) * k];
                micro.pack_rows([n, k], Rows { values: &b, stride: n }, &mut packed);
                let a = Rows { values: &a, stride: lda };
                let mut c = integers(m * ldc, 3);
                let before = c.clone();
                for accumulate in [false, true] {
                    micro.gemm_block([m, n, k], a, &packed, RowsMut { values: &mut c, stride: ldc }, accumulate);
                }
                for (i, j) in (0..m).flat_map(|i| (0..ldc).map(move |j| (i, j))) {
                    let twice: f32 = (0..k).filter(|_| j < n).map(|p| 2.0 * a.values[i * lda + p] * b[p * n + j]).sum();
                    let expected = if j < n { twice } else { before[i * ldc + j] };
                    assert_eq!(c[i * ldc + j], expected, "{m}×{n}×{k}, element {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn both_kinds_of_packing_agree() {
        for micro in all() {
            for (n, k) in [(1, 1), (16, 3), (17, 40), (32, 8), (72, 129), (100, 33)] {
                let rows = integers(n * k, 4);
                let columns: Vec<f32> = (0..n * k).map(|i| rows[i % k * n + i / k]).collect();
                let mut packed =
                    [vec![f32::NAN; micro.packed_columns(n) * k], vec![f32::NAN; micro.packed_columns(n) * k]];
                micro.pack_rows([n, k], Rows { values: &rows, stride: n }, &mut packed[0]);
                micro.pack_columns([n, k], Rows { values: &columns, stride: k }, &mut packed[1]);
                assert!(packed[0] == packed[1], "{n}×{k}");
            }
        }
    }

    #[test]
    fn inner_products_over_segments_are_exact() {
        let (a, b) = (integers(400, 5), integers(400, 6));
        for micro in all() {
            for (rows, columns, len) in (1..=micro.dot_rows()).flat_map(|m| (1..5).map(move |n| (m, n, 5 * m + 11 * n)))
            {
                let segments = [Segment { a: 2, b: 70, len }, Segment { a: 60, b: 0, len: 3 }];
                let (a, b) = (Rows { values: &a, stride: 20 }, Rows { values: &b, stride: 80 });
                let mut c = vec![1.0; rows * columns];
                micro.dot([rows, columns], a, b, &segments, RowsMut { values: &mut c, stride: columns }, true);
                for (at, &c) in c.iter().enumerate() {
                    let (a, b) = (&a.values[at / columns * 20..], &b.values[at % columns * 80..]);
                    let product = |s: &Segment| (0..s.len).map(|k| a[s.a + k] * b[s.b + k]).sum::<f32>();
                    assert_eq!(c, 1.0 + segments.iter().map(product).sum::<f32>());
                }
            }
        }
    }

    #[test]
    fn cuts_are_even_and_cover_everything() {
        assert_eq!(cuts(30, 14).collect::<Vec<_>>(), [0..10, 10..20, 20..30]);
        assert_eq!(cuts(15, 14).map(|cut| cut.len()).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(cuts(0, 14).count(), 0);
    }
}

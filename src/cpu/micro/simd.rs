//! Vector registers, and the two loops written over them: outer products (`tile`) and inner products (`dot`).

/// The arguments of a kernel, as pointers. [`super::Micro`] checks that all that a kernel of M rows touches lies in its
/// slices: for each segment and each row, `len` elements of a from `segment.a` on, and what the kernel says of b and c.
pub(super) struct Args<'a> {
    /// First row of the left operand.
    pub(super) a: *const f32,
    /// Elements from one row of the left operand to the next.
    pub(super) lda: usize,
    /// The packed right operand.
    pub(super) b: *const f32,
    /// `dot` only: elements from one column of the right operand to the next.
    pub(super) ldb: usize,
    /// The ranges of k that are multiplied.
    pub(super) segments: &'a [super::Segment],
    /// First row of the result.
    pub(super) c: *mut f32,
    /// Elements from one row of the result to the next.
    pub(super) ldc: usize,
    /// Whether to add to the result instead of overwriting it.
    pub(super) accumulate: bool,
}

/// One vector register.
///
/// # Safety
/// Methods may be called only on a processor that has their instructions. They carry no `target_feature`: they are
/// always inlined into a function of the macro `kernels` of [`super`], which has the `target_feature` and is called
/// through a table.
pub(super) trait Simd: Copy {
    /// f32 values in a register.
    const LANES: usize;
    /// The same value in all lanes.
    unsafe fn splat(x: f32) -> Self;
    /// self·b + c
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// self + b
    unsafe fn add(self, b: Self) -> Self;
    /// Sum of the lanes.
    unsafe fn sum(self) -> f32;

    /// Loads `LANES` values from `p`, of any alignment.
    ///
    /// # Safety
    /// `LANES` values may be read from `p` on.
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: `Unaligned` needs no alignment and is as long as a register; the caller vouches for the values.
        unsafe { (*p.cast::<Unaligned<Self>>()).0 }
    }

    /// Stores `LANES` values to `p`, of any alignment.
    ///
    /// # Safety
    /// `LANES` values may be written from `p` on.
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { (*p.cast::<Unaligned<Self>>()).0 = self }
    }
}

/// A vector in memory of any alignment. In builds with debug assertions, the checks in raw-pointer functions would
/// triple the time of a tile, and tests run these loops. Dereferencing this type has no such checks, nor has
/// `wrapping_add` below.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<V>(V);

/// `M` rows by `N` registers of c: one value of a, broadcast, times `N` registers of b for each step of k.
///
/// # Safety
/// As [`Args`] and [`Simd`] say. b has `N` registers for each step of a segment, from step `segment.b` on, and each row
/// of c has `N` registers.
#[inline(always)]
pub(super) unsafe fn tile<V: Simd, const M: usize, const N: usize>(args: &Args<'_>) {
    // SAFETY: the steps of the inner loop are those of a segment. In each, `row` visits the step's element in M rows of
    // a, and `b` the step's N registers; at the end, `row` and `c` visit N registers in M rows of c.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; M];
        for segment in args.segments {
            let mut a = args.a.wrapping_add(segment.a);
            let mut b = args.b.wrapping_add(segment.b * N * V::LANES);
            for _ in 0..segment.len {
                let mut columns = [V::splat(0.0); N];
                for column in &mut columns {
                    *column = V::load(b);
                    b = b.wrapping_add(V::LANES);
                }
                let mut row = a;
                for sums in &mut sums {
                    let x = V::splat((*row.cast::<Unaligned<f32>>()).0);
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = x.mul_add(column, *sum);
                    }
                    row = row.wrapping_add(args.lda);
                }
                a = a.wrapping_add(1);
            }
        }
        let mut row = args.c;
        for sums in sums {
            let mut c = row;
            for sum in sums {
                let sum = if args.accumulate { V::load(c).add(sum) } else { sum };
                sum.store(c);
                c = c.wrapping_add(V::LANES);
            }
            row = row.wrapping_add(args.ldc);
        }
    }
}

/// `M` rows by `N` columns of c, each the inner product of two contiguous runs.
///
/// # Safety
/// As [`Args`] and [`Simd`] say. Each of the `N` columns of b has the elements of a segment from `segment.b` on, and
/// each row of c has `N` elements.
#[inline(always)]
pub(super) unsafe fn dot<V: Simd, const M: usize, const N: usize>(args: &Args<'_>) {
    // SAFETY: the steps of the inner loop are whole registers of a segment, which `row` and `column` visit in M rows of
    // a and N columns of b. `rest` takes an `i` below M and a `j` below N, and `c` is element `j` of row `i`.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; M];
        for segment in args.segments {
            let (mut a, mut b) = (args.a.wrapping_add(segment.a), args.b.wrapping_add(segment.b));
            for _ in 0..segment.len / V::LANES {
                let (mut row, mut column) = (a, b);
                let mut rows = [V::splat(0.0); M];
                for value in &mut rows {
                    *value = V::load(row);
                    row = row.wrapping_add(args.lda);
                }
                for j in 0..N {
                    let value = V::load(column);
                    for (sums, row) in sums.iter_mut().zip(rows) {
                        sums[j] = row.mul_add(value, sums[j]);
                    }
                    column = column.wrapping_add(args.ldb);
                }
                a = a.wrapping_add(V::LANES);
                b = b.wrapping_add(V::LANES);
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                let c = args.c.wrapping_add(i * args.ldc + j);
                let sum = sum.sum() + rest::<V>(args, i, j);
                *c = if args.accumulate { *c + sum } else { sum };
            }
        }
    }
}

/// The inner product of row `i` and column `j` over the elements that do not fill a register.
///
/// # Safety
/// As for [`dot`], with `i` below its M and `j` below its N.
#[inline(always)]
unsafe fn rest<V: Simd>(args: &Args<'_>, i: usize, j: usize) -> f32 {
    let mut sum = 0.0;
    for segment in args.segments {
        for k in segment.len / V::LANES * V::LANES..segment.len {
            let a = args.a.wrapping_add(segment.a + i * args.lda + k);
            let b = args.b.wrapping_add(segment.b + j * args.ldb + k);
            // SAFETY: k is a step of the segment.
            sum += unsafe { *a * *b };
        }
    }
    sum
}

/// Four lanes in plain Rust, which the compiler keeps in one register.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 4]);

impl Simd for Portable {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 4])
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // On a processor without fused multiply-add, `mul_add` would call the C library.
        let fma = |a: f32, b: f32, c: f32| if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c };
        let (a, b, c) = (self.0, b.0, c.0);
        Self([fma(a[0], b[0], c[0]), fma(a[1], b[1], c[1]), fma(a[2], b[2], c[2]), fma(a[3], b[3], c[3])])
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self([self.0[0] + b.0[0], self.0[1] + b.0[1], self.0[2] + b.0[2], self.0[3] + b.0[3]])
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_op_in_unsafe_fn, reason = "the methods only execute instructions, which their callers know to exist")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    impl Simd for __m512 {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            _mm512_set1_ps(x)
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            _mm512_fmadd_ps(self, b, c)
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            _mm512_add_ps(self, b)
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            _mm512_reduce_add_ps(self)
        }
    }

    impl Simd for __m256 {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            _mm256_set1_ps(x)
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            _mm256_fmadd_ps(self, b, c)
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            _mm256_add_ps(self, b)
        }

        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            let half = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
        }
    }
}

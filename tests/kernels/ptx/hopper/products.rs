//! Products of a warpgroup: every layout of both operands, and what must not happen before they end.

use super::{Case, alone, case, prepare, wait};
use half::{bf16, f16};

/// A layout of a matrix in shared memory: bytes of a row of the swizzle, and whether m (or n) is innermost.
#[derive(Clone, Copy, Debug)]
struct Layout {
    swizzle: usize,
    by_rows: bool,
}

const LAYOUTS: [Layout; 8] = {
    let mut all = [Layout { swizzle: 0, by_rows: false }; 8];
    let mut i = 0;
    while i < 8 {
        all[i] = Layout { swizzle: [0, 32, 64, 128][i % 4], by_rows: i >= 4 };
        i += 1;
    }
    all
};
const SWIZZLED: Layout = LAYOUTS[3];

impl Layout {
    /// Bytes of both strides.
    fn strides(self) -> [usize; 2] {
        match self {
            Self { swizzle: 0, .. } => [128, 256],
            Self { swizzle, by_rows: false } => [16, 8 * swizzle],
            Self { swizzle, by_rows: true } => [16 * swizzle, 8 * swizzle],
        }
    }

    /// The byte of element (m, k), by the canonical layouts of section 9.7.15.5.1.
    fn place(self, m: usize, k: usize) -> usize {
        let [lead, stride] = self.strides();
        let row = self.swizzle;
        let linear = match (self.by_rows, row) {
            (false, 0) => m / 8 * stride + m % 8 * 16 + k / 8 * lead + k % 8 * 2,
            (false, _) => m / 8 * stride + m % 8 * row + k * 2,
            (true, 0) => m / 8 * stride + m % 8 * 2 + k / 8 * lead + k % 8 * 16,
            (true, _) => m / (row / 2) * lead + m % (row / 2) * 2 + k / 8 * stride + k % 8 * row,
        };
        let lines = linear / 128;
        linear
            ^ match row {
                128 => lines % 8 * 16,
                64 => lines % 4 * 16,
                32 => lines % 2 * 16,
                _ => 0,
            }
    }

    /// The bits of a description besides the address.
    fn bits(self) -> u64 {
        let [lead, stride] = self.strides().map(|bytes| bytes as u64 / 16);
        let code = match self.swizzle {
            128 => 1,
            64 => 2,
            32 => 3,
            _ => 0,
        };
        lead << 16 | stride << 32 | code << 62
    }
}

fn a_element(m: usize, k: usize) -> i32 {
    (3 * m + 5 * k) as i32 % 7 - 3
}

fn b_element(n: usize, k: usize) -> i32 {
    (n + 2 * k) as i32 % 5 - 2
}

/// Where B begins in shared memory and x, and the plain rows of A in x.
const B_AT: usize = 8192;
const PLAIN_AT: usize = 40_960;

/// The product of a test: D = c + a·b, two times, with the given way to add the first time.
#[derive(Clone, Copy, Debug)]
struct Product {
    columns: usize,
    half: bool,
    a: Layout,
    b: Layout,
    from_registers: bool,
    adds: bool,
    signs: [i32; 2],
}

const PLAIN: Product =
    Product { columns: 16, half: true, a: SWIZZLED, b: SWIZZLED, from_registers: false, adds: true, signs: [1, 1] };

impl Product {
    fn bits(self, value: i32) -> u16 {
        let value = value as f32;
        if self.half { f16::from_f32(value).to_bits() } else { bf16::from_f32(value).to_bits() }
    }

    fn x(self) -> Vec<u16> {
        let mut x = vec![0; PLAIN_AT / 2 + 64 * 16];
        for k in 0..16 {
            (0..64).for_each(|m| x[self.a.place(m, k) / 2] = self.bits(a_element(m, k)));
            (0..self.columns).for_each(|n| x[(B_AT + self.b.place(n, k)) / 2] = self.bits(b_element(n, k)));
            (0..64).for_each(|m| x[PLAIN_AT / 2 + 16 * m + k] = self.bits(a_element(m, k)));
        }
        x
    }

    fn sums(self) -> Vec<String> {
        (0..self.columns / 2).map(|i| format!("%f{}", 100 + i)).collect()
    }

    /// One instruction.
    fn multiply(self, add: &str) -> String {
        let Self { columns, half, signs: [a_sign, b_sign], .. } = self;
        let kind = if half { "f16" } else { "bf16" };
        let [by_m, by_n] = [self.a.by_rows, self.b.by_rows].map(u8::from);
        let (a, order) = if self.from_registers {
            ("{%r60, %r61, %r62, %r63}", format!("{by_n}"))
        } else {
            ("%rd10", format!("{by_m}, {by_n}"))
        };
        let sums = self.sums().join(", ");
        format!(
            "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{kind}.{kind} {{{sums}}}, {a}, %rd11, {add}, {a_sign}, {b_sign}, {order};\n"
        )
    }

    /// Both operands in shared memory, their descriptions, and the fragments of A.
    fn operands(self) -> String {
        let bytes = PLAIN_AT;
        let load = alone(&format!(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], {bytes};\n\
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], {bytes}, [%r10];"
        ));
        let describe = |register: &str, at: usize, layout: Layout| {
            format!(
                "add.s32 %r20, %r1, {at};\nshr.u32 %r20, %r20, 4;\ncvt.u64.u32 {register}, %r20;\n\
                 or.b64 {register}, {register}, {};\n",
                layout.bits()
            )
        };
        let (a, b) = (describe("%rd10", 0, self.a), describe("%rd11", B_AT, self.b));
        // Row 16·w + l/4, step 2·(l%4).
        let place = "shr.u32 %r21, %r0, 5;\nshl.b32 %r21, %r21, 9;\nand.b32 %r22, %r0, 31;\nshr.u32 %r23, %r22, 2;\n\
                     shl.b32 %r23, %r23, 5;\nand.b32 %r24, %r22, 3;\nshl.b32 %r24, %r24, 2;\nadd.s32 %r21, %r21, %r23;\n\
                     add.s32 %r21, %r21, %r24;\ncvt.u64.u32 %rd12, %r21;\n";
        let fragment = |i: usize| {
            let at = PLAIN_AT + i % 2 * 8 * 32 + i / 2 * 16;
            format!("ld.global.u32 %r6{i}, [%rd12+{at}];\n")
        };
        let fragments: String = (0..4).map(fragment).collect();
        let sums: String = self.sums().iter().map(|sum| format!("mov.f32 {sum}, 0f3F800000;\n")).collect();
        let (begin, wait) = (prepare(&[("%r10", 1), ("%r11", 4)]), wait("0", "%r10", 0));
        format!(
            "{begin}{load}{a}{b}{place}add.s64 %rd12, %rd12, %rd1;\n{fragments}{sums}setp.eq.u32 %p1, %r0, 999;\n{wait}"
        )
    }

    fn results(self) -> String {
        let count = self.columns / 2;
        let store = |(i, sum): (usize, String)| format!("st.global.f32 [%rd13+{}], {sum};\n", 4 * i);
        let stores: String = self.sums().into_iter().enumerate().map(store).collect();
        format!("mul.wide.u32 %rd13, %r0, {};\nadd.s64 %rd13, %rd13, %rd2;\n{stores}", 4 * count)
    }

    fn case(self) -> Case {
        let first = if self.adds { "1" } else { "%p1" };
        let body = format!(
            "{}wgmma.fence.sync.aligned;\n{}{}wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n{}",
            self.operands(),
            self.multiply(first),
            self.multiply("1"),
            self.results()
        );
        Case { x: self.x(), out: 128 * self.columns, ..case(128, body) }
    }

    /// What the fragments of the ISA hold.
    fn expected(self) -> Vec<u32> {
        let sum = |(m, n): (usize, usize)| -> i32 { (0..16).map(|k| a_element(m, k) * b_element(n, k)).sum() };
        let sign = self.signs[0] * self.signs[1];
        let place = |thread: usize, i: usize| {
            let (warp, lane) = (thread / 32, thread % 32);
            (16 * warp + lane / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2)
        };
        let start = i32::from(self.adds);
        let value = |thread: usize, i: usize| ((start + 2 * sign * sum(place(thread, i))) as f32).to_bits();
        (0..128).flat_map(|thread| (0..self.columns / 2).map(move |i| value(thread, i))).collect()
    }

    #[track_caller]
    fn is_right(self) {
        assert!(self.case().words() == self.expected(), "{self:?}");
    }
}

#[test]
fn operands_have_the_layouts_of_the_isa() {
    for layout in LAYOUTS {
        Product { a: layout, ..PLAIN }.is_right();
        Product { b: layout, half: false, ..PLAIN }.is_right();
    }
}

#[test]
fn products_have_all_widths() {
    for columns in (8..=256).step_by(8) {
        let b = Layout { by_rows: columns % 16 == 0, ..SWIZZLED };
        Product { columns, b, ..PLAIN }.is_right();
    }
}

#[test]
fn a_may_come_from_registers_and_signs_and_sums_may_change() {
    for half in [false, true] {
        Product { half, from_registers: true, ..PLAIN }.is_right();
        Product { half, adds: false, ..PLAIN }.is_right();
        Product { half, signs: [-1, 1], ..PLAIN }.is_right();
        Product { half, signs: [1, -1], from_registers: true, ..PLAIN }.is_right();
    }
}

#[test]
fn sums_need_fences_and_waits() {
    let right = PLAIN.case();
    right.refuses("wgmma.fence.sync.aligned;\n", "", "without a wgmma.fence before");
    let touched = "wgmma.fence.sync.aligned;\nmov.f32 %f101, 0f3F800000;\n";
    right.refuses(
        "wgmma.fence.sync.aligned;\n",
        touched,
        "%f101, used by another instruction after the last wgmma.fence",
    );
    let early = "uses %f100, which nothing was written to";
    right.refuses("wgmma.wait_group.sync.aligned 0;\n", "", early);
    right.refuses("wait_group.sync.aligned 0;\n", "wait_group.sync.aligned 1;\n", early);
    right.refuses("wgmma.commit_group.sync.aligned;\n", "", early);
    let written = "mov.f32 %f101, 0f3F800000;\nwgmma.commit_group.sync.aligned;\n";
    right.refuses("wgmma.commit_group.sync.aligned;\n", written, "writes %f101, which a product in flight uses");
    right.refuses("mov.f32 %f103, 0f3F800000;\n", "", "adds to %f103, which nothing was written to");
    let registers = Product { from_registers: true, ..PLAIN }.case();
    let written = "mov.u32 %r62, 0;\nwgmma.commit_group.sync.aligned;\n";
    registers.refuses("wgmma.commit_group.sync.aligned;\n", written, "writes %r62, which a product in flight uses");
    registers.refuses("wgmma.commit_group.sync.aligned;\n", &written.replace("%r62, 0", "%r70, %r62"), "reads %r62");
    // A register of A changes between the products.
    let between = Product { from_registers: true, ..PLAIN };
    let again = format!(
        "wgmma.wait_group.sync.aligned 0;\nmov.u32 %r62, 0;\nwgmma.fence.sync.aligned;\n{}",
        between.multiply("1")
    );
    let body = registers
        .body
        .replace("wgmma.wait_group", &format!("{}wgmma.commit_group.sync.aligned;\nwgmma.wait_group", again));
    let twice = Case { body, ..registers };
    twice.refuses(
        "mov.u32 %r62, 0;\nwgmma.fence.sync.aligned;\n",
        "mov.u32 %r62, 0;\n",
        "%r62, used by another instruction",
    );
}

#[test]
fn the_warps_of_a_warpgroup_act_together() {
    let right = PLAIN.case();
    let fence = "wgmma.fence.sync.aligned;\n";
    let absent = format!("setp.ge.u32 %p2, %r0, 96;\n@%p2 ret;\n{fence}");
    right.refuses(fence, &absent, "stuck: waits for the other warps of its warpgroup");
    let other = format!("setp.ge.u32 %p2, %r0, 96;\n@%p2 add.s64 %rd10, %rd10, 2;\n{fence}");
    right.refuses(fence, &other, "the warps of the warpgroup have different operands");
    let lanes = format!("setp.eq.u32 %p2, %r0, 9;\n@%p2 add.s64 %rd10, %rd10, 2;\n{fence}");
    right.refuses(fence, &lanes, "the lanes describe different matrices");
    let parts = Case { threads: 96, body: right.body.clone(), ..right.clone() };
    (0..4).for_each(|seed| parts.fails(seed, "does not have all four warps"));
}

#[test]
fn a_wrong_stride_reads_other_elements() {
    for change in [32, 16] {
        let right = PLAIN.case();
        let (bits, other) = (SWIZZLED.bits(), SWIZZLED.bits() ^ 1 << change ^ 1 << (change + 6));
        let wrong = Case { body: right.body.replace(&bits.to_string(), &other.to_string()), ..right };
        // Swizzled rows ignore the leading stride unless m is innermost.
        assert_eq!(wrong.words() != PLAIN.expected(), change == 32);
    }
    // Beyond the end of shared memory.
    let right = PLAIN.case();
    right.refuses(
        &SWIZZLED.bits().to_string(),
        &(SWIZZLED.bits() | 0x3F00 << 32).to_string(),
        "outside of shared memory",
    );
    right.refuses(&SWIZZLED.bits().to_string(), &(SWIZZLED.bits() | 1 << 49).to_string(), "the base offset 1");
}

/// The warpgroup moves A by ordinary loads and stores.
#[test]
fn products_see_only_stores_that_were_shown() {
    let moved = "shl.b32 %r70, %r0, 4;\nadd.s32 %r70, %r70, %r1;\nld.shared.v4.u32 {%r71, %r72, %r73, %r74}, [%r70];\n\
                 st.shared.v4.u32 [%r70], {%r71, %r72, %r73, %r74};\nfence.proxy.async.shared::cta;\nbar.sync 0;\n\
                 wgmma.fence.sync.aligned;\n";
    let right = PLAIN.case();
    let right = Case { body: right.body.replace("wgmma.fence.sync.aligned;\n", moved), ..right };
    assert!(right.words() == PLAIN.expected());
    let what = "wrote without fence.proxy.async after it";
    right.refuses("fence.proxy.async.shared::cta;\nbar.sync 0;\n", "bar.sync 0;\n", what);
    right.refuses(
        "fence.proxy.async.shared::cta;\nbar.sync 0;\n",
        "bar.sync 0;\nfence.proxy.async.shared::cta;\n",
        what,
    );
    right.refuses("fence.proxy.async.shared::cta;\nbar.sync 0;\n", "fence.proxy.async.shared::cta;\n", "race");
}

/// Another warp fills A's place again after each warp of the warpgroup has arrived.
#[test]
fn a_stage_is_released_after_the_wait() {
    let arrive = "and.b32 %r75, %r0, 31;\nsetp.eq.u32 %p3, %r75, 0;\n@%p3 mbarrier.arrive.shared::cta.b64 _, [%r11];\n";
    let right = PLAIN.case();
    let refill = format!(
        "bra $END;\n$REFILL:\nsetp.ne.u32 %p4, %r0, 128;\n@%p4 bra $END;\n{}{}\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 8192;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 8192, [%r10];\n{}$END:\n",
        wait("1", "%r10", 0),
        wait("2", "%r11", 0),
        wait("3", "%r10", 1)
    );
    let released = format!("wgmma.wait_group.sync.aligned 0;\n{arrive}");
    let body = right.body.replace("wgmma.wait_group.sync.aligned 0;\n", &released);
    let body = body.replace("bar.sync 0;\n", "bar.sync 0;\nsetp.ge.u32 %p4, %r0, 128;\n@%p4 bra $REFILL;\n");
    let right = Case { threads: 160, body: body + &refill, ..right };
    assert!(right.words() == PLAIN.expected());
    right.refuses(&released, &format!("{arrive}wgmma.wait_group.sync.aligned 0;\n"), "race");
    // One warp arrives for all four.
    let one = arrive.replace("and.b32 %r75, %r0, 31;", "mov.u32 %r75, %r0;").replace("[%r11]", "[%r11], 4");
    right.refuses(arrive, &one, "race");
}

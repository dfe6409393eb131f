//! Products of a warpgroup. PTX ISA 9.0, section 9.7.15.
//!
//! Each warp multiplies its own 16 rows of A. The results are computed at once, but their registers count as not written
//! until a wait covers them, and A and B count as being read.

use super::clocks::{Clocks, Other, Who};
use super::cluster::Cluster;
use super::gather::first;
use super::memory::{Accessing, Memory};
use super::program::{Instruction, Multiplication, Program, Running, Slot};
use super::registers::{ALL, LANES, Registers};
use super::shadow::Use;
use super::tensor::swizzled;

// SAFETY: the type is that of kernels/emulator/product.cpp.
unsafe extern "C" {
    /// The emulator's product of matrices for 16 steps of k.
    fn osp_emulator_product(f16: u32, rows: u32, columns: u32, a: *const u16, b: *const u16, c: *mut f32) -> bool;
}

/// Rows of A that a warp multiplies, and steps of k.
const ROWS: usize = 16;
const DEPTH: usize = 16;

/// A product whose group was not waited for.
#[derive(Clone, Debug)]
struct Flying {
    /// The group, counted from the warp's first.
    group: u32,
    multiplication: u32,
    /// Registers of A.
    a: [Slot; 4],
    /// Its number among the warpgroup's instructions, and when it was issued.
    number: u64,
    time: u64,
}

/// How a register takes part in a product in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    /// The group, plus 1; 0: none.
    group: u32,
    /// Columns of the product whose sum it is; 0: it holds elements of A.
    columns: u16,
}

/// The products of a warp.
#[derive(Debug, Default)]
pub struct Products {
    flying: Vec<Flying>,
    /// By register.
    parts: Vec<Part>,
    /// Fences so far, and how many there were when an instruction last used each register.
    fences: u32,
    used: Vec<u32>,
    groups: u32,
}

/// What a product needs.
pub struct Multiplying<'a, 'm> {
    pub program: &'a Program,
    pub registers: &'a mut Registers,
    pub memory: &'a mut Memory<'m>,
    pub clocks: &'a mut Clocks,
    pub cluster: &'a mut Cluster,
}

type Done<T = ()> = Result<T, String>;

impl Products {
    /// Begins a block.
    pub fn begin(&mut self, program: &Program) {
        if !program.multiplications.is_empty() {
            let count = program.names.len();
            *self = Self { parts: vec![Part::default(); count], used: vec![u32::MAX; count], ..Self::default() };
        }
    }

    /// Notes that another instruction uses its registers.
    #[inline(always)]
    pub fn touch(&mut self, i: &Instruction, program: &Program) -> Done {
        if self.used.is_empty() { Ok(()) } else { self.touch_all(i, program) }
    }

    fn touch_all(&mut self, i: &Instruction, program: &Program) -> Done {
        let part = |slot: &&Slot| self.parts[usize::from(slot.id)];
        let name = |slot: &Slot| &program.names[usize::from(slot.id)];
        if let Some(slot) = i.written().iter().find(|slot| part(slot).group != 0) {
            return Err(format!("writes {}, which a product in flight uses", name(slot)));
        }
        // A sum counts as not written.
        if let Some(slot) = i.read().iter().find(|slot| part(slot).group != 0 && part(slot).columns == 0) {
            return Err(format!("reads {}, which a product in flight uses", name(slot)));
        }
        for slot in i.written().iter().chain(i.read()) {
            self.used[usize::from(slot.id)] = self.fences;
        }
        Ok(())
    }

    pub fn fence(&mut self) {
        self.fences += 1;
    }

    pub fn commit(&mut self) {
        self.groups += 1;
    }

    /// Issues a product.
    pub fn multiply(
        &mut self,
        number: u32,
        Running { i, warp, .. }: Running<'_>,
        with: &mut Multiplying<'_, '_>,
    ) -> Done {
        let form = &with.program.multiplications[number as usize];
        let (a, rest) = if form.from_registers { i.read().split_at(4) } else { i.read().split_at(1) };
        let b = same(with.registers, rest[0])?;
        let add = match with.registers.predicate(rest[1]) {
            0 => false,
            ALL => true,
            _ => return Err("the lanes differ in whether to add".to_owned()),
        };
        let described = if form.from_registers { 0 } else { same(with.registers, a[0])? };
        let count = with.cluster.groups.step(warp, (i.line, [described, b, add.into()]))?;
        with.cluster.events += 1;
        self.check_fence(form, if form.from_registers { a } else { &[] }, with.program)?;
        if add {
            self.check_sums(form, with)?;
        }
        let clock = with.clocks.of(Other::Products(warp))?;
        let reading =
            Accessing { what: "wgmma.mma_async", of: Use::BulkRead(clock), who: Who { warp, lane: 0 }, line: i.line };
        let mut elements_a = if form.from_registers {
            fragments(a, with.registers)
        } else {
            let first = ROWS * with.cluster.groups.place(warp);
            let matrix = Matrix::new(described, form.by_rows[0])?;
            matrix.elements(first..first + ROWS, reading, with.memory, with.clocks)?
        };
        let mut elements_b =
            Matrix::new(b, form.by_rows[1])?.elements(0..form.columns, reading, with.memory, with.clocks)?;
        for (elements, negated) in [(&mut elements_a, form.negated[0]), (&mut elements_b, form.negated[1])] {
            elements.iter_mut().for_each(|element| *element ^= u16::from(negated) << 15);
        }
        product(form, &elements_a, &elements_b, add, with.registers);
        let time = with.clocks.advance();
        let mut registers = [Slot::default(); 4];
        if form.from_registers {
            registers.copy_from_slice(a);
        }
        self.fly(
            Flying { group: self.groups, multiplication: number, a: registers, number: count, time },
            form,
            with.registers,
        );
        Ok(())
    }

    /// Marks the registers of a product.
    fn fly(&mut self, flying: Flying, form: &Multiplication, registers: &mut Registers) {
        let group = flying.group + 1;
        for sum in &form.sums {
            self.parts[usize::from(sum.id)] = Part { group, columns: form.columns as u16 };
            registers.defined[usize::from(sum.id)] = 0;
        }
        for slot in flying.a.iter().filter(|_| form.from_registers) {
            self.parts[usize::from(slot.id)] = Part { group, columns: 0 };
        }
        self.flying.push(flying);
    }

    /// Fails if an instruction used a register of a product since the last fence.
    fn check_fence(&self, form: &Multiplication, a: &[Slot], program: &Program) -> Done {
        if self.fences == 0 {
            return Err("wgmma.mma_async without a wgmma.fence before".to_owned());
        }
        for (slot, columns) in form.sums.iter().map(|sum| (sum, form.columns)).chain(a.iter().map(|a| (a, 0))) {
            let (part, name) = (self.parts[usize::from(slot.id)], &program.names[usize::from(slot.id)]);
            if part.group != 0 && usize::from(part.columns) != columns {
                return Err(format!("{name} is part of a product of another shape in flight"));
            }
            if self.used[usize::from(slot.id)] == self.fences {
                return Err(format!(
                    "wgmma.mma_async of {name}, used by another instruction after the last wgmma.fence"
                ));
            }
        }
        Ok(())
    }

    /// Fails if a sum that a product adds to was not written.
    fn check_sums(&self, form: &Multiplication, with: &Multiplying<'_, '_>) -> Done {
        let missing = |sum: &&Slot| {
            self.parts[usize::from(sum.id)].group == 0 && with.registers.defined[usize::from(sum.id)] != ALL
        };
        match form.sums.iter().find(missing) {
            None => Ok(()),
            Some(sum) => {
                Err(format!("adds to {}, which nothing was written to", with.program.names[usize::from(sum.id)]))
            }
        }
    }

    /// Ends all but the `pending` newest groups. False if another warp of the warpgroup has yet to issue its part.
    pub fn wait(&mut self, pending: u32, warp: usize, with: &mut Multiplying<'_, '_>) -> Done<bool> {
        let over = |flying: &Flying| flying.group + pending < self.groups;
        let number = self.flying.iter().filter(|flying| over(flying)).map(|flying| flying.number).max();
        if number.is_some_and(|number| !with.cluster.groups.have_all_done(warp, number)) {
            return Ok(false);
        }
        let groups = self.groups;
        let (over, flying) = std::mem::take(&mut self.flying).into_iter().partition(|f| f.group + pending < groups);
        self.flying = flying;
        let over: Vec<Flying> = over;
        let clock = with.clocks.of(Other::Products(warp))?;
        for Flying { group, multiplication, a, time, .. } in over {
            with.clocks.learn(warp, clock, time);
            let form = &with.program.multiplications[multiplication as usize];
            for slot in form.sums.iter().chain(a.iter().filter(|_| form.from_registers)) {
                let part = &mut self.parts[usize::from(slot.id)];
                // Later products may use the register, too.
                if part.group == group + 1 {
                    *part = Part::default();
                    with.registers.defined[usize::from(slot.id)] = ALL;
                }
            }
        }
        Ok(true)
    }
}

/// The value of a 64-bit register that is the same in all lanes.
fn same(registers: &Registers, slot: Slot) -> Done<u64> {
    let row = &registers.doubles[slot.row as usize];
    let equal = row.iter().all(|value| *value == row[first(ALL)]);
    equal.then_some(row[0]).ok_or_else(|| "the lanes describe different matrices".to_owned())
}

/// Row and column of element `e` of a lane's part of a matrix of 16 rows, two columns in a register.
fn place(lane: usize, e: usize) -> (usize, usize) {
    (lane / 4 + 8 * (e / 2 % 2), 8 * (e / 4) + 2 * (lane % 4) + e % 2)
}

/// A warp's 16 rows of A from registers.
fn fragments(a: &[Slot], registers: &Registers) -> Vec<u16> {
    let mut out = vec![0; ROWS * DEPTH];
    for lane in 0..LANES {
        for e in 0..8 {
            let (row, k) = place(lane, e);
            out[row * DEPTH + k] = (registers.words[a[e / 2].row as usize][lane] >> (16 * (e % 2))) as u16;
        }
    }
    out
}

fn product(form: &Multiplication, a: &[u16], b: &[u16], add: bool, registers: &mut Registers) {
    let columns = form.columns;
    let mut c = vec![0f32; ROWS * columns];
    let places =
        |e: usize| (0..LANES).map(move |lane| (lane, place(lane, e))).map(move |(l, (r, k))| (l, r * columns + k));
    for (e, sum) in form.sums.iter().enumerate().filter(|_| add) {
        places(e).for_each(|(lane, at)| c[at] = f32::from_bits(registers.words[sum.row as usize][lane]));
    }
    let (rows, columns) = (ROWS as u32, columns as u32);
    assert!(a.len() == ROWS * DEPTH && b.len() == form.columns * DEPTH, "16 steps of k");
    // SAFETY: the function reads 16 steps of k for each row of a and each column of b, and reads and writes
    // rows·columns sums of c. The slices have these sizes.
    let known = unsafe { osp_emulator_product(form.f16.into(), rows, columns, a.as_ptr(), b.as_ptr(), c.as_mut_ptr()) };
    assert!(known, "the decoder lets only these shapes pass");
    for (e, sum) in form.sums.iter().enumerate() {
        places(e).for_each(|(lane, at)| registers.words[sum.row as usize][lane] = c[at].to_bits());
    }
}

/// A matrix in shared memory, as a description says. PTX ISA 9.0, section 9.7.15.5.1.
#[derive(Clone, Copy, Debug)]
struct Matrix {
    start: u32,
    /// The bytes of both strides.
    lead: u32,
    stride: u32,
    /// Bytes of a row that the swizzle mixes; 0: none.
    swizzle: u32,
    /// Whether the rows of A, or the columns of B, are innermost; otherwise k is.
    by_rows: bool,
}

impl Matrix {
    fn new(word: u64, by_rows: bool) -> Done<Self> {
        let field = |bit: u32| ((word >> bit) as u32 & 0x3FFF) << 4;
        let (known, base) = (0xC000_3FFF_3FFF_3FFF_u64, word >> 49 & 7);
        if word & !known != 0 {
            return Err(format!("the description {word:#x} of a matrix has unknown bits, or the base offset {base}"));
        }
        let swizzle = [0, 128, 64, 32][(word >> 62) as usize];
        Ok(Self { start: field(0), lead: field(16), stride: field(32), swizzle, by_rows })
    }

    /// The address of the piece of 16 bytes that begins at row (or column) `m` and step `k`; one of them is a multiple of
    /// 8, the one that is innermost.
    fn piece(&self, m: u32, k: u32) -> u32 {
        let Self { start, lead, stride, swizzle, .. } = *self;
        let linear = match (self.by_rows, swizzle) {
            (false, 0) => start + m / 8 * stride + m % 8 * 16 + k / 8 * lead,
            (false, _) => start + m / 8 * stride + m % 8 * swizzle + k * 2,
            (true, 0) => start + m / 8 * stride + k / 8 * lead + k % 8 * 16,
            (true, _) => {
                let panel = swizzle / 2;
                start + m / panel * lead + m % panel * 2 + k / 8 * stride + k % 8 * swizzle
            }
        };
        swizzled(linear, swizzle)
    }

    /// Its rows (or columns) in a range, 16 elements each.
    fn elements(
        &self,
        range: std::ops::Range<usize>,
        reading: Accessing,
        memory: &mut Memory<'_>,
        clocks: &Clocks,
    ) -> Done<Vec<u16>> {
        let mut out = vec![0; range.len() * DEPTH];
        let (step_m, step_k) = if self.by_rows { (8, 1) } else { (1, 8) };
        for m in range.clone().step_by(step_m) {
            for k in (0..DEPTH).step_by(step_k) {
                let at = memory.shared(self.piece(m as u32, k as u32), 16, 16, reading.who.warp, reading.what)?;
                memory.check_shared(at, 16, reading, clocks)?;
                for (e, pair) in memory.shared_bytes(at, 16).chunks_exact(2).enumerate() {
                    let (row, k) = if self.by_rows { (m + e, k) } else { (m, k + e) };
                    out[(row - range.start) * DEPTH + k] = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(swizzle: u64, by_rows: bool) -> Matrix {
        Matrix::new((2048 >> 4) | (4096 >> 4) << 16 | (1024 >> 4) << 32 | swizzle << 62, by_rows).unwrap()
    }

    #[test]
    fn pieces_lie_where_the_isa_says() {
        // Row 11, step 8.
        assert_eq!(matrix(0, false).piece(11, 8), 2048 + 1024 + 3 * 16 + 4096);
        assert_eq!(matrix(1, false).piece(11, 8), 2048 + 1024 + 3 * 128 + (16 ^ 3 << 4));
        assert_eq!(matrix(3, false).piece(11, 8), 2048 + 1024 + 3 * 32 + 16);
        assert_eq!(matrix(3, false).piece(13, 8), 2048 + 1024 + 5 * 32);
        // Rows 72 to 79, step 11.
        assert_eq!(matrix(0, true).piece(72, 11), 2048 + 9 * 1024 + 4096 + 3 * 16);
        assert_eq!(matrix(1, true).piece(72, 11), 2048 + 4096 + 1024 + 3 * 128 + (16 ^ 3 << 4));
        assert_eq!(matrix(2, true).piece(72, 11), 2048 + 2 * 4096 + 1024 + 3 * 64);
    }

    #[test]
    fn descriptions_have_no_other_bits() {
        for bit in [14, 30, 46, 49, 52, 61] {
            assert!(Matrix::new(1 << bit, false).unwrap_err().contains("unknown bits"), "{bit}");
        }
    }
}

//! Who read and wrote each byte of memory, and when.
//!
//! Memory is divided into pages, and a page into cells. All cells of a page have the size of the smallest access to it;
//! accesses are aligned, so a cell has one history.

use super::clocks::{Clock, Clocks, Stamp, Who};

/// Bytes of a page.
pub const PAGE: usize = 1024;
/// log₂ of the bytes of the first cells, the largest access.
const LARGEST: u32 = 4;

/// An access that is not ordered with an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub earlier: Stamp,
    /// Whether the earlier access wrote.
    pub wrote: bool,
    /// Whether it happened before, but its thread did not show it to asynchronous operations.
    pub hidden: bool,
    /// The first byte that both touch.
    pub at: usize,
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Read,
    Write,
    /// An asynchronous copy begins to write.
    Fly,
    /// A bulk copy begins to write.
    BulkFly,
    /// A bulk copy or a product begins to read, and ends when a warp learns it from this clock.
    BulkRead(Clock),
}

impl Use {
    fn reads(self) -> bool {
        matches!(self, Self::Read | Self::BulkRead(_))
    }

    /// Whether it sees only stores that were shown to it.
    fn is_bulk(self) -> bool {
        matches!(self, Self::BulkFly | Self::BulkRead(_))
    }
}

/// The histories of a page's cells.
#[derive(Clone, Debug)]
pub struct Page {
    /// log₂ of a cell's bytes.
    size: u32,
    writes: Vec<Stamp>,
    /// For each warp that read, its last reads; behind the warps, the other clocks.
    reads: Vec<Vec<Stamp>>,
}

impl Page {
    fn new() -> Self {
        Self { size: LARGEST, writes: vec![Stamp::default(); PAGE >> LARGEST], reads: Vec::new() }
    }

    /// Makes cells of at most `2^size` bytes.
    fn refine(&mut self, size: u32) {
        if size >= self.size {
            return;
        }
        let times = 1 << (self.size - size);
        for cells in self.reads.iter_mut().chain([&mut self.writes]) {
            *cells = cells.iter().flat_map(|&cell| std::iter::repeat_n(cell, times)).collect();
        }
        self.size = size;
    }
}

/// The history of a space of addresses from 0 on.
#[derive(Debug, Default)]
pub struct Shadow {
    pages: Vec<Option<Box<Page>>>,
    /// Whether earlier blocks used the same memory, so that their accesses can conflict.
    shared_by_blocks: bool,
}

impl Shadow {
    /// The history of `bytes` bytes.
    pub fn new(bytes: usize, shared_by_blocks: bool) -> Self {
        Self { pages: (0..bytes.div_ceil(PAGE)).map(|_| None).collect(), shared_by_blocks }
    }

    /// Notes an access of `bytes` bytes: a power of two up to 16, aligned to their number, or any bytes of one page.
    ///
    /// # Errors
    /// The earlier access, if it is not ordered with this one and one of them writes, or if it is hidden from it.
    pub fn note(
        &mut self,
        what: Use,
        at: usize,
        bytes: usize,
        who: Who,
        line: u32,
        clocks: &Clocks,
    ) -> Result<(), Conflict> {
        let page = self.pages[at / PAGE].get_or_insert_with(|| Box::new(Page::new()));
        page.refine((at | bytes).trailing_zeros());
        let first = (at % PAGE) >> page.size;
        let cells = first..first + (bytes >> page.size);
        let conflict = |cell: usize, earlier: Stamp, wrote: bool, size: u32| {
            let at = at / PAGE * PAGE + (cell << size);
            Conflict { earlier, wrote, hidden: false, at }
        };
        let elsewhere = |stamp: Stamp| self.shared_by_blocks && stamp.time() < clocks.base;
        for cell in cells.clone() {
            let wrote = page.writes[cell];
            if !wrote.is_never() && (elsewhere(wrote) || !clocks.ordered(wrote, who)) {
                return Err(conflict(cell, wrote, true, page.size));
            }
            if what.is_bulk() && !self.shared_by_blocks && !wrote.is_never() && !clocks.shown(wrote, who.warp) {
                return Err(Conflict { hidden: true, ..conflict(cell, wrote, true, page.size) });
            }
        }
        if what.reads() {
            let (reader, now) = match what {
                Use::BulkRead(clock) => (clocks.warps() + clock.number(), Stamp::of(clocks.now, clock, line)),
                _ => (who.warp, Stamp::new(clocks.now, who, line)),
            };
            if page.reads.len() <= reader {
                page.reads.resize(reader + 1, Vec::new());
            }
            let reads = &mut page.reads[reader];
            if reads.is_empty() {
                reads.resize(PAGE >> page.size, Stamp::default());
            }
            reads[cells].iter_mut().for_each(|read| *read = now.after(*read, clocks.base));
            return Ok(());
        }
        for reads in page.reads.iter().filter(|reads| !reads.is_empty()) {
            for cell in cells.clone() {
                let read = reads[cell];
                let foreign = self.shared_by_blocks && read.was_elsewhere() || elsewhere(read);
                if !read.is_never() && (foreign || !clocks.ordered(read, who)) {
                    return Err(conflict(cell, read, false, page.size));
                }
            }
        }
        let time = if what == Use::Write { clocks.now } else { Stamp::FLYING };
        page.writes[cells].fill(Stamp::new(time, who, line));
        Ok(())
    }

    /// Ends an asynchronous copy of any bytes: from now on it is a write with this stamp.
    pub fn land(&mut self, at: usize, bytes: usize, stamp: Stamp) {
        for (at, bytes) in pieces(at, bytes) {
            let Some(page) = &mut self.pages[at / PAGE] else { continue };
            let first = (at % PAGE) >> page.size;
            page.writes[first..first + (bytes >> page.size)].fill(stamp);
        }
    }

    /// A byte that different blocks touched, at least one of them with a write: one of them noted here, and the other in
    /// `other`. Each page of `other` is left with the smaller cells of both.
    pub fn conflict_with(&mut self, other: &mut Self) -> Option<(Stamp, Stamp, usize)> {
        let pages = self.pages.iter_mut().zip(&mut other.pages).enumerate();
        pages.into_iter().find_map(|(number, pages)| {
            let (Some(a), Some(b)) = pages else { return None };
            a.refine(b.size);
            b.refine(a.size);
            let touched = |page: &Page, cell: usize| {
                let reads = page.reads.iter().filter_map(|reads| reads.get(cell).copied());
                [page.writes[cell]].into_iter().chain(reads).find(|stamp| !stamp.is_never())
            };
            (0..a.writes.len()).find_map(|cell| {
                let at = number * PAGE + (cell << a.size);
                let written = |page: &Page| Some(page.writes[cell]).filter(|stamp| !stamp.is_never());
                let first = written(a).and_then(|wrote| Some((wrote, touched(b, cell)?)));
                let both = first.or_else(|| written(b).and_then(|wrote| Some((touched(a, cell)?, wrote))));
                both.map(|(a, b)| (a, b, at))
            })
        })
    }
}

/// Cuts bytes at the ends of pages: offset and number of each piece.
pub fn pieces(at: usize, bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let (mut start, end) = (at, at + bytes);
    std::iter::from_fn(move || {
        let piece = (start, (PAGE - start % PAGE).min(end - start));
        start += piece.1;
        (piece.1 > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::super::clocks::{Known, Other};
    use super::*;

    fn who(warp: usize) -> Who {
        Who { warp, lane: 0 }
    }

    fn begun() -> Clocks {
        let mut clocks = Clocks::default();
        clocks.begin(2);
        clocks
    }

    #[test]
    fn unordered_accesses_conflict_if_one_writes() {
        let (mut clocks, mut shadow) = (begun(), Shadow::new(5000, false));
        shadow.note(Use::Write, 1040, 4, who(0), 1, &clocks).unwrap();
        shadow.note(Use::Write, 1044, 2, who(1), 2, &clocks).unwrap();
        let conflict = shadow.note(Use::Read, 1040, 16, who(1), 3, &clocks).unwrap_err();
        assert_eq!((conflict.earlier.line(), conflict.wrote, conflict.at), (1, true, 1040));
        clocks.meet(&[0, 1], &Known::default());
        shadow.note(Use::Read, 1040, 16, who(1), 4, &clocks).unwrap();
        shadow.note(Use::Read, 1040, 16, who(0), 5, &clocks).unwrap();
        let conflict = shadow.note(Use::Write, 1054, 2, who(0), 6, &clocks).unwrap_err();
        assert_eq!((conflict.earlier.line(), conflict.wrote, conflict.at), (4, false, 1054));
    }

    #[test]
    fn a_copy_in_flight_conflicts_with_everyone() {
        let (mut clocks, mut shadow) = (begun(), Shadow::new(100, false));
        shadow.note(Use::Fly, 16, 16, who(0), 1, &clocks).unwrap();
        clocks.meet(&[0, 1], &Known::default());
        for (what, warp) in [(Use::Read, 0), (Use::Write, 1), (Use::Fly, 0)] {
            assert!(shadow.note(what, 20, 4, who(warp), 2, &clocks).is_err());
        }
        shadow.land(16, 16, Stamp::new(clocks.now, who(0), 1));
        shadow.note(Use::Read, 20, 4, who(0), 3, &clocks).unwrap();
        assert!(shadow.note(Use::Read, 20, 4, who(1), 3, &clocks).is_err());
    }

    #[test]
    fn blocks_conflict_in_global_memory_only() {
        for global in [true, false] {
            let (mut clocks, mut shadow) = (begun(), Shadow::new(100, global));
            shadow.note(Use::Write, 0, 4, who(0), 1, &clocks).unwrap();
            shadow.note(Use::Read, 8, 4, who(0), 1, &clocks).unwrap();
            clocks.begin(2);
            // The second block reads, too, so its write would be ordered with its own read.
            shadow.note(Use::Read, 8, 4, who(0), 1, &clocks).unwrap();
            assert_eq!(shadow.note(Use::Read, 0, 4, who(0), 2, &clocks).is_err(), global);
            assert_eq!(shadow.note(Use::Write, 8, 4, who(0), 2, &clocks).is_err(), global);
        }
    }

    #[test]
    fn histories_of_two_workers_are_compared() {
        let clocks = begun();
        let history = |what, at, bytes| {
            let mut shadow = Shadow::new(4096, true);
            shadow.note(what, at, bytes, who(1), 9, &clocks).unwrap();
            shadow
        };
        let meets = |mut a: Shadow, mut b: Shadow| a.conflict_with(&mut b).map(|(.., at)| at);
        assert_eq!(meets(history(Use::Write, 2048, 16), history(Use::Read, 2052, 2)), Some(2052));
        assert_eq!(meets(history(Use::Read, 2048, 16), history(Use::Write, 2060, 4)), Some(2060));
        assert_eq!(meets(history(Use::Read, 2048, 16), history(Use::Read, 2060, 4)), None);
        assert_eq!(meets(history(Use::Write, 2048, 8), history(Use::Write, 2056, 8)), None);
    }

    #[test]
    fn bulk_copies_see_what_was_shown_and_end_by_their_clock() {
        let (mut clocks, mut shadow) = (begun(), Shadow::new(4096, false));
        let clock = clocks.of(Other::Stores(who(1))).unwrap();
        shadow.note(Use::Write, 1008, 16, who(0), 1, &clocks).unwrap();
        clocks.meet(&[0, 1], &Known::default());
        let read =
            |shadow: &mut Shadow, clocks: &Clocks| shadow.note(Use::BulkRead(clock), 1000, 24, who(1), 2, clocks);
        let conflict = read(&mut shadow, &clocks).unwrap_err();
        assert!(conflict.hidden && conflict.at == 1008);
        clocks.show(0, 1).unwrap();
        assert!(read(&mut shadow, &clocks).unwrap_err().hidden);
        clocks.meet(&[0, 1], &Known::default());
        read(&mut shadow, &clocks).unwrap();
        // A barrier does not end it, and its wait does.
        let time = clocks.advance();
        clocks.meet(&[0, 1], &Known::default());
        let conflict = shadow.note(Use::BulkFly, 1000, 8, who(1), 3, &clocks).unwrap_err();
        assert!(!conflict.hidden && !conflict.wrote && conflict.earlier.line() == 2);
        clocks.learn(1, clock, time);
        shadow.note(Use::BulkFly, 1000, 8, who(1), 3, &clocks).unwrap();
        assert!(shadow.note(Use::Read, 1000, 4, who(1), 4, &clocks).is_err());
    }

    #[test]
    fn pieces_end_with_their_pages() {
        let cut = |at, bytes| pieces(at, bytes).collect::<Vec<_>>();
        assert_eq!(cut(1000, 2000), [(1000, 24), (1024, 1024), (2048, 952)]);
        assert_eq!(cut(1024, 16), [(1024, 16)]);
        assert_eq!(cut(7, 0), []);
    }
}

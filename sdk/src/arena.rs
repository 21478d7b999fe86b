//! The allocator of a mapper: it hands out memory upwards and takes back only the last piece.
//!
//! Every delivery gets a fresh instance, whose memory goes away as a whole. Buffers that grow are the common case,
//! and they grow in place.

const PAGE: usize = 64 * 1024;
/// Memory grows by a quarter at a time, up to this: a limit of the host should not be met far too early.
const STEP_MAX: usize = 4 * 1024 * 1024;

/// A range of addresses, given away from its start.
#[derive(Debug)]
struct Bump {
    next: usize,
    end: usize,
}

impl Bump {
    /// The address of a new piece. `grow` appends pages to the memory and tells where they begin.
    fn allocate(
        &mut self,
        size: usize,
        align: usize,
        grow: impl Fn(usize) -> Option<usize>,
    ) -> Option<usize> {
        if let Some(address) = self.take(size, align) {
            return Some(address);
        }
        self.extend(size.checked_add(align - 1)?, grow)?;
        self.take(size, align)
    }

    /// Makes a piece smaller or larger where it is; larger only if it is the last one and there is room.
    fn resize(
        &mut self,
        address: usize,
        old: usize,
        new: usize,
        grow: impl Fn(usize) -> Option<usize>,
    ) -> bool {
        if !self.is_last(address, old) {
            return new <= old;
        }
        // Where new pages don't adjoin, the piece is no longer in this range.
        if self.end - address < new && (self.extend(new - old, grow).is_none() || !self.is_last(address, old))
        {
            return false;
        }
        self.next = address + new;
        true
    }

    /// Takes a piece back if it is the last one.
    fn free(&mut self, address: usize, size: usize) {
        if self.is_last(address, size) {
            self.next = address;
        }
    }

    fn is_last(&self, address: usize, size: usize) -> bool {
        address + size == self.next
    }

    fn take(&mut self, size: usize, align: usize) -> Option<usize> {
        let address = self.next.checked_next_multiple_of(align)?;
        let next = address.checked_add(size).filter(|next| *next <= self.end)?;
        self.next = next;
        Some(address)
    }

    /// Gets room for `size` more bytes. Pages that don't adjoin the range take its place.
    fn extend(&mut self, size: usize, grow: impl Fn(usize) -> Option<usize>) -> Option<()> {
        let needed = size.div_ceil(PAGE);
        let generous = needed.max((self.end / 4).min(STEP_MAX) / PAGE);
        let (start, pages) = grow(generous)
            .map(|start| (start, generous))
            .or_else(|| (generous > needed).then(|| grow(needed)).flatten().map(|start| (start, needed)))?;
        let end = start.checked_add(pages.checked_mul(PAGE)?)?;
        if start != self.end {
            self.next = start;
        }
        self.end = end;
        Some(())
    }
}

#[cfg(target_arch = "wasm32")]
mod global {
    use std::{
        alloc::{GlobalAlloc, Layout},
        arch::wasm32::memory_grow,
        cell::UnsafeCell,
        ptr,
    };

    use super::{Bump, PAGE};

    #[global_allocator]
    static ARENA: Arena = Arena(UnsafeCell::new(Bump { next: 0, end: 0 }));

    struct Arena(UnsafeCell<Bump>);

    // SAFETY: a mapper has one thread; wasm32-unknown-unknown has no others.
    unsafe impl Sync for Arena {}

    impl Arena {
        #[expect(clippy::mut_from_ref, reason = "the one thread holds it for the length of one method below")]
        fn bump(&self) -> &mut Bump {
            // SAFETY: no method below calls another while it holds this, nor anything else that allocates.
            let bump = unsafe { &mut *self.0.get() };
            if bump.end == 0 {
                *bump = heap();
            }
            bump
        }
    }

    // SAFETY: pieces lie in memory that belongs to the arena alone, aligned as asked for, and never overlap: `Bump`
    // gives each address away once, and takes back only the last piece.
    unsafe impl GlobalAlloc for Arena {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            match self.bump().allocate(layout.size(), layout.align(), grow) {
                Some(address) => ptr::with_exposed_provenance_mut(address),
                None => ptr::null_mut(),
            }
        }

        unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
            self.bump().free(piece.expose_provenance(), layout.size());
        }

        unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            if self.bump().resize(piece.expose_provenance(), layout.size(), size, grow) {
                return piece;
            }
            // SAFETY: the caller sees to it that `size` suits the alignment.
            let larger = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
            if !larger.is_null() {
                // SAFETY: the old piece is the smaller one, else it would have been resized; both are ours.
                unsafe { ptr::copy_nonoverlapping(piece, larger, layout.size()) };
            }
            larger
        }
    }

    /// What the linker left between the data and the end of the initial memory.
    fn heap() -> Bump {
        unsafe extern "C" {
            safe static __heap_base: u8;
            safe static __heap_end: u8;
        }
        Bump {
            next: (&raw const __heap_base).expose_provenance(),
            end: (&raw const __heap_end).expose_provenance(),
        }
    }

    fn grow(pages: usize) -> Option<usize> {
        memory_grow::<0>(pages).checked_mul(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A linear memory: how many pages there are, and may be.
    struct Memory {
        pages: Cell<usize>,
        pages_max: usize,
    }

    impl Memory {
        fn new(pages: usize, pages_max: usize) -> Self {
            Self { pages: Cell::new(pages), pages_max }
        }

        fn grow(&self, pages: usize) -> Option<usize> {
            let (old, new) = (self.pages.get(), self.pages.get() + pages);
            (new <= self.pages_max).then(|| {
                self.pages.set(new);
                old * PAGE
            })
        }
    }

    fn full(_: usize) -> Option<usize> {
        None
    }

    #[test]
    fn pieces_are_aligned_and_do_not_overlap() {
        let mut bump = Bump { next: 1001, end: PAGE };
        let mut last = 1001;
        for (size, align) in [(1, 1), (3, 8), (16, 16), (5, 1), (64, 4096), (7, 2)] {
            let address = bump.allocate(size, align, full).unwrap();
            assert!(
                address.is_multiple_of(align) && address >= last,
                "{size} aligned to {align} at {address}"
            );
            last = address + size;
        }
    }

    #[test]
    fn a_range_is_used_to_its_end_and_not_beyond() {
        let mut bump = Bump { next: 0, end: 64 };
        assert_eq!(bump.allocate(64, 1, full), Some(0));
        assert_eq!(bump.allocate(1, 1, full), None);
    }

    #[test]
    fn the_last_piece_grows_shrinks_and_goes_in_place() {
        let mut bump = Bump { next: 0, end: 1024 };
        let first = bump.allocate(10, 1, full).unwrap();
        let last = bump.allocate(10, 1, full).unwrap();
        assert!(bump.resize(last, 10, 1000, full));
        assert!(!bump.resize(last, 1000, 2000, full));
        assert!(bump.resize(last, 1000, 20, full));
        assert!(!bump.resize(first, 10, 11, full), "another piece lies behind it");
        assert!(bump.resize(first, 10, 5, full));
        bump.free(last, 20);
        bump.free(first, 5);
        assert_eq!(bump.next, 10, "what the first one gave up is lost");
    }

    #[test]
    fn memory_grows_by_a_quarter_while_it_may_and_then_by_what_is_needed() {
        let memory = Memory::new(16, 21);
        let mut bump = Bump { next: 15 * PAGE, end: 16 * PAGE };
        assert_eq!(bump.allocate(PAGE + 1, 1, |pages| memory.grow(pages)), Some(15 * PAGE));
        assert_eq!(memory.pages.get(), 20);
        assert_eq!(bump.allocate(3 * PAGE, 8, |pages| memory.grow(pages)), Some(16 * PAGE + 8));
        assert_eq!(bump.allocate(PAGE, 1, |pages| memory.grow(pages)), Some(19 * PAGE + 8));
        assert_eq!(memory.pages.get(), 21);
        assert_eq!(bump.allocate(PAGE, 1, |pages| memory.grow(pages)), None);
    }

    #[test]
    fn a_large_buffer_grows_in_place_over_new_pages() {
        let memory = Memory::new(1, 1000);
        let mut bump = Bump { next: 100, end: PAGE };
        let buffer = bump.allocate(1000, 1, |pages| memory.grow(pages)).unwrap();
        assert!(bump.resize(buffer, 1000, 20 * PAGE, |pages| memory.grow(pages)));
        assert!(bump.end <= memory.pages.get() * PAGE);
    }

    #[test]
    fn pages_that_somebody_else_grew_are_left_alone() {
        let memory = Memory::new(1, 1000);
        let mut bump = Bump { next: 0, end: PAGE };
        let piece = bump.allocate(PAGE, 1, |pages| memory.grow(pages)).unwrap();
        memory.grow(3);
        assert!(!bump.resize(piece, PAGE, PAGE + 1, |pages| memory.grow(pages)));
        assert_eq!(bump.allocate(8, 8, |pages| memory.grow(pages)), Some(4 * PAGE));
    }

    #[test]
    fn what_no_memory_can_hold_is_refused() {
        let memory = Memory::new(1, 1000);
        let mut bump = Bump { next: 8, end: PAGE };
        for (size, align) in [(usize::MAX, 1), (usize::MAX - 4, 8), (usize::MAX / 2, 1 << 20)] {
            assert_eq!(bump.allocate(size, align, |pages| memory.grow(pages)), None);
        }
        assert_eq!(bump.allocate(8, 8, |pages| memory.grow(pages)), Some(8));
    }
}

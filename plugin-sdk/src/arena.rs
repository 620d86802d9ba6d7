//! The allocator of a plugin: an arena that is part of the initial memory, and the ordinary allocator behind it.
//!
//! A plugin's instance usually lives for one request, so most of what it allocates need not be found again: the
//! arena only moves a mark up. It takes back what lies directly below the mark (the last block grows and shrinks in
//! place, as strings and vectors do while they are built) and everything at once when no block is left, so that an
//! instance that is used again starts anew. What does not fit goes to the system's allocator, which grows the
//! memory and frees block by block: a long run is slower than a short one, but does not leak. It would grow by
//! 64 KiB at a time, so it is made to grow by more.
#![expect(
    unsafe_code,
    reason = "a global allocator is unsafe by its trait, and hands out raw memory"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// Enough for a request with some kilobytes of JSON, as most have. Together with a stack of 64 KiB and the data of a usual
/// plugin it stays within two pages of memory. The host wipes all of them after each request, which takes a microsecond for
/// each where processors have little cache; who needs more grows, and costs as much as twenty of them.
const ARENA_BYTES: usize = 40 * 1024;

/// Blocks from this size on go to the system at once: one of them would use up what hundreds of small ones need.
const BLOCK_BYTES_MAX: usize = 16 * 1024;

/// By how much the memory grows when small blocks need more: 1 MiB is one call of the host instead of sixteen.
const STEP_BYTES: usize = 1024 * 1024;

#[cfg(target_family = "wasm")]
#[global_allocator]
static ARENA: Arena = Arena::new();

struct Arena {
    memory: UnsafeCell<Memory>,
    /// The mark: what lies below it is given away.
    used: Cell<usize>,
    /// How many blocks are given away and not freed.
    blocks: Cell<usize>,
    /// Bytes of small blocks that the system gave and has not back.
    borrowed: Cell<usize>,
    /// How many of these the system can give without growing the memory.
    reserved: Cell<usize>,
}

/// Zeros, so that it is `.bss` and takes no room in the file; aligned, so that offsets are, too.
#[repr(align(16))]
struct Memory(#[expect(dead_code, reason = "reached by address only")] [u8; ARENA_BYTES]);

// SAFETY: a component of this target has one thread.
#[cfg(target_family = "wasm")]
unsafe impl Sync for Arena {}

impl Arena {
    const fn new() -> Self {
        Self {
            memory: UnsafeCell::new(Memory([0; ARENA_BYTES])),
            used: Cell::new(0),
            blocks: Cell::new(0),
            borrowed: Cell::new(0),
            reserved: Cell::new(0),
        }
    }

    fn start(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    /// How far into the arena a block begins; nothing if it is the system's.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(self.start() as usize);
        (offset < ARENA_BYTES).then_some(offset)
    }

    /// Moves the mark, if there is room between it and the end.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if layout.size() >= BLOCK_BYTES_MAX || layout.align() > 16 {
            return None;
        }
        let offset = self.used.get().next_multiple_of(layout.align());
        let end = offset + layout.size();
        if end > ARENA_BYTES {
            return None;
        }
        self.used.set(end);
        self.blocks.set(self.blocks.get() + 1);
        // SAFETY: `offset` is at most ARENA_BYTES, so this stays within the arena or one past it.
        Some(unsafe { self.start().add(offset) })
    }

    /// Keeps count of what the system has given; grows its memory in large steps.
    fn borrow(&self, bytes: usize) {
        let borrowed = self.borrowed.get() + bytes;
        self.borrowed.set(borrowed);
        if borrowed > self.reserved.get() {
            self.reserved.set(borrowed + STEP_BYTES);
            let step = Layout::new::<[u8; STEP_BYTES]>();
            // SAFETY: a block that is given back as it came. The system keeps its memory for the next ones. Where
            // the host allows no step of this size, smaller ones may still do.
            unsafe {
                // The compiler would leave out a pair of calls that nobody looks at.
                let block = std::hint::black_box(System.alloc(step));
                if !block.is_null() {
                    System.dealloc(block, step);
                }
            }
        }
    }

    fn give_back(&self, bytes: usize) {
        self.borrowed.set(self.borrowed.get().saturating_sub(bytes));
    }
}

/// What of a block of the system counts as small.
fn small(bytes: usize) -> usize {
    if bytes < BLOCK_BYTES_MAX { bytes } else { 0 }
}

// SAFETY: blocks of the arena do not overlap, because each begins at or above the mark, which only goes down to the
// begin of the last block when that is freed, or to 0 when all are. Everything else is the system's business.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(block) => block,
            None => {
                self.borrow(small(layout.size()));
                // SAFETY: the caller's promise about `layout` is passed on.
                unsafe { System.alloc(layout) }
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(offset) = self.offset(block) else {
            self.give_back(small(layout.size()));
            // SAFETY: not from the arena, so from the system, with this layout.
            return unsafe { System.dealloc(block, layout) };
        };
        self.blocks.set(self.blocks.get() - 1);
        if self.blocks.get() == 0 {
            self.used.set(0);
        } else if offset + layout.size() == self.used.get() {
            self.used.set(offset);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match self.offset(block) {
            None => {
                self.give_back(small(layout.size()));
                self.borrow(small(new_size));
                // SAFETY: not from the arena, so from the system, with this layout.
                return unsafe { System.realloc(block, layout, new_size) };
            }
            Some(offset) => {
                let is_last = offset + layout.size() == self.used.get();
                if is_last && new_size < BLOCK_BYTES_MAX && offset + new_size <= ARENA_BYTES {
                    self.used.set(offset + new_size);
                    return block;
                }
                if new_size <= layout.size() {
                    return block;
                }
            }
        }
        // SAFETY: the caller promises that `new_size` makes a valid layout; the new block does not overlap the old
        // one and is at least as large as what is copied.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    /// Fills a block with a byte of its own, so that an overlap shows.
    fn take(arena: &Arena, size: usize, mark: u8) -> *mut u8 {
        // SAFETY: the size is not 0, and the block is as large as what is written.
        unsafe {
            let block = arena.alloc(layout(size));
            block.write_bytes(mark, size);
            block
        }
    }

    fn is_filled(block: *mut u8, size: usize, mark: u8) -> bool {
        // SAFETY: the block was filled by `take` and not freed.
        unsafe { std::slice::from_raw_parts(block, size) }
            .iter()
            .all(|byte| *byte == mark)
    }

    #[test]
    fn the_last_block_grows_and_shrinks_in_place() {
        let arena = Arena::new();
        let first = take(&arena, 10, 1);
        let last = take(&arena, 10, 2);

        // SAFETY: blocks of this arena with their layouts.
        unsafe {
            assert_eq!(arena.realloc(last, layout(10), 1000), last);
            assert_eq!(arena.realloc(last, layout(1000), 5), last);
            let moved = arena.realloc(first, layout(10), 100);
            assert_ne!(moved, first);
            assert!(is_filled(moved, 10, 1) && is_filled(last, 5, 2));
        }
    }

    #[test]
    fn everything_is_free_again_when_no_block_is_left() {
        let arena = Arena::new();
        let blocks = [
            take(&arena, 100, 1),
            take(&arena, 200, 2),
            take(&arena, 300, 3),
        ];
        assert_eq!(arena.used.get(), 104 + 200 + 300);

        for (block, size) in blocks.into_iter().zip([100, 200, 300]) {
            // SAFETY: each block once, with its layout.
            unsafe { arena.dealloc(block, layout(size)) };
        }

        assert_eq!(arena.used.get(), 0);
    }

    #[test]
    fn what_does_not_fit_comes_from_the_system_and_goes_back_there() {
        let arena = Arena::new();
        let mut blocks = Vec::new();
        for (number, mark) in (0..100).zip(1u8..) {
            let size = 5000 + number;
            blocks.push((take(&arena, size, mark), size, mark));
        }
        let large = take(&arena, BLOCK_BYTES_MAX, 200);
        blocks.push((large, BLOCK_BYTES_MAX, 200));

        assert!(arena.offset(large).is_none());
        assert!(
            blocks.iter().any(|(block, size, _)| {
                *size < BLOCK_BYTES_MAX && arena.offset(*block).is_none()
            })
        );
        for (block, size, mark) in blocks {
            assert!(is_filled(block, size, mark));
            // SAFETY: each block once, with its layout.
            unsafe { arena.dealloc(block, layout(size)) };
        }
        assert_eq!(
            (arena.used.get(), arena.blocks.get(), arena.borrowed.get()),
            (0, 0, 0)
        );
    }

    #[test]
    fn blocks_begin_where_their_alignment_wants() {
        let arena = Arena::new();
        for align in [1, 2, 4, 8, 16, 32] {
            // SAFETY: the size is not 0.
            let block = unsafe { arena.alloc(Layout::from_size_align(3, align).unwrap()) };
            assert_eq!(block as usize % align, 0);
        }
    }
}

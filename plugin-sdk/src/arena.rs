//! The allocator of a plugin: an arena that is part of the initial memory, and the ordinary allocator behind it.
//!
//! A plugin's instance usually lives for one request, so most of what it allocates need not be found again: the
//! arena only moves a mark up. It takes back what lies directly below the mark (the last block grows and shrinks in
//! place, as strings and vectors do while they are built) and everything at once when no block is left, so that an
//! instance that is used again starts anew. What does not fit goes to the system's allocator, which grows the
//! memory and frees block by block: a long run is slower than a short one, but does not leak.
#![expect(
    unsafe_code,
    reason = "a global allocator is unsafe by its trait, and hands out raw memory"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// Enough for a request with some ten kilobytes of JSON, and small enough to be wiped after each.
const ARENA_BYTES: usize = 256 * 1024;

/// Blocks from this size on go to the system at once: one of them would use up what hundreds of small ones need.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

#[global_allocator]
static ARENA: Arena = Arena {
    memory: UnsafeCell::new(Memory([0; ARENA_BYTES])),
    used: Cell::new(0),
    blocks: Cell::new(0),
};

struct Arena {
    memory: UnsafeCell<Memory>,
    /// The mark: what lies below it is given away.
    used: Cell<usize>,
    /// How many blocks are given away and not freed.
    blocks: Cell<usize>,
}

/// Zeros, so that it is `.bss` and takes no room in the file; aligned, so that offsets are, too.
#[repr(align(16))]
struct Memory(#[expect(dead_code, reason = "reached by address only")] [u8; ARENA_BYTES]);

// SAFETY: a component of this target has one thread.
unsafe impl Sync for Arena {}

impl Arena {
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
}

// SAFETY: blocks of the arena do not overlap, because each begins at or above the mark, which only goes down to the
// begin of the last block when that is freed, or to 0 when all are. Everything else is the system's business.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(block) => block,
            // SAFETY: the caller's promise about `layout` is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(offset) = self.offset(block) else {
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
            // SAFETY: not from the arena, so from the system, with this layout.
            None => return unsafe { System.realloc(block, layout, new_size) },
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

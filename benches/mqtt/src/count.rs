//! Counts what the client's thread allocates.

#![allow(unsafe_code, reason = "an allocator can't be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, with counters of each thread.
pub struct Counting;

/// Allocations of this thread so far, and the bytes that it holds.
pub fn counted() -> (u64, i64) {
    (COUNT.get(), LIVE.get())
}

fn note(allocations: u64, bytes: i64) {
    // A thread that ends frees its counters last.
    let _ended = COUNT.try_with(|count| count.set(count.get() + allocations));
    let _ended = LIVE.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: everything is the system's allocator's; counting touches no memory of its own but thread-local cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

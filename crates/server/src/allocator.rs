//! The process's memory allocator, and how much of it is in use.
//!
//! [`Counting`] wraps an allocator and keeps the sum of what is allocated: `used_memory`. Each of the first threads has
//! a counter of its own that no other thread writes, so that counting costs a load and a store in a cache line that
//! the thread owns; later threads share one counter. The sum over all counters is exact whenever no allocation is under
//! way, and reading it touches a few cache lines only.
//!
//! What is counted is the size class that the allocator rounds a request up to, not the request: the bytes that are gone
//! from its free memory. Of the slabs of [`structures::arena`], where the data lies, the blocks count and not the slabs,
//! for the same reason: a block that is freed is memory for the next key, so that evicting keys lowers `used_memory` at
//! once. Slabs that are partly free show as fragmentation, in the resident set and in [`slack_bytes`].
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use structures::arena;

/// The allocator of the programs: see docs/ARCHITECTURE.md for how it was chosen.
pub type Allocator = Counting<tikv_jemallocator::Jemalloc>;

/// A fresh [`Allocator`], for `#[global_allocator]`.
pub const fn allocator() -> Allocator {
    Counting(tikv_jemallocator::Jemalloc)
}

/// What `INFO` and `--version` call the allocator.
pub const NAME: &str = "jemalloc-5.3.1";

/// Threads that have a counter of their own; the last counter is for all others.
const COUNTERS: usize = 16;

#[repr(align(128))]
struct Counter(AtomicI64);

static ALLOCATED: [Counter; COUNTERS] = [const { Counter(AtomicI64::new(0)) }; COUNTERS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Index of this thread's counter. Without a destructor, so that it may be used while the thread ends.
    static COUNTER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Bytes that the process has allocated; 0 in a program that does not use [`Counting`].
pub fn used_bytes() -> u64 {
    let sum: i64 = ALLOCATED.iter().map(|counter| counter.0.load(Ordering::Relaxed)).sum();
    let arena = arena::usage();
    (sum - arena.held + arena.allocated).max(0) as u64
}

/// Bytes of slabs that no block is in.
pub fn slack_bytes() -> u64 {
    let arena = arena::usage();
    (arena.held - arena.allocated).max(0) as u64
}

/// jemalloc's report on itself.
pub fn report() -> String {
    extern "C" fn append(into: *mut c_void, text: *const c_char) {
        // SAFETY: `into` is the buffer that `report` lends for the call, `text` a C string of jemalloc's.
        let (into, text) = unsafe { (&mut *into.cast::<Vec<u8>>(), CStr::from_ptr(text)) };
        into.extend_from_slice(text.to_bytes());
    }
    let mut text: Vec<u8> = Vec::new();
    // SAFETY: `append` takes what is passed as its first argument to be a buffer, and it is one for as long as the call
    // takes. Allocating within the callback is allowed.
    unsafe {
        tikv_jemalloc_sys::malloc_stats_print(Some(append), (&raw mut text).cast(), std::ptr::null());
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Gives the free pages of all arenas back to the operating system; false if jemalloc refuses.
pub fn purge() -> bool {
    /// `MALLCTL_ARENAS_ALL`.
    const NAME: &CStr = c"arena.4096.purge";
    // SAFETY: this control takes no value and gives none.
    let code = unsafe {
        tikv_jemalloc_sys::mallctl(
            NAME.as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
    };
    code == 0
}

#[inline]
fn count(bytes: i64) {
    COUNTER.with(|own| {
        let mut index = own.get();
        if index == usize::MAX {
            index = THREADS.fetch_add(1, Ordering::Relaxed).min(COUNTERS - 1);
            own.set(index);
        }
        let counter = &ALLOCATED[index].0;
        if index < COUNTERS - 1 {
            // Nobody else writes it: no need to lock the bus.
            counter.store(counter.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        } else {
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
    });
}

/// The size class of jemalloc that holds a request: multiples of 16 up to 128, then four classes per doubling.
#[inline]
pub fn size_class(layout: Layout) -> usize {
    let size = layout.size().max(layout.align());
    match size {
        0..=8 => 8,
        9..=128 => (size + 15) & !15,
        _ => {
            let step = 1usize << ((usize::BITS - 1 - (size - 1).leading_zeros()) - 2);
            (size + step - 1) & !(step - 1)
        }
    }
}

/// An allocator that counts.
pub struct Counting<A>(pub A);

// SAFETY: every call goes to `A` with the arguments as they came, and `A` keeps the contract of `GlobalAlloc`. Counting
// allocates nothing and cannot unwind: the thread-local has neither a lazy initialiser nor a destructor.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is passed on.
        let pointer = unsafe { self.0.alloc(layout) };
        if !pointer.is_null() {
            count(size_class(layout) as i64);
        }
        pointer
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `self.0` with this layout, as the caller promises.
        unsafe { self.0.dealloc(pointer, layout) };
        count(-(size_class(layout) as i64));
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is passed on.
        let pointer = unsafe { self.0.alloc_zeroed(layout) };
        if !pointer.is_null() {
            count(size_class(layout) as i64);
        }
        pointer
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `pointer` came from `self.0` with `layout`, and `size` is valid, as the caller promises.
        let moved = unsafe { self.0.realloc(pointer, layout, size) };
        if !moved.is_null() {
            // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow.
            let grown = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
            count(size_class(grown) as i64 - size_class(layout) as i64);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_jemalloc_s() {
        let class = |size| size_class(Layout::from_size_align(size, 1).unwrap());
        for (size, expected) in [
            (1, 8),
            (8, 8),
            (9, 16),
            (17, 32),
            (112, 112),
            (128, 128),
            (129, 160),
            (160, 160),
            (161, 192),
            (256, 256),
            (257, 320),
            (1025, 1280),
            (16 * 1024, 16 * 1024),
            (16 * 1024 + 1, 20 * 1024),
            (1 << 30, 1 << 30),
        ] {
            assert_eq!(class(size), expected, "{size}");
        }
    }

    #[test]
    fn jemalloc_answers_for_itself() {
        let report = report();
        assert!(report.starts_with("___ Begin jemalloc statistics ___"), "{report}");
        assert!(report.ends_with("--- End jemalloc statistics ---\n"), "{report}");
        assert!(purge());
    }

    #[test]
    fn what_is_freed_on_another_thread_is_subtracted() {
        let counting = Counting(std::alloc::System);
        let before = used_bytes();
        let layout = Layout::from_size_align(100_000, 8).unwrap();
        // SAFETY: the layout has a size, and the memory is freed once with the same layout.
        let pointer = unsafe { counting.alloc(layout) } as usize;
        assert_eq!(used_bytes() - before, 114_688);
        std::thread::spawn(move || {
            // SAFETY: as above; `System` may free on any thread.
            unsafe { Counting(std::alloc::System).dealloc(pointer as *mut u8, layout) }
        })
        .join()
        .unwrap();
        assert_eq!(used_bytes(), before);
    }
}

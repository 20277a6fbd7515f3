//! The memory of records and small blobs: blocks of 8 to 1,024 bytes in steps of 8, cut from slabs.
//!
//! A general allocator has few size classes (…, 96, 112, 128, 160, 192, …), which costs a tenth of a data set of short
//! values. Here every multiple of 8 is a class, and nothing is stored beside a block: its owner knows its size.
//!
//! ```text
//! chunk   256 KiB from the global allocator, four slabs
//! slab    64 KiB, aligned to its size:  | header | block | block | …     blocks of one class
//! ```
//! The address of a block, rounded down, tells where its slab's header is, which holds the slab's free blocks as a list through
//! them. Blocks that were never used are taken from the end (`bump`), so memory that nobody asked for is not touched.
//!
//! Each thread has a [`Heap`] of its own and allocates without a lock or an atomic read-modify-write. In front of the
//! slabs it keeps the blocks of each class that it freed last ([`Cache`]), wherever they came from: a block that is freed
//! and one that is allocated soon after touch neither header nor slab. What a cache has too much of goes back half a
//! cache at a time: to the slab, if that is the thread's, else to a stack of the slab's heap, which its owner empties in
//! small portions when a slab is used up. A thread that ends leaves its heap, with empty caches, in a pool, from which
//! the next new thread takes it; meanwhile who frees a block of it clears up. Heaps themselves are some 20 KiB and live
//! for ever, as many as there were threads at a time.
//!
//! [`usage`] tells the bytes in blocks apart from those in chunks, so that `used_memory` falls when keys are deleted
//! although their slab stays: what is free within slabs and caches is fragmentation, and shows in the resident set only.
//! Bytes are counted by the thread that allocates or frees: the count of one heap means nothing, their sum does.
//!
//! Blocks above [`BLOCK_MAX`] come from the global allocator.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc as global_alloc, dealloc, handle_alloc_error, realloc as global_realloc};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The largest block that comes from a slab.
pub const BLOCK_MAX: usize = 1024;
/// Every block is aligned to this, and every size rounded up to it.
pub const GRANULE: usize = 8;
/// What sizes above [`BLOCK_MAX`] are rounded up to.
const LARGE_GRANULE: usize = 64;

const SLAB: usize = 64 * 1024;
const SLABS_PER_CHUNK: usize = 4;
const CHUNK: usize = SLAB * SLABS_PER_CHUNK;
const CLASSES: usize = BLOCK_MAX / GRANULE + 1;
/// Blocks freed by other threads that are put back at a time: so many that they do not pile up, so few that it is no
/// pause.
const COLLECTED_AT_ONCE: usize = 512;
/// Blocks of a class that a thread keeps at most for its next allocations.
const CACHED_MAX: usize = 16;
/// How many enter an empty cache, or leave a full one, together.
const CACHED_AT_ONCE: usize = CACHED_MAX / 2;

/// Bytes of the arena, of all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// In blocks that are allocated, as rounded up to their classes.
    pub allocated: i64,
    /// Taken from the global allocator for slabs.
    pub held: i64,
}

/// The bytes that a request of `size` takes.
#[inline(always)]
pub const fn rounded(size: usize) -> usize {
    let granule = if size <= BLOCK_MAX { GRANULE } else { LARGE_GRANULE };
    (size + granule - 1) & !(granule - 1)
}

/// A block of `size` bytes (one at least), aligned to 8, uninitialised. It belongs to no thread and may be freed by any.
#[inline]
pub fn alloc(size: usize) -> NonNull<u8> {
    debug_assert!(size > 0);
    if size > BLOCK_MAX {
        return alloc_large(size);
    }
    let class = size.div_ceil(GRANULE);
    let heap = HEAP.get();
    // SAFETY: a heap in HEAP is this thread's, so nobody else touches its caches; a block in one is free, hence ours to
    // give away.
    unsafe {
        if !heap.is_null()
            && let Some(block) = Cache::pop(&raw mut (*heap).caches[class])
        {
            Heap::count(heap, (class * GRANULE) as i64);
            return block;
        }
    }
    alloc_slowly(class)
}

/// Frees a block.
///
/// # Safety
/// `block` was given by [`alloc`] or [`realloc`] for a size with the same [`rounded`], and is not used afterwards.
#[inline]
pub unsafe fn free(block: NonNull<u8>, size: usize) {
    if size > BLOCK_MAX {
        // SAFETY: by the caller's promise it came from the global allocator with this layout.
        unsafe { dealloc(block.as_ptr(), large_layout(size)) };
        return;
    }
    let class = size.div_ceil(GRANULE);
    // SAFETY: the block is within a slab, whose header stays as long as one of its blocks is allocated or in a cache. A
    // heap in HEAP is this thread's, with its caches.
    unsafe {
        debug_assert_eq!((*Slab::of(block.as_ptr())).class as usize, class, "a block is freed with its size");
        let heap = HEAP.get();
        if heap.is_null() {
            return free_without_heap(block.as_ptr().cast());
        }
        Heap::count(heap, -((class * GRANULE) as i64));
        let cache = &raw mut (*heap).caches[class];
        if (*cache).len as usize == CACHED_MAX {
            Heap::flush(heap, cache, CACHED_AT_ONCE);
        }
        Cache::push(cache, block);
    }
}

/// A block of another size with what the old one holds, up to the smaller of both. The old one is gone.
///
/// # Safety
/// As for [`free`] with `old_size`.
pub unsafe fn realloc(block: NonNull<u8>, old_size: usize, new_size: usize) -> NonNull<u8> {
    if rounded(old_size) == rounded(new_size) {
        return block;
    }
    // SAFETY: the caller's promise; both blocks are as large as what is copied.
    unsafe {
        if old_size > BLOCK_MAX && new_size > BLOCK_MAX {
            let new = large_layout(new_size);
            let moved = global_realloc(block.as_ptr(), large_layout(old_size), new.size());
            return NonNull::new(moved).unwrap_or_else(|| handle_alloc_error(new));
        }
        let moved = alloc(new_size);
        ptr::copy_nonoverlapping(block.as_ptr(), moved.as_ptr(), old_size.min(new_size));
        free(block, old_size);
        moved
    }
}

/// The arena's memory at this moment.
pub fn usage() -> Usage {
    let mut usage = Usage::default();
    let mut heap = HEAPS.load(Ordering::Acquire);
    while !heap.is_null() {
        // SAFETY: heaps live for ever, and only what is atomic (or was set before the heap was published) is read.
        unsafe {
            usage.allocated += (*heap).allocated.load(Ordering::Relaxed);
            usage.allocated -= (*heap).others.freed.load(Ordering::Relaxed);
            usage.held += (*heap).held.load(Ordering::Relaxed);
            heap = (*heap).older;
        }
    }
    usage
}

/// Puts back up to `blocks` blocks of this thread that others have freed; true if there may be more. Who allocates does
/// so anyway: this is for a thread that has had much freed and allocates little.
pub fn collect(blocks: usize) -> bool {
    let heap = HEAP.get();
    // SAFETY: this thread's heap.
    !heap.is_null() && unsafe { Heap::collect(heap, blocks) }
}

/// A free block: the next one in its list.
struct Free {
    next: *mut Free,
}

/// Where a slab stands in its heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The one that its class allocates from.
    Current,
    /// In its class's list of slabs with a free block.
    Partial,
    /// In no list: all blocks are allocated.
    Full,
}

/// The header of a slab. All but `heap` is the owner's alone.
#[repr(C)]
struct Slab {
    heap: *mut Heap,
    free: *mut Free,
    /// Blocks that are allocated.
    used: u32,
    /// Offset of the first block that was never used, from this header.
    bump: u32,
    class: u16,
    place: Place,
    chunk: *mut Chunk,
    previous: *mut Slab,
    next: *mut Slab,
}

/// The first block's offset from the header.
const HEADER: usize = size_of::<Slab>().next_multiple_of(64);
/// Places that headers are at, in turn.
const COLOURS: usize = 16;

struct Chunk {
    base: *mut u8,
    /// One bit per slab that is not in use.
    vacant: u32,
    previous: *mut Chunk,
    next: *mut Chunk,
}

#[derive(Clone, Copy)]
struct Class {
    current: *mut Slab,
    partial: *mut Slab,
}

/// Free blocks of one class, of any heap, the last freed at the end. Their slabs take them to be in use.
#[derive(Clone, Copy)]
struct Cache {
    len: u32,
    blocks: [NonNull<u8>; CACHED_MAX],
}

/// The memory of one thread. Reached through raw pointers only: its owner changes the plain fields while other threads
/// read the atomic ones.
#[repr(C)]
struct Heap {
    caches: [Cache; CLASSES],
    classes: [Class; CLASSES],
    /// Chunks with a slab that is not in use.
    chunks: *mut Chunk,
    /// Blocks that others have freed, taken over from `inbox`.
    pending: *mut Free,
    /// What the owners have allocated less what they have freed, of any heap's blocks. Written by the owner alone.
    allocated: AtomicI64,
    held: AtomicI64,
    /// The heap that was made before this one; set before this one is published.
    older: *mut Heap,
    /// The next heap in the pool, under the pool's lock.
    pooled: *mut Heap,
    /// What other threads write, off the owner's lines.
    others: Others,
}

#[repr(align(128))]
struct Others {
    inbox: AtomicPtr<Free>,
    is_owned: AtomicBool,
    /// What threads without a heap have freed of this one's blocks.
    freed: AtomicI64,
}

/// All heaps, newest first.
static HEAPS: AtomicPtr<Heap> = AtomicPtr::new(ptr::null_mut());

/// Heaps that no thread owns. Who holds the lock owns them all.
static POOL: Mutex<Pool> = Mutex::new(Pool(ptr::null_mut()));

struct Pool(*mut Heap);

// SAFETY: a heap in the pool is touched only by who holds the lock.
unsafe impl Send for Pool {}

thread_local! {
    /// This thread's heap. Without a destructor, so that it may be used while the thread ends.
    static HEAP: Cell<*mut Heap> = const { Cell::new(ptr::null_mut()) };
    static LEAVE: Leave = const { Leave };
}

/// Gives the thread's heap to the pool when the thread ends.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        let heap = HEAP.replace(ptr::null_mut());
        if !heap.is_null() {
            // SAFETY: it was this thread's heap, and the thread has forgotten it.
            unsafe { Pool::give(heap) };
        }
    }
}

fn large_layout(size: usize) -> Layout {
    Layout::from_size_align(rounded(size), GRANULE).expect("a block is smaller than the address space")
}

fn chunk_layout() -> Layout {
    Layout::from_size_align(CHUNK, SLAB).expect("a power of two")
}

#[inline(never)]
fn alloc_large(size: usize) -> NonNull<u8> {
    let layout = large_layout(size);
    // SAFETY: the size is above BLOCK_MAX, hence not zero.
    NonNull::new(unsafe { global_alloc(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

#[inline(never)]
fn alloc_slowly(class: usize) -> NonNull<u8> {
    let class = class.max(1);
    let heap = HEAP.get();
    // SAFETY: the heap is this thread's, be it for this one block.
    unsafe {
        if !heap.is_null() {
            return Heap::refill(heap, class);
        }
        let heap = Pool::take();
        // False while the thread ends and LEAVE has run: then the heap goes back at once.
        if LEAVE.try_with(|_| ()).is_ok() {
            HEAP.set(heap);
            Heap::refill(heap, class)
        } else {
            let block = Heap::refill(heap, class);
            Pool::give(heap);
            block
        }
    }
}

/// Frees a block on a thread that has no heap: it has never allocated, or is about to end.
///
/// # Safety
/// The block is the caller's.
#[cold]
#[inline(never)]
unsafe fn free_without_heap(block: *mut Free) {
    // SAFETY: the slab's header stays until the block is sent home, and heaps live for ever.
    unsafe {
        let slab = Slab::of(block.cast());
        let freed = &(*(*slab).heap).others.freed;
        freed.fetch_add(i64::from((*slab).class) * GRANULE as i64, Ordering::Relaxed);
        send_home(slab, block);
    }
}

/// Gives a free block to the heap of its slab, which is not this thread's.
///
/// # Safety
/// The block is of this slab, and nobody else's. The caller does not hold the pool's lock.
#[cold]
#[inline(never)]
unsafe fn send_home(slab: *mut Slab, block: *mut Free) {
    // SAFETY: the slab's header stays until the push, and heaps live for ever. After the push the block and its slab
    // are the owner's; only the heap is touched.
    unsafe {
        let heap = (*slab).heap;
        let inbox = &(*heap).others.inbox;
        let mut head = inbox.load(Ordering::Relaxed);
        loop {
            (*block).next = head;
            match inbox.compare_exchange_weak(head, block, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => head = other,
            }
        }
        // Either this sees that the heap was given away, or who gives it away sees the block.
        if !(*heap).others.is_owned.load(Ordering::SeqCst) {
            let pool = lock();
            if !(*heap).others.is_owned.load(Ordering::Relaxed) {
                Heap::collect(heap, usize::MAX);
                Heap::trim(heap);
            }
            drop(pool);
        }
    }
}

fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A heap for this thread.
    fn take() -> *mut Heap {
        let mut pool = lock();
        let heap = pool.0;
        if heap.is_null() {
            drop(pool);
            return Heap::publish_new();
        }
        // SAFETY: heaps in the pool are those of who holds the lock.
        unsafe {
            pool.0 = (*heap).pooled;
            (*heap).others.is_owned.store(true, Ordering::SeqCst);
        }
        heap
    }

    /// # Safety
    /// The caller owns the heap and forgets it.
    unsafe fn give(heap: *mut Heap) {
        // Before the lock is taken, which blocks of other heaps may need.
        // SAFETY: the caller's.
        unsafe { Heap::flush_all(heap) };
        let mut pool = lock();
        // SAFETY: the caller's; with the lock held the heap stays ours until it is released.
        unsafe {
            (*heap).others.is_owned.store(false, Ordering::SeqCst);
            Heap::collect(heap, usize::MAX);
            Heap::trim(heap);
            (*heap).pooled = pool.0;
        }
        pool.0 = heap;
    }
}

impl Cache {
    const EMPTY: Cache = Cache { len: 0, blocks: [NonNull::dangling(); CACHED_MAX] };

    /// The block that was freed last.
    ///
    /// # Safety
    /// The cache is this thread's.
    #[inline(always)]
    unsafe fn pop(cache: *mut Cache) -> Option<NonNull<u8>> {
        // SAFETY: the first `len` places, at most all, hold blocks.
        unsafe {
            let last = (*cache).len.checked_sub(1)?;
            (*cache).len = last;
            Some(*(&raw const (*cache).blocks).cast::<NonNull<u8>>().add(last as usize))
        }
    }

    /// # Safety
    /// The cache is this thread's and not full, and the block free.
    #[inline(always)]
    unsafe fn push(cache: *mut Cache, block: NonNull<u8>) {
        // SAFETY: there is a place after the first `len`.
        unsafe {
            let len = (*cache).len;
            debug_assert!((len as usize) < CACHED_MAX);
            (&raw mut (*cache).blocks).cast::<NonNull<u8>>().add(len as usize).write(block);
            (*cache).len = len + 1;
        }
    }
}

impl Slab {
    /// The header of the slab that an address lies in.
    #[inline(always)]
    fn of(block: *mut u8) -> *mut Slab {
        block.map_addr(|address| Slab::header_in(address & !(SLAB - 1))).cast()
    }

    /// Where the header of the slab at `base` is: not always at its start, since lines at the same place of every slab
    /// would compete for the same few places of the caches.
    #[inline(always)]
    fn header_in(base: usize) -> usize {
        base + (base / SLAB % COLOURS) * HEADER
    }

    /// # Safety
    /// The slab is this thread's and the block one of its own, not in use.
    #[inline(always)]
    unsafe fn put(slab: *mut Slab, block: *mut Free) {
        // SAFETY: a block has room for a pointer and is aligned for it.
        unsafe {
            (*block).next = (*slab).free;
            (*slab).free = block;
            (*slab).used -= 1;
        }
    }

    /// Takes a free block; null if all are in use.
    ///
    /// # Safety
    /// The slab is this thread's.
    unsafe fn take(slab: *mut Slab) -> *mut u8 {
        // SAFETY: a block in the list is free; those from `bump` on were never used and end within the slab.
        unsafe {
            let block = (*slab).free;
            let size = (*slab).class as usize * GRANULE;
            if !block.is_null() {
                (*slab).free = (*block).next;
                (*slab).used += 1;
                return block.cast();
            }
            let bump = (*slab).bump as usize;
            if slab.addr() % SLAB + bump + size > SLAB {
                return ptr::null_mut();
            }
            (*slab).bump += size as u32;
            (*slab).used += 1;
            slab.cast::<u8>().add(bump)
        }
    }
}

// SAFETY of what follows: `heap` is a live heap that the caller owns (its thread's, or one of the pool with the lock
// held). What its lists lead to are live slabs and chunks that are this heap's alone.
impl Heap {
    fn publish_new() -> *mut Heap {
        let none = Class { current: ptr::null_mut(), partial: ptr::null_mut() };
        let heap = Box::into_raw(Box::new(Heap {
            caches: [Cache::EMPTY; CLASSES],
            classes: [none; CLASSES],
            chunks: ptr::null_mut(),
            pending: ptr::null_mut(),
            allocated: AtomicI64::new(0),
            held: AtomicI64::new(0),
            older: HEAPS.load(Ordering::Relaxed),
            pooled: ptr::null_mut(),
            others: Others {
                inbox: AtomicPtr::new(ptr::null_mut()),
                is_owned: AtomicBool::new(true),
                freed: AtomicI64::new(0),
            },
        }));
        loop {
            // SAFETY: not yet published, so it is ours alone.
            let older = unsafe { (*heap).older };
            match HEAPS.compare_exchange(older, heap, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return heap,
                // SAFETY: as above.
                Err(newest) => unsafe { (*heap).older = newest },
            }
        }
    }

    /// Adds to the bytes allocated. Only the owner writes them: no need to lock the bus.
    #[inline(always)]
    unsafe fn count(heap: *mut Heap, bytes: i64) {
        // SAFETY: above.
        let allocated = unsafe { &(*heap).allocated };
        allocated.store(allocated.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    /// Allocates a block of a class whose cache is empty, and puts some more into the cache if the slab has them.
    unsafe fn refill(heap: *mut Heap, class: usize) -> NonNull<u8> {
        // SAFETY: above. `take` leaves the slab that it took from as the class's current one.
        unsafe {
            let block = Heap::take(heap, class);
            Heap::count(heap, (class * GRANULE) as i64);
            let slab = (*heap).classes[class].current;
            let mut more = [NonNull::dangling(); CACHED_AT_ONCE];
            let mut count = 0;
            while count < CACHED_AT_ONCE
                && let Some(block) = NonNull::new(Slab::take(slab))
            {
                more[count] = block;
                count += 1;
            }
            // The first of them is the next to go.
            let cache = &raw mut (*heap).caches[class];
            more[..count].iter().rev().for_each(|&block| Cache::push(cache, block));
            block
        }
    }

    /// Takes the `count` blocks that were freed first out of one of the heap's caches, which holds as many.
    #[inline(never)]
    unsafe fn flush(heap: *mut Heap, cache: *mut Cache, count: usize) {
        // SAFETY: above. What goes back leads to no cache.
        unsafe {
            for index in 0..count {
                Heap::put_back(heap, (*cache).blocks[index]);
            }
            (*cache).blocks.copy_within(count..(*cache).len as usize, 0);
            (*cache).len -= count as u32;
        }
    }

    unsafe fn flush_all(heap: *mut Heap) {
        for class in 1..CLASSES {
            // SAFETY: above.
            unsafe {
                let cache = &raw mut (*heap).caches[class];
                Heap::flush(heap, cache, (*cache).len as usize);
            }
        }
    }

    /// Gives a free block back to its slab, whosesoever that is.
    #[inline(always)]
    unsafe fn put_back(heap: *mut Heap, block: NonNull<u8>) {
        // SAFETY: above; the header stays while the block is not given back.
        unsafe {
            let (slab, block) = (Slab::of(block.as_ptr()), block.as_ptr().cast());
            if (*slab).heap != heap {
                return send_home(slab, block);
            }
            Slab::put(slab, block);
            if (*slab).used == 0 || (*slab).place == Place::Full {
                Heap::changed_place(heap, slab);
            }
        }
    }

    /// A block, from whatever slab has one, not counted.
    unsafe fn take(heap: *mut Heap, class: usize) -> NonNull<u8> {
        // SAFETY: above.
        unsafe {
            loop {
                let slab = (*heap).classes[class].current;
                if !slab.is_null() {
                    let block = Slab::take(slab);
                    if let Some(block) = NonNull::new(block) {
                        return block;
                    }
                    (*slab).place = Place::Full;
                    (*heap).classes[class].current = ptr::null_mut();
                    Heap::collect(heap, COLLECTED_AT_ONCE);
                }
                let mut next = (*heap).classes[class].partial;
                if next.is_null() {
                    next = Heap::new_slab(heap, class);
                } else {
                    Heap::unlist(heap, next);
                }
                (*next).place = Place::Current;
                (*heap).classes[class].current = next;
            }
        }
    }

    /// A block of a slab was freed that was full, or the last one that it had.
    #[inline(never)]
    unsafe fn changed_place(heap: *mut Heap, slab: *mut Slab) {
        // SAFETY: above.
        unsafe {
            if (*slab).place == Place::Full {
                let class = &raw mut (*heap).classes[(*slab).class as usize];
                let next = (*class).partial;
                ((*slab).previous, (*slab).next) = (ptr::null_mut(), next);
                if !next.is_null() {
                    (*next).previous = slab;
                }
                (*class).partial = slab;
                (*slab).place = Place::Partial;
            }
            if (*slab).used == 0 {
                match (*slab).place {
                    Place::Partial => {
                        Heap::unlist(heap, slab);
                        Heap::vacate(heap, slab, false);
                    }
                    // The one that each class keeps.
                    Place::Current | Place::Full => {}
                }
            }
        }
    }

    /// Takes a slab out of its class's list.
    unsafe fn unlist(heap: *mut Heap, slab: *mut Slab) {
        // SAFETY: above.
        unsafe {
            let (previous, next) = ((*slab).previous, (*slab).next);
            if previous.is_null() {
                (*heap).classes[(*slab).class as usize].partial = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }

    unsafe fn new_slab(heap: *mut Heap, class: usize) -> *mut Slab {
        // SAFETY: above. A vacant slab of a chunk is uninitialised memory of ours; its header is written before use.
        unsafe {
            let mut chunk = (*heap).chunks;
            if chunk.is_null() {
                let base = global_alloc(chunk_layout());
                if base.is_null() {
                    handle_alloc_error(chunk_layout());
                }
                let vacant = (1 << SLABS_PER_CHUNK) - 1;
                chunk = Box::into_raw(Box::new(Chunk {
                    base,
                    vacant,
                    previous: ptr::null_mut(),
                    next: ptr::null_mut(),
                }));
                Heap::list_chunk(heap, chunk);
                (*heap).held.fetch_add(CHUNK as i64, Ordering::Relaxed);
            }
            let index = (*chunk).vacant.trailing_zeros();
            (*chunk).vacant &= !(1 << index);
            if (*chunk).vacant == 0 {
                Heap::unlist_chunk(heap, chunk);
            }
            let slab: *mut Slab = (*chunk).base.add(index as usize * SLAB).map_addr(Slab::header_in).cast();
            slab.write(Slab {
                heap,
                free: ptr::null_mut(),
                used: 0,
                bump: HEADER as u32,
                class: class as u16,
                place: Place::Current,
                chunk,
                previous: ptr::null_mut(),
                next: ptr::null_mut(),
            });
            slab
        }
    }

    /// Gives a slab, which is in no list and has no block in use, back to its chunk, and the chunk to the global
    /// allocator if it is the second that is not in use (`all`: also the first).
    unsafe fn vacate(heap: *mut Heap, slab: *mut Slab, all: bool) {
        // SAFETY: above.
        unsafe {
            let chunk = (*slab).chunk;
            let index = slab.addr().wrapping_sub((*chunk).base.addr()) / SLAB;
            if (*chunk).vacant == 0 {
                Heap::list_chunk(heap, chunk);
            }
            (*chunk).vacant |= 1 << index;
            let others = (*heap).chunks != chunk || !(*chunk).next.is_null();
            if (*chunk).vacant == (1 << SLABS_PER_CHUNK) - 1 && (others || all) {
                Heap::unlist_chunk(heap, chunk);
                (*heap).held.fetch_sub(CHUNK as i64, Ordering::Relaxed);
                dealloc((*chunk).base, chunk_layout());
                drop(Box::from_raw(chunk));
            }
        }
    }

    unsafe fn list_chunk(heap: *mut Heap, chunk: *mut Chunk) {
        // SAFETY: above.
        unsafe {
            let next = (*heap).chunks;
            ((*chunk).previous, (*chunk).next) = (ptr::null_mut(), next);
            if !next.is_null() {
                (*next).previous = chunk;
            }
            (*heap).chunks = chunk;
        }
    }

    unsafe fn unlist_chunk(heap: *mut Heap, chunk: *mut Chunk) {
        // SAFETY: above.
        unsafe {
            let (previous, next) = ((*chunk).previous, (*chunk).next);
            if previous.is_null() {
                (*heap).chunks = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
        }
    }

    /// Puts up to `blocks` blocks that others have freed back into their slabs; true if there may be more.
    unsafe fn collect(heap: *mut Heap, blocks: usize) -> bool {
        // SAFETY: above. A block in the inbox is free, and its slab is this heap's.
        unsafe {
            for _ in 0..blocks {
                if (*heap).pending.is_null() {
                    if (*heap).others.inbox.load(Ordering::Relaxed).is_null() {
                        return false;
                    }
                    (*heap).pending = (*heap).others.inbox.swap(ptr::null_mut(), Ordering::SeqCst);
                }
                let block = (*heap).pending;
                if block.is_null() {
                    return false;
                }
                (*heap).pending = (*block).next;
                let slab = Slab::of(block.cast());
                Slab::put(slab, block);
                if (*slab).used == 0 || (*slab).place == Place::Full {
                    Heap::changed_place(heap, slab);
                }
            }
            true
        }
    }

    /// Gives all memory back that no block is in.
    unsafe fn trim(heap: *mut Heap) {
        // SAFETY: above.
        unsafe {
            for class in 1..CLASSES {
                let slab = (*heap).classes[class].current;
                if !slab.is_null() && (*slab).used == 0 {
                    (*heap).classes[class].current = ptr::null_mut();
                    Heap::vacate(heap, slab, true);
                }
            }
            let mut chunk = (*heap).chunks;
            while !chunk.is_null() {
                let next = (*chunk).next;
                if (*chunk).vacant == (1 << SLABS_PER_CHUNK) - 1 {
                    Heap::unlist_chunk(heap, chunk);
                    (*heap).held.fetch_sub(CHUNK as i64, Ordering::Relaxed);
                    dealloc((*chunk).base, chunk_layout());
                    drop(Box::from_raw(chunk));
                }
                chunk = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fewer, random_numbers};

    /// A block filled with a byte of its own, freed when dropped.
    struct Filled {
        block: NonNull<u8>,
        size: usize,
        byte: u8,
    }

    // SAFETY: blocks belong to no thread.
    unsafe impl Send for Filled {}

    impl Filled {
        fn new(size: usize, byte: u8) -> Filled {
            let block = alloc(size);
            assert_eq!(block.addr().get() % GRANULE, 0);
            // SAFETY: a fresh block of this size.
            unsafe { block.as_ptr().write_bytes(byte, size) };
            Filled { block, size, byte }
        }

        fn assert_whole(&self, size: usize) {
            // SAFETY: the block is ours and written.
            let bytes = unsafe { std::slice::from_raw_parts(self.block.as_ptr(), size) };
            // As slices, which Miri compares at one go.
            assert!(*bytes == [self.byte; 4096][..size], "somebody else wrote into the block");
        }

        fn resize(&mut self, size: usize) {
            // SAFETY: our block and its size; then as in `new`.
            unsafe { self.block = realloc(self.block, self.size, size) };
            self.assert_whole(self.size.min(size));
            // SAFETY: as in `new`.
            unsafe { self.block.as_ptr().write_bytes(self.byte, size) };
            self.size = size;
        }
    }

    impl Drop for Filled {
        fn drop(&mut self) {
            self.assert_whole(self.size);
            // SAFETY: our block and its size.
            unsafe { free(self.block, self.size) };
        }
    }

    /// Of this thread's heap alone, which other tests do not touch. What other threads with a heap free is not in it.
    fn own_usage() -> Usage {
        // A heap from the pool brings along what its former threads counted.
        if HEAP.get().is_null() {
            drop(Filled::new(8, 0));
        }
        let heap = HEAP.get();
        // SAFETY: this thread's heap.
        unsafe {
            let freed = (*heap).others.freed.load(Ordering::Relaxed);
            Usage {
                allocated: (*heap).allocated.load(Ordering::Relaxed) - freed,
                held: (*heap).held.load(Ordering::Relaxed),
            }
        }
    }

    #[test]
    fn sizes_are_rounded_to_eight_and_above_the_slabs_to_64() {
        assert_eq!(
            [1, 8, 9, 120, 121, 1024, 1025, 1088].map(rounded),
            [8, 8, 16, 120, 128, 1024, 1088, 1088]
        );
    }

    #[test]
    fn blocks_are_apart_whatever_comes_and_goes() {
        let mut rng = random_numbers(7);
        let before = own_usage().allocated;
        let mut blocks: Vec<Filled> = Vec::new();
        let steps = fewer(400_000, 1_000);
        for step in 0..steps {
            let size = match rng() % 16 {
                0 => 1 + rng() % 4096,
                1..=4 => 1 + rng() % 1024,
                _ => 1 + rng() % 160,
            } as usize;
            // Grows for a while, then shrinks, and again.
            let grows = (step * 8 / steps).is_multiple_of(2);
            match rng() % 8 {
                0 if !blocks.is_empty() => {
                    let index = rng() as usize % blocks.len();
                    blocks[index].resize(size);
                }
                1..=4 if grows => blocks.push(Filled::new(size, step as u8)),
                _ if blocks.is_empty() => {}
                1..=2 => blocks.push(Filled::new(size, step as u8)),
                _ if !grows || rng().is_multiple_of(4) => {
                    let index = rng() as usize % blocks.len();
                    blocks.swap_remove(index);
                }
                _ => {}
            }
        }
        let in_slabs: usize = blocks.iter().filter(|b| b.size <= BLOCK_MAX).map(|b| rounded(b.size)).sum();
        assert_eq!(own_usage().allocated - before, in_slabs as i64);
        drop(blocks);
        assert_eq!(own_usage().allocated, before);
    }

    #[test]
    fn what_is_empty_is_given_back() {
        std::thread::spawn(|| {
            let before = own_usage().held;
            let count = fewer(40_000, 3 * CHUNK / 1024);
            let blocks: Vec<Filled> = (0..count).map(|n| Filled::new(1000, n as u8)).collect();
            let full = own_usage();
            assert!(full.held as usize >= count * 1000);
            assert!(
                (full.held - before) as usize <= count * 1000 * 104 / 100 + CHUNK,
                "little is lost beside blocks"
            );
            drop(blocks);
            // One chunk that is in no use, and the one of the slab that the class keeps.
            assert!(own_usage().held <= before + 2 * CHUNK as i64, "{:?}", own_usage());
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn a_free_place_is_used_before_new_memory() {
        std::thread::spawn(|| {
            let count = fewer(2000, 400);
            let mut blocks: Vec<Filled> = (0..count).map(|n| Filled::new(200, n as u8)).collect();
            let held = own_usage().held;
            for round in 0..fewer(20, 4) {
                let mut index = 0;
                blocks.retain(|_| {
                    index += 1;
                    index % 3 != round % 3
                });
                blocks.extend((blocks.len()..count).map(|n| Filled::new(200, n as u8)));
            }
            assert_eq!(own_usage().held, held);
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn blocks_are_freed_on_other_threads_and_their_places_used_again() {
        std::thread::spawn(|| {
            let count = fewer(20_000, 100);
            let before = own_usage();
            for _ in 0..5 {
                let blocks: Vec<Filled> = (0..count).map(|n| Filled::new(100 + n % 3 * 8, n as u8)).collect();
                std::thread::spawn(move || drop(blocks)).join().expect("no panic");
                assert_eq!(own_usage().allocated, before.allocated, "counted when freed, not when collected");
                while collect(64) {}
            }
            assert!(own_usage().held - before.held <= 2 * CHUNK as i64 + (count * 120) as i64);
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn a_thread_keeps_what_it_frees_whosesoever_it_was_and_gives_it_back_at_its_end() {
        let (sender, receiver) = std::sync::mpsc::channel::<Vec<Filled>>();
        let other = std::thread::spawn(move || {
            let before = own_usage().allocated;
            let mine = receiver.recv().unwrap();
            let places: Vec<usize> = mine.iter().map(|block| block.block.addr().get()).collect();
            drop(mine);
            let freed = before - own_usage().allocated;
            // The last freed comes first.
            let again = Filled::new(96, 2);
            assert_eq!(Some(&again.block.addr().get()), places.last());
            drop(again);
            freed
        });
        let before = own_usage().allocated;
        let blocks: Vec<Filled> = (0..100).map(|n| Filled::new(96, n)).collect();
        assert_eq!(own_usage().allocated - before, 9600);
        sender.send(blocks).unwrap();
        assert_eq!(other.join().expect("no panic"), 9600);
        // All have come home: without this thread's own cache, nothing of its slabs is in use.
        while collect(64) {}
        // SAFETY: this thread's heap.
        unsafe {
            let heap = HEAP.get();
            Heap::flush_all(heap);
            let class = (*heap).classes[96 / GRANULE];
            assert_eq!(((*class.current).used, class.partial.is_null()), (0, true));
        }
    }

    #[test]
    fn blocks_outlive_their_thread() {
        let before = usage();
        let rounds = fewer(40, 2) as u8;
        for round in 0..rounds {
            let blocks: Vec<Filled> = std::thread::spawn(move || {
                (0..fewer(300, 150)).map(|n| Filled::new(1 + n * 7 % 1024, round)).collect()
            })
            .join()
            .expect("no panic");
            blocks.iter().for_each(|block| block.assert_whole(block.size));
            // Freed here, while the heap is in the pool or another thread's.
            let (mine, theirs): (Vec<_>, Vec<_>) =
                blocks.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
            let other = std::thread::spawn(move || drop(theirs));
            drop(mine);
            other.join().expect("no panic");
        }
        // Other tests run beside this one, so only what 40 heaps lost for ever would be too much.
        assert!(usage().held - before.held < 256 * CHUNK as i64);
    }

    #[test]
    fn threads_may_allocate_and_free_while_they_end() {
        thread_local!(static LATE: std::cell::RefCell<Vec<Filled>> = const { std::cell::RefCell::new(Vec::new()) });
        struct Last;
        impl Drop for Last {
            fn drop(&mut self) {
                drop(Filled::new(40, 4));
            }
        }
        thread_local!(static LAST: Last = const { Last });
        for _ in 0..fewer(20, 4) {
            std::thread::spawn(|| {
                // Destructors run in the order of first use or in reverse: both orders are met.
                LAST.with(|_| ());
                LATE.with(|late| late.borrow_mut().push(Filled::new(64, 9)));
                drop(Filled::new(24, 3));
            })
            .join()
            .expect("no panic");
        }
    }

    #[test]
    fn many_threads_pass_blocks_around() {
        let (threads, rounds) = (fewer(4, 3), fewer(400, 10));
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| std::sync::mpsc::channel::<Vec<Filled>>()).unzip();
        let workers: Vec<_> = receivers
            .into_iter()
            .enumerate()
            .map(|(index, receiver)| {
                let next = senders[(index + 1) % threads].clone();
                std::thread::spawn(move || {
                    let mut rng = random_numbers(index as u64);
                    for _ in 0..rounds {
                        let blocks =
                            (0..50).map(|_| Filled::new(1 + rng() as usize % 300, rng() as u8)).collect();
                        if next.send(blocks).is_err() {
                            return;
                        }
                        if let Ok(received) = receiver.try_recv() {
                            drop(received);
                        }
                    }
                })
            })
            .collect();
        drop(senders);
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
    }
}

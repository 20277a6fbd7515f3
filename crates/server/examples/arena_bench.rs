//! What a block of the arena costs beside one of the process's allocator: blocks of 16 to 200 bytes that come and go in
//! random order, as values of a busy data set do. `cargo run --release -p kindred-server --example arena_bench`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::ptr::NonNull;
use std::time::Instant;

use structures::arena;

#[global_allocator]
static ALLOCATOR: server::allocator::Allocator = server::allocator::allocator();

const BLOCKS: usize = 200_000;
const STEPS: usize = 20_000_000;

fn main() {
    for round in 0..3 {
        let arena = churn(arena::alloc, |block, size| {
            // SAFETY: a block that `arena::alloc` gave for this size.
            unsafe { arena::free(block, size) }
        });
        let layout = |size| Layout::from_size_align(size, 8).expect("a small size");
        let general = churn(
            // SAFETY: the size is not 0.
            |size| NonNull::new(unsafe { alloc(layout(size)) }).expect("memory"),
            // SAFETY: a block that was allocated with this layout.
            |block, size| unsafe { dealloc(block.as_ptr(), layout(size)) },
        );
        println!("round {round}: arena {arena:.1} ns, {} {general:.1} ns a pair", server::allocator::NAME);
    }
}

/// Nanoseconds for one allocation and one deallocation.
fn churn(alloc: impl Fn(usize) -> NonNull<u8>, free: impl Fn(NonNull<u8>, usize)) -> f64 {
    let mut state = 88_172_645_463_325_252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut blocks: Vec<(NonNull<u8>, usize)> = (0..BLOCKS)
        .map(|_| {
            let size = 16 + next() as usize % 185;
            (alloc(size), size)
        })
        .collect();
    let start = Instant::now();
    for _ in 0..STEPS {
        let drawn = next();
        let place = &mut blocks[(drawn >> 40) as usize % BLOCKS];
        free(place.0, place.1);
        let size = 16 + drawn as usize % 185;
        *place = (black_box(alloc(size)), size);
    }
    let elapsed = start.elapsed();
    blocks.into_iter().for_each(|(block, size)| free(block, size));
    elapsed.as_nanos() as f64 / STEPS as f64
}

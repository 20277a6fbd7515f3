//! Speed and memory of the table of a database, beside the standard library's map, and of the ordered set.
//!
//! `cargo run --release -p kindred-structures --example table_bench [keys …]`: 14-byte keys with 100-byte values.
//! Keys are looked up in random order, one by one and in batches of 16 with both prefetch steps. Memory is what the
//! allocator handed out (usable size and its 8-byte header), with the memory of the table apart.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use structures::hash::hash;
use structures::ordered_set::OrderedSet;
use structures::record::{Record, ValueRef};
use structures::table::Table;

/// The system's allocator, counting.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

fn size_of_block(block: *mut u8) -> usize {
    // SAFETY: a block of the system's allocator, or null.
    unsafe { libc::malloc_usable_size(block.cast()) + 8 }
}

// SAFETY: passes every call on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let block = unsafe { System.alloc(layout) };
        IN_USE.fetch_add(size_of_block(block), Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(size_of_block(block), Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCH: usize = 16;

/// CPU time of the process: other load on the machine disturbs it less than it does the wall clock.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to `time` alone.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `key:` and ten digits.
fn write_key(n: u64, key: &mut [u8; 14]) {
    key[..4].copy_from_slice(b"key:");
    let mut rest = n;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Nanoseconds per round of `rounds`, which are done `BATCH` at a time.
fn timed(rounds: usize, mut batch: impl FnMut(&[[u8; 14]; BATCH]), range: std::ops::Range<u64>) -> f64 {
    let mut state = 1;
    let mut keys = [[0; 14]; BATCH];
    let mut draw = |keys: &mut [[u8; 14]; BATCH]| {
        for key in keys {
            write_key(range.start + random(&mut state) % (range.end - range.start), key);
        }
    };
    let start = cpu_time();
    for _ in 0..rounds / BATCH {
        draw(&mut keys);
        black_box(&keys);
    }
    let drawing = cpu_time() - start;
    let start = cpu_time();
    for _ in 0..rounds / BATCH {
        draw(&mut keys);
        batch(black_box(&keys));
    }
    (cpu_time() - start).saturating_sub(drawing).as_nanos() as f64 / rounds as f64
}

type Db = Table<Record<[u64; 3]>>;

fn sum(entry: Option<&Record<[u64; 3]>>) -> u64 {
    match entry.map(Record::value) {
        Some(ValueRef::Bytes(value)) => u64::from(value[0]) + u64::from(value[99]),
        _ => 0,
    }
}

/// Not inlined: that is how commands use it, and it keeps the caller's loop out of the measurement.
#[inline(never)]
fn look_up(db: &Db, key: &[u8]) -> u64 {
    sum(db.get(hash(key), key))
}

fn table(keys: u64) {
    let before = IN_USE.load(Relaxed);
    let mut db = Db::new();
    let mut key = [0; 14];
    let mut slowest = 0;
    let start = cpu_time();
    for n in 0..keys {
        write_key(n, &mut key);
        let one = Instant::now();
        db.insert(hash(&key), Record::new_bytes(&key, &[b'v'; 100], None));
        slowest = slowest.max(one.elapsed().as_nanos());
    }
    let insert = (cpu_time() - start).as_nanos() as f64 / keys as f64;
    let bytes = IN_USE.load(Relaxed) - before;
    let one_by_one = |keys: &[[u8; 14]; BATCH]| {
        for key in keys {
            black_box(look_up(&db, key));
        }
    };
    let batched = |keys: &[[u8; 14]; BATCH]| {
        let mut hashes = [0; BATCH];
        for (key, h) in keys.iter().zip(&mut hashes) {
            *h = hash(key);
            db.prefetch(*h);
        }
        for h in hashes {
            db.prefetch_entry(h);
        }
        for (key, h) in keys.iter().zip(hashes) {
            black_box(sum(db.get(h, key)));
        }
    };
    let rounds = 4_000_000;
    println!(
        "Table     {keys:>9} keys: insert {insert:.0} ns (slowest {:.0} µs), hit {:.0} ns, hit in batches {:.0} ns, miss {:.0} ns, miss in batches {:.0} ns",
        slowest as f64 / 1000.0,
        timed(rounds, one_by_one, 0..keys),
        timed(rounds, batched, 0..keys),
        timed(rounds, one_by_one, keys..2 * keys),
        timed(rounds, batched, keys..2 * keys),
    );
    println!(
        "          {:.1} bytes per key, of which the table {:.2}",
        bytes as f64 / keys as f64,
        db.bytes() as f64 / keys as f64
    );
    let (mut low, mut high) = (0u64, 0u64);
    let start = cpu_time();
    let mut cursor = 0;
    loop {
        cursor = db.scan(cursor, |entry| low += u64::from(entry.meta()) + 1);
        high += 1;
        if cursor == 0 {
            break;
        }
    }
    println!(
        "          scan: {low} entries in {high} calls, {:.1} ns per entry",
        (cpu_time() - start).as_nanos() as f64 / low as f64
    );
    let start = cpu_time();
    for n in 0..keys {
        write_key(n, &mut key);
        black_box(db.remove(hash(&key), &key));
    }
    println!("          remove {:.0} ns", (cpu_time() - start).as_nanos() as f64 / keys as f64);
}

#[derive(Default)]
struct SameHash(u64);

impl Hasher for SameHash {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }
    fn write_usize(&mut self, _: usize) {}
    fn finish(&self) -> u64 {
        self.0
    }
}

fn standard_map(keys: u64) {
    let before = IN_USE.load(Relaxed);
    let mut map: HashMap<Box<[u8]>, Box<[u8]>, BuildHasherDefault<SameHash>> = HashMap::default();
    let mut key = [0; 14];
    let mut slowest = 0;
    let start = cpu_time();
    for n in 0..keys {
        write_key(n, &mut key);
        let one = Instant::now();
        map.insert(key.into(), [b'v'; 100].into());
        slowest = slowest.max(one.elapsed().as_nanos());
    }
    let insert = (cpu_time() - start).as_nanos() as f64 / keys as f64;
    let bytes = IN_USE.load(Relaxed) - before;
    let look_up = |keys: &[[u8; 14]; BATCH]| {
        for key in keys {
            black_box(map.get(&key[..]).map_or(0, |value| u64::from(value[0]) + u64::from(value[99])));
        }
    };
    let rounds = 4_000_000;
    println!(
        "hashbrown {keys:>9} keys: insert {insert:.0} ns (slowest {:.0} µs), hit {:.0} ns, miss {:.0} ns; {:.1} bytes per key",
        slowest as f64 / 1000.0,
        timed(rounds, look_up, 0..keys),
        timed(rounds, look_up, keys..2 * keys),
        bytes as f64 / keys as f64
    );
}

fn ordered_set(members: u64) {
    let before = IN_USE.load(Relaxed);
    let mut set = OrderedSet::new();
    let (mut key, mut state) = ([0; 14], 7);
    let start = cpu_time();
    for n in 0..members {
        write_key(n, &mut key);
        set.insert(&key, (random(&mut state) >> 20) as f64);
    }
    let insert = (cpu_time() - start).as_nanos() as f64 / members as f64;
    let bytes = IN_USE.load(Relaxed) - before;
    let start = cpu_time();
    for _ in 0..members {
        write_key(random(&mut state) % members, &mut key);
        set.insert(&key, (random(&mut state) >> 20) as f64);
    }
    let update = (cpu_time() - start).as_nanos() as f64 / members as f64;
    let start = cpu_time();
    for _ in 0..members {
        write_key(random(&mut state) % members, &mut key);
        black_box(set.rank(&key));
    }
    let rank = (cpu_time() - start).as_nanos() as f64 / members as f64;
    let start = cpu_time();
    let sum: u64 =
        set.iter().map(|(member, score)| u64::from(member[13]) + score as u64).fold(0, u64::wrapping_add);
    let walk = (cpu_time() - start).as_nanos() as f64 / members as f64;
    let mut in_order = OrderedSet::new();
    let start = cpu_time();
    for n in 0..members {
        write_key(n, &mut key);
        in_order.insert(&key, n as f64);
    }
    println!(
        "ordered set of {members} in random order: {:.1} bytes per member ({:.1} requested), insert {insert:.0} ns, update {update:.0} ns, rank {rank:.0} ns, walk {walk:.0} ns",
        bytes as f64 / members as f64,
        set.bytes() as f64 / members as f64,
    );
    println!(
        "               in ascending order: {:.1} bytes per member requested, insert {:.0} ns ({})",
        in_order.bytes() as f64 / members as f64,
        (cpu_time() - start).as_nanos() as f64 / members as f64,
        sum & 1
    );
}

/// Bytes per entry at all sizes of several doublings.
fn shape() {
    let mut set: Table<Record<()>> = Table::new();
    let (mut worst, mut total, mut count) = (0f64, 0f64, 0u32);
    for n in 0..300_000u64 {
        let key = n.to_le_bytes();
        set.insert(hash(&key), Record::new_key(&key, None));
        if n >= 1000 && n % 100 == 0 {
            let per_entry = set.bytes() as f64 / set.len() as f64;
            (worst, total, count) = (worst.max(per_entry), total + per_entry, count + 1);
        }
    }
    println!(
        "Table memory from 1,000 to 300,000 entries: {:.2} bytes per entry, at worst {worst:.2}",
        total / f64::from(count)
    );
}

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    shape();
    ordered_set(1_000_000);
    for keys in if sizes.is_empty() { vec![1_000_000, 10_000_000] } else { sizes } {
        table(keys);
        standard_map(keys);
    }
}

//! What set and sorted-set commands cost in the engine, without sockets: nanoseconds of CPU per command, pipelined.
//! Linux only: the kernel tells how long a thread has run, which other load disturbs less than the wall clock.
//!
//! `cargo run --release -p kindred-engine --features testing --example collections_bench`

use std::fmt::Write as _;

use engine::testing::Harness;

const PIPELINE: usize = 64;

fn random(state: &mut u64) -> u64 {
    // SplitMix64.
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Nanoseconds that this thread has been on a CPU.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel keeps schedstat");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("its first number is the time")
}

/// Runs `count` commands that `line` writes; prints what one takes.
fn measure(h: &mut Harness, name: &str, count: usize, mut line: impl FnMut(usize, &mut String)) {
    let (mut batches, mut text) = (Vec::new(), String::new());
    for start in (0..count).step_by(PIPELINE) {
        let mut bytes = Vec::new();
        for index in start..(start + PIPELINE).min(count) {
            text.clear();
            line(index, &mut text);
            let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
            resp::encode_command(&mut bytes, words);
        }
        batches.push(bytes);
    }
    let start = cpu_ns();
    let mut replied = 0;
    for batch in &batches {
        replied += h.raw(h.conn, batch).len();
        h.node.before_sleep();
    }
    let nanos = (cpu_ns() - start) as f64 / count as f64;
    println!("{name:<34} {nanos:>12.0} ns  ({replied} bytes replied)");
}

fn main() {
    let mut h = Harness::new();
    let mut state = 1;
    let million = 1_000_000;
    measure(&mut h, "ZADD, new, random score, to 1M", million, |index, text| {
        let score = random(&mut state) % 1_000_000_000;
        write!(text, "ZADD z {score} member:{index:07}").unwrap();
    });
    measure(&mut h, "ZADD, another score, among 1M", million, |_, text| {
        let (score, member) = (random(&mut state) % 1_000_000_000, random(&mut state) % 1_000_000);
        write!(text, "ZADD z {score} member:{member:07}").unwrap();
    });
    measure(&mut h, "ZINCRBY 1, among 1M", million, |_, text| {
        write!(text, "ZINCRBY z 1 member:{:07}", random(&mut state) % 1_000_000).unwrap();
    });
    measure(&mut h, "ZSCORE, among 1M", million, |_, text| {
        write!(text, "ZSCORE z member:{:07}", random(&mut state) % 1_000_000).unwrap();
    });
    measure(&mut h, "ZRANK, among 1M", million, |_, text| {
        write!(text, "ZRANK z member:{:07}", random(&mut state) % 1_000_000).unwrap();
    });
    measure(&mut h, "ZRANGE of 1000 members", 2000, |_, text| {
        let start = random(&mut state) % 999_000;
        write!(text, "ZRANGE z {start} {}", start + 999).unwrap();
    });
    measure(&mut h, "ZRANGE of 1000 with scores", 2000, |_, text| {
        let start = random(&mut state) % 999_000;
        write!(text, "ZRANGE z {start} {} WITHSCORES", start + 999).unwrap();
    });
    measure(&mut h, "ZADD, 1000 small sorted sets", million, |index, text| {
        let score = random(&mut state) % 1000;
        write!(text, "ZADD small:{} {score} m{}", index % 1000, random(&mut state) % 100).unwrap();
    });
    measure(&mut h, "SADD, new, to 1M", million, |index, text| {
        write!(text, "SADD s member:{index:07}").unwrap();
    });
    measure(&mut h, "SISMEMBER, half of them, among 1M", million, |_, text| {
        write!(text, "SISMEMBER s member:{:07}", random(&mut state) % 2_000_000).unwrap();
    });
    for (key, shift) in [("a", 0), ("b", 50_000)] {
        measure(&mut h, "SADD, new, to 100k", 100_000, |index, text| {
            write!(text, "SADD {key} member:{:07}", index + shift).unwrap();
        });
    }
    measure(&mut h, "SINTER of 2 x 100k, half in both", 50, |_, text| text.push_str("SINTER a b"));
    measure(&mut h, "SINTERCARD of 2 x 100k", 50, |_, text| text.push_str("SINTERCARD 2 a b"));
    measure(&mut h, "SUNION of 2 x 100k", 50, |_, text| text.push_str("SUNION a b"));
    measure(&mut h, "SDIFF of 2 x 100k", 50, |_, text| text.push_str("SDIFF a b"));
    measure(&mut h, "SPOP, among 1M", 500_000, |_, text| text.push_str("SPOP s"));
    measure(&mut h, "ZPOPMIN, among 1M", 500_000, |_, text| text.push_str("ZPOPMIN z"));
}

//! Nanoseconds to find a command by name among 240: `cargo run --release -p kindred-command --example lookup_bench`.

use std::hint::black_box;
use std::time::Instant;

use command::{Command, Registry};

const FREQUENT: [&str; 8] =
    ["get", "SET", "hset", "zadd", "expire", "incr", "Zrangebyscore", "zrevrangebyscore"];

fn main() {
    let mut names: Vec<String> = FREQUENT.iter().map(|name| name.to_lowercase()).collect();
    names.extend((0..232).map(|index| format!("{}{index}", ["x", "command", "longer-name-"][index % 3])));
    let commands = names.into_iter().map(|name| {
        let command: &'static Command<u8> =
            Box::leak(Box::new(Command { name: name.leak(), ..Command::runs(0) }));
        command
    });
    let registry = Registry::new(commands);
    for name in FREQUENT {
        let mut best = f64::MAX;
        for _ in 0..100 {
            let start = Instant::now();
            for _ in 0..10_000 {
                black_box(registry.lookup(black_box(name.as_bytes())));
            }
            best = best.min(start.elapsed().as_nanos() as f64 / 10_000.0);
        }
        println!("{name}: {best:.1} ns");
    }
}

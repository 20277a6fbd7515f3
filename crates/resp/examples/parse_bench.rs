//! Nanoseconds per command for parsing and answering a pipeline: `cargo run --release --example parse_bench`.
//! The best of many rounds counts, since the machine may be shared.

use std::hint::black_box;
use std::time::Instant;

use resp::{Batch, Limits, Output, Parser, Proto, Reply, encode_command};

fn main() {
    let value = [b'v'; 100];
    for pipeline in [16, 64] {
        for command in ["GET", "SET"] {
            let mut input = vec![];
            for index in 0..pipeline {
                let key = format!("key:{index:012}");
                let args: [&[u8]; 3] = [command.as_bytes(), key.as_bytes(), &value];
                let argc = if command == "GET" { 2 } else { 3 };
                encode_command(&mut input, args[..argc].iter().copied());
            }
            let (mut parser, mut batch) = (Parser::new(), Batch::new());
            let parse = best_ns(pipeline, || {
                let progress = parser.parse(black_box(&input), &Limits::default(), 64, &mut batch);
                black_box(progress.expect("the input is well formed").consumed);
                for index in 0..batch.len() {
                    black_box(batch.args(index, &input).at(1));
                }
            });
            let mut out = Output::new();
            let reply = best_ns(pipeline, || {
                for _ in 0..pipeline {
                    let mut reply = Reply::new(&mut out, Proto::Resp2);
                    if command == "GET" { reply.bulk(black_box(&value)) } else { reply.ok() }
                }
                let pending = out.pending_bytes();
                black_box(out.chunks().next());
                out.consume(pending);
            });
            println!("{command} pipeline {pipeline}: parse {parse:.1} ns, reply {reply:.1} ns per command");
        }
    }
}

fn best_ns(commands: usize, mut work: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..200 {
        let start = Instant::now();
        for _ in 0..500 {
            work();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / (500 * commands) as f64);
    }
    best
}

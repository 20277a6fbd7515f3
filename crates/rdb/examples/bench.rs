//! Nanoseconds per key, encoding and decoding: `bench [KEYS]` (default 2,000,000 strings of 100 bytes under keys
//! of 14), and the throughput of the checksum and of LZF.

use rdb::{Crc64, DecodeOptions, Decoder, Encoder, EncoderOptions, Event, Step, StrRef, Target};
use std::hint::black_box;
use std::time::Instant;

fn main() {
    let keys: usize = std::env::args().nth(1).and_then(|keys| keys.parse().ok()).unwrap_or(2_000_000);
    // Noise that LZF cannot shrink, and text that it can.
    let noise: Vec<u8> = (0..100u64)
        .map(|n| (n.wrapping_mul(n + 77).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let text = b"the quick brown fox jumps over the lazy dog, and the lazy dog jumps over the quick brown fox, again "
        .to_vec();
    for (name, value, compress) in [("noise", &noise, false), ("noise", &noise, true), ("text", &text, true)]
    {
        let name = format!("{name}{}", if compress { ", LZF on" } else { "" });
        let started = Instant::now();
        let file = encode(keys, value, compress);
        report(&format!("encode {name}"), started, keys, file.len());
        for verify_checksum in [true, false] {
            let started = Instant::now();
            decode(&file, verify_checksum);
            let what = if verify_checksum { "decode" } else { "decode without checksum" };
            report(&format!("{what} {name}"), started, keys, file.len());
        }
    }
    collection(keys);
    [100, 1000, 100_000].into_iter().for_each(lzf);
    let bytes = vec![0x5a; 64 << 20];
    for size in [16, 64, 128, 256, 4096, 1 << 20] {
        let started = Instant::now();
        let mut crc = Crc64::new();
        bytes.chunks(size).for_each(|chunk| crc.update(chunk));
        black_box(crc.value());
        report(&format!("CRC-64 by {size} bytes"), started, bytes.len() / size, bytes.len());
    }
}

fn encode(keys: usize, value: &[u8], compress: bool) -> Vec<u8> {
    let mut encoder = Encoder::new(Target::V10, EncoderOptions { compress });
    let (mut out, mut chunk, mut crc) = (Vec::with_capacity(keys * 120), Vec::new(), Crc64::new());
    encoder.header(&mut chunk);
    encoder.select_db(&mut chunk, 0);
    let mut key = *b"key:0000000000";
    for _ in 0..keys {
        for digit in key[4..].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
        encoder.string(&mut chunk, Some(&key), StrRef::Bytes(value));
        if chunk.len() >= 64 << 10 {
            crc.update(&chunk);
            out.append(&mut chunk);
        }
    }
    encoder.eof(&mut chunk, Some(crc));
    out.append(&mut chunk);
    out
}

fn decode(file: &[u8], verify_checksum: bool) {
    let mut decoder = Decoder::new(DecodeOptions { verify_checksum });
    let mut from = 0;
    let mut bytes = 0;
    loop {
        // As from a socket: a window of 64 KB.
        let window = &file[from..file.len().min(from + (64 << 10))];
        match decoder.next(window).expect("what was encoded is read") {
            Step::Event { event, consumed } => {
                from += consumed;
                match event {
                    Event::Key(key) => bytes += key.key.len(),
                    Event::Str(StrRef::Bytes(value)) => bytes += value.len(),
                    Event::Element(element) => bytes += element.len(),
                    Event::Eof { .. } => break,
                    _ => {}
                }
            }
            Step::NeedMore { .. } => panic!("{}", decoder.truncated()),
        }
    }
    black_box(bytes);
}

fn collection(members: usize) {
    let mut encoder = Encoder::new(Target::V11, EncoderOptions { compress: false });
    let (mut out, mut crc) = (Vec::new(), Crc64::new());
    encoder.header(&mut out);
    encoder.set_begin(&mut out, Some(b"set"), members as u64);
    (0..members).for_each(|n| encoder.element(&mut out, format!("member:{n:07}").as_bytes()));
    crc.update(&out);
    let mut end = Vec::new();
    encoder.eof(&mut end, Some(crc));
    out.append(&mut end);
    let started = Instant::now();
    decode(&out, true);
    report("decode one set", started, members, out.len());
}

fn report(what: &str, started: Instant, items: usize, bytes: usize) {
    let elapsed = started.elapsed();
    let each = elapsed.as_nanos() as f64 / items as f64;
    let rate = bytes as f64 / elapsed.as_secs_f64() / 1e9;
    println!("{what:<36} {each:>8.1} ns each {rate:>8.2} GB/s");
}

/// Text in the manner of JSON, as applications store it.
fn documents(bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut state = 1u64;
    while out.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, age) = (state >> 33, state >> 58);
        out.extend_from_slice(
            format!(r#"{{"id":{id},"name":"user {id:x}","age":{age},"active":true,"tags":["a","b"]}},"#)
                .as_bytes(),
        );
    }
    out
}

fn lzf(value_bytes: usize) {
    let text = documents(8 << 20);
    let mut compressor = rdb::lzf::Compressor::new();
    let mut packed: Vec<Vec<u8>> = Vec::new();
    let started = Instant::now();
    for value in text.chunks(value_bytes) {
        let mut out = Vec::with_capacity(value_bytes);
        compressor.compress(value, value.len(), &mut out);
        packed.push(out);
    }
    report(&format!("compress by {value_bytes} bytes"), started, packed.len(), text.len());
    let started = Instant::now();
    let mut out = Vec::new();
    for (packed, value) in packed.iter().zip(text.chunks(value_bytes)) {
        if !packed.is_empty() {
            rdb::lzf::decompress(packed, value.len(), &mut out).expect("just compressed");
        }
    }
    black_box(&out);
    report(&format!("decompress by {value_bytes} bytes"), started, packed.len(), text.len());
    let size: usize = packed.iter().map(Vec::len).sum();
    println!("    to {:.1} %", size as f64 * 100.0 / text.len() as f64);
}

//! What a real server was seen to do, checked against what this engine does: replies, keyspace events, propagation. The
//! server is redis 7.0.15, and redis 8.2.3 for what is newer.
//!
//! A transcript is a text of lines that begin with what they are:
//!
//! ```text
//! > command      a request, in inline form
//! < reply        its bytes, escaped
//! ! name key     a keyspace event that it raised
//! ~ command      a command that it propagated, `SELECT` left out
//! @3             the client speaks RESP3 from here on
//! ```

use crate::notify::Event;
use crate::testing::Harness;
use keyspace::EncodingLimits;

/// Commands whose reply is in no particular order.
const UNORDERED: [&str; 9] =
    ["HGETALL", "SMEMBERS", "SINTER", "SUNION", "SDIFF", "SPOP", "SRANDMEMBER", "SSCAN", "ZSCAN"];

/// A request and what is to follow from it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exchange<'a> {
    reply: String,
    events: Vec<String>,
    propagated: Vec<String>,
    request: &'a str,
}

fn check(transcript: &str, limits: &EncodingLimits) {
    compare(transcript, limits, true);
}

fn compare(transcript: &str, limits: &EncodingLimits, with_propagation: bool) {
    let mut h = Harness::new();
    h.node.store.limits = limits.clone();
    h.node.store.notifications.collect(Event::parse(b"KEA").expect("these letters are known"));
    let mut lines = transcript.lines().peekable();
    let mut checked = 0;
    while let Some(line) = lines.next() {
        if line == "@3" {
            h.resp3();
            continue;
        }
        let request = line.strip_prefix("> ").expect("a request begins each exchange");
        let mut expected = Exchange { request, ..Exchange::default() };
        while let Some(line) = lines.next_if(|line| line.starts_with(['<', '!', '~'])) {
            match line.split_at(2) {
                ("< ", reply) => expected.reply = ordered(request, reply),
                ("! ", event) => expected.events.push(event.into()),
                (_, command) => expected.propagated.push(command.into()),
            }
        }
        let reply = ordered(request, &h.run(request));
        let raised = h.node.store.notifications.take();
        let events = raised.iter().map(|event| format!("{} {}", event.name, event.key.escape_ascii()));
        let propagated = h.propagated().into_iter();
        let propagated = propagated.filter(|command| with_propagation && !command.starts_with("SELECT "));
        let seen = Exchange { request, reply, events: events.collect(), propagated: propagated.collect() };
        assert_eq!(seen, expected, "left: this engine, right: the real server");
        checked += 1;
    }
    assert!(checked > 50, "a transcript is not empty");
}

/// The lines of an unordered reply, sorted.
fn ordered(request: &str, reply: &str) -> String {
    let name = request.split(' ').next().unwrap_or_default();
    if !UNORDERED.contains(&name) {
        return reply.into();
    }
    let mut lines: Vec<&str> = reply.split(r"\r\n").collect();
    lines.sort_unstable();
    lines.join(" ")
}

#[test]
fn sets_do_what_redis_7_0_does() {
    let transcript = include_str!("transcripts/set.txt");
    for (set_intset_entries, set_listpack_entries) in [(512, 0), (512, 128), (0, 0), (0, 128), (2, 3)] {
        let limits = EncodingLimits { set_intset_entries, set_listpack_entries, ..EncodingLimits::default() };
        check(transcript, &limits);
    }
}

#[test]
fn sorted_sets_do_what_redis_7_0_does() {
    let transcript = include_str!("transcripts/zset.txt");
    for zset_entries in [128, 0, 3] {
        check(transcript, &EncodingLimits { zset_entries, ..EncodingLimits::default() });
    }
}

/// Propagation is not compared: there these commands become what servers of any age understand.
#[test]
fn expiries_of_hash_fields_are_what_they_are_in_redis_8_2() {
    let transcript = include_str!("transcripts/hash_ttl.txt");
    compare(transcript, &EncodingLimits::default(), false);
}

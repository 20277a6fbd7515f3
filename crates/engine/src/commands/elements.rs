//! What commands on sets and sorted sets share: how elements and scores are replied, how some are picked among many,
//! how a collection is scanned, and how a result replaces a key.

use command::{CommandError, ParseArgs};
use keyspace::set::text_of;
use keyspace::{Key, Object};
use resp::{Args, Proto, Reply};
use structures::listpack::Entry;
use structures::number::{IntText, push_f64};

use crate::commands::scan::{ScanOptions, advance};
use crate::ctx::Ctx;
use crate::notify::Event;

/// Integers of up to this size are exact as a double, and print the same either way.
const EXACT_INT_MAX: f64 = 9_007_199_254_740_992.0;

#[inline]
pub fn reply_entry(reply: &mut Reply<'_>, entry: Entry<'_>) {
    match entry {
        Entry::Int(value) => reply.bulk_int(value),
        Entry::Str(text) => reply.bulk(text),
    }
}

/// Writes scores; only those that are no integers need its memory.
#[derive(Default)]
pub struct ScoreText {
    text: Vec<u8>,
}

impl ScoreText {
    /// The shortest text that reads back as this score.
    pub fn of<'s>(&'s mut self, score: f64, scratch: &'s mut IntText) -> &'s [u8] {
        if score.abs() <= EXACT_INT_MAX
            && score.trunc() == score
            && !(score == 0.0 && score.is_sign_negative())
        {
            return scratch.format(score as i64);
        }
        self.text.clear();
        push_f64(&mut self.text, score);
        &self.text
    }

    pub fn reply(&mut self, reply: &mut Reply<'_>, score: f64) {
        reply.double_text(self.of(score, &mut IntText::new()));
    }
}

pub fn reply_score(reply: &mut Reply<'_>, score: f64) {
    ScoreText::default().reply(reply, score);
}

/// Replies members, with their scores or without: pairs are arrays of their own in RESP3, and flat in RESP2.
pub struct Pairs {
    with_scores: bool,
    nested: bool,
    score: ScoreText,
}

impl Pairs {
    /// Writes the head of an array of `count` members.
    pub fn begin(reply: &mut Reply<'_>, count: usize, with_scores: bool) -> Pairs {
        let nested = with_scores && reply.proto() == Proto::Resp3;
        reply.array(if with_scores && !nested { 2 * count } else { count });
        Pairs { with_scores, nested, score: ScoreText::default() }
    }

    /// The same for members that are replied as pairs in both protocols.
    pub fn begin_nested(reply: &mut Reply<'_>, count: usize) -> Pairs {
        reply.array(count);
        Pairs { with_scores: true, nested: true, score: ScoreText::default() }
    }

    /// A member with its score, alone and flat in both protocols.
    pub fn begin_flat(reply: &mut Reply<'_>, count: usize) -> Pairs {
        reply.array(2 * count);
        Pairs { with_scores: true, nested: false, score: ScoreText::default() }
    }

    /// One member with its score, in one array with what comes before them.
    pub fn begin_flat_after(reply: &mut Reply<'_>, before: &[u8]) -> Pairs {
        reply.array(3);
        reply.bulk(before);
        Pairs { with_scores: true, nested: false, score: ScoreText::default() }
    }

    #[inline]
    pub fn reply(&mut self, reply: &mut Reply<'_>, member: Entry<'_>, score: f64) {
        if self.nested {
            reply.array(2);
        }
        reply_entry(reply, member);
        if self.with_scores {
            self.score.reply(reply, score);
        }
    }
}

/// Chooses `count` of `size` elements that are looked at one after the other, every choice with the same chance
/// (D. Knuth, The Art of Computer Programming, 3.4.2, algorithm S).
pub struct Sampling<'r> {
    count: usize,
    size: usize,
    rng: &'r mut dyn FnMut() -> u64,
}

impl Sampling<'_> {
    pub fn new(count: usize, size: usize, rng: &mut dyn FnMut() -> u64) -> Sampling<'_> {
        Sampling { count, size, rng }
    }

    /// Whether the next element is chosen.
    pub fn takes_next(&mut self) -> bool {
        let drawn = ((u128::from((self.rng)()) * self.size as u128) >> 64) as usize;
        self.size -= 1;
        let taken = drawn < self.count;
        self.count -= usize::from(taken);
        taken
    }
}

/// When many of the elements are wanted it is cheaper to look at all of them than to draw until enough differ.
pub fn sampling_pays(count: usize, size: usize) -> bool {
    count.saturating_mul(3) > size
}

/// Scans from `cursor` on and replies the next cursor and what was found. `step` visits some elements (with a score if
/// they have one) and returns the next cursor; it is run twice, since the cursor comes first.
pub fn reply_scan(
    reply: &mut Reply<'_>,
    cursor: u64,
    options: &ScanOptions<'_>,
    step: impl Fn(u64, &mut dyn FnMut(Entry<'_>, Option<f64>)) -> u64,
) {
    let end = advance(cursor, options.count, |cursor| {
        let mut seen = 0;
        (step(cursor, &mut |_, _| seen += 1), seen)
    });
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(end).as_bytes());
    let mark = reply.begin_deferred();
    let (mut at, mut written, mut text) = (cursor, 0, ScoreText::default());
    loop {
        at = step(at, &mut |element, score| {
            if options.admits(text_of(element, &mut IntText::new())) {
                reply_entry(reply, element);
                written += 1;
                if let Some(score) = score {
                    // A bulk in RESP3 too.
                    reply.bulk(text.of(score, &mut IntText::new()));
                    written += 1;
                }
            }
        });
        if at == end {
            break;
        }
    }
    reply.end_array(mark, written);
}

/// The reply of a scan of a key that does not exist.
pub fn reply_empty_scan(reply: &mut Reply<'_>) {
    reply.array(2);
    reply.bulk(b"0");
    reply.array(0);
}

/// `numkeys key …` with a text of its own for every mistake.
pub fn counted_keys<'a>(args: Args<'a>, at: usize) -> Result<(Args<'a>, usize), CommandError> {
    let error = CommandError::fixed("ERR numkeys should be greater than 0");
    let count = args.int_within_or(at, 1..=i64::MAX, error)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    Ok((args.tail(at + 1).head(count), count))
}

/// `result` takes the place of whatever `key` holds; without one the key is deleted. Replies `members`, its number.
pub fn store_result(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    result: Option<(Object, usize)>,
    class: Event,
    event: &'static str,
) {
    match result {
        Some((object, members)) => {
            ctx.store.put(key, object);
            ctx.store.modified(key.bytes);
            ctx.reply.int(members as i64);
            ctx.store.notify(class, event, key.bytes);
        }
        None => {
            ctx.reply.int(0);
            if ctx.store.delete_quietly(key, false) {
                ctx.store.modified(key.bytes);
                ctx.store.notify(Event::GENERIC, "del", key.bytes);
            }
        }
    }
}

/// Deletes a key that a command has just emptied.
pub fn delete_emptied(ctx: &mut Ctx<'_>, key: Key<'_>) {
    ctx.store.delete_quietly(key, false);
    ctx.store.notify(Event::GENERIC, "del", key.bytes);
}

//! The server's side of replies: typed values to bytes that wait to be sent.
//!
//! [`Output`] holds what a connection has yet to send: bytes of its own, and between them big values that it shares
//! with the keyspace instead of copying them. [`Reply`] writes into it in the protocol that the client chose.
//! Where RESP2 lacks a type, the reply falls back as Redis does: a map is a flat array, a null an empty bulk, a
//! double a bulk.

use std::fmt::{self, Write as _};
use std::io::IoSlice;
use std::sync::Arc;

use crate::encode::{HEAD_MAX, push_bulk, push_head};

/// Which protocol a client chose with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    #[default]
    Resp2,
    Resp3,
}

/// Capacity that an output keeps when it runs empty.
const KEPT_BYTES: usize = 64 * 1024;
/// Times in a row that an output must run empty at less than a quarter of its capacity before it gives that back.
const SHRINK_AFTER: u8 = 16;

/// Bytes that wait to be sent.
#[derive(Debug, Default)]
pub struct Output {
    buf: Vec<u8>,
    /// Ordered by `at`. The first `spliced` of them are sent.
    shared: Vec<Splice>,
    spliced: usize,
    /// Bytes of `buf` that are sent.
    sent: usize,
    /// Bytes of `shared[spliced]` that are sent.
    splice_sent: usize,
    /// Sum of the lengths of `shared[spliced..]`.
    shared_bytes: usize,
    idle_rounds: u8,
}

/// A shared value that goes out before `buf[at]`.
#[derive(Debug)]
struct Splice {
    at: usize,
    value: Arc<Vec<u8>>,
}

impl Output {
    pub fn new() -> Self {
        Output::default()
    }

    /// Bytes not sent yet, shared ones included.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.buf.len() - self.sent + self.shared_bytes - self.splice_sent
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pending_bytes() == 0
    }

    /// Bytes of memory held, without the shared values.
    pub fn memory(&self) -> usize {
        self.buf.capacity() + self.shared.capacity() * size_of::<Splice>()
    }

    /// Appends bytes that are RESP already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Appends the bytes of a shared value, without copying them.
    pub fn raw_shared(&mut self, value: &Arc<Vec<u8>>) {
        if !value.is_empty() {
            self.shared_bytes += value.len();
            self.shared.push(Splice { at: self.buf.len(), value: Arc::clone(value) });
        }
    }

    /// Appends what `other` holds, of which nothing has been sent yet. What it shares is shared with this one too.
    pub fn append(&mut self, other: &Output) {
        assert!(other.sent == 0 && other.spliced == 0, "what is appended is whole");
        let start = self.buf.len();
        self.buf.extend_from_slice(&other.buf);
        self.shared_bytes += other.shared_bytes;
        let moved = |splice: &Splice| Splice { at: start + splice.at, value: Arc::clone(&splice.value) };
        self.shared.extend(other.shared.iter().map(moved));
    }

    /// The unsent bytes in order, in pieces; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = self.sent;
        let mut splices = self.shared[self.spliced..].iter();
        let mut skip = self.splice_sent;
        let mut own = true;
        let mut next = splices.next();
        std::iter::from_fn(move || {
            loop {
                if own {
                    own = false;
                    let end = next.map_or(self.buf.len(), |splice| splice.at);
                    let piece = &self.buf[at..end];
                    at = end;
                    if !piece.is_empty() {
                        return Some(piece);
                    }
                }
                let piece = &next?.value[skip..];
                skip = 0;
                own = true;
                next = splices.next();
                if !piece.is_empty() {
                    return Some(piece);
                }
            }
        })
    }

    /// Fills `slices` for a vectored write and returns how many it set.
    pub fn as_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        slices.iter_mut().zip(self.chunks()).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    /// Drops the first `count` unsent bytes. Panics when there are fewer.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.pending_bytes(), "only what is pending can have been sent");
        if count == self.pending_bytes() {
            return self.clear();
        }
        let mut count = count;
        loop {
            let own_end = self.shared.get(self.spliced).map_or(self.buf.len(), |splice| splice.at);
            let own = count.min(own_end - self.sent);
            self.sent += own;
            count -= own;
            if count == 0 {
                break;
            }
            let splice = &mut self.shared[self.spliced];
            let left = splice.value.len() - self.splice_sent;
            if count < left {
                self.splice_sent += count;
                break;
            }
            count -= left;
            self.shared_bytes -= splice.value.len();
            self.splice_sent = 0;
            self.spliced += 1;
            splice.value = Arc::default();
        }
        if self.sent > KEPT_BYTES && self.sent >= self.buf.len() / 2 {
            self.compact();
        }
    }

    /// Moves what is unsent to the front. Each byte moves once per doubling at most, so a reader that never quite
    /// catches up costs linear time.
    fn compact(&mut self) {
        self.shared.drain(..self.spliced);
        self.spliced = 0;
        for splice in &mut self.shared {
            splice.at -= self.sent;
        }
        self.buf.drain(..self.sent);
        self.sent = 0;
    }

    /// Drops everything. Capacity beyond 64 KiB goes back once it was not needed several times in a row.
    pub fn clear(&mut self) {
        if self.buf.capacity() > KEPT_BYTES {
            self.idle_rounds =
                if self.buf.len() < self.buf.capacity() / 4 { self.idle_rounds + 1 } else { 0 };
            if self.idle_rounds >= SHRINK_AFTER {
                let used = self.buf.len();
                self.buf.clear();
                self.buf.shrink_to(KEPT_BYTES.max(used * 2));
                self.idle_rounds = 0;
            }
        }
        self.buf.clear();
        self.shared.clear();
        (self.sent, self.spliced, self.splice_sent, self.shared_bytes) = (0, 0, 0, 0);
    }

    /// Everything that is unsent, as one vector. For tests and tools.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks().flatten().copied().collect()
    }

    /// A place to come back to with [`Reply::array_since`] and its like, or with [`Output::rewind`].
    ///
    /// Valid until bytes are consumed or dropped, that is, within one command.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark { at: self.buf.len(), splices: self.shared.len() }
    }

    /// Bytes written since the mark.
    pub fn written_since(&self, mark: &Mark) -> usize {
        let shared: usize = self.shared[mark.splices..].iter().map(|splice| splice.value.len()).sum();
        self.buf.len() - mark.at + shared
    }

    /// Takes back what was written since the mark: for a client that wants no replies, or a reply that turned into
    /// an error half way.
    pub fn rewind(&mut self, mark: &Mark) {
        self.buf.truncate(mark.at);
        for splice in self.shared.drain(mark.splices..) {
            self.shared_bytes -= splice.value.len();
        }
    }

    /// Puts `head` before what was written since the mark.
    fn insert_at(&mut self, mark: Mark, head: &[u8]) {
        let end = self.buf.len();
        self.buf.extend_from_slice(head);
        self.buf.copy_within(mark.at..end, mark.at + head.len());
        self.buf[mark.at..mark.at + head.len()].copy_from_slice(head);
        for splice in &mut self.shared[mark.splices..] {
            splice.at += head.len();
        }
    }
}

/// A place in an [`Output`]; see [`Output::mark`].
#[derive(Debug)]
#[must_use = "a deferred aggregate needs its head, or the reply is malformed"]
pub struct Mark {
    at: usize,
    splices: usize,
}

/// Writes replies in the client's protocol.
pub struct Reply<'a> {
    out: &'a mut Output,
    proto: Proto,
}

impl<'a> Reply<'a> {
    #[inline]
    pub fn new(out: &'a mut Output, proto: Proto) -> Self {
        Reply { out, proto }
    }

    /// Bytes that wait to be sent on the connection, earlier replies among them.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.out.pending_bytes()
    }

    #[inline]
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// Changes what the following replies are written in: HELLO answers in the new protocol.
    pub fn set_proto(&mut self, proto: Proto) {
        self.proto = proto;
    }

    pub fn output(&mut self) -> &mut Output {
        self.out
    }

    /// The same writer for a callee.
    pub fn reborrow(&mut self) -> Reply<'_> {
        Reply { out: self.out, proto: self.proto }
    }

    fn is_resp3(&self) -> bool {
        self.proto == Proto::Resp3
    }

    #[inline]
    pub fn ok(&mut self) {
        self.out.buf.extend_from_slice(b"+OK\r\n");
    }

    /// A status. CR and LF become blanks.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', |buf| buf.extend_from_slice(text.as_bytes()));
    }

    /// An error with its code: `ERR syntax error`. CR and LF at its ends go, elsewhere they become blanks.
    #[cold]
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let start = text.iter().position(|byte| !is_break(byte)).unwrap_or(text.len());
        let end = text.iter().rposition(|byte| !is_break(byte)).map_or(start, |last| last + 1);
        self.line(b'-', |buf| buf.extend_from_slice(&text[start..end]));
    }

    /// An error whose text a `Display` gives.
    #[cold]
    pub fn error_display(&mut self, error: &dyn fmt::Display) {
        let mut text = String::new();
        write!(text, "{error}").expect("a string takes any text");
        self.error(text);
    }

    fn line(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let buf = &mut self.out.buf;
        buf.push(kind);
        let start = buf.len();
        write(buf);
        for byte in &mut buf[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        buf.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub fn int(&mut self, value: i64) {
        if (0..10).contains(&value) {
            self.out.buf.extend_from_slice(&[b':', b'0' + value as u8, b'\r', b'\n']);
        } else {
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(value).as_bytes();
            let buf = &mut self.out.buf;
            buf.reserve(HEAD_MAX);
            buf.push(b':');
            buf.extend_from_slice(digits);
            buf.extend_from_slice(b"\r\n");
        }
    }

    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        push_bulk(&mut self.out.buf, bytes);
    }

    /// A bulk that shares its bytes with their owner. Pays from a few kilobytes on.
    pub fn bulk_shared(&mut self, value: &Arc<Vec<u8>>) {
        push_head(&mut self.out.buf, b'$', value.len());
        self.out.raw_shared(value);
        self.out.buf.extend_from_slice(b"\r\n");
    }

    /// The decimal text of an integer, as a bulk.
    #[inline]
    pub fn bulk_int(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// `Some` bytes, or null.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    #[inline]
    pub fn null(&mut self) {
        self.out.buf.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    #[inline]
    pub fn null_array(&mut self) {
        self.out.buf.extend_from_slice(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The head of an array; `count` replies must follow.
    #[inline]
    pub fn array(&mut self, count: usize) {
        push_head(&mut self.out.buf, b'*', count);
    }

    /// The head of a map; `pairs` times two replies must follow.
    #[inline]
    pub fn map(&mut self, pairs: usize) {
        let (kind, count) = self.map_head(pairs);
        push_head(&mut self.out.buf, kind, count);
    }

    /// The head of a set; an array in RESP2.
    #[inline]
    pub fn set(&mut self, count: usize) {
        let kind = self.kind(b'~');
        push_head(&mut self.out.buf, kind, count);
    }

    /// The head of a message out of band; an array in RESP2.
    #[inline]
    pub fn push(&mut self, count: usize) {
        let kind = self.kind(b'>');
        push_head(&mut self.out.buf, kind, count);
    }

    /// The head of attributes for the reply that follows them. RESP2 has none: then nothing is written, the answer
    /// is false, and the caller must leave them out.
    #[must_use]
    pub fn attribute(&mut self, pairs: usize) -> bool {
        if self.is_resp3() {
            push_head(&mut self.out.buf, b'|', pairs);
        }
        self.is_resp3()
    }

    /// A double, given as the text to show: a bulk in RESP2.
    #[inline]
    pub fn double_text(&mut self, text: &[u8]) {
        if self.is_resp3() {
            self.resp3_line(b',', text);
        } else {
            self.bulk(text);
        }
    }

    /// A truth value: an integer in RESP2.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        let bytes = match (self.proto, value) {
            (Proto::Resp2, false) => b":0\r\n",
            (Proto::Resp2, true) => b":1\r\n",
            (Proto::Resp3, false) => b"#f\r\n",
            (Proto::Resp3, true) => b"#t\r\n",
        };
        self.out.buf.extend_from_slice(bytes);
    }

    /// An integer beyond 64 bits, in decimal: a bulk in RESP2.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.is_resp3() {
            self.resp3_line(b'(', digits);
        } else {
            self.bulk(digits);
        }
    }

    /// A text for people to read; `format` is `txt` or `mkd`. A bulk in RESP2.
    pub fn verbatim(&mut self, format: &[u8; 3], text: &[u8]) {
        if self.is_resp3() {
            let buf = &mut self.out.buf;
            buf.reserve(text.len() + HEAD_MAX + 6);
            push_head(buf, b'=', text.len() + 4);
            buf.extend_from_slice(format);
            buf.push(b':');
            buf.extend_from_slice(text);
            buf.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text);
        }
    }

    /// Begins an aggregate whose length is not known yet; close it with `end_array` or its like.
    #[inline]
    pub fn begin_deferred(&mut self) -> Mark {
        self.out.mark()
    }

    /// What was written since the mark becomes an array of `count`.
    pub fn end_array(&mut self, mark: Mark, count: usize) {
        self.end(mark, b'*', count);
    }

    /// Puts bytes that are RESP already before what was written since the mark.
    pub fn end_with(&mut self, mark: Mark, head: &[u8]) {
        self.out.insert_at(mark, head);
    }

    pub fn end_map(&mut self, mark: Mark, pairs: usize) {
        let (kind, count) = self.map_head(pairs);
        self.end(mark, kind, count);
    }

    pub fn end_set(&mut self, mark: Mark, count: usize) {
        self.end(mark, self.kind(b'~'), count);
    }

    pub fn end_push(&mut self, mark: Mark, count: usize) {
        self.end(mark, self.kind(b'>'), count);
    }

    fn end(&mut self, mark: Mark, kind: u8, count: usize) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(count).as_bytes();
        let mut head = [0; HEAD_MAX];
        head[0] = kind;
        head[1..=digits.len()].copy_from_slice(digits);
        head[digits.len() + 1..digits.len() + 3].copy_from_slice(b"\r\n");
        self.out.insert_at(mark, &head[..digits.len() + 3]);
    }

    fn kind(&self, resp3: u8) -> u8 {
        if self.is_resp3() { resp3 } else { b'*' }
    }

    fn map_head(&self, pairs: usize) -> (u8, usize) {
        if self.is_resp3() { (b'%', pairs) } else { (b'*', pairs * 2) }
    }

    fn resp3_line(&mut self, kind: u8, text: &[u8]) {
        let buf = &mut self.out.buf;
        buf.push(kind);
        buf.extend_from_slice(text);
        buf.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
        for (proto, expected) in [(Proto::Resp2, resp2), (Proto::Resp3, resp3)] {
            let mut out = Output::new();
            write(&mut Reply::new(&mut out, proto));
            assert_eq!(
                out.to_vec().escape_ascii().to_string(),
                expected.as_bytes().escape_ascii().to_string()
            );
            assert_eq!(out.pending_bytes(), expected.len());
        }
    }

    #[test]
    fn exact_bytes() {
        check(|r| r.ok(), "+OK\r\n", "+OK\r\n");
        check(|r| r.simple("a\r\nb"), "+a  b\r\n", "+a  b\r\n");
        check(|r| r.error("ERR a\r\nb\r\n"), "-ERR a  b\r\n", "-ERR a  b\r\n");
        check(|r| r.error("\n"), "-\r\n", "-\r\n");
        check(|r| r.error_display(&format_args!("ERR {}", 5)), "-ERR 5\r\n", "-ERR 5\r\n");
        for (value, text) in [(0, ":0\r\n"), (9, ":9\r\n"), (10, ":10\r\n"), (-1, ":-1\r\n")] {
            check(|r| r.int(value), text, text);
        }
        check(|r| r.int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n");
        check(|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n");
        check(|r| r.bulk(b"hello"), "$5\r\nhello\r\n", "$5\r\nhello\r\n");
        for len in [10, 99, 100, 12345] {
            let text = "x".repeat(len);
            check(
                |r| r.bulk(text.as_bytes()),
                &format!("${len}\r\n{text}\r\n"),
                &format!("${len}\r\n{text}\r\n"),
            );
        }
        check(|r| r.bulk_int(-17), "$3\r\n-17\r\n", "$3\r\n-17\r\n");
        check(|r| r.bulk_or_null(None), "$-1\r\n", "_\r\n");
        check(|r| r.bulk_or_null(Some(b"x")), "$1\r\nx\r\n", "$1\r\nx\r\n");
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.array(12), "*12\r\n", "*12\r\n");
        check(|r| r.map(7), "*14\r\n", "%7\r\n");
        check(|r| r.set(3), "*3\r\n", "~3\r\n");
        check(|r| r.push(3), "*3\r\n", ">3\r\n");
        check(|r| assert_eq!(r.attribute(1), r.proto() == Proto::Resp3), "", "|1\r\n");
        check(|r| r.double_text(b"3.5"), "$3\r\n3.5\r\n", ",3.5\r\n");
        check(|r| r.bool(true), ":1\r\n", "#t\r\n");
        check(|r| r.bool(false), ":0\r\n", "#f\r\n");
        check(|r| r.big_number(b"123"), "$3\r\n123\r\n", "(123\r\n");
        check(|r| r.verbatim(b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
    }

    #[test]
    fn deferred_heads_nest_and_move_shared_values() {
        let value = Arc::new(b"shared".to_vec());
        check(
            |r| {
                r.int(1);
                let outer = r.begin_deferred();
                r.bulk_shared(&value);
                let inner = r.begin_deferred();
                r.bulk_shared(&value);
                r.int(2);
                r.end_map(inner, 1);
                let empty = r.begin_deferred();
                r.end_set(empty, 0);
                r.end_array(outer, 123);
            },
            ":1\r\n*123\r\n$6\r\nshared\r\n*2\r\n$6\r\nshared\r\n:2\r\n*0\r\n",
            ":1\r\n*123\r\n$6\r\nshared\r\n%1\r\n$6\r\nshared\r\n:2\r\n~0\r\n",
        );
    }

    #[test]
    fn rewind_takes_everything_back() {
        let value = Arc::new(vec![b'x'; 100]);
        let mut out = Output::new();
        Reply::new(&mut out, Proto::Resp2).bulk_shared(&value);
        let before = out.to_vec();
        let mark = out.mark();
        Reply::new(&mut out, Proto::Resp2).bulk_shared(&value);
        assert_eq!(out.written_since(&mark), 108);
        out.rewind(&mark);
        assert_eq!((out.to_vec(), out.pending_bytes()), (before, 108));
        assert_eq!(Arc::strong_count(&value), 2);
        out.clear();
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_sent_value_is_let_go_before_the_rest_is_sent() {
        let value = Arc::new(vec![b'x'; 100]);
        let mut out = Output::new();
        let mut reply = Reply::new(&mut out, Proto::Resp2);
        reply.bulk_shared(&value);
        reply.ok();
        out.consume(6 + 100);
        assert_eq!((Arc::strong_count(&value), out.to_vec()), (1, b"\r\n+OK\r\n".to_vec()));
    }

    #[test]
    fn unused_capacity_is_given_back_but_not_at_once() {
        let mut out = Output::new();
        out.raw(&vec![0; 1 << 20]);
        out.consume(1 << 20);
        assert!(out.memory() >= 1 << 20);
        for _ in 0..SHRINK_AFTER {
            out.raw(b"+OK\r\n");
            out.consume(5);
        }
        assert!(out.memory() <= KEPT_BYTES, "{}", out.memory());
    }

    #[test]
    fn a_reader_that_lags_does_not_keep_sent_bytes() {
        let mut out = Output::new();
        for _ in 0..10_000 {
            out.raw(&[b'x'; 1000]);
            if out.pending_bytes() > 100_000 {
                out.consume(1000);
            }
        }
        assert!(out.memory() < 1 << 20, "{}", out.memory());
    }

    proptest! {
        #[test]
        fn any_sequence_of_writes_and_sends_keeps_the_order(
            steps in prop::collection::vec((0usize..5, 0usize..90_000), 1..40),
        ) {
            let mut out = Output::new();
            let (mut written, mut sent) = (vec![], vec![]);
            for (round, (kind, size)) in steps.into_iter().enumerate() {
                let bytes = vec![round as u8; size];
                match kind {
                    0 => {
                        out.raw(&bytes);
                        written.extend(bytes);
                    }
                    1 => {
                        out.raw_shared(&Arc::new(bytes.clone()));
                        written.extend(bytes);
                    }
                    2 => {
                        let mark = out.mark();
                        out.raw_shared(&Arc::new(bytes.clone()));
                        Reply::new(&mut out, Proto::Resp2).end_array(mark, size);
                        written.extend(format!("*{size}\r\n").as_bytes());
                        written.extend(bytes);
                    }
                    3 => {
                        let mut other = Output::new();
                        other.raw(b"<");
                        other.raw_shared(&Arc::new(bytes));
                        other.raw(b">");
                        out.append(&other);
                        written.extend(other.to_vec());
                    }
                    _ => {
                        let mut slices = [IoSlice::new(&[]); 3];
                        let count = out.as_slices(&mut slices);
                        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                        let taken = size.min(bytes.len());
                        sent.extend_from_slice(&bytes[..taken]);
                        out.consume(taken);
                    }
                }
                prop_assert_eq!(out.pending_bytes(), written.len() - sent.len());
                prop_assert!(out.chunks().all(|chunk| !chunk.is_empty()));
            }
            sent.extend(out.to_vec());
            prop_assert_eq!(sent, written);
        }
    }
}

//! Framing of the snapshot that a primary sends.
//!
//! ```text
//!   $<bytes>\r\n        <bytes> bytes of RDB                      size known beforehand
//!   $EOF:<mark>\r\n     RDB of any length        <mark>           40 random bytes end it
//! ```
//!
//! The mark may be cut anywhere by the network, and what looked like its beginning may turn out to be RDB.
//! Such bytes are held back; as they equal the mark's own first bytes, only their number is kept.

use std::ops::Range;

/// Length of the mark that ends a snapshot of unknown size.
pub const EOF_MARK_LEN: usize = 40;

/// How the end of the snapshot is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// By its length in bytes; the stream follows at once.
    Sized(u64),
    /// By a mark; the primary then waits for the first ACK.
    UntilMark,
}

/// A part of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A part of the input of this step.
    Input(Range<usize>),
    /// Bytes that were held back in an earlier step, fewer than [`EOF_MARK_LEN`].
    Held(HeldBytes),
}

/// Up to [`EOF_MARK_LEN`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBytes {
    bytes: [u8; EOF_MARK_LEN],
    len: u8,
}

/// A snapshot that is being received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    Sized {
        total: u64,
        left: u64,
    },
    UntilMark {
        mark: [u8; EOF_MARK_LEN],
        /// How many bytes of the mark have been seen at the end of the input so far.
        held: u8,
    },
}

impl Piece {
    /// The bytes, given the input of the step that made this piece.
    pub fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match self {
            Piece::Input(range) => &input[range.clone()],
            Piece::Held(held) => &held.bytes[..usize::from(held.len)],
        }
    }
}

impl Payload {
    pub fn kind(&self) -> PayloadKind {
        match self {
            Payload::Sized { total, .. } => PayloadKind::Sized(*total),
            Payload::UntilMark { .. } => PayloadKind::UntilMark,
        }
    }

    /// Reads the header line, without its end. `None`: not a header.
    pub(super) fn parse(line: &[u8]) -> Option<Payload> {
        let rest = line.strip_prefix(b"$")?;
        if let Some(mark) = rest.strip_prefix(b"EOF:") {
            let mark = mark.get(..EOF_MARK_LEN)?.try_into().expect("a slice of the mark's length");
            return Some(Payload::UntilMark { mark, held: 0 });
        }
        let total = std::str::from_utf8(rest).ok()?.parse().ok()?;
        Some(Payload::Sized { total, left: total })
    }

    /// Takes the bytes of `input` from `from` on, giving parts of the snapshot to `out`. Returns where in
    /// `input` the stream begins when the snapshot ended, else `None` with all of the input taken.
    pub(super) fn feed(&mut self, input: &[u8], from: usize, mut out: impl FnMut(Piece)) -> Option<usize> {
        match self {
            Payload::Sized { left, .. } => {
                let available = (input.len() - from) as u64;
                let taken = available.min(*left);
                *left -= taken;
                let to = from + taken as usize;
                if from < to {
                    out(Piece::Input(from..to));
                }
                (*left == 0).then_some(to)
            }
            Payload::UntilMark { mark, held } => feed_until_mark(mark, held, input, from, out),
        }
    }
}

fn feed_until_mark(
    mark: &[u8; EOF_MARK_LEN],
    held: &mut u8,
    input: &[u8],
    from: usize,
    mut out: impl FnMut(Piece),
) -> Option<usize> {
    let fresh = &input[from..];
    let before = usize::from(std::mem::take(held));
    // The mark may begin at any of the held bytes.
    for start in 0..before {
        let known = before - start;
        let more = fresh.len().min(EOF_MARK_LEN - known);
        if mark[start..before] == mark[..known] && fresh[..more] == mark[known..known + more] {
            release(mark, start, &mut out);
            if known + more == EOF_MARK_LEN {
                return Some(from + more);
            }
            *held = (known + more) as u8;
            return None;
        }
    }
    release(mark, before, &mut out);
    if let Some(at) = memchr::memmem::find(fresh, mark) {
        if at > 0 {
            out(Piece::Input(from..from + at));
        }
        return Some(from + at + EOF_MARK_LEN);
    }
    let longest = fresh.len().min(EOF_MARK_LEN - 1);
    let partial = (1..=longest).rev().find(|len| fresh.ends_with(&mark[..*len])).unwrap_or(0);
    *held = partial as u8;
    if partial < fresh.len() {
        out(Piece::Input(from..input.len() - partial));
    }
    None
}

fn release(mark: &[u8; EOF_MARK_LEN], len: usize, out: &mut impl FnMut(Piece)) {
    if len > 0 {
        out(Piece::Held(HeldBytes { bytes: *mark, len: len as u8 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(payload: Payload, chunks: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut payload, mut snapshot) = (payload, Vec::new());
        for (index, chunk) in chunks.iter().enumerate() {
            let end = payload.feed(chunk, 0, |piece| snapshot.extend_from_slice(piece.bytes(chunk)));
            if let Some(end) = end {
                let mut stream = chunk[end..].to_vec();
                chunks[index + 1..].iter().for_each(|chunk| stream.extend_from_slice(chunk));
                return (snapshot, Some(stream));
            }
        }
        (snapshot, None)
    }

    #[test]
    fn headers() {
        assert_eq!(Payload::parse(b"$88"), Some(Payload::Sized { total: 88, left: 88 }));
        let mark = [b'm'; 40];
        let header = [&b"$EOF:"[..], &mark, b"trailing"].concat();
        assert_eq!(Payload::parse(&header), Some(Payload::UntilMark { mark, held: 0 }));
        for bad in [&b"+88"[..], b"$", b"$x", b"$-1", b"$EOF:short"] {
            assert_eq!(Payload::parse(bad), None);
        }
    }

    proptest! {
        /// Over two letters the mark's beginnings turn up everywhere, inside themselves too.
        #[test]
        fn the_mark_is_found_wherever_it_is_cut(
            mark in proptest::collection::vec(prop_oneof![9 => Just(b'a'), 1 => Just(b'b')], 40),
            snapshot in proptest::collection::vec(prop_oneof![9 => Just(b'a'), 1 => Just(b'b')], 0..200),
            stream in proptest::collection::vec(any::<u8>(), 0..10),
            cuts in proptest::collection::vec(1usize..60, 1..40),
        ) {
            let mark: [u8; 40] = mark.try_into().expect("forty");
            let all = [&snapshot[..], &mark, &stream].concat();
            let first = memchr::memmem::find(&all, &mark).expect("it is there");
            let (mut rest, mut chunks, mut cuts) = (&all[..], Vec::new(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (chunk, later) = rest.split_at(rest.len().min(*cuts.next().expect("cycle")));
                chunks.push(chunk);
                rest = later;
            }
            let (got, after) = run(Payload::UntilMark { mark, held: 0 }, &chunks);
            prop_assert_eq!(got, &all[..first]);
            prop_assert_eq!(after, Some(all[first + 40..].to_vec()));
        }
    }
}

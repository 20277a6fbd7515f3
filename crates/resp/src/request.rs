//! The server's side of the request protocol: bytes of a connection to commands.
//!
//! How the owner of the input buffer and the parser work together:
//!
//! 1. The owner calls [`Parser::parse`] with everything that it holds, beginning at the first byte not yet consumed.
//!    All offsets in the [`Batch`] count from there, so the buffer must stay unchanged until the batch is executed.
//! 2. It executes the batch, then drops exactly [`Progress::consumed`] bytes (by moving a start index, or by moving
//!    the rest of the buffer to its front). The next call must begin at the byte after them. What remains is the
//!    beginning of at most one unfinished command, when [`Progress::more`] is false.
//! 3. The parser remembers how far it got in that command by offsets from the command's first byte. So the owner may
//!    move the remaining bytes wherever it likes, and no byte is looked at twice: a client that sends single bytes,
//!    a huge value in pieces, or a million arguments all cost linear time.
//!
//! A command before an error must be executed before the error counts: it may be the AUTH that lifts a limit, or the
//! CONFIG SET that raises one. Therefore an error is returned only when it stands at the start of the buffer; a call that
//! meets one later sets [`Progress::more`], and the next call judges the same bytes again.
//!
//! Corners kept from Redis 7.0 because clients can see them: the two bytes after a length's digits and after a
//! payload are skipped whatever they are (only such a request is not [`Request::canonical`]); a NUL byte hides a
//! line's end, so that such a line ends in "too big"; a count of zero or less is skipped without a word.

use std::fmt;
use std::ops::Range;

use memchr::memchr2;

use crate::args::{Args, Span};
use crate::inline::split_args;
use crate::number::parse_i64;

/// The most bytes before the end of an inline command, and of a line with a count or a length.
pub const INLINE_MAX: usize = 64 * 1024;

/// What a client that has not authenticated may send: arguments per command, and bytes per argument.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: i64 = 16384;

/// What the connection may send at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`, in bytes. A link from the primary has `u64::MAX`.
    pub bulk_len_max: u64,
    /// False while the connection must authenticate first.
    pub authenticated: bool,
}

impl Default for Limits {
    /// Redis's defaults for a connection that needs no password.
    fn default() -> Self {
        Limits { bulk_len_max: 512 * 1024 * 1024, authenticated: true }
    }
}

/// One complete command of a [`Batch`].
#[derive(Clone, Copy, Debug)]
pub struct Request {
    args: Span,
    raw: Span,
    /// The raw bytes are exactly what [`encode_command`](crate::encode_command) writes for the arguments, so that
    /// the log can take them as they are.
    pub canonical: bool,
    /// It came as an inline command. A primary never sends one; its link takes it for a broken stream.
    pub inline: bool,
}

impl Request {
    /// Where the command lies in the buffer, from its first byte to the last of its final CRLF.
    pub fn raw(&self) -> Range<usize> {
        self.raw.start..self.raw.start + self.raw.len
    }

    /// The number of arguments, the name included; at least 1.
    pub fn argc(&self) -> usize {
        self.args.len
    }
}

/// The complete commands that one [`Parser::parse`] found. Reused from call to call.
#[derive(Debug, Default)]
pub struct Batch {
    requests: Vec<Request>,
    /// Arguments of all requests. Spans of an inline request point into `scratch`, all others into the buffer.
    spans: Vec<Span>,
    scratch: Vec<u8>,
}

/// Spans and bytes that a batch keeps for the next one in any case.
const SPANS_KEPT: usize = 1024;
const SCRATCH_KEPT: usize = 1024;

impl Batch {
    pub fn new() -> Self {
        Batch::default()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    #[inline]
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Arguments of request `index`; `buf` is the slice that was parsed.
    #[inline]
    pub fn args<'a>(&'a self, index: usize, buf: &'a [u8]) -> Args<'a> {
        let request = &self.requests[index];
        let spans = &self.spans[request.args.start..][..request.args.len];
        Args::new(if request.inline { &self.scratch } else { buf }, spans)
    }

    /// Bytes of request `index` as they came; `buf` is the slice that was parsed.
    pub fn raw<'a>(&self, index: usize, buf: &'a [u8]) -> &'a [u8] {
        &buf[self.requests[index].raw()]
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.requests.capacity() * size_of::<Request>()
            + self.spans.capacity() * size_of::<Span>()
            + self.scratch.capacity()
    }

    /// Forgets all requests, and gives memory back that the last use did not justify.
    pub fn clear(&mut self) {
        self.requests.clear();
        clear_and_shrink(&mut self.spans, SPANS_KEPT);
        clear_and_shrink(&mut self.scratch, SCRATCH_KEPT);
    }
}

fn clear_and_shrink<T>(vec: &mut Vec<T>, kept: usize) {
    let used = vec.len();
    vec.clear();
    if vec.capacity() > kept && used < vec.capacity() / 8 {
        vec.shrink_to(kept.max(used * 2));
    }
}

/// How far a call came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes to drop from the front of the buffer once the batch is executed.
    pub consumed: usize,
    /// Bytes beyond the end of the buffer that the unfinished command is known to need, to reserve them at once;
    /// 0 when unknown. Claimed by the client: never more than the limits allow for one argument.
    pub wants: usize,
    /// The next call has something to say without any new byte: `max` was reached, or an error follows the batch.
    pub more: bool,
    /// An empty line was among the consumed bytes: how a replica that is loading shows that it is alive.
    pub empty_line: bool,
}

/// The client broke the protocol: it is told so, then the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    TooBigInline,
    UnbalancedQuotes,
    TooBigCount,
    InvalidCount,
    UnauthenticatedCount,
    TooBigLength,
    InvalidLength,
    UnauthenticatedLength,
    /// The byte that stood where `$` should.
    ExpectedDollar(u8),
}

impl ProtocolError {
    /// The text of the error reply, after `-` and before CRLF.
    pub fn wire_text(self) -> Vec<u8> {
        let text = match self {
            ProtocolError::TooBigInline => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
            ProtocolError::TooBigCount => "too big mbulk count string",
            ProtocolError::InvalidCount => "invalid multibulk length",
            ProtocolError::UnauthenticatedCount => "unauthenticated multibulk length",
            ProtocolError::TooBigLength => "too big bulk count string",
            ProtocolError::InvalidLength => "invalid bulk length",
            ProtocolError::UnauthenticatedLength => "unauthenticated bulk length",
            ProtocolError::ExpectedDollar(got) => {
                let got = if matches!(got, b'\r' | b'\n') { b' ' } else { got };
                return [b"ERR Protocol error: expected '$', got '", &[got][..], b"'"].concat();
            }
        };
        [b"ERR Protocol error: ", text.as_bytes()].concat()
    }

    /// The reason as Redis's log line "Protocol error (…) from client" gives it.
    pub fn log_text(self) -> &'static str {
        match self {
            ProtocolError::TooBigInline => "too big inline request",
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in inline request",
            ProtocolError::TooBigCount => "too big mbulk count string",
            ProtocolError::InvalidCount => "invalid mbulk count",
            ProtocolError::UnauthenticatedCount => "unauth mbulk count",
            ProtocolError::TooBigLength => "too big bulk count string",
            ProtocolError::InvalidLength => "invalid bulk length",
            ProtocolError::UnauthenticatedLength => "unauth bulk length",
            ProtocolError::ExpectedDollar(_) => "expected $ but got something else",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.wire_text()))
    }
}

impl std::error::Error for ProtocolError {}

/// What is known of the command that has only partly arrived. See the [module's story](self).
#[derive(Debug, Default)]
pub struct Parser {
    state: State,
    /// Arguments of the unfinished command that are complete; offsets from its first byte.
    pending: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the first line of a command. Its end is not among the first `scanned` bytes.
    FirstLine {
        scanned: usize,
    },
    Bulks(Bulks),
}

impl Default for State {
    fn default() -> Self {
        State::FirstLine { scanned: 0 }
    }
}

/// Within the arguments of a multibulk. Offsets count from the command's first byte.
#[derive(Clone, Copy, Debug)]
struct Bulks {
    /// Arguments still to come, this one included.
    remaining: u32,
    /// Where this argument begins: its payload when `len` is known, else its length line.
    at: usize,
    len: Option<usize>,
    /// The end of the length line is not before this offset.
    scanned: usize,
    canonical: bool,
}

/// The size of a length line, and the length, if the line is whole, canonical and states less than a thousand; at least
/// six bytes follow where it stands, as they do before the shortest argument.
#[inline(always)]
fn short_head(rest: &[u8]) -> Option<(usize, usize)> {
    let [dollar, a, b, c, d, e, ..] = *rest else { return None };
    let (one, two, three) = (a.wrapping_sub(b'0'), b.wrapping_sub(b'0'), c.wrapping_sub(b'0'));
    // One digit, as most have: all but the digit is compared at once.
    const DIGIT: u32 = 0xff00;
    let word = u32::from_le_bytes([dollar, a, b, c]);
    if word & !DIGIT == u32::from_le_bytes(*b"$\0\r\n") && one <= 9 {
        return Some((4, usize::from(one)));
    }
    // No zero before other digits.
    if dollar != b'$' || one == 0 || one > 9 || two > 9 {
        return None;
    }
    let len = usize::from(one) * 10 + usize::from(two);
    if c == b'\r' && d == b'\n' {
        return Some((5, len));
    }
    (three <= 9 && d == b'\r' && e == b'\n').then_some((6, len * 10 + usize::from(three)))
}

enum Step {
    Command { len: usize, canonical: bool, inline: bool },
    Skip { len: usize, empty_line: bool },
    Partial { wants: usize },
}

enum Line {
    /// Offset of the terminator.
    Ends(usize),
    /// The terminator is not before this offset.
    Open(usize),
    TooLong,
}

impl Parser {
    pub fn new() -> Self {
        Parser::default()
    }

    /// Forgets an unfinished command, for a connection that changes hands.
    pub fn reset(&mut self) {
        *self = Parser::default();
    }

    /// How many bytes of an unfinished command are complete arguments and what goes before them.
    pub fn parsed(&self) -> usize {
        match self.state {
            State::FirstLine { .. } => 0,
            State::Bulks(bulks) => bulks.at,
        }
    }

    /// True when part of a command has been seen and the rest is awaited.
    pub fn is_within_command(&self) -> bool {
        !matches!(self.state, State::FirstLine { scanned: 0 })
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.pending.capacity() * size_of::<Span>()
    }

    /// Fills `batch` with the complete commands at the start of `buf`, at most `max` of them. See the
    /// [module's story](self) for what `buf` must be and what follows. An error leaves `batch` empty.
    pub fn parse(
        &mut self,
        buf: &[u8],
        limits: &Limits,
        max: usize,
        batch: &mut Batch,
    ) -> Result<Progress, ProtocolError> {
        batch.clear();
        let mut progress = Progress::default();
        let mut base = 0;
        while base < buf.len() {
            if batch.requests.len() >= max {
                progress.more = true;
                break;
            }
            let first = batch.spans.len();
            match self.step(buf, base, limits, batch) {
                Ok(Step::Command { len, canonical, inline }) => {
                    self.state = State::default();
                    batch.requests.push(Request {
                        args: Span { start: first, len: batch.spans.len() - first },
                        raw: Span { start: base, len },
                        canonical,
                        inline,
                    });
                    base += len;
                }
                Ok(Step::Skip { len, empty_line }) => {
                    self.state = State::default();
                    progress.empty_line |= empty_line;
                    base += len;
                }
                Ok(Step::Partial { wants }) => {
                    progress.wants = wants;
                    break;
                }
                Err(error) if base == 0 => return Err(error),
                Err(_) => {
                    progress.more = true;
                    break;
                }
            }
        }
        progress.consumed = base;
        Ok(progress)
    }

    #[inline]
    fn step(
        &mut self,
        buf: &[u8],
        base: usize,
        limits: &Limits,
        batch: &mut Batch,
    ) -> Result<Step, ProtocolError> {
        match self.state {
            State::FirstLine { scanned } if buf[base] == b'*' => {
                self.multibulk(buf, base, scanned, limits, batch)
            }
            State::FirstLine { scanned } => self.inline(&buf[base..], scanned, batch),
            State::Bulks(bulks) => self.resume(buf, bulks, limits, batch),
        }
    }

    #[inline]
    fn multibulk(
        &mut self,
        buf: &[u8],
        base: usize,
        scanned: usize,
        limits: &Limits,
        batch: &mut Batch,
    ) -> Result<Step, ProtocolError> {
        let command = &buf[base..];
        let (count, at, canonical) = match *command {
            [_, digit @ b'1'..=b'9', b'\r', b'\n', ..] => (u32::from(digit - b'0'), 4, true),
            _ => match self.count_line(command, scanned, limits)? {
                Ok(count_line) => count_line,
                Err(step) => return Ok(step),
            },
        };
        let mut bulks = Bulks { remaining: count, at, len: None, scanned: at, canonical };
        let first = batch.spans.len();
        match bulks.advance(command, base, limits, &mut batch.spans) {
            Ok(None) => Ok(Step::Command { len: bulks.at, canonical: bulks.canonical, inline: false }),
            unfinished => {
                let relative = |span: Span| Span { start: span.start - base, len: span.len };
                self.pending.extend(batch.spans.drain(first..).map(relative));
                self.state = State::Bulks(bulks);
                unfinished.map(|wants| Step::Partial { wants: wants.unwrap_or(0) })
            }
        }
    }

    /// Count of arguments, offset of the first, and whether the line is canonical; or the step when it ends here.
    #[cold]
    fn count_line(
        &mut self,
        command: &[u8],
        scanned: usize,
        limits: &Limits,
    ) -> Result<Result<(u32, usize, bool), Step>, ProtocolError> {
        let end = match line_end(command, 0, scanned, b'\r') {
            Line::Ends(end) if end + 1 < command.len() => end,
            Line::Ends(scanned) | Line::Open(scanned) => {
                self.state = State::FirstLine { scanned };
                return Ok(Err(Step::Partial { wants: 0 }));
            }
            Line::TooLong => return Err(ProtocolError::TooBigCount),
        };
        match parse_i64(&command[1..end]) {
            Some(count) if count <= 0 => Ok(Err(Step::Skip { len: end + 2, empty_line: false })),
            Some(count) if count > i64::from(i32::MAX) => Err(ProtocolError::InvalidCount),
            Some(count) if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated => {
                Err(ProtocolError::UnauthenticatedCount)
            }
            Some(count) => Ok(Ok((count as u32, end + 2, command[end + 1] == b'\n'))),
            None => Err(ProtocolError::InvalidCount),
        }
    }

    /// Goes on with a command whose arguments have partly arrived. It lies at the start of `buf`.
    fn resume(
        &mut self,
        buf: &[u8],
        mut bulks: Bulks,
        limits: &Limits,
        batch: &mut Batch,
    ) -> Result<Step, ProtocolError> {
        match bulks.advance(buf, 0, limits, &mut self.pending) {
            Ok(None) => {
                if batch.spans.is_empty() && self.pending.len() > SPANS_KEPT {
                    batch.spans = std::mem::take(&mut self.pending);
                } else {
                    batch.spans.append(&mut self.pending);
                }
                Ok(Step::Command { len: bulks.at, canonical: bulks.canonical, inline: false })
            }
            unfinished => {
                self.state = State::Bulks(bulks);
                unfinished.map(|wants| Step::Partial { wants: wants.unwrap_or(0) })
            }
        }
    }

    fn inline(&mut self, line: &[u8], scanned: usize, batch: &mut Batch) -> Result<Step, ProtocolError> {
        let newline = match line_end(line, 0, scanned, b'\n') {
            Line::Ends(newline) => newline,
            Line::Open(scanned) => {
                self.state = State::FirstLine { scanned };
                return Ok(Step::Partial { wants: 0 });
            }
            Line::TooLong => return Err(ProtocolError::TooBigInline),
        };
        let text = &line[..newline];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let words_before = batch.spans.len();
        split_args(text, &mut batch.scratch, &mut batch.spans)
            .map_err(|_| ProtocolError::UnbalancedQuotes)?;
        let len = newline + 1;
        if batch.spans.len() == words_before {
            return Ok(Step::Skip { len, empty_line: text.is_empty() });
        }
        Ok(Step::Command { len, canonical: false, inline: true })
    }
}

impl Bulks {
    /// Appends to `spans` every argument that is complete in `command`, with `base` added to its offset.
    ///
    /// Returns `None` when that were all, else the number of bytes known to be missing.
    #[inline]
    fn advance(
        &mut self,
        command: &[u8],
        base: usize,
        limits: &Limits,
        spans: &mut Vec<Span>,
    ) -> Result<Option<usize>, ProtocolError> {
        // Most arguments are short and lie here as a whole; all others, and all errors, take the long way.
        let short_max = limits.bulk_len_max.min(UNAUTHENTICATED_BULK_MAX as u64) as usize;
        let (mut at, mut remaining) = (self.at, self.remaining);
        while remaining > 0 && self.len.is_none() {
            let Some((head, len)) = command.get(at..).and_then(short_head) else { break };
            let start = at + head;
            let end = start + len;
            if len > short_max || end + 2 > command.len() {
                break;
            }
            spans.push(Span { start: base + start, len });
            self.canonical &= command[end..end + 2] == *b"\r\n";
            at = end + 2;
            remaining -= 1;
        }
        (self.at, self.remaining) = (at, remaining);
        if self.remaining == 0 {
            return Ok(None);
        }
        self.advance_any(command, base, limits, spans)
    }

    #[inline(never)]
    fn advance_any(
        &mut self,
        command: &[u8],
        base: usize,
        limits: &Limits,
        spans: &mut Vec<Span>,
    ) -> Result<Option<usize>, ProtocolError> {
        while self.remaining > 0 {
            let len = match self.len {
                Some(len) => len,
                None => match self.length_line(command, limits)? {
                    Some(len) => len,
                    None => return Ok(Some(0)),
                },
            };
            let end = self.at + len + 2;
            let Some(&[cr, lf]) = command.get(end - 2..end) else {
                self.len = Some(len);
                return Ok(Some(end - command.len()));
            };
            spans.push(Span { start: base + self.at, len });
            self.canonical &= cr == b'\r' && lf == b'\n';
            self.at = end;
            self.scanned = end;
            self.len = None;
            self.remaining -= 1;
        }
        Ok(None)
    }

    /// Moves over a length line; `None` when it is not complete.
    fn length_line(&mut self, command: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let end = match line_end(command, self.at, self.scanned.max(self.at), b'\r') {
            Line::Ends(end) if end + 1 < command.len() => end,
            Line::Ends(scanned) | Line::Open(scanned) => {
                self.scanned = scanned;
                return Ok(None);
            }
            Line::TooLong => return Err(ProtocolError::TooBigLength),
        };
        if command[self.at] != b'$' {
            return Err(ProtocolError::ExpectedDollar(command[self.at]));
        }
        let len = match parse_i64(&command[self.at + 1..end]) {
            Some(len) if len < 0 || len as u64 > limits.bulk_len_max => {
                return Err(ProtocolError::InvalidLength);
            }
            Some(len) if len > UNAUTHENTICATED_BULK_MAX && !limits.authenticated => {
                return Err(ProtocolError::UnauthenticatedLength);
            }
            Some(len) => len as usize,
            None => return Err(ProtocolError::InvalidLength),
        };
        self.canonical &= command[end + 1] == b'\n';
        self.at = end + 2;
        self.scanned = self.at;
        Ok(Some(len))
    }
}

/// Looks for the end of the line that begins at `start`, from `scanned` on.
///
/// Decides by the line alone, not by how much of it one call happens to see: a line that is too long when it comes
/// in pieces is too long when it comes whole. A NUL byte keeps the line open for ever, as in Redis.
fn line_end(bytes: &[u8], start: usize, scanned: usize, terminator: u8) -> Line {
    let stop = memchr2(terminator, 0, &bytes[scanned..]).map_or(bytes.len(), |index| scanned + index);
    if stop - start > INLINE_MAX {
        Line::TooLong
    } else if bytes.get(stop) == Some(&terminator) {
        Line::Ends(stop)
    } else if bytes.len() - start > INLINE_MAX {
        Line::TooLong
    } else {
        Line::Open(stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::encode_command;
    use proptest::prelude::*;

    /// Arguments, and the raw bytes when they are canonical.
    type Command = (Vec<Vec<u8>>, Option<Vec<u8>>);

    /// What a connection delivered: commands, then perhaps an error.
    #[derive(Debug, Default, PartialEq)]
    struct Delivered {
        commands: Vec<Command>,
        error: Option<ProtocolError>,
        empty_line: bool,
        left: usize,
    }

    struct Connection {
        parser: Parser,
        batch: Batch,
        buf: Vec<u8>,
        limits: Limits,
        max: usize,
        seen: Delivered,
    }

    impl Connection {
        fn new(limits: Limits, max: usize) -> Self {
            let (parser, batch) = (Parser::new(), Batch::new());
            Connection { parser, batch, buf: vec![], limits, max, seen: Delivered::default() }
        }

        fn receive(&mut self, bytes: &[u8]) -> Progress {
            self.buf.extend_from_slice(bytes);
            loop {
                if self.seen.error.is_some() {
                    return Progress::default();
                }
                let progress = match self.parser.parse(&self.buf, &self.limits, self.max, &mut self.batch) {
                    Ok(progress) => progress,
                    Err(error) => {
                        assert!(self.batch.is_empty(), "an error comes alone");
                        self.seen.error = Some(error);
                        return Progress::default();
                    }
                };
                for (index, request) in self.batch.requests().iter().enumerate() {
                    let args = self.batch.args(index, &self.buf);
                    let raw = self.batch.raw(index, &self.buf).to_vec();
                    assert_eq!(request.argc(), args.len());
                    let mut encoded = vec![];
                    encode_command(&mut encoded, args.iter());
                    assert_eq!(request.canonical, encoded == raw, "canonical means verbatim");
                    let args = args.iter().map(<[u8]>::to_vec).collect();
                    self.seen.commands.push((args, request.canonical.then_some(raw)));
                }
                self.buf.drain(..progress.consumed);
                self.seen.empty_line |= progress.empty_line;
                self.seen.left = self.buf.len();
                if !progress.more {
                    return progress;
                }
            }
        }
    }

    fn deliver(input: &[u8]) -> Delivered {
        let mut connection = Connection::new(Limits::default(), 64);
        connection.receive(input);
        connection.seen
    }

    fn commands(input: &[u8]) -> Vec<Vec<String>> {
        let delivered = deliver(input);
        assert_eq!((delivered.error, delivered.left), (None, 0), "{}", input.escape_ascii());
        let text = |arg: Vec<u8>| String::from_utf8(arg).unwrap();
        delivered.commands.into_iter().map(|(args, _)| args.into_iter().map(text).collect()).collect()
    }

    #[test]
    fn multibulk_inline_and_what_is_skipped() {
        assert_eq!(commands(b"*1\r\n$4\r\nPING\r\n"), [["PING"]]);
        assert_eq!(commands(b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n*1\r\n$1\r\nX\r\n"), [vec!["GET", ""], vec!["X"]]);
        assert_eq!(
            commands(b"PING\r\nset k \"a b\"\n*0\r\n*-1\r\n*-9\r\n\r\n\n  \r\n*1\r\n$1\r\nX\r\n"),
            [vec!["PING"], vec!["set", "k", "a b"], vec!["X"]]
        );
        let big = "v".repeat(100_000);
        let input = format!("*3\r\n$3\r\nSET\r\n$12\r\n123456789012\r\n$100000\r\n{big}\r\n");
        assert_eq!(commands(input.as_bytes()), [["SET", "123456789012", &big]]);
        assert_eq!(commands(format!("*11\r\n{}", "$1\r\nx\r\n".repeat(11)).as_bytes()), [["x"; 11]]);
    }

    #[test]
    fn an_empty_line_is_reported_and_blanks_are_not_one() {
        assert!(deliver(b"\n").empty_line && deliver(b"*1\r\n$4\r\nPING\r\n\r\n").empty_line);
        assert!(!deliver(b" \n").empty_line && !deliver(b"*0\r\n").empty_line);
    }

    #[test]
    fn bytes_after_digits_and_payload_are_skipped_unread_but_not_canonical() {
        for input in [&b"*1\rX$4\r\nPING\r\n"[..], b"*1\r\n$4\rXPING\r\n", b"*1\r\n$4\r\nPINGXY"] {
            assert_eq!(deliver(input).commands, [(vec![b"PING".to_vec()], None)], "{}", input.escape_ascii());
        }
        assert!(deliver(b"*1\r\n$4\r\nPING\r\n").commands[0].1.is_some());
    }

    #[test]
    fn exact_error_texts() {
        let long = |lead: &[u8]| [lead, &vec![b'1'; INLINE_MAX + 1]].concat();
        let cases: [(Vec<u8>, &[u8]); 20] = [
            (long(b"x"), b"too big inline request"),
            ([&long(b"x")[..], b"\n"].concat(), b"too big inline request"),
            (long(b"*"), b"too big mbulk count string"),
            (long(b"*\0"), b"too big mbulk count string"),
            (long(b"\0"), b"too big inline request"),
            (long(b"*1\r\n$"), b"too big bulk count string"),
            (long(b"*1\r\n$\0"), b"too big bulk count string"),
            (b"*x\r\n".to_vec(), b"invalid multibulk length"),
            (b"*\r\n".to_vec(), b"invalid multibulk length"),
            (b"*03\r\n".to_vec(), b"invalid multibulk length"),
            (b"*2147483648\r\n".to_vec(), b"invalid multibulk length"),
            (b"*99999999999999999999999\r\n".to_vec(), b"invalid multibulk length"),
            (b"*1\r\n$-1\r\n".to_vec(), b"invalid bulk length"),
            (b"*1\r\n$x\r\n".to_vec(), b"invalid bulk length"),
            (b"*1\r\n$2000000000\r\n".to_vec(), b"invalid bulk length"),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n:1\r\n".to_vec(), b"expected '$', got ':'"),
            (b"*1\r\n\xff\r\n".to_vec(), b"expected '$', got '\xff'"),
            (b"*1\r\n\r\n".to_vec(), b"expected '$', got ' '"),
            (b"set \"a\r\n".to_vec(), b"unbalanced quotes in request"),
            (b"set 'a'b\n".to_vec(), b"unbalanced quotes in request"),
        ];
        for (input, text) in cases {
            let error = deliver(&input).error.unwrap_or_else(|| panic!("{}", input.escape_ascii()));
            let expected = [b"ERR Protocol error: ", text].concat();
            assert_eq!(error.wire_text().escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }

    #[test]
    fn limits_are_inclusive() {
        assert_eq!(deliver(b"*2147483647\r\n").error, None);
        assert_eq!(deliver(b"*1\r\n$536870912\r\n").error, None);
        assert_eq!(deliver(b"*1\r\n$536870913\r\n").error, Some(ProtocolError::InvalidLength));
        let mut line = vec![b'x'; INLINE_MAX];
        assert_eq!(deliver(&line).error, None);
        line.push(b'\n');
        assert_eq!(deliver(&line).commands.len(), 1);
    }

    #[test]
    fn an_argument_may_be_longer_than_32_bits_can_tell() {
        let limits = Limits { bulk_len_max: u64::MAX, authenticated: true };
        for len in [u64::from(u32::MAX), 5_000_000_000, i64::MAX as u64] {
            let head = format!("*2\r\n$1\r\nx\r\n${len}\r\nabc");
            let progress =
                Parser::new().parse(head.as_bytes(), &limits, 64, &mut Batch::new()).expect("no error");
            assert_eq!(progress.wants as u64, len + 2 - 3);
        }
        let mut connection = Connection::new(limits, 64);
        connection.receive(b"*1\r\n$9223372036854775808\r\n");
        assert_eq!(connection.seen.error, Some(ProtocolError::InvalidLength));
    }

    #[test]
    fn unauthenticated_limits_wait_for_the_commands_before() {
        let limits = Limits { authenticated: false, ..Limits::default() };
        for (input, expected) in [
            (&b"*11\r\n"[..], Some(ProtocolError::UnauthenticatedCount)),
            (b"*10\r\n", None),
            (b"*1\r\n$16385\r\n", Some(ProtocolError::UnauthenticatedLength)),
            (b"*1\r\n$16384\r\n", None),
        ] {
            let (mut parser, mut batch) = (Parser::new(), Batch::new());
            assert_eq!(parser.parse(input, &limits, 64, &mut batch).err(), expected);
            let input = [b"*1\r\n$4\r\nAUTH\r\n", input].concat();
            let progress = Parser::new().parse(&input, &limits, 64, &mut batch).unwrap();
            assert_eq!((batch.len(), progress.consumed, progress.more), (1, 14, expected.is_some()));
        }
        // AUTH and a command that only an authenticated client may send, in one packet.
        let (mut parser, mut batch) = (Parser::new(), Batch::new());
        let long = format!("*2\r\n$4\r\nECHO\r\n$20000\r\n{}\r\n", "x".repeat(20000));
        let input = [b"*1\r\n$4\r\nAUTH\r\n", long.as_bytes()].concat();
        let progress = parser.parse(&input, &limits, 64, &mut batch).unwrap();
        assert_eq!((batch.len(), progress.more), (1, true));
        let rest = &input[progress.consumed..];
        let progress = parser.parse(rest, &Limits::default(), 64, &mut batch).unwrap();
        assert_eq!((batch.args(0, rest).at(1).len(), progress.consumed), (20000, rest.len()));
    }

    #[test]
    fn a_batch_holds_at_most_max() {
        let input = b"PING\r\n".repeat(10);
        let (mut parser, mut batch) = (Parser::new(), Batch::new());
        let progress = parser.parse(&input, &Limits::default(), 4, &mut batch).unwrap();
        assert_eq!((batch.len(), progress.consumed, progress.more), (4, 24, true));
        let progress = parser.parse(&input[24..], &Limits::default(), 6, &mut batch).unwrap();
        assert_eq!((batch.len(), progress.consumed, progress.more), (6, 36, false));
    }

    #[test]
    fn wants_is_what_the_open_argument_lacks() {
        let mut connection = Connection::new(Limits::default(), 64);
        assert_eq!(connection.receive(b"*2\r\n$3\r\nGET\r\n$1000").wants, 0);
        assert_eq!(connection.receive(b"\r\n").wants, 1002);
        assert_eq!(connection.receive(&[b'x'; 400]).wants, 602);
        assert_eq!(connection.receive(&[b'x'; 601]).wants, 1);
        assert_eq!((connection.receive(b"\n").wants, connection.seen.commands.len()), (0, 1));
        assert_eq!(connection.receive(b"*1\r\n$4\r\nPI").wants, 4);
    }

    #[test]
    fn single_bytes_cost_linear_time() {
        // Rescanning would make this 10^11 steps; it takes a fraction of a second.
        let mut input = format!("*200000\r\n{}", "$2\r\nab\r\n".repeat(200_000)).into_bytes();
        input.extend_from_slice(&[b'x'; INLINE_MAX]);
        input.push(b'\n');
        let (mut parser, mut batch) = (Parser::new(), Batch::new());
        let (mut start, mut argc) = (0, vec![]);
        for end in 1..=input.len() {
            let progress = parser.parse(&input[start..end], &Limits::default(), 64, &mut batch).unwrap();
            start += progress.consumed;
            argc.extend(batch.requests().iter().map(Request::argc));
        }
        assert_eq!((argc, start), (vec![200_000, 1], input.len()));
        parser.parse(b"PING\r\n", &Limits::default(), 64, &mut batch).unwrap();
        batch.clear();
        assert!(batch.memory() + parser.memory() < 100_000, "memory of a huge command is given back");
    }

    fn arg() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..12),
            1 => prop::collection::vec(any::<u8>(), 90..110),
            1 => prop::collection::vec(any::<u8>(), 990..1010),
        ]
    }

    fn encoded(args: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![];
        encode_command(&mut out, args.iter().map(Vec::as_slice));
        out
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            12 => prop::collection::vec(arg(), 1..14).prop_map(|args| encoded(&args)),
            4 => "[a-z]{1,5}( [a-z\"']{1,5}){0,3}\r?\n".prop_map(String::into_bytes),
            2 => prop::sample::select(vec!["\r\n", "\n", " \r\n", "*0\r\n", "*-1\r\n", "*1\rx$1\r\nx\r\n", "\0"])
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => "[*$]{0,2}[0-9\\-]{0,3}[\r\n]{0,2}".prop_map(String::into_bytes),
            1 => Just(vec![b'7'; INLINE_MAX + 10]),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ]
    }

    proptest! {
        #[test]
        fn any_split_delivers_the_same(
            pieces in prop::collection::vec(piece(), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
            max in 1usize..70,
            authenticated: bool,
        ) {
            let input = pieces.concat();
            let limits = Limits { bulk_len_max: 1005, authenticated };
            let mut whole = Connection::new(limits, 1000);
            whole.receive(&input);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(input.len());
            let mut split = Connection::new(limits, max);
            let mut start = 0;
            for cut in cuts {
                split.receive(&input[start..cut]);
                start = cut;
            }
            if whole.seen.error.is_some() {
                whole.seen.left = split.seen.left; // the bytes after an error are nobody's
            }
            prop_assert_eq!(whole.seen, split.seen);
        }

        #[test]
        fn byte_by_byte_delivers_the_same(pieces in prop::collection::vec(piece(), 0..5)) {
            let input = pieces.concat();
            let mut whole = Connection::new(Limits::default(), 1000);
            whole.receive(&input);
            let mut single = Connection::new(Limits::default(), 1);
            for byte in input.chunks(1) {
                single.receive(byte);
            }
            if whole.seen.error.is_some() {
                whole.seen.left = single.seen.left;
            }
            prop_assert_eq!(whole.seen, single.seen);
        }

        #[test]
        fn encoded_commands_come_back(list in prop::collection::vec(prop::collection::vec(arg(), 1..14), 0..8)) {
            let input: Vec<u8> = list.iter().flat_map(|args| encoded(args)).collect();
            let seen = deliver(&input).commands;
            let expected: Vec<_> = list.iter().map(|args| (args.clone(), Some(encoded(args)))).collect();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn hostile_bytes_never_panic(
            input in prop::collection::vec(prop::sample::select(b"*$0123456789-\r\n\0x\"'\\ ".to_vec()), 0..200),
            max in 0usize..5,
        ) {
            let (mut parser, mut batch) = (Parser::new(), Batch::new());
            let _ = parser.parse(&input, &Limits::default(), max, &mut batch);
            for index in 0..batch.len() {
                let _ = batch.args(index, &input).bytes_len();
            }
        }
    }
}

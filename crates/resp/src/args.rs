//! The arguments of one command, as slices of the buffer that they arrived in.

use std::fmt;
use std::ops::Index;

/// A run of bytes in a buffer that somebody else holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub len: usize,
}

impl Span {
    /// The bytes that the span names. Panics when the buffer is not the one that the span was made for.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start..][..self.len]
    }
}

/// The arguments of a command, the name included, as index 0.
///
/// Two fat pointers, to be passed by value. `args[i]` panics when there are fewer arguments; the arity gate has
/// normally ruled that out.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    buf: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    pub fn new(buf: &'a [u8], spans: &'a [Span]) -> Self {
        Args { buf, spans }
    }

    #[inline]
    pub fn len(self) -> usize {
        self.spans.len()
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// Like `args[i]`, but the bytes live as long as the buffer does. Panics out of bounds.
    #[inline]
    pub fn at(self, index: usize) -> &'a [u8] {
        self.spans[index].of(self.buf)
    }

    #[inline]
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| span.of(self.buf))
    }

    #[inline]
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let Args { buf, spans } = self;
        spans.iter().map(move |span| span.of(buf))
    }

    /// The arguments from index `from` on; none when there are fewer.
    #[inline]
    pub fn tail(self, from: usize) -> Args<'a> {
        Args { buf: self.buf, spans: self.spans.get(from..).unwrap_or_default() }
    }

    /// The first `count` arguments, or all when there are fewer.
    #[inline]
    pub fn head(self, count: usize) -> Args<'a> {
        Args { buf: self.buf, spans: &self.spans[..count.min(self.spans.len())] }
    }

    /// Sum of the arguments' lengths in bytes.
    pub fn bytes_len(self) -> usize {
        self.spans.iter().map(|span| span.len).sum()
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.at(index)
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// Arguments that own their bytes: queued by MULTI, built by a script, rewritten for propagation.
#[derive(Clone, Default)]
pub struct ArgsBuf {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl ArgsBuf {
    pub fn new() -> Self {
        ArgsBuf::default()
    }

    pub fn push(&mut self, arg: &[u8]) {
        self.spans.push(Span { start: self.bytes.len(), len: arg.len() });
        self.bytes.extend_from_slice(arg);
    }

    pub fn push_int(&mut self, value: i64) {
        self.push(itoa::Buffer::new().format(value).as_bytes());
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    pub fn as_args(&self) -> Args<'_> {
        Args { buf: &self.bytes, spans: &self.spans }
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }
}

impl From<Args<'_>> for ArgsBuf {
    fn from(args: Args<'_>) -> Self {
        let mut owned =
            ArgsBuf { bytes: Vec::with_capacity(args.bytes_len()), spans: Vec::with_capacity(args.len()) };
        args.iter().for_each(|arg| owned.push(arg));
        owned
    }
}

impl<A: AsRef<[u8]>> FromIterator<A> for ArgsBuf {
    fn from_iter<I: IntoIterator<Item = A>>(args: I) -> Self {
        let mut owned = ArgsBuf::new();
        args.into_iter().for_each(|arg| owned.push(arg.as_ref()));
        owned
    }
}

impl fmt::Debug for ArgsBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_args().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_slices_of_the_buffer() {
        let owned: ArgsBuf = ["set", "key", "", "value"].into_iter().collect();
        let args = owned.as_args();
        assert_eq!((args.len(), args.bytes_len(), args.is_empty()), (4, 11, false));
        assert_eq!(
            (&args[0], &args[2], args.get(3), args.get(4)),
            (&b"set"[..], &b""[..], Some(&b"value"[..]), None)
        );
        assert_eq!(args.tail(1).iter().collect::<Vec<_>>(), [&b"key"[..], b"", b"value"]);
        assert!(args.tail(4).is_empty() && args.tail(9).is_empty());
        assert_eq!(args.head(1).iter().collect::<Vec<_>>(), [b"set"]);
        assert_eq!(ArgsBuf::from(args.tail(1)).as_args().at(2), b"value");
        assert_eq!(format!("{:?}", args.head(2)), r#"["set", "key"]"#);
    }

    #[test]
    #[should_panic]
    fn an_absent_argument_panics() {
        let owned: ArgsBuf = ["get"].into_iter().collect();
        let _ = &owned.as_args()[1];
    }
}

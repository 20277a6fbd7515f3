//! Why a command was refused, with the exact text that the client gets.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use resp::Args;

/// Bytes of a command's name, and of its arguments together, that an error repeats.
const REPEATED_MAX: usize = 128;

/// An error reply. `Display` is the text after `-`, code included.
///
/// The fixed ones cost nothing to make. Text from the client is escaped nowhere: the reply writer turns line breaks
/// into blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    Syntax,
    WrongType,
    NotInteger,
    NotFloat,
    /// An integer that must not be negative.
    MustBePositive,
    /// An integer outside of these bounds, both included.
    NotWithin {
        min: i64,
        max: i64,
    },
    NoSuchKey,
    IndexOutOfRange,
    OffsetOutOfRange,
    DbIndexOutOfRange,
    InvalidCursor,
    SameObject,
    /// An integer would leave 64 bits.
    Overflow,
    /// A float would become NaN or infinite.
    NanOrInfinity,
    /// The sum of scores is NaN.
    NanScore,
    StringTooLong,
    /// A bound of a score range.
    RangeNotFloat,
    /// A bound of a lexicographic range.
    RangeNotString,
    /// Holds the full name, `config|get`.
    WrongArity(Cow<'static, str>),
    /// Holds the full name.
    InvalidExpire(Cow<'static, str>),
    /// Holds the whole text, as the client's bytes are part of it.
    Unknown(Box<[u8]>),
    BusyKey,
    ReadOnlyReplica,
    NoAuth,
    OutOfMemory,
    ExecAbort,
    NoReplicas,
    PrimaryDown,
    Loading,
    NoScript,
    /// The whole text, code included.
    Custom(Cow<'static, str>),
}

impl CommandError {
    /// A text that is made at run time, code included.
    #[cold]
    pub fn text(text: impl Into<String>) -> Self {
        CommandError::Custom(Cow::Owned(text.into()))
    }

    /// A fixed text, code included.
    pub const fn fixed(text: &'static str) -> Self {
        CommandError::Custom(Cow::Borrowed(text))
    }

    /// A text in which a client's bytes stand at the places of `{}`, each up to its first NUL, as C prints them.
    #[cold]
    pub fn quoting(text: &str, bytes: &[&[u8]]) -> Self {
        let mut made = Vec::new();
        let mut bytes = bytes.iter();
        for (at, part) in text.split("{}").enumerate() {
            if at > 0 {
                made.extend_from_slice(printable(bytes.next().copied().unwrap_or_default(), usize::MAX));
            }
            made.extend_from_slice(part.as_bytes());
        }
        CommandError::Unknown(made.into())
    }

    /// No command has the name `args[0]`.
    #[cold]
    pub fn unknown_command(args: Args<'_>) -> Self {
        let mut text = b"ERR unknown command '".to_vec();
        text.extend_from_slice(printable(args.get(0).unwrap_or_default(), REPEATED_MAX));
        text.extend_from_slice(b"', with args beginning with: ");
        let start = text.len();
        for arg in args.tail(1).iter() {
            let used = text.len() - start;
            if used >= REPEATED_MAX {
                break;
            }
            text.push(b'\'');
            text.extend_from_slice(printable(arg, REPEATED_MAX - used));
            text.extend_from_slice(b"' ");
        }
        CommandError::Unknown(text.into())
    }

    /// The command `args[0]` has no subcommand `args[1]`.
    #[cold]
    pub fn unknown_subcommand(args: Args<'_>) -> Self {
        CommandError::subcommand(args, "unknown subcommand '", "'.")
    }

    /// The subcommand exists, but not with this number of arguments; for those that check their own.
    #[cold]
    pub fn subcommand_syntax(args: Args<'_>) -> Self {
        CommandError::subcommand(args, "unknown subcommand or wrong number of arguments for '", "'.")
    }

    fn subcommand(args: Args<'_>, before: &str, after: &str) -> Self {
        let name = |index| args.get(index).unwrap_or_default();
        let text = [
            b"ERR ",
            before.as_bytes(),
            printable(name(1), REPEATED_MAX),
            after.as_bytes(),
            b" Try ",
            &printable(name(0), usize::MAX).to_ascii_uppercase(),
            b" HELP.",
        ];
        CommandError::Unknown(text.concat().into())
    }

    /// The exact text after `-`; differs from `Display` only in bytes that are not UTF-8.
    pub fn wire_text(&self) -> Cow<'_, [u8]> {
        match self {
            CommandError::Unknown(text) => Cow::Borrowed(text),
            other => {
                let mut text = String::new();
                write!(text, "{other}").expect("a string takes any text");
                Cow::Owned(text.into_bytes())
            }
        }
    }

    /// The first word of the text: `ERR`, `WRONGTYPE`. Counted by INFO errorstats.
    pub fn code(&self) -> String {
        let text = self.wire_text();
        let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
        String::from_utf8_lossy(code).into_owned()
    }
}

/// As much of a client's bytes as C's `%.*s` prints.
fn printable(bytes: &[u8], max: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(max)];
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CommandError::Syntax => "ERR syntax error",
            CommandError::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            CommandError::NotInteger => "ERR value is not an integer or out of range",
            CommandError::NotFloat => "ERR value is not a valid float",
            CommandError::MustBePositive => "ERR value is out of range, must be positive",
            CommandError::NotWithin { min, max } => {
                return write!(f, "ERR value is out of range, value must between {min} and {max}");
            }
            CommandError::NoSuchKey => "ERR no such key",
            CommandError::IndexOutOfRange => "ERR index out of range",
            CommandError::OffsetOutOfRange => "ERR offset is out of range",
            CommandError::DbIndexOutOfRange => "ERR DB index is out of range",
            CommandError::InvalidCursor => "ERR invalid cursor",
            CommandError::SameObject => "ERR source and destination objects are the same",
            CommandError::Overflow => "ERR increment or decrement would overflow",
            CommandError::NanOrInfinity => "ERR increment would produce NaN or Infinity",
            CommandError::NanScore => "ERR resulting score is not a number (NaN)",
            CommandError::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            CommandError::RangeNotFloat => "ERR min or max is not a float",
            CommandError::RangeNotString => "ERR min or max not valid string range item",
            CommandError::WrongArity(name) => {
                return write!(f, "ERR wrong number of arguments for '{name}' command");
            }
            CommandError::InvalidExpire(name) => {
                return write!(f, "ERR invalid expire time in '{name}' command");
            }
            CommandError::Unknown(text) => return f.write_str(&String::from_utf8_lossy(text)),
            CommandError::BusyKey => "BUSYKEY Target key name already exists.",
            CommandError::ReadOnlyReplica => "READONLY You can't write against a read only replica.",
            CommandError::NoAuth => "NOAUTH Authentication required.",
            CommandError::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            CommandError::ExecAbort => "EXECABORT Transaction discarded because of previous errors.",
            CommandError::NoReplicas => "NOREPLICAS Not enough good replicas to write.",
            CommandError::PrimaryDown => {
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
            }
            CommandError::Loading => "LOADING Redis is loading the dataset in memory",
            CommandError::NoScript => "NOSCRIPT No matching script. Please use EVAL.",
            CommandError::Custom(text) => text,
        })
    }
}

impl std::error::Error for CommandError {}

#[cfg(test)]
mod tests {
    use super::*;
    use resp::ArgsBuf;

    #[test]
    fn exact_texts() {
        for (error, text) in [
            (CommandError::Syntax, "ERR syntax error"),
            (CommandError::WrongType, "WRONGTYPE Operation against a key holding the wrong kind of value"),
            (CommandError::NotInteger, "ERR value is not an integer or out of range"),
            (CommandError::NotFloat, "ERR value is not a valid float"),
            (CommandError::MustBePositive, "ERR value is out of range, must be positive"),
            (
                CommandError::NotWithin { min: -5, max: 7 },
                "ERR value is out of range, value must between -5 and 7",
            ),
            (CommandError::NoSuchKey, "ERR no such key"),
            (CommandError::IndexOutOfRange, "ERR index out of range"),
            (
                CommandError::WrongArity("config|get".into()),
                "ERR wrong number of arguments for 'config|get' command",
            ),
            (CommandError::InvalidExpire("set".into()), "ERR invalid expire time in 'set' command"),
            (CommandError::Overflow, "ERR increment or decrement would overflow"),
            (CommandError::NanOrInfinity, "ERR increment would produce NaN or Infinity"),
            (CommandError::InvalidCursor, "ERR invalid cursor"),
            (CommandError::fixed("ERR a"), "ERR a"),
            (CommandError::text(format!("NOPERM {}", 1)), "NOPERM 1"),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.wire_text(), text.as_bytes());
            assert_eq!(error.code(), text.split(' ').next().unwrap());
        }
    }

    fn unknown(args: &[&[u8]]) -> String {
        let args: ArgsBuf = args.iter().collect();
        CommandError::unknown_command(args.as_args()).wire_text().escape_ascii().to_string()
    }

    #[test]
    fn unknown_commands_repeat_what_was_sent_up_to_a_limit() {
        assert_eq!(unknown(&[b"foo"]), r"ERR unknown command \'foo\', with args beginning with: ");
        assert_eq!(
            unknown(&[b"foo", b"a", b"b"]),
            r"ERR unknown command \'foo\', with args beginning with: \'a\' \'b\' "
        );
        assert_eq!(
            unknown(&[b"f\0oo", b"\xff\0b"]),
            r"ERR unknown command \'f\', with args beginning with: \'\xff\' "
        );
        let long = [b'x'; 200];
        assert_eq!(
            unknown(&[&long, &long, b"never"]),
            format!(r"ERR unknown command \'{0}\', with args beginning with: \'{0}\' ", "x".repeat(128))
        );
        // 103 bytes are used after the first argument, so 25 are left for the second, quotes not counted.
        assert_eq!(
            unknown(&[b"f", &long[..100], &long, b"never"]),
            format!(
                r"ERR unknown command \'f\', with args beginning with: \'{}\' \'{}\' ",
                "x".repeat(100),
                "x".repeat(25)
            )
        );
    }

    #[test]
    fn unknown_subcommands() {
        let args: ArgsBuf = ["Config", "nope"].into_iter().collect();
        assert_eq!(
            CommandError::unknown_subcommand(args.as_args()).to_string(),
            "ERR unknown subcommand 'nope'. Try CONFIG HELP."
        );
        assert_eq!(
            CommandError::subcommand_syntax(args.as_args()).to_string(),
            "ERR unknown subcommand or wrong number of arguments for 'nope'. Try CONFIG HELP."
        );
    }
}

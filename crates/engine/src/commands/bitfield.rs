//! Integers of any width at any bit of a string: `BITFIELD` and its read-only form.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeyFlags, KeyRef,
    KeySpec, Keys, Options, is_token, parse_i64,
};
use resp::{Args, Reply};
use smallvec::SmallVec;
use structures::bits::{field, set_field};
use structures::number::IntText;

use super::bitmap::{bit_offset, change_bytes};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] = &[BITFIELD, BITFIELD_RO];

/// BITFIELD key [GET encoding offset|[OVERFLOW WRAP|SAT|FAIL] SET encoding offset value|INCRBY encoding offset increment …]
const BITFIELD: Command<Handler> = Command {
    name: "bitfield",
    group: Group::Bitmap,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Bitmap]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Access, Key::Update, Key::VariableFlags])
        .notes("This command allows both access and modification of the key")],
    get_keys: Some(bitfield_keys),
    docs: &Docs {
        summary: "Reads and changes integers of any width within a string.",
        since: "3.2.0",
        complexity: "O(1) for each operation",
        arguments: &[
            Arg::key("key", 0),
            Arg::one_of(
                "operation",
                &[
                    Arg::block("encoding_offset", &[Arg::string("encoding"), Arg::integer("offset")])
                        .token("GET"),
                    Arg::block(
                        "write",
                        &[
                            Arg::one_of(
                                "wrap_sat_fail",
                                &[
                                    Arg::pure_token("wrap", "WRAP"),
                                    Arg::pure_token("sat", "SAT"),
                                    Arg::pure_token("fail", "FAIL"),
                                ],
                            )
                            .token("OVERFLOW")
                            .optional(),
                            Arg::one_of(
                                "write_operation",
                                &[
                                    Arg::block(
                                        "encoding_offset_value",
                                        &[
                                            Arg::string("encoding"),
                                            Arg::integer("offset"),
                                            Arg::integer("value"),
                                        ],
                                    )
                                    .token("SET"),
                                    Arg::block(
                                        "encoding_offset_increment",
                                        &[
                                            Arg::string("encoding"),
                                            Arg::integer("offset"),
                                            Arg::integer("increment"),
                                        ],
                                    )
                                    .token("INCRBY"),
                                ],
                            ),
                        ],
                    ),
                ],
            )
            .optional()
            .multiple(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(bitfield)
};

/// BITFIELD_RO key [GET encoding offset [GET encoding offset …]]
const BITFIELD_RO: Command<Handler> = Command {
    name: "bitfield_ro",
    group: Group::Bitmap,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::Bitmap]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Reads integers of any width within a string.",
        since: "6.0.0",
        complexity: "O(1) for each operation",
        arguments: &[
            Arg::key("key", 0),
            Arg::block("encoding_offset", &[Arg::string("encoding"), Arg::integer("offset")])
                .token("GET")
                .optional()
                .multiple()
                .multiple_token(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(bitfield_ro)
};

/// What happens to a number that its field cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    /// Nothing is written.
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

/// One operation on one field.
#[derive(Debug, Clone, Copy)]
struct Op {
    signed: bool,
    /// 1 to 64 bits, to 63 of unsigned ones.
    width: u32,
    /// Its first bit.
    at: u64,
    action: Action,
}

impl Op {
    /// The number that `bytes` has in the field.
    fn read(&self, bytes: &[u8]) -> i64 {
        let unused = 64 - self.width;
        let value = field(bytes, self.at, self.width);
        if self.signed { (value << unused) as i64 >> unused } else { value as i64 }
    }

    /// What comes of adding `increment` to `value`, or `None` if that fails. `value` may be out of bounds itself.
    fn sum(&self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        let (sum, limit) = if self.signed {
            let max = i64::MAX >> (64 - self.width);
            let min = !max;
            // Redis finds an overflow by how far the value is from the bounds, in 64 bits that wrap around: a value
            // far below the least of a wide field is thus too high. Replicas of either make must do the same.
            let narrow = self.width < 64;
            let (room_up, room_down) = (max.wrapping_sub(value), min.wrapping_sub(value));
            let over = value > max
                || narrow && increment > room_up
                || value >= 0 && increment > 0 && increment > room_up;
            let under = value < min
                || narrow && increment < room_down
                || value < 0 && increment < 0 && increment < room_down;
            let limit = if over { Some(max) } else { under.then_some(min) };
            (value.wrapping_add(increment), limit)
        } else {
            // As unsigned numbers: a negative value to be set is a huge one.
            let max = i64::MAX >> (63 - self.width);
            let exact = i128::from(value as u64) + i128::from(increment);
            let over = exact > i128::from(max);
            let limit = if over { Some(max) } else { (exact < 0).then_some(0) };
            (value.wrapping_add(increment), limit)
        };
        match (limit, overflow) {
            (None, _) => Some(sum),
            (Some(_), Overflow::Fail) => None,
            (Some(limit), Overflow::Saturate) => Some(limit),
            (Some(_), Overflow::Wrap) => {
                let unused = 64 - self.width;
                let high = (sum as u64) << unused;
                Some(if self.signed { high as i64 >> unused } else { (high >> unused) as i64 })
            }
        }
    }

    /// Does what is asked, and replies.
    fn run(&self, bytes: &mut [u8], reply: &mut Reply<'_>) -> Outcome {
        let old = self.read(bytes);
        let (new, answers_old) = match self.action {
            Action::Get => {
                reply.int(old);
                return Outcome::Read;
            }
            Action::Set(value, overflow) => (self.sum(value, 0, overflow), true),
            Action::Add(increment, overflow) => (self.sum(old, increment, overflow), false),
        };
        let Some(new) = new else {
            reply.null();
            return Outcome::Failed;
        };
        reply.int(if answers_old { old } else { new });
        set_field(bytes, self.at, self.width, new as u64);
        Outcome::Written { changed: old != new }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Read,
    Failed,
    Written { changed: bool },
}

type Ops = SmallVec<[Op; 4]>;

/// Reads `i8`, `u63` and the like: signed, and the bits.
fn parse_type(text: &[u8]) -> Result<(bool, u32), CommandError> {
    let (signed, digits) = match text {
        [b'i', digits @ ..] => (true, digits),
        [b'u', digits @ ..] => (false, digits),
        _ => (false, &b""[..]),
    };
    let widest = if signed { 64 } else { 63 };
    let refusal = CommandError::fixed(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    let width = parse_i64(digits).filter(|width| (1..=widest).contains(width)).ok_or(refusal)?;
    Ok((signed, width as u32))
}

fn parse(ctx: &Ctx<'_>) -> Result<Ops, CommandError> {
    let (mut ops, mut overflow) = (Ops::new(), Overflow::Wrap);
    let mut options = Options::new(ctx.argv, 2);
    while let Some(name) = options.next() {
        let follow = options.rest().len();
        if is_token(name, "OVERFLOW") && follow >= 1 {
            let text = options.value()?;
            let kinds = [("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)];
            let found = kinds.into_iter().find(|(kind, _)| is_token(text, kind));
            let refusal = CommandError::fixed("ERR Invalid OVERFLOW type specified");
            overflow = found.map(|(_, kind)| kind).ok_or(refusal)?;
            continue;
        }
        let (gets, sets) = (is_token(name, "GET"), is_token(name, "SET"));
        if !(gets && follow >= 2 || (sets || is_token(name, "INCRBY")) && follow >= 3) {
            return Err(CommandError::Syntax);
        }
        let (signed, width) = parse_type(options.value()?)?;
        let at = bit_offset(ctx, options.value()?, Some(width))?;
        let action = match (gets, sets) {
            (true, _) => Action::Get,
            (_, true) => Action::Set(options.int()?, overflow),
            _ => Action::Add(options.int()?, overflow),
        };
        ops.push(Op { signed, width, at, action });
    }
    Ok(ops)
}

/// The key is only read if all operations are `GET`.
fn bitfield_keys(argv: Args<'_>) -> Option<Keys> {
    let mut options = Options::new(argv, 2);
    let mut reads = true;
    while let Some(name) = options.next() {
        let skipped = match options.rest().len() {
            2.. if is_token(name, "GET") => 2,
            1.. if is_token(name, "OVERFLOW") => 1,
            _ => {
                reads = false;
                break;
            }
        };
        for _ in 0..skipped {
            options.next();
        }
    }
    let flags: &[Key] = if reads { &[Key::Ro, Key::Access] } else { &[Key::Rw, Key::Access, Key::Update] };
    Some([KeyRef { index: 1, flags: KeyFlags::of(flags) }].into_iter().collect())
}

fn bitfield(ctx: &mut Ctx<'_>) -> CmdResult {
    let ops = parse(ctx)?;
    run(ctx, &ops)
}

fn bitfield_ro(ctx: &mut Ctx<'_>) -> CmdResult {
    let ops = parse(ctx)?;
    if ops.iter().any(|op| op.action != Action::Get) {
        return Err(CommandError::fixed("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    run(ctx, &ops)
}

fn run(ctx: &mut Ctx<'_>, ops: &Ops) -> CmdResult {
    let key = ctx.key(1);
    let written = ops.iter().filter(|op| op.action != Action::Get);
    let Some(last_bit) = written.map(|op| op.at + u64::from(op.width) - 1).max() else {
        let mut scratch = IntText::new();
        let text = match ctx.store.read_str(key).map_err(wrong_type)? {
            None => b"",
            Some(value) => value.text(&mut scratch),
        };
        ctx.reply.array(ops.len());
        ops.iter().for_each(|op| ctx.reply.int(op.read(text)));
        return Ok(());
    };
    let reply = &mut ctx.reply;
    let run_all = |bytes: &mut [u8]| {
        reply.array(ops.len());
        ops.iter().map(|op| op.run(bytes, reply)).fold((0, 0), |(written, changed), outcome| match outcome {
            Outcome::Written { changed: true } => (written + 1, changed + 1),
            Outcome::Written { changed: false } => (written + 1, changed),
            Outcome::Read | Outcome::Failed => (written, changed),
        })
    };
    let ((written, changed), grown) = change_bytes(ctx.store, key, (last_bit / 8) as usize + 1, run_all)?;
    let changes = if grown { written } else { changed };
    if changes > 0 {
        ctx.store.modified_times(key.bytes, changes);
        ctx.store.notify(Event::STRING, "setbit", key.bytes);
    } else if grown {
        // Every operation failed, but there is a longer string than before. Redis tells nobody; a replica must know.
        ctx.store.modified(key.bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn fields_are_read_and_written() {
        let mut h = Harness::new();
        for (line, reply) in [
            ("BITFIELD a", r"*0\r\n"),
            ("BITFIELD a GET u8 0 GET i64 #3", r"*2\r\n:0\r\n:0\r\n"),
            ("EXISTS a", r":0\r\n"),
            ("BITFIELD a SET u8 0 255 GET i8 0 SET u4 2 0", r"*3\r\n:0\r\n:-1\r\n:15\r\n"),
            ("GET a", r"$1\r\n\xc3\r\n"),
            ("BITFIELD a INCRBY u8 #1 5 get u8 8 GET i64 4", r"*3\r\n:5\r\n:5\r\n:3481282511957393408\r\n"),
            ("BITFIELD_RO a GET u8 0 OVERFLOW SAT", r"*1\r\n:195\r\n"),
            ("BITFIELD_RO a SET u8 0 1", r"-ERR BITFIELD_RO only supports the GET subcommand\r\n"),
            ("BITFIELD a SET u8 #536870912 1", r"-ERR bit offset is not an integer or out of range\r\n"),
            ("BITFIELD a GET u8 -1", r"-ERR bit offset is not an integer or out of range\r\n"),
            (
                "BITFIELD a GET u8 #6148914691236517206",
                r"-ERR bit offset is not an integer or out of range\r\n",
            ),
            ("BITFIELD a OVERFLOW no", r"-ERR Invalid OVERFLOW type specified\r\n"),
            ("BITFIELD a GET u8", r"-ERR syntax error\r\n"),
            ("BITFIELD a SET u8 0 x", r"-ERR value is not an integer or out of range\r\n"),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        for text in ["u64", "i65", "u0", "I8", "8", "", "u", "u-1"] {
            let reply = h.run(&format!("BITFIELD a GET \"{text}\" 0"));
            assert!(reply.starts_with("-ERR Invalid bitfield type."), "{text}: {reply}");
        }
        h.run("RPUSH l 1");
        assert!(h.run("BITFIELD l GET u1 0").starts_with("-WRONGTYPE"));
        assert!(h.run("BITFIELD l SET u1 0 1").starts_with("-WRONGTYPE"));
    }

    #[test]
    fn numbers_that_do_not_fit() {
        let mut h = Harness::new();
        for (operation, wrap, saturate) in [
            ("SET u4 0 17", 1, 15),
            ("SET u4 0 -1", 15, 15),
            ("INCRBY u4 0 16", 0, 15),
            ("INCRBY u4 0 -1", 15, 0),
            ("INCRBY u63 0 -1", i64::MAX, 0),
            ("SET i4 0 8", -8, 7),
            ("SET i4 0 -9", 7, -8),
            ("INCRBY i4 0 9", -7, 7),
            ("INCRBY i4 0 -10", 6, -8),
            // Far below the least of a wide field: Redis takes it for too high.
            ("SET i63 0 -9223372036854775808", 0, (1 << 62) - 1),
        ] {
            let field = operation.split(' ').nth(1).unwrap();
            for (kind, left) in [("WRAP", wrap), ("SAT", saturate), ("FAIL", 0)] {
                h.run("DEL a");
                let reply = h.run(&format!("BITFIELD a OVERFLOW {kind} {operation}"));
                assert_eq!(reply == r"*1\r\n$-1\r\n", kind == "FAIL", "{kind} {operation}: {reply}");
                let left = format!(r"*1\r\n:{left}\r\n");
                assert_eq!(h.run(&format!("BITFIELD a GET {field} 0")), left, "{kind} {operation}");
            }
        }
        assert_eq!(
            h.run("BITFIELD b SET i64 0 9223372036854775807 INCRBY i64 0 1 OVERFLOW SAT INCRBY i64 0 -1"),
            r"*3\r\n:0\r\n:-9223372036854775808\r\n:-9223372036854775808\r\n"
        );
    }

    #[test]
    fn changes_are_counted_and_propagated() {
        let mut h = Harness::new();
        let dirty = |h: &mut Harness, line: &str| {
            let before = h.node.store.effects.dirty;
            h.run(line);
            h.node.store.effects.dirty - before
        };
        assert_eq!(dirty(&mut h, "BITFIELD a SET u8 0 0 SET u8 0 0 GET u8 0"), 2, "it is new");
        assert_eq!(dirty(&mut h, "BITFIELD a SET u8 0 0 SET u8 0 0 SET u8 0 1"), 1);
        assert_eq!(dirty(&mut h, "BITFIELD a SET u8 0 1"), 0);
        assert_eq!(dirty(&mut h, "BITFIELD a OVERFLOW FAIL SET u8 0 256"), 0);
        assert_eq!(dirty(&mut h, "BITFIELD b OVERFLOW FAIL SET u8 0 256"), 1);
        assert_eq!(h.run("GET b"), r"$1\r\n\x00\r\n");
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0",
                "BITFIELD a SET u8 0 0 SET u8 0 0 GET u8 0",
                "BITFIELD a SET u8 0 0 SET u8 0 0 SET u8 0 1",
                "BITFIELD b OVERFLOW FAIL SET u8 0 256",
            ]
        );
    }

    #[test]
    fn keys_are_read_only_if_nothing_else_is_asked() {
        let mut h = Harness::new();
        let ro = r"*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n";
        let rw = r"*1\r\n*2\r\n$1\r\na\r\n*3\r\n+RW\r\n+access\r\n+update\r\n";
        for (tail, keys) in [
            ("GET u8 0", ro),
            ("", ro),
            ("OVERFLOW SAT GET u8 0", ro),
            ("GET u8 0 SET u8 0 1", rw),
            ("INCRBY u8 0 1", rw),
            ("GET u8", rw),
        ] {
            assert_eq!(h.run(&format!("COMMAND GETKEYSANDFLAGS BITFIELD a {tail}")), keys, "{tail}");
        }
    }
}

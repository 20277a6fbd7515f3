//! MIGRATE: parses, takes the values as they are, and asks for the transfer; [`crate::migrate`] has the rest.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, FindKeys, Flag, Flags, Group, Key, KeyFlags,
    KeyRef, KeySpec, Keys, ParseArgs, is_token,
};
use keyspace::Key as DbKey;
use resp::Args;
use structures::number::{IntText, parse_i64};

use crate::action::Action;
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::migrate::{Migration, Request, begin};
use crate::rdb_writer;
use crate::session::{Blocked, Role};

pub const COMMANDS: &[Command<Handler>] = &[MIGRATE];

const DEFAULT_TIMEOUT_MS: u64 = 1000;
const KEY: &[Key] = &[Key::Rw, Key::Access, Key::Delete];

/// MIGRATE host port key | "" destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 username password]
/// [KEYS key [key ...]]
const MIGRATE: Command<Handler> = Command {
    name: "migrate",
    group: Group::Generic,
    arity: Arity::AtLeast(6),
    flags: Flags::of(&[Flag::Write]),
    acl: Acl::of(&[Category::Keyspace, Category::Dangerous]),
    keys: &[
        KeySpec::at(3, KEY),
        KeySpec::after("KEYS", -2, &[Key::Rw, Key::Access, Key::Delete, Key::Incomplete])
            .find(FindKeys::Range { last: -1, step: 1, limit: 0 }),
    ],
    get_keys: Some(migrate_keys),
    tips: &["nondeterministic_output"],
    docs: &Docs {
        since: "2.6.0",
        complexity: "That of DUMP and DEL here and of RESTORE there, and O(N) for the transfer of N bytes.",
        summary: "Moves keys to another server, or copies them.",
        history: &[
            ("3.0.0", "Knows `COPY` and `REPLACE`."),
            ("3.0.6", "Knows `KEYS`."),
            ("4.0.7", "Knows `AUTH`."),
            ("6.0.0", "Knows `AUTH2`."),
        ],
        arguments: &[
            Arg::string("host"),
            Arg::integer("port"),
            Arg::one_of("key_or_empty_string", &[Arg::key("key", 0), Arg::pure_token("empty_string", "")]),
            Arg::integer("destination-db"),
            Arg::integer("timeout"),
            Arg::pure_token("copy", "COPY").since("3.0.0").optional(),
            Arg::pure_token("replace", "REPLACE").since("3.0.0").optional(),
            Arg::one_of(
                "authentication",
                &[
                    Arg::string("password").token("AUTH").since("4.0.7").optional(),
                    Arg::block("username_password", &[Arg::string("username"), Arg::string("password")])
                        .token("AUTH2")
                        .since("6.0.0")
                        .optional(),
                ],
            )
            .optional(),
            Arg::key("key", 1).token("KEYS").since("3.0.6").optional().multiple(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(migrate)
};

/// The key, or all that follow `KEYS`; none where both are given, which is an error.
fn migrate_keys(args: Args<'_>) -> Option<Keys> {
    let key = |index: usize| KeyRef { index: index as u32, flags: KeyFlags::of(KEY) };
    let mut at = 6;
    while let Some(option) = args.get(at) {
        if is_token(option, "KEYS") {
            let given = !args.at(3).is_empty();
            return Some(if given { Keys::new() } else { (at + 1..args.len()).map(key).collect() });
        }
        at += match option {
            option if is_token(option, "AUTH") => 2,
            option if is_token(option, "AUTH2") => 3,
            _ => 1,
        };
    }
    Some(std::iter::once(key(3)).collect())
}

/// Everything but the keys' values.
struct Options<'k> {
    copy: bool,
    replace: bool,
    user: Option<&'k [u8]>,
    password: Option<&'k [u8]>,
    keys: Args<'k>,
}

impl<'k> Options<'k> {
    fn parse(argv: Args<'k>, redacted: &mut Vec<usize>) -> Result<Options<'k>, CommandError> {
        let mut options =
            Options { copy: false, replace: false, user: None, password: None, keys: argv.tail(3).head(1) };
        let mut at = 6;
        while let Some(option) = argv.get(at) {
            if is_token(option, "COPY") {
                options.copy = true;
            } else if is_token(option, "REPLACE") {
                options.replace = true;
            } else if is_token(option, "AUTH") {
                options.password = Some(argv.get(at + 1).ok_or(CommandError::Syntax)?);
                redacted.push(at + 1);
                at += 1;
            } else if is_token(option, "AUTH2") {
                options.password = Some(argv.get(at + 2).ok_or(CommandError::Syntax)?);
                options.user = Some(argv.at(at + 1));
                redacted.extend([at + 1, at + 2]);
                at += 2;
            } else if is_token(option, "KEYS") {
                if !argv.at(3).is_empty() {
                    return Err(CommandError::fixed(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                options.keys = argv.tail(at + 1);
                break;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    fn auth(&self) -> Option<Vec<u8>> {
        let password = self.password?;
        let mut bytes = Vec::new();
        let words = [Some(&b"AUTH"[..]), self.user, Some(password)];
        let words: Vec<&[u8]> = words.into_iter().flatten().collect();
        resp::encode_command(&mut bytes, words.iter().copied());
        Some(bytes)
    }
}

fn migrate(ctx: &mut Ctx<'_>) -> CmdResult {
    let argv = ctx.argv;
    let options = Options::parse(argv, &mut ctx.core.redacted)?;
    let timeout_ms = argv.int(5)?;
    let db = argv.int(4)?;
    // Nothing can be parked there: what follows has to run at once.
    if ctx.core.in_exec || !matches!(ctx.session.role, Role::Client) {
        return Err(CommandError::fixed("ERR MIGRATE is not allowed inside a transaction"));
    }
    let compress = ctx.core.config.rdbcompression;
    let now_ms = ctx.store.now_ms;
    let (mut keys, mut restores) = (Vec::new(), Vec::new());
    for key in options.keys.iter() {
        let Some(entry) = ctx.store.read(DbKey::new(key)) else { continue };
        let ttl_ms = entry.expire_at().map_or(0, |at| (at - now_ms).max(1));
        let payload =
            rdb_writer::dump(entry, compress).map_err(|error| CommandError::text(format!("ERR {error}")))?;
        let mut ttl = IntText::new();
        let words: [&[u8]; 5] = [b"RESTORE", key, ttl.format(ttl_ms), &payload, b"REPLACE"];
        let count = if options.replace { 5 } else { 4 };
        resp::encode_command(&mut restores, words[..count].iter().copied());
        keys.push(Box::from(key));
    }
    if keys.is_empty() {
        ctx.reply.simple("NOKEY");
        return Ok(());
    }
    let request = Request {
        host: String::from_utf8_lossy(argv.at(1)).into_owned(),
        port: parse_i64(argv.at(2)).and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
        timeout_ms: u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).unwrap_or(DEFAULT_TIMEOUT_MS),
        auth: options.auth(),
        db,
        restores,
        count: keys.len(),
    };
    let migration = Migration {
        conn: ctx.core.running.expect("a client's command runs on its connection"),
        session: ctx.session.id,
        db: ctx.session.db,
        keys,
        copy: options.copy,
        was_replica: ctx.core.is_replica(),
    };
    ctx.session.blocked = Some(Blocked::Migrate);
    ctx.core.actions.push(Action::Migrate(Box::new(request)));
    begin(ctx.store, ctx.core, migration);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::registry;
    use crate::migrate::{Failure, Outcome};
    use crate::testing::Harness;
    use resp::ArgsBuf;

    fn requested(h: &mut Harness) -> Request {
        let migrate = h.node.take_actions().into_iter().find_map(|action| match action {
            Action::Migrate(request) => Some(*request),
            _ => None,
        });
        migrate.expect("a transfer was asked for")
    }

    fn end(h: &mut Harness, restored: &[bool], failure: Option<Failure>) -> String {
        h.node.migrated(&Outcome { restored: restored.to_vec(), failure });
        h.node.before_sleep();
        let conn = h.conn;
        h.output(conn).escape_ascii().to_string()
    }

    #[test]
    fn a_key_is_sent_and_then_deleted() {
        let mut h = Harness::new();
        h.run("SET k 10 PX 1500");
        h.propagated();
        assert_eq!(h.run("MIGRATE there 7000 k 9 0 REPLACE AUTH2 me secret"), "");
        let request = requested(&mut h);
        assert_eq!(
            (request.host.as_str(), request.port, request.timeout_ms, request.db),
            ("there", 7000, 1000, 9)
        );
        assert_eq!(request.auth.unwrap(), b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n");
        assert_eq!(
            request.restores,
            b"*5\r\n$7\r\nRESTORE\r\n$1\r\nk\r\n$4\r\n1500\r\n$13\r\n\x00\xc0\n\t\x00\xbem\x06\x89Z(\x00\n\r\n$7\r\nREPLACE\r\n"
                .as_slice(),
            "{}",
            request.restores.escape_ascii()
        );
        assert_eq!(h.propagated(), Vec::<String>::new());
        assert_eq!(end(&mut h, &[true], None), r"+OK\r\n");
        assert_eq!(h.propagated(), ["DEL k"]);
        assert_eq!(h.run("EXISTS k"), r":0\r\n");
    }

    #[test]
    fn writes_wait_and_reads_do_not() {
        let mut h = Harness::new();
        let other = h.connect();
        h.run("MSET a 1 b 2");
        h.propagated();
        assert_eq!(h.run(r#"MIGRATE there 7000 "" 0 100 KEYS a none b"#), "");
        assert_eq!(requested(&mut h).count, 2);
        assert_eq!(h.run_on(other, "GET a"), r"$1\r\n1\r\n");
        assert_eq!(h.run_on(other, "APPEND a x"), "");
        let refused = Failure::Refused(b"BUSYKEY Target key name already exists.".to_vec());
        assert_eq!(
            end(&mut h, &[true, false], Some(refused)),
            r"-ERR Target instance replied with error: BUSYKEY Target key name already exists.\r\n"
        );
        // The write has found the key deleted.
        assert_eq!(h.output(other), b":1\r\n");
        assert_eq!(h.propagated(), ["DEL a", "APPEND a x"]);
        assert_eq!(h.run("GET b"), r"$1\r\n2\r\n");
    }

    #[test]
    fn what_was_not_acknowledged_stays() {
        let mut h = Harness::new();
        h.run("MSET a 1 b 2");
        h.propagated();
        for (failure, text) in [
            (Failure::Connect, "connecting to the client"),
            (Failure::Write, "writing to target instance"),
            (Failure::Read, "reading to target instance"),
        ] {
            assert_eq!(h.run("MIGRATE there 7000 a 0 100"), "");
            assert_eq!(end(&mut h, &[], Some(failure)), format!(r"-IOERR error or timeout {text}\r\n"));
        }
        assert_eq!(h.run("MIGRATE there 7000 a 0 100 COPY"), "");
        assert_eq!(end(&mut h, &[true], None), r"+OK\r\n");
        assert_eq!(h.run("EXISTS a b"), r":2\r\n");
        assert_eq!(h.propagated(), Vec::<String>::new());
    }

    #[test]
    fn the_end_is_reached_without_the_client() {
        let mut h = Harness::new();
        let other = h.connect();
        h.run("SET a 1");
        assert_eq!(h.run_on(other, "MIGRATE there 7000 a 0 100"), "");
        h.node.closed(other);
        assert_eq!(end(&mut h, &[true], None), "");
        assert_eq!(h.run("EXISTS a"), r":0\r\n");
    }

    #[test]
    fn a_key_does_not_expire_on_its_way() {
        let mut h = Harness::new();
        h.run("SET a 1 PX 10");
        h.propagated();
        assert_eq!(h.run("MIGRATE there 7000 a 0 100"), "");
        h.advance_ms(20);
        h.node.tick();
        assert_eq!(h.propagated(), Vec::<String>::new());
        assert_eq!(end(&mut h, &[true], None), r"+OK\r\n");
        assert_eq!(h.propagated(), ["DEL a"]);
    }

    #[test]
    fn errors() {
        let mut h = Harness::new();
        h.run("SET a 1");
        for (line, reply) in [
            ("MIGRATE there 7000 none 0 100", r"+NOKEY\r\n"),
            ("MIGRATE there 7000 a x 100", r"-ERR value is not an integer or out of range\r\n"),
            ("MIGRATE there 7000 a 0 y", r"-ERR value is not an integer or out of range\r\n"),
            ("MIGRATE there 7000 a 0 100 AUTH", r"-ERR syntax error\r\n"),
            ("MIGRATE there 7000 a 0 100 AUTH2 me", r"-ERR syntax error\r\n"),
            ("MIGRATE there 7000 a 0 100 MOVE", r"-ERR syntax error\r\n"),
            (
                "MIGRATE there 7000 a 0 100 KEYS b",
                r"-ERR When using MIGRATE KEYS option, the key argument must be set to the empty string\r\n",
            ),
        ] {
            assert_eq!(h.run(line), reply, "{line}");
        }
        h.run("MULTI");
        h.run("MIGRATE there 7000 a 0 100");
        assert_eq!(h.run("EXEC"), r"*1\r\n-ERR MIGRATE is not allowed inside a transaction\r\n");
    }

    #[test]
    fn keys_among_the_arguments() {
        let keys = |line: &str| {
            let args: ArgsBuf = line.split(' ').collect();
            let entry = registry().lookup(b"migrate").unwrap();
            entry.keys(args.as_args()).unwrap().iter().map(|key| key.index).collect::<Vec<_>>()
        };
        assert_eq!(keys("migrate h p k 0 1"), [3]);
        assert_eq!(keys("migrate h p k 0 1 auth keys copy"), [3]);
        assert_eq!(keys("migrate h p  0 1 auth2 keys keys keys a b"), [10, 11]);
        assert_eq!(keys("migrate h p k 0 1 keys a b"), [0; 0]);
    }
}

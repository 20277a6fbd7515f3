//! Commands that Kindred does not offer, but meets in the stream of a primary of another make.
//!
//! Redis 8 replicates `HINCRBYFLOAT` as `HSETEX key KEEPTTL FIELDS 1 field value`, where 7 and Valkey send `HSET`
//! (observed on redis 8.2.3). A replica that does not know the command diverges at the first such increment.

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, ParseArgs,
};
use keyspace::{FieldExpiry, Hash, Object};

use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;
use crate::session::Role;

pub const COMMANDS: &[Command<Handler>] = &[HSETEX];

/// HSETEX key KEEPTTL FIELDS numfields field value [field value …]
const HSETEX: Command<Handler> = Command {
    name: "hsetex",
    group: Group::Hash,
    arity: Arity::AtLeast(6),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom, Flag::Fast]),
    acl: Acl::of(&[Category::Hash]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        since: "8.0.0",
        complexity: "O(N) with N being the number of fields",
        summary: "Gives fields of a hash their values and keeps their expiries, in the stream of a primary.",
        arguments: &[
            Arg::key("key", 0),
            Arg::integer("numfields"),
            Arg::block("field_value", &[Arg::string("field"), Arg::string("value")]).multiple(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(hsetex)
};
fn hsetex(ctx: &mut Ctx<'_>) -> CmdResult {
    if !matches!(ctx.session.role, Role::Primary) {
        return Err(CommandError::unknown_command(ctx.argv));
    }
    let (key, argv) = (ctx.key(1), ctx.argv);
    if !argv.is(2, "keepttl") || !argv.is(3, "fields") {
        return Err(CommandError::Syntax);
    }
    let pairs = argv.int_within_or(4, 1..=i64::from(i32::MAX), CommandError::Syntax)? as usize;
    if argv.len() != 5 + 2 * pairs {
        return Err(CommandError::Syntax);
    }
    let limits = ctx.store.limits.clone();
    let set_all = |hash: &mut Hash| {
        for at in (5..argv.len()).step_by(2) {
            hash.set(argv.at(at), argv.at(at + 1), FieldExpiry::Keep, &limits);
        }
    };
    if let Some(mut hash) = ctx.store.write_hash(key).map_err(wrong_type)? {
        set_all(&mut hash);
    } else {
        let mut hash = Hash::with_capacity(pairs, &limits);
        set_all(&mut hash);
        ctx.store.add(key, Object::Hash(hash));
    }
    ctx.store.modified_times(key.bytes, pairs);
    ctx.store.notify(Event::HASH, "hset", key.bytes);
    ctx.reply.int(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    /// Clients get what they get for any command that is not there; that it works in a primary's stream is shown
    /// against the real server (`interop_sync`).
    #[test]
    fn clients_do_not_have_it() {
        let mut h = Harness::new();
        assert_eq!(
            h.run("HSETEX h KEEPTTL FIELDS 1 f v"),
            r"-ERR unknown command \'HSETEX\', with args beginning with: \'h\' \'KEEPTTL\' \'FIELDS\' \'1\' \'f\' \'v\' \r\n"
        );
        assert_eq!(h.run("EXISTS h"), r":0\r\n");
    }
}

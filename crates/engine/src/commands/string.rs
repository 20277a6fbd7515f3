//! Strings.

use command::{Acl, Arity, Category, Command, Docs, Flag, Flags, Group, Key, KeySpec};
use keyspace::{EntryExt, Str};

use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};

pub const COMMANDS: &[Command<Handler>] = &[GET];

/// GET key
const GET: Command<Handler> = Command {
    name: "get",
    group: Group::String,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Readonly, Flag::Fast]),
    acl: Acl::of(&[Category::String]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns the string that a key holds.",
        ..Docs::NONE
    },
    ..Command::runs(get)
};

fn get(ctx: &mut Ctx<'_>) -> CmdResult {
    match ctx.store.read(ctx.key(1)) {
        None => ctx.reply.null(),
        Some(entry) => match entry.as_str().map_err(wrong_type)? {
            Str::Int(value) => ctx.reply.bulk_int(value),
            Str::Bytes(bytes) => ctx.reply.bulk(bytes),
            Str::Shared(bytes) => ctx.reply.bulk_shared(bytes),
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn get_of_nothing_is_null() {
        let mut h = Harness::new();
        assert_eq!(h.run("GET a"), r"$-1\r\n");
        assert_eq!(
            h.run("NOSUCH a"),
            r"-ERR unknown command \'NOSUCH\', with args beginning with: \'a\' \r\n"
        );
        assert_eq!(h.resp3().run("GET a"), r"_\r\n");
    }
}

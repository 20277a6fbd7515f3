//! Geospatial indexes: members one by one. An index is a sorted set whose scores are points, see [`structures::geo`];
//! searching by area is in [`super::geo_search`].

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, is_token,
};
use keyspace::zset::AddRule;
use resp::{Args, Reply};
use structures::geo::Point;
use structures::number::{IntText, parse_f64, push_f64_fixed4, push_f64_human};

use crate::commands::zset::add_members;
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};

pub const COMMANDS: &[Command<Handler>] = &[GEOADD, GEODIST, GEOHASH, GEOPOS];

pub(super) const UNIT: Arg = Arg::one_of(
    "unit",
    &[
        Arg::pure_token("m", "M"),
        Arg::pure_token("km", "KM"),
        Arg::pure_token("ft", "FT"),
        Arg::pure_token("mi", "MI"),
    ],
);

/// GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]
const GEOADD: Command<Handler> = Command {
    name: "geoadd",
    group: Group::Geo,
    arity: Arity::AtLeast(5),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Geo]),
    keys: &[KeySpec::at(1, &[Key::Rw, Key::Update])],
    docs: &Docs {
        since: "3.2.0",
        complexity: "O(log(N)) per member, N being the members of the index.",
        summary: "Adds members with their positions to a geospatial index, or moves them.",
        history: &[("6.2.0", "Knows `CH`, `NX` and `XX`.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::one_of("condition", &[Arg::pure_token("nx", "NX"), Arg::pure_token("xx", "XX")])
                .since("6.2.0")
                .optional(),
            Arg::pure_token("change", "CH").since("6.2.0").optional(),
            Arg::block(
                "longitude_latitude_member",
                &[Arg::double("longitude"), Arg::double("latitude"), Arg::string("member")],
            )
            .multiple(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(geoadd)
};

fn geoadd(ctx: &mut Ctx<'_>) -> CmdResult {
    let argv = ctx.argv;
    let (mut rule, mut count_changed, mut at) = (AddRule::default(), false, 2);
    while let Some(option) = argv.get(at) {
        if is_token(option, "NX") {
            rule.only_new = true;
        } else if is_token(option, "XX") {
            rule.only_existing = true;
        } else if is_token(option, "CH") {
            count_changed = true;
        } else {
            break;
        }
        at += 1;
    }
    let places = argv.tail(at);
    if !places.len().is_multiple_of(3) || (rule.only_new && rule.only_existing) {
        return Err(CommandError::Syntax);
    }
    let count = places.len() / 3;
    let mut members = Vec::with_capacity(count);
    for index in 0..count {
        let point = point_at(places, 3 * index)?;
        members.push((places.at(3 * index + 2), point.encode() as f64));
    }
    if members.is_empty() {
        return Err(CommandError::Syntax);
    }
    let added = add_members(ctx, members.iter().copied(), rule)?;
    if !added.changed_nothing() {
        // What replicas get are scores, as Redis tells them.
        let mut scores: Vec<IntText> = Vec::new();
        scores.resize_with(count, IntText::new);
        let mut args: Vec<&[u8]> = vec![b"zadd"];
        args.extend(argv.head(at).tail(1).iter());
        for ((member, score), text) in members.iter().zip(&mut scores) {
            args.extend([text.format(*score as i64), member]);
        }
        ctx.store.effects.propagate_as(&args);
    }
    ctx.reply.int(added.counted(count_changed));
    Ok(())
}

/// GEODIST key member1 member2 [M | KM | FT | MI]
const GEODIST: Command<Handler> = Command {
    name: "geodist",
    group: Group::Geo,
    arity: Arity::AtLeast(4),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Geo]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "3.2.0",
        complexity: "O(log(N))",
        summary: "Returns the distance between two members of a geospatial index.",
        arguments: &[Arg::key("key", 0), Arg::string("member1"), Arg::string("member2"), UNIT.optional()],
        ..Docs::NONE
    },
    ..Command::runs(geodist)
};

fn geodist(ctx: &mut Ctx<'_>) -> CmdResult {
    let unit_m = match ctx.argv.len() {
        4 => 1.0,
        5 => unit_m(&ctx.argv[4])?,
        _ => return Err(CommandError::Syntax),
    };
    let set = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?;
    let point = |index: usize| Some(Point::of_score(set?.score(ctx.argv.at(index))?));
    match (point(2), point(3)) {
        (Some(from), Some(to)) => DistanceText::default().reply(&mut ctx.reply, from.distance_m(to) / unit_m),
        _ => ctx.reply.null(),
    }
    Ok(())
}

/// GEOHASH key [member [member ...]]
const GEOHASH: Command<Handler> = Command {
    name: "geohash",
    group: Group::Geo,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Geo]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "3.2.0",
        complexity: "O(log(N)) per member asked for, N being the members of the index.",
        summary: "Returns the positions of members as standard geohashes.",
        arguments: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(geohash)
};

fn geohash(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?;
    let members = ctx.argv.tail(2);
    ctx.reply.array(members.len());
    for member in members.iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => ctx.reply.bulk(&Point::of_score(score).geohash()),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

/// GEOPOS key [member [member ...]]
const GEOPOS: Command<Handler> = Command {
    name: "geopos",
    group: Group::Geo,
    arity: Arity::AtLeast(2),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Geo]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "3.2.0",
        complexity: "O(N), N being the members asked for.",
        summary: "Returns the longitudes and latitudes of members.",
        arguments: &[Arg::key("key", 0), Arg::string("member").multiple()],
        ..Docs::NONE
    },
    ..Command::runs(geopos)
};

fn geopos(ctx: &mut Ctx<'_>) -> CmdResult {
    let set = ctx.store.read_zset(ctx.key(1)).map_err(wrong_type)?;
    let members = ctx.argv.tail(2);
    ctx.reply.array(members.len());
    let mut text = Vec::new();
    for member in members.iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => reply_point(&mut ctx.reply, &mut text, Point::of_score(score)),
            None => ctx.reply.null_array(),
        }
    }
    Ok(())
}

/// Longitude and latitude from argument `at` on.
pub(super) fn point_at(args: Args<'_>, at: usize) -> Result<Point, CommandError> {
    let longitude = parse_f64(args.at(at)).ok_or(CommandError::NotFloat)?;
    let latitude = parse_f64(args.at(at + 1)).ok_or(CommandError::NotFloat)?;
    let point = Point { longitude, latitude };
    if !point.is_on_map() {
        return Err(CommandError::text(format!(
            "ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
        )));
    }
    Ok(point)
}

/// How many metres the unit of this name has.
pub(super) fn unit_m(name: &[u8]) -> Result<f64, CommandError> {
    for (unit, metres) in [("M", 1.0), ("KM", 1000.0), ("FT", 0.3048), ("MI", 1609.34)] {
        if is_token(name, unit) {
            return Ok(metres);
        }
    }
    Err(CommandError::fixed("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Replies a pair of coordinates; `text` is memory to write them in.
pub(super) fn reply_point(reply: &mut Reply<'_>, text: &mut Vec<u8>, point: Point) {
    reply.array(2);
    for coordinate in [point.longitude, point.latitude] {
        text.clear();
        push_f64_human(text, coordinate);
        reply.double_text(text);
    }
}

/// Replies distances, which are text in both protocols.
#[derive(Default)]
pub(super) struct DistanceText {
    text: Vec<u8>,
}

impl DistanceText {
    pub fn reply(&mut self, reply: &mut Reply<'_>, distance: f64) {
        self.text.clear();
        push_f64_fixed4(&mut self.text, distance);
        reply.bulk(&self.text);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    #[test]
    fn members_are_propagated_with_their_scores() {
        let mut h = Harness::new();
        assert_eq!(h.run("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"), r":2\r\n");
        assert_eq!(h.run("GEOADD g nx CH 13.361389 38.115556 Palermo"), r":0\r\n");
        assert_eq!(h.run("GEOADD g xx ch 13.4 38 Palermo 1 1 new"), r":1\r\n");
        assert_eq!(
            h.propagated(),
            [
                "SELECT 0",
                "zadd g 3479099956230698 Palermo 3479447370796909 Catania",
                "zadd g xx ch 3479096694916711 Palermo 3377822707026402 new"
            ]
        );
        let events = h.events("GEOADD g 1 1 x");
        assert_eq!(events.iter().map(|event| event.name).collect::<Vec<_>>(), ["zadd"]);
    }

    #[test]
    fn errors_of_geoadd() {
        let mut h = Harness::new();
        for (line, error) in [
            ("GEOADD g 1 1", r"-ERR wrong number of arguments for 'geoadd' command\r\n"),
            ("GEOADD g 1 1 a 2", r"-ERR syntax error\r\n"),
            ("GEOADD g NX XX CH", r"-ERR syntax error\r\n"),
            ("GEOADD g NX XX 1 1 a", r"-ERR syntax error\r\n"),
            ("GEOADD g x 1 a", r"-ERR value is not a valid float\r\n"),
            ("GEOADD g 200 10 a", r"-ERR invalid longitude,latitude pair 200.000000,10.000000\r\n"),
            ("GEOADD g 1 -inf a", r"-ERR invalid longitude,latitude pair 1.000000,-inf\r\n"),
        ] {
            assert_eq!(h.run(line).replace("\\'", "'"), error, "{line}");
        }
        assert_eq!(h.propagated(), Vec::<String>::new());
        h.run("SET s 1");
        for line in ["GEOADD s 1 1 a", "GEOPOS s a", "GEOHASH s a", "GEODIST s a b"] {
            assert!(h.run(line).starts_with("-WRONGTYPE"), "{line}");
        }
    }

    #[test]
    fn positions_and_distances() {
        let mut h = Harness::new();
        h.run("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania");
        assert_eq!(h.run("GEODIST g Palermo Catania"), r"$11\r\n166274.1516\r\n");
        assert_eq!(h.run("GEODIST g Palermo Catania MI"), r"$8\r\n103.3182\r\n");
        assert_eq!(h.run("GEODIST g Palermo nobody"), r"$-1\r\n");
        assert_eq!(h.run("GEODIST none a b"), r"$-1\r\n");
        assert_eq!(h.run("GEODIST g a b m m"), r"-ERR syntax error\r\n");
        assert_eq!(h.run("GEOHASH g Palermo nobody"), r"*2\r\n$11\r\nsqc8b49rny0\r\n$-1\r\n");
        assert_eq!(h.run("GEOHASH g"), r"*0\r\n");
        assert_eq!(
            h.run("GEOPOS g Palermo nobody"),
            r"*2\r\n*2\r\n$20\r\n13.36138933897018433\r\n$20\r\n38.11555639549629859\r\n*-1\r\n"
        );
        h.resp3();
        assert_eq!(
            h.run("GEOPOS g Palermo nobody"),
            r"*2\r\n*2\r\n,13.36138933897018433\r\n,38.11555639549629859\r\n_\r\n"
        );
    }
}

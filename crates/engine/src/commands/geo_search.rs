//! Geospatial indexes: members of an area, replied or stored. `GEORADIUS` and `GEORADIUSBYMEMBER` are the old forms of
//! `GEOSEARCH` and `GEOSEARCHSTORE`; all of them are one function here.

use std::ops::Range;

use command::{
    Acl, Arg, Arity, Category, Command, CommandError, Docs, Flag, Flags, Group, Key, KeySpec, Options,
    is_token,
};
use keyspace::zset::compare;
use keyspace::{Key as DbKey, Object, ZSet, ZSetRef};
use resp::{Args, Reply};
use structures::geo::{Point, Search, Shape};
use structures::listpack::Entry;
use structures::number::{parse_f64, parse_i64};
use structures::partial_sort::partial_sort;

use crate::commands::elements::reply_entry;
use crate::commands::geo::{DistanceText, UNIT, point_at, reply_point, unit_m};
use crate::ctx::{CmdResult, Ctx, Handler, wrong_type};
use crate::notify::Event;

pub const COMMANDS: &[Command<Handler>] =
    &[GEORADIUS, GEORADIUSBYMEMBER, GEORADIUSBYMEMBER_RO, GEORADIUS_RO, GEOSEARCH, GEOSEARCHSTORE];

/// Which command it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Radius { by_member: bool, read_only: bool },
    Search { store: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// A parsed command, as far as it could be parsed: without an index, members have no positions.
struct Query<'k> {
    centre: Point,
    shape: Shape,
    unit_m: f64,
    with_distance: bool,
    with_hash: bool,
    with_point: bool,
    order: Option<Order>,
    /// 0 for all.
    count: usize,
    /// Any members will do, as soon as they are enough.
    any: bool,
    destination: Option<&'k [u8]>,
    store_distance: bool,
}

/// A member of the area.
struct Found<'s> {
    member: Entry<'s>,
    score: f64,
    point: Point,
    distance_m: f64,
}

const AREA_COMPLEXITY: &str = "O(N+log(M)), N being the members in the cells of the grid that cover the area, and M those of the index.";
const WITH_POINT: Arg = Arg::pure_token("withcoord", "WITHCOORD").optional();
const WITH_DISTANCE: Arg = Arg::pure_token("withdist", "WITHDIST").optional();
const WITH_HASH: Arg = Arg::pure_token("withhash", "WITHHASH").optional();
const COUNT: Arg =
    Arg::block("count", &[Arg::integer("count").token("COUNT"), Arg::pure_token("any", "ANY").optional()])
        .optional();
const COUNT_OF_OLD: Arg = Arg::block(
    "count",
    &[Arg::integer("count").token("COUNT"), Arg::pure_token("any", "ANY").since("6.2.0").optional()],
)
.optional();
const ORDER: Arg =
    Arg::one_of("order", &[Arg::pure_token("asc", "ASC"), Arg::pure_token("desc", "DESC")]).optional();
const FROM: Arg = Arg::one_of(
    "from",
    &[
        Arg::string("member").token("FROMMEMBER"),
        Arg::block("longitude_latitude", &[Arg::double("longitude"), Arg::double("latitude")])
            .token("FROMLONLAT"),
    ],
)
.optional();
const BY: Arg = Arg::one_of(
    "by",
    &[
        Arg::block("circle", &[Arg::double("radius").token("BYRADIUS"), UNIT]),
        Arg::block("box", &[Arg::double("width").token("BYBOX"), Arg::double("height"), UNIT]),
        Arg::block(
            "polygon",
            &[
                Arg::integer("num-vertices").token("BYPOLYGON"),
                Arg::block("vertices", &[Arg::double("longitude"), Arg::double("latitude")]).multiple(),
            ],
        )
        .since("9.0.0"),
    ],
);

/// Where the places to store to are among the arguments of GEORADIUS: last, and only there.
const STORE_AT: usize = 10;

/// GEORADIUS key longitude latitude radius M|KM|FT|MI [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]]
/// [ASC | DESC] [STORE key] [STOREDIST key]
const GEORADIUS: Command<Handler> = Command {
    name: "georadius",
    group: Group::Geo,
    arity: Arity::AtLeast(6),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    acl: Acl::of(&[Category::Geo]),
    keys: &[
        KeySpec::at(1, &[Key::Ro, Key::Access]),
        KeySpec::after("STORE", 6, &[Key::Ow, Key::Update]),
        KeySpec::after("STOREDIST", 6, &[Key::Ow, Key::Update]),
    ],
    docs: &Docs {
        since: "3.2.0",
        complexity: AREA_COMPLEXITY,
        summary: "Returns or stores the members of a geospatial index within a distance of a point.",
        deprecated_since: "6.2.0",
        replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
        history: &[("6.2.0", "`COUNT` knows `ANY`."), ("7.0.0", "Units may be in upper case.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::double("longitude"),
            Arg::double("latitude"),
            Arg::double("radius"),
            UNIT,
            WITH_POINT,
            WITH_DISTANCE,
            WITH_HASH,
            COUNT_OF_OLD,
            ORDER,
            Arg::key("key", 1).token("STORE").optional(),
            Arg::key("key", 2).token("STOREDIST").optional(),
        ],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| search(ctx, Form::Radius { by_member: false, read_only: false }))
};

/// GEORADIUS_RO key longitude latitude radius M|KM|FT|MI [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]]
/// [ASC | DESC]
const GEORADIUS_RO: Command<Handler> = Command {
    name: "georadius_ro",
    flags: Flags::of(&[Flag::Readonly]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "3.2.10",
        summary: "Returns the members of a geospatial index within a distance of a point.",
        replaced_by: "`GEOSEARCH` with the `BYRADIUS` argument",
        history: &[("6.2.0", "`COUNT` knows `ANY`.")],
        arguments: GEORADIUS.docs.arguments.split_at(STORE_AT).0,
        ..*GEORADIUS.docs
    },
    handler: Some(|ctx| search(ctx, Form::Radius { by_member: false, read_only: true })),
    ..GEORADIUS
};

/// GEORADIUSBYMEMBER key member radius M|KM|FT|MI [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]
/// [STORE key] [STOREDIST key]
const GEORADIUSBYMEMBER: Command<Handler> = Command {
    name: "georadiusbymember",
    arity: Arity::AtLeast(5),
    keys: &[
        KeySpec::at(1, &[Key::Ro, Key::Access]),
        KeySpec::after("STORE", 5, &[Key::Ow, Key::Update]),
        KeySpec::after("STOREDIST", 5, &[Key::Ow, Key::Update]),
    ],
    docs: &Docs {
        summary: "Returns or stores the members of a geospatial index within a distance of one of them.",
        replaced_by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
        history: &[("7.0.0", "Units may be in upper case.")],
        arguments: &[
            Arg::key("key", 0),
            Arg::string("member"),
            Arg::double("radius"),
            UNIT,
            WITH_POINT,
            WITH_DISTANCE,
            WITH_HASH,
            COUNT,
            ORDER,
            Arg::key("key", 1).token("STORE").optional(),
            Arg::key("key", 2).token("STOREDIST").optional(),
        ],
        ..*GEORADIUS.docs
    },
    handler: Some(|ctx| search(ctx, Form::Radius { by_member: true, read_only: false })),
    ..GEORADIUS
};

/// GEORADIUSBYMEMBER_RO key member radius M|KM|FT|MI [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]]
/// [ASC | DESC]
const GEORADIUSBYMEMBER_RO: Command<Handler> = Command {
    name: "georadiusbymember_ro",
    flags: GEORADIUS_RO.flags,
    keys: GEORADIUS_RO.keys,
    docs: &Docs {
        since: "3.2.10",
        summary: "Returns the members of a geospatial index within a distance of one of them.",
        replaced_by: "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
        history: &[],
        arguments: GEORADIUSBYMEMBER.docs.arguments.split_at(STORE_AT - 1).0,
        ..*GEORADIUSBYMEMBER.docs
    },
    handler: Some(|ctx| search(ctx, Form::Radius { by_member: true, read_only: true })),
    ..GEORADIUSBYMEMBER
};

/// GEOSEARCH key [FROMMEMBER member | FROMLONLAT longitude latitude]
/// BYRADIUS radius M|KM|FT|MI | BYBOX width height M|KM|FT|MI | BYPOLYGON num-vertices longitude latitude ...
/// [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]
const GEOSEARCH: Command<Handler> = Command {
    name: "geosearch",
    group: Group::Geo,
    arity: Arity::AtLeast(7),
    flags: Flags::of(&[Flag::Readonly]),
    acl: Acl::of(&[Category::Geo]),
    keys: &[KeySpec::at(1, &[Key::Ro, Key::Access])],
    docs: &Docs {
        since: "6.2.0",
        complexity: AREA_COMPLEXITY,
        summary: "Returns the members of a geospatial index in a circle, a box or a polygon.",
        history: &[("7.0.0", "Units may be in upper case."), ("9.0.0", "Knows `BYPOLYGON`.")],
        arguments: &[Arg::key("key", 0), FROM, BY, ORDER, COUNT, WITH_POINT, WITH_DISTANCE, WITH_HASH],
        ..Docs::NONE
    },
    ..Command::runs(|ctx| search(ctx, Form::Search { store: false }))
};

/// GEOSEARCHSTORE destination source [FROMMEMBER member | FROMLONLAT longitude latitude]
/// BYRADIUS radius M|KM|FT|MI | BYBOX width height M|KM|FT|MI | BYPOLYGON num-vertices longitude latitude ...
/// [ASC | DESC] [COUNT count [ANY]] [STOREDIST]
const GEOSEARCHSTORE: Command<Handler> = Command {
    name: "geosearchstore",
    arity: Arity::AtLeast(8),
    flags: Flags::of(&[Flag::Write, Flag::Denyoom]),
    keys: &[KeySpec::at(1, &[Key::Ow, Key::Update]), KeySpec::at(2, &[Key::Ro, Key::Access])],
    docs: &Docs {
        summary: "Stores the members of a geospatial index in a circle, a box or a polygon.",
        arguments: &[
            Arg::key("destination", 0),
            Arg::key("source", 1),
            FROM,
            BY,
            ORDER,
            COUNT,
            Arg::pure_token("storedist", "STOREDIST").optional(),
        ],
        ..*GEOSEARCH.docs
    },
    handler: Some(|ctx| search(ctx, Form::Search { store: true })),
    ..GEOSEARCH
};

fn search(ctx: &mut Ctx<'_>, form: Form) -> CmdResult {
    let source = ctx.key(if form == (Form::Search { store: true }) { 2 } else { 1 });
    let limits = ctx.store.limits.clone();
    let set = ctx.store.read_zset(source).map_err(wrong_type)?;
    let query = Query::parse(ctx.argv, form, set)?;
    let found = set.map_or_else(Vec::new, |set| query.run(set));
    let Some(destination) = query.destination else {
        query.reply(&mut ctx.reply, &found);
        return Ok(());
    };
    let count = found.len();
    let result = (count > 0).then(|| {
        let unit_m = query.unit_m;
        let score =
            |found: &Found<'_>| if query.store_distance { found.distance_m / unit_m } else { found.score };
        let mut members: Vec<_> = found.iter().map(|found| (found.member, score(found))).collect();
        members.sort_unstable_by(|a, b| compare(*a, *b));
        ZSet::from_sorted(&members, &limits)
    });
    let key = DbKey::new(destination);
    match result {
        Some(set) => {
            ctx.store.put(key, Object::ZSet(set));
            ctx.store.modified_times(destination, count);
            let is_search = matches!(form, Form::Search { .. });
            let event = if is_search { "geosearchstore" } else { "georadiusstore" };
            ctx.store.notify(Event::ZSET, event, destination);
        }
        None => {
            if ctx.store.delete_quietly(key, false) {
                ctx.store.modified(destination);
                ctx.store.notify(Event::GENERIC, "del", destination);
            }
        }
    }
    ctx.reply.int(count as i64);
    Ok(())
}

impl<'k> Query<'k> {
    /// Reads everything after the key. Errors come in the order in which the arguments stand.
    fn parse(argv: Args<'k>, form: Form, set: Option<ZSetRef<'_>>) -> Result<Query<'k>, CommandError> {
        let mut query = Query {
            centre: Point::default(),
            shape: Shape::Circle { radius: 0.0 },
            unit_m: 1.0,
            with_distance: false,
            with_hash: false,
            with_point: false,
            order: None,
            count: 0,
            any: false,
            destination: None,
            store_distance: false,
        };
        let (is_search, stores) = match form {
            Form::Radius { by_member, .. } => {
                if by_member {
                    query.centre_on_member(set, argv.at(2))?;
                } else {
                    query.centre = point_at(argv, 2)?;
                }
                // Without an index there is no distance to be read.
                if !by_member || set.is_some() {
                    query.circle(argv.tail(if by_member { 3 } else { 4 }))?;
                }
                (false, false)
            }
            Form::Search { store } => (true, store),
        };
        let first = match form {
            Form::Radius { by_member: false, .. } => 6,
            Form::Radius { by_member: true, .. } => 5,
            Form::Search { store } => 2 + usize::from(store),
        };
        if stores {
            query.destination = Some(argv.at(1));
        }
        let old_store = matches!(form, Form::Radius { read_only: false, .. });
        let (mut from_member, mut from_point, mut by_radius, mut by_box) = (false, false, false, false);
        let mut by_polygon = false;
        let mut options = Options::new(argv, first);
        while let Some(option) = options.next() {
            let values = options.rest();
            let is = |token: &str, count: usize| values.len() >= count && is_token(option, token);
            let mut used = 0;
            if is("WITHDIST", 0) {
                query.with_distance = true;
            } else if is("WITHHASH", 0) {
                query.with_hash = true;
            } else if is("WITHCOORD", 0) {
                query.with_point = true;
            } else if is("ANY", 0) {
                query.any = true;
            } else if is("ASC", 0) {
                query.order = Some(Order::Ascending);
            } else if is("DESC", 0) {
                query.order = Some(Order::Descending);
            } else if is("COUNT", 1) {
                let count = parse_i64(values.at(0)).ok_or(CommandError::NotInteger)?;
                if count <= 0 {
                    return Err(CommandError::fixed("ERR COUNT must be > 0"));
                }
                query.count = count as usize;
                used = 1;
            } else if old_store && (is("STORE", 1) || is("STOREDIST", 1)) {
                query.destination = Some(values.at(0));
                query.store_distance = is_token(option, "STOREDIST");
                used = 1;
            } else if stores && is("STOREDIST", 0) {
                query.store_distance = true;
            } else if is_search && !from_point && !by_polygon && is("FROMMEMBER", 1) {
                query.centre_on_member(set, values.at(0))?;
                from_member = true;
                used = 1;
            } else if is_search && !from_member && !by_polygon && is("FROMLONLAT", 2) {
                query.centre = point_at(values, 0)?;
                from_point = true;
                used = 2;
            } else if is_search && !by_box && !by_polygon && is("BYRADIUS", 2) {
                query.circle(values)?;
                by_radius = true;
                used = 2;
            } else if is_search && !by_radius && !by_polygon && is("BYBOX", 3) {
                query.boxed(values)?;
                by_box = true;
                used = 3;
            } else if is_search && !(by_radius || by_box || from_member || from_point) && is("BYPOLYGON", 2) {
                used = query.polygon(values)?;
                by_polygon = true;
            } else {
                return Err(CommandError::Syntax);
            }
            for _ in 0..used {
                options.next();
            }
        }
        if query.destination.is_some() && (query.with_distance || query.with_hash || query.with_point) {
            return Err(CommandError::fixed(if is_search {
                "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            } else {
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            }));
        }
        let missing = if !is_search || by_polygon {
            None
        } else if !(from_member || from_point) {
            Some("FROMMEMBER or FROMLONLAT")
        } else if !(by_radius || by_box) {
            Some("BYRADIUS and BYBOX")
        } else {
            None
        };
        if let Some(missing) = missing {
            let text = format!("ERR exactly one of {missing} can be specified for ").into_bytes();
            return Err(CommandError::Unknown([&text, argv.at(0)].concat().into()));
        }
        if query.any && query.count == 0 {
            return Err(CommandError::fixed("ERR the ANY argument requires COUNT argument"));
        }
        // The closest ones can only be counted in order.
        if query.count > 0 && !query.any && query.order.is_none() {
            query.order = Some(Order::Ascending);
        }
        Ok(query)
    }

    fn centre_on_member(&mut self, set: Option<ZSetRef<'_>>, member: &[u8]) -> CmdResult {
        if let Some(set) = set {
            let error = CommandError::fixed("ERR could not decode requested zset member");
            self.centre = Point::of_score(set.score(member).ok_or(error)?);
        }
        Ok(())
    }

    /// `radius unit`
    fn circle(&mut self, args: Args<'_>) -> CmdResult {
        let radius = parse_f64(args.at(0)).ok_or(CommandError::fixed("ERR need numeric radius"))?;
        if radius < 0.0 {
            return Err(CommandError::fixed("ERR radius cannot be negative"));
        }
        self.unit_m = unit_m(args.at(1))?;
        self.shape = Shape::Circle { radius };
        Ok(())
    }

    /// `width height unit`
    fn boxed(&mut self, args: Args<'_>) -> CmdResult {
        let width = parse_f64(args.at(0)).ok_or(CommandError::fixed("ERR need numeric width"))?;
        let height = parse_f64(args.at(1)).ok_or(CommandError::fixed("ERR need numeric height"))?;
        if width < 0.0 || height < 0.0 {
            return Err(CommandError::fixed("ERR height or width cannot be negative"));
        }
        self.unit_m = unit_m(args.at(2))?;
        self.shape = Shape::Box { width, height };
        Ok(())
    }

    /// `count longitude latitude …`; how many arguments that are.
    fn polygon(&mut self, args: Args<'_>) -> Result<usize, CommandError> {
        let error = CommandError::fixed("ERR invalid number of vertices");
        let count = parse_i64(args.at(0)).and_then(|count| i32::try_from(count).ok()).ok_or(error)?;
        if count < 3 || (args.len() - 1) / 2 < count as usize {
            return Err(CommandError::fixed("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"));
        }
        let vertices = (0..count as usize).map(|index| point_at(args, 1 + 2 * index));
        self.shape = Shape::Polygon { vertices: vertices.collect::<Result<_, _>>()? };
        self.unit_m = 1.0;
        Ok(1 + 2 * count as usize)
    }

    /// The members of the area, in the order and number asked for.
    fn run<'s>(&self, set: ZSetRef<'s>) -> Vec<Found<'s>> {
        let search = Search::new(self.centre, self.shape.clone(), self.unit_m);
        let enough = if self.any { self.count } else { usize::MAX };
        let mut found = Vec::new();
        for range in search.ranges() {
            if found.len() >= enough {
                break;
            }
            collect(set, range, &search, enough, &mut found);
        }
        let count = if self.count == 0 { found.len() } else { self.count.min(found.len()) };
        if let Some(order) = self.order {
            let in_order = |a: &Found<'_>, b: &Found<'_>| {
                let ascending = a.distance_m.total_cmp(&b.distance_m);
                if order == Order::Descending { ascending.reverse() } else { ascending }
            };
            // Equal distances come in the order that clients of Redis see.
            if count == found.len() {
                found.sort_by(in_order);
            } else {
                partial_sort(&mut found, 0..count, in_order);
            }
        }
        found.truncate(count);
        found
    }

    fn reply(&self, reply: &mut Reply<'_>, found: &[Found<'_>]) {
        let extras =
            usize::from(self.with_distance) + usize::from(self.with_hash) + usize::from(self.with_point);
        let (mut distance, mut coordinate) = (DistanceText::default(), Vec::new());
        reply.array(found.len());
        for found in found {
            if extras > 0 {
                reply.array(1 + extras);
            }
            reply_entry(reply, found.member);
            if self.with_distance {
                distance.reply(reply, found.distance_m / self.unit_m);
            }
            if self.with_hash {
                reply.int(found.score as i64);
            }
            if self.with_point {
                reply_point(reply, &mut coordinate, found.point);
            }
        }
    }
}

/// Appends the members with scores of `range` that are in the area, until there are `enough`.
fn collect<'s>(
    set: ZSetRef<'s>,
    range: Range<u64>,
    search: &Search,
    enough: usize,
    found: &mut Vec<Found<'s>>,
) {
    let (low, high) = (range.start as f64, range.end as f64);
    let mut take = |member: Entry<'s>, score: f64| {
        let point = Point::of_score(score);
        if let Some(distance_m) = search.distance_within_m(point) {
            found.push(Found { member, score, point, distance_m });
        }
        found.len() < enough
    };
    match set {
        ZSet::Listpack(_) => {
            let members = set.members().skip_while(|(_, score)| *score < low);
            let _ = members.take_while(|(_, score)| *score < high).all(|(member, score)| take(member, score));
        }
        ZSet::Ordered(ordered) => {
            let ranks = ordered.rank_of_score(low, false)..ordered.len();
            let members = ordered.range(ranks).take_while(|(_, score)| *score < high);
            let _ = { members }.all(|(member, score)| take(Entry::Str(member), score));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Harness;

    fn sicily() -> Harness {
        let mut h = Harness::new();
        h.run("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania 12.758489 38.788135 edge1 17.241510 38.788135 edge2");
        h.propagated();
        h
    }

    #[test]
    fn circles_and_boxes() {
        let mut h = sicily();
        assert_eq!(
            h.run("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC"),
            r"*2\r\n$7\r\nCatania\r\n$7\r\nPalermo\r\n"
        );
        assert_eq!(
            h.run("GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km DESC WITHDIST COUNT 1"),
            r"*1\r\n*2\r\n$5\r\nedge1\r\n$8\r\n279.7405\r\n"
        );
        assert_eq!(
            h.run("GEORADIUS g 15 37 200 KM WITHHASH WITHCOORD COUNT 1"),
            r"*1\r\n*3\r\n$7\r\nCatania\r\n:3479447370796909\r\n*2\r\n$20\r\n15.08726745843887329\r\n$20\r\n37.50266842333162032\r\n"
        );
        assert_eq!(h.run("GEORADIUSBYMEMBER_RO g Catania 1 m"), r"*1\r\n$7\r\nCatania\r\n");
        assert_eq!(h.run("GEORADIUSBYMEMBER none x what where"), r"*0\r\n");
    }

    /// As valkey 9.1.2 answers.
    #[test]
    fn polygons() {
        let mut h = sicily();
        assert_eq!(
            h.run("GEOSEARCH g BYPOLYGON 4 12 37 16 37 16 39 12 39 WITHDIST ASC COUNT 2"),
            r"*2\r\n*2\r\n$7\r\nPalermo\r\n$10\r\n56987.4933\r\n*2\r\n$7\r\nCatania\r\n$11\r\n111411.0839\r\n"
        );
        for (shape, error) in [
            ("2 12 37 16 37", "GEOSEARCH BYPOLYGON must have at least 3 vertices"),
            ("5 12 37 16 37 12 1", "GEOSEARCH BYPOLYGON must have at least 3 vertices"),
            ("x 12 37 16 37 12 1", "invalid number of vertices"),
            ("3 12 37 16 37 12 1 FROMLONLAT 1 1", "syntax error"),
            ("3 12 37 16 37 12 x", "value is not a valid float"),
        ] {
            assert_eq!(h.run(&format!("GEOSEARCH g BYPOLYGON {shape}")), format!(r"-ERR {error}\r\n"));
        }
        assert_eq!(
            h.run("GEOSEARCH g FROMLONLAT 1 1 BYPOLYGON 3 12 37 16 37 12 1"),
            r"-ERR syntax error\r\n"
        );
    }

    #[test]
    fn results_are_stored() {
        let mut h = sicily();
        assert_eq!(h.run("GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km"), r":2\r\n");
        assert_eq!(h.run("ZSCORE d Palermo"), r"$16\r\n3479099956230698\r\n");
        assert_eq!(h.run("GEORADIUS g 15 37 200 km STOREDIST d"), r":2\r\n");
        assert_eq!(h.run("ZRANGE d 0 -1"), r"*2\r\n$7\r\nCatania\r\n$7\r\nPalermo\r\n");
        let names =
            |h: &mut Harness, line: &str| h.events(line).iter().map(|event| event.name).collect::<Vec<_>>();
        assert_eq!(names(&mut h, "GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 1 km"), ["del"]);
        assert_eq!(names(&mut h, "GEOSEARCHSTORE d none FROMMEMBER x BYRADIUS 1 km"), ["keymiss"]);
        assert_eq!(names(&mut h, "GEORADIUS g 15 37 200 km STORE d"), ["new", "georadiusstore"]);
        assert_eq!(
            h.propagated(),
            [
                "GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km",
                "GEORADIUS g 15 37 200 km STOREDIST d",
                "GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 1 km",
                "GEORADIUS g 15 37 200 km STORE d",
            ]
        );
        // The source may be the destination.
        assert_eq!(h.run("GEOSEARCHSTORE g g FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST"), r":2\r\n");
        assert_eq!(h.run("ZCARD g"), r":2\r\n");
    }

    #[test]
    fn errors() {
        let mut h = sicily();
        for (line, error) in [
            (
                "GEORADIUS g 15 37 200 km WITHDIST STORE d",
                "STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ),
            (
                "GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 1 m WITHDIST",
                "GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ),
            (
                "geoSearch g BYRADIUS 1 m ASC WITHDIST",
                "exactly one of FROMMEMBER or FROMLONLAT can be specified for geoSearch",
            ),
            (
                "GEOSEARCH g FROMLONLAT 15 37 ASC DESC",
                "exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH",
            ),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 m ANY", "the ANY argument requires COUNT argument"),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 m COUNT 0", "COUNT must be > 0"),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 m BYBOX 1 1 m", "syntax error"),
            (
                "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 1 leagues",
                "unsupported unit provided. please use M, KM, FT, MI",
            ),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS -1 m", "radius cannot be negative"),
            ("GEOSEARCH g FROMLONLAT 15 37 BYBOX x 1 m", "need numeric width"),
            ("GEOSEARCH g FROMLONLAT 15 37 BYBOX 1 -1 m", "height or width cannot be negative"),
            ("GEOSEARCH g FROMMEMBER nobody BYRADIUS 1 m", "could not decode requested zset member"),
            ("GEORADIUS_RO g 15 37 200 km STORE d", "syntax error"),
            ("GEORADIUS g 15 37 x km", "need numeric radius"),
        ] {
            assert_eq!(h.run(line), format!(r"-ERR {error}\r\n"), "{line}");
        }
        assert_eq!(h.propagated(), Vec::<String>::new());
    }
}

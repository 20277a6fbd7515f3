//! From the decoder's events to a value, piece by piece, so that a huge collection loads in slices.

use std::sync::Arc;

use keyspace::entry::{new_object, new_str};
use keyspace::object::Malformed;
use keyspace::reuse;
use keyspace::stream::StreamLoad;
use keyspace::stream::load::History;
use keyspace::{EncodingLimits, Entry, Hash, List, Object, Set, StreamId, ZSet};
use rdb::{Event, Form, Kind, NodeForm, StrRef};
use structures::listpack::Listpack;
use structures::number::{IntText, parse_f64, parse_i64};

/// Room made for what a collection claims to hold, at most: the claim comes from outside.
const RESERVE_MAX: u64 = 1 << 16;

const DUPLICATE_MEMBER: Malformed = Malformed("Duplicate set members detected");
const DUPLICATE_SCORED: Malformed = Malformed("Duplicate zset fields detected");
const DUPLICATE_FIELD: Malformed = Malformed("Duplicate hash fields detected");
const BROKEN_NODE: Malformed = Malformed("Ziplist integrity check failed.");
const BROKEN_LIST: Malformed = Malformed("List ziplist integrity check failed.");
const BROKEN_ZSET: Malformed = Malformed("Zset ziplist integrity check failed.");
const BROKEN_HASH: Malformed = Malformed("Hash ziplist integrity check failed.");
const BROKEN_ZIPMAP: Malformed = Malformed("Zipmap integrity check failed.");
const OUT_OF_ORDER: Malformed = Malformed("Value parts of another type than the value's");

/// A value that is being read.
pub(crate) struct ValueBuilder {
    kind: Kind,
    part: Part,
}

enum Part {
    Start,
    /// A long string.
    Text(Vec<u8>),
    Object(Object),
    Stream(Box<StreamLoad>),
}

/// A value that is complete.
pub(crate) enum Built<'a> {
    Str(StrRef<'a>),
    Object(Object),
}

impl Built<'_> {
    /// Redis leaves such keys out when it loads, and refuses to restore them.
    pub fn is_empty_collection(&self) -> bool {
        match self {
            Built::Str(_) | Built::Object(Object::Str(_)) => false,
            Built::Object(Object::List(list)) => list.is_empty(),
            Built::Object(Object::Set(set)) => set.is_empty(),
            Built::Object(Object::Hash(hash)) => hash.is_empty(),
            Built::Object(Object::ZSet(zset)) => zset.is_empty(),
            // An empty stream has its counters and groups.
            Built::Object(Object::Stream(_)) => false,
        }
    }

    pub fn into_entry(self, key: &[u8], expire_at_ms: Option<i64>) -> Entry {
        match self {
            Built::Str(StrRef::Bytes(text)) => new_str(key, text, expire_at_ms),
            Built::Str(StrRef::Int(value)) => Entry::new_int(key, value, expire_at_ms),
            Built::Object(object) => new_object(key, object, expire_at_ms),
        }
    }
}

impl ValueBuilder {
    pub fn new() -> ValueBuilder {
        ValueBuilder { kind: Kind::String, part: Part::Start }
    }

    /// A value of this kind follows.
    pub fn begin(&mut self, kind: Kind) {
        self.kind = kind;
        self.part = Part::Start;
    }

    /// Whether the value is made of elements of which [`keyspace::reuse`] may find some in an old one.
    #[inline]
    pub fn is_reusing(&self) -> bool {
        matches!(self.part, Part::Object(Object::Set(_) | Object::Hash(_) | Object::ZSet(_)))
    }

    /// Takes the next event of the value; `None` until it is complete. `old` is the collection, if one is there, that
    /// this one replaces: what the two have in common is stored once.
    #[inline]
    pub fn take<'a>(
        &mut self,
        event: Event<'a>,
        limits: &EncodingLimits,
        old: Option<&mut Object>,
    ) -> Result<Option<Built<'a>>, Malformed> {
        match event {
            Event::Str(text) => Ok(Some(Built::Str(text))),
            Event::Blob { form, bytes } => {
                let object = self.blob(form, bytes, limits)?;
                Ok(Some(Built::Object(object)))
            }
            event => self.piece(event, limits, old).map(|object| object.map(Built::Object)),
        }
    }

    fn piece(
        &mut self,
        event: Event<'_>,
        limits: &EncodingLimits,
        old: Option<&mut Object>,
    ) -> Result<Option<Object>, Malformed> {
        if let (Part::Object(object), Some(old)) = (&mut self.part, old) {
            match event {
                Event::Element(_) | Event::ScoredElement { .. } | Event::Field { .. } => {
                    return load_beside(object, event, limits, old).map(|()| None);
                }
                _ => {}
            }
        }
        match (&mut self.part, event) {
            (Part::Start, Event::StrPart { bytes, left }) => return Ok(self.text(bytes.to_vec(), left)),
            (Part::Text(text), Event::StrPart { bytes, left }) => {
                let mut text = std::mem::take(text);
                text.extend_from_slice(bytes);
                return Ok(self.text(text, left));
            }
            (Part::Start, Event::Begin { .. }) if self.kind == Kind::Stream => {
                self.part = Part::Stream(Box::default());
            }
            (Part::Stream(_), Event::End) => {
                let Part::Stream(load) = std::mem::replace(&mut self.part, Part::Start) else {
                    unreachable!("it was just matched")
                };
                return Ok(Some(Object::Stream(Box::new(load.finish()?))));
            }
            (Part::Stream(load), event) => stream_piece(load, event)?,
            (Part::Start, Event::Begin { count }) => {
                self.part = Part::Object(empty(self.kind, count, limits)?);
            }
            (
                Part::Object(object),
                event @ (Event::Element(_) | Event::ScoredElement { .. } | Event::Field { .. }),
            ) => load_element(object, event, limits)?,
            (Part::Object(Object::List(list)), Event::QuicklistNode { form, bytes }) => match form {
                NodeForm::Plain => list.load_plain(bytes.to_vec()),
                NodeForm::Packed => list.load_packed(bytes.to_vec())?,
                NodeForm::Ziplist => ziplist_into_list(bytes, list, BROKEN_NODE)?,
            },
            (Part::Object(_), Event::End) => {
                let Part::Object(mut object) = std::mem::replace(&mut self.part, Part::Start) else {
                    unreachable!("it was just matched")
                };
                if let Object::ZSet(zset) = &mut object {
                    zset.finish_load(limits);
                }
                return Ok(Some(object));
            }
            _ => return Err(OUT_OF_ORDER),
        }
        Ok(None)
    }

    fn text(&mut self, text: Vec<u8>, left: u64) -> Option<Object> {
        if left == 0 {
            self.part = Part::Start;
            return Some(Object::Str(Arc::new(text)));
        }
        self.part = Part::Text(text);
        None
    }

    fn blob(&mut self, form: Form, bytes: &[u8], limits: &EncodingLimits) -> Result<Object, Malformed> {
        Ok(match (form, self.kind) {
            (Form::Intset, Kind::Set) => Object::Set(Set::load_intset(bytes.to_vec(), limits)?),
            (Form::Listpack, Kind::Set) => Object::Set(Set::load_listpack(bytes.to_vec(), limits)?),
            (Form::Listpack, Kind::Hash) => Object::Hash(Hash::load_listpack(bytes.to_vec(), limits)?),
            (Form::Listpack, Kind::SortedSet) => Object::ZSet(ZSet::load_listpack(bytes.to_vec(), limits)?),
            (Form::ListpackTtl, Kind::Hash) => Object::Hash(self.ttl_listpack(bytes, limits)?),
            (Form::Zipmap, Kind::Hash) => Object::Hash(zipmap(bytes, limits)?),
            (Form::Ziplist, Kind::Hash) => Object::Hash(ziplist_hash(bytes, limits)?),
            (Form::Ziplist, Kind::SortedSet) => Object::ZSet(ziplist_zset(bytes, limits)?),
            (Form::Ziplist, Kind::List) => {
                let mut list = List::new(limits.list_fill);
                ziplist_into_list(bytes, &mut list, BROKEN_LIST)?;
                Object::List(list)
            }
            _ => return Err(OUT_OF_ORDER),
        })
    }

    /// Field, value, expiry or 0, and so on.
    fn ttl_listpack(&mut self, bytes: &[u8], limits: &EncodingLimits) -> Result<Hash, Malformed> {
        const BROKEN: Malformed = Malformed("Hash listpackex integrity check failed.");
        let pack = Listpack::from_vec_validated(bytes.to_vec(), true).map_err(|_| BROKEN)?;
        if pack.len() % 3 != 0 {
            return Err(BROKEN);
        }
        let mut hash = Hash::with_capacity(pack.len() / 3, limits);
        let mut entries = pack.iter();
        while let (Some(name), Some(value), Some(at)) = (entries.next(), entries.next(), entries.next()) {
            // What is beyond could not be dumped again.
            let beyond = rdb::decode::FIELD_EXPIRE_MAX as i64 + 1;
            let at = at.as_i64().filter(|at| (0..beyond).contains(at)).ok_or(BROKEN)?;
            let at = (at > 0).then_some(at);
            check(hash.load_field(&name.to_vec(), &value.to_vec(), at, limits), BROKEN)?;
        }
        Ok(hash)
    }
}

fn empty(kind: Kind, count: u64, limits: &EncodingLimits) -> Result<Object, Malformed> {
    let count = count.min(RESERVE_MAX) as usize;
    Ok(match kind {
        Kind::List => Object::List(List::new(limits.list_fill)),
        Kind::Set => Object::Set(Set::with_capacity(count, limits)),
        Kind::Hash => Object::Hash(Hash::with_capacity(count, limits)),
        Kind::SortedSet => Object::ZSet(ZSet::with_capacity(count, limits)),
        Kind::String | Kind::Stream => return Err(OUT_OF_ORDER),
    })
}

/// Adds an element of a collection.
#[inline]
fn load_element(object: &mut Object, event: Event<'_>, limits: &EncodingLimits) -> Result<(), Malformed> {
    match (object, event) {
        (Object::List(list), Event::Element(element)) => {
            list.push_back(element);
            Ok(())
        }
        (Object::Set(set), Event::Element(member)) => {
            check(set.load_member(member, limits), DUPLICATE_MEMBER)
        }
        (Object::ZSet(zset), Event::ScoredElement { member, score }) => {
            check(zset.load_member(member, score, limits), DUPLICATE_SCORED)
        }
        (Object::Hash(hash), Event::Field { name, value, expire_at_ms }) => {
            check(hash.load_field(name, value, expire_at_ms, limits), DUPLICATE_FIELD)
        }
        _ => Err(OUT_OF_ORDER),
    }
}

/// As [`load_element`], beside the collection that is going to be replaced.
fn load_beside(
    object: &mut Object,
    event: Event<'_>,
    limits: &EncodingLimits,
    old: &mut Object,
) -> Result<(), Malformed> {
    let was_table = is_table(object);
    let reused = match (&mut *object, &event) {
        (Object::Set(set), Event::Element(member)) => reuse::member(set, member, old),
        (Object::ZSet(zset), Event::ScoredElement { member, score }) => {
            reuse::scored(zset, member, *score, old)
        }
        (Object::Hash(hash), Event::Field { name, value, expire_at_ms }) => {
            reuse::field(hash, name, value, *expire_at_ms, limits, old)
        }
        _ => false,
    };
    if reused {
        return Ok(());
    }
    load_element(object, event, limits)?;
    if !was_table && is_table(object) {
        // What lay in the listpack is in the table now, too.
        reuse::parts(object, old);
    }
    Ok(())
}

fn is_table(object: &Object) -> bool {
    matches!(object, Object::Set(Set::Table(_)) | Object::Hash(Hash::Table(_)))
}

fn stream_piece(load: &mut StreamLoad, event: Event<'_>) -> Result<(), Malformed> {
    let entry = |(ms, seq): rdb::EntryId| StreamId { ms, seq };
    match event {
        Event::StreamNode { id, bytes } => load.node(entry(id), bytes.to_vec()),
        Event::StreamCounters { length, last_id, history } => {
            let history = history.map_or(History::Unknown, |history| History::Known {
                first_id: entry(history.first_id),
                max_deleted_id: entry(history.max_deleted_id),
                entries_added: history.entries_added,
            });
            load.counters(length, entry(last_id), history)
        }
        Event::Group { name, last_id, entries_read } => {
            // -1 stands for what is not known.
            load.group(name, entry(last_id), entries_read.map(|read| u64::try_from(read).ok()))
        }
        Event::Pending { id, delivered_ms, deliveries } => load.pending(entry(id), delivered_ms, deliveries),
        Event::Consumer { name, seen_ms, active_ms } => load.consumer(name, seen_ms, active_ms),
        Event::Owned(id) => load.owned(entry(id)),
        _ => Err(OUT_OF_ORDER),
    }
}

fn check(fine: bool, otherwise: Malformed) -> Result<(), Malformed> {
    if fine { Ok(()) } else { Err(otherwise) }
}

/// The entries of a ziplist as text; `broken` if it is not well formed.
fn ziplist(
    bytes: &[u8],
    broken: Malformed,
    mut visit: impl FnMut(&[u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut scratch = IntText::new();
    for entry in rdb::ziplist::entries(bytes) {
        match entry.map_err(|_| broken)? {
            rdb::Entry::Str(text) => visit(text)?,
            rdb::Entry::Int(value) => visit(scratch.format(value))?,
        }
    }
    Ok(())
}

/// The entries of a ziplist, two by two.
fn ziplist_pairs(
    bytes: &[u8],
    broken: Malformed,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut first: Option<Vec<u8>> = None;
    ziplist(bytes, broken, |text| match first.take() {
        None => {
            first = Some(text.to_vec());
            Ok(())
        }
        Some(before) => visit(&before, text),
    })?;
    check(first.is_none(), broken)
}

fn ziplist_into_list(bytes: &[u8], list: &mut List, broken: Malformed) -> Result<(), Malformed> {
    ziplist(bytes, broken, |element| {
        list.push_back(element);
        Ok(())
    })
}

fn ziplist_hash(bytes: &[u8], limits: &EncodingLimits) -> Result<Hash, Malformed> {
    let mut hash = Hash::with_capacity(0, limits);
    ziplist_pairs(bytes, BROKEN_HASH, |name, value| {
        check(hash.load_field(name, value, None, limits), BROKEN_HASH)
    })?;
    Ok(hash)
}

fn ziplist_zset(bytes: &[u8], limits: &EncodingLimits) -> Result<ZSet, Malformed> {
    let mut zset = ZSet::with_capacity(0, limits);
    ziplist_pairs(bytes, BROKEN_ZSET, |member, score| {
        let score = parse_i64(score).map(|score| score as f64).or_else(|| parse_f64(score));
        let score = score.filter(|score| !score.is_nan()).ok_or(BROKEN_ZSET)?;
        check(zset.load_member(member, score, limits), BROKEN_ZSET)
    })?;
    zset.finish_load(limits);
    Ok(zset)
}

fn zipmap(bytes: &[u8], limits: &EncodingLimits) -> Result<Hash, Malformed> {
    let mut hash = Hash::with_capacity(0, limits);
    for field in rdb::zipmap::fields(bytes) {
        let (name, value) = field.map_err(|_| BROKEN_ZIPMAP)?;
        check(hash.load_field(name, value, None, limits), BROKEN_ZIPMAP)?;
    }
    // Other empty collections are left out when a file is loaded; this one is refused, as in Redis.
    check(!hash.is_empty(), BROKEN_ZIPMAP)?;
    Ok(hash)
}

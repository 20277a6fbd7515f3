//! What a data set that arrives has in common with the one that is there: stored once.
//!
//! While a replica loads a snapshot beside the data that it serves, nearly all of what comes is usually there already.
//! An entry that is equal to the one of the same name becomes its [twin](structures::record::Record::twin); a long
//! string shares its buffer, as replies do; and of a set, hash or sorted set that is a table, each member or field that is
//! equal becomes a twin, one at a time as they are read, so that a huge collection is neither compared at once nor needs
//! to be equal as a whole. Lists of several nodes and streams are stored again: a node would need a count of its own.
//!
//! *Equal* means: the same value in the same form under the same name with the same expiry. The order in which a small set
//! or hash lies is no difference: it is that of the stream here, and that of a snapshot's hash table there (redis 7.0).
//! Access clocks are not compared: twins have one, the old data's.
//!
//! Neither data set can tell: whatever changes an entry copies it first, so a writable replica, a snapshot of the old
//! data that is still being taken, and a load that is given up need no word about it.

use std::sync::Arc;

use structures::listpack;
use structures::record::ValueRef;

use crate::entry::{Entry, EntryExt, Value};
use crate::object::Object;
use crate::{EncodingLimits, Hash, Set, ZSet};

/// In place of `arrived`, what takes as little memory as can be since `old`, of the same name, is there; `None` if the
/// two differ, or `old` has a twin already.
pub fn entry(old: &mut Entry, arrived: &Entry) -> Option<Entry> {
    debug_assert_eq!(old.key(), arrived.key(), "entries are compared under one name");
    if old.expire_at() != arrived.expire_at() {
        return None;
    }
    match (old.value(), arrived.value()) {
        (ValueRef::Bytes(a), ValueRef::Bytes(b)) if a == b && old.encoding() == arrived.encoding() => {
            old.twin()
        }
        (ValueRef::Int(a), ValueRef::Int(b)) if a == b => old.twin(),
        (ValueRef::Packed(form, a), ValueRef::Packed(other, b))
            if form == other && (a == b || a.len() == b.len() && same_elements(old, arrived)) =>
        {
            old.twin()
        }
        (ValueRef::Payload(Object::Str(a)), ValueRef::Payload(Object::Str(b))) if a == b => {
            let same = Entry::new_payload(arrived.key(), Object::Str(Arc::clone(a)), arrived.expire_at());
            same.set_clock(arrived.clock());
            Some(same)
        }
        _ => None,
    }
}

/// Whether two small sets or hashes are equal but for the order of their elements. Each has at most some hundred elements,
/// and two that differ are seen to at the first that one lacks.
fn same_elements(old: &Entry, arrived: &Entry) -> bool {
    match (old.content(), arrived.content()) {
        (Value::Set(old), Value::Set(arrived)) => {
            old.len() == arrived.len() && arrived.iter().all(|member| old.contains_entry(member))
        }
        (Value::Hash(old), Value::Hash(arrived)) => {
            let mut name = Vec::new();
            let mut is_there = |(field, value): (listpack::Entry<'_>, listpack::Entry<'_>)| {
                name.clear();
                field.push_to(&mut name);
                old.get(&name, i64::MIN) == Some(value)
            };
            old.len() == arrived.len() && arrived.iter(i64::MIN).all(&mut is_there)
        }
        _ => false,
    }
}

/// Adds a loaded member to `set` as the twin of `old`'s; false if that was not possible and nothing was done.
pub fn member(set: &mut Set, member: &[u8], old: &mut Object) -> bool {
    if let Object::Set(old) = old { set.reuse_member(member, old) } else { false }
}

/// As [`member`], for a member of a sorted set.
pub fn scored(zset: &mut ZSet, member: &[u8], score: f64, old: &mut Object) -> bool {
    if let Object::ZSet(old) = old { zset.reuse_member(member, score, old) } else { false }
}

/// As [`member`], for a field of a hash.
pub fn field(
    hash: &mut Hash,
    name: &[u8],
    value: &[u8],
    expire_at_ms: Option<i64>,
    limits: &EncodingLimits,
    old: &mut Object,
) -> bool {
    if let Object::Hash(old) = old { hash.reuse_field(name, value, expire_at_ms, limits, old) } else { false }
}

/// A collection that was small has become a table while it was loaded: makes what `old` has, too, twins of that.
pub fn parts(object: &mut Object, old: &mut Object) {
    match (object, old) {
        (Object::Set(set), Object::Set(old)) => set.reuse_members(old),
        (Object::Hash(hash), Object::Hash(old)) => hash.reuse_fields(old),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use structures::hash::hash;

    use super::*;
    use crate::db::{Db, ExpireChange, Key};
    use crate::entry::{INLINE_MAX, new_object, new_raw_str, new_str};
    use crate::snapshot::Batch;
    use crate::zset::AddRule;
    use crate::{FieldExpiry, List, Touch};

    const KEY: &[u8] = b"a key of 14 by";

    fn limits() -> EncodingLimits {
        EncodingLimits::default()
    }

    fn set_of(members: std::ops::Range<usize>) -> Set {
        let mut set = Set::for_result();
        for n in members {
            set.add(format!("member {n}").as_bytes(), &limits());
        }
        set
    }

    fn hash_of(fields: std::ops::Range<usize>) -> Hash {
        let mut hash = Hash::new();
        for n in fields {
            let value = vec![n as u8; 100];
            hash.set(format!("field {n}").as_bytes(), &value, FieldExpiry::Clear, &limits());
        }
        hash
    }

    #[test]
    fn equal_entries_become_twins_and_others_do_not() {
        let mut list = List::new(-2);
        list.push_back(b"element");
        let small = |expire| new_object(KEY, Object::Set(set_of(0..5)), expire);
        let list = || new_object(KEY, Object::List(list.duplicate()), None);
        for make in
            [&|| new_str(KEY, b"text", None), &|| new_str(KEY, b"17", Some(3)), &|| small(None), &list]
                as [&dyn Fn() -> Entry; 4]
        {
            let (mut old, arrived) = (make(), make());
            old.set_clock(7);
            let same = entry(&mut old, &arrived).expect("they are equal");
            assert!(same.has_twin() && same.clock() == 7);
            assert!(entry(&mut old, &arrived).is_none(), "it has a twin");
        }
        for (mut old, arrived) in [
            (new_str(KEY, b"text", None), new_str(KEY, b"texu", None)),
            (new_str(KEY, b"text", None), new_str(KEY, b"text", Some(1))),
            (new_str(KEY, b"text", Some(2)), new_str(KEY, b"text", Some(1))),
            // `OBJECT ENCODING` would tell.
            (new_raw_str(KEY, b"text", None), new_str(KEY, b"text", None)),
            (new_raw_str(KEY, b"17", None), new_str(KEY, b"17", None)),
            (small(None), new_object(KEY, Object::Set(set_of(0..6)), None)),
            (small(None), list()),
            (small(None), new_object(KEY, Object::Set(set_of(0..500)), None)),
        ] {
            assert!(entry(&mut old, &arrived).is_none(), "{old:?} and {arrived:?}");
            assert!(!old.has_twin());
        }
    }

    #[test]
    fn the_order_of_a_small_set_or_hash_is_no_difference() {
        let set = |members: &[&str]| {
            let mut set = Set::for_result();
            for member in members {
                set.add(member.as_bytes(), &limits());
            }
            new_object(KEY, Object::Set(set), None)
        };
        let hash = |pairs: &[(&str, &str)]| {
            let mut hash = Hash::new();
            for (name, value) in pairs {
                hash.set(name.as_bytes(), value.as_bytes(), FieldExpiry::Clear, &limits());
            }
            new_object(KEY, Object::Hash(hash), None)
        };
        for (mut old, arrived, same) in [
            (set(&["a", "b", "17"]), set(&["17", "b", "a"]), true),
            (set(&["a", "b", "17"]), set(&["17", "b", "c"]), false),
            (hash(&[("a", "1"), ("2", "b")]), hash(&[("2", "b"), ("a", "1")]), true),
            (hash(&[("a", "1"), ("2", "b")]), hash(&[("2", "c"), ("a", "1")]), false),
            (hash(&[("a", "x"), ("b", "y")]), hash(&[("b", "x"), ("a", "y")]), false),
        ] {
            assert_eq!(entry(&mut old, &arrived).is_some(), same, "{old:?} and {arrived:?}");
        }
    }

    #[test]
    fn long_strings_share_their_buffer() {
        let text = vec![1; INLINE_MAX + 1];
        let (mut old, arrived) = (new_str(KEY, &text, Some(5)), new_str(KEY, &text, Some(5)));
        let mut same = entry(&mut old, &arrived).expect("they are equal");
        drop(arrived);
        let shared = |entry: &Entry| matches!(entry.as_str(), Ok(crate::Str::Shared(text)) if Arc::strong_count(text) == 2);
        assert!(shared(&old) && shared(&same));
        same.edit_bytes(0, |bytes| bytes[0] = 2).unwrap();
        assert_eq!(old.as_str().unwrap().to_vec(), text);
        assert!(same.as_str().unwrap().to_vec() != text && same.expire_at() == Some(5));
    }

    #[test]
    fn tables_share_what_is_equal_in_them() {
        let (mut old, mut new) = (set_of(0..1000), Set::with_capacity(1000, &limits()));
        for n in 100..1100 {
            let text = format!("member {n}");
            let reused = new.reuse_member(text.as_bytes(), &mut old);
            assert_eq!(reused, n < 1000);
            assert!(reused || new.load_member(text.as_bytes(), &limits()));
        }
        // One that comes twice is left to `load_member`, which refuses it.
        assert!(!new.reuse_member(b"member 500", &mut old) && !new.load_member(b"member 500", &limits()));
        assert!(new.remove(b"member 500"));
        assert_eq!((new.len(), old.len(), old.contains(b"member 500")), (999, 1000, true));
        drop(old);
        assert!(new.contains(b"member 400") && !new.contains(b"member 500"));

        let (mut old, mut new) = (hash_of(0..1000), Hash::with_capacity(1000, &limits()));
        assert!(old.set_expire(b"field 3", Some(77)) && old.set_expire(b"field 4", Some(77)));
        for n in 0..1000_usize {
            let name = format!("field {n}");
            let value = vec![if n == 5 { 0 } else { n as u8 }; 100];
            let expire = (n == 3 || n == 6).then_some(77);
            let reused = new.reuse_field(name.as_bytes(), &value, expire, &limits(), &mut old);
            assert_eq!(reused, !matches!(n, 4..=6), "{n}");
            assert!(reused || new.load_field(name.as_bytes(), &value, expire, &limits()));
        }
        assert_eq!((new.len(), new.soonest_ms(), new.live_len(78)), (1000, Some(77), 998));
        assert!(!new.set(b"field 9", b"other", FieldExpiry::Clear, &limits()));
        assert!(new.set_expire(b"field 10", Some(3)));
        assert_eq!(old.get(b"field 9", 0).unwrap().to_vec(), [9; 100]);
        assert_eq!(old.expire_at(b"field 10"), None);
    }

    #[test]
    fn sorted_sets_share_members_with_the_same_score() {
        let make = || ZSet::with_capacity(1000, &limits());
        let (mut old, mut new) = (make(), make());
        for n in (0..1000).rev() {
            assert!(old.load_member(format!("member {n}").as_bytes(), f64::from(n), &limits()));
        }
        let mut old = Object::ZSet(old);
        for n in (0..1000).rev() {
            let (member, score) = (format!("member {n}"), if n == 5 { 0.5 } else { f64::from(n) });
            let reused = scored(&mut new, member.as_bytes(), score, &mut old);
            assert_eq!(reused, n != 5);
            assert!(reused || new.load_member(member.as_bytes(), score, &limits()));
        }
        assert!(
            !scored(&mut new, b"member 9", 9.0, &mut old) && !new.load_member(b"member 9", 9.0, &limits())
        );
        // One moves, one only gets another score.
        for (n, score) in [(7, 2000.0), (8, 8.25)] {
            new.add(format!("member {n}").as_bytes(), score, AddRule::default(), &limits());
        }
        let Object::ZSet(old) = old else { panic!("a sorted set") };
        assert_eq!(
            (old.score(b"member 7"), old.score(b"member 8"), old.score(b"member 5")),
            (Some(7.0), Some(8.0), Some(5.0))
        );
        drop(old);
        assert_eq!(
            (new.score(b"member 7"), new.score(b"member 8"), new.score(b"member 5")),
            (Some(2000.0), Some(8.25), Some(0.5))
        );
    }

    #[test]
    fn a_small_collection_that_becomes_a_table_shares_as_well() {
        let (old, new) = (hash_of(0..20), hash_of(0..20));
        assert_eq!(new.encoding(), "hashtable");
        let (mut old, mut new) = (Object::Hash(old), Object::Hash(new));
        parts(&mut new, &mut old);
        let Object::Hash(Hash::Table(fields)) = &new else { panic!("a table") };
        assert!(fields.iter().all(structures::record::Record::has_twin));
        let (mut old, mut new) = (Object::Set(set_of(0..300)), Object::Set(set_of(1..301)));
        parts(&mut new, &mut old);
        let Object::Set(Set::Table(members)) = &new else { panic!("a table") };
        assert_eq!(members.iter().filter(|member| member.has_twin()).count(), 299);
        // Of different types: nothing happens.
        parts(&mut new, &mut Object::Hash(hash_of(0..20)));
    }

    #[test]
    fn a_collection_that_is_being_copied_in_parts_is_shared_without_being_copied_at_once() {
        let mut old = Object::Hash(hash_of(0..3000));
        let copy = old.begin_copy();
        let mut new = Hash::with_capacity(3000, &limits());
        for n in 0..3000 {
            let (name, value) = (format!("field {n}"), vec![n as u8; 100]);
            assert!(field(&mut new, name.as_bytes(), &value, None, &limits(), &mut old));
        }
        assert_eq!(copy.copying.pending_bytes(), 0);
        assert!(!new.set(b"field 3", b"other", FieldExpiry::Clear, &limits()));
        old.copy_more(usize::MAX);
        let parts = copy.copying.take();
        assert_eq!((parts.items, parts.complete), (3000, true));
        assert!(parts.bytes.len() > 300_000 && !parts.bytes.windows(5).any(|five| five == b"other"));
    }

    /// A snapshot of the old data that is under way sees it as it was, whatever becomes of the new data meanwhile.
    #[test]
    fn a_snapshot_of_the_old_data_ends_as_it_began() {
        let (mut old, mut new, mut never) = (Db::new(), Db::new(), Db::new());
        for n in 0..200 {
            let key = format!("key {n}");
            let make = || new_str(key.as_bytes(), &[n; 60], None);
            old.insert(hash(key.as_bytes()), make());
            never.insert(hash(key.as_bytes()), make());
        }
        old.begin_walk(0, crate::large::AtOnce::default());
        never.begin_walk(0, crate::large::AtOnce::default());
        let (mut saved, mut expected) = (Batch::default(), Batch::default());
        old.step_walk(500, &mut saved);
        for n in 0..200 {
            let key = format!("key {n}");
            let twin = old.reuse(hash(key.as_bytes()), &new_str(key.as_bytes(), &[n; 60], None));
            new.insert(hash(key.as_bytes()), twin.expect("they are equal"));
        }
        let mut contents = old.detach();
        for n in 0..200 {
            let key = format!("key {n}");
            new.set_str(Key::new(key.as_bytes()), &[0; 60], ExpireChange::Clear, 1, Touch::Lru(1));
        }
        while !contents.step_walk(500, &mut saved) {}
        while !never.step_walk(500, &mut expected) {}
        let items = |batch: &Batch| {
            let mut items: Vec<String> = batch.items().map(|item| format!("{item:?}")).collect();
            items.sort();
            items
        };
        assert_eq!(items(&saved), items(&expected));
        drop(contents);
        assert_eq!(new.peek(Key::new(b"key 7")).unwrap().as_str().unwrap().to_vec(), [0; 60]);
    }
}

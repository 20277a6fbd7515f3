//! A fingerprint of a data set: equal digests mean equal data, in this server and in others.
//!
//! The algorithm is that of Redis's `DEBUG DIGEST`. Elements of what has no order are combined by exclusive or,
//! elements of what has one are mixed: `digest = SHA1(digest ^ SHA1(data))`. Times of expiry are not part of it, only
//! that there is one. Scores are printed in their shortest form, as Redis 8 and Valkey print them; Redis 7.0 prints
//! 17 significant digits, so it agrees only where both look alike, as with integers.
//!
//! ```text
//! data set   for each database with keys: mix(u32 index, big endian), xor(key digest) …
//! key        mix(key), value
//! value      mix(u32 type, big endian), elements, xor("!!expire!!") if it has an expiry
//! string     mix(text)          list   mix(element) …          set   xor(element) …
//! zset       xor(mix(member), mix(score)) …
//! hash       xor(mix(field), mix(value), xor("!!hexpire!!") if the field has an expiry) …
//! stream     for each entry: mix("ms.seq"), mix(field), mix(value) …; groups are not part of it
//! ```

use std::fmt;

use sha1::{Digest as _, Sha1};
use structures::listpack;
use structures::number;
use structures::record::ValueRef;

use crate::entry::{Entry, EntryExt, Value};
use crate::hash::HashRef;
use crate::list::ListRef;
use crate::set::SetRef;
use crate::zset::ZSetRef;
use crate::{Db, Hash, Set, Stream, ZSet};

/// 160 bits; shown in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest([u8; 20]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The digest of all databases, which are numbered in order.
pub fn of_databases<'a>(databases: impl IntoIterator<Item = &'a Db>) -> Digest {
    let mut digest = Digest::default();
    for (index, db) in databases.into_iter().enumerate() {
        if !db.is_empty() {
            digest.mix(&(index as u32).to_be_bytes());
            for entry in db.iter() {
                let mut key = Digest::default();
                key.mix(entry.key());
                key.value(entry);
                digest.xor(&key.0);
            }
        }
    }
    digest
}

/// The digest of one key's value, as `DEBUG DIGEST-VALUE` tells it: without the key's name.
pub fn of_value(entry: &Entry) -> Digest {
    let mut digest = Digest::default();
    digest.value(entry);
    digest
}

impl Digest {
    fn xor(&mut self, data: &[u8]) {
        let hash = Sha1::digest(data);
        self.0.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
    }

    fn mix(&mut self, data: &[u8]) {
        self.xor(data);
        self.0 = Sha1::digest(self.0).into();
    }

    fn value(&mut self, entry: &Entry) {
        match entry.content() {
            Value::Stream(stream) => self.stream(stream),
            Value::Str(text) => {
                self.kind(0);
                self.mix(text.text(&mut number::IntText::new()));
            }
            Value::List(list) => self.list(list),
            Value::Set(set) => self.set(set),
            Value::ZSet(zset) => self.zset(zset),
            Value::Hash(hash) => self.hash(hash),
        }
        if entry.expire_at().is_some() {
            self.xor(b"!!expire!!");
        }
    }

    fn kind(&mut self, number: u32) {
        self.mix(&number.to_be_bytes());
    }

    fn list(&mut self, list: ListRef<'_>) {
        self.kind(1);
        let mut text = Vec::new();
        for element in list.iter() {
            self.mix(text_of(&element, &mut text));
        }
    }

    fn set(&mut self, set: SetRef<'_>) {
        self.kind(2);
        let mut text = Vec::new();
        match set {
            Set::Intset(set) => {
                set.iter().for_each(|member| self.xor(number::IntText::new().format(member)));
            }
            Set::Listpack(pack) => pack.iter().for_each(|member| self.xor(text_of(&member, &mut text))),
            Set::Table(table) => table.iter().for_each(|member| self.xor(member.key())),
        }
    }

    fn zset(&mut self, zset: ZSetRef<'_>) {
        self.kind(3);
        let mut scored = |member: &[u8], score: f64| {
            let mut element = Digest::default();
            element.mix(member);
            let mut text = Vec::new();
            // Unlike a reply, the servers' digest knows no special form for integers.
            number::push_f64_grisu(&mut text, score);
            element.mix(&text);
            self.xor(&element.0);
        };
        match zset {
            ZSet::Listpack(pack) => {
                let (mut member_text, mut score_text) = (Vec::new(), Vec::new());
                let mut entries = pack.iter();
                while let (Some(member), Some(score)) = (entries.next(), entries.next()) {
                    let score = number::parse_f64(text_of(&score, &mut score_text));
                    let score = score.expect("every second entry of a sorted set is a number");
                    scored(text_of(&member, &mut member_text), score);
                }
            }
            ZSet::Ordered(set) => set.iter().for_each(|(member, score)| scored(member, score)),
        }
    }

    fn stream(&mut self, stream: &Stream) {
        self.kind(6);
        let (mut name_text, mut value_text) = (Vec::new(), Vec::new());
        let mut entries = stream.iter();
        while let Some(at) = entries.next() {
            self.mix(format!("{}.{}", at.id.ms, at.id.seq).as_bytes());
            for _ in 0..at.fields {
                let (name, value) = entries.field();
                self.mix(text_of(&name, &mut name_text));
                self.mix(text_of(&value, &mut value_text));
            }
        }
    }

    fn hash(&mut self, hash: HashRef<'_>) {
        self.kind(4);
        let mut field = |name: &[u8], value: &[u8], expires: bool| {
            let mut element = Digest::default();
            element.mix(name);
            element.mix(value);
            if expires {
                element.xor(b"!!hexpire!!");
            }
            self.xor(&element.0);
        };
        match hash {
            Hash::Listpack(pack) => {
                let (mut name_text, mut value_text) = (Vec::new(), Vec::new());
                let mut entries = pack.iter();
                while let (Some(name), Some(value)) = (entries.next(), entries.next()) {
                    field(text_of(&name, &mut name_text), text_of(&value, &mut value_text), false);
                }
            }
            Hash::Table(table) => {
                for row in table.iter() {
                    let mut int = number::IntText::new();
                    let value: &[u8] = match row.value() {
                        ValueRef::None => b"",
                        ValueRef::Int(value) => int.format(value),
                        ValueRef::Bytes(bytes) => bytes,
                        ValueRef::Packed(..) => unreachable!("a field holds a string"),
                        ValueRef::Payload(bytes) => bytes,
                    };
                    field(row.key(), value, row.expire_at().is_some());
                }
            }
        }
    }
}

/// The bytes of an element; an integer is written into `scratch`.
fn text_of<'a>(entry: &listpack::Entry<'a>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match entry {
        listpack::Entry::Str(bytes) => bytes,
        listpack::Entry::Int(value) => {
            scratch.clear();
            number::push_i64(scratch, *value);
            scratch
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_data_set_is_all_zeros() {
        assert_eq!(of_databases([&Db::new()]).to_string(), "0".repeat(40));
    }

    #[test]
    fn scores_as_servers_print_them() {
        for (score, text) in [
            (0.0, "0"),
            (-1.5, "-1.5"),
            (10_000_000.0, "10000000"),
            (100_000_000.0, "1e+8"),
            (-123_000_000_000.0, "-1.23e+11"),
            (123_456_789.0, "123456789"),
            (1_152_921_504_606_846_976.0, "1152921504606847000"),
            (1e17, "1e+17"),
            // Grisu2's digits are not the fewest here.
            (63_050_394_783_186_944.0, "63050394783186944"),
            (0.1, "0.1"),
            (1e20, "1e+20"),
            (f64::INFINITY, "inf"),
        ] {
            let mut out = Vec::new();
            number::push_f64_grisu(&mut out, score);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}

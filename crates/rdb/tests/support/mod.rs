//! A consumer of the codec: reads a snapshot into plain collections, so that what was read can be compared,
//! whatever form it lay in.
#![allow(dead_code)] // Each test file uses a part.

use rdb::listpack::{self, Entry};
use rdb::{Checksum, DecodeOptions, Decoder, Event, Form, NodeForm, RdbError, Step, StrRef, ValueType};
use rdb::{ziplist, zipmap};
use std::collections::{BTreeMap, BTreeSet};

pub type Bytes = Vec<u8>;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Str(Bytes),
    List(Vec<Bytes>),
    Set(BTreeSet<Bytes>),
    SortedSet(BTreeMap<Bytes, f64>),
    Hash(BTreeMap<Bytes, (Bytes, Option<i64>)>),
    /// Its events, as they print.
    Stream(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub value: Value,
    pub expire_at_ms: Option<i64>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Snapshot {
    pub keys: BTreeMap<(u32, Bytes), Stored>,
    pub aux: BTreeMap<Bytes, Bytes>,
    pub functions: Vec<Bytes>,
    pub types: BTreeSet<u8>,
    pub idle: bool,
    pub freq: bool,
    pub checksum: Option<Checksum>,
    db: u32,
    open: Option<(Bytes, Stored)>,
}

impl Snapshot {
    /// Reads a file that arrives in pieces of `piece` bytes, keeping no more than was asked for.
    pub fn read(file: &[u8], piece: usize) -> Result<Snapshot, RdbError> {
        let mut decoder = Decoder::new(DecodeOptions::default());
        let mut snapshot = Snapshot::default();
        let (mut from, mut arrived) = (0, 0);
        loop {
            match decoder.next(&file[from..arrived])? {
                Step::Event { event, consumed } => {
                    assert!(consumed <= arrived - from);
                    from += consumed;
                    if snapshot.apply(event) {
                        return Ok(snapshot);
                    }
                }
                Step::NeedMore { consumed, at_least } => {
                    from += consumed;
                    assert!(at_least > arrived - from, "more than there is must be asked for");
                    if arrived == file.len() {
                        return Err(decoder.truncated());
                    }
                    arrived = (arrived + piece).min(file.len());
                }
            }
        }
    }

    /// Takes one event; true at the end.
    pub fn apply(&mut self, event: Event<'_>) -> bool {
        match event {
            Event::Header(_) | Event::ResizeDb { .. } | Event::SlotInfo { .. } | Event::ModuleAux { .. } => {}
            Event::Aux { key, value } => drop(self.aux.insert(key.into(), value.into())),
            Event::SelectDb(db) => self.db = db,
            Event::Function(code) => self.functions.push(code.into()),
            Event::Key(key) => {
                assert!(self.open.is_none());
                self.types.insert(key.value_type.tag());
                self.idle |= key.idle_s.is_some();
                self.freq |= key.freq.is_some();
                let value = match key.kind() {
                    rdb::Kind::String => Value::Str(Vec::new()),
                    rdb::Kind::List => Value::List(Vec::new()),
                    rdb::Kind::Set => Value::Set(BTreeSet::new()),
                    rdb::Kind::SortedSet => Value::SortedSet(BTreeMap::new()),
                    rdb::Kind::Hash => Value::Hash(BTreeMap::new()),
                    rdb::Kind::Stream => Value::Stream(Vec::new()),
                };
                self.open = Some((key.key.into(), Stored { value, expire_at_ms: key.expire_at_ms }));
                // A value without an end says so itself.
                assert!(ValueType::ALL.contains(&key.value_type));
            }
            Event::Str(string) => {
                let string = match string {
                    StrRef::Bytes(bytes) => bytes.to_vec(),
                    StrRef::Int(int) => int.to_string().into_bytes(),
                };
                *self.value() = Value::Str(string);
                self.close();
            }
            Event::StrPart { bytes, left } => {
                let Value::Str(string) = self.value() else { panic!("part of no string") };
                string.extend_from_slice(bytes);
                if left == 0 {
                    self.close();
                }
            }
            Event::Blob { form, bytes } => {
                self.blob(form, bytes);
                self.close();
            }
            Event::Begin { .. } => {}
            Event::Element(element) => self.element(element.into()),
            Event::ScoredElement { member, score } => self.scored(member.into(), score),
            Event::Field { name, value, expire_at_ms } => self.field(name.into(), value.into(), expire_at_ms),
            Event::QuicklistNode { form, bytes } => {
                let elements = match form {
                    NodeForm::Plain => vec![bytes.to_vec()],
                    NodeForm::Packed => listpack_entries(bytes),
                    NodeForm::Ziplist => ziplist_entries(bytes),
                };
                elements.into_iter().for_each(|element| self.element(element));
            }
            Event::StreamNode { .. }
            | Event::StreamCounters { .. }
            | Event::Group { .. }
            | Event::Pending { .. }
            | Event::Consumer { .. }
            | Event::Owned(_) => match self.value() {
                Value::Stream(events) => events.push(format!("{event:?}")),
                other => panic!("piece of a stream in {other:?}"),
            },
            Event::End => self.close(),
            Event::Eof { checksum } => {
                assert!(self.open.is_none());
                self.checksum = Some(checksum);
                return true;
            }
        }
        false
    }

    fn value(&mut self) -> &mut Value {
        &mut self.open.as_mut().expect("a value's events follow its key").1.value
    }

    fn close(&mut self) {
        let (key, stored) = self.open.take().expect("a value ends once");
        self.keys.insert((self.db, key), stored);
    }

    fn blob(&mut self, form: Form, bytes: &[u8]) {
        let entries = match form {
            Form::Ziplist => ziplist_entries(bytes),
            Form::Listpack | Form::ListpackTtl => listpack_entries(bytes),
            Form::Intset => intset_entries(bytes),
            Form::Zipmap => zipmap::fields(bytes)
                .flat_map(|field| field.map_or(vec![], |(name, value)| vec![name.to_vec(), value.to_vec()]))
                .collect(),
        };
        let width = match (&*self.value(), form) {
            (_, Form::ListpackTtl) => 3,
            (Value::Hash(_) | Value::SortedSet(_), _) => 2,
            _ => 1,
        };
        for entry in entries.chunks_exact(width) {
            match (self.value(), entry) {
                (Value::SortedSet(_), [member, score]) => {
                    let score = String::from_utf8_lossy(score).parse().unwrap_or(0.0);
                    self.scored(member.clone(), score);
                }
                (_, [element]) => self.element(element.clone()),
                (_, [name, value]) => self.field(name.clone(), value.clone(), None),
                (_, [name, value, at]) => {
                    let at = String::from_utf8_lossy(at).parse().unwrap_or(0);
                    self.field(name.clone(), value.clone(), Some(at).filter(|at| *at != 0));
                }
                _ => unreachable!("entries are one, two or three wide"),
            }
        }
    }

    fn element(&mut self, element: Bytes) {
        match self.value() {
            Value::List(list) => list.push(element),
            Value::Set(set) => drop(set.insert(element)),
            other => panic!("element of {other:?}"),
        }
    }

    fn scored(&mut self, member: Bytes, score: f64) {
        match self.value() {
            Value::SortedSet(zset) => drop(zset.insert(member, score)),
            other => panic!("scored element of {other:?}"),
        }
    }

    fn field(&mut self, name: Bytes, value: Bytes, expire_at_ms: Option<i64>) {
        match self.value() {
            Value::Hash(hash) => drop(hash.insert(name, (value, expire_at_ms))),
            other => panic!("field of {other:?}"),
        }
    }
}

fn owned(entry: Entry<'_>) -> Bytes {
    match entry {
        Entry::Str(string) => string.into(),
        Entry::Int(int) => int.to_string().into_bytes(),
    }
}

/// Up to the first error, so that broken bytes can be consumed too.
fn listpack_entries(bytes: &[u8]) -> Vec<Bytes> {
    listpack::entries(bytes).map_while(Result::ok).map(owned).collect()
}

fn ziplist_entries(bytes: &[u8]) -> Vec<Bytes> {
    ziplist::entries(bytes).map_while(Result::ok).map(owned).collect()
}

/// u32 bytes per integer, u32 integers, the integers; all LE.
fn intset_entries(bytes: &[u8]) -> Vec<Bytes> {
    let Some((head, integers)) = bytes.split_first_chunk::<8>() else { return Vec::new() };
    let width = usize::from(head[0]).clamp(1, 8);
    integers
        .chunks_exact(width)
        .map(|bytes| {
            let sign = if bytes[width - 1] & 0x80 == 0 { 0 } else { 0xff };
            let mut wide = [sign; 8];
            wide[..width].copy_from_slice(bytes);
            i64::from_le_bytes(wide).to_string().into_bytes()
        })
        .collect()
}

pub fn intset(integers: &BTreeSet<i64>) -> Bytes {
    let fits = |bits: u32| integers.iter().all(|int| int << (64 - bits) >> (64 - bits) == *int);
    let width = [2, 4].into_iter().find(|bytes| fits(bytes * 8)).unwrap_or(8);
    let mut bytes = [width.to_le_bytes(), (integers.len() as u32).to_le_bytes()].concat();
    for int in integers {
        bytes.extend_from_slice(&int.to_le_bytes()[..width as usize]);
    }
    bytes
}

/// What the structures of the store do for real: strings that print as integers become integers.
pub fn listpack<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut bytes = vec![0; 6];
    let mut count = 0u16;
    for string in strings {
        let start = bytes.len();
        let int = std::str::from_utf8(string).ok().and_then(|text| text.parse::<i64>().ok());
        match int.filter(|int| int.to_string().as_bytes() == string) {
            Some(int @ 0..=127) => bytes.push(int as u8),
            Some(int) => {
                bytes.push(0xf4);
                bytes.extend_from_slice(&int.to_le_bytes());
            }
            None => {
                bytes.push(0xf0);
                bytes.extend_from_slice(&(string.len() as u32).to_le_bytes());
                bytes.extend_from_slice(string);
            }
        }
        let len = bytes.len() - start;
        let width = if len < 1 << 7 {
            1
        } else if len < 1 << 14 {
            2
        } else {
            3
        };
        for n in (0..width).rev() {
            bytes.push((len >> (7 * n)) as u8 & 0x7f | if n + 1 < width { 0x80 } else { 0 });
        }
        count += 1;
    }
    bytes.push(0xff);
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4..6].copy_from_slice(&count.to_le_bytes());
    bytes
}

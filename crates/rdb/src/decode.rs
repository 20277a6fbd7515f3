//! Bytes to events.
//!
//! The decoder keeps no bytes: its caller owns the read buffer, hands in what it has, and drops what a step
//! consumed. Strings in events lie in that buffer, or, when they were compressed or packed, in a scratch buffer
//! of the decoder. So one step's memory is bounded by one element or blob, and a collection of any size
//! loads in slices of any size, as does a long string:
//!
//! ```
//! # fn apply(_: rdb::Event<'_>) {}
//! # fn load(file: &[u8]) -> Result<(), rdb::RdbError> {
//! let mut decoder = rdb::Decoder::new(rdb::DecodeOptions::default());
//! let mut from = 0;
//! loop {
//!     match decoder.next(&file[from..])? {
//!         rdb::Step::Event { event: rdb::Event::Eof { .. }, .. } => return Ok(()),
//!         rdb::Step::Event { event, consumed } => {
//!             apply(event);
//!             from += consumed;
//!         }
//!         // A socket's reader would drop `consumed` bytes and read until it has `at_least`.
//!         rdb::Step::NeedMore { .. } => return Err(decoder.truncated()),
//!     }
//! }
//! # }
//! # assert_eq!(load(b"REDIS0011\xff\0\0\0\0\0\0\0\0"), Ok(()));
//! # assert_eq!(load(b"REDIS0011"), Err(rdb::RdbError::Truncated { offset: 9 }));
//! ```
//!
//! The order of events:
//!
//! ```text
//! file  = Header (Aux | SelectDb | ResizeDb | SlotInfo | Function | ModuleAux | Key value)* Eof
//! value = Str | StrPart* | Blob | Begin (Element | ScoredElement | Field | QuicklistNode)* End | stream
//! stream = Begin StreamNode* StreamCounters (Group Pending* (Consumer Owned*)*)* End
//! ```
//!
//! A length in the bytes is a claim. Nothing is allocated for it here, and a consumer must not either: it
//! reserves by what has arrived. An empty collection is given as it is (Redis skips such keys when loading).

use crate::RdbError;
use crate::crc::Gatherer;
use crate::length::{Input, Parse, RawString, Stop};
use crate::opcode::{Kind, ValueType, module_op, op};
use crate::stream::{self, EntryId};
use crate::version::{Dialect, Version};

/// String values up to this length come in one piece, longer ones in parts, so that a value of half a
/// gigabyte need not lie in the read buffer too. (Compressed ones always come whole.)
pub const STRING_WHOLE_MAX: usize = 1 << 20;

/// The greatest expiry of a hash field in Redis's forms: 48 bits of milliseconds.
pub const FIELD_EXPIRE_MAX: u64 = (1 << 48) - 1;
/// What Valkey writes for a field without expiry.
const VALKEY_NO_EXPIRE: i64 = -1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Sum the bytes up and compare (`rdbchecksum`).
    pub verify_checksum: bool,
}

impl Default for DecodeOptions {
    fn default() -> DecodeOptions {
        DecodeOptions { verify_checksum: true }
    }
}

/// What one call of [`Decoder::next`] came to. In both cases the caller drops the `consumed` first bytes of
/// what it gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'b> {
    Event {
        event: Event<'b>,
        consumed: usize,
    },
    /// Nothing can be said before at least `at_least` bytes follow the consumed ones. That is a
    /// claim of the bytes too: buffer what comes, but reserve no memory for what has not come.
    NeedMore {
        consumed: usize,
        at_least: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'b> {
    Header(Version),
    /// Something about the file: `redis-ver`, `repl-id`, `repl-offset`, ….
    Aux {
        key: &'b [u8],
        value: &'b [u8],
    },
    SelectDb(u32),
    /// A hint: keys, and keys with a TTL, in the selected database.
    ResizeDb {
        keys: u64,
        expires: u64,
    },
    /// A hint: keys, and keys with a TTL, in one hash slot of the selected database.
    SlotInfo {
        slot: u64,
        keys: u64,
        expires: u64,
    },
    /// The source of a function library.
    Function(&'b [u8]),
    /// A module left data outside any key. It is skipped; Redis refuses such a file unless it has the module.
    ModuleAux {
        name: ModuleName,
        when: u64,
    },
    /// The events of its value follow.
    Key(Key<'b>),
    Str(StrRef<'b>),
    /// What has arrived of a string value longer than [`STRING_WHOLE_MAX`]; `left` bytes of it are still to
    /// come, and with none left the value is complete. Never empty.
    StrPart {
        bytes: &'b [u8],
        left: u64,
    },
    /// A whole value in one piece, unvalidated.
    Blob {
        form: Form,
        bytes: &'b [u8],
    },
    /// So many elements, fields or nodes are said to follow.
    Begin {
        count: u64,
    },
    /// Of a list or set.
    Element(&'b [u8]),
    /// Of a sorted set. The score is not NaN.
    ScoredElement {
        member: &'b [u8],
        score: f64,
    },
    /// Of a hash. Expiry in milliseconds since 1970.
    Field {
        name: &'b [u8],
        value: &'b [u8],
        expire_at_ms: Option<i64>,
    },
    /// A piece of a list, unvalidated, not of zero bytes. Its ziplist or listpack may be empty; then it is to
    /// be skipped.
    QuicklistNode {
        form: NodeForm,
        bytes: &'b [u8],
    },
    /// A piece of a stream, unvalidated: the ID that its entries count from, and its listpack.
    StreamNode {
        id: EntryId,
        bytes: &'b [u8],
    },
    /// All nodes were given.
    StreamCounters {
        length: u64,
        last_id: EntryId,
        /// Absent in the oldest form.
        history: Option<StreamHistory>,
    },
    /// A consumer group of the stream.
    Group {
        name: &'b [u8],
        last_id: EntryId,
        /// Absent in the oldest form; -1 for not known.
        entries_read: Option<i64>,
    },
    /// Was delivered to the group, and not acknowledged.
    Pending {
        id: EntryId,
        delivered_ms: i64,
        deliveries: u64,
    },
    /// A consumer of the group.
    Consumer {
        name: &'b [u8],
        seen_ms: i64,
        /// Known to the newest form only.
        active_ms: Option<i64>,
    },
    /// What is pending under this ID was delivered to the consumer.
    Owned(EntryId),
    /// The collection is complete.
    End,
    /// The file, or the DUMP payload, is complete. Further steps give the same.
    Eof {
        checksum: Checksum,
    },
}

/// What a stream has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHistory {
    pub first_id: EntryId,
    pub max_deleted_id: EntryId,
    pub entries_added: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'b> {
    /// Empty in a DUMP payload, which does not hold it.
    pub key: &'b [u8],
    pub expire_at_ms: Option<i64>,
    /// Seconds since the last use, when it was saved under an LRU policy.
    pub idle_s: Option<u64>,
    /// The LFU counter, when it was saved under an LFU policy.
    pub freq: Option<u8>,
    pub value_type: ValueType,
}

impl Key<'_> {
    pub fn kind(&self) -> Kind {
        self.value_type.kind()
    }
}

/// A string value: its bytes, or the integer that it is the decimal form of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrRef<'b> {
    Bytes(&'b [u8]),
    Int(i64),
}

/// How a blob lies. What its entries are follows from the key's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// See [`crate::ziplist`].
    Ziplist,
    /// See [`crate::zipmap`].
    Zipmap,
    Intset,
    Listpack,
    /// Of a hash: field, value, expiry in milliseconds since 1970 or 0, and so on, ordered by expiry, those
    /// without at the end.
    ListpackTtl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeForm {
    /// One element, as it is.
    Plain,
    /// A listpack of elements.
    Packed,
    /// A ziplist of elements.
    Ziplist,
}

/// What is known of the checksum at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    Verified,
    /// Written with `rdbchecksum no`: zero, and not compared.
    Disabled,
    /// Not compared, as [`DecodeOptions`] ask.
    Skipped,
    /// The version has none.
    Absent,
}

/// The name of a module's data type, nine characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ModuleName([u8; 9]);

impl ModuleName {
    /// Six bits per character above ten bits of version.
    fn from_id(id: u64) -> ModuleName {
        const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        ModuleName(std::array::from_fn(|n| CHARACTERS[(id >> (10 + 6 * (8 - n)) & 63) as usize]))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the characters are ASCII")
    }
}

impl std::fmt::Debug for ModuleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Reads one snapshot or one DUMP payload. After an error it is of no more use.
pub struct Decoder {
    core: Core,
    /// Strings that do not lie in the input as they are; an event holds at most two.
    scratch: [Vec<u8>; 2],
}

impl Decoder {
    /// For an RDB file or stream.
    pub fn new(options: DecodeOptions) -> Decoder {
        // The header says which dialect it is before it matters.
        let version = Version { dialect: Dialect::Redis, number: 0 };
        Decoder::starting_with(State::Header, version, options)
    }

    /// For the value in a DUMP payload, its footer taken off: one key's events, then `Eof`.
    pub fn for_dump(version: Version) -> Decoder {
        Decoder::starting_with(State::DumpTag, version, DecodeOptions { verify_checksum: false })
    }

    /// For records as they stand in a file behind its header, and nothing else.
    pub fn for_records(version: Version) -> Decoder {
        Decoder::starting_with(State::Between, version, DecodeOptions { verify_checksum: false })
    }

    fn starting_with(state: State, version: Version, options: DecodeOptions) -> Decoder {
        let core = Core {
            single: matches!(state, State::DumpTag),
            state,
            version,
            options,
            offset: 0,
            crc: Gatherer::default(),
            attributes: Attributes::default(),
            unread: None,
        };
        Decoder { core, scratch: [Vec::new(), Vec::new()] }
    }

    /// After [`RdbError::UnsupportedType`]: the key that has such a value, and the module that the type belongs to.
    pub fn unread(&self) -> Option<(&[u8], Option<ModuleName>)> {
        self.core.unread.as_ref().map(|(key, module)| (key.as_slice(), *module))
    }

    /// Makes one step with the bytes that follow those consumed so far. Errors name what is wrong and where.
    #[inline]
    pub fn next<'b>(&'b mut self, bytes: &'b [u8]) -> Result<Step<'b>, RdbError> {
        let Decoder { core, scratch } = self;
        let mut input = Input::new(bytes, core.offset);
        match core.event(&mut input, scratch) {
            Ok(event) => {
                let consumed = input.position();
                core.pass(&bytes[..consumed]);
                Ok(Step::Event { event, consumed })
            }
            Err(Stop::NeedMore { upto }) => {
                let consumed = input.committed();
                core.pass(&bytes[..consumed]);
                Ok(Step::NeedMore { consumed, at_least: upto - consumed })
            }
            Err(Stop::Broken(error)) => Err(error),
        }
    }

    /// Bytes consumed so far.
    pub fn offset(&self) -> u64 {
        self.core.offset
    }

    /// What the file's header, or the DUMP payload's footer, said.
    pub fn version(&self) -> Version {
        self.core.version
    }

    /// The error to report when more is needed and none will come.
    pub fn truncated(&self) -> RdbError {
        RdbError::Truncated { offset: self.core.offset }
    }
}

/// What the opcodes before a key said of it.
#[derive(Clone, Copy, Default)]
struct Attributes {
    expire_at_ms: Option<i64>,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

/// How one element of a collection lies.
#[derive(Clone, Copy)]
enum Item {
    Element,
    ScoredAscii,
    ScoredBinary,
    Field,
    FieldTtlPreGa,
    FieldTtl { least_ms: u64 },
    FieldTtlValkey,
    ZiplistNode,
    QuicklistNode,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    /// Before the type tag of a DUMP payload.
    DumpTag,
    /// Before an opcode or a key's type tag.
    Between,
    /// Inside the data of a module.
    ModuleAux,
    /// Before the value of the key that was given last.
    Value(ValueType),
    /// Inside a long string, so many bytes before its end.
    StringParts {
        left: u64,
    },
    /// Inside a collection, so many items before its end.
    Items {
        item: Item,
        left: u64,
    },
    /// Inside a stream.
    Stream {
        parts: stream::Parts,
        at: stream::At,
    },
    Done(Checksum),
}

struct Core {
    state: State,
    version: Version,
    options: DecodeOptions,
    /// There is one value and nothing else.
    single: bool,
    offset: u64,
    crc: Gatherer,
    attributes: Attributes,
    /// The key whose value is of a type that is not read, and the module that it belongs to.
    unread: Option<(Vec<u8>, Option<ModuleName>)>,
}

// The state changes only when all of an event, or of a silent record, has been read: until then every attempt
// starts again from the same place.
impl Core {
    /// Leaves consumed bytes behind.
    #[inline]
    fn pass(&mut self, consumed: &[u8]) {
        self.offset += consumed.len() as u64;
        // The end was summed up when it was read, without the checksum itself.
        if self.options.verify_checksum && !matches!(self.state, State::Done(_)) {
            self.crc.update(consumed);
        }
    }

    #[inline]
    fn event<'b>(&mut self, input: &mut Input<'b>, scratch: &'b mut [Vec<u8>; 2]) -> Parse<Event<'b>> {
        match self.state {
            State::Items { left: 0, .. } => {
                self.value_ends();
                Ok(Event::End)
            }
            State::Items { item, left } => {
                let event = read_item(item, input, scratch)?;
                self.state = State::Items { item, left: left - 1 };
                Ok(event)
            }
            State::Value(value_type) => self.value(value_type, input, scratch),
            State::Stream { parts, at } => self.stream(parts, at, input, scratch),
            State::Between => self.record(input, scratch),
            State::ModuleAux => {
                self.skip_module_data(input)?;
                self.record(input, scratch)
            }
            State::StringParts { left } => self.string_part(left, input),
            State::Header => self.header(input),
            State::DumpTag => self.dump_tag(input),
            State::Done(checksum) => Ok(Event::Eof { checksum }),
        }
    }

    fn value_ends(&mut self) {
        // A DUMP payload's checksum was verified before its value is read.
        self.state = if self.single { State::Done(Checksum::Verified) } else { State::Between };
    }

    fn header<'b>(&mut self, input: &mut Input<'b>) -> Parse<Event<'b>> {
        self.version = Version::from_header(&input.array()?)?;
        self.options.verify_checksum &= self.version.has_checksum();
        self.state = State::Between;
        Ok(Event::Header(self.version))
    }

    fn dump_tag<'b>(&mut self, input: &mut Input<'b>) -> Parse<Event<'b>> {
        let offset = input.offset();
        let value_type = ValueType::from_tag(input.byte()?, self.version.dialect, offset)?;
        self.state = State::Value(value_type);
        Ok(Event::Key(Key { key: b"", expire_at_ms: None, idle_s: None, freq: None, value_type }))
    }

    /// One opcode's record, or a key; what is said of a key before it is gathered on the way.
    fn record<'b>(&mut self, input: &mut Input<'b>, scratch: &'b mut [Vec<u8>; 2]) -> Parse<Event<'b>> {
        while self.attribute(input)? {
            input.commit();
        }
        let [first, second] = scratch;
        let offset = input.offset();
        match input.byte()? {
            op::AUX => {
                let (key, value) = (input.string()?, input.string()?);
                Ok(Event::Aux { key: key.bytes(first)?, value: value.bytes(second)? })
            }
            op::SELECTDB => match u32::try_from(input.length()?) {
                Ok(db) => Ok(Event::SelectDb(db)),
                Err(_) => input.corrupt("database number beyond 32 bits"),
            },
            op::RESIZEDB => Ok(Event::ResizeDb { keys: input.length()?, expires: input.length()? }),
            op::SLOT_INFO => {
                Ok(Event::SlotInfo { slot: input.length()?, keys: input.length()?, expires: input.length()? })
            }
            op::FUNCTION2 => Ok(Event::Function(input.string()?.bytes(first)?)),
            op::MODULE_AUX => self.module_aux(input),
            op::EOF => self.eof(input),
            tag @ op::FUNCTION_PRE_GA => {
                Err(RdbError::UnsupportedType { tag, name: "pre-release function", offset }.into())
            }
            tag @ op::SLOT_IMPORT if self.version.dialect == Dialect::Valkey => {
                Err(RdbError::UnsupportedType { tag, name: "slot import", offset }.into())
            }
            tag => {
                let value_type = match ValueType::from_tag(tag, self.version.dialect, offset) {
                    Ok(value_type) => value_type,
                    Err(error @ RdbError::UnsupportedType { .. }) => {
                        let key = input.string()?.bytes(first)?.to_vec();
                        let module = matches!(tag, 6 | 7).then(|| input.length()).transpose()?;
                        self.unread = Some((key, module.map(ModuleName::from_id)));
                        return Err(error.into());
                    }
                    Err(error) => return Err(error.into()),
                };
                let key = input.string()?.bytes(first)?;
                let Attributes { expire_at_ms, idle_s, freq } = std::mem::take(&mut self.attributes);
                self.state = State::Value(value_type);
                Ok(Event::Key(Key { key, expire_at_ms, idle_s, freq, value_type }))
            }
        }
    }

    /// Reads an opcode that says something of the next key; false if the next is none.
    #[inline]
    fn attribute(&mut self, input: &mut Input<'_>) -> Parse<bool> {
        match input.peek()? {
            op::EXPIRETIME_MS => {
                input.byte()?;
                self.attributes.expire_at_ms = Some(i64::from_le_bytes(input.array()?));
            }
            op::EXPIRETIME => {
                input.byte()?;
                self.attributes.expire_at_ms = Some(i64::from(i32::from_le_bytes(input.array()?)) * 1000);
            }
            op::IDLE => {
                input.byte()?;
                self.attributes.idle_s = Some(input.length()?);
            }
            op::FREQ => {
                input.byte()?;
                self.attributes.freq = Some(input.byte()?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn module_aux<'b>(&mut self, input: &mut Input<'b>) -> Parse<Event<'b>> {
        let name = ModuleName::from_id(input.length()?);
        if input.length()? != module_op::UINT {
            return input.corrupt("module data that does not say when to load it");
        }
        let when = input.length()?;
        self.state = State::ModuleAux;
        Ok(Event::ModuleAux { name, when })
    }

    fn skip_module_data(&mut self, input: &mut Input<'_>) -> Parse<()> {
        loop {
            match input.length()? {
                module_op::EOF => break,
                module_op::SINT | module_op::UINT => drop(input.length()?),
                module_op::FLOAT => drop(input.take(4)?),
                module_op::DOUBLE => drop(input.take(8)?),
                module_op::STRING => drop(input.string()?),
                _ => return input.corrupt("module data of an unknown form"),
            }
            input.commit();
        }
        input.commit();
        self.state = State::Between;
        Ok(())
    }

    fn eof<'b>(&mut self, input: &mut Input<'b>) -> Parse<Event<'b>> {
        let summed = input.consumed();
        let checksum = if !self.version.has_checksum() {
            Checksum::Absent
        } else {
            let stated = u64::from_le_bytes(input.array()?);
            match stated {
                _ if !self.options.verify_checksum => Checksum::Skipped,
                0 => Checksum::Disabled,
                _ => {
                    let computed = self.crc.value_with(summed);
                    if computed != stated {
                        return Err(RdbError::ChecksumMismatch { stated, computed }.into());
                    }
                    Checksum::Verified
                }
            }
        };
        self.state = State::Done(checksum);
        Ok(Event::Eof { checksum })
    }

    /// A value's head: the whole of it, or the count of what follows.
    #[inline]
    fn value<'b>(
        &mut self,
        value_type: ValueType,
        input: &mut Input<'b>,
        scratch: &'b mut [Vec<u8>; 2],
    ) -> Parse<Event<'b>> {
        let scratch = &mut scratch[0];
        match value_type {
            ValueType::String => self.string(input, scratch),
            ValueType::List | ValueType::Set => self.begin(Item::Element, input),
            ValueType::Zset => self.begin(Item::ScoredAscii, input),
            ValueType::Zset2 => self.begin(Item::ScoredBinary, input),
            ValueType::Hash => self.begin(Item::Field, input),
            ValueType::ListQuicklist => self.begin(Item::ZiplistNode, input),
            ValueType::ListQuicklist2 => self.begin(Item::QuicklistNode, input),
            ValueType::HashMetadataPreGa => self.begin(Item::FieldTtlPreGa, input),
            ValueType::HashMetadata => self.hash_metadata(input),
            ValueType::ValkeyHash2 => self.begin(Item::FieldTtlValkey, input),
            ValueType::HashZipmap => self.blob(Form::Zipmap, input, scratch),
            ValueType::ListZiplist | ValueType::ZsetZiplist | ValueType::HashZiplist => {
                self.blob(Form::Ziplist, input, scratch)
            }
            ValueType::SetIntset => self.blob(Form::Intset, input, scratch),
            ValueType::HashListpack | ValueType::ZsetListpack | ValueType::SetListpack => {
                self.blob(Form::Listpack, input, scratch)
            }
            ValueType::HashListpackExPreGa => self.blob(Form::ListpackTtl, input, scratch),
            ValueType::HashListpackEx => self.hash_listpack_ex(input, scratch),
            ValueType::StreamListpacks | ValueType::StreamListpacks2 | ValueType::StreamListpacks3 => {
                let count = input.length()?;
                let at = stream::At::Nodes { left: count };
                self.state = State::Stream { parts: stream::Parts::of(value_type), at };
                Ok(Event::Begin { count })
            }
        }
    }

    fn stream<'b>(
        &mut self,
        parts: stream::Parts,
        mut at: stream::At,
        input: &mut Input<'b>,
        scratch: &'b mut [Vec<u8>; 2],
    ) -> Parse<Event<'b>> {
        use stream::At;
        let [first, second] = scratch;
        // What ends here without an event of its own is gone through first.
        loop {
            at = match at {
                At::Owned { left: 0, consumers, groups } => At::Consumers { left: consumers, groups },
                At::Consumers { left: 0, groups } => At::Groups { left: groups },
                At::Pending { left: 0, groups } => {
                    let left = input.length()?;
                    input.commit();
                    At::Consumers { left, groups }
                }
                other => {
                    at = other;
                    break;
                }
            };
            self.state = State::Stream { parts, at };
        }
        let (event, next) = match at {
            At::Nodes { left: 0 } => {
                let (length, last_id) = (input.length()?, stream::id(input)?);
                let history = if parts.history {
                    let (first_id, max_deleted_id) = (stream::id(input)?, stream::id(input)?);
                    Some(StreamHistory { first_id, max_deleted_id, entries_added: input.length()? })
                } else {
                    None
                };
                let left = input.length()?;
                (Event::StreamCounters { length, last_id, history }, At::Groups { left })
            }
            At::Nodes { left } => {
                let key = input.string()?.bytes(first)?;
                let Ok(key) = key.try_into() else {
                    return input.corrupt("stream node key that is not the size of an ID");
                };
                let bytes = input.string()?.bytes(second)?;
                (Event::StreamNode { id: stream::split(key), bytes }, At::Nodes { left: left - 1 })
            }
            At::Groups { left: 0 } => {
                self.value_ends();
                return Ok(Event::End);
            }
            At::Groups { left } => {
                let name = input.string()?.bytes(first)?;
                let last_id = stream::id(input)?;
                let entries_read = if parts.history { Some(input.length()? as i64) } else { None };
                let pending = input.length()?;
                (
                    Event::Group { name, last_id, entries_read },
                    At::Pending { left: pending, groups: left - 1 },
                )
            }
            At::Pending { left, groups } => {
                let id = stream::raw_id(input)?;
                let (delivered_ms, deliveries) = (i64::from_le_bytes(input.array()?), input.length()?);
                (Event::Pending { id, delivered_ms, deliveries }, At::Pending { left: left - 1, groups })
            }
            At::Consumers { left, groups } => {
                let name = input.string()?.bytes(first)?;
                let seen_ms = i64::from_le_bytes(input.array()?);
                let active_ms =
                    if parts.active_time { Some(i64::from_le_bytes(input.array()?)) } else { None };
                let owned = input.length()?;
                let next = At::Owned { left: owned, consumers: left - 1, groups };
                (Event::Consumer { name, seen_ms, active_ms }, next)
            }
            At::Owned { left, consumers, groups } => {
                (Event::Owned(stream::raw_id(input)?), At::Owned { left: left - 1, consumers, groups })
            }
        };
        self.state = State::Stream { parts, at: next };
        Ok(event)
    }

    #[inline]
    fn string<'b>(&mut self, input: &mut Input<'b>, scratch: &'b mut Vec<u8>) -> Parse<Event<'b>> {
        if let Some(len) = input.long_plain(STRING_WHOLE_MAX)? {
            return self.string_part(len, input);
        }
        let string = match input.string()? {
            RawString::Int(int) => StrRef::Int(i64::from(int)),
            raw => StrRef::Bytes(raw.bytes(scratch)?),
        };
        self.value_ends();
        Ok(Event::Str(string))
    }

    fn string_part<'b>(&mut self, left: u64, input: &mut Input<'b>) -> Parse<Event<'b>> {
        // The length, if it was read just now, is not read again.
        input.commit();
        self.state = State::StringParts { left };
        let bytes = input.take_some(left)?;
        let left = left - bytes.len() as u64;
        match left {
            0 => self.value_ends(),
            _ => self.state = State::StringParts { left },
        }
        Ok(Event::StrPart { bytes, left })
    }

    fn blob<'b>(&mut self, form: Form, input: &mut Input<'b>, scratch: &'b mut Vec<u8>) -> Parse<Event<'b>> {
        let bytes = input.string()?.bytes(scratch)?;
        self.value_ends();
        Ok(Event::Blob { form, bytes })
    }

    fn begin<'b>(&mut self, item: Item, input: &mut Input<'b>) -> Parse<Event<'b>> {
        let count = input.length()?;
        self.state = State::Items { item, left: count };
        Ok(Event::Begin { count })
    }

    fn hash_metadata<'b>(&mut self, input: &mut Input<'b>) -> Parse<Event<'b>> {
        let least_ms = u64::from_le_bytes(input.array()?);
        self.begin(Item::FieldTtl { least_ms }, input)
    }

    /// The least expiry ahead of the listpack says nothing that the listpack does not.
    fn hash_listpack_ex<'b>(&mut self, input: &mut Input<'b>, scratch: &'b mut Vec<u8>) -> Parse<Event<'b>> {
        input.take(8)?;
        self.blob(Form::ListpackTtl, input, scratch)
    }
}

#[inline]
fn read_item<'b>(item: Item, input: &mut Input<'b>, scratch: &'b mut [Vec<u8>; 2]) -> Parse<Event<'b>> {
    let [first, second] = scratch;
    match item {
        Item::Element => Ok(Event::Element(input.string()?.bytes(first)?)),
        Item::ScoredAscii => scored(input, first, ascii_double),
        Item::ScoredBinary => scored(input, first, |input| Ok(f64::from_le_bytes(input.array()?))),
        Item::Field => {
            let (name, value) = (input.string()?, input.string()?);
            Ok(Event::Field { name: name.bytes(first)?, value: value.bytes(second)?, expire_at_ms: None })
        }
        Item::FieldTtlPreGa => field_ttl(input, first, second, None),
        Item::FieldTtl { least_ms } => field_ttl(input, first, second, Some(least_ms)),
        Item::FieldTtlValkey => field_ttl_valkey(input, first, second),
        Item::ZiplistNode => quicklist_node(NodeForm::Ziplist, input, first),
        Item::QuicklistNode => {
            let form = match input.length()? {
                1 => NodeForm::Plain,
                2 => NodeForm::Packed,
                _ => return input.corrupt("list node that is neither plain nor packed"),
            };
            quicklist_node(form, input, first)
        }
    }
}

#[inline]
fn scored<'b>(
    input: &mut Input<'b>,
    scratch: &'b mut Vec<u8>,
    read_score: fn(&mut Input<'b>) -> Parse<f64>,
) -> Parse<Event<'b>> {
    let member = input.string()?;
    let score = read_score(input)?;
    if score.is_nan() {
        return input.corrupt("sorted set with a score that is not a number");
    }
    Ok(Event::ScoredElement { member: member.bytes(scratch)?, score })
}

/// One byte of length and as many characters, or one of three lengths that stand for a value.
fn ascii_double(input: &mut Input<'_>) -> Parse<f64> {
    match input.byte()? {
        255 => Ok(f64::NEG_INFINITY),
        254 => Ok(f64::INFINITY),
        253 => Ok(f64::NAN),
        len => {
            let digits = input.take(usize::from(len))?;
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            number.map_or_else(|| input.corrupt("score that does not read as a number"), Ok)
        }
    }
}

/// The TTL is 0 for none. Pre-release it was absolute; since it counts from the hash's least one, which
/// is 1, so that 0 stays free.
fn field_ttl<'b>(
    input: &mut Input<'b>,
    first: &'b mut Vec<u8>,
    second: &'b mut Vec<u8>,
    least_ms: Option<u64>,
) -> Parse<Event<'b>> {
    let expire_at_ms = match input.length()? {
        0 => None,
        ttl => Some(least_ms.map_or(ttl, |least| least.saturating_add(ttl - 1))),
    };
    if expire_at_ms.is_some_and(|at| at > FIELD_EXPIRE_MAX) {
        return input.corrupt("hash field that expires beyond all time");
    }
    let (name, value) = (input.string()?, input.string()?);
    Ok(Event::Field {
        name: name.bytes(first)?,
        value: value.bytes(second)?,
        expire_at_ms: expire_at_ms.map(|at| at as i64),
    })
}

fn field_ttl_valkey<'b>(
    input: &mut Input<'b>,
    first: &'b mut Vec<u8>,
    second: &'b mut Vec<u8>,
) -> Parse<Event<'b>> {
    let (name, value) = (input.string()?, input.string()?);
    let expire_at_ms = match i64::from_le_bytes(input.array()?) {
        VALKEY_NO_EXPIRE => None,
        at if at < 0 => return input.corrupt("hash field that expires before all time"),
        // Valkey knows no such limit, and a field that lives till then need not fail a whole snapshot.
        at => Some(at.min(FIELD_EXPIRE_MAX as i64)),
    };
    Ok(Event::Field { name: name.bytes(first)?, value: value.bytes(second)?, expire_at_ms })
}

fn quicklist_node<'b>(form: NodeForm, input: &mut Input<'b>, scratch: &'b mut Vec<u8>) -> Parse<Event<'b>> {
    let bytes = input.string()?.bytes(scratch)?;
    if bytes.is_empty() {
        return input.corrupt("list node of no bytes");
    }
    Ok(Event::QuicklistNode { form, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lzf;
    use proptest::prelude::*;

    const FILES: [&[u8]; 4] = [
        include_bytes!("../tests/data/redis-7.0.15.rdb"),
        include_bytes!("../tests/data/redis-7.0.15-plain.rdb"),
        include_bytes!("../tests/data/redis-8.2.3.rdb"),
        include_bytes!("../tests/data/valkey-9.1.2.rdb"),
    ];

    /// Reads hostile bytes to whatever end. Every step must move on, take no memory that the bytes do
    /// not pay for, and ask for more only when there is none.
    fn endure(mut decoder: Decoder, bytes: &[u8], piece: usize) {
        let (mut from, mut arrived, mut steps) = (0, 0, 0);
        loop {
            match decoder.next(&bytes[from..arrived]) {
                Ok(Step::Event { event: Event::Eof { .. }, .. }) | Err(_) => break,
                Ok(Step::Event { consumed, .. }) => {
                    from += consumed;
                    steps += 1;
                    // An end takes no bytes, but the count before it does.
                    assert!(steps <= 2 * from + 2, "{steps} steps for {from} bytes");
                }
                Ok(Step::NeedMore { consumed, at_least }) => {
                    from += consumed;
                    assert!(at_least > arrived - from);
                    if arrived == bytes.len() {
                        break;
                    }
                    arrived = (arrived + piece).min(bytes.len());
                }
            }
            assert_eq!(decoder.offset(), from as u64);
            for scratch in &decoder.scratch {
                assert!(scratch.capacity() <= 100 * arrived + 64, "{} bytes taken", scratch.capacity());
            }
        }
    }

    fn unverified() -> Decoder {
        Decoder::new(DecodeOptions { verify_checksum: false })
    }

    #[test]
    fn a_huge_claim_takes_no_memory() {
        for record in [
            &b"\x00\x01k\x81\x7f\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x02\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01a",
            b"\x00\x01k\xc3\x03\x81\x00\x00\x00\x7f\xff\xff\xff\xff\x01ab",
            b"\x00\x01k\xc3\x81\x00\x00\x00\x7f\xff\xff\xff\xff\x03\x01ab",
        ] {
            let file = [b"REDIS0011", record].concat();
            for piece in [1, file.len()] {
                endure(unverified(), &file, piece);
            }
        }
    }

    #[test]
    fn what_is_consumed_is_not_asked_for_again() {
        let mut decoder = unverified();
        let header = decoder.next(b"REDIS0011").expect("a header");
        assert!(matches!(header, Step::Event { consumed: 9, .. }));
        // The expiry is whole, the idle time is not.
        let step = decoder.next(b"\xfd\x01\0\0\0\xf8\x80\0").expect("well formed so far");
        assert_eq!(step, Step::NeedMore { consumed: 5, at_least: 6 });
        let step = decoder.next(b"\xf8\x80\0\0\0\x02\x00\x05ab").expect("well formed so far");
        assert_eq!(step, Step::NeedMore { consumed: 6, at_least: 7 });
        let step = decoder.next(b"\x00\x05abcde").expect("a key");
        let key = Key {
            key: b"abcde",
            expire_at_ms: Some(1000),
            idle_s: Some(2),
            freq: None,
            value_type: ValueType::String,
        };
        assert_eq!(step, Step::Event { event: Event::Key(key), consumed: 7 });
    }

    #[test]
    fn a_long_string_comes_in_parts_as_it_arrives() {
        let long: Vec<u8> = (0..STRING_WHOLE_MAX + 1).map(|n| (n % 251) as u8).collect();
        for (value, parted) in [(&long[..], true), (&long[1..], false)] {
            let mut file = b"REDIS0011\x00\x01k".to_vec();
            crate::length::push_length(&mut file, value.len() as u64);
            file.extend_from_slice(value);
            file.push(0xff);
            let sum = crate::crc64(&file);
            file.extend_from_slice(&sum.to_le_bytes());
            let mut decoder = Decoder::new(DecodeOptions::default());
            let (mut from, mut arrived) = (0, 0);
            let (mut read, mut parts) = (Vec::new(), 0);
            loop {
                match decoder.next(&file[from..arrived]).expect("well formed") {
                    Step::Event { event, consumed } => {
                        from += consumed;
                        match event {
                            Event::StrPart { bytes, left } => {
                                assert!(!bytes.is_empty());
                                read.extend_from_slice(bytes);
                                parts += 1;
                                assert_eq!(left, (value.len() - read.len()) as u64);
                            }
                            Event::Str(StrRef::Bytes(bytes)) => read.extend_from_slice(bytes),
                            Event::Eof { checksum } => {
                                assert_eq!(checksum, Checksum::Verified);
                                break;
                            }
                            _ => {}
                        }
                    }
                    Step::NeedMore { consumed, at_least } => {
                        from += consumed;
                        assert!(at_least > arrived - from);
                        arrived = (arrived + 65_536).min(file.len());
                    }
                }
            }
            assert!(read == value);
            assert_eq!(parts > 10, parted);
        }
    }

    #[test]
    fn plain_strings_are_borrowed_and_packed_ones_are_not() {
        let mut packed = Vec::new();
        assert!(lzf::Compressor::new().compress(&[b'a'; 100], 90, &mut packed));
        let mut value = vec![0xc3, packed.len() as u8, 0x40, 100];
        value.extend_from_slice(&packed);
        let bytes = [b"REDIS0011\x04\x01k\x01\x05field", &value[..]].concat();
        let mut decoder = unverified();
        let mut rest = &bytes[..];
        for _ in 0..3 {
            let Ok(Step::Event { consumed, .. }) = decoder.next(rest) else { panic!("three events") };
            rest = &rest[consumed..];
        }
        let Ok(Step::Event { event: Event::Field { name, value, .. }, .. }) = decoder.next(rest) else {
            panic!("a field");
        };
        assert!(bytes.as_ptr_range().contains(&name.as_ptr()));
        assert!(!bytes.as_ptr_range().contains(&value.as_ptr()));
        assert_eq!(value, [b'a'; 100]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn changed_files_are_endured(
            file in prop::sample::select(FILES.to_vec()),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            piece in 1..5000usize,
        ) {
            let mut bytes = file.to_vec();
            for (at, byte) in edits {
                let at = at.index(bytes.len() - Version::HEADER_LEN) + Version::HEADER_LEN;
                bytes[at] = byte;
            }
            endure(unverified(), &bytes, piece);
        }

        #[test]
        fn any_records_are_endured(
            records in prop::collection::vec(prop_oneof![any::<u8>(), 0..26u8, 0xc0..0xc4u8, 0xf3..=0xffu8], 0..300),
            header in prop::sample::select(vec![b"REDIS0003", b"REDIS0012", b"VALKEY080"]),
            piece in 1..300usize,
        ) {
            endure(unverified(), &[&header[..], &records].concat(), piece);
            for number in [9, 12, 80] {
                let version = Version::from_dump(number).expect("a known version");
                endure(Decoder::for_dump(version), &records, piece);
            }
        }
    }
}

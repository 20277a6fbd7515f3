//! A key and its value in one allocation.
//!
//! [`Record`] is what the tables of databases, sets and hashes hold: one non-null pointer to one block that carries a
//! small header, an optional expiry, the key, and a value that is nothing, a number, bytes, or the owner's type `P`
//! for everything bigger. A 14-byte key with a 100-byte value takes a block of 120 bytes. The record keeps no capacity:
//! the size of the block follows from what the header says is in it, so "does the new value fit" is decided by
//! comparing two rounded sizes.
//!
//! ```text
//!  0      4         5           6
//!  | head | key len | value len | key len u32 | value len u32 | pad | expire i64 | i64 or P | key … | value … |
//!                                 if WIDE_KEY   if WIDE_VALUE         if EXPIRE    if INT,            if BYTES,
//!                                                                                  PAYLOAD            PACKED
//! head   bits 0..24 the owner's, 24 TWIN, 25..29 kind, then EXPIRE, WIDE_KEY, WIDE_VALUE
//! ```
//! The pad, to a multiple of 8, is there only if one of the two fields after it is. The wide lengths may be unaligned.
//! A length's byte in the header is its lowest one, and the wide length is what is above it: 40 bits.
//!
//! *Packed* values are bytes with a small number that says what the owner reads them as: collections that are one
//! listpack or intset. [`Record::take_packed`] gives such a value out as a [`Blob`] that carries the record's header and
//! key as its prefix; it grows by itself, and [`Record::put_packed`] puts it back, wherever it lies then.
//!
//! # Twins
//! Two records may have one block, as when a data set that arrives holds what the old one has: [`Record::twin`] makes
//! the second of two equal records without a copy. There are never three, so the bit TWIN in the head is the whole
//! reference count: who is dropped first clears it and leaves the block to the other. What changes a record copies the
//! block first if TWIN is set, and then leaves the old one likewise. Only records without a payload have twins, so
//! nothing but bytes is shared.
//!
//! The two may be on different threads (the old data set is freed on its own). The rules that make this sound:
//! 1. While TWIN is set, nothing of the block is written but the head, and of that only TWIN and the owner's bits, by
//!    atomic read-modify-write operations.
//! 2. TWIN is set only through `&mut` of the one record that has the block ([`Record::twin`]), and cleared only by one
//!    `fetch_and` with release ([`Record::leave`]), after which the one that cleared it does not touch the block.
//! 3. Who has seen TWIN cleared, by a load with acquire or by its own `fetch_and` with acquire, is the only owner from
//!    then on, after all that the other has read, and writes and frees as if there had never been a twin. If both leave
//!    at once, the order of the two `fetch_and` says who was first; the second frees.
//!
//! Rule 3 is why every load that leads to a write is one with acquire (`owned_head`), also that of
//! [`Record::set_meta`]: a plain write of the head after a relaxed load would hide the other's release from later loads.
//! On x86 all of this costs the one test of a bit in a word that is read anyway.
//!
//! A record belongs to one thread at a time. It may move to another (to be freed there) when `P` may; it is never
//! shared by reference, which is what lets [`Record::set_meta`] write through `&self`.
#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena;
use crate::blob::Blob;

/// What a record holds besides its key.
#[derive(Debug, PartialEq, Eq)]
pub enum ValueRef<'a, P> {
    None,
    Int(i64),
    Bytes(&'a [u8]),
    /// Bytes and what the owner reads them as.
    Packed(u8, &'a [u8]),
    Payload(&'a P),
}

/// The value of a record, to be changed in place. Bytes keep their length.
#[derive(Debug, PartialEq, Eq)]
pub enum ValueMut<'a, P> {
    None,
    Int(&'a mut i64),
    Bytes(&'a mut [u8]),
    Packed(u8, &'a mut [u8]),
    Payload(&'a mut P),
}

/// A key, an optional expiry and a value behind one non-null pointer; `Option<Record<P>>` is as big.
pub struct Record<P> {
    block: NonNull<u8>,
    owns: PhantomData<P>,
}

// SAFETY: a record is the only owner of its block or shares it with its twin by the rules above, which hold across
// threads; a twin has no payload, and else the block holds nothing that is tied to a thread except `P`.
unsafe impl<P: Send> Send for Record<P> {}

const HEAD_AT: usize = 0;
const KEY_LEN_AT: usize = 4;
const VALUE_LEN_AT: usize = 5;
/// Where the wide lengths are.
const LENGTHS_AT: usize = 6;
/// Lengths are shorter than this, by what a byte and a wide length hold together.
const LENGTH_MAX: usize = 1 << 40;

/// How payloads, numbers and expiries are aligned, as the block is.
const ALIGN: usize = arena::GRANULE;

const META: u32 = TWIN - 1;
/// Another record has this block, too.
const TWIN: u32 = 1 << 24;
const KIND_AT: u32 = 25;
// Kinds. EMPTY has no room for a value; VACATED has the room of a payload that was taken out. MARKED are bytes with a
// mark of the owner's. PACKED and up are packed values, the number of the form being what is above PACKED.
const KIND: u32 = 0b1111 << KIND_AT;
const EMPTY: u32 = 0;
const INT: u32 = 1 << KIND_AT;
const PAYLOAD: u32 = 2 << KIND_AT;
const VACATED: u32 = 3 << KIND_AT;
const BYTES: u32 = 4 << KIND_AT;
const MARKED: u32 = 5 << KIND_AT;
const PACKED: u32 = 6 << KIND_AT;
const EXPIRE: u32 = 1 << 29;
const WIDE_KEY: u32 = 1 << 30;
const WIDE_VALUE: u32 = 1 << 31;

/// A packed value is taken out with what is before it up to this length. The value itself is at most as long.
const PREFIX_MAX: usize = if cfg!(test) { 1 << 10 } else { 1 << 30 };

/// Numbers for the forms of packed values.
pub const PACKED_FORMS: u8 = 10;

/// What a record points to while its packed value is out: the header of an empty record without a key, never written
/// and never freed. So a value that is leaked instead of put back leaves a record that holds nothing.
/// Atomic because heads are read as atomics.
static HOLLOW: AtomicU64 = AtomicU64::new(0);
const _: () = assert!(align_of::<AtomicU64>() == ALIGN);

impl<P> Record<P> {
    /// Bytes that a payload takes within the block.
    const PAYLOAD_ROOM: usize = {
        assert!(align_of::<P>() <= ALIGN, "a payload is aligned to 8 bytes at most");
        size_of::<P>().next_multiple_of(ALIGN)
    };

    /// A record with a key alone, as members of a set.
    pub fn new_key(key: &[u8], expire_at: Option<i64>) -> Record<P> {
        Record::build(EMPTY, key, 0, expire_at)
    }

    pub fn new_int(key: &[u8], value: i64, expire_at: Option<i64>) -> Record<P> {
        let record: Record<P> = Record::build(INT, key, 0, expire_at);
        // SAFETY: the block has kind INT, so `fixed_at` is an aligned i64 within it.
        unsafe { record.fixed_at().cast::<i64>().write(value) };
        record
    }

    /// # Panics
    /// If the key or the value is 1 TiB or longer.
    pub fn new_bytes(key: &[u8], value: &[u8], expire_at: Option<i64>) -> Record<P> {
        let record: Record<P> = Record::build(BYTES, key, value.len(), expire_at);
        // SAFETY: the block was built for `value.len()` bytes after the key, and is not the caller's slice.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), record.bytes_at(), value.len()) };
        record
    }

    /// As [`Record::new_bytes`], for bytes that the owner reads as `form`, below [`PACKED_FORMS`].
    pub fn new_packed(key: &[u8], form: u8, value: &[u8], expire_at: Option<i64>) -> Record<P> {
        let record: Record<P> = Record::build(packed(form), key, value.len(), expire_at);
        // SAFETY: as in `new_bytes`.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), record.bytes_at(), value.len()) };
        record
    }

    pub fn new_payload(key: &[u8], value: P, expire_at: Option<i64>) -> Record<P> {
        let record: Record<P> = Record::build(PAYLOAD, key, 0, expire_at);
        // SAFETY: the block has kind PAYLOAD, so `fixed_at` has room for a `P` and is aligned for it.
        unsafe { record.fixed_at().cast::<P>().write(value) };
        record
    }

    #[inline]
    pub fn key(&self) -> &[u8] {
        let head = self.head();
        // SAFETY: `key_start` is the start of `key_len` bytes that were initialised by `build` and that only `&mut self`
        // methods move, and a twin not at all.
        unsafe { slice::from_raw_parts(self.at(Self::key_start(head)), self.key_len_of(head)) }
    }

    #[inline]
    pub fn value(&self) -> ValueRef<'_, P> {
        let head = self.head();
        // SAFETY: the kind says what lies at `fixed_place` or after the key, and `&self` keeps it from being changed, as
        // rule 1 does in a twin.
        unsafe {
            match head & KIND {
                BYTES | MARKED => ValueRef::Bytes(self.bytes_of(head)),
                INT => ValueRef::Int(self.at(Self::fixed_place(head)).cast::<i64>().read()),
                PAYLOAD => ValueRef::Payload(&*self.at(Self::fixed_place(head)).cast::<P>()),
                EMPTY | VACATED => ValueRef::None,
                kind => ValueRef::Packed(form_of(kind), self.bytes_of(head)),
            }
        }
    }

    #[inline]
    pub fn value_mut(&mut self) -> ValueMut<'_, P> {
        self.own();
        // SAFETY: as in `value`; `&mut self` makes the reference the only one, since there is no twin now.
        unsafe {
            match self.kind() {
                INT => ValueMut::Int(&mut *self.fixed_at().cast::<i64>()),
                BYTES | MARKED => {
                    ValueMut::Bytes(slice::from_raw_parts_mut(self.bytes_at(), self.value_len()))
                }
                PAYLOAD => ValueMut::Payload(&mut *self.fixed_at().cast::<P>()),
                EMPTY | VACATED => ValueMut::None,
                kind => ValueMut::Packed(
                    form_of(kind),
                    slice::from_raw_parts_mut(self.bytes_at(), self.value_len()),
                ),
            }
        }
    }

    /// The value if it is a payload: what [`Record::value`] gives, without a look at the other kinds.
    #[inline]
    pub fn payload(&self) -> Option<&P> {
        // SAFETY: as in `value`.
        (self.kind() == PAYLOAD).then(|| unsafe { &*self.fixed_at().cast::<P>() })
    }

    /// The value if it is a payload, to be changed in place.
    #[inline]
    pub fn payload_mut(&mut self) -> Option<&mut P> {
        // SAFETY: as in `value_mut`; a record with a payload has no twin.
        (self.kind() == PAYLOAD).then(|| unsafe { &mut *self.fixed_at().cast::<P>() })
    }

    /// Replaces the value; key, meta and expiry stay. Returns the payload that was there, for the caller to free
    /// where it likes.
    pub fn set_bytes(&mut self, value: &[u8]) -> Option<P> {
        let old = self.take_payload();
        self.reshape(BYTES, value.len());
        // SAFETY: `reshape` made room for `value.len()` bytes; `value` cannot borrow from `self`.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), self.bytes_at(), value.len()) };
        old
    }

    /// As [`Record::set_bytes`], for bytes that the owner reads as `form`.
    pub fn set_packed(&mut self, form: u8, value: &[u8]) -> Option<P> {
        let old = self.take_payload();
        self.reshape(packed(form), value.len());
        // SAFETY: as in `set_bytes`.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), self.bytes_at(), value.len()) };
        old
    }

    /// As [`Record::set_bytes`].
    pub fn set_int(&mut self, value: i64) -> Option<P> {
        let old = self.take_payload();
        self.reshape(INT, 0);
        // SAFETY: the block has kind INT now.
        unsafe { self.fixed_at().cast::<i64>().write(value) };
        old
    }

    /// As [`Record::set_bytes`].
    pub fn set_payload(&mut self, value: P) -> Option<P> {
        let old = self.take_payload();
        self.reshape(PAYLOAD, 0);
        // SAFETY: the block has kind PAYLOAD now, and the old payload was taken out.
        unsafe { self.fixed_at().cast::<P>().write(value) };
        old
    }

    /// Drops the value and keeps the key.
    pub fn clear_value(&mut self) -> Option<P> {
        let old = self.take_payload();
        self.reshape(EMPTY, 0);
        old
    }

    /// Takes the payload out and leaves a record without a value, whose room a later [`Record::set_payload`] fills
    /// again without an allocation.
    pub fn take_payload(&mut self) -> Option<P> {
        if self.kind() != PAYLOAD {
            return None;
        }
        self.set_head(self.head() & !KIND | VACATED);
        // SAFETY: the kind was PAYLOAD, so a `P` lies there; it is VACATED now, so nobody reads or drops it again.
        Some(unsafe { self.fixed_at().cast::<P>().read() })
    }

    /// The form of a packed value; `None` for every other value.
    #[inline]
    pub fn packed_form(&self) -> Option<u8> {
        let kind = self.kind();
        (kind >= PACKED).then(|| form_of(kind))
    }

    /// Takes a packed value out, to be changed and given back by [`Record::put_packed`]. Meanwhile the record is hollow:
    /// its key and everything else went with the value, or is gone if the key is so long that the two together could
    /// be more than a blob holds.
    pub fn take_packed(&mut self) -> Option<Blob> {
        if self.kind() < PACKED {
            return None;
        }
        self.own();
        let prefix = Self::key_start(self.head()) + self.key_len();
        let len = self.value_len();
        if prefix > PREFIX_MAX {
            let ValueRef::Packed(_, bytes) = self.value() else { unreachable!("the kind says so") };
            let alone = Blob::from(bytes);
            *self = Record { block: hollow(), owns: PhantomData };
            return Some(alone);
        }
        let block = std::mem::replace(&mut self.block, hollow());
        // SAFETY: the block holds header and key, `prefix` bytes, and the value's `len`. The record has forgotten it.
        Some(unsafe { Blob::from_raw(block, prefix, len) })
    }

    /// Puts a value back that [`Record::take_packed`] gave, as `form`; the record is again what it was before but for
    /// the value. A blob without a record's prefix comes back as an error.
    ///
    /// # Panics
    /// If the record is not hollow.
    pub fn put_packed(&mut self, form: u8, value: Blob) -> Result<(), Blob> {
        if !value.has_prefix() {
            return Err(value);
        }
        assert!(self.is_hollow(), "a packed value goes back into the record that it was taken from");
        let (block, prefix, len) = value.into_raw();
        // SAFETY: only `take_packed` makes blobs with a prefix, so the block starts with the header and the key of a
        // record, and `len` bytes of value follow. The block is the blob's, which gave it up.
        unsafe {
            let head = block.cast::<u32>().read() & !KIND | packed(form);
            block.cast::<u32>().write(head);
            self.block = block;
            if head & WIDE_VALUE == 0 && len > usize::from(u8::MAX) {
                // The length needs room: once, since it stays wide.
                let value = Blob::from_raw(block, prefix, len);
                let key = ManuallyDrop::new(Record::<P> { block, owns: PhantomData });
                let wide = Record::new_packed(key.key(), form, &value, key.expire_at());
                wide.set_meta(key.meta());
                self.block = hollow();
                *self = wide;
                return Ok(());
            }
            self.write_value_len(len);
        }
        Ok(())
    }

    /// Whether the packed value is out, and with it the key.
    #[inline]
    pub fn is_hollow(&self) -> bool {
        self.block == hollow()
    }

    /// When the key expires, in milliseconds since the Unix epoch.
    #[inline]
    pub fn expire_at(&self) -> Option<i64> {
        let head = self.head();
        // SAFETY: EXPIRE says that an i64 lies there, aligned.
        (head & EXPIRE != 0).then(|| unsafe { self.at(Self::expire_place(head)).cast::<i64>().read() })
    }

    /// Sets or removes the expiry. Moves to another block only when the record had none before (or has none after)
    /// and the eight bytes change the size of the block.
    pub fn set_expire_at(&mut self, expire_at: Option<i64>) {
        self.own();
        let head = self.head();
        let wanted = if expire_at.is_some() { head | EXPIRE } else { head & !EXPIRE };
        if wanted != head {
            self.assert_has_block();
            let (key_len, value_len) = (self.key_len(), self.value_len());
            let (old_used, new_used) =
                (Self::used_by(head, key_len, value_len), Self::used_by(wanted, key_len, value_len));
            // Number or payload, key and value follow each other.
            let (old_start, new_start) = (Self::fixed_place(head), Self::fixed_place(wanted));
            let rest = old_used - old_start;
            // SAFETY: `rest` bytes are initialised, and both blocks are large enough for what their heads describe. A
            // payload is moved bitwise and dropped only through the new place.
            unsafe {
                if arena::rounded(old_used) == arena::rounded(new_used) {
                    ptr::copy(self.at(old_start), self.at(new_start), rest);
                } else {
                    let block = arena::alloc(new_used);
                    ptr::copy_nonoverlapping(self.at(0), block.as_ptr(), Self::lengths_end(head));
                    ptr::copy_nonoverlapping(self.at(old_start), block.as_ptr().add(new_start), rest);
                    arena::free(self.block, old_used);
                    self.block = block;
                }
            }
            self.set_head(wanted);
        }
        if let Some(at) = expire_at {
            // SAFETY: EXPIRE is set.
            unsafe { self.at(Self::expire_place(wanted)).cast::<i64>().write(at) };
        }
    }

    /// 24 bits that belong to the owner (an access clock, say). A new record has 0. Twins have them in common.
    #[inline]
    pub fn meta(&self) -> u32 {
        self.head() & META
    }

    /// Sets the owner's 24 bits; through `&self`, because reading a key touches its clock. A hollow record keeps none.
    #[inline]
    pub fn set_meta(&self, meta: u32) {
        if self.is_hollow() {
            return;
        }
        self.update_head(|head| head & !META | meta & META);
    }

    /// Whether a value of bytes has the owner's mark.
    #[inline]
    pub fn is_marked(&self) -> bool {
        self.kind() == MARKED
    }

    /// Marks a value of bytes, until it is replaced; others have no mark. Through `&self` like [`Record::set_meta`]: a
    /// twin is marked, too.
    #[inline]
    pub fn mark(&self) {
        if self.kind() == BYTES {
            self.update_head(|head| head & !KIND | MARKED);
        }
    }

    /// A second record with the same block, unless there is one already, or the value is a payload. From now on either
    /// is copied before it is changed, as long as the other is there; the owner's bits are those of both.
    pub fn twin(&mut self) -> Option<Record<P>> {
        let head = self.owned_head();
        if self.is_hollow() || head & TWIN != 0 || matches!(head & KIND, PAYLOAD | VACATED) {
            return None;
        }
        // Rule 2: the block is this record's alone.
        self.set_head(head | TWIN);
        Some(Record { block: self.block, owns: PhantomData })
    }

    /// Whether another record has this block, too.
    #[inline]
    pub fn has_twin(&self) -> bool {
        self.head() & TWIN != 0
    }

    /// Size of the allocation; what a payload owns elsewhere is not counted.
    #[inline]
    pub fn bytes(&self) -> usize {
        arena::rounded(self.used())
    }

    /// Asks for the first cache line, which holds header and key.
    #[inline]
    pub fn prefetch(&self) {
        prefetch_line(self.block.as_ptr());
    }

    /// The address of the block. It stays the same while only [`Record::value_mut`] and [`Record::set_meta`] are used.
    pub(crate) fn block(&self) -> NonNull<u8> {
        self.block
    }

    /// The key of the record whose [`Record::block`] this is.
    ///
    /// # Safety
    /// That record lives throughout `'a` and is not reshaped meanwhile.
    #[inline]
    pub(crate) unsafe fn key_of<'a>(block: NonNull<u8>) -> &'a [u8] {
        let record = ManuallyDrop::new(Record::<P> { block, owns: PhantomData });
        // SAFETY: the caller keeps the block alive; the record made here is never dropped.
        unsafe { slice::from_raw_parts(record.key_at(), record.key_len()) }
    }

    /// Before a change: the block is this record's alone afterwards.
    #[inline(always)]
    fn own(&mut self) {
        if self.owned_head() & TWIN != 0 {
            self.copy_from_twin();
        }
    }

    #[cold]
    #[inline(never)]
    fn copy_from_twin(&mut self) {
        let used = self.used();
        let head = self.head() & !TWIN;
        let block = arena::alloc(used);
        // SAFETY: both blocks have `used` bytes, and nobody writes the old one's (rule 1) but its head, which is
        // therefore not read with the rest. The twin may have left meanwhile: then the old block is ours to free.
        unsafe {
            block.cast::<u32>().write(head);
            ptr::copy_nonoverlapping(self.at(KEY_LEN_AT), block.as_ptr().add(KEY_LEN_AT), used - KEY_LEN_AT);
            if !self.leave() {
                arena::free(self.block, used);
            }
        }
        self.block = block;
    }

    /// Leaves the block to the twin, if that has not left it already: then it is ours, and false.
    fn leave(&mut self) -> bool {
        self.head_word().fetch_and(!TWIN, Ordering::AcqRel) & TWIN != 0
    }

    /// Changes the owner's bits, or the mark, in the head.
    #[inline(always)]
    fn update_head(&self, change: impl Fn(u32) -> u32) {
        let head = self.owned_head();
        if head & TWIN == 0 {
            // No other thread knows of the block: this is the write of a `Cell`.
            self.head_word().store(change(head), Ordering::Relaxed);
        } else {
            self.update_twin_head(change);
        }
    }

    #[cold]
    #[inline(never)]
    fn update_twin_head(&self, change: impl Fn(u32) -> u32) {
        let changed =
            self.head_word().fetch_update(Ordering::AcqRel, Ordering::Acquire, |head| Some(change(head)));
        debug_assert!(changed.is_ok(), "the change is unconditional");
    }

    fn build(kind: u32, key: &[u8], value_len: usize, expire_at: Option<i64>) -> Record<P> {
        let mut head = kind;
        if expire_at.is_some() {
            head |= EXPIRE;
        }
        if key.len() > usize::from(u8::MAX) {
            assert!(key.len() < LENGTH_MAX, "a key is shorter than 1 TiB");
            head |= WIDE_KEY;
        }
        head |= wide_value(value_len);
        let block = arena::alloc(Self::used_by(head, key.len(), value_len));
        let record = Record { block, owns: PhantomData };
        // SAFETY: the block is as large as the head and lengths demand; head first, since the offsets are derived
        // from it. The value's place stays uninitialised until the constructor that called us writes it.
        unsafe {
            record.at(HEAD_AT).cast::<u32>().write(head);
            record.write_key_len(key.len());
            record.write_value_len(value_len);
            if let Some(at) = expire_at {
                record.at(Self::expire_place(head)).cast::<i64>().write(at);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), record.key_at(), key.len());
        }
        record
    }

    /// Gives the record another kind of value, in the same block if the rounded size stays. The old value is lost (a
    /// payload must be taken before), the new one is uninitialised.
    fn reshape(&mut self, kind: u32, value_len: usize) {
        self.own();
        let (old_head, key_len, old_value_len) = (self.head(), self.key_len(), self.value_len());
        let head = old_head & !(KIND | WIDE_VALUE) | kind | wide_value(value_len);
        if head == old_head && value_len == old_value_len {
            return;
        }
        debug_assert!(old_head & KIND != PAYLOAD, "the payload was taken");
        self.assert_has_block();
        let old_used = Self::used_by(old_head, key_len, old_value_len);
        let new_used = Self::used_by(head, key_len, value_len);
        let expire_at = self.expire_at();
        let (old_key, new_key) = (Self::key_start(old_head), Self::key_start(head));
        // SAFETY: the key is initialised in the old block and the new one has room for it; everything before it is
        // written again since its place depends on the head.
        unsafe {
            if arena::rounded(old_used) == arena::rounded(new_used) {
                if old_key != new_key {
                    ptr::copy(self.at(old_key), self.at(new_key), key_len);
                }
            } else {
                let block = arena::alloc(new_used);
                ptr::copy_nonoverlapping(self.at(old_key), block.as_ptr().add(new_key), key_len);
                arena::free(self.block, old_used);
                self.block = block;
            }
            self.at(HEAD_AT).cast::<u32>().write(head);
            self.write_key_len(key_len);
            self.write_value_len(value_len);
            if let Some(at) = expire_at {
                self.at(Self::expire_place(head)).cast::<i64>().write(at);
            }
        }
    }

    /// The header that hollow records share must stay as it is.
    #[inline(always)]
    fn assert_has_block(&self) {
        assert!(!self.is_hollow(), "a record whose packed value is out is not changed");
    }

    #[inline(always)]
    fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: every caller's offset lies within the block (its smallest size covers the header).
        unsafe { self.block.as_ptr().add(offset) }
    }

    #[inline(always)]
    fn head_word(&self) -> &AtomicU32 {
        // SAFETY: every block has its head, aligned, for as long as the record is there, and no reference to it is ever
        // handed out. Those that read and write it plainly have `&mut self` and no twin.
        unsafe { AtomicU32::from_ptr(self.at(HEAD_AT).cast()) }
    }

    #[inline(always)]
    fn head(&self) -> u32 {
        self.head_word().load(Ordering::Relaxed)
    }

    /// The head, before a write: without TWIN, all that a twin has done with the block is done.
    #[inline(always)]
    fn owned_head(&self) -> u32 {
        self.head_word().load(Ordering::Acquire)
    }

    #[inline(always)]
    fn set_head(&mut self, head: u32) {
        self.head_word().store(head, Ordering::Relaxed);
    }

    #[inline(always)]
    fn kind(&self) -> u32 {
        self.head() & KIND
    }

    /// Where the wide lengths end.
    #[inline(always)]
    const fn lengths_end(head: u32) -> usize {
        LENGTHS_AT + 4 * (head & WIDE_KEY != 0) as usize + 4 * (head & WIDE_VALUE != 0) as usize
    }

    #[inline(always)]
    const fn expire_place(head: u32) -> usize {
        Self::lengths_end(head).next_multiple_of(ALIGN)
    }

    /// Where an i64 or a `P` lies, or else the key.
    #[inline(always)]
    const fn fixed_place(head: u32) -> usize {
        if head & EXPIRE == 0 && !has_fixed(head) {
            return Self::lengths_end(head);
        }
        Self::expire_place(head) + if head & EXPIRE == 0 { 0 } else { 8 }
    }

    /// Where the key begins, for each of the heads above the owner's bits. Every look-up asks for it.
    const KEY_STARTS: [u8; 1 << (u32::BITS - KIND_AT)] = {
        let mut starts = [0; 1 << (u32::BITS - KIND_AT)];
        let mut bits = 0;
        while bits < starts.len() {
            let head = (bits as u32) << KIND_AT;
            let room = match head & KIND {
                INT => 8,
                PAYLOAD | VACATED => Self::PAYLOAD_ROOM,
                _ => 0,
            };
            let start = Self::fixed_place(head) + room;
            assert!(start <= u8::MAX as usize, "a payload is no bigger than some words");
            starts[bits] = start as u8;
            bits += 1;
        }
        starts
    };

    #[inline(always)]
    fn key_start(head: u32) -> usize {
        usize::from(const { &Self::KEY_STARTS }[(head >> KIND_AT) as usize])
    }

    #[inline(always)]
    fn fixed_at(&self) -> *mut u8 {
        self.at(Self::fixed_place(self.head()))
    }

    #[inline(always)]
    fn key_at(&self) -> *mut u8 {
        self.at(Self::key_start(self.head()))
    }

    #[inline(always)]
    fn bytes_at(&self) -> *mut u8 {
        let head = self.head();
        self.at(Self::key_start(head) + self.key_len_of(head))
    }

    /// # Safety
    /// The head is the record's, and its kind one of bytes.
    #[inline(always)]
    unsafe fn bytes_of(&self, head: u32) -> &[u8] {
        let start = Self::key_start(head) + self.key_len_of(head);
        // SAFETY: so many bytes follow the key.
        unsafe { slice::from_raw_parts(self.at(start), self.value_len_of(head)) }
    }

    #[inline(always)]
    fn key_len(&self) -> usize {
        self.key_len_of(self.head())
    }

    /// The length of the key if this is the head, read once: it is an atomic, which is read as often as it says.
    #[inline(always)]
    fn key_len_of(&self, head: u32) -> usize {
        // SAFETY: the header's byte is there in any case, and a u32 if WIDE_KEY says so.
        unsafe {
            let low = usize::from(self.at(KEY_LEN_AT).read());
            if head & WIDE_KEY == 0 {
                low
            } else {
                (self.at(LENGTHS_AT).cast::<u32>().read_unaligned() as usize) << 8 | low
            }
        }
    }

    #[inline(always)]
    fn value_len(&self) -> usize {
        self.value_len_of(self.head())
    }

    #[inline(always)]
    fn value_len_of(&self, head: u32) -> usize {
        // SAFETY: the header's byte is there in any case, and a u32 if WIDE_VALUE says so.
        unsafe {
            let low = usize::from(self.at(VALUE_LEN_AT).read());
            if head & WIDE_VALUE == 0 {
                low
            } else {
                (self.at(Self::lengths_end(head) - 4).cast::<u32>().read_unaligned() as usize) << 8 | low
            }
        }
    }

    /// # Safety
    /// The head is that of a key of this length.
    #[inline(always)]
    unsafe fn write_key_len(&self, key_len: usize) {
        // SAFETY: as in `key_len`.
        unsafe {
            self.at(KEY_LEN_AT).write(key_len as u8);
            if self.head() & WIDE_KEY != 0 {
                self.at(LENGTHS_AT).cast::<u32>().write_unaligned((key_len >> 8) as u32);
            }
        }
    }

    /// # Safety
    /// The head is that of a value of this length, or has room for a wide one.
    #[inline(always)]
    unsafe fn write_value_len(&self, value_len: usize) {
        let head = self.head();
        // SAFETY: as in `value_len`.
        unsafe {
            self.at(VALUE_LEN_AT).write(value_len as u8);
            if head & WIDE_VALUE != 0 {
                self.at(Self::lengths_end(head) - 4).cast::<u32>().write_unaligned((value_len >> 8) as u32);
            }
        }
    }

    #[inline]
    fn used(&self) -> usize {
        let head = self.head();
        Self::used_by(head, self.key_len_of(head), self.value_len_of(head))
    }

    #[inline]
    fn used_by(head: u32, key_len: usize, value_len: usize) -> usize {
        Self::key_start(head) + key_len + value_len
    }
}

fn hollow() -> NonNull<u8> {
    NonNull::from(&HOLLOW).cast()
}

fn packed(form: u8) -> u32 {
    debug_assert!(form < PACKED_FORMS);
    PACKED + (u32::from(form) << KIND_AT)
}

#[inline(always)]
fn form_of(kind: u32) -> u8 {
    ((kind - PACKED) >> KIND_AT) as u8
}

/// Whether a number or a payload, or the room of one, lies before the key.
#[inline(always)]
const fn has_fixed(head: u32) -> bool {
    matches!(head & KIND, INT | PAYLOAD | VACATED)
}

/// Asks for the cache line of an address, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch_line(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address has no effect but on the cache.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        // SAFETY: as above.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags))
        };
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = address;
}

fn wide_value(value_len: usize) -> u32 {
    assert!(value_len < LENGTH_MAX, "a value within a record is shorter than 1 TiB");
    if value_len > usize::from(u8::MAX) { WIDE_VALUE } else { 0 }
}

impl<P> Drop for Record<P> {
    fn drop(&mut self) {
        if self.is_hollow() {
            return;
        }
        if self.owned_head() & TWIN != 0 && self.leave() {
            return;
        }
        let used = self.used();
        if self.kind() == PAYLOAD {
            drop(self.take_payload());
        }
        // SAFETY: the block was allocated for `used` bytes, as its header says; a hollow one is not ours.
        unsafe { arena::free(self.block, used) };
    }
}

impl<P: fmt::Debug> fmt::Debug for Record<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("value", &self.value())
            .field("expire_at", &self.expire_at())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    use proptest::prelude::*;

    use crate::testing::{cases, fewer};

    type Counted = Record<(Rc<()>, u64, u8)>;

    #[test]
    fn a_pointer_with_a_niche() {
        assert_eq!(size_of::<Option<Record<u64>>>(), size_of::<usize>());
    }

    #[test]
    fn small_keys_and_values_fit_their_size_class() {
        assert_eq!(Record::<[u64; 3]>::new_bytes(&[b'k'; 14], &[b'v'; 100], None).bytes(), 120);
        assert_eq!(Record::<[u64; 3]>::new_bytes(&[b'k'; 14], &[b'v'; 32], Some(1)).bytes(), 64);
        assert_eq!(Record::<[u64; 3]>::new_key(&[b'k'; 10], None).bytes(), 16);
        assert_eq!(Record::<[u64; 3]>::new_payload(&[b'k'; 14], [0; 3], None).bytes(), 48);
    }

    #[test]
    fn overwriting_within_the_class_stays_in_place() {
        let mut record: Record<u64> = Record::new_bytes(b"key", &[1; 25], None);
        let block = record.block();
        record.set_bytes(&[2; 31]);
        record.set_bytes(&[3; 24]);
        assert_eq!((record.block(), record.value()), (block, ValueRef::Bytes(&[3; 24])));
        record.set_bytes(&[4; 100]);
        assert_eq!((record.key(), record.value()), (&b"key"[..], ValueRef::Bytes(&[4; 100])));
    }

    #[test]
    fn payloads_are_dropped_once() {
        let alive = Rc::new(());
        let payload = || (alive.clone(), 7u64, 9u8);
        let mut record = Counted::new_payload(b"k", payload(), None);
        assert_eq!(Rc::strong_count(&alive), 2);
        assert_eq!(record.set_payload(payload()).expect("old payload").1, 7);
        assert_eq!(Rc::strong_count(&alive), 2);
        record.set_expire_at(Some(5));
        drop(record.set_bytes(b"text"));
        assert_eq!(Rc::strong_count(&alive), 1);
        assert!(record.set_payload(payload()).is_none());
        let block = record.block();
        drop(record.take_payload());
        assert_eq!((Rc::strong_count(&alive), matches!(record.value(), ValueRef::None)), (1, true));
        assert!(record.set_payload(payload()).is_none());
        assert_eq!((record.block(), record.expire_at()), (block, Some(5)), "a vacated place is used again");
        drop(record);
        assert_eq!(Rc::strong_count(&alive), 1);
    }

    #[test]
    fn the_clock_is_set_while_the_record_is_read() {
        let record: Record<u64> = Record::new_bytes(b"k", b"value", Some(3));
        let (key, value) = (record.key(), record.value());
        record.set_meta(0xad_beef);
        assert_eq!((key, value, record.meta()), (&b"k"[..], ValueRef::Bytes(b"value"), 0xad_beef));
    }

    #[test]
    fn a_packed_value_goes_out_without_a_huge_key() {
        let key = [b'k'; PREFIX_MAX];
        let mut record = Record::<()>::new_packed(&key, 3, b"value", None);
        let value = record.take_packed().expect("it is packed");
        assert!(record.is_hollow() && !value.has_prefix());
        let value = record.put_packed(3, value).expect_err("the key is gone");
        assert_eq!(*value, *b"value");
    }

    #[test]
    #[cfg(not(miri))]
    fn lengths_have_40_bits() {
        // Memory that is never touched.
        for len in [u32::MAX as usize, 1 << 32, (5 << 30) + 0x1_02ff] {
            let mut record = Record::<()>::build(BYTES, b"key", len, Some(7));
            assert_eq!((record.value_len(), record.key()), (len, &b"key"[..]));
            record.set_bytes(b"short");
            assert_eq!((record.value(), record.expire_at()), (ValueRef::Bytes(b"short"), Some(7)));
        }
    }

    #[test]
    fn a_packed_value_goes_out_with_the_key_and_comes_back() {
        let mut record: Record<u64> = Record::new_packed(b"a key of 14 by", 3, &[1; 100], Some(77));
        record.set_meta(5);
        assert!(record.put_packed(3, Blob::empty()).is_err(), "not a value that was taken out");
        let mut blob = record.take_packed().expect("packed");
        assert!(record.is_hollow() && record.key().is_empty() && record.take_packed().is_none());
        blob.resize_gap(100, 0, 400);
        blob[100..].fill(1);
        record.put_packed(4, blob).expect("its own");
        assert_eq!((record.key(), record.value()), (&b"a key of 14 by"[..], ValueRef::Packed(4, &[1; 500])));
        assert_eq!((record.meta(), record.expire_at(), record.packed_form()), (5, Some(77), Some(4)));
        // Leaked or dropped instead: the record holds nothing, and nothing is freed twice.
        drop(record.take_packed());
        assert_eq!((record.value(), record.key()), (ValueRef::None, &b""[..]));
    }

    #[test]
    fn a_twin_costs_nothing_until_one_of_the_two_is_changed() {
        let mut one: Record<u64> = Record::new_bytes(b"key", &[1; 100], Some(7));
        let mut two = one.twin().expect("it is alone");
        assert_eq!((one.block(), one.has_twin(), two.has_twin()), (two.block(), true, true));
        assert!(one.twin().is_none() && two.twin().is_none(), "there are never three");
        two.set_meta(5);
        two.mark();
        assert_eq!((one.meta(), one.is_marked()), (5, true), "the head is that of both");
        let ValueMut::Bytes(bytes) = two.value_mut() else { panic!("bytes") };
        bytes.fill(2);
        assert!(one.block() != two.block() && !one.has_twin() && !two.has_twin());
        assert_eq!(
            (one.key(), one.value(), one.expire_at()),
            (&b"key"[..], ValueRef::Bytes(&[1; 100]), Some(7))
        );
        assert_eq!(
            (two.key(), two.value(), two.expire_at()),
            (&b"key"[..], ValueRef::Bytes(&[2; 100]), Some(7))
        );
        assert_eq!((two.meta(), two.is_marked()), (5, true));
        // Either may have another twin now; and who is alone again is changed in place.
        let three = one.twin().expect("it is alone again");
        drop(one);
        let (block, mut three) = (three.block(), three);
        three.set_bytes(&[3; 100]);
        assert_eq!((three.block(), three.has_twin(), three.is_marked()), (block, false, false));
    }

    #[test]
    fn what_owns_more_than_its_block_has_no_twin() {
        let mut record = Record::new_payload(b"key", Box::new(1u64), None);
        assert!(record.twin().is_none());
        drop(record.take_payload());
        assert!(record.twin().is_none());
        record.set_packed(1, b"value");
        drop(record.take_packed());
        assert!(record.is_hollow() && record.twin().is_none());
    }

    /// What another thread does with a twin before it is gone, for Miri to look at the order of.
    #[test]
    fn twins_part_on_two_threads() {
        let changes: [fn(Record<u64>); 7] = [
            drop,
            |mut record| assert!(record.set_bytes(&[2; 40]).is_none()),
            |record| record.set_meta(9),
            |mut record| record.set_expire_at(Some(2)),
            |mut record| match record.value_mut() {
                ValueMut::Packed(1, bytes) => bytes.fill(3),
                _ => panic!("packed"),
            },
            |mut record| {
                record.set_meta(8);
                let mut blob = record.take_packed().expect("packed");
                blob.fill(4);
                record.put_packed(2, blob).expect("its own");
                assert_eq!(record.value(), ValueRef::Packed(2, &[4; 40]));
            },
            |mut record| drop(record.twin()),
        ];
        for _ in 0..fewer(200, 3) {
            for change in changes {
                let mut record: Record<u64> = Record::new_packed(b"key", 1, &[1; 40], None);
                let twin = record.twin().expect("it is alone");
                let elsewhere = std::thread::spawn(move || {
                    assert_eq!((twin.key(), twin.value()), (&b"key"[..], ValueRef::Packed(1, &[1; 40])));
                });
                assert_eq!(record.value(), ValueRef::Packed(1, &[1; 40]));
                change(record);
                elsewhere.join().expect("the twin was as it had been");
            }
        }
    }

    /// All hollow records share one header, in every thread.
    #[test]
    fn a_record_whose_value_is_lost_holds_nothing_and_is_not_changed() {
        let hollow = || {
            let mut record: Record<Box<u64>> = Record::new_packed(b"key", 3, &[1; 100], None);
            drop(record.take_packed());
            record
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut record = hollow();
                    record.set_meta(7);
                    record.set_expire_at(None);
                    assert!(record.clear_value().is_none());
                    assert_eq!(
                        (record.meta(), record.expire_at(), record.value()),
                        (0, None, ValueRef::None)
                    );
                });
            }
        });
        let changes: [fn(&mut Record<Box<u64>>); 5] = [
            |record| drop(record.set_bytes(b"")),
            |record| drop(record.set_packed(3, &[1; 100])),
            |record| drop(record.set_int(1)),
            |record| drop(record.set_payload(Box::new(1))),
            |record| record.set_expire_at(Some(1)),
        ];
        for change in changes {
            let mut record = hollow();
            let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(&mut record)));
            assert!(changed.is_err() && record.is_hollow() && record.value() == ValueRef::None);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Bytes(Vec<u8>),
        Packed(u8, Vec<u8>),
        /// Of the packed value that there is: taken out, changed at both ends, and put back.
        Repack(u8, Vec<u8>),
        Int(i64),
        Payload(u64),
        Take,
        Clear,
        Expire(Option<i64>),
        Meta(u32),
        Mutate,
        /// The second record that is there from then on has the same block.
        Twin,
        /// The second record goes on, and the first is looked at only.
        Swap,
        /// The second record goes.
        Part,
    }

    #[derive(Debug, Clone, PartialEq)]
    enum Model {
        None,
        Int(i64),
        Bytes(Vec<u8>),
        Packed(u8, Vec<u8>),
        Payload(u64),
    }

    fn value_of(record: &Record<Box<u64>>) -> Model {
        match record.value() {
            ValueRef::None => Model::None,
            ValueRef::Int(n) => Model::Int(n),
            ValueRef::Bytes(b) => Model::Bytes(b.to_vec()),
            ValueRef::Packed(form, b) => Model::Packed(form, b.to_vec()),
            ValueRef::Payload(p) => Model::Payload(**p),
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let len = || prop_oneof![0..80usize, 200..300usize, 65_500..65_600usize];
        let form = || 0..PACKED_FORMS;
        let step = prop_oneof![
            4 => (len(), any::<u8>()).prop_map(|(len, byte)| Step::Bytes(vec![byte; len])),
            4 => (form(), len(), any::<u8>()).prop_map(|(form, len, byte)| Step::Packed(form, vec![byte; len])),
            4 => (form(), len(), any::<u8>()).prop_map(|(form, len, byte)| Step::Repack(form, vec![byte; len])),
            2 => any::<i64>().prop_map(Step::Int),
            2 => any::<u64>().prop_map(Step::Payload),
            1 => Just(Step::Take),
            1 => Just(Step::Clear),
            3 => any::<Option<i64>>().prop_map(Step::Expire),
            1 => any::<u32>().prop_map(|meta| Step::Meta(meta & META)),
            1 => Just(Step::Mutate),
            3 => Just(Step::Twin),
            2 => Just(Step::Swap),
            1 => Just(Step::Part),
        ];
        prop::collection::vec(step, 0..fewer(40, 8))
    }

    proptest! {
        #![proptest_config(cases(256, 6))]

        #[test]
        fn every_shape_keeps_key_value_expiry_and_meta(
            key_len in prop_oneof![0..40usize, 250..260usize],
            born_with in any::<Option<i64>>(),
            steps in steps(),
        ) {
            let key: Vec<u8> = (0..key_len).map(|i| i as u8).collect();
            // Boxed, so that Miri and the leak check see a payload dropped twice or never.
            let mut record: Record<Box<u64>> = Record::new_key(&key, born_with);
            let (mut model, mut expire_at, mut meta) = (Model::None, born_with, 0);
            // Once a twin, and what it was then.
            let mut second: Option<(Record<Box<u64>>, Model, Option<i64>)> = None;
            for step in steps {
                let payload_before = if let Model::Payload(n) = model { Some(n) } else { None };
                match step {
                    Step::Bytes(bytes) => {
                        prop_assert_eq!(record.set_bytes(&bytes).map(|p| *p), payload_before);
                        model = Model::Bytes(bytes);
                    }
                    Step::Packed(form, bytes) => {
                        prop_assert_eq!(record.set_packed(form, &bytes).map(|p| *p), payload_before);
                        model = Model::Packed(form, bytes);
                    }
                    Step::Repack(form, bytes) => {
                        let Some(mut blob) = record.take_packed() else {
                            prop_assert!(!matches!(model, Model::Packed(..)));
                            continue;
                        };
                        let Model::Packed(_, old) = &mut model else { panic!("{model:?} is not packed") };
                        prop_assert_eq!(&*blob, &old[..]);
                        let cut = old.len() / 3;
                        blob.resize_gap(0, cut, 2);
                        blob[..2].fill(7);
                        let end = blob.len();
                        blob.resize_gap(end, 0, bytes.len());
                        blob[end..].copy_from_slice(&bytes);
                        old.splice(..cut, [7, 7]);
                        old.extend_from_slice(&bytes);
                        model = Model::Packed(form, std::mem::take(old));
                        prop_assert!(record.is_hollow());
                        prop_assert!(record.put_packed(form, blob).is_ok());
                    }
                    Step::Int(n) => {
                        prop_assert_eq!(record.set_int(n).map(|p| *p), payload_before);
                        model = Model::Int(n);
                    }
                    Step::Payload(n) => {
                        prop_assert_eq!(record.set_payload(Box::new(n)).map(|p| *p), payload_before);
                        model = Model::Payload(n);
                    }
                    Step::Take => {
                        prop_assert_eq!(record.take_payload().map(|p| *p), payload_before);
                        if payload_before.is_some() {
                            model = Model::None;
                        }
                    }
                    Step::Clear => {
                        prop_assert_eq!(record.clear_value().map(|p| *p), payload_before);
                        model = Model::None;
                    }
                    Step::Expire(at) => {
                        record.set_expire_at(at);
                        expire_at = at;
                    }
                    Step::Meta(bits) => {
                        record.set_meta(bits);
                        meta = bits;
                    }
                    Step::Twin => {
                        let had_twin = record.has_twin();
                        if let Some(twin) = record.twin() {
                            second = Some((twin, model.clone(), expire_at));
                        } else {
                            prop_assert!(had_twin || matches!(record.kind(), PAYLOAD | VACATED));
                        }
                    }
                    Step::Swap => if let Some((second, then, expire_then)) = &mut second {
                        std::mem::swap(&mut record, second);
                        std::mem::swap(&mut model, then);
                        std::mem::swap(&mut expire_at, expire_then);
                        meta = record.meta();
                    },
                    Step::Part => second = None,
                    Step::Mutate => match (record.value_mut(), &mut model) {
                        (ValueMut::Int(n), Model::Int(m)) => (*n, *m) = (5, 5),
                        (ValueMut::Bytes(b), Model::Bytes(m)) => {
                            b.fill(1);
                            m.fill(1);
                        }
                        (ValueMut::Packed(a, b), Model::Packed(form, m)) if a == *form => {
                            b.fill(1);
                            m.fill(1);
                        }
                        (ValueMut::Payload(p), Model::Payload(m)) => (**p, *m) = (6, 6),
                        (ValueMut::None, Model::None) => {}
                        (value, model) => prop_assert!(false, "{value:?} is not {model:?}"),
                    },
                }
                prop_assert_eq!(&value_of(&record), &model);
                if let Some((second, then, expire_then)) = &second {
                    prop_assert_eq!(&value_of(second), then);
                    prop_assert_eq!((second.key(), second.expire_at()), (&key[..], *expire_then));
                    prop_assert_eq!(second.has_twin(), record.has_twin());
                } else {
                    prop_assert!(!record.has_twin());
                }
                prop_assert_eq!(record.key(), &key[..]);
                prop_assert_eq!(record.expire_at(), expire_at);
                prop_assert_eq!(record.meta(), meta);
            }
        }
    }
}

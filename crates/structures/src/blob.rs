//! Bytes in one block of the [arena](crate::arena), without slack beyond its rounding: what a listpack or an intset
//! owns.
//!
//! A blob may lie behind a *prefix*: bytes at the start of its block that are not its own and that it carries along when
//! it grows. That is how the collection of a key lies in the key's record and can still grow by itself: see
//! [`crate::record::Record::take_packed`]. A blob owns its block with the prefix, so it may be dropped like any other.
//!
//! A blob without a prefix may instead have *room*: unused bytes before its own, so that what changes at its front need
//! not move everything behind it. Growing or shrinking there with [`Blob::resize_gap_in_front`] makes room of up to an
//! eighth of the blob, which costs some bytes copied per byte pushed instead of the whole blob per push.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use crate::arena;

/// Shorter blobs get no room: there is little to move.
const ROOMY_FROM: usize = 256;
/// Room is shorter than this.
const ROOM_MAX: usize = 0x8000;
/// The values of [`Blob::before`] from here on stand for room, the others for a prefix.
const ROOM: u32 = u32::MAX - ROOM_MAX as u32;

/// Owned bytes, up to 4 GiB; a mutable slice of fixed length, but for [`Blob::resize_gap`].
pub struct Blob {
    /// The first byte after prefix or room. Dangling if the block has no bytes at all: then there is none.
    bytes: NonNull<u8>,
    len: u32,
    /// The length of the prefix, or [`ROOM`] and the length of the room, if that is not 0.
    before: u32,
}

// A node of a list is 24 bytes because of it.
const _: () = assert!(size_of::<Blob>() == 16 && size_of::<Option<Blob>>() == 16);

// SAFETY: a blob is the only owner of its block, and blocks belong to no thread.
unsafe impl Send for Blob {}
// SAFETY: through a shared reference its bytes are only read.
unsafe impl Sync for Blob {}

impl Blob {
    /// Without bytes and without an allocation.
    pub const fn empty() -> Blob {
        Blob { bytes: NonNull::<u64>::dangling().cast(), len: 0, before: 0 }
    }

    /// Makes `removed` bytes at `at` into `added` bytes, moving what comes after them. What the gap holds then is
    /// unspecified.
    ///
    /// # Panics
    /// If the gap is not within the blob, or the blob would be 4 GiB or longer.
    #[inline]
    pub fn resize_gap(&mut self, at: usize, removed: usize, added: usize) {
        let old = self.len as usize;
        let rest =
            old.checked_sub(removed).and_then(|left| left.checked_sub(at)).expect("a gap within the blob");
        let new = old - removed + added;
        let prefix = self.before_len();
        assert!(prefix + new < ROOM as usize, "a blob is shorter than 4 GiB");
        // SAFETY: the block has room for prefix and `old` bytes, which are initialised, and afterwards for `new`. Source
        // and target of each copy lie within it by the check above. The gap is zeroed because some of it may never have
        // been written.
        unsafe {
            let (old_size, new_size) = (prefix + old, prefix + new);
            if old_size == 0 || new_size == 0 || arena::rounded(old_size) != arena::rounded(new_size) {
                return self.move_gap(at, removed, added, rest);
            }
            let gap = self.bytes.as_ptr().add(at);
            ptr::copy(gap.add(removed), gap.add(added), rest);
            gap.write_bytes(0, added);
        }
        self.len = new as u32;
    }

    /// [`Blob::resize_gap`], but what comes before the gap is moved: for a gap near the start of many bytes.
    #[inline]
    pub fn resize_gap_in_front(&mut self, at: usize, removed: usize, added: usize) {
        let old = self.len as usize;
        let room = self.room();
        assert!(at <= old && removed <= old - at, "a gap within the blob");
        let shift = added.wrapping_sub(removed) as isize;
        let left = room as isize - shift;
        if self.has_prefix() || left < 0 || left as usize > room_max(old) {
            return self.renew_room(at, removed, added);
        }
        // SAFETY: the block has `room` bytes before the blob's, of which `shift` become bytes of the blob; or -`shift`
        // bytes of the gap become room. What lies before the gap stays within the blob; the gap is zeroed because some
        // of it may never have been written.
        unsafe {
            let bytes = self.bytes.offset(-shift);
            ptr::copy(self.bytes.as_ptr(), bytes.as_ptr(), at);
            bytes.add(at).write_bytes(0, added);
            self.bytes = bytes;
        }
        self.len = (old - removed + added) as u32;
        self.set_room(left as usize);
    }

    /// [`Blob::resize_gap_in_front`] where the room does not do: makes other room, or none.
    #[inline(never)]
    fn renew_room(&mut self, at: usize, removed: usize, added: usize) {
        let (old, new) = (self.len as usize, self.len as usize - removed + added);
        if self.has_prefix() || new < ROOMY_FROM && self.room() == 0 {
            return self.resize_gap(at, removed, added);
        }
        assert!(new < ROOM as usize - ROOM_MAX, "a blob is shorter than 4 GiB");
        // Popping needs none.
        let room = if added > removed { room_max(new) } else { 0 };
        let Some(block) = (room + new > 0).then(|| arena::alloc(room + new)) else {
            *self = Blob::empty();
            return;
        };
        // SAFETY: a fresh block, large enough for room and `new` bytes; the gap is within the old bytes by the check in
        // `resize_gap_in_front`.
        let mut roomy = unsafe {
            let bytes = block.add(room);
            ptr::copy_nonoverlapping(self.bytes.as_ptr(), bytes.as_ptr(), at);
            bytes.add(at).write_bytes(0, added);
            let rest = self.bytes.add(at + removed);
            ptr::copy_nonoverlapping(rest.as_ptr(), bytes.add(at + added).as_ptr(), old - at - removed);
            Blob { bytes, len: new as u32, before: 0 }
        };
        roomy.set_room(room);
        *self = roomy;
    }

    /// Gives the room back.
    pub fn trim_room(&mut self) {
        if self.room() > 0 {
            *self = Blob::from(&**self);
        }
    }

    /// Bytes of the block before the blob's own, be they prefix or room.
    #[inline(always)]
    fn before_len(&self) -> usize {
        (if self.before > ROOM { self.before - ROOM } else { self.before }) as usize
    }

    #[inline(always)]
    fn room(&self) -> usize {
        self.before.saturating_sub(ROOM) as usize
    }

    #[inline(always)]
    fn set_room(&mut self, room: usize) {
        debug_assert!(room <= ROOM_MAX);
        self.before = if room > 0 { ROOM + room as u32 } else { 0 };
    }

    /// [`Blob::resize_gap`] into another block.
    ///
    /// # Safety
    /// As checked there: `rest` bytes follow the gap.
    #[inline(never)]
    unsafe fn move_gap(&mut self, at: usize, removed: usize, added: usize, rest: usize) {
        let prefix = self.before_len();
        let new_size = prefix + at + added + rest;
        let old_size = prefix + at + removed + rest;
        if new_size == 0 {
            *self = Blob::empty();
            return;
        }
        // SAFETY: `start` is the block of `old_size` bytes if there is one. In a large block, which may grow where it is,
        // the rest is moved before it shrinks or after it has grown.
        unsafe {
            let start = self.start();
            let block = if old_size > arena::BLOCK_MAX && new_size > arena::BLOCK_MAX {
                let tail = start.as_ptr().add(prefix + at);
                if added < removed {
                    ptr::copy(tail.add(removed), tail.add(added), rest);
                }
                let block = arena::realloc(start, old_size, new_size);
                let tail = block.as_ptr().add(prefix + at);
                if added > removed {
                    ptr::copy(tail.add(removed), tail.add(added), rest);
                }
                block
            } else {
                let block = arena::alloc(new_size);
                if old_size > 0 {
                    ptr::copy_nonoverlapping(start.as_ptr(), block.as_ptr(), prefix + at);
                    let from = start.as_ptr().add(prefix + at + removed);
                    ptr::copy_nonoverlapping(from, block.as_ptr().add(prefix + at + added), rest);
                    arena::free(start, old_size);
                }
                block
            };
            block.as_ptr().add(prefix + at).write_bytes(0, added);
            self.bytes = block.add(prefix);
        }
        self.len = (at + added + rest) as u32;
    }

    /// The size of the block, with prefix or room and what the arena rounds up.
    pub fn block_bytes(&self) -> usize {
        arena::rounded(self.before_len() + self.len as usize)
    }

    /// Whether there are bytes of somebody else before it.
    #[inline(always)]
    pub fn has_prefix(&self) -> bool {
        0 < self.before && self.before <= ROOM
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: prefix or room lie before the bytes, in the same block.
        unsafe { self.bytes.sub(self.before_len()) }
    }

    /// The block, the length of the prefix, which there is, and that of the bytes; the blob gives up the block.
    pub(crate) fn into_raw(self) -> (NonNull<u8>, usize, usize) {
        assert!(self.has_prefix(), "room is nobody's prefix");
        let blob = ManuallyDrop::new(self);
        (blob.start(), blob.before_len(), blob.len as usize)
    }

    /// # Safety
    /// `block` is a block of the arena for `prefix + len` (not 0) initialised bytes that the blob is to own. Both are
    /// below 4 GiB.
    pub(crate) unsafe fn from_raw(block: NonNull<u8>, prefix: usize, len: usize) -> Blob {
        assert!(prefix <= ROOM as usize, "a blob is shorter than 4 GiB");
        // SAFETY: the caller's.
        Blob { bytes: unsafe { block.add(prefix) }, len: len as u32, before: prefix as u32 }
    }
}

/// The most room that a blob of this length keeps.
#[inline(always)]
fn room_max(len: usize) -> usize {
    (len / 8).min(ROOM_MAX)
}

impl Drop for Blob {
    fn drop(&mut self) {
        let size = self.before_len() + self.len as usize;
        if size > 0 {
            // SAFETY: the blob owns this block of this size.
            unsafe { arena::free(self.start(), size) };
        }
    }
}

impl Deref for Blob {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes after the prefix are the blob's and initialised; without any the pointer is aligned.
        unsafe { slice::from_raw_parts(self.bytes.as_ptr(), self.len as usize) }
    }
}

impl DerefMut for Blob {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the blob is borrowed mutably, and nobody else knows its block.
        unsafe { slice::from_raw_parts_mut(self.bytes.as_ptr(), self.len as usize) }
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Blob {
        if bytes.is_empty() {
            return Blob::empty();
        }
        assert!(u32::try_from(bytes.len()).is_ok(), "a blob is shorter than 4 GiB");
        let block = arena::alloc(bytes.len());
        // SAFETY: a fresh block as long as the slice.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), block.as_ptr(), bytes.len());
            Blob::from_raw(block, 0, bytes.len())
        }
    }
}

/// The copy has no prefix.
impl Clone for Blob {
    fn clone(&self) -> Blob {
        Blob::from(&**self)
    }
}

impl Default for Blob {
    fn default() -> Blob {
        Blob::empty()
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Blob) -> bool {
        **self == **other
    }
}

impl Eq for Blob {}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cases, fewer};
    use proptest::prelude::*;

    #[test]
    fn an_empty_blob_has_no_block() {
        let mut blob = Blob::empty();
        assert_eq!((blob.block_bytes(), blob.len()), (0, 0));
        blob.resize_gap(0, 0, 3);
        blob.copy_from_slice(b"abc");
        assert_eq!((&*blob, blob.block_bytes()), (&b"abc"[..], 8));
        blob.resize_gap(0, 3, 0);
        assert_eq!((&*blob, blob.clone().len()), (&b""[..], 0));
    }

    #[test]
    fn pushing_in_front_of_many_bytes_moves_few_and_room_stays_an_eighth() {
        let mut blob = Blob::from(&[7; ROOMY_FROM][..]);
        let (mut blocks, mut model) = (0, blob.to_vec());
        for n in 0..fewer(4000, 400) {
            let block = blob.start();
            blob.resize_gap_in_front(2, 0, 5);
            blob[2..7].fill(n as u8);
            model.splice(2..2, [n as u8; 5]);
            blocks += usize::from(blob.start() != block);
            assert!(blob.room() <= model.len() / 8);
        }
        assert!(*blob == *model && blocks < 60, "{blocks} blocks");
        assert!(!blob.has_prefix() && blob.room() > 0);
        blob.trim_room();
        assert_eq!((blob.room(), &*blob), (0, &*model));
        while blob.len() > 2 {
            blob.resize_gap_in_front(2, 5.min(model.len() - 2), 0);
            model.drain(2..7.min(model.len()));
            assert!(*blob == *model && blob.room() <= (model.len() + 5) / 8);
        }
    }

    proptest! {
        #![proptest_config(cases(200, 4))]

        #[test]
        fn gaps_move_what_follows_and_keep_the_prefix(
            prefix in 0..40usize,
            steps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..900usize, any::<u8>(), any::<bool>()), 1..20),
        ) {
            let start: Vec<u8> = (0..prefix + 5).map(|n| n as u8).collect();
            let block = arena::alloc(start.len());
            // SAFETY: a fresh block of this length.
            let mut blob = unsafe {
                ptr::copy_nonoverlapping(start.as_ptr(), block.as_ptr(), start.len());
                Blob::from_raw(block, prefix, 5)
            };
            let mut model = start[prefix..].to_vec();
            for (at, removed, added, byte, in_front) in steps {
                let at = at.index(model.len() + 1);
                let removed = removed.index(model.len() - at + 1);
                if in_front {
                    blob.resize_gap_in_front(at, removed, added);
                } else {
                    blob.resize_gap(at, removed, added);
                }
                blob[at..at + added].fill(byte);
                model.splice(at..at + removed, std::iter::repeat_n(byte, added));
                prop_assert_eq!(&*blob, &model[..]);
                prop_assert_eq!(&*blob.clone(), &model[..]);
                prop_assert_eq!(blob.has_prefix(), prefix > 0);
                if prefix > 0 {
                    // SAFETY: the prefix lies before the bytes.
                    let before = unsafe { slice::from_raw_parts(blob.start().as_ptr(), blob.before_len()) };
                    prop_assert_eq!(before, &start[..blob.before_len()]);
                    prop_assert_eq!(blob.before_len(), prefix);
                }
            }
        }
    }
}

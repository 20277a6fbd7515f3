//! A copy of a large structure, taken in parts while the structure goes on changing.
//!
//! The copy is of one moment. Whoever orders it holds a [`Copying`] and takes the parts out; the structure keeps the
//! other end and puts parts in: some more whenever it is asked to go on, what is about to change before it changes,
//! and all that is left when it is dropped. So the copy is complete whatever becomes of the structure, be it renamed,
//! overwritten, or freed on another thread. When nobody holds the [`Copying`] any more, the order is void.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was copied and not taken yet.
#[derive(Debug, Default)]
pub struct Parts {
    /// Items one after another, as whoever ordered the copy had them written.
    pub bytes: Vec<u8>,
    /// Number of items in `bytes`.
    pub items: u64,
    /// Nothing more will come.
    pub complete: bool,
}

/// An ordered copy, from the side of who takes it.
#[derive(Debug)]
pub struct Copying {
    parts: Arc<Mutex<Parts>>,
}

/// An ordered copy, from the side of the structure.
#[derive(Debug)]
pub struct Order {
    parts: Arc<Mutex<Parts>>,
}

/// An order and the end to take its parts from.
pub fn order() -> (Order, Copying) {
    let parts = Arc::new(Mutex::new(Parts::default()));
    (Order { parts: Arc::clone(&parts) }, Copying { parts })
}

impl Copying {
    /// What has been copied since the last call.
    pub fn take(&self) -> Parts {
        let mut parts = lock(&self.parts);
        let complete = parts.complete;
        std::mem::replace(&mut *parts, Parts { complete, ..Parts::default() })
    }

    /// Bytes that wait to be taken.
    pub fn pending_bytes(&self) -> usize {
        lock(&self.parts).bytes.len()
    }
}

impl Order {
    /// Nobody waits for the copy any more.
    pub fn is_void(&self) -> bool {
        Arc::strong_count(&self.parts) == 1
    }

    /// True if these are the two ends of one order.
    pub fn is_of(&self, copying: &Copying) -> bool {
        Arc::ptr_eq(&self.parts, &copying.parts)
    }

    /// Bytes that wait to be taken.
    pub fn pending_bytes(&self) -> usize {
        self.parts().bytes.len()
    }

    /// To put parts in.
    pub fn parts(&self) -> MutexGuard<'_, Parts> {
        lock(&self.parts)
    }
}

/// A thread that panicked while it held the lock left whole items: parts are only ever appended to.
fn lock(parts: &Mutex<Parts>) -> MutexGuard<'_, Parts> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The copy that is being taken of a structure; a clone of the structure has none.
pub struct Slot<T>(pub Option<Box<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Slot<T> {
        Slot(None)
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Slot<T> {
        Slot(None)
    }
}

impl<T> std::fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "being copied" } else { "not being copied" })
    }
}

/// Which intervals of a [`crate::table::Table`] a copy has reached. An interval is the entries whose hash ends in the
/// same `bits` low bits, with `bits` read once when the copy begins: linear hashing keeps such a set together through
/// any growth and shrinking, so it names the same entries for ever.
#[derive(Debug)]
pub struct Intervals {
    bits: u32,
    reached: Vec<u64>,
    next: u64,
}

impl Intervals {
    /// None reached, of `2^bits`.
    pub fn new(bits: u32) -> Intervals {
        Intervals { bits, reached: vec![0; (1usize << bits).div_ceil(64)], next: 0 }
    }

    #[inline]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The interval of a hash.
    #[inline]
    pub fn of(&self, hash: u64) -> u64 {
        hash & ((1 << self.bits) - 1)
    }

    /// Marks an interval as reached; true if it was not.
    #[inline]
    pub fn reach(&mut self, interval: u64) -> bool {
        let word = &mut self.reached[(interval / 64) as usize];
        let bit = 1 << (interval % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Marks the next interval that was not reached and gives its number; none when all are.
    #[inline]
    pub fn reach_next(&mut self) -> Option<u64> {
        while self.next < 1 << self.bits {
            let interval = self.next;
            self.next += 1;
            if self.reach(interval) {
                return Some(interval);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interval_is_reached_once() {
        let mut intervals = Intervals::new(3);
        assert_eq!(intervals.of(0b11_0101), 0b101);
        assert!(intervals.reach(0));
        assert!(intervals.reach(5));
        assert!(!intervals.reach(5));
        let rest: Vec<u64> = std::iter::from_fn(|| intervals.reach_next()).collect();
        assert_eq!(rest, [1, 2, 3, 4, 6, 7]);
        assert_eq!(intervals.reach_next(), None);
    }

    #[test]
    fn an_order_is_void_when_nobody_waits() {
        let (order, copying) = order();
        order.parts().bytes.push(1);
        assert!(order.is_of(&copying) && !order.is_void());
        assert_eq!(copying.pending_bytes(), 1);
        let parts = copying.take();
        assert_eq!((parts.bytes, parts.complete), (vec![1], false));
        order.parts().complete = true;
        assert!(copying.take().complete && copying.take().complete);
        drop(copying);
        assert!(order.is_void());
    }
}

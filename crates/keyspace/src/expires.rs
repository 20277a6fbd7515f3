//! An index of expiries: which keys of a database are due, in the order of time; which fields of a hash; and which hashes
//! of a database have a field that is due.
//!
//! Redis samples a second hash table; an ordered index finds exactly the keys that are due and nothing else, so
//! active expiry costs what it deletes, and a key never outlives its time because the sampler was unlucky.
//! A row is (time, hash of the key): 16 bytes and no second copy of the key. Two keys with the same time and the
//! same 64-bit hash share one row; the count says how many.

use std::collections::BTreeMap;

/// Rows of (expiry in milliseconds since the epoch, key hash) → number of keys that share the row.
#[derive(Debug, Default, Clone)]
pub struct Expires {
    rows: BTreeMap<(i64, u64), u32>,
    keys: usize,
}

impl Expires {
    pub const fn new() -> Self {
        Expires { rows: BTreeMap::new(), keys: 0 }
    }

    /// Number of keys that have an expiry.
    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    pub fn add(&mut self, at_ms: i64, hash: u64) {
        *self.rows.entry((at_ms, hash)).or_insert(0) += 1;
        self.keys += 1;
    }

    /// The caller passes exactly what it added.
    pub fn remove(&mut self, at_ms: i64, hash: u64) {
        let row = self.rows.get_mut(&(at_ms, hash)).expect("an expiry that an entry carries is in the index");
        *row -= 1;
        if *row == 0 {
            self.rows.remove(&(at_ms, hash));
        }
        self.keys -= 1;
    }

    /// The earliest row.
    pub fn first(&self) -> Option<(i64, u64)> {
        self.rows.first_key_value().map(|(row, _)| *row)
    }

    /// The earliest row, if it is due: its time is before `now_ms`.
    pub fn first_due(&self, now_ms: i64) -> Option<(i64, u64)> {
        self.first().filter(|(at, _)| now_ms > *at)
    }

    /// How many are due at `now_ms`. Walks over them.
    pub fn due_len(&self, now_ms: i64) -> usize {
        self.rows.range(..(now_ms, 0)).map(|(_, count)| *count as usize).sum()
    }

    /// Mean time to live in milliseconds over at most `samples` rows, 0 when there is none: `avg_ttl` of `INFO`.
    pub fn average_ttl_ms(&self, now_ms: i64, samples: usize) -> i64 {
        let (mut total, mut count) = (0i128, 0i128);
        // Rows are ordered by time, so the nearest and the farthest ends are taken in equal parts.
        let half = samples.div_ceil(2);
        let near = self.rows.keys().take(half);
        let far = self.rows.keys().rev().take(self.rows.len().saturating_sub(half).min(half));
        for &(at, _) in near.chain(far) {
            total += i128::from((at - now_ms).max(0));
            count += 1;
        }
        if count == 0 { 0 } else { (total / count) as i64 }
    }

    /// Bytes of the index, estimated from the row size and a B-tree's usual fill.
    pub fn bytes(&self) -> usize {
        self.rows.len() * 24 * 3 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_due_in_the_order_of_time() {
        let mut expires = Expires::new();
        expires.add(30, 3);
        expires.add(10, 1);
        expires.add(20, 2);
        assert_eq!(expires.first_due(10), None, "a key lives through its last millisecond");
        assert_eq!(expires.first_due(11), Some((10, 1)));
        assert_eq!([10, 11, 30, 31].map(|now_ms| expires.due_len(now_ms)), [0, 1, 2, 3]);
        expires.remove(10, 1);
        assert_eq!(expires.first_due(100), Some((20, 2)));
        assert_eq!(expires.len(), 2);
    }

    #[test]
    fn keys_that_share_a_row_are_counted() {
        let mut expires = Expires::new();
        expires.add(10, 7);
        expires.add(10, 7);
        expires.remove(10, 7);
        assert_eq!((expires.len(), expires.first_due(11)), (1, Some((10, 7))));
        expires.remove(10, 7);
        assert!(expires.is_empty() && expires.first_due(11).is_none());
    }
}

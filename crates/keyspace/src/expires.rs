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
    /// Random rows that [`Expires::draw`] has yet to give; some may be gone meanwhile.
    drawn: Vec<(i64, u64)>,
}

/// Rows that are drawn at once.
const DRAWN: usize = 256;

/// Rows that drawing walks over at most: it must not become a pause.
const WALKED_MAX: usize = 1 << 16;

impl Expires {
    pub const fn new() -> Self {
        Expires { rows: BTreeMap::new(), keys: 0, drawn: Vec::new() }
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

    /// A random row. A B-tree has no ranks to draw by, so one walk over it draws many rows: all have the same chance
    /// in an index of up to 65,536 rows; of a larger one, so many are walked from a random time on.
    pub fn draw(&mut self, rng: &mut dyn FnMut() -> u64) -> Option<(i64, u64)> {
        while let Some(row) = self.drawn.pop() {
            if self.rows.contains_key(&row) {
                return Some(row);
            }
        }
        let (&(first, _), _) = self.rows.first_key_value()?;
        let (&(last, _), _) = self.rows.last_key_value()?;
        let start = if self.rows.len() > WALKED_MAX {
            first.saturating_add((rng() % (last.abs_diff(first).saturating_add(1))).min(i64::MAX as u64) as i64)
        } else {
            first
        };
        let later = self.rows.range((start, 0)..);
        let rows = later.chain(self.rows.range(..(start, 0))).take(WALKED_MAX);
        for (count, (row, _)) in rows.enumerate() {
            // A reservoir: the n-th row stays with a chance of DRAWN in n.
            if count < DRAWN {
                self.drawn.push(*row);
            } else if let Some(place) = self.drawn.get_mut((rng() % (count as u64 + 1)) as usize) {
                *place = *row;
            }
        }
        for index in (1..self.drawn.len()).rev() {
            self.drawn.swap(index, (rng() % (index as u64 + 1)) as usize);
        }
        self.drawn.pop()
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
    fn drawn_rows_are_there_and_fair() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 17
        };
        let mut expires = Expires::new();
        assert_eq!(expires.draw(&mut random), None);
        // Times far apart and close together: only rows count.
        let at = |n: u64| if n < 900 { n as i64 } else { (n * n) as i64 };
        (0..1000).for_each(|n| expires.add(at(n), n));
        let mut seen = vec![0u32; 1000];
        for _ in 0..100_000 {
            seen[expires.draw(&mut random).expect("there are rows").1 as usize] += 1;
        }
        assert!(seen.iter().all(|count| (50..=160).contains(count)), "{seen:?}");
        (10..1000).for_each(|n| expires.remove(at(n), n));
        (0..100).for_each(|_| assert!(expires.draw(&mut random).expect("there are rows").1 < 10));
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

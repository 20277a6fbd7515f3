//! An ordered map whose copy is cheap: of short values that are [`Copy`], in chunks that copies share until one changes.
//!
//! A B-tree of chunks of up to [`CHUNK`] entries, each behind a reference count. [`Clone`] counts references, a chunk
//! each; the first change of a chunk that is shared copies that chunk. So a copy of one moment of a map with a million
//! entries takes a tenth of a millisecond, whatever happens to the map afterwards.
//!
//! What must stay true: no chunk is empty; each lies under a key that is not above its first, and above the last of the
//! chunk before it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// Entries of a full chunk: to copy one takes well under a microsecond.
const CHUNK: usize = 128;

/// A chunk that has become as short is joined with one beside it, if both fit into half of one. It is looked at again
/// whenever it has lost as many as `SHORT_STEP` more.
const SHORT: usize = CHUNK / 4;
const SHORT_STEP: usize = 8;

/// A deque, since entries mostly come at the end and go at the front.
type Chunk<K, V> = VecDeque<(K, V)>;

#[derive(Clone)]
pub struct CowMap<K, V> {
    chunks: BTreeMap<K, Arc<Chunk<K, V>>>,
    len: usize,
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> CowMap<K, V> {
        CowMap { chunks: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Copy, V: Copy> CowMap<K, V> {
    pub fn new() -> CowMap<K, V> {
        CowMap::default()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, key: K) -> Option<&V> {
        let (_, chunk) = self.chunks.range(..=key).next_back()?;
        let at = find(chunk, key).ok()?;
        Some(&chunk[at].1)
    }

    pub fn contains_key(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let (_, chunk) = self.chunks.range_mut(..=key).next_back()?;
        let at = find(chunk, key).ok()?;
        Some(&mut Arc::make_mut(chunk)[at].1)
    }

    /// What the key had before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some((_, chunk)) = self.chunks.range_mut(..=key).next_back() else {
            self.insert_in_front(key, value);
            return None;
        };
        let at = match find(chunk, key) {
            Ok(at) => return Some(std::mem::replace(&mut Arc::make_mut(chunk)[at].1, value)),
            Err(at) => at,
        };
        self.len += 1;
        if chunk.len() < CHUNK {
            Arc::make_mut(chunk).insert(at, (key, value));
        } else if at == CHUNK {
            // What comes in order leaves full chunks behind.
            self.chunks.insert(key, Arc::new(VecDeque::from([(key, value)])));
        } else {
            let chunk = Arc::make_mut(chunk);
            let mut upper = chunk.split_off(CHUNK / 2);
            match at.checked_sub(CHUNK / 2) {
                Some(at) => upper.insert(at, (key, value)),
                None => chunk.insert(at, (key, value)),
            }
            self.chunks.insert(upper[0].0, Arc::new(upper));
        }
        None
    }

    /// The key is lower than that of the first chunk.
    fn insert_in_front(&mut self, key: K, value: V) {
        self.len += 1;
        let mut first = match self.chunks.first_entry() {
            Some(first) if first.get().len() < CHUNK => first.remove(),
            _ => Arc::default(),
        };
        Arc::make_mut(&mut first).push_front((key, value));
        self.chunks.insert(key, first);
    }

    pub fn remove(&mut self, key: K) -> Option<V> {
        let (place, chunk) = self.chunks.range_mut(..=key).next_back()?;
        let place = *place;
        let at = find(chunk, key).ok()?;
        let (_, value) = Arc::make_mut(chunk).remove(at)?;
        self.len -= 1;
        let left = chunk.len();
        if left == 0 {
            self.chunks.remove(&place);
        } else if left <= SHORT && left.is_multiple_of(SHORT_STEP) {
            let before = self.chunks.range(..place).next_back().map(|(place, _)| *place);
            if !before.is_some_and(|before| self.join_with_next(before)) {
                self.join_with_next(place);
            }
        }
        Some(value)
    }

    /// Joins the chunk at `place` with the next, if they fit.
    fn join_with_next(&mut self, place: K) -> bool {
        let mut both = self.chunks.range_mut(place..);
        let (Some((_, chunk)), Some((next_place, next))) = (both.next(), both.next()) else { return false };
        let fit = chunk.len() + next.len() <= CHUNK / 2;
        if fit {
            Arc::make_mut(chunk).extend(next.iter());
            let next_place = *next_place;
            self.chunks.remove(&next_place);
        }
        fit
    }

    pub fn first_key(&self) -> Option<K> {
        Some(self.chunks.first_key_value()?.1.front()?.0)
    }

    pub fn last_key(&self) -> Option<K> {
        Some(self.chunks.last_key_value()?.1.back()?.0)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.range(..)
    }

    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.iter().map(|(key, _)| key)
    }

    /// The entries with a key in the range, in order.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (K, &V)> {
        let (start, end) = (range.start_bound().cloned(), range.end_bound().cloned());
        let first = match start {
            Bound::Included(key) | Bound::Excluded(key) => self.chunks.range(..=key).next_back(),
            Bound::Unbounded => None,
        };
        let first = first.map_or(Bound::Unbounded, |(place, _)| Bound::Included(*place));
        let is_before = move |key: K| match start {
            Bound::Included(start) => key < start,
            Bound::Excluded(start) => key <= start,
            Bound::Unbounded => false,
        };
        let is_within = move |key: K| match end {
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
            Bound::Unbounded => true,
        };
        self.chunks
            .range((first, Bound::Unbounded))
            .flat_map(move |(_, chunk)| chunk.range(chunk.partition_point(|(key, _)| is_before(*key))..))
            .map(|(key, value)| (*key, value))
            .take_while(move |(key, _)| is_within(*key))
    }

    /// An estimate of heap bytes.
    pub fn heap_bytes(&self) -> usize {
        // A B-tree node is about two thirds full.
        let per_chunk = size_of::<(K, Arc<Chunk<K, V>>)>() * 3 / 2 + size_of::<Chunk<K, V>>() + 16;
        let ends = self.chunks.first_key_value().into_iter().chain(self.chunks.last_key_value());
        let fullest = ends.map(|(_, chunk)| chunk.capacity()).max().unwrap_or(0);
        self.chunks.len() * (per_chunk + fullest * size_of::<(K, V)>())
    }
}

impl<K: Ord + Copy + fmt::Debug, V: Copy + fmt::Debug> fmt::Debug for CowMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Where the key is, or belongs. Looks at the end first, where most of what comes belongs.
fn find<K: Ord, V>(chunk: &Chunk<K, V>, key: K) -> Result<usize, usize> {
    match chunk.back() {
        Some((last, _)) if *last < key => Err(chunk.len()),
        _ => chunk.binary_search_by(|(at, _)| at.cmp(&key)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::cases;

    fn all(map: &CowMap<u16, u32>) -> Vec<(u16, u32)> {
        map.iter().map(|(key, value)| (key, *value)).collect()
    }

    fn check(map: &CowMap<u16, u32>) {
        let mut below = None;
        for (place, chunk) in &map.chunks {
            assert!(chunk.len() <= CHUNK && below < Some(*place) && *place <= chunk.front().unwrap().0);
            assert!(chunk.iter().is_sorted_by(|a, b| a.0 < b.0));
            below = chunk.back().map(|(key, _)| *key);
        }
        assert_eq!(map.len(), map.chunks.values().map(|chunk| chunk.len()).sum::<usize>());
    }

    #[test]
    fn what_comes_in_order_fills_the_chunks_and_what_is_left_of_them_is_joined() {
        let mut map: CowMap<u16, u32> = CowMap::new();
        (0..1280).for_each(|key| assert_eq!(map.insert(key, 0), None));
        assert_eq!(map.chunks.len(), 1280 / CHUNK);
        (0..1280).filter(|key| key % 16 != 0).for_each(|key| assert_eq!(map.remove(key), Some(0)));
        assert_eq!(map.len(), 80);
        assert!(map.chunks.len() <= 80 / SHORT_STEP, "{} chunks", map.chunks.len());
        check(&map);
    }

    #[test]
    fn a_change_copies_one_chunk() {
        let mut map: CowMap<u16, u32> = CowMap::new();
        (0..1280).for_each(|key| assert_eq!(map.insert(key, 0), None));
        let copy = map.clone();
        *map.get_mut(500).unwrap() = 1;
        map.remove(501);
        let shared = map.chunks.values().zip(copy.chunks.values()).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.count(), 1280 / CHUNK - 1);
        assert_eq!((copy.len(), copy.get(500), copy.get(501)), (1280, Some(&0), Some(&0)));
    }

    proptest! {
        #![proptest_config(cases(256, 1))]

        #[test]
        fn behaves_as_an_ordered_map_and_copies_stay_as_they_were(
            runs in prop::collection::vec((0u8..8, 0u16..2000, 1u16..300, 1u16..4), 1..60))
        {
            let mut map = CowMap::new();
            let mut model = BTreeMap::new();
            let mut copies = Vec::new();
            for (number, (step, from, count, stride)) in runs.into_iter().enumerate() {
                for key in (from..from + count).map(|key| key.wrapping_mul(stride)) {
                    let value = number as u32;
                    match step {
                        0..=2 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                        3..=5 => prop_assert_eq!(map.remove(key), model.remove(&key)),
                        _ => {
                            let (a, b) = (map.get_mut(key), model.get_mut(&key));
                            prop_assert_eq!(&a, &b);
                            if let (Some(a), Some(b)) = (a, b) {
                                (*a, *b) = (value, value);
                            }
                        }
                    }
                    prop_assert_eq!(map.get(key), model.get(&key));
                }
                check(&map);
                let bounds = match step {
                    0..=3 => (Bound::Included(from), Bound::Included(from + count)),
                    4 => (Bound::Excluded(from), Bound::Unbounded),
                    _ => (Bound::Unbounded, Bound::Excluded(from)),
                };
                let expected: Vec<_> = model.range(bounds).map(|(key, value)| (*key, *value)).collect();
                let found: Vec<_> = map.range(bounds).map(|(key, value)| (key, *value)).collect();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(map.first_key(), model.keys().next().copied());
                prop_assert_eq!(map.last_key(), model.keys().next_back().copied());
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                copies.push((map.clone(), all(&map)));
            }
            for (copy, then) in copies {
                check(&copy);
                prop_assert_eq!(all(&copy), then);
            }
        }
    }
}

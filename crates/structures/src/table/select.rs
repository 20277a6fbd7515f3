//! What two tables have in common, found bucket by bucket.
//!
//! All tables address with the low bits of one hash and tag with its high bits. So entries with equal keys have equal
//! tags and lie in buckets whose numbers agree in the bits that both tables use: a walk over the buckets of one table
//! passes those of the other nearly in order, and tags settle nearly every miss before a hash is computed or a key is
//! read. Keys are compared some dozens at a time, after all of them have been asked for.

use super::{Keyed, Node, Table, matches, occupied, slots_in};
use crate::record::prefetch_line;

/// Pairs of entries with equal tags that wait until their keys are compared.
const PAIRS: usize = 32;

/// An entry, and one of the other table that may have its key. Those of one entry follow each other.
type Pair<'a, E, F> = (&'a E, Option<&'a F>);

impl<E: Keyed> Table<E> {
    /// Shows the entries whose keys `other` has too, or those whose keys it has not, to `visit` until it returns false.
    ///
    /// Takes time in proportion to the buckets of both tables: where `other` is many times larger, looking up one by one
    /// is faster.
    pub fn select<'a, F: Keyed>(
        &'a self,
        other: &'a Table<F>,
        shared: bool,
        mut visit: impl FnMut(&'a E) -> bool,
    ) {
        let mut pairs: Vec<Pair<'a, E, F>> = Vec::with_capacity(2 * PAIRS);
        let mut chains = Vec::new();
        for bucket in 0..self.buckets {
            other.nodes_of_hashes(bucket, self.known_bits(bucket), &mut chains);
            let mut node = self.bucket(bucket);
            while !node.is_null() {
                // SAFETY: live nodes of two tables that are borrowed for `'a`; slots with a tag hold entries, which are as
                // big as a pointer.
                unsafe {
                    let word = (*node).word;
                    for slot in slots_in(occupied(word)) {
                        let place = Node::slot(node, slot);
                        let tag = (word >> (8 * slot)) as u8;
                        let before = pairs.len();
                        for (other_node, other_word) in &chains {
                            for slot in slots_in(matches(*other_word, tag)) {
                                let other_place = Node::slot(*other_node, slot);
                                prefetch_line(other_place.cast::<*const u8>().read());
                                pairs.push((&*place, Some(&*other_place)));
                            }
                        }
                        if pairs.len() == before && !shared {
                            pairs.push((&*place, None));
                        }
                        if pairs.len() > before {
                            prefetch_line(place.cast::<*const u8>().read());
                        }
                    }
                    node = Node::next(node);
                }
            }
            if pairs.len() >= PAIRS && !settle(&mut pairs, shared, &mut visit) {
                return;
            }
        }
        settle(&mut pairs, shared, &mut visit);
    }

    /// How many low bits the hashes of a bucket's entries have in common with its number.
    fn known_bits(&self, bucket: u32) -> u32 {
        let level = self.level();
        level + u32::from(bucket.max(bucket ^ 1 << level) < self.buckets)
    }

    /// The nodes, with their words, that hold the entries whose hashes have `bits` low bits in common with `low`.
    fn nodes_of_hashes(&self, low: u32, bits: u32, nodes: &mut Vec<(*mut Node<E>, u64)>) {
        nodes.clear();
        if self.buckets == 0 {
            return;
        }
        let (first, step) = if bits > self.level() {
            (self.index(u64::from(low)), u64::from(self.buckets))
        } else {
            let step = 1 << bits;
            (low & (step - 1), u64::from(step))
        };
        for bucket in (u64::from(first)..u64::from(self.buckets)).step_by(step as usize) {
            let mut node = self.bucket(bucket as u32);
            while !node.is_null() {
                // SAFETY: a live node of this table.
                unsafe {
                    nodes.push((node, (*node).word));
                    node = Node::next(node);
                }
            }
        }
    }
}

/// Compares the keys of all pairs and takes them out; false if `visit` has enough.
fn settle<'a, E: Keyed, F: Keyed>(
    pairs: &mut Vec<Pair<'a, E, F>>,
    shared: bool,
    visit: &mut impl FnMut(&'a E) -> bool,
) -> bool {
    let goes_on = pairs
        .chunk_by(|(a, _), (b, _)| std::ptr::eq(*a, *b))
        .filter(|candidates| {
            let has_key = |(entry, other): &Pair<'a, E, F>| other.is_some_and(|o| o.key() == entry.key());
            candidates.iter().any(has_key) == shared
        })
        .all(|candidates| visit(candidates[0].0));
    pairs.clear();
    goes_on
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use crate::hash::hash;
    use crate::record::Record;
    use crate::table::Table;
    use crate::testing::fewer;

    type Keys = Table<Record<Infallible>>;

    fn table(numbers: impl Iterator<Item = u32>) -> Keys {
        let mut table = Keys::new();
        for number in numbers {
            let key = number.to_le_bytes();
            table.insert(hash(&key), Record::new_key(&key, None));
        }
        table
    }

    /// Sizes on both sides of every doubling of one table against the other's, with buckets that are split and not.
    #[test]
    fn finds_what_look_ups_find() {
        let max = fewer(3000, 32) as u32;
        let sizes: Vec<u32> = (0..).map(|n: u32| n * n * n / 7).take_while(|size| *size < max).collect();
        for &a in &sizes {
            for &b in &sizes {
                // A third of the smaller range is in both.
                let (left, right) = (table(0..a), table(a / 3..a / 3 + b));
                for shared in [true, false] {
                    let mut found = BTreeSet::new();
                    left.select(&right, shared, |entry| {
                        let number = u32::from_le_bytes(entry.key().try_into().unwrap());
                        assert!(found.insert(number), "{number} is shown twice");
                        true
                    });
                    let expected =
                        (0..a).filter(|number| (a / 3..a / 3 + b).contains(number) == shared).collect();
                    assert_eq!(found, expected, "{a} entries and {b}, shared: {shared}");
                }
            }
        }
    }

    #[test]
    fn ends_when_told() {
        let (left, right) = (table(0..fewer(500, 100) as u32), table(0..fewer(700, 150) as u32));
        for enough in [1, 31, 32, 33, fewer(499, 99)] {
            let mut seen = 0;
            left.select(&right, true, |_| {
                seen += 1;
                seen < enough
            });
            assert_eq!(seen, enough);
        }
    }
}

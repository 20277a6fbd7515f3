//! Sorting a part of a slice: the elements that a full sort would put into a range are put there in order, and the
//! rest is left as it comes.
//!
//! The quicksort of J. Bentley and M. McIlroy, "Engineering a Sort Function" (1993), which leaves out the partitions
//! that the range does not meet. It is not stable, and where equal elements end up is seen by clients: the choice of
//! pivots and the order of exchanges are those of the code in BSD that Redis took over.

use std::cmp::Ordering;
use std::ops::Range;

/// Below this many elements a partition is sorted by insertion.
const INSERTION_BELOW: usize = 7;
/// Above this many the pivot is the median of nine.
const NINTHER_ABOVE: usize = 40;

/// Sorts so much of `items` that the elements at `wanted` are those of the sorted slice.
pub fn partial_sort<T>(items: &mut [T], wanted: Range<usize>, mut compare: impl FnMut(&T, &T) -> Ordering) {
    if wanted.is_empty() {
        return;
    }
    // No recursion: an adversary can make partitions that shrink one by one.
    let mut pending = vec![(0, items.len())];
    while let Some((first, last)) = pending.pop() {
        let part = &mut items[first..last];
        if part.len() < INSERTION_BELOW {
            insertion_sort(part, &mut compare);
            continue;
        }
        let (less, greater) = partition(part, &mut compare);
        for (start, end) in [(first, first + less), (last - greater, last)] {
            if end - start > 1 && wanted.start < end && start < wanted.end {
                pending.push((start, end));
            }
        }
    }
}

fn insertion_sort<T>(part: &mut [T], compare: &mut impl FnMut(&T, &T) -> Ordering) {
    for next in 1..part.len() {
        let mut at = next;
        while at > 0 && compare(&part[at - 1], &part[at]) == Ordering::Greater {
            part.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Partitions into what is less than a pivot, what equals it, and what is greater; the number of the first and of the
/// last.
fn partition<T>(part: &mut [T], compare: &mut impl FnMut(&T, &T) -> Ordering) -> (usize, usize) {
    let len = part.len();
    let pivot = pivot(part, compare);
    part.swap(0, pivot);
    // Equal ones are collected at both ends: [..equal_low] and [equal_high + 1..].
    let (mut equal_low, mut low) = (1, 1);
    let (mut high, mut equal_high) = (len - 1, len - 1);
    loop {
        while low <= high {
            match compare(&part[low], &part[0]) {
                Ordering::Greater => break,
                Ordering::Equal => {
                    part.swap(equal_low, low);
                    equal_low += 1;
                }
                Ordering::Less => {}
            }
            low += 1;
        }
        while low <= high {
            match compare(&part[high], &part[0]) {
                Ordering::Less => break,
                Ordering::Equal => {
                    part.swap(high, equal_high);
                    equal_high -= 1;
                }
                Ordering::Greater => {}
            }
            high -= 1;
        }
        if low > high {
            break;
        }
        part.swap(low, high);
        low += 1;
        high -= 1;
    }
    // They belong into the middle.
    let count = equal_low.min(low - equal_low);
    swap_runs(part, 0, low - count, count);
    let count = (equal_high - high).min(len - equal_high - 1);
    swap_runs(part, low, len - count, count);
    (low - equal_low, equal_high - high)
}

fn swap_runs<T>(part: &mut [T], a: usize, b: usize, count: usize) {
    for offset in 0..count {
        part.swap(a + offset, b + offset);
    }
}

fn pivot<T>(part: &[T], compare: &mut impl FnMut(&T, &T) -> Ordering) -> usize {
    let len = part.len();
    let (mut first, mut middle, mut last) = (0, len / 2, len - 1);
    if len > INSERTION_BELOW {
        if len > NINTHER_ABOVE {
            let apart = len / 8;
            first = median(part, [first, first + apart, first + 2 * apart], compare);
            middle = median(part, [middle - apart, middle, middle + apart], compare);
            last = median(part, [last - 2 * apart, last - apart, last], compare);
        }
        middle = median(part, [first, middle, last], compare);
    }
    middle
}

fn median<T>(part: &[T], [a, b, c]: [usize; 3], compare: &mut impl FnMut(&T, &T) -> Ordering) -> usize {
    let mut order = |x: usize, y: usize| compare(&part[x], &part[y]);
    if order(a, b) == Ordering::Less {
        match order(b, c) {
            Ordering::Less => b,
            _ if order(a, c) == Ordering::Less => c,
            _ => a,
        }
    } else {
        match order(b, c) {
            Ordering::Greater => b,
            _ if order(a, c) == Ordering::Less => a,
            _ => c,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cases, fewer};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(256, 2))]

        #[test]
        fn the_range_is_that_of_the_sorted_slice(
            items in proptest::collection::vec(0u16..200, 0..fewer(300, 60)),
            (a, b) in (0usize..300, 0usize..300),
        ) {
            let mut sorted = items.clone();
            sorted.sort_unstable();
            let wanted = a.min(b).min(items.len())..a.max(b).min(items.len());
            let mut partly = items;
            partial_sort(&mut partly, wanted.clone(), u16::cmp);
            prop_assert_eq!(&partly[wanted.clone()], &sorted[wanted]);
            partly.sort_unstable();
            prop_assert_eq!(partly, sorted);
        }
    }

    #[test]
    fn long_runs_need_no_stack() {
        let count = fewer(100_000, 500) as u32;
        let mut items: Vec<u32> = (0..count).map(|value| value / (count / 2)).collect();
        let last = items.len() - 1;
        partial_sort(&mut items, last..last + 1, u32::cmp);
        assert_eq!(items[last], 1);
    }
}

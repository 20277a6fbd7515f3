//! Copying a table in parts, interval by interval, while it changes; see [`crate::copying`].

use super::{Keyed, Table};
use crate::copying::{self, Copying, Intervals, Order, Parts};

/// The copy that is being taken of a table.
pub(super) struct Copy<E> {
    intervals: Intervals,
    order: Order,
    write: Write<E>,
}

/// Appends an entry to the bytes of a copy.
type Write<E> = Box<dyn Fn(&E, &mut Vec<u8>) + Send>;

impl<E: Keyed> Table<E> {
    /// Orders a copy of the entries as they are now, written by `write`; an earlier order becomes void.
    pub fn begin_copy(&mut self, write: impl Fn(&E, &mut Vec<u8>) + Send + 'static) -> Copying {
        let (order, copying) = copying::order();
        let intervals = Intervals::new(self.level());
        self.copy = Some(Box::new(Copy { intervals, order, write: Box::new(write) }));
        copying
    }

    /// Copies about `budget_bytes` more.
    pub fn copy_more(&mut self, budget_bytes: usize) {
        let Some(mut copy) = self.copy.take_if(|copy| !copy.order.is_void()) else { return };
        let mut parts = copy.order.parts();
        let end = parts.bytes.len().saturating_add(budget_bytes);
        while parts.bytes.len() < end {
            let Some(interval) = copy.intervals.reach_next() else {
                parts.complete = true;
                return;
            };
            self.write_interval(&copy.write, copy.intervals.bits(), interval, &mut parts);
        }
        drop(parts);
        self.copy = Some(copy);
    }

    /// The copy that is being taken, unless nobody waits for it.
    pub fn copy_order(&self) -> Option<&Order> {
        self.copy.as_ref().map(|copy| &copy.order).filter(|order| !order.is_void())
    }

    /// Copies the interval of `hash` if a copy has yet to reach it: before the first change in it.
    #[inline]
    pub(super) fn before_change(&mut self, hash: u64) {
        if self.copy.is_some() {
            self.copy_interval(hash);
        }
    }

    #[cold]
    #[inline(never)]
    fn copy_interval(&mut self, hash: u64) {
        let Some(mut copy) = self.copy.take_if(|copy| !copy.order.is_void()) else {
            self.copy = None;
            return;
        };
        let interval = copy.intervals.of(hash);
        if copy.intervals.reach(interval) {
            let mut parts = copy.order.parts();
            self.write_interval(&copy.write, copy.intervals.bits(), interval, &mut parts);
        }
        self.copy = Some(copy);
    }

    fn write_interval(&self, write: &Write<E>, bits: u32, interval: u64, parts: &mut Parts) {
        let (bytes, items) = (&mut parts.bytes, &mut parts.items);
        self.visit_interval(bits, interval, |entry| {
            write(entry, bytes);
            *items += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::hash;
    use crate::record::{Record, ValueMut, ValueRef};
    use crate::testing::{cases, fewer};

    type Numbers = Table<Record<()>>;

    proptest! {
        #![proptest_config(cases(256, 3))]

        #[test]
        fn a_copy_is_of_the_moment_when_it_began(
            before in 0..fewer(400, 60) as u32,
            steps in proptest::collection::vec((0..4u8, 0..fewer(800, 120) as u32), 0..fewer(300, 40)),
            dropped in any::<bool>(),
        ) {
            let mut table: Numbers = Table::new();
            let name = |number: u32| number.to_string().into_bytes();
            for number in 0..before {
                let key = name(number);
                table.insert(hash(&key), Record::new_int(&key, 1, None));
            }
            let copying = table.begin_copy(|record, out| {
                let ValueRef::Int(value) = record.value() else { panic!("all are numbers") };
                out.extend_from_slice(format!("{}={value},", str::from_utf8(record.key()).unwrap()).as_bytes());
            });
            let (mut copied, mut items) = (Vec::new(), 0);
            for (kind, number) in steps {
                let key = name(number);
                match kind {
                    0 => {
                        if table.get(hash(&key), &key).is_none() {
                            table.insert(hash(&key), Record::new_int(&key, 2, None));
                        }
                    }
                    1 => drop(table.remove(hash(&key), &key)),
                    2 => {
                        if let Some(record) = table.get_mut(hash(&key), &key) {
                            let ValueMut::Int(value) = record.value_mut() else { panic!("all are numbers") };
                            *value += 10;
                        }
                    }
                    _ => {
                        table.copy_more(number as usize);
                        let parts = copying.take();
                        copied.extend(parts.bytes);
                        items += parts.items;
                    }
                }
            }
            if dropped {
                drop(table);
            } else {
                table.copy_more(usize::MAX);
            }
            let parts = copying.take();
            copied.extend(parts.bytes);
            prop_assert!(parts.complete);
            prop_assert_eq!(items + parts.items, u64::from(before));
            let mut copied: Vec<String> =
                String::from_utf8(copied).unwrap().split_terminator(',').map(str::to_owned).collect();
            copied.sort();
            let mut expected: Vec<String> = (0..before).map(|number| format!("{number}=1")).collect();
            expected.sort();
            prop_assert_eq!(copied, expected);
        }
    }
}

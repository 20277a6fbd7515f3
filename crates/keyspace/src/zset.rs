//! Sorted sets: a listpack of member, score, member, score … in order while small, else an ordered set.

use structures::listpack::Listpack;
use structures::ordered_set::OrderedSet;

/// A sorted set value. Never empty while it is in a database.
pub enum ZSet {
    Listpack(Listpack),
    Ordered(Box<OrderedSet>),
}

impl std::fmt::Debug for ZSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZSet({}, {} members)", self.encoding(), self.len())
    }
}

impl ZSet {
    pub fn len(&self) -> usize {
        match self {
            ZSet::Listpack(pack) => pack.len() / 2,
            ZSet::Ordered(set) => set.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The large form is called `skiplist` whatever it is built of: clients know that name.
    pub fn encoding(&self) -> &'static str {
        match self {
            ZSet::Listpack(_) => "listpack",
            ZSet::Ordered(_) => "skiplist",
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            ZSet::Listpack(pack) => pack.bytes().len(),
            ZSet::Ordered(set) => set.bytes(),
        }
    }

    pub fn free_effort(&self) -> usize {
        match self {
            ZSet::Listpack(_) => 1,
            ZSet::Ordered(set) => set.len(),
        }
    }

    pub fn duplicate(&self) -> ZSet {
        match self {
            ZSet::Listpack(pack) => ZSet::Listpack(pack.clone()),
            ZSet::Ordered(set) => {
                let mut copy = OrderedSet::new();
                copy.reserve(set.len());
                for (member, score) in set.iter() {
                    copy.insert(member, score);
                }
                ZSet::Ordered(Box::new(copy))
            }
        }
    }
}

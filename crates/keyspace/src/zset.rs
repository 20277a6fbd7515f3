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

// ---- loading ----

impl ZSet {
    pub fn load_listpack(
        bytes: Vec<u8>,
        limits: &crate::EncodingLimits,
    ) -> Result<ZSet, crate::object::Malformed> {
        const BROKEN: crate::object::Malformed =
            crate::object::Malformed("Zset listpack integrity check failed.");
        let pack = Listpack::from_vec_validated(bytes, true).map_err(|_| BROKEN)?;
        if pack.len() % 2 != 0 {
            return Err(BROKEN);
        }
        let mut zset = ZSet::with_capacity(pack.len() / 2, limits);
        let (mut member, mut text) = (Vec::new(), Vec::new());
        let mut entries = pack.iter();
        while let (Some(first), Some(second)) = (entries.next(), entries.next()) {
            member.clear();
            first.push_to(&mut member);
            text.clear();
            second.push_to(&mut text);
            let score = structures::number::parse_f64(&text).filter(|score| !score.is_nan()).ok_or(BROKEN)?;
            if !zset.load_member(&member, score, limits) {
                return Err(BROKEN);
            }
        }
        zset.finish_load(limits);
        Ok(zset)
    }

    /// An empty sorted set that is about to get `members` members.
    pub fn with_capacity(members: usize, _limits: &crate::EncodingLimits) -> ZSet {
        let mut set = OrderedSet::new();
        set.reserve(members);
        ZSet::Ordered(Box::new(set))
    }

    /// Adds a member out of a snapshot; false if it is there already. [`ZSet::finish_load`] ends the load.
    pub fn load_member(&mut self, member: &[u8], score: f64, _limits: &crate::EncodingLimits) -> bool {
        let ZSet::Ordered(set) = self else { unreachable!("a sorted set is loaded in its large form") };
        if set.score(member).is_some() {
            return false;
        }
        set.insert(member, score);
        true
    }

    /// Takes on the small form if the set is small.
    pub fn finish_load(&mut self, limits: &crate::EncodingLimits) {
        let ZSet::Ordered(set) = self else { return };
        let small = set.len() <= limits.zset_entries
            && set.iter().all(|(member, _)| member.len() <= limits.zset_value);
        if small {
            let mut pack = Listpack::new();
            let mut text = Vec::new();
            for (member, score) in set.iter() {
                pack.push_back(member);
                text.clear();
                structures::number::push_f64(&mut text, score);
                pack.push_back(&text);
            }
            *self = ZSet::Listpack(pack);
        }
    }
}

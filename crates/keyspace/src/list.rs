//! Lists: one listpack while that holds everything, else a quicklist of listpacks.
//!
//! A list that is one listpack can lie in the entry of its key; see [`crate::entry`]. It becomes a quicklist when an
//! element comes that a node of a quicklist would not take, and goes back when it is one half-full node again, at
//! the end of a change: [`List::into_pack`]. Clients see neither: both are called `quicklist`.

use std::ops::Deref;

use structures::listpack::{Entry, Listpack, Pack};
use structures::quicklist::{self, Limits, NodeRef, Quicklist};

use crate::limits::EncodingLimits;
use crate::object::Malformed;

/// A list value, owned; or borrowed as [`ListRef`]. Never empty while it is in a database.
#[derive(Debug, Clone, Copy)]
pub struct List<P = Listpack, Q = Box<Quicklist>> {
    form: Form<P, Q>,
    /// Of the list while it is one listpack, as they were when it was last changed; a quicklist has its own.
    limits: Limits,
}

/// A list to be read, wherever it lies.
pub type ListRef<'a> = List<&'a Pack, &'a Quicklist>;

#[derive(Debug, Clone, Copy)]
enum Form<P, Q> {
    Pack(P),
    Quick(Q),
}

/// One end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `LEFT`: the first element.
    Head,
    /// `RIGHT`: the last element.
    Tail,
}

/// A node as a snapshot copies it.
#[derive(Debug, Clone, Copy)]
pub enum Node<'a> {
    Packed(&'a Pack),
    /// One element that is too large for a listpack.
    Plain(&'a [u8]),
}

impl<'a> From<NodeRef<'a>> for Node<'a> {
    fn from(node: NodeRef<'a>) -> Node<'a> {
        match node {
            NodeRef::Packed(pack) => Node::Packed(pack),
            NodeRef::Plain(bytes) => Node::Plain(bytes),
        }
    }
}

impl<P: Deref<Target = Pack>, Q: Deref<Target = Quicklist>> List<P, Q> {
    #[inline]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Pack(pack) => pack.len(),
            Form::Quick(quick) => quick.len(),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        match &self.form {
            Form::Pack(pack) => pack.is_empty(),
            Form::Quick(quick) => quick.is_empty(),
        }
    }

    /// Always `quicklist`, as up to Redis 7.0; later versions call a list of one node `listpack`.
    pub fn encoding(&self) -> &'static str {
        "quicklist"
    }

    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Pack(pack) => pack.as_bytes().len(),
            Form::Quick(quick) => quick.bytes(),
        }
    }

    pub fn node_count(&self) -> usize {
        match &self.form {
            Form::Pack(pack) => usize::from(!pack.is_empty()),
            Form::Quick(quick) => quick.nodes().len(),
        }
    }

    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        let (pack, quick) = match &self.form {
            Form::Pack(pack) => (Some(&**pack).filter(|pack| !pack.is_empty()), None),
            Form::Quick(quick) => (None, Some(quick.nodes())),
        };
        let nodes = quick.into_iter().flatten().map(Node::from);
        pack.map(Node::Packed).into_iter().chain(nodes)
    }

    /// The elements from head to tail.
    pub fn iter(&self) -> quicklist::Iter<'_> {
        match &self.form {
            Form::Pack(pack) => quicklist::Iter::of_pack(pack.iter()),
            Form::Quick(quick) => quick.iter(),
        }
    }

    /// The elements from tail to head.
    pub fn iter_rev(&self) -> quicklist::RevIter<'_> {
        match &self.form {
            Form::Pack(pack) => quicklist::RevIter::of_pack(pack.iter_rev()),
            Form::Quick(quick) => quick.iter_rev(),
        }
    }

    /// Elements from `index` on; none if it is past the end.
    pub fn iter_from(&self, index: usize) -> quicklist::Iter<'_> {
        match &self.form {
            Form::Pack(pack) => iter_pack_from(pack, index),
            Form::Quick(quick) => quick.iter_from(index),
        }
    }

    /// The element at an index; negative ones count from the end, -1 being the last element.
    pub fn index(&self, index: i64) -> Option<Entry<'_>> {
        match &self.form {
            Form::Pack(pack) => pack.seek(index).map(|pos| pack.at(pos)),
            Form::Quick(quick) => quick.index(index),
        }
    }

    /// The index of the first element equal to `value`.
    pub fn position(&self, value: &[u8]) -> Option<usize> {
        match &self.form {
            Form::Pack(pack) => pack.position(value),
            Form::Quick(quick) => quick.position(value),
        }
    }

    /// Visits `count` elements beginning with the one at that end; the list has as many.
    #[inline]
    pub fn visit_from(&self, end: End, count: usize, visit: impl FnMut(Entry<'_>)) {
        match end {
            End::Head => self.iter().visit(count, visit),
            End::Tail => self.iter_rev().take(count).for_each(visit),
        }
    }

    pub fn duplicate(&self) -> List {
        let form = match &self.form {
            Form::Pack(pack) => Form::Pack(pack.to_listpack()),
            Form::Quick(quick) => Form::Quick(Box::new(Quicklist::clone(quick))),
        };
        List { form, limits: self.limits }
    }
}

impl<'a> ListRef<'a> {
    /// A list that is one listpack.
    pub fn of_pack(pack: &'a Pack) -> ListRef<'a> {
        List { form: Form::Pack(pack), limits: Limits::new(0) }
    }

    /// As [`List::iter_from`], for as long as the elements lie where they do.
    pub fn elements_from(self, index: usize) -> quicklist::Iter<'a> {
        match self.form {
            Form::Pack(pack) => iter_pack_from(pack, index),
            Form::Quick(quick) => quick.iter_from(index),
        }
    }
}

fn iter_pack_from(pack: &Pack, index: usize) -> quicklist::Iter<'_> {
    match pack.seek(index as i64) {
        Some(pos) => quicklist::Iter::of_pack(pack.iter_from(pos)),
        None => quicklist::Iter::of_pack(pack.iter_at_end()),
    }
}

impl List {
    /// An empty list whose nodes fill up as `fill` (`list-max-listpack-size`) says.
    pub fn new(fill: i32) -> List {
        List::from_pack(Listpack::new(), fill)
    }

    /// An empty list under the operator's limits.
    pub fn with_limits(limits: &EncodingLimits) -> List {
        let mut list = List::new(limits.list_fill);
        list.apply(limits);
        list
    }

    /// The list that is this listpack; it fills up as `fill` says.
    pub fn from_pack(pack: Listpack, fill: i32) -> List {
        List { form: Form::Pack(pack), limits: Limits::new(fill) }
    }

    /// The list as one listpack if that is what it is or, by its limits, should be.
    pub fn into_pack(self) -> Result<Listpack, List> {
        let limits = self.limits;
        match self.form {
            Form::Pack(pack) => Ok(pack),
            Form::Quick(quick) if quick.is_small() => {
                quick.into_listpack().map_err(|quick| List { form: Form::Quick(Box::new(quick)), limits })
            }
            Form::Quick(quick) => Err(List { form: Form::Quick(quick), limits }),
        }
    }

    /// Whether [`List::into_pack`] may give a listpack.
    #[inline]
    pub(crate) fn fits_pack(&self) -> bool {
        match &self.form {
            Form::Pack(_) => true,
            Form::Quick(quick) => quick.is_small(),
        }
    }

    pub fn view(&self) -> ListRef<'_> {
        let form = match &self.form {
            Form::Pack(pack) => Form::Pack(&**pack),
            Form::Quick(quick) => Form::Quick(&**quick),
        };
        List { form, limits: self.limits }
    }

    /// Takes over what `DEBUG QUICKLIST-PACKED-THRESHOLD` says, and the fill while the list is one listpack; call it
    /// before elements are added or replaced. The fill of a quicklist stays as it was when it became one, as in Redis.
    #[inline]
    pub fn apply(&mut self, limits: &EncodingLimits) {
        self.set_limits(limits.list_fill, limits.packed_threshold);
    }

    /// As [`List::apply`].
    #[inline]
    pub fn set_limits(&mut self, fill: i32, packed_threshold: u32) {
        match &mut self.form {
            Form::Pack(_) => {
                self.limits = Limits::new(fill);
                self.limits.set_packed_threshold(packed_threshold);
            }
            Form::Quick(quick) => quick.set_packed_threshold(packed_threshold),
        }
    }

    #[inline]
    pub fn push(&mut self, end: End, value: &[u8]) {
        let quick = match &mut self.form {
            Form::Pack(pack) if self.limits.takes_one_more(pack, value) => {
                return match end {
                    End::Head => pack.push_front(value),
                    End::Tail => pack.push_back(value),
                };
            }
            Form::Pack(_) => self.quick(),
            Form::Quick(quick) => quick,
        };
        match end {
            End::Head => quick.push_front(value),
            End::Tail => quick.push_back(value),
        }
    }

    pub fn push_back(&mut self, value: &[u8]) {
        self.push(End::Tail, value);
    }

    /// Takes an element off one end and passes it to `take`.
    #[inline]
    pub fn pop_with<R>(&mut self, end: End, take: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
        match (&mut self.form, end) {
            (Form::Pack(pack), end) => {
                let pos = if end == End::Head { pack.first()? } else { pack.last()? };
                let taken = take(pack.at(pos));
                match end {
                    End::Head => pack.delete_first(),
                    End::Tail => pack.delete_last(),
                }
                Some(taken)
            }
            (Form::Quick(quick), End::Head) => quick.pop_front_with(take),
            (Form::Quick(quick), End::Tail) => quick.pop_back_with(take),
        }
    }

    /// Replaces the element at an index, counted as in [`List::index`]; false if there is none.
    pub fn set(&mut self, index: i64, value: &[u8]) -> bool {
        if let Form::Pack(pack) = &mut self.form {
            let Some(pos) = pack.seek(index) else { return false };
            if self.limits.takes_instead(pack, pos, value) {
                pack.replace(pos, value);
                return true;
            }
        }
        self.quick().set(index, value)
    }

    /// Inserts before the element at an index, counted as in [`List::index`]; false if there is none.
    pub fn insert_before(&mut self, index: i64, value: &[u8]) -> bool {
        if let Form::Pack(pack) = &mut self.form {
            let Some(pos) = pack.seek(index) else { return false };
            if self.limits.takes_one_more(pack, value) {
                pack.insert_before(pos, value);
                return true;
            }
        }
        self.quick().insert_before(index, value)
    }

    /// Inserts after the element at an index, counted as in [`List::index`]; false if there is none.
    pub fn insert_after(&mut self, index: i64, value: &[u8]) -> bool {
        if let Form::Pack(pack) = &mut self.form {
            let Some(pos) = pack.seek(index) else { return false };
            if self.limits.takes_one_more(pack, value) {
                pack.insert_after(pos, value);
                return true;
            }
        }
        self.quick().insert_after(index, value)
    }

    /// Removes elements equal to `value`: the first `count` of them, the last -`count` of them if it is negative, all
    /// if it is 0. Returns how many.
    pub fn remove_equal(&mut self, value: &[u8], count: i64) -> usize {
        match &mut self.form {
            Form::Pack(pack) => {
                let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
                let skip = if count < 0 { pack.count_equal(value).saturating_sub(limit) } else { 0 };
                pack.delete_equal(value, skip, limit)
            }
            Form::Quick(quick) => quick.remove_equal(value, count),
        }
    }

    /// Drops `count` elements from one end; the list has as many.
    pub fn drop_from(&mut self, end: End, count: usize) {
        let start = if end == End::Head { 0 } else { -(count as i64) };
        match &mut self.form {
            Form::Pack(pack) => pack.delete_range(start, count),
            Form::Quick(quick) => quick.remove_range(start, count),
        };
    }

    /// Appends a loaded node, the bytes of a listpack. Empty ones are left out.
    pub fn load_packed(&mut self, bytes: Vec<u8>) -> Result<(), Malformed> {
        let node = Listpack::from_wire(&bytes, true);
        let node = node.map_err(|_| Malformed("Listpack integrity check failed."))?;
        match &mut self.form {
            Form::Pack(pack) if pack.is_empty() => *pack = node,
            _ => self.quick().push_node_packed(node),
        }
        Ok(())
    }

    /// Appends a loaded node of one element.
    pub fn load_plain(&mut self, value: Vec<u8>) {
        self.quick().push_node_plain(value.into_boxed_slice());
    }

    /// The quicklist if the list is one.
    pub(crate) fn as_quick(&self) -> Option<&Quicklist> {
        match &self.form {
            Form::Quick(quick) => Some(quick),
            Form::Pack(_) => None,
        }
    }

    /// The quicklist, made of the listpack if there is none yet.
    pub(crate) fn quick(&mut self) -> &mut Quicklist {
        if let Form::Pack(pack) = &mut self.form {
            let mut quick = Box::new(Quicklist::with_limits(self.limits));
            // A copy, since the listpack may lie in an entry.
            quick.push_node_packed(pack.to_listpack());
            self.form = Form::Quick(quick);
        }
        match &mut self.form {
            Form::Quick(quick) => quick,
            Form::Pack(_) => unreachable!("the listpack was just converted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &List) -> Vec<String> {
        list.iter().map(|entry| String::from_utf8(entry.to_vec()).unwrap()).collect()
    }

    #[test]
    fn loads_nodes_as_they_are_and_refuses_broken_ones() {
        let mut source = List::new(2);
        for value in ["a", "1", "b", "2"] {
            source.push_back(value.as_bytes());
        }
        let mut list = List::new(-2);
        for node in source.nodes() {
            let Node::Packed(bytes) = node else { panic!("small elements are packed") };
            list.load_packed(bytes.to_wire()).unwrap();
        }
        list.load_packed(Listpack::new().to_wire()).unwrap();
        list.load_plain(b"plain".to_vec());
        list.push_back(b"c");
        assert_eq!(texts(&list), ["a", "1", "b", "2", "plain", "c"]);
        assert_eq!((list.len(), list.node_count()), (6, 4));
        let mut broken = source.nodes().next().map(|node| match node {
            Node::Packed(pack) => pack.to_wire(),
            Node::Plain(bytes) => bytes.to_vec(),
        });
        broken.as_mut().unwrap()[6] = 0xF9;
        assert!(list.load_packed(broken.unwrap()).is_err());
        assert_eq!(list.len(), 6);
    }

    #[test]
    fn both_ends_push_pop_visit_and_drop() {
        let mut list = List::with_limits(&EncodingLimits { list_fill: 3, ..EncodingLimits::default() });
        for value in 0..10 {
            list.push(if value % 2 == 0 { End::Head } else { End::Tail }, value.to_string().as_bytes());
        }
        assert_eq!(texts(&list).concat(), "8642013579");
        assert_eq!(list.pop_with(End::Head, |entry| entry.as_i64()), Some(Some(8)));
        assert_eq!(list.pop_with(End::Tail, |entry| entry.as_i64()), Some(Some(9)));
        let mut seen = Vec::new();
        list.visit_from(End::Tail, 3, |entry| entry.push_to(&mut seen));
        list.visit_from(End::Head, 2, |entry| entry.push_to(&mut seen));
        assert_eq!(seen, b"75364");
        list.drop_from(End::Tail, 3);
        list.drop_from(End::Head, 2);
        assert_eq!(texts(&list).concat(), "201");
    }

    #[test]
    fn the_packed_threshold_makes_plain_nodes_from_then_on() {
        let mut list = List::with_limits(&EncodingLimits::default());
        list.push_back(b"aaaa");
        list.apply(&EncodingLimits { packed_threshold: 3, ..EncodingLimits::default() });
        list.push_back(b"bbbb");
        list.push_back(b"cc");
        let kinds: Vec<bool> = list.nodes().map(|node| matches!(node, Node::Plain(_))).collect();
        assert_eq!(kinds, [false, true, false]);
    }
}

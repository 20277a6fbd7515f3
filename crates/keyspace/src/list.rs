//! Lists: a quicklist of listpacks.
//!
//! The quicklist stands behind a pointer, so that an entry of the keyspace does not pay its 48 bytes for every small
//! hash or set: an [`crate::Object`] is as big as its biggest variant.

use structures::listpack::{Entry, Listpack};
use structures::quicklist::{self, NodeRef, Quicklist};

use crate::limits::EncodingLimits;
use crate::object::Malformed;

/// A list value. Never empty while it is in a database.
#[derive(Debug)]
pub struct List {
    quick: Box<Quicklist>,
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
    /// The bytes of a listpack.
    Packed(&'a [u8]),
    /// One element that is too large for a listpack.
    Plain(&'a [u8]),
}

impl<'a> From<NodeRef<'a>> for Node<'a> {
    fn from(node: NodeRef<'a>) -> Node<'a> {
        match node {
            NodeRef::Packed(pack) => Node::Packed(pack.bytes()),
            NodeRef::Plain(bytes) => Node::Plain(bytes),
        }
    }
}

impl List {
    /// An empty list whose nodes fill up as `fill` (`list-max-listpack-size`) says.
    pub fn new(fill: i32) -> List {
        List { quick: Box::new(Quicklist::new(fill)) }
    }

    /// An empty list under the operator's limits.
    pub fn with_limits(limits: &EncodingLimits) -> List {
        let mut list = List::new(limits.list_fill);
        list.apply(limits);
        list
    }

    /// Takes over what `DEBUG QUICKLIST-PACKED-THRESHOLD` says; call it before elements are added or replaced. The
    /// fill stays as it was when the list was made, as in Redis.
    #[inline]
    pub fn apply(&mut self, limits: &EncodingLimits) {
        self.quick.set_packed_threshold(limits.packed_threshold);
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.quick.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.quick.is_empty()
    }

    /// Always `quicklist`, as up to Redis 7.0; later versions call a list of one node `listpack`.
    pub fn encoding(&self) -> &'static str {
        "quicklist"
    }

    pub fn heap_bytes(&self) -> usize {
        self.quick.bytes()
    }

    pub fn node_count(&self) -> usize {
        self.quick.nodes().len()
    }

    pub fn nodes(&self) -> impl ExactSizeIterator<Item = Node<'_>> {
        self.quick.nodes().map(Node::from)
    }

    /// The elements from head to tail.
    pub fn iter(&self) -> quicklist::Iter<'_> {
        self.quick.iter()
    }

    /// The elements, for commands that work on them in place.
    pub fn quick(&self) -> &Quicklist {
        &self.quick
    }

    pub fn quick_mut(&mut self) -> &mut Quicklist {
        &mut self.quick
    }

    #[inline]
    pub fn push(&mut self, end: End, value: &[u8]) {
        match end {
            End::Head => self.quick.push_front(value),
            End::Tail => self.quick.push_back(value),
        }
    }

    pub fn push_back(&mut self, value: &[u8]) {
        self.quick.push_back(value);
    }

    /// Takes an element off one end and passes it to `take`.
    #[inline]
    pub fn pop_with<R>(&mut self, end: End, take: impl FnOnce(Entry<'_>) -> R) -> Option<R> {
        match end {
            End::Head => self.quick.pop_front_with(take),
            End::Tail => self.quick.pop_back_with(take),
        }
    }

    /// Visits `count` elements beginning with the one at that end; the list has as many.
    #[inline]
    pub fn visit_from(&self, end: End, count: usize, visit: impl FnMut(Entry<'_>)) {
        match end {
            End::Head => self.quick.iter().take(count).for_each(visit),
            End::Tail => self.quick.iter_rev().take(count).for_each(visit),
        }
    }

    /// Drops `count` elements from one end; the list has as many.
    pub fn drop_from(&mut self, end: End, count: usize) {
        match end {
            End::Head => self.quick.remove_range(0, count),
            End::Tail => self.quick.remove_range(-(count as i64), count),
        };
    }

    /// Appends a loaded node, the bytes of a listpack. Empty ones are left out.
    pub fn load_packed(&mut self, bytes: Vec<u8>) -> Result<(), Malformed> {
        let pack = Listpack::from_vec_validated(bytes, true);
        self.quick.push_node_packed(pack.map_err(|_| Malformed("Listpack integrity check failed."))?);
        Ok(())
    }

    /// Appends a loaded node of one element.
    pub fn load_plain(&mut self, value: Vec<u8>) {
        self.quick.push_node_plain(value.into_boxed_slice());
    }

    pub fn duplicate(&self) -> List {
        List { quick: self.quick.clone() }
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
            list.load_packed(bytes.to_vec()).unwrap();
        }
        list.load_packed(Listpack::new().bytes().to_vec()).unwrap();
        list.load_plain(b"plain".to_vec());
        list.push_back(b"c");
        assert_eq!(texts(&list), ["a", "1", "b", "2", "plain", "c"]);
        assert_eq!((list.len(), list.node_count()), (6, 4));
        let mut broken = source.nodes().next().map(|node| match node {
            Node::Packed(bytes) | Node::Plain(bytes) => bytes.to_vec(),
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

//! Lists: a quicklist of listpacks.

use structures::quicklist::{NodeRef, Quicklist};

/// A list value. Never empty while it is in a database.
#[derive(Debug)]
pub struct List {
    quick: Quicklist,
}

/// A node as a snapshot copies it.
#[derive(Debug, Clone, Copy)]
pub enum Node<'a> {
    /// The bytes of a listpack.
    Packed(&'a [u8]),
    /// One element that is too large for a listpack.
    Plain(&'a [u8]),
}

impl List {
    /// An empty list whose nodes fill up as `fill` (`list-max-listpack-size`) says.
    pub fn new(fill: i32) -> List {
        List { quick: Quicklist::new(fill) }
    }

    pub fn len(&self) -> usize {
        self.quick.len()
    }

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
        self.quick.nodes().map(|node| match node {
            NodeRef::Packed(pack) => Node::Packed(pack.bytes()),
            NodeRef::Plain(bytes) => Node::Plain(bytes),
        })
    }

    /// The elements, for commands that work on them in place.
    pub fn quick(&self) -> &Quicklist {
        &self.quick
    }

    pub fn quick_mut(&mut self) -> &mut Quicklist {
        &mut self.quick
    }

    pub fn duplicate(&self) -> List {
        List { quick: self.quick.clone() }
    }
}

// ---- loading ----

impl List {
    /// Appends a node out of a snapshot, checked in every part.
    pub fn load_packed(&mut self, bytes: Vec<u8>) -> Result<(), crate::object::Malformed> {
        let pack = structures::listpack::Listpack::from_vec_validated(bytes, true)
            .map_err(|_| crate::object::Malformed("Listpack integrity check failed."))?;
        if !pack.is_empty() {
            self.quick.push_node_packed(pack);
        }
        Ok(())
    }

    /// Appends a node of one large element.
    pub fn load_plain(&mut self, bytes: Vec<u8>) {
        self.quick.push_node_plain(bytes.into_boxed_slice());
    }

    pub fn push_back(&mut self, element: &[u8]) {
        self.quick.push_back(element);
    }
}

//! The table of connections.
//!
//! The connection whose command runs is taken out of its slot, so that its handler may look at all the others.

use crate::action::ConnId;
use crate::session::{Conn, SessionId};

#[derive(Default)]
pub struct Conns {
    slots: Vec<Option<Box<Conn>>>,
    free: Vec<ConnId>,
    /// Slots that are empty, but which the surroundings may still know under their old name.
    released: Vec<ConnId>,
    /// Connections, the running one included.
    count: usize,
    last_session: SessionId,
}

impl Conns {
    /// The id of the next session.
    pub fn next_session_id(&mut self) -> SessionId {
        self.last_session += 1;
        self.last_session
    }

    pub fn insert(&mut self, conn: Box<Conn>) -> ConnId {
        self.count += 1;
        match self.free.pop() {
            Some(id) => {
                self.slots[id] = Some(conn);
                id
            }
            None => {
                self.slots.push(Some(conn));
                self.slots.len() - 1
            }
        }
    }

    /// Takes the connection out to run it; it keeps its slot.
    #[inline]
    pub fn take(&mut self, id: ConnId) -> Option<Box<Conn>> {
        self.slots.get_mut(id)?.take()
    }

    /// Puts a connection back that was taken to run.
    #[inline]
    pub fn put_back(&mut self, id: ConnId, conn: Box<Conn>) {
        self.slots[id] = Some(conn);
    }

    /// Ends a connection that was taken out. Its slot is used again after [`Conns::recycle`].
    pub fn release(&mut self, id: ConnId) {
        debug_assert!(self.slots[id].is_none(), "a released connection was taken out before");
        self.count -= 1;
        self.released.push(id);
    }

    /// The surroundings learn now which connections were closed: their slots may be used again.
    pub fn recycle(&mut self) {
        self.free.append(&mut self.released);
    }

    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        self.slots.get(id)?.as_deref()
    }

    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.slots.get_mut(id)?.as_deref_mut()
    }

    /// Every id in use is below this.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All connections but the running one.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.slots.iter().enumerate().filter_map(|(id, slot)| Some((id, slot.as_deref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut Conn)> {
        self.slots.iter_mut().enumerate().filter_map(|(id, slot)| Some((id, slot.as_deref_mut()?)))
    }

    pub fn by_session(&self, session: SessionId) -> Option<ConnId> {
        self.iter().find(|(_, conn)| conn.session.id == session).map(|(id, _)| id)
    }
}

//! What clients do, and what they may believe of the answers.

use engine::Peer;
use engine::action::ConnId;
use engine::session::LOST;

use super::{Client, SERVERS, World, host};
use crate::clients;
use crate::net::{Connection, End};
use crate::settings::PORT;

impl World {
    pub(super) fn client_sends(&mut self, index: usize) {
        let client = &self.clients[index];
        if client.pending > 0 {
            return;
        }
        // Most write to the primary, as far as they know it.
        let wanted = if self.random.percent(85) { self.primary } else { self.random.index(SERVERS) };
        if client.connection.is_some() && client.server != wanted && self.random.percent(20) {
            self.client_leaves(index);
        }
        if self.clients[index].connection.is_none() {
            let Some(process) = &mut self.servers[wanted].process else { return };
            let peer = Peer {
                addr: format!("10.0.1.{index}:5000"),
                laddr: format!("{}:{PORT}", host(wanted)),
                unix_socket: false,
                local: true,
            };
            let Ok(conn) = process.node.accept(peer) else { return };
            let ends = [End::Client(index), End::Server { server: wanted, conn }];
            let slot = self.open(Connection::new(ends[0], ends[1]));
            self.clients[index] = Client { connection: Some(slot), server: wanted, ..Client::default() };
        }
        let mut bytes = Vec::new();
        let (count, waits) = clients::pipeline(&mut self.random, &self.taste, &mut bytes);
        self.counts.commands += count as u64;
        let client = &mut self.clients[index];
        client.pending = count;
        client.waits = waits;
        let slot = client.connection.expect("connected above");
        let due = self.now + self.random.between(0, 5);
        self.connections[slot].as_mut().expect("a client's connection is open").pipes[1].push(due, bytes);
    }

    pub(super) fn client_leaves(&mut self, index: usize) {
        let Some(slot) = self.clients[index].connection.take() else { return };
        let now = self.now;
        self.leave(slot, |_| Some(0), now);
        self.clients[index] = Client::default();
    }

    /// A pause that ends lets clients write that have sent nothing just now.
    pub(super) fn note_writes(&mut self, n: usize) {
        for index in 0..self.clients.len() {
            let connection = self.clients[index].connection.and_then(|slot| self.connections[slot].as_ref());
            let ends = connection.map_or([End::Gone; 2], |connection| connection.ends);
            for end in ends {
                if let End::Server { server, conn } = end
                    && server == n
                {
                    self.note_write(n, conn, index);
                }
            }
        }
    }

    /// Remembers at which position the last write of a client ended.
    pub(super) fn note_write(&mut self, n: usize, conn: ConnId, client: usize) {
        let node = &self.servers[n].process.as_ref().expect("it has just run").node;
        let Some(open) = node.core.conns.get(conn) else { return };
        let offset = open.session.last_write_offset;
        let client = &mut self.clients[client];
        if offset > 0 && offset != LOST && client.written.is_none_or(|at| at.offset != offset) {
            client.written = Some(node.core.repl.history.at(offset));
        }
    }

    pub(super) fn client_reads(&mut self, index: usize) {
        loop {
            let client = &mut self.clients[index];
            let parsed = resp::parse_reply(&client.replies).expect("replies are well formed");
            let Some((value, length)) = parsed else { return };
            client.replies.drain(..length);
            assert!(client.pending > 0, "a reply that nobody asked for: {value:?}");
            client.pending -= 1;
            if client.pending > 0 || !client.waits {
                continue;
            }
            let (server, written) = (client.server, client.written);
            let Some(count) = value.as_int() else { continue };
            self.counts.waits += 1;
            self.counts.acknowledged += count as u64;
            let Some(at) = written else { continue };
            let process = self.servers[server].process.as_ref().map(|process| process.seen.process);
            let process = process.expect("it has just answered");
            let reached = self.truth.count_reached(process, at);
            assert!(
                reached as i64 >= count,
                "server {server} says that {count} replicas have {at}, and {reached} ever had it"
            );
        }
    }
}

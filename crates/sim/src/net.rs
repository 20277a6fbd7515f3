//! Connections between servers, and from clients to servers.

use std::collections::VecDeque;

use engine::ConnId;

/// Who holds an end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Server {
        server: usize,
        conn: ConnId,
    },
    Client(usize),
    /// This side has closed, crashed or been told that the connection is over.
    Gone,
}

/// Bytes on their way in one direction. They arrive in order, each part not before its time.
#[derive(Debug, Default)]
pub struct Pipe {
    parts: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// When the other side is told that nothing follows; bytes before it arrive first.
    pub end_at: Option<u64>,
}

/// One connection; side 0 has opened it.
#[derive(Debug)]
pub struct Connection {
    pub ends: [End; 2],
    /// `pipes[side]` leads to that side.
    pub pipes: [Pipe; 2],
}

impl Pipe {
    /// Sends bytes; into nowhere if the pipe has come to an end that its sender does not know of yet.
    pub fn push(&mut self, due: u64, bytes: Vec<u8>) {
        if self.end_at.is_some() {
            return;
        }
        // What was sent later never overtakes.
        let due = self.parts.back().map_or(due, |(last, _)| due.max(*last));
        self.bytes += bytes.len();
        self.parts.push_back((due, bytes));
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_due(&self, now: u64) -> bool {
        self.parts.front().is_some_and(|(due, _)| *due <= now)
    }

    /// At most `most` of the bytes that have arrived.
    pub fn take(&mut self, now: u64, most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < most && self.is_due(now) {
            let (_, part) = self.parts.front_mut().expect("a due part is there");
            let count = part.len().min(most - out.len());
            out.extend(part.drain(..count));
            if part.is_empty() {
                self.parts.pop_front();
            }
        }
        self.bytes -= out.len();
        out
    }

    /// Loses everything after the first `keep` bytes.
    pub fn truncate(&mut self, keep: usize) {
        while self.bytes > keep {
            let (_, part) = self.parts.back_mut().expect("the count is that of the parts");
            let lost = part.len().min(self.bytes - keep);
            part.truncate(part.len() - lost);
            self.bytes -= lost;
            if part.is_empty() {
                self.parts.pop_back();
            }
        }
    }

    /// Nothing is on its way and the end is due.
    pub fn is_over(&self, now: u64) -> bool {
        self.parts.is_empty() && self.end_at.is_some_and(|at| at <= now)
    }
}

impl Connection {
    pub fn new(from: End, to: End) -> Connection {
        Connection { ends: [from, to], pipes: Default::default() }
    }

    pub fn side_of(&self, server: usize, conn: ConnId) -> Option<usize> {
        self.ends.iter().position(|end| *end == End::Server { server, conn })
    }

    /// The two servers, if it is one between servers.
    pub fn servers(&self) -> Option<[usize; 2]> {
        match self.ends {
            [End::Server { server: a, .. }, End::Server { server: b, .. }] => Some([a, b]),
            _ => None,
        }
    }

    /// One side is gone: what it was sent is lost, the other side hears of it after what is on its way.
    pub fn leave(&mut self, side: usize, at: u64) {
        self.ends[side] = End::Gone;
        self.pipes[side] = Pipe::default();
        let other = &mut self.pipes[1 - side];
        other.end_at = Some(other.end_at.map_or(at, |end| end.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_in_time() {
        let mut pipe = Pipe::default();
        pipe.push(10, b"abc".to_vec());
        pipe.push(5, b"def".to_vec());
        assert!(!pipe.is_due(9));
        assert_eq!(pipe.take(10, 4), b"abcd");
        assert_eq!(pipe.take(10, 9), b"ef");
        assert_eq!(pipe.bytes(), 0);
    }

    #[test]
    fn a_cut_pipe_keeps_its_beginning() {
        let mut pipe = Pipe::default();
        pipe.push(0, b"abc".to_vec());
        pipe.push(0, b"def".to_vec());
        pipe.truncate(4);
        pipe.end_at = Some(3);
        assert!(!pipe.is_over(3));
        assert_eq!(pipe.take(0, 99), b"abcd");
        assert!(!pipe.is_over(2) && pipe.is_over(3));
    }
}

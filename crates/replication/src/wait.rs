//! Clients in WAIT: until so many replicas acknowledged an offset, or time is up.
//!
//! The owner adds a client that cannot be answered at once, appends [`crate::replica_link::GETACK`] to the
//! log before it sleeps, and asks [`WaitQueue::wake`] after acknowledgements and [`WaitQueue::expire`] when
//! [`WaitQueue::next_deadline`] has come. It answers each client with the number of replicas.

use crate::Millis;

/// Waiting clients, named by `C`.
#[derive(Clone, Debug)]
pub struct WaitQueue<C> {
    waiting: Vec<Waiting<C>>,
}

#[derive(Clone, Debug)]
struct Waiting<C> {
    client: C,
    offset: u64,
    replicas: usize,
    deadline: Option<Millis>,
}

impl<C> Default for WaitQueue<C> {
    fn default() -> WaitQueue<C> {
        WaitQueue { waiting: Vec::new() }
    }
}

impl<C: PartialEq> WaitQueue<C> {
    /// `client` waits until `replicas` of them acknowledged `offset`; forever without a deadline.
    pub fn add(&mut self, client: C, offset: u64, replicas: usize, deadline: Option<Millis>) {
        self.waiting.push(Waiting { client, offset, replicas, deadline });
    }

    /// The client is gone, or was unblocked by other means. Returns whether it waited.
    pub fn remove(&mut self, client: &C) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.client != *client);
        before != self.waiting.len()
    }

    /// Takes out the clients whose wish is fulfilled, each with the number of replicas that acknowledged.
    /// `acked` counts the replicas that acknowledged an offset, once per different offset.
    pub fn wake(&mut self, mut acked: impl FnMut(u64) -> usize) -> Vec<(C, usize)> {
        let mut last = None;
        self.take(|waiting| {
            let count = match last {
                Some((offset, count)) if offset == waiting.offset => count,
                _ => acked(waiting.offset),
            };
            last = Some((waiting.offset, count));
            (count >= waiting.replicas).then_some(count)
        })
    }

    /// Takes out the clients whose time is up, each with the number of replicas that acknowledged so far.
    pub fn expire(&mut self, now: Millis, mut acked: impl FnMut(u64) -> usize) -> Vec<(C, usize)> {
        self.take(|waiting| waiting.deadline.is_some_and(|at| at <= now).then(|| acked(waiting.offset)))
    }

    /// Takes out all clients: this server became a replica, where WAIT has no meaning.
    pub fn drain(&mut self) -> Vec<C> {
        self.waiting.drain(..).map(|waiting| waiting.client).collect()
    }

    pub fn next_deadline(&self) -> Option<Millis> {
        self.waiting.iter().filter_map(|waiting| waiting.deadline).min()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    fn take(&mut self, mut done: impl FnMut(&Waiting<C>) -> Option<usize>) -> Vec<(C, usize)> {
        let counts = self.waiting.iter().map(&mut done).collect::<Vec<_>>().into_iter();
        let all = std::mem::take(&mut self.waiting).into_iter().zip(counts);
        let mut woken = Vec::new();
        for (waiting, count) in all {
            match count {
                Some(count) => woken.push((waiting.client, count)),
                None => self.waiting.push(waiting),
            }
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_wake_in_order_when_enough_replicas_acknowledged_their_offset() {
        let mut queue = WaitQueue::default();
        queue.add('a', 100, 1, None);
        queue.add('b', 100, 2, Some(Millis(500)));
        queue.add('c', 200, 1, Some(Millis(300)));
        let acks = [150, 90];
        let mut asked = 0;
        let mut count = |offset| {
            asked += 1;
            acks.iter().filter(|ack| **ack >= offset).count()
        };
        assert_eq!(queue.wake(&mut count), [('a', 1)]);
        assert_eq!(queue.next_deadline(), Some(Millis(300)));
        assert_eq!(queue.expire(Millis(299), &mut count), []);
        assert_eq!(queue.expire(Millis(300), &mut count), [('c', 0)]);
        assert_eq!(queue.expire(Millis(500), &mut count), [('b', 1)]);
        assert!(queue.is_empty() && queue.next_deadline().is_none());
        assert_eq!(asked, 4, "one count per different offset and per expired client");
    }

    #[test]
    fn a_client_that_is_gone_is_not_answered() {
        let mut queue = WaitQueue::default();
        queue.add(1, 10, 1, Some(Millis(5)));
        queue.add(2, 10, 0, None);
        assert!(queue.remove(&1) && !queue.remove(&1));
        assert_eq!((queue.len(), queue.next_deadline()), (1, None));
        assert_eq!(queue.wake(|_| 0), [(2, 0)]);
        queue.add(3, 10, 1, None);
        assert_eq!(queue.drain(), [3]);
    }
}

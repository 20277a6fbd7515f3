//! Sessions that clients may resume: `tls-session-cache-size` and `tls-session-cache-timeout`.
//!
//! A session is found by its id (version 1.2) or ticket (1.3, each good for one use). The oldest one leaves for a new one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::server::StoresServerSessions;

#[derive(Debug)]
pub struct SessionCache {
    sessions_max: usize,
    lifetime: Duration,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_key: HashMap<Vec<u8>, Entry>,
    /// In order of age, with the number of the entry; those that are gone or were replaced among them.
    order: VecDeque<(u64, Vec<u8>)>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    value: Vec<u8>,
    since: Instant,
}

impl SessionCache {
    /// A size of 0 is no limit.
    pub fn new(size: usize, lifetime: Duration) -> SessionCache {
        let sessions_max = if size == 0 { usize::MAX } else { size };
        SessionCache { sessions_max, lifetime, sessions: Mutex::default() }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().expect("no thread panics while it holds the sessions")
    }

    fn put_at(&self, now: Instant, key: Vec<u8>, value: Vec<u8>) {
        let mut sessions = self.sessions();
        let number = sessions.next;
        sessions.next += 1;
        sessions.by_key.insert(key.clone(), Entry { number, value, since: now });
        sessions.order.push_back((number, key));
        while let Some((number, key)) = sessions.order.front() {
            let entry = sessions.by_key.get(key).filter(|entry| entry.number == *number);
            let is_old = entry.is_some_and(|entry| now.duration_since(entry.since) > self.lifetime);
            if entry.is_some() && !is_old && sessions.by_key.len() <= self.sessions_max {
                break;
            }
            let is_known = entry.is_some();
            let (_, key) = sessions.order.pop_front().expect("it was in front");
            if is_known {
                sessions.by_key.remove(&key);
            }
        }
    }

    fn get_at(&self, now: Instant, key: &[u8]) -> Option<Vec<u8>> {
        let sessions = self.sessions();
        let entry = sessions.by_key.get(key)?;
        (now.duration_since(entry.since) <= self.lifetime).then(|| entry.value.clone())
    }

    fn take_at(&self, now: Instant, key: &[u8]) -> Option<Vec<u8>> {
        let entry = self.sessions().by_key.remove(key)?;
        (now.duration_since(entry.since) <= self.lifetime).then_some(entry.value)
    }
}

impl StoresServerSessions for SessionCache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(Instant::now(), key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get_at(Instant::now(), key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.take_at(Instant::now(), key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Vec<u8> {
        number.to_le_bytes().to_vec()
    }

    #[test]
    fn the_oldest_leave_first_and_a_replaced_one_is_new() {
        let cache = SessionCache::new(2, Duration::from_secs(300));
        let now = Instant::now();
        for number in [1, 2, 1, 3] {
            cache.put_at(now, key(number), b"x".to_vec());
        }
        let known = |number| cache.get_at(now, &key(number)).is_some();
        assert_eq!([known(1), known(2), known(3)], [true, false, true]);
        assert!(cache.take_at(now, &key(1)).is_some() && !known(1));
        let endless = SessionCache::new(0, Duration::from_secs(300));
        (0..1000).for_each(|number| endless.put_at(now, key(number), Vec::new()));
        assert!(endless.get_at(now, &key(0)).is_some());
    }

    #[test]
    fn sessions_age_and_leave_nothing_behind() {
        let cache = SessionCache::new(10, Duration::from_secs(300));
        let start = Instant::now();
        cache.put_at(start, key(1), Vec::new());
        let later = start + Duration::from_secs(301);
        assert!(cache.get_at(start + Duration::from_secs(300), &key(1)).is_some());
        assert_eq!((cache.get_at(later, &key(1)), cache.take_at(later, &key(1))), (None, None));
        // Tickets that are used at once must not pile up in the order.
        for number in 0..1000 {
            cache.put_at(later, key(number), Vec::new());
            cache.take_at(later, &key(number));
        }
        assert!(cache.sessions().order.len() <= 1);
    }
}

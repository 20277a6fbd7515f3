//! Replicas that a primary does not serve, because they could not hold what it would send them.
//!
//! A replica that is refused asks again, most once a second: that is logged when it begins and when the reason changes,
//! and counted otherwise. INFO and `REPL WHY` tell of it, and of the end.

use std::collections::VecDeque;
use std::fmt;

use crate::reader::{Feature, Reader};

/// How many replicas are remembered.
const KEPT: usize = 16;

/// Why a replica cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the replica does not know.
    pub feature: Feature,
    /// What has it: one key, library or command by name.
    pub witness: String,
    pub reader: Reader,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { feature, witness, reader } = self;
        write!(f, "{witness}, which only {} and later know; the replica {reader}", feature.known_to())
    }
}

/// A replica that is refused, since when, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `ip:port`.
    pub replica: String,
    pub refusal: Refusal,
    pub first_unix_ms: i64,
    pub last_unix_ms: i64,
    pub attempts: u64,
}

/// All replicas that are refused now, the last to come first.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    now: VecDeque<Refused>,
    total: u64,
}

impl Refusals {
    /// A replica is refused; true if that is news.
    pub fn add(&mut self, unix_ms: i64, replica: &str, refusal: Refusal) -> bool {
        self.total += 1;
        if let Some(known) = self.now.iter_mut().find(|known| known.replica == replica) {
            let news = known.refusal.feature != refusal.feature || known.refusal.reader != refusal.reader;
            known.refusal = refusal;
            known.last_unix_ms = unix_ms;
            known.attempts += 1;
            return news;
        }
        self.now.truncate(KEPT - 1);
        let (replica, first_unix_ms) = (replica.to_owned(), unix_ms);
        self.now.push_front(Refused { replica, refusal, first_unix_ms, last_unix_ms: unix_ms, attempts: 1 });
        true
    }

    /// The replica is served: what was remembered of it, if it was refused before.
    pub fn served(&mut self, replica: &str) -> Option<Refused> {
        let at = self.now.iter().position(|known| known.replica == replica)?;
        self.now.remove(at)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Refused> {
        self.now.iter()
    }

    /// Requests that were refused since the start.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(feature: Feature, key: &str) -> Refusal {
        let witness = format!("key '{key}' of database 0 is a hash whose fields have an expiry");
        Refusal { feature, witness, reader: Reader::Silent { rdb: 10 } }
    }

    #[test]
    fn who_asks_again_and_again_is_news_once() {
        let mut refusals = Refusals::default();
        assert!(refusals.add(1, "10.0.0.1:1", refusal(Feature::FieldExpiries, "a")));
        for at in 2..50 {
            let key = format!("k{at}");
            assert!(!refusals.add(at, "10.0.0.1:1", refusal(Feature::FieldExpiries, &key)));
        }
        assert!(refusals.add(50, "10.0.0.1:1", refusal(Feature::Redis82, "a")), "for another reason");
        assert!(refusals.add(51, "10.0.0.2:1", refusal(Feature::Redis82, "a")), "another replica");
        assert_eq!(refusals.total(), 51);
        let served = refusals.served("10.0.0.1:1").expect("it was refused");
        assert_eq!((served.attempts, served.first_unix_ms, served.last_unix_ms), (50, 1, 50));
        assert_eq!(refusals.served("10.0.0.1:1"), None);
        for n in 0..100 {
            refusals.add(n, &format!("10.0.1.{n}:1"), refusal(Feature::Rdb10, "a"));
        }
        assert_eq!(refusals.iter().len(), KEPT);
        assert_eq!(refusals.iter().next().expect("the last").replica, "10.0.1.99:1");
    }

    #[test]
    fn a_refusal_says_what_who_and_since_when() {
        assert_eq!(
            refusal(Feature::FieldExpiries, "h").to_string(),
            "key 'h' of database 0 is a hash whose fields have an expiry, which only Redis 7.4 and Valkey 9 and later \
             know; the replica announces no version and is taken for Redis 7.0 (repl-assume-rdb-version 10)"
        );
    }
}

//! Keyspace events: which are wanted (`notify-keyspace-events`) and which were raised.
//!
//! The events of a unit are collected here; whoever delivers them (pub/sub) takes them at the end of the unit.

/// A class of events, one bit each, named by the letter of `notify-keyspace-events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event(u32);

impl Event {
    pub const NONE: Event = Event(0);
    pub const KEYSPACE: Event = Event(1 << 0);
    pub const KEYEVENT: Event = Event(1 << 1);
    pub const GENERIC: Event = Event(1 << 2);
    pub const STRING: Event = Event(1 << 3);
    pub const LIST: Event = Event(1 << 4);
    pub const SET: Event = Event(1 << 5);
    pub const HASH: Event = Event(1 << 6);
    pub const ZSET: Event = Event(1 << 7);
    pub const EXPIRED: Event = Event(1 << 8);
    pub const EVICTED: Event = Event(1 << 9);
    pub const STREAM: Event = Event(1 << 10);
    pub const KEY_MISS: Event = Event(1 << 11);
    pub const MODULE: Event = Event(1 << 13);
    pub const NEW: Event = Event(1 << 14);

    /// The classes that the letter `A` stands for, in the order Redis writes them.
    const ALL: [(u8, Event); 10] = [
        (b'g', Event::GENERIC),
        (b'$', Event::STRING),
        (b'l', Event::LIST),
        (b's', Event::SET),
        (b'h', Event::HASH),
        (b'z', Event::ZSET),
        (b'x', Event::EXPIRED),
        (b'e', Event::EVICTED),
        (b't', Event::STREAM),
        (b'd', Event::MODULE),
    ];
    const OTHERS: [(u8, Event); 4] =
        [(b'K', Event::KEYSPACE), (b'E', Event::KEYEVENT), (b'm', Event::KEY_MISS), (b'n', Event::NEW)];

    pub const fn union(self, other: Event) -> Event {
        Event(self.0 | other.0)
    }

    pub const fn contains(self, other: Event) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn intersects(self, other: Event) -> bool {
        self.0 & other.0 != 0
    }

    /// Reads the value of `notify-keyspace-events`; `None` if a letter names no class.
    pub fn parse(letters: &[u8]) -> Option<Event> {
        let mut events = Event::NONE;
        for letter in letters {
            if *letter == b'A' {
                events = Event::ALL.iter().fold(events, |all, (_, class)| all.union(*class));
                continue;
            }
            let row = Event::ALL.iter().chain(&Event::OTHERS).find(|(name, _)| name == letter)?;
            events = events.union(row.1);
        }
        Some(events)
    }

    /// The letters, as `CONFIG GET notify-keyspace-events` prints them.
    pub fn letters(self) -> String {
        let mut out = String::new();
        if Event::ALL.iter().all(|(_, class)| self.contains(*class)) {
            out.push('A');
        } else {
            out.extend(Event::ALL.iter().filter(|(_, class)| self.contains(*class)).map(|(l, _)| *l as char));
        }
        out.extend(Event::OTHERS.iter().filter(|(_, class)| self.contains(*class)).map(|(l, _)| *l as char));
        out
    }
}

/// An event that was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    pub class: Event,
    pub name: &'static str,
    pub db: u32,
    pub key: Box<[u8]>,
}

/// Wanted classes and the events of the running unit.
#[derive(Debug, Default)]
pub struct Notifications {
    pub wanted: Event,
    /// Nobody delivers: the events stay for a test to take.
    pub keep: bool,
    raised: Vec<Raised>,
}

impl Notifications {
    #[inline]
    pub fn wants(&self, class: Event) -> bool {
        self.wanted.intersects(class)
    }

    pub fn raise(&mut self, class: Event, name: &'static str, db: u32, key: &[u8]) {
        self.raised.push(Raised { class, name, db, key: key.into() });
    }

    /// The events of the unit, in the order they were raised.
    pub fn take(&mut self) -> Vec<Raised> {
        std::mem::take(&mut self.raised)
    }

    /// The unit has ended.
    #[inline]
    pub fn clear(&mut self) {
        if !self.keep && !self.raised.is_empty() {
            self.raised.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_read_back_as_redis_prints_them() {
        for (given, printed) in
            [("KEA", "AKE"), ("", ""), ("K$lshzxetdg", "AK"), ("Elg", "glE"), ("Kmn", "Kmn")]
        {
            assert_eq!(Event::parse(given.as_bytes()).unwrap().letters(), printed);
        }
        assert_eq!(Event::parse(b"Q"), None);
    }
}

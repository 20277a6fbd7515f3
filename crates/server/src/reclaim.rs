//! Freeing big values on a thread of its own, so that `UNLINK` and `FLUSHALL ASYNC` take no longer for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use engine::store::Reclaim;
use keyspace::Object;
use keyspace::db::Detached;

/// Values of at most this many allocations are freed where they are: handing them over costs as much.
const ALLOCATIONS_MIN: usize = 64;

enum Garbage {
    Object(Object),
    Database(Box<Detached>),
}

/// Hands what is big to the freeing thread.
pub struct Reclaimer {
    sender: Sender<Garbage>,
    counts: Arc<Counts>,
    /// [`Counts::freed`] when the counters were last set to 0.
    freed_before: u64,
}

/// Objects handed over, a database counted by its keys.
#[derive(Default)]
struct Counts {
    pending: AtomicU64,
    freed: AtomicU64,
}

impl Reclaimer {
    pub fn start() -> std::io::Result<Reclaimer> {
        let (sender, inbox) = channel::<Garbage>();
        let counts = Arc::new(Counts::default());
        let done = Arc::clone(&counts);
        std::thread::Builder::new().name("lazyfree".into()).spawn(move || {
            for garbage in inbox {
                let objects = garbage.objects();
                match garbage {
                    Garbage::Object(object) => drop(object),
                    Garbage::Database(contents) => drop(contents),
                }
                done.freed.fetch_add(objects, Ordering::Relaxed);
                done.pending.fetch_sub(objects, Ordering::Release);
            }
        })?;
        Ok(Reclaimer { sender, counts, freed_before: 0 })
    }

    fn hand_over(&mut self, garbage: Garbage) {
        let objects = garbage.objects();
        self.counts.pending.fetch_add(objects, Ordering::Relaxed);
        // A thread that is gone gives the garbage back with the error, and it is dropped here.
        if self.sender.send(garbage).is_err() {
            self.counts.pending.fetch_sub(objects, Ordering::Relaxed);
        }
    }
}

impl Garbage {
    fn objects(&self) -> u64 {
        match self {
            Garbage::Object(_) => 1,
            Garbage::Database(contents) => contents.len() as u64,
        }
    }
}

impl Reclaim for Reclaimer {
    fn object(&mut self, object: Object, lazily: bool) {
        if lazily && object.free_effort() > ALLOCATIONS_MIN {
            self.hand_over(Garbage::Object(object));
        }
    }

    fn database(&mut self, contents: Detached, lazily: bool) {
        if lazily && !contents.is_empty() {
            self.hand_over(Garbage::Database(Box::new(contents)));
        }
    }

    fn pending(&self) -> u64 {
        self.counts.pending.load(Ordering::Acquire)
    }

    fn freed(&self) -> u64 {
        self.counts.freed.load(Ordering::Relaxed) - self.freed_before
    }

    fn reset_freed(&mut self) {
        self.freed_before = self.counts.freed.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn wait(reclaimer: &Reclaimer) {
        let start = Instant::now();
        while reclaimer.pending() != 0 {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_big_is_freed_elsewhere() {
        let mut reclaimer = Reclaimer::start().unwrap();
        let text = Arc::new(vec![0; 100]);
        reclaimer.object(Object::Str(Arc::clone(&text)), true);
        assert_eq!((reclaimer.pending(), Arc::strong_count(&text)), (0, 1));
        let mut db = keyspace::Db::new();
        for n in 0..100u8 {
            let key = [n];
            let entry = keyspace::Entry::new_int(&key, 1, None);
            db.insert(keyspace::Key::new(&key).hash, entry);
        }
        let list = || {
            let mut list = keyspace::List::new(1);
            (0..65).for_each(|_| list.push_back(b"x"));
            Object::List(list)
        };
        reclaimer.database(db.detach(), true);
        reclaimer.object(list(), true);
        reclaimer.object(list(), false);
        wait(&reclaimer);
        assert_eq!(reclaimer.freed(), 101);
        reclaimer.reset_freed();
        reclaimer.database(keyspace::Db::new().detach(), true);
        wait(&reclaimer);
        assert_eq!(reclaimer.freed(), 0);
    }
}

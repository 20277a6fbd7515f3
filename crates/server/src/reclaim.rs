//! Freeing big values on a thread of its own, so that `UNLINK` and `FLUSHALL ASYNC` take no longer for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use engine::store::Reclaim;
use keyspace::db::Detached;
use keyspace::{Hash, Object, Set, ZSet};

/// Values of at most this many allocations are freed where they are: handing them over costs as much.
const ALLOCATIONS_MIN: usize = 64;

enum Garbage {
    Object(Object),
    Database(Detached),
}

/// Hands what is big to the freeing thread.
pub struct Reclaimer {
    sender: Sender<Garbage>,
    /// `lazyfree_pending_objects`.
    pending: Arc<AtomicU64>,
}

impl Reclaimer {
    pub fn start() -> std::io::Result<Reclaimer> {
        let (sender, garbage) = channel();
        let pending = Arc::new(AtomicU64::new(0));
        let done = Arc::clone(&pending);
        std::thread::Builder::new().name("lazyfree".into()).spawn(move || {
            for garbage in garbage {
                match garbage {
                    Garbage::Object(object) => drop(object),
                    Garbage::Database(contents) => drop(contents),
                }
                done.fetch_sub(1, Ordering::Relaxed);
            }
        })?;
        Ok(Reclaimer { sender, pending })
    }

    /// Objects and databases that wait to be freed.
    pub fn pending(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.pending)
    }

    fn hand_over(&mut self, garbage: Garbage) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        // A thread that is gone gives the garbage back with the error, and it is dropped here.
        if self.sender.send(garbage).is_err() {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Reclaim for Reclaimer {
    fn object(&mut self, object: Object, lazily: bool) {
        if lazily && allocations(&object) > ALLOCATIONS_MIN {
            self.hand_over(Garbage::Object(object));
        }
    }

    fn database(&mut self, contents: Detached, lazily: bool) {
        if lazily {
            self.hand_over(Garbage::Database(contents));
        }
    }
}

/// About how many allocations make up a value.
fn allocations(object: &Object) -> usize {
    match object {
        Object::Str(_) => 1,
        Object::List(list) => list.node_count(),
        Object::Set(Set::Table(table)) => table.len(),
        Object::Hash(Hash::Table(table)) => table.len(),
        Object::ZSet(ZSet::Ordered(set)) => set.len(),
        Object::Stream(stream) => stream.free_effort(),
        Object::Set(_) | Object::Hash(_) | Object::ZSet(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn what_is_big_is_freed_elsewhere() {
        let mut reclaimer = Reclaimer::start().unwrap();
        let pending = reclaimer.pending();
        let text = Arc::new(vec![0; 100]);
        reclaimer.object(Object::Str(Arc::clone(&text)), true);
        assert_eq!((pending.load(Ordering::Relaxed), Arc::strong_count(&text)), (0, 1));
        reclaimer.database(keyspace::Db::new().detach(), true);
        let start = Instant::now();
        while pending.load(Ordering::Relaxed) != 0 {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }
}

//! A proxy between a replica and its primary that does one thing after an exact number of bytes: closes the connection, resets
//! it, or holds it for a moment, so that what was one write arrives as two.
//!
//! Bytes are counted from [`Scissors::set`] on, over connections: of a link that is up, or of the next one. Afterwards everything
//! passes.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    FromPrimary,
    FromReplica,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Close,
    Reset,
    Hold,
}

/// What is to be done, and after how many more bytes.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub way: Way,
    pub after: u64,
    pub deed: Deed,
}

const HELD: Duration = Duration::from_millis(30);

#[derive(Default)]
struct Shared {
    cut: Mutex<Option<Cut>>,
    ended: AtomicBool,
    from_primary: AtomicU64,
    from_replica: AtomicU64,
}

pub struct Scissors {
    pub port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Scissors {
    pub fn before(primary: u16) -> Scissors {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the proxy finds a port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        let listener = thread::spawn(move || {
            // A replica has one link at a time.
            while !state.ended.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((replica, _)) => serve(&replica, primary, &state),
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Scissors { port, shared, listener: Some(listener) }
    }

    pub fn set(&self, cut: Cut) {
        *self.shared.cut.lock().expect("no connection panics with it") = Some(cut);
    }

    /// Takes back what was set; true if it had been done.
    pub fn was_done(&self) -> bool {
        self.shared.cut.lock().expect("no connection panics with it").take().is_none()
    }

    /// Bytes that have passed, from the primary and from the replica.
    pub fn passed(&self) -> (u64, u64) {
        (self.shared.from_primary.load(Ordering::SeqCst), self.shared.from_replica.load(Ordering::SeqCst))
    }
}

impl Drop for Scissors {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// Errors end the connection and nothing else: the servers on both sides are free to close.
fn serve(replica: &TcpStream, primary: u16, shared: &Shared) {
    let Ok(primary) = TcpStream::connect(("127.0.0.1", primary)) else { return };
    if let Ok(Deed::Reset) = pass(replica, &primary, shared) {
        for stream in [replica, &primary] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

fn pass(replica: &TcpStream, primary: &TcpStream, shared: &Shared) -> io::Result<Deed> {
    for stream in [replica, primary] {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    }
    let mut buffer = vec![0; 1 << 16];
    while !shared.ended.load(Ordering::SeqCst) {
        let mut watched =
            [primary, replica].map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN));
        poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }))?;
        let ready = watched.map(|fd| !fd.revents().is_empty());
        let sides = [
            (Way::FromPrimary, primary, replica, &shared.from_primary),
            (Way::FromReplica, replica, primary, &shared.from_replica),
        ];
        for ((way, mut from, mut to, passed), ready) in sides.into_iter().zip(ready) {
            if !ready {
                continue;
            }
            let mut room = buffer.len();
            let mut cut = shared.cut.lock().expect("no connection panics with it");
            if let Some(due) = *cut
                && due.way == way
            {
                if due.after == 0 {
                    *cut = None;
                    match due.deed {
                        Deed::Hold => thread::sleep(HELD),
                        ends => return Ok(ends),
                    }
                } else {
                    room = room.min(due.after as usize);
                }
            }
            let len = from.read(&mut buffer[..room])?;
            if let Some(due) = &mut *cut
                && due.way == way
            {
                due.after -= len as u64;
            }
            drop(cut);
            if len == 0 {
                return Ok(Deed::Close);
            }
            to.write_all(&buffer[..len])?;
            passed.fetch_add(len as u64, Ordering::SeqCst);
        }
    }
    Ok(Deed::Close)
}

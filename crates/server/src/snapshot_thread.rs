//! The thread that encodes a snapshot: batches of copied entries in, RDB bytes out, to a file or back to the loop.
//!
//! A snapshot has a thread for itself. Few batches are under way at a time ([`Snapshotter::has_room`]): the writer copies
//! no faster than this thread encodes, and this thread no faster than the disk takes.
//! A slow replica holds nothing up (`engine::payload`). When writes outrun the disk, what they save of the old data waits
//! in the engine (`Node::snapshot_pending_bytes`).

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::rdb_writer::RdbWriter;
use engine::snapshot::{Plan, Sink};
use keyspace::snapshot::{Batch, Body};

use crate::files::put_in_place;
use crate::listener::strerror;
use crate::report::{Report, Reporter};

/// Batches that may be under way.
const BATCHES_MAX: usize = 4;
/// Encoded bytes are handed on in pieces of at least this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// One batch may become more than a chunk: a stream comes with all that is pending. What the loop has to free when a
/// replica has got it is no larger than this.
const PIECE_BYTES_MAX: usize = 1024 * 1024;
/// A file is flushed to the disk each time so much was written, so that the end is not one long flush.
const FLUSH_BYTES: usize = 4 << 20;

enum Feed {
    Batch(Batch),
    Walked,
}

/// The event loop's end of a snapshot that is being encoded.
pub struct Snapshotter {
    feed: Sender<Feed>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    number: u64,
}

struct Shared {
    under_way: AtomicUsize,
    /// The loop has found no room and wants to be woken when there is some.
    hungry: AtomicBool,
    cancelled: AtomicBool,
}

impl Snapshotter {
    /// `previous` is a cancelled snapshot that may still be removing its file.
    pub fn start(
        plan: Plan,
        number: u64,
        previous: Option<JoinHandle<()>>,
        reporter: Reporter,
    ) -> std::io::Result<Snapshotter> {
        let (feed, batches) = channel();
        let shared = Arc::new(Shared {
            under_way: AtomicUsize::new(0),
            hungry: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                if let Some(previous) = previous {
                    let _ = previous.join();
                }
                let mut encoding = Encoding::new(&plan, number, &shared, &reporter);
                let result = encoding.run(&batches);
                encoding.end(result);
            }
        })?;
        Ok(Snapshotter { feed, shared, thread, number })
    }

    pub fn is_current(&self, snapshot: u64) -> bool {
        snapshot == self.number
    }

    /// True if a batch may be fed; if not, [`Report::SnapshotHungry`] tells when.
    pub fn has_room(&self) -> bool {
        if self.shared.under_way.load(Ordering::Acquire) < BATCHES_MAX {
            return true;
        }
        self.shared.hungry.store(true, Ordering::SeqCst);
        // It may have finished one in between, before it could see that it is to tell.
        self.shared.under_way.load(Ordering::SeqCst) < BATCHES_MAX
    }

    pub fn feed(&self, batch: Batch) {
        self.shared.under_way.fetch_add(1, Ordering::AcqRel);
        // If the thread has failed, its report is on the way.
        let _ = self.feed.send(Feed::Batch(batch));
    }

    /// Nothing is left to walk.
    pub fn walked(&self) {
        let _ = self.feed.send(Feed::Walked);
    }

    /// Stops it; the file goes, nothing is reported. The thread is for the next snapshot to wait for.
    pub fn cancel(self) -> JoinHandle<()> {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        self.thread
    }
}

/// Why an encoding ended early.
enum Stop {
    Cancelled,
    Failed(String),
}

struct Encoding<'a> {
    plan: &'a Plan,
    number: u64,
    shared: &'a Shared,
    reporter: &'a Reporter,
    file: Option<File>,
    chunk: Vec<u8>,
    written: u64,
    unflushed: usize,
}

impl<'a> Encoding<'a> {
    fn new(plan: &'a Plan, number: u64, shared: &'a Shared, reporter: &'a Reporter) -> Encoding<'a> {
        let chunk = Vec::with_capacity(2 * CHUNK_BYTES);
        Encoding { plan, number, shared, reporter, file: None, chunk, written: 0, unflushed: 0 }
    }

    fn run(&mut self, batches: &Receiver<Feed>) -> Result<u64, Stop> {
        if let Sink::File { temp, .. } = &self.plan.sink {
            // It is read, too: for replicas, which need this file whatever is put in its place meanwhile.
            let file = File::options().read(true).write(true).create(true).truncate(true).open(temp);
            self.file = Some(file.map_err(|error| Stop::Failed(strerror(&error)))?);
        }
        let mut writer = RdbWriter::new(self.plan);
        writer.begin(&mut self.chunk);
        loop {
            match batches.recv() {
                Ok(Feed::Batch(batch)) => {
                    self.check_cancelled()?;
                    writer.batch(&batch, &mut self.chunk).map_err(Stop::Failed)?;
                    self.delay(&batch)?;
                    drop(batch);
                    if self.chunk.len() >= CHUNK_BYTES || self.plan.key_delay_us != 0 {
                        self.hand_on()?;
                    }
                    self.shared.under_way.fetch_sub(1, Ordering::SeqCst);
                    if self.shared.hungry.swap(false, Ordering::SeqCst) {
                        self.reporter.send(Report::SnapshotHungry);
                    }
                }
                Ok(Feed::Walked) => break,
                Err(_) => return Err(Stop::Cancelled),
            }
        }
        writer.end(&mut self.chunk);
        self.hand_on()?;
        self.check_cancelled()?;
        if let (Some(file), Sink::File { temp, path }) = (&self.file, &self.plan.sink) {
            put_in_place(file, temp, path).map_err(|error| Stop::Failed(strerror(&error)))?;
        }
        Ok(self.written)
    }

    fn end(&mut self, result: Result<u64, Stop>) {
        let mut file = self.file.take();
        if let (Err(_), Some(_), Sink::File { temp, .. }) = (&result, &file, &self.plan.sink) {
            file = None;
            // What is left of it is not a snapshot; that it cannot be removed changes nothing.
            let _ = std::fs::remove_file(temp);
        }
        let result = match result {
            Ok(bytes) => Ok(bytes),
            Err(Stop::Failed(reason)) => Err(reason),
            Err(Stop::Cancelled) => return,
        };
        self.reporter.send(Report::SnapshotEnded { snapshot: self.number, result, file });
    }

    fn check_cancelled(&self) -> Result<(), Stop> {
        if self.shared.cancelled.load(Ordering::SeqCst) { Err(Stop::Cancelled) } else { Ok(()) }
    }

    /// Passes on what was encoded.
    fn hand_on(&mut self) -> Result<(), Stop> {
        self.written += self.chunk.len() as u64;
        match &mut self.file {
            Some(file) => {
                let written = file.write_all(&self.chunk).and_then(|()| {
                    self.unflushed += self.chunk.len();
                    if self.unflushed < FLUSH_BYTES {
                        return Ok(());
                    }
                    self.unflushed = 0;
                    file.sync_data()
                });
                written.map_err(|error| Stop::Failed(strerror(&error)))?;
                self.chunk.clear();
            }
            None if self.chunk.is_empty() => {}
            None => {
                let bytes = std::mem::replace(&mut self.chunk, Vec::with_capacity(2 * CHUNK_BYTES));
                let send = |bytes| self.reporter.send(Report::SnapshotChunk { snapshot: self.number, bytes });
                if bytes.len() <= PIECE_BYTES_MAX {
                    send(bytes);
                } else {
                    bytes.chunks(PIECE_BYTES_MAX).for_each(|piece| send(piece.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// `rdb-key-save-delay`: positive is microseconds per key, negative is keys per microsecond.
    fn delay(&self, batch: &Batch) -> Result<(), Stop> {
        let delay = self.plan.key_delay_us;
        if delay == 0 {
            return Ok(());
        }
        let keys = batch.items().filter(|item| matches!(item.body, Body::Key { .. })).count() as u64;
        let micros = if delay > 0 { keys * delay as u64 } else { keys / delay.unsigned_abs() };
        let end = Instant::now() + Duration::from_micros(micros);
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(Duration::from_millis(5)));
            self.check_cancelled()?;
        }
        Ok(())
    }
}

//! Saving and loading while everything waits: `SAVE`, `SHUTDOWN`, `DEBUG RELOAD`.
//!
//! Nothing changes meanwhile, so no point-in-time walk is needed, and a snapshot that runs beside is not disturbed.

use std::io;
use std::path::PathBuf;

use command::CommandError;
use keyspace::snapshot::Batch;

use crate::core::Core;
use crate::dispatch;
use crate::functions::Policy;
use crate::load::Loading;
use crate::rdb_writer::RdbWriter;
use crate::snapshot::{self, Sink};
use crate::store::Store;

/// Entries are copied and encoded in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Options of `DEBUG RELOAD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadOptions {
    /// Save first; without, what is in the file is loaded (`NOSAVE` is the opposite).
    pub save: bool,
    /// Empty the databases before loading (`NOFLUSH` is the opposite).
    pub flush: bool,
    /// Keys of the file replace keys that are there already.
    pub merge: bool,
}

impl Default for ReloadOptions {
    fn default() -> Self {
        ReloadOptions { save: true, flush: true, merge: false }
    }
}

/// Writes the data set to the configured file. `Err` says why that failed; it has been logged.
pub fn save_now(store: &mut Store, core: &mut Core) -> Result<(), String> {
    save(store, core, |_| true)
}

/// The same in the middle of a unit that has emptied the data set. The log has yet to hear of that, so the file names no
/// position: nobody may continue from one at which the data were still there.
pub fn save_emptied(store: &mut Store, core: &mut Core) -> Result<(), String> {
    save(store, core, |field| !field.starts_with("repl-"))
}

/// Saves with those auxiliary fields that `keeps` wants.
fn save(store: &mut Store, core: &mut Core, keeps: fn(&str) -> bool) -> Result<(), String> {
    let sink = snapshot::file_sink(core, "temp-save");
    let Sink::File { temp, path } = sink.clone() else { unreachable!("a file was asked for") };
    let mut plan = snapshot::plan(store, core, sink, snapshot::Form::ALL);
    plan.aux.retain(|(field, _)| keeps(field));
    let mut pieces = Pieces::new(store, RdbWriter::new(&plan));
    let written = core.env.write_file_atomically(&temp, &path, &mut |out| pieces.next(out));
    match written {
        Ok(_) => {
            let now_s = core.env.unix_ms() / 1000;
            let snapshots = &mut core.snapshots;
            snapshots.saved_dirty = store.effects.dirty;
            snapshots.last_save_unix_s = now_s;
            snapshots.last_save_failed = false;
            snapshots.saves += 1;
            core.notice("DB saved on disk");
            core.refresh_state_gates();
            Ok(())
        }
        Err(error) => {
            let reason = error.to_string();
            core.warning(format!("Write error saving DB on disk: {reason}"));
            Err(reason)
        }
    }
}

/// `DEBUG RELOAD`.
pub fn reload(store: &mut Store, core: &mut Core, options: ReloadOptions) -> Result<(), CommandError> {
    if options.save && save_now(store, core).is_err() {
        return Err(CommandError::fixed("ERR"));
    }
    if options.flush {
        for index in 0..store.databases() {
            store.flush_db(index, false);
        }
    }
    let now_ms = core.env.unix_ms();
    let mut loading = Loading::reload(&core.config, core.is_replica(), options.merge, now_ms);
    let path = PathBuf::from(&core.config.dir).join(&core.config.dbfilename);
    let result = core
        .env
        .read_file(&path, &mut |bytes| loading.feed(store, bytes).map_err(io::Error::other))
        .map_err(|error| error.to_string())
        .and_then(|()| loading.finish());
    for (level, line) in loading.take_notes() {
        core.log(level, line);
    }
    if let Err(reason) = result {
        core.warning(reason);
        return Err(CommandError::fixed("ERR Error trying to load the RDB dump, check server logs."));
    }
    core.snapshots.last_load_keys_loaded = loading.keys_loaded();
    core.snapshots.last_load_keys_expired = loading.keys_expired();
    let policy = match (options.flush, options.merge) {
        (true, _) => Policy::Flush,
        (false, true) => Policy::Replace,
        (false, false) => Policy::Append,
    };
    store.functions.restore(loading.take_functions(), policy)?;
    // Replicas still hold the keys that were left out.
    for (db, key) in loading.take_dropped() {
        store.effects.propagate_in(db, &[b"DEL", &key]);
    }
    dispatch::end_unit(store, core);
    core.warning("DB reloaded by DEBUG RELOAD");
    Ok(())
}

/// The file, piece by piece.
struct Pieces<'a> {
    store: &'a Store,
    writer: RdbWriter,
    batch: Batch,
    at: At<'a>,
}

enum At<'a> {
    Begin,
    Db { index: usize, entries: Box<dyn Iterator<Item = &'a keyspace::Entry> + 'a> },
    End,
}

impl<'a> Pieces<'a> {
    fn new(store: &'a Store, writer: RdbWriter) -> Pieces<'a> {
        Pieces { store, writer, batch: Batch::default(), at: At::Begin }
    }

    /// Appends the next piece; false when it was the last.
    fn next(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        match &mut self.at {
            At::Begin => {
                self.writer.begin(out);
                self.open(0, out);
            }
            At::Db { index, entries } => {
                let index = *index;
                self.batch.clear();
                let mut more = false;
                for entry in entries {
                    self.batch.push_entry(entry);
                    if self.batch.weight() >= PIECE_BYTES {
                        more = true;
                        break;
                    }
                }
                self.writer.batch(&self.batch, out).map_err(io::Error::other)?;
                if !more {
                    self.open(index + 1, out);
                }
            }
            At::End => {
                self.writer.end(out);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes on with the first database from `index` on that holds something.
    fn open(&mut self, index: usize, out: &mut Vec<u8>) {
        let next = (index..self.store.databases()).find(|index| !self.store.db_at(*index).is_empty());
        self.at = match next {
            None => At::End,
            Some(index) => {
                let db = self.store.db_at(index);
                self.writer.database(index as u32, db.len() as u64, db.expires().len() as u64, out);
                At::Db { index, entries: Box::new(db.iter()) }
            }
        };
    }
}

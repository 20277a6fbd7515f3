//! Files that the event loop must not wait for: snapshots that arrive, snapshots that replicas are sent from a file,
//! and the file that is loaded. Each kind has a thread; what comes of it arrives as a [`Report`].

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use engine::action::SpillRequest;
use engine::{ConnId, SpillFile};

use crate::listener::strerror;
use crate::report::{Report, Reporter};

/// Size of the pieces that a loaded file is read in.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces that are read ahead.
const PIECES_AHEAD: usize = 8;
/// An arriving snapshot is flushed to the disk each time so much was written, so that the end is not one long flush.
const FLUSH_BYTES: usize = 32 << 20;

// ---- a snapshot that arrives ----

enum TransferStep {
    Open { transfer: u64, path: PathBuf },
    Append(Vec<u8>),
    Finish { from: PathBuf, to: PathBuf },
    Abandon,
}

/// The file that an arriving snapshot is written to. Transfers are numbered: what is reported of one that was given up
/// is of no interest.
pub struct TransferFile {
    sender: Sender<TransferStep>,
    thread: JoinHandle<()>,
    transfer: u64,
    /// Bytes handed over that the thread has not reported as written.
    pub waiting_bytes: usize,
}

impl TransferFile {
    pub fn start(reporter: Reporter) -> io::Result<TransferFile> {
        let (sender, steps) = channel();
        let thread = std::thread::Builder::new()
            .name("transfer".into())
            .spawn(move || run_transfers(&steps, &reporter))?;
        Ok(TransferFile { sender, thread, transfer: 0, waiting_bytes: 0 })
    }

    pub fn open(&mut self, path: PathBuf) {
        self.transfer += 1;
        self.step(TransferStep::Open { transfer: self.transfer, path });
    }

    pub fn append(&mut self, bytes: Vec<u8>) {
        self.waiting_bytes += bytes.len();
        self.step(TransferStep::Append(bytes));
    }

    pub fn finish(&mut self, from: PathBuf, to: PathBuf) {
        self.step(TransferStep::Finish { from, to });
    }

    pub fn abandon(&mut self) {
        self.transfer += 1;
        self.step(TransferStep::Abandon);
    }

    /// Gives up a transfer that runs, and waits until its file is gone.
    pub fn end(self) {
        let TransferFile { sender, thread, .. } = self;
        drop(sender);
        // It may have panicked: then there is a report about that already.
        let _ = thread.join();
    }

    /// True if a report about this transfer is still of interest.
    pub fn is_current(&self, transfer: u64) -> bool {
        transfer == self.transfer
    }

    fn step(&self, step: TransferStep) {
        self.sender.send(step).expect("the transfer thread runs as long as the loop");
    }
}

struct Arriving {
    transfer: u64,
    file: File,
    path: PathBuf,
    unflushed: usize,
}

fn run_transfers(steps: &Receiver<TransferStep>, reporter: &Reporter) {
    let mut current: Option<Arriving> = None;
    for step in steps {
        match step {
            TransferStep::Open { transfer, path } => match File::create(&path) {
                Ok(file) => current = Some(Arriving { transfer, file, path, unflushed: 0 }),
                Err(error) => {
                    let result = Err(format!(
                        "Opening the temp file needed for MASTER <-> REPLICA synchronization: {}",
                        strerror(&error)
                    ));
                    reporter.send(Report::TransferFinished { transfer, result });
                }
            },
            TransferStep::Append(bytes) => {
                if let Some(arriving) = &mut current
                    && let Err(error) = arriving.append(&bytes)
                {
                    let result = Err(format!(
                        "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                        strerror(&error)
                    ));
                    reporter.send(Report::TransferFinished { transfer: arriving.transfer, result });
                    remove(current.take());
                }
                reporter.send(Report::TransferWritten { bytes: bytes.len() });
            }
            TransferStep::Finish { from, to } => {
                if let Some(arriving) = current.take() {
                    let transfer = arriving.transfer;
                    let result = put_in_place(&arriving.file, &from, &to).map(|()| to).map_err(|error| {
                        format!(
                            "Failed trying to rename the temp DB into its final name: {}",
                            strerror(&error)
                        )
                    });
                    reporter.send(Report::TransferFinished { transfer, result });
                }
            }
            TransferStep::Abandon => remove(current.take()),
        }
    }
    remove(current);
}

impl Arriving {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.unflushed += bytes.len();
        if self.unflushed >= FLUSH_BYTES {
            self.unflushed = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// A file that was given up is of no use; if it cannot be removed, there is nothing else to do about it.
fn remove(arriving: Option<Arriving>) {
    if let Some(arriving) = arriving {
        let _ = std::fs::remove_file(arriving.path);
    }
}

/// Puts `text` in the place of the file at `path` so that a crash leaves either the old or the new one: written beside
/// it, then [put in place](put_in_place). The mode becomes 0644 less the process's umask, as with redis.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    refuse_special(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = (|| {
        // A leftover of a crashed process with this id must not decide the mode.
        let _ = std::fs::remove_file(&beside);
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(&beside)?;
        file.write_all(text)?;
        put_in_place(&file, &beside, path)
    })();
    if written.is_err() {
        // What is left of it is of no use; that it cannot be removed changes nothing.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Makes a complete file durable under its final name, which may be that of an older file. A device or a pipe of that
/// name is not replaced: whoever named it did not want it to become a file, and others use it.
pub fn put_in_place(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    refuse_special(to)?;
    file.sync_all()?;
    std::fs::rename(from, to)?;
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// An error if there is something at `path` that is no regular file, or leads to such.
fn refuse_special(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            let text = format!("{} is there and is not a regular file", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

// ---- snapshots that replicas are sent from a file ----

enum PayloadStep {
    Open { conn: ConnId, file: Arc<File> },
    Read { conn: ConnId, opening: u64, offset: u64, length: u64 },
    Close { conn: ConnId },
}

/// Files that are read for replicas, one per connection.
pub struct PayloadFiles {
    sender: Sender<PayloadStep>,
    open: HashMap<ConnId, u64>,
    openings: u64,
}

impl PayloadFiles {
    pub fn start(reporter: Reporter) -> io::Result<PayloadFiles> {
        let (sender, steps) = channel();
        std::thread::Builder::new().name("payload".into()).spawn(move || run_payloads(&steps, &reporter))?;
        Ok(PayloadFiles { sender, open: HashMap::new(), openings: 0 })
    }

    pub fn open(&mut self, conn: ConnId, file: Arc<File>) {
        self.openings += 1;
        self.open.insert(conn, self.openings);
        self.step(PayloadStep::Open { conn, file });
    }

    pub fn read(&self, conn: ConnId, offset: u64, length: u64) {
        if let Some(&opening) = self.open.get(&conn) {
            self.step(PayloadStep::Read { conn, opening, offset, length });
        }
    }

    pub fn close(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.step(PayloadStep::Close { conn });
    }

    /// True if an answer belongs to what `conn` is being sent now.
    pub fn is_current(&self, conn: ConnId, opening: u64) -> bool {
        self.open.get(&conn) == Some(&opening)
    }

    fn step(&self, step: PayloadStep) {
        self.sender.send(step).expect("the payload thread runs as long as the loop");
    }
}

fn run_payloads(steps: &Receiver<PayloadStep>, reporter: &Reporter) {
    let mut files: HashMap<ConnId, Arc<File>> = HashMap::new();
    for step in steps {
        match step {
            PayloadStep::Open { conn, file } => {
                files.insert(conn, file);
            }
            PayloadStep::Read { conn, opening, offset, length } => {
                let Some(file) = files.get(&conn) else { continue };
                let result = read_part(file, offset, length).map_err(|error| strerror(&error));
                reporter.send(Report::PayloadRead { conn, opening, result });
            }
            PayloadStep::Close { conn } => {
                files.remove(&conn);
            }
        }
    }
}

fn read_part(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

// ---- what memory has no room for ----

/// A temporary file of the engine's, and the thread that writes and reads it. The file has no name: it goes with the
/// process.
pub struct SpillThread {
    sender: Sender<(SpillRequest, PathBuf)>,
}

impl SpillThread {
    pub fn start(file: SpillFile, reporter: Reporter) -> io::Result<SpillThread> {
        let (sender, requests) = channel();
        let name = match file {
            SpillFile::Snapshot => "spill",
            SpillFile::Log => "backlog",
        };
        std::thread::Builder::new().name(name.into()).spawn(move || run_spill(file, &requests, &reporter))?;
        Ok(SpillThread { sender })
    }

    /// A file that is not there yet begins in `dir`.
    pub fn carry_out(&self, request: SpillRequest, dir: &Path) {
        self.sender.send((request, dir.to_owned())).expect("the spill thread runs as long as the loop");
    }
}

fn run_spill(file: SpillFile, requests: &Receiver<(SpillRequest, PathBuf)>, reporter: &Reporter) {
    let mut open: Option<File> = None;
    for (request, dir) in requests {
        match request {
            SpillRequest::Write { number, offset, bytes } => {
                let result = write_part(&mut open, file, &dir, offset, &bytes);
                // Whoever hears of it may use the memory again.
                drop(bytes);
                let result = result.map_err(|error| strerror(&error));
                reporter.send(Report::SpillWritten { file, number, result });
            }
            SpillRequest::Read { number, offset, length } => {
                let result = match &open {
                    Some(open) => read_part(open, offset, length).map_err(|error| strerror(&error)),
                    None => Err("there is no file".to_owned()),
                };
                reporter.send(Report::SpillRead { file, number, result });
            }
            SpillRequest::Drop => open = None,
        }
    }
}

fn write_part(
    open: &mut Option<File>,
    file: SpillFile,
    dir: &Path,
    offset: u64,
    bytes: &[u8],
) -> io::Result<()> {
    let open = match open {
        Some(open) => open,
        None => {
            let name = match file {
                SpillFile::Snapshot => format!("temp-spill-{}.rdb", std::process::id()),
                SpillFile::Log => format!("temp-backlog-{}", std::process::id()),
            };
            let path = dir.join(name);
            let created = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
            std::fs::remove_file(path)?;
            open.insert(created)
        }
    };
    open.write_all_at(bytes, offset)
}

// ---- the file that is loaded ----

/// A file that is read ahead, a few pieces at a time.
pub struct LoadReader {
    credit: Sender<()>,
    number: u64,
    pub size: u64,
}

impl LoadReader {
    /// Opens the file here, so that its absence is known at once; reads it elsewhere.
    pub fn start(path: &Path, number: u64, reporter: Reporter) -> io::Result<LoadReader> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let (credit, credits) = channel();
        for _ in 0..PIECES_AHEAD {
            let _ = credit.send(());
        }
        std::thread::Builder::new().name("load".into()).spawn(move || {
            for () in credits {
                let mut bytes = Vec::with_capacity(PIECE_BYTES);
                let result = Read::by_ref(&mut file).take(PIECE_BYTES as u64).read_to_end(&mut bytes);
                let ended = !matches!(result, Ok(count) if count > 0);
                reporter.send(Report::LoadPiece { load: number, result: result.map(|_| bytes) });
                if ended {
                    return;
                }
            }
        })?;
        Ok(LoadReader { credit, number, size })
    }

    pub fn is_current(&self, load: u64) -> bool {
        load == self.number
    }

    /// A piece was taken in: the next may be read.
    pub fn consumed(&self) {
        // The thread is gone once it has read the end.
        let _ = self.credit.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Inbox, reports};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    fn next(inbox: &Inbox) -> Report {
        let start = Instant::now();
        loop {
            if let Some(report) = inbox.take() {
                return report;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no report");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.conf");
        replace(&path, b"port 1\n").unwrap();
        replace(&path, b"port 9\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"port 9\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("missing/a.conf"), b"").is_err());
    }

    #[test]
    fn what_is_not_a_regular_file_stays_what_it_is() {
        use std::os::unix::fs::FileTypeExt;
        let dir = tempfile::tempdir().unwrap();
        let (socket, link, directory) =
            (dir.path().join("socket"), dir.path().join("link"), dir.path().join("directory"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        std::fs::create_dir(&directory).unwrap();
        for path in [&socket, &link, &directory] {
            let error = replace(path, b"text").unwrap_err();
            assert_eq!(strerror(&error), format!("{} is there and is not a regular file", path.display()));
            let temp = dir.path().join("temp");
            let file = File::create(&temp).unwrap();
            assert!(put_in_place(&file, &temp, path).is_err());
            std::fs::remove_file(temp).unwrap();
        }
        assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_transfer_appears_under_its_final_name_only_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let (reporter, inbox) = reports().unwrap();
        let mut transfer = TransferFile::start(reporter).unwrap();
        let (from, to) = (dir.path().join("temp"), dir.path().join("dump.rdb"));
        transfer.open(from.clone());
        transfer.append(b"abandoned".to_vec());
        assert!(matches!(next(&inbox), Report::TransferWritten { bytes: 9 }));
        assert!(from.exists() && !to.exists());
        transfer.abandon();
        transfer.open(from.clone());
        transfer.append(b"ab".to_vec());
        transfer.append(b"c".to_vec());
        transfer.finish(from.clone(), to.clone());
        assert!(matches!(next(&inbox), Report::TransferWritten { bytes: 2 }));
        assert!(matches!(next(&inbox), Report::TransferWritten { bytes: 1 }));
        let Report::TransferFinished { transfer: number, result: Ok(path) } = next(&inbox) else { panic!() };
        assert!(transfer.is_current(number));
        assert_eq!((path, std::fs::read(&to).unwrap()), (to, b"abc".to_vec()));
        assert!(!from.exists());
    }

    #[test]
    fn a_transfer_that_cannot_be_written_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (reporter, inbox) = reports().unwrap();
        let mut transfer = TransferFile::start(reporter).unwrap();
        transfer.open(dir.path().join("absent/temp"));
        let Report::TransferFinished { result: Err(reason), .. } = next(&inbox) else { panic!() };
        assert!(reason.ends_with("No such file or directory"), "{reason}");
    }

    #[test]
    fn a_payload_is_read_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.rdb");
        std::fs::write(&path, b"0123456789").unwrap();
        let (reporter, inbox) = reports().unwrap();
        let mut payloads = PayloadFiles::start(reporter).unwrap();
        payloads.open(7, Arc::new(File::open(&path).unwrap()));
        std::fs::write(dir.path().join("other"), b"another snapshot").unwrap();
        std::fs::rename(dir.path().join("other"), path).unwrap();
        payloads.read(7, 2, 3);
        let Report::PayloadRead { conn: 7, opening, result } = next(&inbox) else { panic!() };
        assert!(payloads.is_current(7, opening));
        assert_eq!(result.unwrap(), b"234");
        payloads.read(7, 8, 3);
        let Report::PayloadRead { result: Err(_), .. } = next(&inbox) else { panic!("past the end") };
        payloads.close(7);
        assert!(!payloads.is_current(7, opening));
    }

    #[test]
    fn what_is_put_aside_has_no_name_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (reporter, inbox) = reports().unwrap();
        let spill = SpillThread::start(SpillFile::Log, reporter).unwrap();
        let write = |number, offset, bytes: &[u8], dir: &Path| {
            let bytes = Arc::new(bytes.to_vec());
            spill.carry_out(SpillRequest::Write { number, offset, bytes: Arc::clone(&bytes) }, dir);
            let Report::SpillWritten { file: SpillFile::Log, number: written, result } = next(&inbox) else {
                panic!("no answer to a write")
            };
            assert_eq!(written, number);
            assert!(Arc::try_unwrap(bytes).is_ok(), "the memory is let go of before the answer");
            result
        };
        let read = |offset, length| {
            spill.carry_out(SpillRequest::Read { number: 9, offset, length }, dir.path());
            let Report::SpillRead { number: 9, result, .. } = next(&inbox) else {
                panic!("no answer to a read")
            };
            result
        };
        assert!(read(0, 1).is_err());
        assert_eq!(write(5, 0, b"abc", dir.path()), Ok(()));
        assert_eq!(write(6, 3, b"defg", &dir.path().join("absent")), Ok(()), "there is a file already");
        assert_eq!(read(2, 3).unwrap(), b"cde");
        assert_eq!(write(7, 0, b"XY", dir.path()), Ok(()));
        assert_eq!(read(0, 7).unwrap(), b"XYcdefg");
        assert!(read(5, 3).is_err(), "past the end");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        spill.carry_out(SpillRequest::Drop, dir.path());
        assert_eq!(
            write(8, 0, b"x", &dir.path().join("absent")),
            Err("No such file or directory".to_owned())
        );
        assert_eq!(write(9, 0, b"x", dir.path()), Ok(()), "a failure is not for good");
    }

    #[test]
    fn a_load_is_read_no_further_ahead_than_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.rdb");
        let pieces = PIECES_AHEAD + 2;
        std::fs::write(&path, vec![7; pieces * PIECE_BYTES]).unwrap();
        let (reporter, inbox) = reports().unwrap();
        let load = LoadReader::start(&path, 3, reporter).unwrap();
        assert_eq!(load.size as usize, pieces * PIECE_BYTES);
        let mut bytes = 0;
        for _ in 0..PIECES_AHEAD {
            let Report::LoadPiece { load: 3, result } = next(&inbox) else { panic!() };
            bytes += result.unwrap().len();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert!(inbox.take().is_none());
        loop {
            load.consumed();
            let Report::LoadPiece { result, .. } = next(&inbox) else { panic!() };
            match result.unwrap().len() {
                0 => break,
                more => bytes += more,
            }
        }
        assert_eq!(bytes, pieces * PIECE_BYTES);
    }
}

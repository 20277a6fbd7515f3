//! A disk: what was written is there at once, what was flushed is there after a crash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::random::Random;

#[derive(Debug, Default)]
struct File {
    data: Arc<Vec<u8>>,
    /// What a crash leaves.
    durable: Option<Arc<Vec<u8>>>,
}

#[derive(Debug, Default)]
pub struct Disk {
    files: BTreeMap<PathBuf, File>,
    /// A command has written the data set, `FLUSHALL` say, at a moment that only the node knows.
    pub written_by_command: bool,
}

impl Disk {
    /// A new empty file, in place of what was there.
    pub fn create(&mut self, path: &Path) {
        let durable = self.files.get(path).and_then(|file| file.durable.clone());
        self.files.insert(path.to_owned(), File { data: Arc::default(), durable });
    }

    pub fn append(&mut self, path: &Path, bytes: &[u8]) {
        let file = self.files.get_mut(path).expect("only an open file is written to");
        Arc::make_mut(&mut file.data).extend_from_slice(bytes);
    }

    pub fn remove(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// The contents as they are now; an open file keeps them although the name may come to mean another one.
    pub fn open(&self, path: &Path) -> Option<Arc<Vec<u8>>> {
        self.files.get(path).map(|file| Arc::clone(&file.data))
    }

    /// Flushes `from`, gives it the name `to`, and flushes that. `lying`: only says so.
    pub fn publish(&mut self, from: &Path, to: &Path, lying: bool) -> u64 {
        let data = self.files.remove(from).expect("a file that is published was written").data;
        let before = self.files.remove(to).and_then(|file| file.durable);
        let durable = if lying { before } else { Some(Arc::clone(&data)) };
        let size = data.len() as u64;
        self.files.insert(to.to_owned(), File { data, durable });
        size
    }

    /// The power fails: of what was not flushed, some or nothing is left.
    pub fn crash(&mut self, random: &mut Random) {
        self.files.retain(|_, file| {
            match file.durable.clone() {
                Some(durable) => file.data = durable,
                None if random.percent(50) => return false,
                None => {
                    let left = random.index(file.data.len() + 1);
                    Arc::make_mut(&mut file.data).truncate(left);
                }
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_leaves_what_was_published_and_at_most_a_part_of_the_rest() {
        let (temp, path) = (Path::new("t"), Path::new("p"));
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.create(temp);
            disk.append(temp, b"first");
            assert_eq!(disk.publish(temp, path, false), 5);
            disk.create(temp);
            disk.append(temp, b"second");
            disk.crash(&mut Random::new(seed));
            assert_eq!(disk.open(path).as_deref().map(Vec::as_slice), Some(&b"first"[..]));
            assert!(disk.open(temp).is_none_or(|left| b"second".starts_with(&left)));
        }
    }

    #[test]
    fn a_lying_disk_goes_back_to_what_it_had() {
        let (temp, path) = (Path::new("t"), Path::new("p"));
        let mut disk = Disk::default();
        for (text, lying) in [(&b"old"[..], false), (b"new", true)] {
            disk.create(temp);
            disk.append(temp, text);
            disk.publish(temp, path, lying);
        }
        assert_eq!(disk.open(path).as_deref().map(Vec::as_slice), Some(&b"new"[..]));
        disk.crash(&mut Random::new(1));
        assert_eq!(disk.open(path).as_deref().map(Vec::as_slice), Some(&b"old"[..]));
    }
}

//! A replica of ours, as a session.

use replication::ReplicaLink;

/// What a session keeps that has asked for synchronisation.
#[derive(Debug)]
pub struct ReplicaSession {
    pub link: ReplicaLink,
    /// Where it is in the snapshot that is streamed: number of the chunk, and how much of it was sent.
    pub payload_at: Option<(u64, usize)>,
    /// The part of the snapshot's file that is being sent.
    pub file: Option<FilePayload>,
}

impl ReplicaSession {
    /// Whether what it is sent next are bytes of a snapshot.
    pub fn is_sent_snapshot(&self) -> bool {
        self.payload_at.is_some() || self.file.is_some()
    }
}

/// A snapshot that is sent from a file.
#[derive(Debug)]
pub struct FilePayload {
    /// Size of the file in bytes.
    pub total: u64,
    /// How much of it was asked for from the surroundings.
    pub asked: u64,
    /// What came and was not sent yet, and how much of it was.
    pub chunk: Vec<u8>,
    pub sent: usize,
    /// An answer of the surroundings is awaited.
    pub pending: bool,
}

//! Faults of the program, put in at its borders: a check that finds none of them proves nothing.

/// One rule of replication that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mutation {
    /// A byte of the stream is lost between a primary and its replica, and nobody notices.
    DropByte,
    /// A byte of the stream is changed on its way.
    ChangeByte,
    /// A replica acknowledges more than it has executed.
    AckTooFar,
    /// After a full synchronisation the stream goes on in the wrong database.
    ForgetSelect,
    /// After a cut a replica asks for bytes that it has executed already.
    StalePosition,
    /// A file that was reported as safe is gone after a crash.
    LoseFile,
    /// A promoted replica answers for its former history beyond the point where it left it.
    WrongSecondId,
    /// What comes back of the log from the disk is not what went there.
    RottenLog,
    /// A replica loses a key.
    LoseKey,
    /// A data set that is loaded in part passes as loaded.
    ServeHalfLoaded,
}

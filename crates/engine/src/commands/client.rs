//! Connections as seen from outside: `CLIENT` and its subcommands.

use command::Command;

use crate::ctx::Handler;
use crate::session::{Conn, Session};

pub const COMMANDS: &[Command<Handler>] = &[];

/// One session as `CLIENT LIST` prints it; `conn` shows its buffers.
pub fn describe(session: &Session, conn: Option<&Conn>) -> String {
    let (qbuf, obl) = conn.map_or((0, 0), |conn| (conn.input.len(), conn.output.pending_bytes()));
    format!(
        "id={} addr={} laddr={} db={} qbuf={qbuf} obl={obl}",
        session.id, session.addr, session.laddr, session.db
    )
}

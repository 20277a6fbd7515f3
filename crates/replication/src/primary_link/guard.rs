//! Whether a primary that is back has lost its data, so that following it would wipe this replica too.
//!
//! A link that has something to lose asks the primary for INFO after the handshake, before PSYNC: nothing has been
//! transferred then, and no snapshot begun for nothing. The primary is refused if it shares no history with the data
//! here, and is
//!
//! - empty, or
//! - younger (its offset is below ours) with fewer than half as many keys, if this link has followed it before.
//!
//! It stays refused as long as it is that process or that history, whatever is written there meanwhile. A primary that
//! is a replica itself is never refused: it has been told whom to follow, or has a guard of its own. Where INFO is not
//! permitted, the answer to PSYNC decides alone: another history and a lower offset.

use std::fmt;

use log::{Position, ReplId};

use crate::Millis;
use crate::wire::lossy;

/// How long a refused primary is left alone.
pub(super) const RETRY: Millis = Millis::from_secs(5);

/// The same where every attempt costs the primary a snapshot.
pub(super) const RETRY_BLIND: Millis = Millis::from_secs(60);

/// How far this link trusts that its primary is the one that was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// It was told to follow it, and has not reached it since: what it offers is wanted.
    Told,
    /// It was started with a data set that has a position, and has not reached its primary since.
    Restored,
    /// It has followed it.
    Followed,
}

/// What a primary says of itself in INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub run_id: String,
    pub id: ReplId,
    /// Up to where it shares its second history.
    pub second: Option<Position>,
    pub offset: u64,
    /// Of all databases.
    pub keys: u64,
    pub is_replica: bool,
}

/// A primary that is not followed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    pub since: Millis,
    /// Where it stands.
    pub primary: Position,
    /// Unknown where INFO is not permitted.
    pub primary_keys: Option<u64>,
    /// Where the data set here stands.
    pub ours: Position,
    pub keys: u64,
    /// Of the refused process; empty where INFO is not permitted.
    pub(super) run_id: String,
}

impl Account {
    /// From the text of INFO; nothing if it lacks what is looked for.
    pub fn parse(text: &[u8]) -> Option<Account> {
        let text = lossy(text);
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
        };
        let keys = text.lines().filter_map(|line| {
            let (db, rest) = line.split_once(":keys=")?;
            db.strip_prefix("db")?.parse::<u32>().ok()?;
            rest.split(',').next()?.parse::<u64>().ok()
        });
        let second = field("master_replid2").and_then(|id| ReplId::parse(id.as_bytes()).ok());
        let valid_until = field("second_repl_offset").and_then(|offset| offset.parse::<u64>().ok());
        Some(Account {
            run_id: field("run_id")?.to_owned(),
            id: ReplId::parse(field("master_replid")?.as_bytes()).ok()?,
            second: second.zip(valid_until).map(|(id, end)| Position::new(id, end.saturating_sub(1))),
            offset: field("master_repl_offset")?.parse().ok()?,
            keys: keys.sum(),
            is_replica: field("role")? == "slave",
        })
    }

    /// Whether a replica with `keys` keys at `ours` must not follow it.
    pub fn endangers(&self, trust: Trust, ours: Position, keys: u64, refused: Option<&Guarded>) -> bool {
        // One that was restarted from a file knows the history up to where the file stands, which says nothing of ours.
        let shares = |second: Position| second.replid == ours.replid && ours.offset <= second.offset;
        let shares_history = self.id == ours.replid || self.second.is_some_and(shares);
        if trust == Trust::Told || keys == 0 || self.is_replica || shares_history {
            return false;
        }
        let is_refused =
            |guarded: &Guarded| guarded.run_id == self.run_id || guarded.primary.replid == self.id;
        let is_smaller = self.offset < ours.offset && self.keys.saturating_mul(2) < keys;
        refused.is_some_and(is_refused) || self.keys == 0 || (trust == Trust::Followed && is_smaller)
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Guarded { primary, ours, keys, .. } = self;
        match self.primary_keys {
            Some(theirs) => write!(f, "the primary has {theirs} keys at {primary}")?,
            None => write!(f, "the primary stands at {primary}")?,
        }
        write!(f, " and this replica {keys} keys at {ours} of a history that the primary does not know")
    }
}

/// The reply to INFO as it arrives: a bulk string, or a line with an error.
#[derive(Clone, Debug)]
pub(super) struct BulkReply {
    text: Vec<u8>,
    /// With the end mark.
    left: usize,
}

impl BulkReply {
    /// Larger replies are none of INFO.
    const BYTES_MAX: usize = 1 << 20;

    /// From the line that announces its length.
    pub fn announced(line: &[u8]) -> Option<BulkReply> {
        let length = std::str::from_utf8(line.strip_prefix(b"$")?).ok()?.parse::<usize>().ok()?;
        (length <= BulkReply::BYTES_MAX).then(|| BulkReply { text: Vec::new(), left: length + 2 })
    }

    /// Takes its part of the input: how much that was.
    pub fn feed(&mut self, input: &[u8]) -> usize {
        let taken = self.left.min(input.len());
        self.text.extend_from_slice(&input[..taken]);
        self.left -= taken;
        taken
    }

    /// The text once it is complete.
    pub fn text(&self) -> Option<&[u8]> {
        (self.left == 0).then_some(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ReplId {
        ReplId::from_random([byte; 20])
    }

    fn info(role: &str, offset: u64, keyspace: &str) -> String {
        format!(
            "# Server\r\nrun_id:abc\r\n\r\n# Replication\r\nrole:{role}\r\nmaster_replid:{}\r\n\
             master_replid2:{}\r\nmaster_repl_offset:{offset}\r\nsecond_repl_offset:41\r\n\r\n# Keyspace\r\n{keyspace}",
            id(1),
            id(7)
        )
    }

    fn account(keys: u64, offset: u64) -> Account {
        let keyspace = format!("db0:keys={keys},expires=1,avg_ttl=0\r\n");
        Account::parse(info("master", offset, &keyspace).as_bytes()).expect("it is complete")
    }

    #[test]
    fn an_account_is_read_from_info() {
        let text = info("slave", 77, "db0:keys=5,expires=0,avg_ttl=0\r\ndb12:keys=3,expires=0\r\n");
        let account = Account::parse(text.as_bytes()).expect("it is complete");
        assert_eq!((account.run_id.as_str(), account.id, account.offset), ("abc", id(1), 77));
        assert_eq!((account.keys, account.is_replica), (8, true));
        assert_eq!(account.second, Some(Position::new(id(7), 40)));
        assert_eq!(Account::parse(b"run_id:abc\r\n"), None);
    }

    #[test]
    fn what_is_empty_or_younger_and_small_is_refused() {
        let ours = Position::new(id(2), 1000);
        let endangers = |account: &Account, trust| account.endangers(trust, ours, 100, None);
        for (keys, offset, followed, restored) in [
            (0, 0, true, true),
            (0, 5000, true, true),
            (49, 999, true, false),
            (49, 1000, false, false),
            (50, 0, false, false),
            (100, 0, false, false),
        ] {
            let account = account(keys, offset);
            assert_eq!(endangers(&account, Trust::Followed), followed, "{keys} keys at {offset}");
            assert_eq!(endangers(&account, Trust::Restored), restored, "{keys} keys at {offset}");
            assert!(!endangers(&account, Trust::Told));
            assert!(!account.endangers(Trust::Followed, ours, 0, None), "there is nothing to lose");
            let related = Position::new(id(1), 1000);
            assert!(!account.endangers(Trust::Followed, related, 100, None), "the history is the same");
            let knows = |offset| Account { second: Some(Position::new(id(2), offset)), ..account.clone() };
            assert!(!endangers(&knows(1000), Trust::Followed), "the history goes on there");
            assert_eq!(
                endangers(&knows(999), Trust::Followed),
                followed,
                "an older file of it was loaded there"
            );
            let replica = Account { is_replica: true, ..account };
            assert!(!endangers(&replica, Trust::Followed), "it decides for those below it");
        }
    }

    #[test]
    fn what_was_refused_stays_refused_until_it_is_another() {
        let ours = Position::new(id(2), 1000);
        let refused = Guarded {
            since: Millis(0),
            primary: Position::new(id(1), 0),
            primary_keys: Some(0),
            ours,
            keys: 100,
            run_id: "abc".to_owned(),
        };
        let grown = account(99, 2000);
        assert!(!grown.endangers(Trust::Followed, ours, 100, None));
        assert!(grown.endangers(Trust::Followed, ours, 100, Some(&refused)));
        let renamed = Account { id: id(3), ..grown.clone() };
        assert!(renamed.endangers(Trust::Followed, ours, 100, Some(&refused)), "the same process");
        let restarted = Account { run_id: "def".to_owned(), ..renamed };
        assert!(!restarted.endangers(Trust::Followed, ours, 100, Some(&refused)));
    }

    #[test]
    fn a_bulk_reply_comes_in_any_pieces() {
        let mut reply = BulkReply::announced(b"$5").expect("a length");
        assert_eq!((reply.feed(b"ab"), reply.text().is_none()), (2, true));
        assert_eq!(reply.feed(b"cde\r\n+OK"), 5);
        assert_eq!(reply.text(), Some(&b"abcde\r\n"[..]));
        for none in [&b"-NOPERM"[..], b"$-1", b"$99999999", b"+OK"] {
            assert!(BulkReply::announced(none).is_none());
        }
    }
}

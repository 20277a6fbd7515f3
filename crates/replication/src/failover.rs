//! FAILOVER: a primary hands its place over to a replica that has everything.
//!
//! ```text
//!   None ──request──▶ WaitingForSync ──caught up, or time is up and forced──▶ InProgress ──answered──▶ None
//!    ▲                      │                                                     │
//!    └── aborted, time is up┴──────────── aborted, refused: a primary again ──────┘
//! ```
//!
//! While it is not `None` the owner holds writes of clients back and appends nothing to the log, so that a replica
//! that has acknowledged the end of the log has all there is and stays the one that has it. In progress the owner
//! follows the target over a link that asks it to take over ([`crate::PrimaryLink::ask_to_take_over`]).

use std::fmt;

use crate::Millis;
use crate::replica_link::ReplicaLink;

/// A replica by the address that it is listed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
}

/// What FAILOVER asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailoverRequest {
    /// Any replica if `None`. The port is as the client gave it.
    pub to: Option<(String, i64)>,
    /// How long the replica has to catch up; for ever if `None`.
    pub timeout: Option<Millis>,
    /// When that time is up, go on with a replica that lacks something.
    pub force: bool,
}

/// How far a failover is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    #[default]
    None,
    WaitingForSync {
        /// `None`: whichever has everything first.
        target: Option<Target>,
        until: Option<Millis>,
        force: bool,
    },
    InProgress {
        target: Target,
    },
}

/// What happens to a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverInput {
    /// Time has passed, or a replica has acknowledged.
    Look,
    /// FAILOVER ABORT.
    Abort,
    /// The target has taken over, or has refused to.
    Answered { accepted: bool },
}

/// What the owner is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailoverAction {
    Log(FailoverEvent),
    /// Become a replica of the target, and ask it to take over.
    Follow(Target),
    /// Become a primary again.
    Promote,
    /// Clients may write again, or learn that they may not here.
    ReleaseWrites,
}

/// One line for the server's log, in Redis's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailoverEvent {
    Requested(Option<Target>),
    Synced(Target),
    Forced(Target),
    Aborted { target: Option<Target>, why: AbortWhy },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortWhy {
    ByHand,
    NeverCaughtUp,
    Refused,
}

/// Why FAILOVER is answered with an error; its `Display` is the error as sent, without the leading `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverRefusal {
    InProgress,
    NotInProgress,
    IsReplica,
    NoReplicas,
    ForceAlone,
    NotAReplica,
    NotOnline,
}

impl Failover {
    /// Whether writes are held back.
    pub fn is_active(&self) -> bool {
        *self != Failover::None
    }

    /// `master_failover_state`.
    pub fn name(&self) -> &'static str {
        match self {
            Failover::None => "no-failover",
            Failover::WaitingForSync { .. } => "waiting-for-sync",
            Failover::InProgress { .. } => "failover-in-progress",
        }
    }

    /// Begins a failover of a server with these attached replicas.
    pub fn request<'a>(
        &self,
        now: Millis,
        asked: FailoverRequest,
        is_replica: bool,
        replicas: impl Iterator<Item = &'a ReplicaLink> + Clone,
        out: &mut Vec<FailoverAction>,
    ) -> Result<Failover, FailoverRefusal> {
        if self.is_active() {
            return Err(FailoverRefusal::InProgress);
        }
        if is_replica {
            return Err(FailoverRefusal::IsReplica);
        }
        if replicas.clone().next().is_none() {
            return Err(FailoverRefusal::NoReplicas);
        }
        if asked.force && (asked.timeout.is_none() || asked.to.is_none()) {
            return Err(FailoverRefusal::ForceAlone);
        }
        let target = match asked.to {
            Some((host, port)) => {
                let port = u16::try_from(port).map_err(|_| FailoverRefusal::NotAReplica)?;
                let target = Target { host, port };
                let replica = find(&target, replicas).ok_or(FailoverRefusal::NotAReplica)?;
                if !replica.is_online() {
                    return Err(FailoverRefusal::NotOnline);
                }
                Some(target)
            }
            None => None,
        };
        out.push(FailoverAction::Log(FailoverEvent::Requested(target.clone())));
        let until = asked.timeout.map(|timeout| now + timeout);
        Ok(Failover::WaitingForSync { target, until, force: asked.force })
    }

    /// Takes one input; see the diagram of this module. `end` is the end of the log.
    pub fn step<'a>(
        self,
        now: Millis,
        input: FailoverInput,
        end: u64,
        replicas: impl Iterator<Item = &'a ReplicaLink> + Clone,
        out: &mut Vec<FailoverAction>,
    ) -> Failover {
        match (input, self) {
            (FailoverInput::Look, Failover::WaitingForSync { target, until, force }) => {
                if until.is_some_and(|until| until <= now) {
                    return match target {
                        Some(target) if force => begin(FailoverEvent::Forced(target.clone()), target, out),
                        target => abort(target, AbortWhy::NeverCaughtUp, out),
                    };
                }
                let ready =
                    |replica: &&ReplicaLink| replica.is_online() && replica.acknowledged().offset == end;
                let caught_up = match &target {
                    Some(target) => find(target, replicas).filter(ready).map(|_| target.clone()),
                    None => replicas.filter(ready).find_map(Target::of),
                };
                match caught_up {
                    Some(target) => begin(FailoverEvent::Synced(target.clone()), target, out),
                    None => Failover::WaitingForSync { target, until, force },
                }
            }
            (FailoverInput::Abort, Failover::WaitingForSync { target, .. }) => {
                abort(target, AbortWhy::ByHand, out)
            }
            (FailoverInput::Abort, Failover::InProgress { target }) => {
                return_to_primary(target, AbortWhy::ByHand, out)
            }
            (FailoverInput::Answered { accepted: true }, Failover::InProgress { .. }) => {
                out.push(FailoverAction::ReleaseWrites);
                Failover::None
            }
            (FailoverInput::Answered { accepted: false }, Failover::InProgress { target }) => {
                return_to_primary(target, AbortWhy::Refused, out)
            }
            (_, state) => state,
        }
    }
}

impl Target {
    fn of(replica: &ReplicaLink) -> Option<Target> {
        let port = u16::try_from(replica.listening_port()).ok().filter(|port| *port > 0)?;
        (!replica.ip().is_empty()).then(|| Target { host: replica.ip().to_owned(), port })
    }
}

fn find<'a>(target: &Target, mut replicas: impl Iterator<Item = &'a ReplicaLink>) -> Option<&'a ReplicaLink> {
    replicas.find(|replica| {
        replica.ip().eq_ignore_ascii_case(&target.host) && replica.listening_port() == i64::from(target.port)
    })
}

fn begin(event: FailoverEvent, target: Target, out: &mut Vec<FailoverAction>) -> Failover {
    out.push(FailoverAction::Log(event));
    out.push(FailoverAction::Follow(target.clone()));
    Failover::InProgress { target }
}

fn abort(target: Option<Target>, why: AbortWhy, out: &mut Vec<FailoverAction>) -> Failover {
    out.push(FailoverAction::Log(FailoverEvent::Aborted { target, why }));
    out.push(FailoverAction::ReleaseWrites);
    Failover::None
}

fn return_to_primary(target: Target, why: AbortWhy, out: &mut Vec<FailoverAction>) -> Failover {
    out.push(FailoverAction::Log(FailoverEvent::Aborted { target: Some(target), why }));
    out.push(FailoverAction::Promote);
    out.push(FailoverAction::ReleaseWrites);
    Failover::None
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for FailoverEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailoverEvent::Requested(Some(target)) => write!(f, "FAILOVER requested to {target}."),
            FailoverEvent::Requested(None) => write!(f, "FAILOVER requested to any replica."),
            FailoverEvent::Synced(target) => write!(f, "Failover target {target} is synced, failing over."),
            FailoverEvent::Forced(target) => {
                write!(f, "FAILOVER to {target} time out exceeded, failing over.")
            }
            FailoverEvent::Aborted { target: Some(target), why } => {
                write!(f, "FAILOVER to {target} aborted: {why}")
            }
            FailoverEvent::Aborted { target: None, why } => {
                write!(f, "FAILOVER to any replica aborted: {why}")
            }
        }
    }
}

impl fmt::Display for AbortWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AbortWhy::ByHand => "Failover manually aborted",
            AbortWhy::NeverCaughtUp => "Replica never caught up before timeout",
            AbortWhy::Refused => "Failover target rejected psync request",
        })
    }
}

impl fmt::Display for FailoverRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailoverRefusal::InProgress => "ERR FAILOVER already in progress.",
            FailoverRefusal::NotInProgress => "ERR No failover in progress.",
            FailoverRefusal::IsReplica => "ERR FAILOVER is not valid when server is a replica.",
            FailoverRefusal::NoReplicas => "ERR FAILOVER requires connected replicas.",
            FailoverRefusal::ForceAlone => {
                "ERR FAILOVER with force option requires both a timeout and target HOST and IP."
            }
            FailoverRefusal::NotAReplica => "ERR FAILOVER target HOST and PORT is not a replica.",
            FailoverRefusal::NotOnline => "ERR FAILOVER target replica is not online.",
        })
    }
}

impl std::error::Error for FailoverRefusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::History;
    use crate::replica_link::{SyncContext, SyncRequest};
    use log::LogWindow;

    const END: u64 = 150;

    /// Attached, and online unless it asks for what is not there; it has acknowledged up to `acked`.
    fn replica(port: u16, online: bool, acked: u64) -> ReplicaLink {
        let id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let history = History::new(id.parse().expect("an id"));
        let mut link = ReplicaLink::new("10.0.0.9", 7);
        link.replconf(Millis(0), &[b"listening-port", port.to_string().as_bytes()]);
        let context = SyncContext {
            history: &history,
            log: Some(LogWindow { first: 101, len: 50 }),
            own_link_down: false,
            failing_over: false,
            pending_output: false,
            refusal: None,
            not_understood: None,
            output_limit: None,
            channels: Default::default(),
            partner_waits: false,
        };
        let next = if online { b"120" } else { b"999" };
        let request = SyncRequest::psync(id.as_bytes(), next).expect("a number");
        let mut link = link.sync(Millis(0), request, context, &mut Vec::new());
        link.replconf(Millis(0), &[b"ACK", acked.to_string().as_bytes()]);
        link
    }

    fn target(port: u16) -> Target {
        Target { host: "10.0.0.9".to_owned(), port }
    }

    fn waiting(to: Option<u16>, timeout: Option<u64>, force: bool) -> Failover {
        let until = timeout.map(Millis);
        Failover::WaitingForSync { target: to.map(target), until, force }
    }

    fn step(state: Failover, now: u64, input: FailoverInput, replicas: &[ReplicaLink]) -> (Failover, String) {
        let mut out = Vec::new();
        let state = state.step(Millis(now), input, END, replicas.iter(), &mut out);
        let words: Vec<String> = out
            .into_iter()
            .map(|action| match action {
                FailoverAction::Log(event) => event.to_string(),
                FailoverAction::Follow(target) => format!("follow {target}"),
                FailoverAction::Promote => "promote".to_owned(),
                FailoverAction::ReleaseWrites => "release".to_owned(),
            })
            .collect();
        (state, words.join("; "))
    }

    #[test]
    fn requests_are_refused_as_by_redis() {
        let replicas = [replica(7001, true, END), replica(7002, false, 0)];
        let to = |port| Some(("10.0.0.9".to_owned(), port));
        let request =
            |to, timeout: Option<u64>, force| FailoverRequest { to, timeout: timeout.map(Millis), force };
        let none = Failover::None;
        let ask = |state: &Failover, asked: FailoverRequest, is_replica, count: usize| {
            state
                .request(Millis(5), asked, is_replica, replicas[..count].iter(), &mut Vec::new())
                .map_err(|refusal| refusal.to_string())
        };
        let any = || request(None, None, false);
        for (state, asked, is_replica, count, text) in [
            (&waiting(None, None, false), any(), true, 0, "ERR FAILOVER already in progress."),
            (&none, any(), true, 0, "ERR FAILOVER is not valid when server is a replica."),
            (&none, request(None, None, true), false, 0, "ERR FAILOVER requires connected replicas."),
            (
                &none,
                request(None, Some(1), true),
                false,
                2,
                "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
            ),
            (
                &none,
                request(to(7001), None, true),
                false,
                2,
                "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
            ),
            (
                &none,
                request(to(7001 + 65536), None, false),
                false,
                2,
                "ERR FAILOVER target HOST and PORT is not a replica.",
            ),
            (
                &none,
                request(to(7003), None, false),
                false,
                2,
                "ERR FAILOVER target HOST and PORT is not a replica.",
            ),
            (&none, request(to(7002), None, false), false, 2, "ERR FAILOVER target replica is not online."),
        ] {
            assert_eq!(ask(state, asked, is_replica, count), Err(text.to_owned()));
        }
        assert_eq!(
            ask(&none, request(to(7001), Some(10), true), false, 2),
            Ok(waiting(Some(7001), Some(15), true))
        );
        assert_eq!(ask(&none, any(), false, 2), Ok(waiting(None, None, false)));
    }

    #[test]
    fn it_goes_to_who_has_everything() {
        let behind = [replica(7001, true, END - 1), replica(7002, false, 0)];
        let (state, did) = step(waiting(None, Some(10), false), 9, FailoverInput::Look, &behind);
        assert_eq!((state, did.as_str()), (waiting(None, Some(10), false), ""));
        let one_ready = [replica(7001, true, END - 1), replica(7002, true, END)];
        let (state, did) = step(waiting(None, None, false), 9, FailoverInput::Look, &one_ready);
        assert_eq!(state, Failover::InProgress { target: target(7002) });
        assert_eq!(did, "Failover target 10.0.0.9:7002 is synced, failing over.; follow 10.0.0.9:7002");
        // The one that is wanted is not the one that is ready.
        let (state, did) = step(waiting(Some(7001), None, false), 9, FailoverInput::Look, &one_ready);
        assert_eq!((state, did.as_str()), (waiting(Some(7001), None, false), ""));
        // One that waits for a snapshot has nothing, whatever it has said.
        let syncing = [replica(7002, false, END)];
        assert_eq!(step(waiting(None, None, false), 9, FailoverInput::Look, &syncing).1, "");
    }

    #[test]
    fn time_runs_out() {
        let behind = [replica(7001, true, END - 1)];
        let (state, did) = step(waiting(Some(7001), Some(10), false), 10, FailoverInput::Look, &behind);
        assert_eq!(state, Failover::None);
        assert_eq!(did, "FAILOVER to 10.0.0.9:7001 aborted: Replica never caught up before timeout; release");
        let (state, did) = step(waiting(Some(7001), Some(10), true), 10, FailoverInput::Look, &behind);
        assert_eq!(state, Failover::InProgress { target: target(7001) });
        assert_eq!(did, "FAILOVER to 10.0.0.9:7001 time out exceeded, failing over.; follow 10.0.0.9:7001");
        let (_, did) = step(waiting(None, Some(10), false), 10, FailoverInput::Look, &behind);
        assert_eq!(did, "FAILOVER to any replica aborted: Replica never caught up before timeout; release");
    }

    #[test]
    fn it_ends_by_an_answer_or_by_hand() {
        let asked = || Failover::InProgress { target: target(7001) };
        for (state, input, did) in [
            (asked(), FailoverInput::Answered { accepted: true }, "release"),
            (
                asked(),
                FailoverInput::Answered { accepted: false },
                "FAILOVER to 10.0.0.9:7001 aborted: Failover target rejected psync request; promote; release",
            ),
            (
                asked(),
                FailoverInput::Abort,
                "FAILOVER to 10.0.0.9:7001 aborted: Failover manually aborted; promote; release",
            ),
            (
                waiting(None, None, false),
                FailoverInput::Abort,
                "FAILOVER to any replica aborted: Failover manually aborted; release",
            ),
        ] {
            assert_eq!(step(state, 0, input, &[]), (Failover::None, did.to_owned()));
        }
        assert_eq!(
            step(asked(), 0, FailoverInput::Look, &[replica(7001, true, END)]),
            (asked(), String::new())
        );
    }
}

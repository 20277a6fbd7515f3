//! Publish and subscribe: who listens to which channels, and how a message reaches them.
//!
//! [`PubSub`] is the index from names to connections; each session has the other direction ([`Subscriptions`]), boxed and
//! absent while it listens to nothing, which is what being "in subscribe mode" means. Both change together, in
//! [`subscribe`], [`unsubscribe`] and [`leave`]. Three kinds of names are kept apart: channels, patterns over the names of
//! channels, and shard channels, which no pattern sees.
//!
//! A message is encoded once per protocol (and per pattern that matches). A payload that is worth it is copied once, out
//! of the input that it came with, and shared by the reply buffers of all who get it, whatever form their message has.
//!
//! Keyspace events are messages too: [`deliver_events`] publishes what the command that has just run has raised, or the
//! unit that ends outside of any command. Nobody raises events that no name in the index can match; see
//! [`Notifications::wants`](crate::notify::Notifications::wants).
//!
//! A connection whose command runs is not in the table of connections. What is pushed to it is held here until its
//! command has replied: so a push never stands in the middle of a reply, and `CLIENT REPLY OFF` does not silence it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write as _;
use std::mem;
use std::sync::Arc;

use resp::{Output, Proto, Reply};
use structures::glob;

use crate::action::ConnId;
use crate::core::Core;
use crate::notify::Event;
use crate::session::{Closing, ReplyMode, Session};
use crate::store::Store;

/// Payloads of at least so many bytes are shared by the buffers that they wait in. A part that a buffer shares costs it
/// about 40 bytes and a slice of a vectored write, so below this a copy is the cheaper one.
const SHARED_FROM_BYTES: usize = 256;

/// What a subscription costs besides the bytes of its name: a place in the set of the session and one in the index.
const SUBSCRIPTION_BYTES: usize = 64;

/// What all channels of keyspace events begin with.
const EVENT_PREFIX: &[u8] = b"__key";

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Channel,
    /// All channels whose name it matches, as [`structures::glob`] does.
    Pattern,
    /// A channel of a shard of a cluster. Outside of one, a channel of another name space.
    Shard,
}

impl Kind {
    /// The first word of what confirms a subscription.
    pub fn joined(self) -> &'static str {
        match self {
            Kind::Channel => "subscribe",
            Kind::Pattern => "psubscribe",
            Kind::Shard => "ssubscribe",
        }
    }

    /// The first word of what confirms the end of a subscription.
    pub fn left(self) -> &'static str {
        match self {
            Kind::Channel => "unsubscribe",
            Kind::Pattern => "punsubscribe",
            Kind::Shard => "sunsubscribe",
        }
    }
}

/// A channel or a pattern, shared by the index and the sessions.
type Name = Arc<[u8]>;

/// Connections in ascending order.
type Listeners = Vec<ConnId>;

type Channels = HashMap<Name, Listeners, BuildHasherDefault<NameHasher>>;

/// What a session listens to. It is never empty.
#[derive(Debug, Default)]
pub struct Subscriptions {
    channels: BTreeSet<Name>,
    shards: BTreeSet<Name>,
    /// In the order in which they were subscribed to.
    patterns: Vec<Name>,
    name_bytes: usize,
}

impl Subscriptions {
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.len(),
            Kind::Pattern => self.patterns.len(),
            Kind::Shard => self.shards.len(),
        }
    }

    /// The names of one kind: patterns in the order of their subscription.
    pub fn names(&self, kind: Kind) -> Vec<Name> {
        match kind {
            Kind::Channel => self.channels.iter().cloned().collect(),
            Kind::Pattern => self.patterns.clone(),
            Kind::Shard => self.shards.iter().cloned().collect(),
        }
    }

    /// Memory that the session answers for. The index shares the names, but holds them only for such sessions.
    pub fn memory(&self) -> usize {
        let count = self.channels.len() + self.shards.len() + self.patterns.len();
        count * SUBSCRIPTION_BYTES + self.name_bytes
    }

    fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.shards.is_empty() && self.patterns.is_empty()
    }

    fn add(&mut self, kind: Kind, name: Name) {
        self.name_bytes += name.len();
        match kind {
            Kind::Channel => drop(self.channels.insert(name)),
            Kind::Pattern => self.patterns.push(name),
            Kind::Shard => drop(self.shards.insert(name)),
        }
    }

    fn remove(&mut self, kind: Kind, name: &[u8]) {
        self.name_bytes -= name.len();
        match kind {
            Kind::Channel => drop(self.channels.remove(name)),
            Kind::Pattern => self.patterns.retain(|other| **other != *name),
            Kind::Shard => drop(self.shards.remove(name)),
        }
    }
}

/// How many subscriptions of `kind` the session has, as confirmations and `CLIENT LIST` count them.
pub fn count(session: &Session, kind: Kind) -> usize {
    session.pubsub.as_ref().map_or(0, |subscriptions| subscriptions.count(kind))
}

/// Which connections listen to what.
#[derive(Debug, Default)]
pub struct PubSub {
    channels: Channels,
    shards: Channels,
    patterns: BTreeMap<Name, Listeners>,
    /// Sessions that listen to anything.
    clients: usize,
    /// Subscriptions that a keyspace event can match.
    to_events: usize,
    /// What was pushed to connections whose command runs.
    held: Vec<Held>,
    encoder: Encoder,
    /// Where the names of the channels of events are put together.
    channel: Vec<u8>,
}

impl PubSub {
    /// How many names of this kind anybody listens to.
    pub fn len(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.len(),
            Kind::Pattern => self.patterns.len(),
            Kind::Shard => self.shards.len(),
        }
    }

    /// Sessions that listen to anything.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// How many listen to `name` itself.
    pub fn listeners(&self, kind: Kind, name: &[u8]) -> usize {
        self.line(kind, name).map_or(0, <[ConnId]>::len)
    }

    /// The channels that anybody listens to, of those that `pattern` matches, in no order.
    pub fn channels<'a>(
        &'a self,
        kind: Kind,
        pattern: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a [u8]> + 'a {
        let channels = if kind == Kind::Shard { &self.shards } else { &self.channels };
        let names = channels.keys().map(|name| &**name);
        names.filter(move |name| pattern.is_none_or(|pattern| glob::matches(pattern, name)))
    }

    fn line(&self, kind: Kind, name: &[u8]) -> Option<&[ConnId]> {
        let line = match kind {
            Kind::Channel => self.channels.get(name),
            Kind::Pattern => self.patterns.get(name),
            Kind::Shard => self.shards.get(name),
        };
        line.map(Vec::as_slice)
    }

    /// The name as the index has it, if anybody listens to it.
    fn known(&self, kind: Kind, name: &[u8]) -> Option<Name> {
        let known = match kind {
            Kind::Channel => self.channels.get_key_value(name),
            Kind::Pattern => self.patterns.get_key_value(name),
            Kind::Shard => self.shards.get_key_value(name),
        };
        known.map(|(name, _)| Arc::clone(name))
    }

    /// The name if `id` did not listen to it before.
    fn join(&mut self, kind: Kind, name: &[u8], id: ConnId) -> Option<Name> {
        let name = self.known(kind, name).unwrap_or_else(|| Arc::from(name));
        let line = match kind {
            Kind::Channel => self.channels.entry(Arc::clone(&name)).or_default(),
            Kind::Pattern => self.patterns.entry(Arc::clone(&name)).or_default(),
            Kind::Shard => self.shards.entry(Arc::clone(&name)).or_default(),
        };
        let place = line.binary_search(&id).err()?;
        line.insert(place, id);
        self.to_events += usize::from(may_match_events(kind, &name));
        Some(name)
    }

    /// True if `id` listened to the name.
    fn part(&mut self, kind: Kind, name: &[u8], id: ConnId) -> bool {
        let line = match kind {
            Kind::Channel => self.channels.get_mut(name),
            Kind::Pattern => self.patterns.get_mut(name),
            Kind::Shard => self.shards.get_mut(name),
        };
        let Some(line) = line else { return false };
        let Ok(place) = line.binary_search(&id) else { return false };
        line.remove(place);
        if line.is_empty() {
            match kind {
                Kind::Channel => drop(self.channels.remove(name)),
                Kind::Pattern => drop(self.patterns.remove(name)),
                Kind::Shard => drop(self.shards.remove(name)),
            }
        }
        self.to_events -= usize::from(may_match_events(kind, name));
        true
    }

    /// Where pushes to `id` wait while its command runs.
    fn held(&mut self, id: ConnId) -> &mut Held {
        let place = match self.held.iter().position(|held| held.id == id) {
            Some(place) => place,
            None => {
                self.held.push(Held { id, forms: Default::default() });
                self.held.len() - 1
            }
        };
        &mut self.held[place]
    }

    /// The command of `id` has replied: what was pushed to it meanwhile follows.
    #[inline]
    pub(crate) fn release(&mut self, id: Option<ConnId>, proto: Proto, output: &mut Output) {
        if !self.held.is_empty() {
            self.release_held(id, proto, output);
        }
    }

    #[cold]
    fn release_held(&mut self, id: Option<ConnId>, proto: Proto, output: &mut Output) {
        if let Some(place) = self.held.iter().position(|held| Some(held.id) == id) {
            output.append(&self.held.swap_remove(place).forms[proto as usize]);
        }
    }
}

/// What waits until the command of a connection has replied, in both protocols: it may be changing its own.
#[derive(Debug)]
struct Held {
    id: ConnId,
    forms: [Output; 2],
}

/// A message to all who listen to one name.
struct Message<'a> {
    /// What kind of message it is, the pattern if one has matched, and the channel.
    words: &'a [&'a [u8]],
    payload: &'a [u8],
}

/// Writes a message in the forms that its listeners want, each when the first of them wants it. Buffers are kept from
/// message to message.
#[derive(Debug, Default)]
struct Encoder {
    forms: [Output; 2],
    /// The payload, if it is worth sharing: by the messages to all names and in both protocols.
    shared: Option<Arc<Vec<u8>>>,
}

impl Encoder {
    /// The message to come goes to another name than the last one.
    fn begin_name(&mut self) {
        self.forms.iter_mut().for_each(Output::clear);
    }

    /// The message to come has another payload than the last one.
    fn end(&mut self) {
        self.begin_name();
        self.shared = None;
    }

    fn write(&mut self, message: &Message<'_>, proto: Proto, output: &mut Output) {
        let form = &mut self.forms[proto as usize];
        if form.is_empty() {
            let mut reply = Reply::new(form, proto);
            reply.push(message.words.len() + 1);
            message.words.iter().for_each(|word| reply.bulk(word));
            if message.payload.len() < SHARED_FROM_BYTES {
                reply.bulk(message.payload);
            } else {
                let payload = self.shared.get_or_insert_with(|| Arc::new(message.payload.to_vec()));
                reply.bulk_shared(payload);
            }
        }
        output.append(form);
    }
}

/// False if no channel of a keyspace event can match.
fn may_match_events(kind: Kind, name: &[u8]) -> bool {
    match kind {
        Kind::Channel => name.starts_with(EVENT_PREFIX),
        Kind::Pattern => {
            let literal = name.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(name.len());
            let common = literal.min(EVENT_PREFIX.len());
            name[..common] == EVENT_PREFIX[..common]
        }
        Kind::Shard => false,
    }
}

/// The session that runs as `id` listens to `name` from here on.
pub(crate) fn subscribe(
    store: &mut Store,
    core: &mut Core,
    session: &mut Session,
    id: ConnId,
    kind: Kind,
    name: &[u8],
) {
    if let Some(name) = core.pubsub.join(kind, name, id) {
        core.pubsub.clients += usize::from(session.pubsub.is_none());
        session.pubsub.get_or_insert_default().add(kind, name);
        store.notifications.set_heard(core.pubsub.to_events > 0);
    }
}

/// The session does not listen to `name` any more.
pub(crate) fn unsubscribe(
    store: &mut Store,
    core: &mut Core,
    session: &mut Session,
    id: ConnId,
    kind: Kind,
    name: &[u8],
) {
    let Some(subscriptions) = &mut session.pubsub else { return };
    if core.pubsub.part(kind, name, id) {
        subscriptions.remove(kind, name);
        if subscriptions.is_empty() {
            session.pubsub = None;
            core.pubsub.clients -= 1;
        }
        store.notifications.set_heard(core.pubsub.to_events > 0);
    }
}

/// The session listens to nothing any more: it was reset, became a replica, or is gone.
pub(crate) fn leave(store: &mut Store, core: &mut Core, session: &mut Session, id: ConnId) {
    let Some(subscriptions) = session.pubsub.take() else { return };
    for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
        for name in subscriptions.names(kind) {
            core.pubsub.part(kind, &name, id);
        }
    }
    core.pubsub.clients -= 1;
    store.notifications.set_heard(core.pubsub.to_events > 0);
}

/// Sends `payload` to everybody who listens to `channel`, which is no pattern; how many messages that were.
pub(crate) fn publish(core: &mut Core, kind: Kind, channel: &[u8], payload: &[u8]) -> usize {
    if core.pubsub.clients == 0 {
        return 0;
    }
    // The index is lent to this function, so that it can be read while connections change.
    let mut pubsub = mem::take(&mut core.pubsub);
    mem::swap(&mut pubsub.held, &mut core.pubsub.held);
    let mut encoder = mem::take(&mut pubsub.encoder);
    let mut sent = 0;
    if let Some(line) = pubsub.line(kind, channel) {
        let word = if kind == Kind::Shard { "smessage" } else { "message" };
        let message = Message { words: &[word.as_bytes(), channel], payload };
        encoder.begin_name();
        for &id in line {
            sent += 1;
            push(core, &mut encoder, &message, id);
        }
    }
    if kind == Kind::Channel {
        for (pattern, line) in &pubsub.patterns {
            if !glob::matches(pattern, channel) {
                continue;
            }
            let message = Message { words: &[b"pmessage", pattern, channel], payload };
            encoder.begin_name();
            for &id in line {
                sent += 1;
                push(core, &mut encoder, &message, id);
            }
        }
    }
    encoder.end();
    pubsub.encoder = encoder;
    mem::swap(&mut pubsub.held, &mut core.pubsub.held);
    core.pubsub = pubsub;
    sent
}

/// Queues the message for one connection, and ends it if it leaves too much unread.
fn push(core: &mut Core, encoder: &mut Encoder, message: &Message<'_>, id: ConnId) {
    let Some(mut conn) = core.conns.take(id) else {
        let held = core.pubsub.held(id);
        for proto in [Proto::Resp2, Proto::Resp3] {
            encoder.write(message, proto, &mut held.forms[proto as usize]);
        }
        return;
    };
    if conn.session.closing == Closing::No {
        encoder.write(message, conn.session.proto, &mut conn.output);
        core.enforce_output_limit(id, &mut conn);
        core.queue_to_send(id, &mut conn);
    }
    core.conns.put_back(id, conn);
}

/// Confirms a subscription, or its end, to the session that runs as `id`; `None` when there was nothing to end. Not
/// silenced by `CLIENT REPLY`.
pub(crate) fn confirm(
    core: &mut Core,
    session: &Session,
    id: ConnId,
    reply: &mut Reply<'_>,
    word: &str,
    (kind, name): (Kind, Option<&[u8]>),
) {
    let count = match kind {
        Kind::Channel | Kind::Pattern => count(session, Kind::Channel) + count(session, Kind::Pattern),
        Kind::Shard => count(session, Kind::Shard),
    };
    let write = |reply: &mut Reply<'_>| {
        reply.push(3);
        reply.bulk(word.as_bytes());
        reply.bulk_or_null(name);
        reply.int(count as i64);
    };
    if session.reply_mode == ReplyMode::On {
        return write(reply);
    }
    let held = core.pubsub.held(id);
    for proto in [Proto::Resp2, Proto::Resp3] {
        write(&mut Reply::new(&mut held.forms[proto as usize], proto));
    }
}

/// Publishes the keyspace events that were raised since the last call, in their order.
#[inline]
pub(crate) fn deliver_events(store: &mut Store, core: &mut Core) {
    if store.notifications.has_raised() {
        deliver_raised(store, core);
    }
}

#[inline(never)]
fn deliver_raised(store: &mut Store, core: &mut Core) {
    let notifications = &mut store.notifications;
    if notifications.keep {
        return;
    }
    let mut raised = notifications.take();
    let mut channel = mem::take(&mut core.pubsub.channel);
    for event in &raised {
        if notifications.wants(Event::KEYSPACE) {
            name_channel(&mut channel, "keyspace", event.db, &event.key);
            publish(core, Kind::Channel, &channel, event.name.as_bytes());
        }
        if notifications.wants(Event::KEYEVENT) {
            name_channel(&mut channel, "keyevent", event.db, event.name.as_bytes());
            publish(core, Kind::Channel, &channel, &event.key);
        }
    }
    core.pubsub.channel = channel;
    raised.clear();
    notifications.reuse(raised);
}

fn name_channel(channel: &mut Vec<u8>, class: &str, db: u32, about: &[u8]) {
    channel.clear();
    write!(channel, "__{class}@{db}__:").expect("a vector takes any text");
    channel.extend_from_slice(about);
}

/// Names are hashed as keys are: with one seed for the process, which the simulator fixes.
#[derive(Debug, Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = structures::hash::hash(bytes);
    }

    /// The length, which the bytes are preceded by, adds nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::action::Action;
    use crate::testing::Harness;

    /// What reached `conn` since the last call, escaped.
    fn got(h: &mut Harness, conn: ConnId) -> String {
        h.output(conn).escape_ascii().to_string()
    }

    #[test]
    fn messages_reach_channels_patterns_and_shards() {
        let mut h = Harness::new();
        let (a, b) = (h.connect(), h.connect());
        assert_eq!(
            h.run_on(a, "SUBSCRIBE news other news"),
            r"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$5\r\nother\r\n:2\r\n*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:2\r\n"
        );
        assert_eq!(h.run_on(a, "PSUBSCRIBE n*"), r"*3\r\n$10\r\npsubscribe\r\n$2\r\nn*\r\n:3\r\n");
        assert_eq!(h.run_on(a, "SSUBSCRIBE news"), r"*3\r\n$10\r\nssubscribe\r\n$4\r\nnews\r\n:1\r\n");
        h.run_on(b, "HELLO 3");
        assert_eq!(h.run_on(b, "PSUBSCRIBE *s"), r">3\r\n$10\r\npsubscribe\r\n$2\r\n*s\r\n:1\r\n");

        assert_eq!(h.run("PUBLISH news hi"), r":3\r\n");
        assert_eq!(
            got(&mut h, a),
            r"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
        );
        assert_eq!(got(&mut h, b), r">4\r\n$8\r\npmessage\r\n$2\r\n*s\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
        assert_eq!(h.run("SPUBLISH news hi"), r":1\r\n");
        assert_eq!(got(&mut h, a), r"*3\r\n$8\r\nsmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
        assert_eq!(got(&mut h, b), "");

        assert_eq!(h.run("PUBSUB NUMSUB news x"), r"*4\r\n$4\r\nnews\r\n:1\r\n$1\r\nx\r\n:0\r\n");
        assert_eq!(h.run("PUBSUB SHARDNUMSUB news"), r"*2\r\n$4\r\nnews\r\n:1\r\n");
        assert_eq!(h.run("PUBSUB NUMPAT"), r":2\r\n");
        assert_eq!(h.run("PUBSUB CHANNELS n?w*"), r"*1\r\n$4\r\nnews\r\n");
        assert_eq!(h.run("PUBSUB SHARDCHANNELS"), r"*1\r\n$4\r\nnews\r\n");
        assert_eq!(
            h.run("PUBSUB CHANNELS a b"),
            r"-ERR unknown subcommand or wrong number of arguments for \'CHANNELS\'. Try PUBSUB HELP.\r\n"
        );
        let info = h.run("INFO");
        for field in ["pubsub_clients:2", "pubsub_channels:2", "pubsub_patterns:2", "pubsubshard_channels:1"]
        {
            assert!(info.contains(&format!(r"{field}\r\n")), "{field}");
        }
        let list = h.run("CLIENT LIST TYPE pubsub");
        assert_eq!(list.matches(" flags=P ").count(), 2);
        assert!(list.contains(" sub=2 psub=1 ssub=1 "));
    }

    #[test]
    fn subscriptions_end_one_by_one_all_at_once_or_with_the_connection() {
        let mut h = Harness::new();
        let a = h.connect();
        assert_eq!(h.run_on(a, "UNSUBSCRIBE"), r"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
        assert_eq!(h.run_on(a, "PUNSUBSCRIBE x"), r"*3\r\n$12\r\npunsubscribe\r\n$1\r\nx\r\n:0\r\n");
        h.run_on(a, "SUBSCRIBE a b");
        h.run_on(a, "PSUBSCRIBE z* y*");
        h.run_on(a, "SSUBSCRIBE s");
        assert_eq!(h.run_on(a, "UNSUBSCRIBE a a"), {
            let one = r"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:3\r\n";
            format!("{one}{one}")
        });
        assert_eq!(
            h.run_on(a, "PUNSUBSCRIBE"),
            r"*3\r\n$12\r\npunsubscribe\r\n$2\r\nz*\r\n:2\r\n*3\r\n$12\r\npunsubscribe\r\n$2\r\ny*\r\n:1\r\n"
        );
        assert_eq!(h.run_on(a, "UNSUBSCRIBE"), r"*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:0\r\n");
        assert_eq!(h.run_on(a, "PING"), r"*2\r\n$4\r\npong\r\n$0\r\n\r\n", "the shard channel is left");
        assert_eq!(h.run_on(a, "SUNSUBSCRIBE"), r"*3\r\n$12\r\nsunsubscribe\r\n$1\r\ns\r\n:0\r\n");
        assert_eq!(h.run_on(a, "PING"), r"+PONG\r\n");

        let is_empty = |h: &Harness| {
            let pubsub = &h.node.core.pubsub;
            let kinds = [Kind::Channel, Kind::Pattern, Kind::Shard];
            kinds.iter().all(|kind| pubsub.len(*kind) == 0)
                && (pubsub.clients, pubsub.to_events, pubsub.held.len()) == (0, 0, 0)
        };
        assert!(is_empty(&h));
        for end in ["RESET", "QUIT"] {
            h.run_on(a, "SUBSCRIBE a __keyevent@0__:set");
            h.run_on(a, "PSUBSCRIBE *");
            h.run_on(a, "SSUBSCRIBE a");
            assert_eq!(h.run_on(a, end), if end == "RESET" { r"+RESET\r\n" } else { r"+OK\r\n" });
            if end == "QUIT" {
                h.node.closed(a);
            }
            assert!(is_empty(&h), "{end}");
            assert_eq!(h.run("PUBLISH a x"), r":0\r\n");
        }
    }

    #[test]
    fn few_commands_are_allowed_to_a_subscriber_that_speaks_resp2() {
        let mut h = Harness::new();
        let refused = |name| {
            format!(
                r"-ERR Can\'t execute \'{name}\': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"
            )
        };
        h.run("SUBSCRIBE a");
        assert_eq!(h.run("PING hi"), r"*2\r\n$4\r\npong\r\n$2\r\nhi\r\n");
        assert_eq!(h.run("PING a b"), r"-ERR wrong number of arguments for \'ping\' command\r\n");
        for (line, name) in [("GET x", "get"), ("client info", "client|info"), ("HELLO 3", "hello")] {
            assert_eq!(h.run(line), refused(name));
        }
        // The gates that depend on the state of the node come first, but for those of a replica out of touch.
        h.node.core.config.maxmemory = 1 << 30;
        assert_eq!(h.run("MULTI"), refused("multi"));
        assert_eq!(
            h.run("EXEC"),
            refused("exec").replace("-ERR", "-EXECABORT Transaction discarded because of:")
        );
        h.run("UNSUBSCRIBE");
        assert_eq!(h.run("GET x"), r"$-1\r\n");
        h.resp3().run("SUBSCRIBE a");
        assert_eq!(h.run("GET x"), r"_\r\n");
        assert_eq!(h.run("PING"), r"+PONG\r\n");
    }

    #[test]
    fn what_a_command_pushes_to_its_own_session_follows_the_reply() {
        let mut h = Harness::new();
        let message = r">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n";
        h.resp3().run("SUBSCRIBE a");
        assert_eq!(h.run("PUBLISH a x"), format!(r":1\r\n{message}"));
        h.run("MULTI");
        h.run("PUBLISH a x");
        h.run("SET k v");
        assert_eq!(h.run("EXEC"), format!(r"*2\r\n:1\r\n+OK\r\n{message}"));
        // No reply, but messages and confirmations.
        h.run("CLIENT REPLY OFF");
        assert_eq!(h.run("PUBLISH a x"), message);
        assert_eq!(h.run("SUBSCRIBE b"), r">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n");
        assert_eq!(h.run("UNSUBSCRIBE b"), r">3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n");
        h.run("CLIENT REPLY ON");
        h.run("CLIENT REPLY SKIP");
        assert_eq!(h.run("PUBLISH a x"), message);
        assert_eq!(h.run("PUBLISH a x"), format!(r":1\r\n{message}"));
    }

    #[test]
    fn a_transaction_subscribes_but_not_to_shards() {
        let mut h = Harness::new();
        for line in ["MULTI", "SUBSCRIBE m", "PUBLISH m hi", "SSUBSCRIBE s", "GET x"] {
            h.run(line);
        }
        assert_eq!(
            h.run("EXEC"),
            r"*4\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nm\r\n:1\r\n:1\r\n-ERR SSUBSCRIBE isn\'t allowed for a DENY BLOCKING client\r\n$-1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nm\r\n$2\r\nhi\r\n"
        );
    }

    #[test]
    fn a_large_payload_is_shared_by_all_who_get_it() {
        let mut h = Harness::new();
        let listeners: Vec<ConnId> = (0..4).map(|_| h.connect()).collect();
        for (at, conn) in listeners.iter().enumerate() {
            if at % 2 == 1 {
                h.run_on(*conn, "HELLO 3");
            }
            h.run_on(*conn, if at < 2 { "SUBSCRIBE c" } else { "PSUBSCRIBE *" });
        }
        let payload = vec![b'x'; 100_000];
        assert_eq!(h.run_args(&[b"PUBLISH", b"c", &payload]), b":4\r\n");
        let mut held: Vec<*const u8> = Vec::new();
        for conn in &listeners {
            let output = &h.node.core.conns.get(*conn).unwrap().output;
            assert!(output.memory() < 1000, "{}", output.memory());
            held.extend(output.chunks().filter(|chunk| chunk.len() == 100_000).map(<[u8]>::as_ptr));
        }
        assert_eq!(held.len(), 4);
        assert!(held.iter().all(|at| *at == held[0]), "one copy");
        assert!(h.node.core.pubsub.encoder.shared.is_none(), "the encoder holds nothing back");
        let bytes = h.output(listeners[3]);
        assert!(bytes.starts_with(b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$100000\r\nxxx"));
        assert!(bytes.ends_with(b"xx\r\n"));
    }

    #[test]
    fn key_events_are_published_in_their_order() {
        let mut h = Harness::new();
        let a = h.connect();
        h.run("CONFIG SET notify-keyspace-events KEA");
        h.run_on(a, "PSUBSCRIBE __key*");
        let event = |class: &str, db, about: &str, what: &str| {
            let channel = format!("__{class}@{db}__:{about}");
            format!(
                r"*4\r\n$8\r\npmessage\r\n$6\r\n__key*\r\n${}\r\n{channel}\r\n${}\r\n{what}\r\n",
                channel.len(),
                what.len()
            )
        };
        let both =
            |db, key: &str, name: &str| event("keyspace", db, key, name) + &event("keyevent", db, name, key);
        h.run("SET k v");
        assert_eq!(got(&mut h, a), both(0, "k", "set"));
        h.run("SELECT 3");
        h.run("SADD s x");
        h.run("SREM s x");
        assert_eq!(got(&mut h, a), both(3, "s", "sadd") + &both(3, "s", "srem") + &both(3, "s", "del"));
        // Each in its place between the messages of a transaction.
        h.run_on(a, "SUBSCRIBE c");
        for line in ["MULTI", "SET k 1", "PUBLISH c x", "DEL k", "EXEC"] {
            h.run(line);
        }
        let message = r"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n";
        assert_eq!(got(&mut h, a), both(3, "k", "set") + message + &both(3, "k", "del"));
        // One channel, one class.
        h.run("CONFIG SET notify-keyspace-events Elx");
        h.run("RPUSH l 1");
        h.run("SET k v PX 10");
        h.advance_ms(20);
        h.node.tick();
        assert_eq!(
            got(&mut h, a),
            event("keyevent", 3, "rpush", "l") + &event("keyevent", 3, "expired", "k")
        );
    }

    #[test]
    fn an_event_that_nobody_can_hear_is_not_raised() {
        let mut h = Harness::new();
        let a = h.connect();
        let raises = |h: &Harness| h.node.store.notifications.wants(Event::STRING);
        h.run("CONFIG SET notify-keyspace-events KEA");
        assert!(!raises(&h));
        for (line, heard) in [
            ("SUBSCRIBE chat __kex", false),
            ("PSUBSCRIBE chat* ? [a]", true),
            ("PUNSUBSCRIBE ?", true),
            ("PUNSUBSCRIBE [a]", false),
            ("PSUBSCRIBE __k*", true),
            ("PUNSUBSCRIBE", false),
            ("SUBSCRIBE __keyspace@0__:k", true),
            ("UNSUBSCRIBE", false),
            ("SSUBSCRIBE __keyspace@0__:k", false),
        ] {
            h.run_on(a, line);
            assert_eq!(raises(&h), heard, "{line}");
        }
        h.run_on(a, "PSUBSCRIBE *");
        h.run("CONFIG SET notify-keyspace-events A");
        assert!(!raises(&h), "neither K nor E");
        h.run("CONFIG SET notify-keyspace-events K$");
        assert!(raises(&h));
        h.node.closed(a);
        assert!(!raises(&h));
    }

    #[test]
    fn events_reach_a_client_that_waits_and_one_that_runs_while_another_is_served() {
        let mut h = Harness::new();
        let (waits, other) = (h.connect(), h.connect());
        h.run("CONFIG SET notify-keyspace-events El");
        h.run_on(waits, "HELLO 3");
        h.run_on(waits, "SUBSCRIBE __keyevent@0__:lpop __keyevent@0__:rpush");
        assert_eq!(h.run_on(waits, "BLPOP l 0"), "");
        h.run_on(other, "HELLO 3");
        h.run_on(other, "SUBSCRIBE __keyevent@0__:lpop");
        let event = |name: &str| {
            format!(r">3\r\n$7\r\nmessage\r\n${}\r\n__keyevent@0__:{name}\r\n$1\r\nl\r\n", name.len() + 15)
        };
        assert_eq!(h.run_on(other, "RPUSH l x"), format!(r":1\r\n{}", event("lpop")));
        assert_eq!(
            got(&mut h, waits),
            format!(r"{}*2\r\n$1\r\nl\r\n$1\r\nx\r\n{}", event("rpush"), event("lpop"))
        );
        assert!(h.node.core.pubsub.held.is_empty());
    }

    #[test]
    fn messages_are_propagated_to_replicas_in_their_unit() {
        let mut h = Harness::new();
        h.run("PUBLISH c hi");
        h.run("SPUBLISH s hi");
        assert_eq!(h.propagated(), ["SELECT 0", "PUBLISH c hi", "SPUBLISH s hi"]);
        for line in ["MULTI", "SET k v", "PUBLISH c x", "EXEC"] {
            h.run(line);
        }
        assert_eq!(h.propagated(), ["MULTI", "SET k v", "PUBLISH c x", "EXEC"]);
        assert_eq!(h.node.store.effects.dirty, 1, "a message is no change of the data");
        h.run("SUBSCRIBE c");
        assert!(h.propagated().is_empty());
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_ended() {
        let mut h = Harness::new();
        let (slow, fast) = (h.connect(), h.connect());
        h.run("CONFIG SET client-output-buffer-limit \"pubsub 1000 0 0 normal 100 0 0\"");
        h.run_on(slow, "SUBSCRIBE c");
        h.run_on(fast, "SUBSCRIBE c");
        for _ in 0..3 {
            assert_eq!(h.run_args(&[b"PUBLISH", b"c", &[b'x'; 400]]), b":2\r\n");
            h.output(fast);
        }
        h.node.before_sleep();
        let closed: Vec<Action> = h.node.take_actions();
        let ended =
            |conn| closed.iter().any(|action| matches!(action, Action::Close { conn: id } if *id == conn));
        assert!(ended(slow) && !ended(fast));
        assert_eq!(h.run("PUBSUB NUMSUB c"), r"*2\r\n$1\r\nc\r\n:1\r\n");
    }

    #[test]
    fn names_count_as_memory_of_the_client() {
        let mut h = Harness::new();
        let a = h.connect();
        h.run("CONFIG SET maxmemory-clients 200000");
        let mut n = 0;
        while h.node.core.conns.get(a).is_some() {
            h.run_on(a, &format!("PSUBSCRIBE {n}"));
            h.node.before_sleep();
            n += 1;
            assert!(n < 10_000);
        }
        assert_eq!(h.node.core.pubsub.len(Kind::Pattern), 0);
        assert_eq!(h.node.core.stats.evicted_clients, 1);
    }

    #[test]
    fn who_becomes_a_replica_listens_no_more() {
        let mut h = Harness::new();
        let a = h.connect();
        h.run_on(a, "HELLO 3");
        h.run_on(a, "SUBSCRIBE c");
        h.run_on(a, "SYNC");
        assert_eq!(h.run("PUBLISH c x"), r":0\r\n");
        assert_eq!(h.node.core.pubsub.clients(), 0);
    }

    #[test]
    fn a_name_is_held_once() {
        let mut h = Harness::new();
        let (a, b) = (h.connect(), h.connect());
        h.run_on(a, "SUBSCRIBE c");
        h.run_on(b, "SUBSCRIBE c");
        let names = h.node.core.pubsub.channels.keys().map(Arc::strong_count);
        assert_eq!(names.collect::<Vec<_>>(), [3]);
    }
}

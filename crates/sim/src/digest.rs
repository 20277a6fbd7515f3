//! A fingerprint of a data set that does not depend on the order or the encoding in which it is held.

use keyspace::snapshot::{Batch, Body, ListNode, Value};
use keyspace::{Entry, EntryExt};
use structures::hash::hash;
use structures::intset::Intset;
use structures::listpack::Listpack;

use engine::store::Store;

/// Keys, values and expiries of all databases; access clocks are left out.
pub fn of(store: &Store) -> u64 {
    let mut sum = 0u64;
    let mut bytes = Vec::new();
    for db in 0..store.databases() {
        for entry in store.db_at(db).iter() {
            bytes.clear();
            bytes.extend_from_slice(&(db as u64).to_le_bytes());
            bytes.extend_from_slice(&entry.expire_at().unwrap_or(-1).to_le_bytes());
            bytes.extend_from_slice(&(entry.key().len() as u64).to_le_bytes());
            bytes.extend_from_slice(entry.key());
            bytes.extend_from_slice(entry.type_of().name().as_bytes());
            bytes.extend_from_slice(&value(entry).to_le_bytes());
            sum = sum.wrapping_add(hash(&bytes));
        }
    }
    sum
}

/// What is stored at one key.
pub fn value(entry: &Entry) -> u64 {
    if let Ok(text) = entry.as_str() {
        return hash(&text.to_vec());
    }
    let mut batch = Batch::default();
    batch.push_entry(entry);
    let mut items = batch.items();
    let Some(Body::Key { value, .. }) = items.next().map(|item| item.body) else {
        unreachable!("an entry is copied as a key")
    };
    match value {
        Value::Int(_) | Value::Str(_) | Value::Shared { .. } => unreachable!("strings were handled"),
        Value::List(nodes) => sequence(nodes.nodes().flat_map(|node| match node {
            ListNode::Packed(bytes) => unpack(bytes),
            ListNode::Plain(bytes) => vec![bytes.to_vec()],
        })),
        Value::Intset(bytes) => {
            let set = Intset::from_vec_validated(bytes.to_vec()).expect("an intset of ours is well formed");
            sum(set.iter().map(|member| hash(member.to_string().as_bytes())))
        }
        Value::SetListpack(bytes) => sum(unpack(bytes).iter().map(|member| hash(member))),
        Value::Set(members) => sum(members.members().map(hash)),
        Value::HashListpack(bytes) => sum(unpack(bytes).chunks(2).map(sequence)),
        Value::Hash(fields) => sum(fields.pairs().map(|(field, value)| sequence([field, value]))),
        Value::HashTtl(fields) => sum(fields.expiring_pairs().map(|(field, value, at)| {
            let at = at.map(i64::to_le_bytes);
            // A field without an expiry counts as in a hash that has none.
            sequence([field, value].into_iter().chain(at.as_ref().map(|at| at.as_slice())))
        })),
        Value::ZSetListpack(bytes) => sum(unpack(bytes).chunks(2).map(|pair| {
            let score = std::str::from_utf8(&pair[1]).ok().and_then(|text| text.parse().ok());
            scored(&pair[0], score.expect("a score of ours is a number"))
        })),
        Value::ZSet(members) => sum(members.scored().map(|(member, score)| scored(member, score))),
        Value::Stream { nodes, foot } => {
            let nodes = nodes.stream_nodes().map(|(id, bytes)| {
                sequence([&id.ms.to_le_bytes()[..], &id.seq.to_le_bytes(), bytes]).to_le_bytes()
            });
            sequence([sequence(nodes).to_le_bytes(), hash(format!("{foot:?}").as_bytes()).to_le_bytes()])
        }
        Value::StreamNodes(_) => unreachable!("an entry is copied at once"),
    }
}

fn scored(member: &[u8], score: f64) -> u64 {
    sequence([member, &(score + 0.0).to_bits().to_le_bytes()])
}

fn unpack(bytes: &[u8]) -> Vec<Vec<u8>> {
    let list =
        Listpack::from_vec_validated(bytes.to_vec(), false).expect("a listpack of ours is well formed");
    list.iter().map(|entry| entry.to_vec()).collect()
}

fn sum(hashes: impl Iterator<Item = u64>) -> u64 {
    hashes.fold(0, u64::wrapping_add)
}

/// In this order.
fn sequence(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> u64 {
    let add = |sum: u64, part: u64| (sum.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    parts.into_iter().fold(1, |sum, part| add(sum, hash(part.as_ref())))
}

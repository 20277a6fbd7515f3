//! Streams, in the three forms that grew from each other.
//!
//! ```text
//! stream    nodes: length, node … | entries: length | last ID | [first ID | highest deleted ID | entries ever added]
//!           | groups: length, group …
//! node      ID of its first entry: string of 16 bytes | listpack: string
//! group     name | last delivered ID | [entries read] | pending: length, pending … | consumers: length, consumer …
//! pending   ID in 16 bytes | delivery time in 8 bytes LE | deliveries: length
//! consumer  name | seen time | [active time] | pending: length, (ID in 16 bytes) …        times in 8 bytes LE
//!
//! ID        two lengths, time and number; in 16 bytes: both as u64 BE
//! [ ]       LISTPACKS_2 brought the history of stream and group, LISTPACKS_3 the active time
//! ```
//!
//! What is pending stands once in its group with its times, and its ID again with the consumer that it was delivered to.
//! Entries read that are not known are written as -1, a length of 64 bits.

use crate::length::{Input, Parse};
use crate::opcode::ValueType;
use crate::version::Target;

/// Time in milliseconds and number of an entry.
pub type EntryId = (u64, u64);

/// Which of the bracketed parts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub history: bool,
    pub active_time: bool,
}

impl Parts {
    pub(crate) fn of(value_type: ValueType) -> Parts {
        Parts {
            history: matches!(value_type, ValueType::StreamListpacks2 | ValueType::StreamListpacks3),
            active_time: value_type == ValueType::StreamListpacks3,
        }
    }
}

impl ValueType {
    /// The form of streams that a receiver reads.
    pub(crate) fn stream_of(target: Target) -> ValueType {
        match target {
            Target::V9 => ValueType::StreamListpacks,
            Target::V10 => ValueType::StreamListpacks2,
            Target::V11 | Target::V12 | Target::Valkey80 => ValueType::StreamListpacks3,
        }
    }
}

/// How far a stream has been read. `groups` and `consumers` are those after the one that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Nodes { left: u64 },
    Groups { left: u64 },
    Pending { left: u64, groups: u64 },
    Consumers { left: u64, groups: u64 },
    Owned { left: u64, consumers: u64, groups: u64 },
}

/// An ID as two lengths.
pub(crate) fn id(input: &mut Input<'_>) -> Parse<EntryId> {
    Ok((input.length()?, input.length()?))
}

/// An ID in 16 bytes.
pub(crate) fn raw_id(input: &mut Input<'_>) -> Parse<EntryId> {
    Ok(split(input.array()?))
}

pub(crate) fn split(bytes: [u8; 16]) -> EntryId {
    let bits = u128::from_be_bytes(bytes);
    ((bits >> 64) as u64, bits as u64)
}

pub(crate) fn raw(id: EntryId) -> [u8; 16] {
    (u128::from(id.0) << 64 | u128::from(id.1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use crate::decode::{Event, Step, StreamHistory};
    use crate::dump::{FOOTER_LEN, open, seal};
    use crate::encode::{Encoder, EncoderOptions};
    use crate::version::Target;

    fn payload(target: Target) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(target, EncoderOptions::default());
        encoder.stream_begin(&mut out, None, 2);
        encoder.stream_node(&mut out, (1, 1), b"node");
        encoder.stream_node(&mut out, (u64::MAX, 7), &[b'x'; 100]);
        let history = StreamHistory { first_id: (1, 2), max_deleted_id: (0, 9), entries_added: 5 };
        encoder.stream_counters(&mut out, 3, (u64::MAX, u64::MAX), &history, 2);
        encoder.group(&mut out, b"empty", (0, 0), -1, 0);
        encoder.consumers(&mut out, 0);
        encoder.group(&mut out, b"g", (1, 1), 1, 2);
        encoder.pending(&mut out, (1, 1), 1000, 3);
        encoder.pending(&mut out, (1, 2), 1001, 300);
        encoder.consumers(&mut out, 2);
        encoder.consumer(&mut out, b"idle", 5, -1, 0);
        encoder.consumer(&mut out, b"c", 6, 7, 2);
        encoder.owned(&mut out, (1, 1));
        encoder.owned(&mut out, (1, 2));
        seal(&mut out, target);
        out
    }

    /// The events, from bytes that come one by one.
    fn events(payload: &[u8]) -> Vec<String> {
        let (mut decoder, value) = open(payload).unwrap();
        let (mut from, mut arrived) = (0, 0);
        let mut seen = Vec::new();
        loop {
            match decoder.next(&value[from..arrived]).unwrap() {
                Step::Event { event: Event::Eof { .. }, .. } => return seen,
                Step::Event { event, consumed } => {
                    seen.push(format!("{event:?}"));
                    from += consumed;
                }
                Step::NeedMore { consumed, .. } => {
                    from += consumed;
                    arrived += 1;
                }
            }
        }
    }

    #[test]
    fn each_form_holds_what_it_can() {
        for target in Target::ALL {
            let payload = payload(target);
            let seen = events(&payload);
            let history =
                "Some(StreamHistory { first_id: (1, 2), max_deleted_id: (0, 9), entries_added: 5 })";
            let old = target == Target::V9;
            let (history, unknown, one) =
                if old { ("None", "None", "None") } else { (history, "Some(-1)", "Some(1)") };
            let active = |ms| match target {
                Target::V9 | Target::V10 => "None".to_owned(),
                _ => format!("Some({ms})"),
            };
            let text = |text: &[u8]| format!("{text:?}");
            let expected = [
                "Key(".to_owned(),
                "Begin { count: 2 }".to_owned(),
                format!("StreamNode {{ id: (1, 1), bytes: {} }}", text(b"node")),
                format!("StreamNode {{ id: ({}, 7), bytes: {} }}", u64::MAX, text(&[b'x'; 100])),
                format!("StreamCounters {{ length: 3, last_id: ({0}, {0}), history: {history} }}", u64::MAX),
                format!("Group {{ name: {}, last_id: (0, 0), entries_read: {unknown} }}", text(b"empty")),
                format!("Group {{ name: {}, last_id: (1, 1), entries_read: {one} }}", text(b"g")),
                "Pending { id: (1, 1), delivered_ms: 1000, deliveries: 3 }".to_owned(),
                "Pending { id: (1, 2), delivered_ms: 1001, deliveries: 300 }".to_owned(),
                format!("Consumer {{ name: {}, seen_ms: 5, active_ms: {} }}", text(b"idle"), active(-1)),
                format!("Consumer {{ name: {}, seen_ms: 6, active_ms: {} }}", text(b"c"), active(7)),
                "Owned((1, 1))".to_owned(),
                "Owned((1, 2))".to_owned(),
                "End".to_owned(),
            ];
            assert_eq!(seen.len(), expected.len());
            for (seen, expected) in seen.iter().zip(&expected) {
                assert!(seen.starts_with(expected.as_str()), "{target:?}: {seen} instead of {expected}");
            }
            let tag = match target {
                Target::V9 => 15,
                Target::V10 => 19,
                _ => 21,
            };
            assert_eq!(payload[0], tag);
            assert!(payload.len() > FOOTER_LEN);
        }
    }
}

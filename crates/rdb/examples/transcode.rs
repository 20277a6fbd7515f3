//! Rewrites an RDB file in another version: `transcode FROM TO 9|10|11|12|80 [plain]`. What the version cannot
//! hold is named. With real servers on both ends it shows that what the encoder writes is what they read.

use rdb::{
    Crc64, DecodeOptions, Decoder, Encoder, EncoderOptions, Event, Form, Key, Node, NodeForm, Step, Target,
};
use std::error::Error;

/// Chunks leave the encoder in about this size.
const CHUNK_BYTES: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, from, to, version, rest @ ..] = args.as_slice() else {
        return Err("usage: transcode FROM TO 9|10|11|12|80 [plain]".into());
    };
    let number: u16 = version.parse()?;
    let target = Target::ALL.into_iter().find(|target| target.number() == number);
    let target = target.ok_or("no such version")?;
    let compress = !rest.iter().any(|arg| arg == "plain");
    let file = std::fs::read(from)?;
    std::fs::write(to, transcode(&file, target, compress)?)?;
    Ok(())
}

fn transcode(file: &[u8], target: Target, compress: bool) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut encoder = Encoder::new(target, EncoderOptions { compress });
    let mut decoder = Decoder::new(DecodeOptions::default());
    let (mut written, mut chunk, mut crc) = (Vec::new(), Vec::new(), Crc64::new());
    let mut open = Open::Nothing;
    let mut from = 0;
    loop {
        if chunk.len() > CHUNK_BYTES {
            crc.update(&chunk);
            written.append(&mut chunk);
        }
        let Step::Event { event, consumed } = decoder.next(&file[from..])? else {
            return Err(decoder.truncated().into());
        };
        from += consumed;
        match event {
            Event::Header(_) => encoder.header(&mut chunk),
            Event::Aux { key, value } => encoder.aux(&mut chunk, key, value),
            Event::SelectDb(db) => encoder.select_db(&mut chunk, db),
            Event::ResizeDb { keys, expires } => encoder.resize_db(&mut chunk, keys, expires),
            Event::Function(code) => {
                if let Err(error) = encoder.function(&mut chunk, code) {
                    eprintln!("left out: {error}");
                }
            }
            Event::SlotInfo { .. } | Event::ModuleAux { .. } => {}
            Event::Key(key) => {
                let Key { expire_at_ms, idle_s, freq, .. } = key;
                encoder.key_attributes(&mut chunk, expire_at_ms, idle_s, freq);
                open = Open::Key(key.key.to_vec(), key.kind());
            }
            Event::Eof { .. } => {
                encoder.eof(&mut chunk, Some(crc));
                written.append(&mut chunk);
                return Ok(written);
            }
            event => open.value(&mut encoder, &mut chunk, event)?,
        }
    }
}

/// The value being copied.
enum Open {
    Nothing,
    Key(Vec<u8>, rdb::Kind),
    Items,
    /// Gathered, since the least TTL stands first.
    Fields(Vec<u8>, Vec<Field>),
}

type Field = (Vec<u8>, Vec<u8>, Option<i64>);

impl Open {
    fn value(
        &mut self,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
        event: Event<'_>,
    ) -> Result<(), Box<dyn Error>> {
        use rdb::Kind;
        match (&mut *self, event) {
            (Open::Key(key, _), Event::Str(string)) => encoder.string(out, Some(key), string),
            (_, Event::StrPart { .. }) => return Err("strings this long are not gathered here".into()),
            (Open::Key(key, kind), Event::Blob { form, bytes }) => match (form, kind) {
                (Form::Intset, _) => encoder.set_intset(out, Some(key), bytes),
                (Form::Listpack, Kind::Set) => encoder.set_listpack(out, Some(key), bytes)?,
                (Form::Listpack, Kind::SortedSet) => encoder.zset_listpack(out, Some(key), bytes)?,
                (Form::Listpack, _) => encoder.hash_listpack(out, Some(key), bytes)?,
                (Form::ListpackTtl, _) => encoder.hash_ttl_listpack(out, Some(key), bytes)?,
                (Form::Ziplist | Form::Zipmap, _) => return Err("old blobs are not taken apart here".into()),
            },
            (Open::Key(key, kind), Event::Begin { count }) => {
                match kind {
                    Kind::List => encoder.list_begin(out, Some(key), count),
                    Kind::Set => encoder.set_begin(out, Some(key), count),
                    Kind::SortedSet => encoder.zset_begin(out, Some(key), count),
                    Kind::Hash => {
                        *self = Open::Fields(std::mem::take(key), Vec::new());
                        return Ok(());
                    }
                    Kind::String => return Err("a string that begins".into()),
                    Kind::Stream => return Err("streams are not copied here".into()),
                }
                *self = Open::Items;
            }
            (Open::Items, Event::Element(element)) => encoder.element(out, element),
            (Open::Items, Event::ScoredElement { member, score }) => encoder.scored(out, member, score),
            (Open::Items, Event::QuicklistNode { form: NodeForm::Plain, bytes }) => {
                encoder.list_node(out, Node::Plain(bytes))?;
            }
            (Open::Items, Event::QuicklistNode { form: NodeForm::Packed, bytes }) => {
                encoder.list_node(out, Node::Packed(bytes))?;
            }
            (Open::Fields(_, fields), Event::Field { name, value, expire_at_ms }) => {
                fields.push((name.to_vec(), value.to_vec(), expire_at_ms));
            }
            (Open::Fields(key, fields), Event::End) => {
                let count = fields.len() as u64;
                match fields.iter().filter_map(|field| field.2).min() {
                    Some(least) => {
                        let writer = encoder.hash_ttl_begin(out, Some(key), count, least)?;
                        for (name, value, at) in fields {
                            writer.field(encoder, out, name, value, *at);
                        }
                    }
                    None => {
                        encoder.hash_begin(out, Some(key), count);
                        fields.iter().for_each(|(name, value, _)| encoder.field(out, name, value));
                    }
                }
            }
            (Open::Items, Event::End) => {}
            (_, event) => return Err(format!("unexpected {event:?}").into()),
        }
        Ok(())
    }
}

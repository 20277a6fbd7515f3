//! Time per key of saving and loading: `rdb_bench [KEYS [FILE]]`. Keys of 14 bytes with values of 100, as in the
//! figures of the design. With FILE, a snapshot of every type and encoding is written there instead, with collections
//! of up to KEYS elements, for other servers to read.

use std::time::{Duration, Instant};

use engine::load::{Loading, Target};
use engine::rdb_writer::RdbWriter;
use engine::snapshot::{Plan, Sink};
use engine::store::Store;
use keyspace::db::ExpireChange;
use keyspace::snapshot::Batch;
use keyspace::{Hash, Key, List, Object, Set, ZSet};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let keys: usize = args.get(1).map_or(2_000_000, |keys| keys.parse().expect("a number of keys"));
    match args.get(2) {
        Some(path) => {
            let (file, _) = save(&every_type(keys), true);
            std::fs::write(path, file).expect("the file can be written");
        }
        None => {
            for random in [false, true] {
                measure(keys, random);
            }
        }
    }
}

fn measure(keys: usize, random: bool) {
    let store = strings(keys, random);
    let per_key = |time: Duration| time.as_secs_f64() * 1e6 / keys as f64;
    for compress in [false, true] {
        let start = Instant::now();
        let (file, encoding) = save(&store, compress);
        let saving = start.elapsed();
        let start = Instant::now();
        let mut fresh = Store::new(1, 1);
        let mut loading = Loading::for_replica(Target::Live, Some(file.len() as u64), 0);
        for piece in file.chunks(64 * 1024) {
            loading.feed(&mut fresh, piece).expect("our own file is read");
        }
        loading.finish().expect("our own file is complete");
        let load = start.elapsed();
        assert_eq!(fresh.total_keys(), keys);
        println!(
            "random {random}, compress {compress}: copy and encode {:.3} µs, encode alone {:.3} µs, load {:.3} µs, \
             {} bytes",
            per_key(saving),
            per_key(encoding),
            per_key(load),
            file.len(),
        );
    }
}

fn strings(keys: usize, random: bool) -> Store {
    let mut store = Store::new(1, 1);
    let mut rng = 1u64;
    for n in 0..keys {
        let mut value = [b'x'; 100];
        if random {
            for byte in &mut value {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (rng >> 56) as u8;
            }
        }
        let key = format!("key:{n:010}");
        store.set_str(Key::new(key.as_bytes()), &value, ExpireChange::Clear);
    }
    store
}

/// The file, and the time that the encoding thread needs of it all.
fn save(store: &Store, compress: bool) -> (Vec<u8>, Duration) {
    let plan = Plan {
        access: None,
        sink: Sink::Stream,
        target: rdb::Target::V9,
        compress,
        checksum: true,
        key_delay_us: 0,
        functions: Vec::new(),
        aux: vec![("redis-ver", engine::REDIS_VERSION.to_owned())],
    };
    let mut writer = RdbWriter::new(&plan);
    let (mut file, mut spent) = (Vec::new(), Duration::ZERO);
    let db = store.db_at(0);
    writer.begin(&mut file);
    writer.database(0, db.len() as u64, db.expires().len() as u64, &mut file);
    let (mut batch, mut piece) = (Batch::default(), Vec::new());
    let mut entries = db.iter().peekable();
    while entries.peek().is_some() {
        batch.clear();
        while batch.weight() < 64 * 1024
            && let Some(entry) = entries.next()
        {
            batch.push_entry(entry);
        }
        piece.clear();
        let start = Instant::now();
        writer.batch(&batch, &mut piece).expect("the data fits every version");
        spent += start.elapsed();
        file.extend_from_slice(&piece);
    }
    writer.end(&mut file);
    (file, spent)
}

fn every_type(largest: usize) -> Store {
    let mut store = Store::new(1, 1);
    let limits = store.limits.clone();
    for size in [1, 3, 100, 600, largest] {
        let mut list = List::new(limits.list_fill);
        let mut set = Set::with_capacity(size, &limits);
        let mut ints = Set::with_capacity(size, &limits);
        let mut hash = Hash::with_capacity(size, &limits);
        let mut zset = ZSet::with_capacity(size, &limits);
        for n in 0..size {
            let name = format!("element {n} {}", "x".repeat(n % 90));
            list.push_back(name.as_bytes());
            assert!(set.load_member(name.as_bytes(), &limits));
            assert!(ints.load_member((n * 70_000).to_string().as_bytes(), &limits));
            hash.load_field(name.as_bytes(), n.to_string().as_bytes(), None, &limits);
            assert!(zset.load_member(name.as_bytes(), n as f64 / 4.0 - 20.0, &limits));
        }
        zset.finish_load(&limits);
        let mut put = |kind: &str, object| store.put(Key::new(format!("{kind}:{size}").as_bytes()), object);
        put("list", Object::List(list));
        put("set", Object::Set(set));
        put("intset", Object::Set(ints));
        put("hash", Object::Hash(hash));
        put("zset", Object::ZSet(zset));
        for text in [b"-123456789012345".to_vec(), b"abc".repeat(size)] {
            let key = format!("string:{size}:{}", text.len());
            store.set_str(Key::new(key.as_bytes()), &text, ExpireChange::At(4_102_444_800_000));
        }
    }
    store
}

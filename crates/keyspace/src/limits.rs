//! When a small collection stops being small: the thresholds of `*-max-listpack-*` and `set-max-intset-entries`.

/// Thresholds at which a collection leaves its compact encoding. Counts are elements (pairs for hashes and sorted
/// sets), `*_value` are bytes of one element. Defaults are those of Redis 7.2's `redis.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodingLimits {
    pub hash_entries: usize,
    pub hash_value: usize,
    pub set_intset_entries: usize,
    pub set_listpack_entries: usize,
    pub set_listpack_value: usize,
    pub zset_entries: usize,
    pub zset_value: usize,
    /// `list-max-listpack-size`: positive is entries per node, -1 … -5 is 4 … 64 KiB per node.
    pub list_fill: i32,
    /// `list-compress-depth`: nodes at each end that stay uncompressed; 0 compresses none.
    pub list_compress_depth: u32,
    /// `DEBUG QUICKLIST-PACKED-THRESHOLD`: list elements of at least this many bytes become nodes of their own; 0
    /// leaves it to `list_fill`.
    pub packed_threshold: u32,
    /// `stream-node-max-bytes`: bytes of a stream's node; 0 for no limit.
    pub stream_node_bytes: usize,
    /// `stream-node-max-entries`: entries of a stream's node, deleted ones included; 0 for no limit.
    pub stream_node_entries: usize,
}

impl Default for EncodingLimits {
    fn default() -> Self {
        EncodingLimits {
            hash_entries: 512,
            hash_value: 64,
            set_intset_entries: 512,
            set_listpack_entries: 128,
            set_listpack_value: 64,
            zset_entries: 128,
            zset_value: 64,
            list_fill: -2,
            list_compress_depth: 0,
            packed_threshold: 0,
            stream_node_bytes: 4096,
            stream_node_entries: 100,
        }
    }
}

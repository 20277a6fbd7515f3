//! A data set that is being loaded: from a file at the start, or from the primary.

use keyspace::Db;

use crate::node::Node;

/// Where the data goes.
#[derive(Debug)]
pub enum Target {
    /// Into the databases that clients see; they are refused meanwhile.
    Live,
    /// Into databases of its own, while the old ones still serve.
    Fresh(Vec<Db>),
}

/// The progress of a load.
pub struct Loading {
    target: Target,
    decoder: rdb::Decoder,
}

impl Loading {
    pub fn for_replica(target: Target, _total: Option<u64>, _now_ms: i64) -> Loading {
        Loading { target, decoder: rdb::Decoder::new(Default::default()) }
    }

    pub fn refuses_commands(&self) -> bool {
        matches!(self.target, Target::Live)
    }
}

impl Node {
    pub(crate) fn feed_loading(&mut self, _bytes: &[u8]) -> Result<(), String> {
        Ok(())
    }
    pub(crate) fn end_loading(&mut self) -> Result<(), String> {
        Ok(())
    }
    pub(crate) fn abandon_loading(&mut self) {}
    pub(crate) fn put_loaded_in_place(&mut self) {}
    pub(crate) fn flush_for_load(&mut self) {}
}

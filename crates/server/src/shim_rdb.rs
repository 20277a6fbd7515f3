//! Stands in for the engine's writer until that lands.
use engine::snapshot::Plan;
use keyspace::snapshot::Batch;
pub struct RdbWriter;
impl RdbWriter {
    pub fn new(_: &Plan) -> RdbWriter {
        RdbWriter
    }
    pub fn begin(&mut self, _: &mut Vec<u8>) {}
    pub fn batch(&mut self, _: &Batch, _: &mut Vec<u8>) -> Result<(), String> {
        Err("not there yet".into())
    }
    pub fn end(&mut self, _: &mut Vec<u8>) {}
}

//! The temporary files of a process, on a disk that is slow, full, or broken for a while.

use std::collections::{BTreeMap, VecDeque};

use engine::Node;
use engine::action::{SpillFile, SpillRequest};

use crate::mutation::Mutation;
use crate::random::Random;
use crate::world::Counts;

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ailment {
    /// An answer takes up to so long.
    pub delay_ms: u64,
    /// Percent of the writes and of the reads that fail. A write that does leaves anything in its place.
    pub failing_writes: u64,
    pub failing_reads: u64,
}

/// What the node is told.
#[derive(Debug)]
enum Answer {
    Written(SpillFile, u64, Result<(), String>),
    Read(SpillFile, u64, Result<Vec<u8>, String>),
}

#[derive(Debug, Default)]
pub struct SpillDisk {
    files: BTreeMap<SpillFile, Vec<u8>>,
    /// In the order of the requests, as of one thread each.
    answers: BTreeMap<SpillFile, VecDeque<(u64, Answer)>>,
}

impl Ailment {
    pub fn random(random: &mut Random) -> Ailment {
        Ailment {
            delay_ms: *random.pick(&[1, 1, 30, 400]),
            failing_writes: *random.pick(&[0, 0, 1, 10]),
            failing_reads: *random.pick(&[0, 0, 1, 10]),
        }
    }
}

impl SpillDisk {
    pub fn carry_out(
        &mut self,
        file: SpillFile,
        request: SpillRequest,
        ailment: Ailment,
        now: u64,
        random: &mut Random,
    ) {
        let answer = match request {
            SpillRequest::Write { number, offset, bytes } => {
                let data = self.files.entry(file).or_default();
                let (from, to) = (offset as usize, offset as usize + bytes.len());
                data.resize(data.len().max(to), 0);
                let fails = random.percent(ailment.failing_writes);
                let count = if fails { random.index(bytes.len()) } else { bytes.len() };
                data[from..to].fill(b'#');
                data[from..from + count].copy_from_slice(&bytes[..count]);
                let result =
                    if fails { Err("no space left on the simulated device".to_owned()) } else { Ok(()) };
                Answer::Written(file, number, result)
            }
            SpillRequest::Read { number, offset, length } => {
                let data = &self.files[&file][offset as usize..(offset + length) as usize];
                let fails = random.percent(ailment.failing_reads);
                let result =
                    if fails { Err("simulated input/output error".to_owned()) } else { Ok(data.to_vec()) };
                Answer::Read(file, number, result)
            }
            SpillRequest::Drop => {
                self.files.remove(&file);
                return;
            }
        };
        let due = now + random.below(ailment.delay_ms + 1);
        self.answers.entry(file).or_default().push_back((due, answer));
    }

    /// Tells the node what was done by now; whether anything was.
    pub fn answer(
        &mut self,
        node: &mut Node,
        now: u64,
        mutation: Option<Mutation>,
        counts: &mut Counts,
    ) -> bool {
        let mut answered = false;
        while let Some(answer) = self.next(now) {
            answered = true;
            match answer {
                Answer::Written(file, number, result) => {
                    counts.log_blocks += u64::from(file == SpillFile::Log && result.is_ok());
                    counts.spill_errors += u64::from(result.is_err());
                    node.spill_written(file, number, result);
                }
                Answer::Read(file, number, mut result) => {
                    counts.log_blocks_read += u64::from(file == SpillFile::Log && result.is_ok());
                    counts.spill_errors += u64::from(result.is_err());
                    if mutation == Some(Mutation::RottenLog)
                        && let (SpillFile::Log, Ok(bytes)) = (file, &mut result)
                    {
                        bytes[0] ^= 1;
                        counts.struck += 1;
                    }
                    node.spill_read(file, number, result);
                }
            }
        }
        answered
    }

    fn next(&mut self, now: u64) -> Option<Answer> {
        let due = |answers: &&mut VecDeque<(u64, Answer)>| answers.front().is_some_and(|(due, _)| *due < now);
        self.answers.values_mut().find(due)?.pop_front().map(|(_, answer)| answer)
    }
}

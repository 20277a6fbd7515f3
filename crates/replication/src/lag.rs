//! When the bytes of the log were written: what turns offsets into time.
//!
//! The owner notes the end of its log now and then (with the timer, and with each heartbeat). Recent notes are
//! kept as they are; older ones are thinned out, so that a window of hours takes no more room than one of seconds, and
//! is known to within a small part of its length.

use std::collections::VecDeque;

use crate::Millis;

/// How many notes are kept.
const MARKS_MAX: usize = 512;

/// Over how long the rate of writing is measured.
const RATE_SPAN: Millis = Millis::from_secs(10);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct WriteMarks {
    /// By time and offset, both growing.
    marks: VecDeque<Mark>,
    looked: Option<Millis>,
}

/// What was written from the mark before up to `end` was written after `after` and not after `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    after: Millis,
    by: Millis,
    end: u64,
}

impl WriteMarks {
    /// The log ends at `end` now, and begins at `first`.
    pub fn note(&mut self, now: Millis, first: u64, end: u64) {
        let after = self.looked.replace(now).unwrap_or(now);
        match self.marks.back() {
            Some(last) if last.end == end => return,
            Some(last) if last.end > end => self.marks.clear(),
            _ => {}
        }
        // One that ends before the window still says from when its first byte is at the earliest.
        while self.marks.get(1).is_some_and(|next| next.end < first) {
            self.marks.pop_front();
        }
        self.marks.push_back(Mark { after, by: now, end });
        if self.marks.len() > MARKS_MAX {
            self.thin_out();
        }
    }

    /// The log stands elsewhere: what is known is of another one.
    pub fn clear(&mut self) {
        *self = WriteMarks::default();
    }

    /// The moment after which the byte at `offset` was written; nothing if that byte is older than all notes.
    fn written_after(&self, offset: u64) -> Option<Millis> {
        let at = self.marks.partition_point(|mark| mark.end < offset);
        // What lies before the first note may have been written at any time.
        if at == 0 { None } else { self.marks.get(at).map(|mark| mark.after) }
    }

    /// Up to which offset all was written at `time` or before, as far as that is known.
    pub fn written_by(&self, time: Millis) -> Option<u64> {
        let count = self.marks.partition_point(|mark| mark.by <= time);
        count.checked_sub(1).map(|last| self.marks[last].end)
    }

    /// For how long the byte behind `acknowledged` has been waiting; zero if there is none. Of one that is older than all
    /// notes it is only known that it is older than the first.
    pub fn lag(&self, now: Millis, acknowledged: u64, end: u64) -> Option<Millis> {
        if acknowledged >= end {
            return Some(Millis(0));
        }
        let (first, last) = (self.marks.front()?, self.marks.back()?);
        let after = if last.end <= acknowledged {
            // Written since the last note.
            self.looked?
        } else {
            self.written_after(acknowledged + 1).unwrap_or(first.after)
        };
        Some(now.since(after))
    }

    /// Bytes per second, as recorded of late.
    pub fn bytes_per_second(&self, now: Millis) -> u64 {
        let from = self.marks.iter().position(|mark| now.since(mark.after) <= RATE_SPAN);
        let Some(from) = from.filter(|from| *from > 0) else { return 0 };
        let written = self.marks[self.marks.len() - 1].end - self.marks[from - 1].end;
        written * 1000 / now.since(self.marks[from].after).0.clamp(1000, RATE_SPAN.0)
    }

    /// Joins neighbours that lie closer to each other than a 32nd of their age. Of two times the earlier stays: what is
    /// waiting seems to have waited a little longer, never shorter.
    fn thin_out(&mut self) {
        let now = self.marks.back().expect("there are too many").after;
        let mut kept: VecDeque<Mark> = VecDeque::with_capacity(MARKS_MAX + 1);
        for mark in self.marks.drain(..) {
            match kept.back_mut() {
                Some(last) if mark.after.since(last.after).0 * 32 < now.since(mark.after).0 => {
                    (last.by, last.end) = (mark.by, mark.end);
                }
                _ => kept.push_back(mark),
            }
        }
        self.marks = kept;
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(notes: &[(u64, u64)]) -> WriteMarks {
        let mut marks = WriteMarks::default();
        notes.iter().for_each(|(now, end)| marks.note(Millis(*now), 1, *end));
        marks
    }

    #[test]
    fn a_byte_waits_since_the_look_before_it_was_there() {
        let marks = noted(&[(0, 10), (100, 10), (200, 30), (300, 40), (400, 40)]);
        let lag = |acknowledged| marks.lag(Millis(450), acknowledged, 45).map(|lag| lag.0);
        assert_eq!(lag(45), Some(0));
        assert_eq!(lag(10), Some(350), "the byte 11 came after 100");
        assert_eq!(lag(29), Some(350));
        assert_eq!(lag(30), Some(250));
        assert_eq!(lag(40), Some(50), "since the last look");
        assert_eq!(lag(9), Some(450), "it was there before the first look");
        assert_eq!(marks.written_after(9), None);
    }

    #[test]
    fn what_was_written_by_then_is_never_younger() {
        let marks = noted(&[(0, 10), (100, 10), (200, 30), (300, 40), (400, 40)]);
        for (time, end) in [(0, 10), (199, 10), (200, 30), (299, 30), (300, 40), (9_000, 40)] {
            assert_eq!(marks.written_by(Millis(time)), Some(end), "{time}");
        }
        assert_eq!(WriteMarks::default().written_by(Millis(5)), None);
        assert_eq!(noted(&[(50, 10)]).written_by(Millis(49)), None);
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut marks = WriteMarks::default();
        for tick in 0..=400u64 {
            let end = if tick < 200 { tick * 5_000 } else { 1_000_000 + (tick - 200) * 100 };
            marks.note(Millis(tick * 100), 1, end);
        }
        assert_eq!(marks.bytes_per_second(Millis(40_000)), 1_000);
        assert_eq!(marks.bytes_per_second(Millis(60_000)), 0);
        assert_eq!(WriteMarks::default().bytes_per_second(Millis(5)), 0);
    }

    #[test]
    fn old_notes_become_few_and_stay_nearly_true() {
        let mut marks = WriteMarks::default();
        // Ten bytes a second, for a day.
        for tick in 0..864_000u64 {
            marks.note(Millis(tick * 100), 1, tick);
        }
        assert!(marks.marks.len() <= MARKS_MAX);
        let now = Millis(86_400_000);
        for (offset, exact) in [(1_000, 86_300_000u64), (432_000, 43_200_000), (863_990, 1_000)] {
            let lag = marks.lag(now, offset, 863_999).expect("noted").0;
            assert!(lag.abs_diff(exact) <= exact / 20 + 200, "{offset}: {lag} instead of {exact}");
            let written = marks.written_by(Millis(now.0 - exact)).unwrap_or(0);
            assert!(written <= offset && offset - written <= exact / 2_000 + 10, "{offset}: {written}");
        }
        // The window moves on, and what lies before it is forgotten.
        marks.note(now + Millis(100), 863_000, 864_100);
        assert_eq!(marks.written_after(1_000), None);
        assert!(marks.written_after(863_000).is_some());
    }

    #[test]
    fn another_log_begins_anew() {
        let mut marks = noted(&[(0, 10), (100, 500)]);
        marks.note(Millis(200), 1, 20);
        assert_eq!(marks.written_after(15), None);
        marks.clear();
        assert_eq!(marks.lag(Millis(300), 0, 5), None);
    }
}

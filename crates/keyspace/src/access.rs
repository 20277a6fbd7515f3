//! The access clock of a key: 24 bits of its entry that say when it was last used, or how often.
//!
//! ```text
//! LRU   seconds since the epoch, modulo 2^24 (half a year)
//! LFU   bits 8..24 minutes since the epoch, modulo 2^16, of the last decay; bits 0..8 a logarithmic counter
//! ```
//!
//! Which of the two it is, the eviction policy says. The clocks that are there when the policy changes are read under
//! the new one and grow true with use, as in Redis.

/// The clock is counted modulo this.
pub const CLOCK_MASK: u32 = (1 << 24) - 1;

/// Seconds; a week below what the clock can say, so that such a key does not seem to be in use a second later.
const RESTORED_IDLE_MAX: u32 = CLOCK_MASK - 7 * 86_400;

const MINUTES_MASK: u32 = (1 << 16) - 1;

/// The counter of a new key: it is not the next to go.
const COUNTER_START: u32 = 5;
const COUNTER_MAX: u32 = 255;

/// How frequencies are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lfu {
    /// `lfu-log-factor`: the larger, the more uses a counter of 255 stands for.
    pub log_factor: u32,
    /// `lfu-decay-time`: minutes without use that take one off the counter; 0 is never.
    pub decay_minutes: u32,
}

/// What accesses are written down as, and the time for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccessClock {
    /// Frequencies are counted; otherwise the time of the last use is kept.
    pub lfu: Option<Lfu>,
    seconds: u32,
    minutes: u32,
}

/// One use of a key.
#[derive(Debug, Clone, Copy)]
pub enum Touch {
    /// Not to be counted.
    No,
    /// At this second.
    Lru(u32),
    Lfu {
        now: AccessClock,
        lfu: Lfu,
        /// Random bits: the counter grows by chance.
        draw: u64,
    },
}

impl AccessClock {
    /// Takes the wall clock, in milliseconds since the epoch.
    pub fn set_time(&mut self, unix_ms: i64) {
        let seconds = unix_ms / 1000;
        self.seconds = seconds as u32 & CLOCK_MASK;
        self.minutes = (seconds / 60) as u32 & MINUTES_MASK;
    }

    /// The LRU clock itself: `lru_clock` of `INFO`.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// The clock of a new key.
    #[inline]
    pub fn fresh(&self) -> u32 {
        match self.lfu {
            None => self.seconds,
            Some(_) => self.minutes << 8 | COUNTER_START,
        }
    }

    /// A use of a key now. `draw` gives random bits and is asked only when frequencies are counted.
    #[inline]
    pub fn touch(&self, draw: impl FnOnce() -> u64) -> Touch {
        match self.lfu {
            None => Touch::Lru(self.seconds),
            Some(lfu) => Touch::Lfu { now: *self, lfu, draw: draw() },
        }
    }

    /// Seconds since the last use of a key with this clock.
    pub fn idle_s(&self, clock: u32) -> u32 {
        self.seconds.wrapping_sub(clock) & CLOCK_MASK
    }

    /// The counter of a key with this clock, after the decay since it was last written.
    pub fn frequency(&self, clock: u32) -> u8 {
        let decay_minutes = self.lfu.map_or(0, |lfu| lfu.decay_minutes);
        let elapsed = self.minutes.wrapping_sub(clock >> 8) & MINUTES_MASK;
        let lost = elapsed.checked_div(decay_minutes).unwrap_or(0);
        (clock & COUNTER_MAX).saturating_sub(lost) as u8
    }

    /// How well a key with this clock can be spared: the larger, the sooner it goes.
    pub fn spare(&self, clock: u32) -> u32 {
        match self.lfu {
            None => self.idle_s(clock),
            Some(_) => COUNTER_MAX - u32::from(self.frequency(clock)),
        }
    }

    /// The clock of a key that comes from elsewhere with what is known of its use there, as far as the policy here can
    /// use it.
    pub fn restored(&self, idle_s: Option<u64>, frequency: Option<u8>) -> u32 {
        match (self.lfu, idle_s, frequency) {
            (None, Some(idle_s), _) => {
                self.seconds.wrapping_sub(idle_s.min(u64::from(RESTORED_IDLE_MAX)) as u32) & CLOCK_MASK
            }
            (Some(_), _, Some(frequency)) => self.minutes << 8 | u32::from(frequency),
            _ => self.fresh(),
        }
    }
}

impl Touch {
    /// The clock after the use, from the one before it.
    #[inline]
    pub fn apply(self, clock: u32) -> u32 {
        match self {
            Touch::No => clock,
            Touch::Lru(seconds) => seconds,
            Touch::Lfu { now, lfu, draw } => {
                let counter = u32::from(now.frequency(clock));
                let grown = counter < COUNTER_MAX && {
                    let beyond = f64::from(counter.saturating_sub(COUNTER_START));
                    let chance = 1.0 / (beyond * f64::from(lfu.log_factor) + 1.0);
                    // 53 random bits as a number in 0..1.
                    ((draw >> 11) as f64 / (1u64 << 53) as f64) < chance
                };
                now.minutes << 8 | (counter + u32::from(grown))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lfu(log_factor: u32, decay_minutes: u32) -> AccessClock {
        let mut clock =
            AccessClock { lfu: Some(Lfu { log_factor, decay_minutes }), ..AccessClock::default() };
        clock.set_time(1_700_000_000_000);
        clock
    }

    fn random_numbers(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    #[test]
    fn idle_time_runs_through_the_wrap() {
        let mut clock = AccessClock::default();
        clock.set_time((i64::from(CLOCK_MASK) - 1) * 1000);
        let before = clock.touch(|| unreachable!("the time needs no chance")).apply(7);
        clock.set_time((i64::from(CLOCK_MASK) + 4) * 1000);
        assert_eq!((clock.idle_s(before), clock.spare(before)), (5, 5));
        assert_eq!(clock.idle_s(clock.restored(Some(1000), Some(9))), 1000);
        assert_eq!(clock.idle_s(clock.restored(Some(1 << 40), None)), RESTORED_IDLE_MAX);
        assert_eq!(clock.restored(None, Some(9)), clock.fresh());
    }

    /// The table of redis.conf: the counter after so many uses, by the factor.
    #[test]
    fn counters_grow_with_the_logarithm_of_the_uses() {
        for (factor, uses, low, high) in [
            (0, 100, 104, 106),
            (0, 1000, 255, 255),
            (1, 100, 14, 24),
            (1, 1000, 42, 58),
            (10, 100, 8, 14),
            (10, 100_000, 130, 156),
            (100, 1000, 8, 15),
        ] {
            let clock = lfu(factor, 1);
            let mut random = random_numbers(u64::from(factor) + uses);
            let end = (0..uses).fold(clock.fresh(), |at, _| clock.touch(&mut random).apply(at));
            let counter = clock.frequency(end);
            assert!((low..=high).contains(&counter), "factor {factor}, {uses} uses: {counter}");
        }
    }

    #[test]
    fn counters_decay_with_time_and_not_below_zero() {
        let mut clock = lfu(10, 2);
        let at = clock.restored(None, Some(100));
        assert_eq!(clock.frequency(at), 100);
        clock.set_time(1_700_000_000_000 + 9 * 60_000);
        assert_eq!((clock.frequency(at), clock.spare(at)), (96, 159));
        clock.set_time(1_700_000_000_000 + 1000 * 60_000);
        assert_eq!(clock.frequency(at), 0);
        // One use more and it counts from there.
        assert_eq!(clock.frequency(clock.touch(|| 0).apply(at)), 1);
        clock.lfu = Some(Lfu { log_factor: 10, decay_minutes: 0 });
        assert_eq!(clock.frequency(at), 100, "without a decay time nothing decays");
    }

    #[test]
    fn what_is_not_counted_changes_nothing() {
        assert_eq!(Touch::No.apply(12345), 12345);
    }
}

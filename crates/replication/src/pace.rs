//! How fast snapshots may be sent, all of them together (`repl-full-sync-rate`).
//!
//! Bytes accrue with time. Once a round they are divided equally among the transfers that can use them; what one has not
//! used by the next round goes back to all. So a transfer that waits (for its reader, for the encoder, for a file) costs
//! the others nothing, and no round is ever far from the rate. Who has used its share up waits for the next round, which
//! [`Pace::due`] tells; nothing is to be asked before.

use crate::Millis;

/// A round takes so long, unless the rate is so low that it would be a few bytes.
const ROUND: Millis = Millis(10);
const LONG_ROUND: Millis = Millis(1000);
/// Bytes that a round is to have.
const ROUND_BYTES: u64 = 1024;

/// What may be saved up, besides one round, so that a late round loses nothing.
const SAVED: Millis = Millis(100);

/// The shares of the transfers, which are known as `K`.
#[derive(Clone, Debug)]
pub struct Pace<K> {
    /// Bytes per second; zero is no limit.
    rate: u64,
    shares: Vec<(K, u64)>,
    /// What nobody has got.
    spare: u64,
    /// Thousandths of a byte that have accrued besides.
    thousandths: u64,
    /// When the last round began: what accrued until then is divided.
    began: Millis,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Pace { rate: 0, shares: Vec::new(), spare: 0, thousandths: 0, began: Millis(0) }
    }
}

impl<K: Copy + PartialEq> Pace<K> {
    /// Time has passed, or something has changed: `readers` are the transfers that can use a share. Those that had
    /// none and have one now are put on `awake`.
    pub fn step(&mut self, now: Millis, rate: u64, readers: &[K], awake: &mut Vec<K>) {
        if rate != self.rate {
            // Those who wait under the old rate begin anew under the new one.
            let waited = self.shares.iter().filter(|(_, share)| *share == 0).map(|(key, _)| *key);
            if rate == 0 {
                awake.extend(waited);
            }
            let shares = std::mem::take(&mut self.shares);
            *self = Pace { rate, shares, began: now, ..Pace::default() };
            self.shares.iter_mut().for_each(|(_, share)| *share = 0);
        }
        if rate == 0 {
            return self.shares.clear();
        }
        let mut returned = 0;
        self.shares.retain(|(key, share)| {
            let stays = readers.contains(key);
            returned += if stays { 0 } else { *share };
            stays
        });
        self.spare += returned;
        for key in readers {
            if self.shares.iter().all(|(known, _)| known != key) {
                self.shares.push((*key, 0));
            }
        }
        if now >= self.began + self.round() {
            self.divide(now, awake);
        }
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.rate > 0
    }

    /// How many bytes this transfer may send now.
    pub fn share(&self, key: K) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        self.shares.iter().find(|(known, _)| *known == key).map_or(0, |(_, share)| *share)
    }

    /// It has sent so many of them.
    pub fn sent(&mut self, key: K, bytes: u64) {
        if let Some((_, share)) = self.shares.iter_mut().find(|(known, _)| *known == key) {
            *share = share.saturating_sub(bytes);
        }
    }

    /// When the last round began: who has taken nothing since before that needs no share of the next.
    pub fn began(&self) -> Millis {
        self.began
    }

    /// When [`Pace::step`] is to be called again, if somebody waits for it.
    pub fn due(&self) -> Option<Millis> {
        let waits = self.shares.iter().any(|(_, share)| *share == 0);
        waits.then(|| self.began + self.round())
    }

    fn round(&self) -> Millis {
        Millis((ROUND_BYTES * 1000 / self.rate.max(1)).clamp(ROUND.0, LONG_ROUND.0))
    }

    fn divide(&mut self, now: Millis, awake: &mut Vec<K>) {
        let gained =
            u128::from(self.rate) * u128::from(now.since(self.began).0) + u128::from(self.thousandths);
        self.began = now;
        self.thousandths = (gained % 1000) as u64;
        let unused: u64 = self.shares.iter().map(|(_, share)| *share).sum();
        let most = u128::from(self.rate) * u128::from((self.round() + SAVED).0) / 1000;
        let count = self.shares.len() as u64;
        // However low the rate is, a byte for each is saved up at last.
        let most = most.max(u128::from(count)).max(1);
        let total = (u128::from(self.spare + unused) + gained / 1000).min(most) as u64;
        let each = total.checked_div(count).unwrap_or(0);
        self.spare = total - each * count;
        for (key, share) in &mut self.shares {
            if *share == 0 && each > 0 {
                awake.push(*key);
            }
            *share = each;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `ms` milliseconds in which each of `readers` takes at most so many bytes in one of them; what each took.
    fn play(pace: &mut Pace<usize>, from: u64, ms: u64, rate: u64, readers: &[u64]) -> Vec<u64> {
        let keys: Vec<usize> = (0..readers.len()).collect();
        let mut taken = vec![0; readers.len()];
        for now in from..from + ms {
            pace.step(Millis(now), rate, &keys, &mut Vec::new());
            for (key, most) in readers.iter().enumerate() {
                let bytes = pace.share(key).min(*most);
                pace.sent(key, bytes);
                taken[key] += bytes;
            }
        }
        taken
    }

    #[test]
    fn together_they_get_the_rate_and_each_the_same() {
        for rate in [1, 999, 1_000, 12_345, 1_000_000, 1 << 50] {
            let mut pace = Pace::default();
            let taken = play(&mut pace, 1_000_000, 20_000, rate, &[u64::MAX; 3]);
            let total: u128 = taken.iter().map(|bytes| u128::from(*bytes)).sum();
            let (least, most) = (u128::from(rate) * 18, u128::from(rate) * 20 + 1);
            assert!(total >= least && total <= most, "{rate}: {total}");
            let spread = taken.iter().max().expect("three") - taken.iter().min().expect("three");
            assert!(spread <= rate / 50 + 1, "{rate}: {taken:?}");
        }
    }

    #[test]
    fn what_one_leaves_the_others_get() {
        let mut pace = Pace::default();
        // One takes nothing, one a tenth of its share.
        let taken = play(&mut pace, 5_000, 10_000, 300_000, &[0, 10, u64::MAX]);
        assert_eq!(taken[0], 0);
        assert!(taken[1] >= 95_000, "{taken:?}");
        let total: u64 = taken.iter().sum();
        assert!((2_700_000..=3_100_000).contains(&total), "{taken:?}");
    }

    #[test]
    fn nothing_is_saved_up_for_long_and_a_late_round_loses_nothing() {
        let mut pace = Pace::default();
        let mut awake = Vec::new();
        pace.step(Millis(0), 100_000, &[], &mut awake);
        pace.step(Millis(3_600_000), 100_000, &[7], &mut awake);
        assert_eq!((pace.share(7), awake.as_slice()), (11_000, &[7][..]));
        let mut total = 0;
        for round in 1..=100 {
            pace.sent(7, pace.share(7));
            pace.step(Millis(3_600_000 + round * 100), 100_000, &[7], &mut awake);
            total += pace.share(7);
        }
        assert_eq!(total, 1_000_000);
    }

    #[test]
    fn it_is_due_when_somebody_has_nothing_left_and_not_before() {
        let mut pace = Pace::default();
        let mut awake = Vec::new();
        assert_eq!((pace.share(1), pace.due()), (u64::MAX, None));
        pace.step(Millis(100), 1_000_000, &[1, 2], &mut awake);
        assert_eq!((pace.share(1), pace.due()), (0, Some(Millis(110))));
        pace.step(Millis(109), 1_000_000, &[1, 2], &mut awake);
        assert_eq!(pace.share(1), 0);
        pace.step(Millis(110), 1_000_000, &[1, 2], &mut awake);
        assert_eq!((pace.share(1), pace.due()), (5_000, None));
        assert_eq!(std::mem::take(&mut awake), [1, 2]);
        pace.sent(2, 5_000);
        assert_eq!(pace.due(), Some(Millis(120)));
        // The first is gone: what it had goes to the second.
        pace.step(Millis(120), 1_000_000, &[2], &mut awake);
        assert_eq!((pace.share(2), pace.share(1)), (15_000, 0));
        pace.sent(2, 15_000);
        awake.clear();
        // The limit is lifted.
        pace.step(Millis(121), 0, &[2], &mut awake);
        assert_eq!((pace.share(2), pace.due(), awake.as_slice()), (u64::MAX, None, &[2][..]));
    }
}

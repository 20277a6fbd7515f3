//! The real world as the engine sees it: clocks, entropy, the process.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use engine::env::Env;

use crate::allocator;

pub struct ProcessEnv {
    origin: Instant,
    rng: Xoshiro,
}

impl ProcessEnv {
    /// Takes its seed from the system.
    pub fn new() -> std::io::Result<ProcessEnv> {
        let mut seed = [0; 32];
        let mut filled = 0;
        while filled < seed.len() {
            filled += rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        let word = |index: usize| u64::from_le_bytes(seed[index * 8..][..8].try_into().expect("eight bytes"));
        let rng = Xoshiro { state: [word(0) | 1, word(1), word(2), word(3)] };
        Ok(ProcessEnv { origin: Instant::now(), rng })
    }
}

impl Env for ProcessEnv {
    fn unix_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or_else(|before| -(before.duration().as_millis() as i64), |since| since.as_millis() as i64)
    }

    #[inline]
    fn monotonic_us(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    fn random(&mut self) -> u64 {
        self.rng.next()
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }

    fn used_memory(&self) -> u64 {
        allocator::used_bytes()
    }
}

/// xoshiro256++ by Blackman and Vigna.
struct Xoshiro {
    state: [u64; 4],
}

impl Xoshiro {
    fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_xoshiro256pp() {
        // The first outputs for the state 1, 2, 3, 4, from the reference implementation.
        let mut rng = Xoshiro { state: [1, 2, 3, 4] };
        assert_eq!([rng.next(), rng.next(), rng.next()], [41_943_041, 58_720_359, 3_588_806_011_781_223]);
    }

    #[test]
    fn clocks_run_forward() {
        let mut env = ProcessEnv::new().unwrap();
        let (wall, monotonic) = (env.unix_ms(), env.monotonic_us());
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert!(wall > 1_600_000_000_000 && env.unix_ms() >= wall);
        assert!(env.monotonic_us() - monotonic >= 3000);
        assert_ne!(env.random(), env.random());
    }
}

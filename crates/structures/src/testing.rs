//! How much the tests do: less under Miri, which interprets and is a thousand times slower.

use proptest::prelude::ProptestConfig;

/// `count`, or what is enough for Miri to reach every place of the code.
pub const fn fewer(count: usize, under_miri: usize) -> usize {
    if cfg!(miri) { under_miri } else { count }
}

/// This many random cases, of which none is kept in a file.
pub fn cases(count: u32, under_miri: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { under_miri } else { count };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// splitmix64.
pub fn random_numbers(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

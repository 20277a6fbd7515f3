//! Loops over bytes in the widest vectors that the processor at hand has, found out while running: a build for any
//! x86-64 then uses what a build for its own machine would, and no build has to be chosen. Each function says with
//! `false` or `None` that the processor lacks what it needs; the caller's own loop, which is also what the results are
//! tested against, does the work then. Miri, for which the compiler has to be told, has AVX2 and no AVX-512.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

/// Number of set bits.
#[cfg(not(target_arch = "x86_64"))]
pub fn count_ones(_bytes: &[u8]) -> Option<u64> {
    None
}

/// Unpacks registers of 6 bits, the first in the lowest bits of the first byte, and raises those of `registers`, a byte
/// each, to them. `packed` is three quarters as long as `registers`.
#[cfg(not(target_arch = "x86_64"))]
pub fn raise_registers(_registers: &mut [u8], _packed: &[u8]) -> bool {
    false
}

/// The way back: packs `registers`, of which none exceeds 63.
#[cfg(not(target_arch = "x86_64"))]
pub fn pack_registers(_registers: &[u8], _packed: &mut [u8]) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::*;

    /// Registers of 6 bits in a vector of bytes, and the bytes that they are packed in.
    const REGISTERS: usize = 32;
    const PACKED: usize = 24;

    /// Number of set bits.
    pub fn count_ones(bytes: &[u8]) -> Option<u64> {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq") {
            // SAFETY: the processor has these instructions.
            return Some(unsafe { count_ones_avx512(bytes) });
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has these instructions.
            return Some(unsafe { count_ones_avx2(bytes) });
        }
        None
    }

    #[target_feature(enable = "avx512f,avx512vpopcntdq")]
    fn count_ones_avx512(bytes: &[u8]) -> u64 {
        count_words(bytes)
    }

    #[target_feature(enable = "avx2,popcnt")]
    fn count_ones_avx2(bytes: &[u8]) -> u64 {
        count_words(bytes)
    }

    /// The compiler makes of this what the features of the function that it becomes a part of allow.
    #[inline(always)]
    fn count_words(bytes: &[u8]) -> u64 {
        let (words, tail) = bytes.as_chunks::<8>();
        words.iter().map(|word| u64::from(u64::from_le_bytes(*word).count_ones())).sum::<u64>()
            + tail.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
    }

    /// Unpacks registers of 6 bits, the first in the lowest bits of the first byte, and raises those of `registers`, a
    /// byte each, to them. `packed` is three quarters as long as `registers`, whose length is a multiple of 64.
    pub fn raise_registers(registers: &mut [u8], packed: &[u8]) -> bool {
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vbmi") {
            // SAFETY: the processor has these instructions.
            unsafe { raise_registers_avx512(registers, packed) };
            return true;
        }
        let has = is_x86_feature_detected!("avx2");
        if has {
            // SAFETY: the processor has these instructions.
            unsafe { raise_registers_avx2(registers, packed) };
        }
        has
    }

    /// One instruction gives each word of eight bytes its six, another takes eight times 8 bits from it at any place.
    #[target_feature(enable = "avx512bw,avx512vbmi")]
    fn raise_registers_avx512(registers: &mut [u8], packed: &[u8]) {
        let (registers, rest) = registers.as_chunks_mut::<64>();
        let (packed, packed_rest) = packed.as_chunks::<48>();
        assert!(registers.len() == packed.len() && rest.is_empty() && packed_rest.is_empty());
        let apart: [u8; 64] = std::array::from_fn(|at| (at / 8 * 6 + (at % 8).min(5)) as u8);
        // SAFETY: the 64 bytes of `apart`, at any alignment.
        let apart = unsafe { _mm512_loadu_si512(apart.as_ptr().cast()) };
        let places = _mm512_set1_epi64(0x2a24_1e18_120c_0600);
        let low = _mm512_set1_epi8(0x3f);
        for (mine, packed) in registers.iter_mut().zip(packed) {
            let mine = mine.as_mut_ptr();
            // SAFETY: the mask leaves of the 64 bytes the 48 that `packed` has; `mine` has 64; at any alignment.
            let (x, old) = unsafe {
                let x = _mm512_maskz_loadu_epi8((1 << 48) - 1, packed.as_ptr().cast());
                (x, _mm512_loadu_si512(mine.cast()))
            };
            let x = _mm512_multishift_epi64_epi8(places, _mm512_permutexvar_epi8(apart, x));
            let new = _mm512_max_epu8(old, _mm512_and_si512(x, low));
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(mine.cast(), new) };
        }
    }

    #[target_feature(enable = "avx2")]
    fn raise_registers_avx2(registers: &mut [u8], packed: &[u8]) {
        let (registers, rest) = registers.as_chunks_mut::<REGISTERS>();
        let (packed, packed_rest) = packed.as_chunks::<PACKED>();
        assert!(registers.len() == packed.len() && rest.is_empty() && packed_rest.is_empty());
        // Three bytes, which are four registers, to each place of four bytes. The upper half starts at the eighth byte
        // so that reading it does not go beyond the last; what belongs to it starts at the twelfth.
        let apart = _mm256_setr_epi8(
            0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, //
            4, 5, 6, -1, 7, 8, 9, -1, 10, 11, 12, -1, 13, 14, 15, -1,
        );
        let place = |byte: i32| _mm256_set1_epi32(0x3f << (8 * byte));
        let places = [place(0), place(1), place(2), place(3)];
        for (mine, packed) in registers.iter_mut().zip(packed) {
            let mine = mine.as_mut_ptr().cast();
            // SAFETY: bytes 0 to 15 and 8 to 23 of the 24 that `packed` has, and the 32 of `mine`; none of these loads
            // and stores asks for an alignment.
            let (low, high, old) = unsafe {
                let low = packed.as_ptr();
                (_mm_loadu_si128(low.cast()), _mm_loadu_si128(low.add(8).cast()), _mm256_loadu_si256(mine))
            };
            let x = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), apart);
            let new = _mm256_or_si256(
                _mm256_or_si256(
                    _mm256_and_si256(x, places[0]),
                    _mm256_and_si256(_mm256_slli_epi32::<2>(x), places[1]),
                ),
                _mm256_or_si256(
                    _mm256_and_si256(_mm256_slli_epi32::<4>(x), places[2]),
                    _mm256_and_si256(_mm256_slli_epi32::<6>(x), places[3]),
                ),
            );
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(mine, _mm256_max_epu8(old, new)) };
        }
    }

    /// The way back: packs `registers`, of which none exceeds 63. Lengths as for [`raise_registers`].
    pub fn pack_registers(registers: &[u8], packed: &mut [u8]) -> bool {
        let has = is_x86_feature_detected!("avx2");
        if has {
            // SAFETY: the processor has these instructions.
            unsafe { pack_registers_avx2(registers, packed) };
        }
        has
    }

    #[target_feature(enable = "avx2")]
    fn pack_registers_avx2(registers: &[u8], packed: &mut [u8]) {
        let (registers, rest) = registers.as_chunks::<REGISTERS>();
        let (packed, packed_rest) = packed.as_chunks_mut::<PACKED>();
        assert!(registers.len() == packed.len() && rest.is_empty() && packed_rest.is_empty());
        // Pairs to 12 bits, pairs of pairs to 24, and these side by side.
        let pairs = _mm256_set1_epi16(0x4001);
        let fours = _mm256_set1_epi32(0x1000_0001);
        let together = _mm256_setr_epi8(
            0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, //
            0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,
        );
        for (mine, packed) in registers.iter().zip(packed) {
            // SAFETY: the 32 bytes of `mine`, at any alignment.
            let x = unsafe { _mm256_loadu_si256(mine.as_ptr().cast()) };
            let x = _mm256_madd_epi16(_mm256_maddubs_epi16(x, pairs), fours);
            let x = _mm256_shuffle_epi8(x, together);
            let mut halves = [0; REGISTERS];
            // SAFETY: the 32 bytes of `halves`, at any alignment.
            unsafe { _mm256_storeu_si256(halves.as_mut_ptr().cast(), x) };
            packed[..12].copy_from_slice(&halves[..12]);
            packed[12..].copy_from_slice(&halves[16..28]);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn each_kind_of_count_agrees() {
            let bytes: Vec<u8> = (0..1000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
            for part in [&bytes[..], &bytes[1..], &bytes[3..70], &bytes[..7], &[]] {
                let expected = part.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
                if let Some(count) = count_ones(part) {
                    assert_eq!(count, expected);
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
                    // SAFETY: the processor has these instructions.
                    assert_eq!(unsafe { count_ones_avx2(part) }, expected);
                }
            }
        }

        #[test]
        fn each_kind_of_unpacking_agrees() {
            let random = |n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8;
            let packed: Vec<u8> = (0..480).map(random).collect();
            let old: Vec<u8> = (1000..1640).map(|n| random(n) & 0x3f).collect();
            let expected: Vec<u8> = (0..old.len())
                .map(|at| {
                    let (byte, bit) = (at * 6 / 8, at * 6 % 8);
                    let next = packed.get(byte + 1).copied().unwrap_or(0);
                    let register = u16::from_le_bytes([packed[byte], next]) >> bit & 0x3f;
                    old[at].max(register as u8)
                })
                .collect();
            let mut registers = old.clone();
            if raise_registers(&mut registers, &packed) {
                assert_eq!(registers, expected);
            }
            if is_x86_feature_detected!("avx2") {
                let mut registers = old;
                // SAFETY: the processor has these instructions.
                unsafe { raise_registers_avx2(&mut registers, &packed) };
                assert_eq!(registers, expected);
                let (mut unpacked, mut again) = (vec![0; 640], vec![0; 480]);
                assert!(raise_registers(&mut unpacked, &packed) && pack_registers(&unpacked, &mut again));
                assert_eq!(again, packed);
            }
        }
    }
}

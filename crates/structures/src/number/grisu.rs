//! Grisu2: the decimal digits of a double, with 64-bit arithmetic only.
//!
//! Scales the double and the boundaries of its rounding interval by a cached power of ten, then generates digits until
//! what is left fits in the interval. The digits always read back as the same double; they are the shortest and
//! nearest ones in about 99.7 % of cases. Source: F. Loitsch, "Printing floating-point numbers quickly and accurately
//! with integers", PLDI 2010, figure 4 and the rounding of the last digit described in its section 5.
//!
//! Redis prints scores with an implementation of the same algorithm, so the choices that the paper leaves open (which
//! cached power, how a product is rounded, wrap-around in the last digit's correction) are made as there: any other
//! choice would print some scores differently.

/// Most digits that a double needs, and that the algorithm generates.
pub(super) const DIGITS_MAX: usize = 18;

/// Cached powers are 10^k, k = -348, -340, …, 340.
const POWER_MIN: i32 = -348;
const POWER_STEP: i32 = 8;
const SIGNIFICANDS: [u64; 87] = [
    0xfa8f_d5a0_081c_0288,
    0xbaae_e17f_a23e_bf76,
    0x8b16_fb20_3055_ac76,
    0xcf42_894a_5dce_35ea,
    0x9a6b_b0aa_5565_3b2d,
    0xe61a_cf03_3d1a_45df,
    0xab70_fe17_c79a_c6ca,
    0xff77_b1fc_bebc_dc4f,
    0xbe56_91ef_416b_d60c,
    0x8dd0_1fad_907f_fc3c,
    0xd351_5c28_3155_9a83,
    0x9d71_ac8f_ada6_c9b5,
    0xea9c_2277_23ee_8bcb,
    0xaecc_4991_4078_536d,
    0x823c_1279_5db6_ce57,
    0xc210_9436_4dfb_5637,
    0x9096_ea6f_3848_984f,
    0xd774_85cb_2582_3ac7,
    0xa086_cfcd_97bf_97f4,
    0xef34_0a98_172a_ace5,
    0xb238_67fb_2a35_b28e,
    0x84c8_d4df_d2c6_3f3b,
    0xc5dd_4427_1ad3_cdba,
    0x936b_9fce_bb25_c996,
    0xdbac_6c24_7d62_a584,
    0xa3ab_6658_0d5f_daf6,
    0xf3e2_f893_dec3_f126,
    0xb5b5_ada8_aaff_80b8,
    0x8762_5f05_6c7c_4a8b,
    0xc9bc_ff60_34c1_3053,
    0x964e_858c_91ba_2655,
    0xdff9_7724_7029_7ebd,
    0xa6df_bd9f_b8e5_b88f,
    0xf8a9_5fcf_8874_7d94,
    0xb944_7093_8fa8_9bcf,
    0x8a08_f0f8_bf0f_156b,
    0xcdb0_2555_6531_31b6,
    0x993f_e2c6_d07b_7fac,
    0xe45c_10c4_2a2b_3b06,
    0xaa24_2499_6973_92d3,
    0xfd87_b5f2_8300_ca0e,
    0xbce5_0864_9211_1aeb,
    0x8cbc_cc09_6f50_88cc,
    0xd1b7_1758_e219_652c,
    0x9c40_0000_0000_0000,
    0xe8d4_a510_0000_0000,
    0xad78_ebc5_ac62_0000,
    0x813f_3978_f894_0984,
    0xc097_ce7b_c907_15b3,
    0x8f7e_32ce_7bea_5c70,
    0xd5d2_38a4_abe9_8068,
    0x9f4f_2726_179a_2245,
    0xed63_a231_d4c4_fb27,
    0xb0de_6538_8cc8_ada8,
    0x83c7_088e_1aab_65db,
    0xc45d_1df9_4271_1d9a,
    0x924d_692c_a61b_e758,
    0xda01_ee64_1a70_8dea,
    0xa26d_a399_9aef_774a,
    0xf209_787b_b47d_6b85,
    0xb454_e4a1_79dd_1877,
    0x865b_8692_5b9b_c5c2,
    0xc835_53c5_c896_5d3d,
    0x952a_b45c_fa97_a0b3,
    0xde46_9fbd_99a0_5fe3,
    0xa59b_c234_db39_8c25,
    0xf6c6_9a72_a398_9f5c,
    0xb7dc_bf53_54e9_bece,
    0x88fc_f317_f222_41e2,
    0xcc20_ce9b_d35c_78a5,
    0x9816_5af3_7b21_53df,
    0xe2a0_b5dc_971f_303a,
    0xa8d9_d153_5ce3_b396,
    0xfb9b_7cd9_a4a7_443c,
    0xbb76_4c4c_a7a4_4410,
    0x8bab_8eef_b640_9c1a,
    0xd01f_ef10_a657_842c,
    0x9b10_a4e5_e991_3129,
    0xe710_9bfb_a19c_0c9d,
    0xac28_20d9_623b_f429,
    0x8044_4b5e_7aa7_cf85,
    0xbf21_e440_03ac_dd2d,
    0x8e67_9c2f_5e44_ff8f,
    0xd433_179d_9c8c_b841,
    0x9e19_db92_b4e3_1ba9,
    0xeb96_bf6e_badf_77d9,
    0xaf87_023b_9bf0_ee6b,
];

/// The scaled upper boundary has its binary point between bit 32 and bit 60: the integer part fits 32 bits, and four
/// bits stay free above the fraction for a multiplication by ten.
const SCALED_EXPONENTS: std::ops::RangeInclusive<i32> = -60..=-32;

const SIGNIFICAND_BITS: i32 = 52;
const HIDDEN_BIT: u64 = 1 << SIGNIFICAND_BITS;
const EXPONENT_BIAS: i32 = 1023 + SIGNIFICAND_BITS;

/// significand × 2^exponent.
#[derive(Clone, Copy)]
struct Scaled {
    significand: u64,
    exponent: i32,
}

impl Scaled {
    fn normalized(self) -> Scaled {
        let shift = self.significand.leading_zeros();
        Scaled { significand: self.significand << shift, exponent: self.exponent - shift as i32 }
    }

    /// The upper 64 bits of the product, rounded half up.
    fn times(self, other: Scaled) -> Scaled {
        let product = u128::from(self.significand) * u128::from(other.significand) + (1 << 63);
        Scaled { significand: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

/// Writes the digits of `value`, positive and finite, and returns how many and the exponent:
/// value = digits × 10^exponent. Neither the first nor the last digit is 0.
pub(super) fn digits(value: f64, out: &mut [u8; DIGITS_MAX]) -> (usize, i32) {
    debug_assert!(value > 0.0 && value.is_finite(), "Grisu2 takes positive finite doubles");
    let bits = value.to_bits();
    let fraction = bits & (HIDDEN_BIT - 1);
    let exact = match (bits >> SIGNIFICAND_BITS) as i32 {
        0 => Scaled { significand: fraction, exponent: 1 - EXPONENT_BIAS },
        biased => Scaled { significand: fraction | HIDDEN_BIT, exponent: biased - EXPONENT_BIAS },
    };
    // Halfway to the neighbours; below a power of two the neighbour is half as far.
    let upper =
        Scaled { significand: (exact.significand << 1) + 1, exponent: exact.exponent - 1 }.normalized();
    let closer = if exact.significand == HIDDEN_BIT { 2 } else { 1 };
    let lower_exponent = exact.exponent - closer;
    let lower = Scaled {
        significand: ((exact.significand << closer) - 1) << (lower_exponent - upper.exponent),
        exponent: upper.exponent,
    };

    let (power, decimal_exponent) = cached_power(upper.exponent);
    let scaled = exact.normalized().times(power).significand;
    let upper = upper.times(power);
    // The products are off by up to one unit: shrink the interval by as much.
    let top = upper.significand - 1;
    let interval = top - (lower.times(power).significand + 1);
    generate(top, -upper.exponent as u32, interval, top - scaled, -decimal_exponent, out)
}

/// The first cached power that brings `exponent` up into the scaled range, and its k.
fn cached_power(exponent: i32) -> (Scaled, i32) {
    let at_index = |index: usize| {
        let k = POWER_MIN + index as i32 * POWER_STEP;
        // floor(k × log2 10) without floating point, exact in the table's range
        (Scaled { significand: SIGNIFICANDS[index], exponent: ((k * 217_706) >> 16) - 63 }, k)
    };
    // log10 2 as a fraction: at or just below the wanted index.
    let below = (-(exponent + 64 + 64) * 78_913) >> 18;
    let mut index = ((below - POWER_MIN) / POWER_STEP).max(0) as usize;
    loop {
        let (power, k) = at_index(index);
        if exponent + power.exponent + 64 >= *SCALED_EXPONENTS.start() {
            return (power, k);
        }
        index += 1;
    }
}

/// Generates digits of `top` (a fixed-point number with `shift` fraction bits) until the rest is inside `interval`,
/// then lowers the last digit towards the exact value, which lies `distance` below the top.
fn generate(
    top: u64,
    shift: u32,
    mut interval: u64,
    distance: u64,
    exponent: i32,
    out: &mut [u8; DIGITS_MAX],
) -> (usize, i32) {
    let one = 1u64 << shift;
    let mut integer = top >> shift;
    let mut fraction = top & (one - 1);
    let mut len = 0;
    let mut kappa = integer.checked_ilog10().map_or(0, |log| log as i32 + 1);
    let mut weight = 10u64.pow(kappa.max(1) as u32 - 1);
    while kappa > 0 {
        out[len] = b'0' + (integer / weight) as u8;
        len += 1;
        integer %= weight;
        kappa -= 1;
        let rest = (integer << shift).wrapping_add(fraction);
        if rest <= interval {
            lower_last(&mut out[len - 1], interval, rest, weight << shift, distance);
            return (len, exponent + kappa);
        }
        weight /= 10;
    }
    let mut unit = 1u64;
    loop {
        fraction = fraction.wrapping_mul(10);
        interval = interval.wrapping_mul(10);
        unit = unit.wrapping_mul(10);
        kappa -= 1;
        let digit = (fraction >> shift) as u8;
        if digit != 0 || len > 0 {
            out[len] = b'0' + digit;
            len += 1;
        }
        fraction &= one - 1;
        if fraction < interval {
            lower_last(&mut out[len - 1], interval, fraction, one, distance.wrapping_mul(unit));
            return (len, exponent + kappa);
        }
    }
}

/// Lowers the last digit while that stays in the interval and comes closer to the exact value. `weight` is what one of
/// that digit is worth.
fn lower_last(digit: &mut u8, interval: u64, mut rest: u64, weight: u64, distance: u64) {
    while rest < distance && interval - rest >= weight {
        let next = rest.wrapping_add(weight);
        if next >= distance && distance - rest <= next - distance {
            break;
        }
        *digit -= 1;
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustc_apfloat::ieee::Quad;
    use rustc_apfloat::{Float, Round};

    use super::*;
    use crate::testing::cases;

    fn text(value: f64) -> String {
        let mut out = [0; DIGITS_MAX];
        let (len, exponent) = digits(value, &mut out);
        format!("{}e{exponent}", str::from_utf8(&out[..len]).unwrap())
    }

    /// The table against correctly rounded 113-bit powers from another implementation.
    #[test]
    fn cached_powers_are_powers_of_ten() {
        for (index, &significand) in SIGNIFICANDS.iter().enumerate() {
            let k = POWER_MIN + index as i32 * POWER_STEP;
            let quad = Quad::from_str_r(&format!("1e{k}"), Round::NearestTiesToEven).unwrap().value.to_bits();
            let wide = (quad & ((1 << 112) - 1)) | 1 << 112;
            assert_eq!(u128::from(significand), (wide + (1 << 48)) >> 49, "10^{k}");
            assert_eq!(((k * 217_706) >> 16) - 63, (quad >> 112) as i32 - 16383 - 63, "10^{k}");
        }
    }

    /// Digits where Grisu2 is not the shortest or not the nearest: what Redis 7.2 and later print.
    #[test]
    fn misses_are_the_known_misses() {
        assert_eq!(text(5088.25027), "50882502699999995e-13");
        assert_eq!(text(97292184331072.12), "9729218433107213e-2");
        assert_eq!(text(251.4142411131768), "25141424111317679e-14");
    }

    proptest! {
        #![proptest_config(cases(256, 2))]

        #[test]
        fn digits_read_back(bits in 1u64..0x7ff0_0000_0000_0000) {
            let value = f64::from_bits(bits);
            let text = text(value);
            prop_assert_eq!(text.parse(), Ok(value));
            prop_assert!(!text.starts_with('0') && !text.contains("0e"), "{}", text);
        }
    }
}

//! Glob patterns as Redis matches them: `KEYS`, `SCAN MATCH`, `PSUBSCRIBE`, `CONFIG GET`, ACL key and channel patterns.
//!
//! `*` any run of bytes, `?` one byte, `[ab]`, `[^ab]`, `[a-z]` one byte of a class, `\x` the byte x.
//!
//! Corners that clients can observe, and that are therefore as in Redis: an empty text matches only an empty pattern,
//! not even `*`; an unterminated class ends with the pattern; in a class, `\` escapes, a range may be written backwards,
//! its ends compare as signed bytes, and an escaped byte compares exactly even when case is ignored; `[]` matches
//! nothing and `[^]` any byte.
//!
//! A mismatch goes back to the last `*` only: an earlier one could not do better, since what stands between the two has
//! already matched at the first possible place. So matching takes O(pattern × text) steps at most, and no recursion.

/// Whether `text` matches `pattern`, byte by byte.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run::<false>(pattern, text)
}

/// As [`matches`], taking ASCII letters of either case as equal.
pub fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    run::<true>(pattern, text)
}

/// Redis recurses at each `*` and gives up, without a match, below this depth.
const STARS_MAX: usize = 1000;

fn run<const NO_CASE: bool>(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // After the last `*`: where the pattern goes on, and where in the text it was last tried.
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    while t < text.len() {
        match pattern.get(p) {
            Some(&b'*') => {
                while pattern.get(p) == Some(&b'*') {
                    p += 1;
                }
                if p == pattern.len() {
                    return true;
                }
                stars += 1;
                if stars > STARS_MAX {
                    return false;
                }
                retry = Some((p, t));
                continue;
            }
            Some(&literal) if !is_special(literal) => {
                if same::<NO_CASE>(literal, text[t]) {
                    (p, t) = (p + 1, t + 1);
                    continue;
                }
            }
            _ => {
                if let Some(next) = step::<NO_CASE>(pattern, p, text[t]) {
                    (p, t) = (next, t + 1);
                    continue;
                }
            }
        }
        let Some((after_star, tried)) = &mut retry else { return false };
        *tried += 1;
        // A literal after the star can only match where it stands in the text.
        let literal = pattern[*after_star];
        if !is_special(literal) {
            let Some(skip) = text[*tried..].iter().position(|&byte| same::<NO_CASE>(literal, byte)) else {
                return false;
            };
            *tried += skip;
        }
        (p, t) = (*after_star, *tried);
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Matches one byte against the pattern's element at `p`, which is not `*`; returns where the next element starts.
#[inline]
fn step<const NO_CASE: bool>(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => class::<NO_CASE>(pattern, p + 1, byte),
        b'\\' if p + 1 < pattern.len() => same::<NO_CASE>(pattern[p + 1], byte).then_some(p + 2),
        literal => same::<NO_CASE>(literal, byte).then_some(p + 1),
    }
}

/// Matches one byte against a class whose first byte after `[` is at `p`.
fn class<const NO_CASE: bool>(pattern: &[u8], mut p: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let mut found = false;
    loop {
        match pattern[p..] {
            [] => break,
            [b']', ..] => {
                p += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                p += 2;
            }
            [start, b'-', end, ..] => {
                found |= in_range::<NO_CASE>(start, end, byte);
                p += 3;
            }
            [member, ..] => {
                found |= same::<NO_CASE>(member, byte);
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

/// Bytes are signed here because `char` is on the machines that Redis is mostly run on. The ends are put in order before
/// case is folded.
fn in_range<const NO_CASE: bool>(start: u8, end: u8, byte: u8) -> bool {
    let fold = |byte: u8| (if NO_CASE { byte.to_ascii_lowercase() } else { byte }) as i8;
    let (low, high) = if start as i8 > end as i8 { (end, start) } else { (start, end) };
    (fold(low)..=fold(high)).contains(&fold(byte))
}

#[inline]
fn is_special(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b'\\')
}

#[inline]
fn same<const NO_CASE: bool>(a: u8, b: u8) -> bool {
    if NO_CASE { a.eq_ignore_ascii_case(&b) } else { a == b }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{cases, fewer};

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("hello", "hello", true),
            ("hello", "hell", false),
            ("hell", "hello", false),
            ("h?llo", "hallo", true),
            ("h?llo", "hllo", false),
            ("h*llo", "hllo", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            ("*", "a", true),
            ("***", "a", true),
            ("*", "", false),
            ("", "", true),
            ("", "a", false),
            ("a*", "a", true),
            ("a**", "a", true),
            ("a*?", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("*aab", "aaaab", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("\\", "\\", true),
            ("[", "a", false),
            ("[", "[", false),
            ("[^", "a", true),
            ("[a", "a", true),
            ("[a", "b", false),
            ("[a-", "-", true),
            ("[a-]", "b", false),
            ("[a-]x]", "_", true),
            ("[a-]x]", "x", true),
            ("[a-]x]", "_x]", false),
            ("[\\]]", "]", true),
            ("[\\-]", "-", true),
            ("[a\\-c]", "b", false),
            ("[\\", "\\", true),
            ("[]", "a", false),
            ("[^]", "a", true),
            ("[]a", "]a", false),
            ("[^a-c]d", "xd", true),
            ("user:*:name", "user:1000:name", true),
            ("user:*:name", "user:1000:names", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern:?} {text:?}");
        }
        // A range over the sign bit: 0x80 is the lowest signed byte.
        assert!(matches(b"[\x80-a]", b"\x05") && matches(b"[\x80-a]", b"\xff"));
        assert!(!matches(b"[\x80-a]", b"b"));
    }

    #[test]
    fn case_is_ignored_except_after_an_escape_in_a_class() {
        assert!(matches_ignoring_case(b"MaxMem*", b"maxmemory-policy"));
        assert!(!matches(b"MaxMem*", b"maxmemory-policy"));
        assert!(matches_ignoring_case(b"[A-C]", b"b") && matches_ignoring_case(b"[a-c]", b"B"));
        assert!(matches_ignoring_case(b"[X]", b"x") && matches_ignoring_case(b"\\X", b"x"));
        assert!(!matches_ignoring_case(b"[\\X]", b"x"));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = b"*a".repeat(fewer(1000, 10));
        let mut text = vec![b'a'; fewer(20_000, 200)];
        assert!(matches(&pattern, &text));
        text.push(b'b');
        assert!(!matches(&pattern, &text));
    }

    /// The definition: every way to spend each `*` is tried. Elements match one byte as in the code under test.
    fn exhaustive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| exhaustive(rest, &text[skip..])),
            (_, [byte, rest @ ..]) => {
                step::<false>(pattern, 0, *byte).is_some_and(|next| exhaustive(&pattern[next..], rest))
            }
            (_, []) => pattern.is_empty(),
        }
    }

    proptest! {
        #![proptest_config(cases(256, 2))]

        #[test]
        fn going_back_to_the_last_star_loses_nothing(pattern in "[ab*?\\[\\]^\\\\-]{0,12}", text in "[ab\\]-]{1,12}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), exhaustive(pattern, text));
        }

        #[test]
        fn escaped_text_matches_itself(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let pattern: Vec<u8> = text.iter().flat_map(|&byte| [b'\\', byte]).collect();
            prop_assert!(matches(&pattern, &text));
        }

        #[test]
        fn noise_never_panics(pattern in prop::collection::vec(any::<u8>(), 0..32), text in prop::collection::vec(any::<u8>(), 0..32)) {
            let _ = (matches(&pattern, &text), matches_ignoring_case(&pattern, &text));
        }
    }
}

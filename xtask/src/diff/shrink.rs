//! From a long list of commands that shows a difference to a short one: delta debugging over the list, then over the
//! arguments of what is left.

use super::generate::Argv;

/// The shortest list found for which `fails` still holds. `fails` holds for `steps`.
pub fn shrink(mut steps: Vec<Argv>, mut fails: impl FnMut(&[Argv]) -> bool) -> Vec<Argv> {
    let mut chunk = steps.len().div_ceil(2);
    loop {
        let mut at = 0;
        let mut removed = false;
        while at < steps.len() && steps.len() > 1 {
            let end = (at + chunk).min(steps.len());
            let rest = [&steps[..at], &steps[end..]].concat();
            if !rest.is_empty() && fails(&rest) {
                steps = rest;
                removed = true;
            } else {
                at = end;
            }
        }
        // At single commands, again until nothing more goes: what was needed may not be any more.
        match chunk {
            1 if !removed => break,
            1 => {}
            _ => chunk = chunk.div_ceil(2),
        }
    }
    shrink_arguments(steps, fails)
}

fn shrink_arguments(mut steps: Vec<Argv>, mut fails: impl FnMut(&[Argv]) -> bool) -> Vec<Argv> {
    for step in 0..steps.len() {
        let mut at = steps[step].len();
        while at > 1 {
            at -= 1;
            let mut shorter = steps.clone();
            shorter[step].remove(at);
            if fails(&shorter) {
                steps = shorter;
                continue;
            }
            if steps[step][at].len() > 8 {
                let mut shorter = steps.clone();
                shorter[step][at].truncate(8);
                if fails(&shorter) {
                    steps = shorter;
                }
            }
        }
    }
    steps
}

/// The list as lines for redis-cli's standard input.
pub fn script(steps: &[Argv]) -> String {
    let mut text = String::new();
    for argv in steps {
        let quoted: Vec<String> = argv.iter().map(|arg| quote(arg)).collect();
        text.push_str(&quoted.join(" "));
        text.push('\n');
    }
    text
}

fn quote(arg: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if !arg.is_empty() && arg.iter().all(plain) {
        return String::from_utf8_lossy(arg).into_owned();
    }
    let mut text = String::from('"');
    for byte in arg {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            0x20..=0x7e => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::generate::words;

    #[test]
    fn what_plays_no_part_goes() {
        let mut steps: Vec<Argv> = (0..100).map(|n| words(&["SET", &format!("k{n}"), "v"])).collect();
        steps[40] = words(&["LPUSH", "l", "a", "b", "c"]);
        steps[90] = words(&["LLEN", "l"]);
        // The order matters, and of LPUSH the element b.
        let mut runs = 0;
        let shrunk = shrink(steps, |steps| {
            runs += 1;
            let push = steps.iter().position(|argv| argv[0] == b"LPUSH" && argv.contains(&b"b".to_vec()));
            let len = steps.iter().position(|argv| argv[0] == b"LLEN");
            matches!((push, len), (Some(push), Some(len)) if push < len)
        });
        assert_eq!(script(&shrunk), "LPUSH b\nLLEN\n");
        assert!(runs < 100, "{runs} runs");
    }

    #[test]
    fn arguments_are_quoted_for_redis_cli() {
        let argv = vec![b"SET".to_vec(), Vec::new(), b"a \"b\\\r\xff".to_vec()];
        assert_eq!(script(&[argv]), "SET \"\" \"a \\\"b\\\\\\x0d\\xff\"\n");
    }
}

//! On which processors a thread may run: `server_cpulist` and its like.
//!
//! A list is that of taskset(1): `0,2,4-7,8-14:2`, numbers, ranges, and ranges with a step. A list that cannot be read
//! changes nothing, as with Redis. A new thread runs where the one runs that starts it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Binds the calling thread to the processors of a list; none and a broken one leave it where it is.
pub fn bind_thread(list: &str) {
    if let Some(processors) = parse(list) {
        // A list of processors that this machine lacks is refused; it is only a wish.
        let _ = sched_setaffinity(None, &set_of(&processors));
    }
}

/// Does `start` on the processors of a list, so that the threads it starts stay there.
pub fn bound_to<T>(list: &str, start: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None);
    bind_thread(list);
    let started = start();
    if let Ok(before) = before {
        let _ = sched_setaffinity(None, &before);
    }
    started
}

fn set_of(processors: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    processors.iter().filter(|number| **number < CpuSet::MAX_CPU).for_each(|number| set.set(*number));
    set
}

fn parse(list: &str) -> Option<Vec<usize>> {
    let mut processors = Vec::new();
    for part in list.split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim_ascii_start().parse::<usize>().ok();
        let (first, last, step) = (number(first)?, number(last)?, number(step).filter(|step| *step > 0)?);
        if first > last {
            return None;
        }
        processors.extend((first..=last.min(CpuSet::MAX_CPU)).step_by(step));
    }
    Some(processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_those_of_taskset() {
        assert_eq!(parse("0"), Some(vec![0]));
        assert_eq!(parse("0,2,4-7,8-14:3"), Some(vec![0, 2, 4, 5, 6, 7, 8, 11, 14]));
        for broken in ["", "a", "1-", "-1", "3-2", "1-4:0", "1,,2", "1-2x"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
        assert_eq!(parse("0-99999999").map(|all| all.len()), Some(CpuSet::MAX_CPU + 1));
    }

    #[test]
    fn a_thread_is_bound_and_freed() {
        let here = || {
            let set = sched_getaffinity(None).unwrap();
            (0..CpuSet::MAX_CPU).filter(|number| set.is_set(*number)).collect::<Vec<_>>()
        };
        std::thread::spawn(move || {
            let before = here();
            let one = before[before.len() - 1];
            let inside = bound_to(&one.to_string(), || std::thread::spawn(here).join().unwrap());
            assert_eq!(inside, [one], "a thread started there stays there");
            assert_eq!(here(), before);
            bind_thread("no list");
            assert_eq!(here(), before);
            bind_thread(&one.to_string());
            assert_eq!(here(), [one]);
        })
        .join()
        .unwrap();
    }
}

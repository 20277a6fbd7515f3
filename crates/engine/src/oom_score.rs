//! How ready the kernel is to kill the process when the machine's memory runs out: `oom-score-adj`.
//!
//! The configuration has a value for each role of a process; which one counts, and when, is decided here. The
//! environment knows the kernel's file and what it said before. There are no forked children, so their value is never
//! used.

use crate::config::Config;
use crate::core::Core;

/// `oom-score-adj`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OomScoreAdj {
    /// The kernel's value is left alone.
    #[default]
    No,
    /// Values are added to what the process was started with.
    Relative,
    Absolute,
}

/// What the kernel is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OomScore {
    pub value: i32,
    /// `value` is to be added to what the process was started with.
    pub relative: bool,
}

impl OomScore {
    /// The warning about values that a process without privileges cannot all set.
    pub const UNPRIVILEGED: &str = "The oom-score-adj-values configuration may not work for non-privileged processes! \
                                    Please consult the documentation.";

    /// The three values of `oom-score-adj-values` suit a process without privileges, which may only raise its own.
    pub fn may_all_be_set(values: [i32; 3]) -> bool {
        values.is_sorted()
    }

    /// `None` gives the process back what it was started with.
    fn wanted(config: &Config, is_replica: bool) -> Option<OomScore> {
        let [primary, replica, _child] = config.oom_score_adj_values;
        let value = if is_replica { replica } else { primary };
        match config.oom_score_adj {
            OomScoreAdj::No => None,
            OomScoreAdj::Relative => Some(OomScore { value, relative: true }),
            OomScoreAdj::Absolute => Some(OomScore { value, relative: false }),
        }
    }
}

impl Core {
    /// Tells the kernel what the configuration and the role say. False if it refused, for a reason that is logged.
    pub fn adjust_oom_score(&mut self) -> bool {
        let wanted = OomScore::wanted(&self.config, self.is_replica());
        let result = self.env.adjust_oom_score(wanted);
        result.map_err(|why| self.warning(why)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use crate::testing::Harness;

    fn told(h: &Harness) -> Option<i64> {
        let told = h.gauges.oom_score.load(Ordering::Relaxed);
        (told != i64::MIN).then_some(told)
    }

    #[test]
    fn the_role_and_the_configuration_decide() {
        let mut h = Harness::new();
        h.run("REPLICAOF NO ONE");
        assert_eq!(h.run("CONFIG SET oom-score-adj-values \"10 20 30\""), r"+OK\r\n");
        assert_eq!(told(&h), None, "off by default");
        assert_eq!(h.run("CONFIG SET oom-score-adj absolute"), r"+OK\r\n");
        assert_eq!(told(&h), Some(10));
        h.run("REPLICAOF localhost 1");
        assert_eq!(told(&h), Some(20));
        h.run("REPLICAOF NO ONE");
        assert_eq!(told(&h), Some(10));
        // The base of relative values is 1000 here.
        h.run("CONFIG SET oom-score-adj relative");
        assert_eq!(h.run("CONFIG GET oom-score-adj"), r"*2\r\n$13\r\noom-score-adj\r\n$3\r\nyes\r\n");
        assert_eq!(told(&h), Some(1010));
        h.run("CONFIG SET oom-score-adj no");
        assert_eq!(told(&h), None);
    }

    #[test]
    fn a_refusal_of_the_kernel_changes_nothing() {
        let mut h = Harness::new();
        h.run("CONFIG SET oom-score-adj absolute oom-score-adj-values \"1 2 3\"");
        let failed = r"-ERR CONFIG SET failed (possibly related to argument \'oom-score-adj-values\') - Failed to set current oom_score_adj. Check server logs.\r\n";
        assert_eq!(h.run("CONFIG SET timeout 7 oom-score-adj-values \"-1 2 3\" port 7777"), failed);
        assert_eq!(told(&h), Some(1));
        assert_eq!((h.node.core.config.timeout_s, h.node.core.config.port), (0, 6379));
        assert_eq!(
            h.run("CONFIG GET oom-score-adj-values"),
            r"*2\r\n$20\r\noom-score-adj-values\r\n$5\r\n1 2 3\r\n"
        );
    }

    #[test]
    fn another_refusal_takes_it_back() {
        let mut h = Harness::new();
        // The test's ports end before this one.
        let line = "CONFIG SET oom-score-adj absolute oom-score-adj-values \"5 6 7\" port 65535";
        assert_eq!(
            h.run(line),
            r"-ERR CONFIG SET failed (possibly related to argument \'port\') - Unable to listen on this port. Check server logs.\r\n"
        );
        assert_eq!(told(&h), None);
        assert_eq!(h.gauges.oom_scores_told.load(Ordering::Relaxed), 2, "set, and taken back");
    }
}

//! `LATENCY`: what was slow, and how long commands take.

use std::fmt::Write as _;

use command::{Arg, Arity, Command, CommandId, Docs, Flag, Flags, Group};

use super::{registry, write_help};
use crate::ctx::{CmdResult, Ctx, Handler};
use crate::latency::{LatencyMonitor, Series};
use crate::stats::Histogram;

pub const COMMANDS: &[Command<Handler>] = &[Command {
    name: "latency",
    group: Group::Server,
    docs: &Docs {
        since: "2.8.13",
        complexity: "Depends on subcommand.",
        summary: "Tells what was slow.",
        ..Docs::NONE
    },
    ..Command::parent(&[DOCTOR, HELP, HISTOGRAM, HISTORY, LATEST, RESET])
}];

/// LATENCY LATEST
const LATEST: Command<Handler> = Command {
    name: "latest",
    group: Group::Server,
    arity: Arity::Exactly(2),
    flags: Flags::of(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale]),
    tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
    docs: &Docs {
        since: "2.8.13",
        complexity: "O(1)",
        summary: "Returns the last sample of each event.",
        ..Docs::NONE
    },
    ..Command::runs(latest)
};

/// LATENCY DOCTOR
const DOCTOR: Command<Handler> = Command {
    name: "doctor",
    docs: &Docs { summary: "Says in words what was slow.", ..*LATEST.docs },
    handler: Some(doctor),
    ..LATEST
};

/// LATENCY HELP
const HELP: Command<Handler> = Command {
    name: "help",
    flags: Flags::of(&[Flag::Loading, Flag::Stale]),
    tips: &[],
    docs: &Docs { summary: "Lists the subcommands of LATENCY.", ..*LATEST.docs },
    handler: Some(help),
    ..LATEST
};

/// LATENCY HISTOGRAM [command …]
const HISTOGRAM: Command<Handler> = Command {
    name: "histogram",
    arity: Arity::AtLeast(2),
    docs: &Docs {
        since: "7.0.0",
        complexity: "O(N) where N is the number of commands with latency information being retrieved.",
        summary: "Tells how many calls of commands took how long.",
        arguments: &[Arg::string("command").optional().multiple()],
        ..Docs::NONE
    },
    handler: Some(histogram),
    ..LATEST
};

/// LATENCY HISTORY event
const HISTORY: Command<Handler> = Command {
    name: "history",
    arity: Arity::Exactly(3),
    docs: &Docs {
        summary: "Returns the samples of an event.",
        arguments: &[Arg::string("event")],
        ..*LATEST.docs
    },
    handler: Some(history),
    ..LATEST
};

/// LATENCY RESET [event …]
const RESET: Command<Handler> = Command {
    name: "reset",
    arity: Arity::AtLeast(2),
    tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
    docs: &Docs {
        summary: "Forgets the samples of events.",
        arguments: &[Arg::string("event").optional().multiple()],
        ..*LATEST.docs
    },
    handler: Some(reset),
    ..LATEST
};

fn help(ctx: &mut Ctx<'_>) -> CmdResult {
    write_help(
        ctx,
        &[
            "DOCTOR",
            "    What was slow, in words.",
            "HISTOGRAM [COMMAND ...]",
            "    How many calls of the commands took how long; of all commands if none is named.",
            "HISTORY <event>",
            "    Time and latency of each sample of the <event>.",
            "LATEST",
            "    The last sample of each event, and its worst.",
            "RESET [<event> ...]",
            "    Forget the samples of these events, or of all.",
        ],
    );
    Ok(())
}

fn history(ctx: &mut Ctx<'_>) -> CmdResult {
    let samples = ctx.core.latency.series(ctx.argv.at(2)).map(|series| &series.samples);
    ctx.reply.array(samples.map_or(0, |samples| samples.len()));
    for sample in samples.into_iter().flatten() {
        ctx.reply.array(2);
        ctx.reply.int(sample.unix_s);
        ctx.reply.int(sample.millis as i64);
    }
    Ok(())
}

fn latest(ctx: &mut Ctx<'_>) -> CmdResult {
    let all = ctx.core.latency.all();
    ctx.reply.array(all.len());
    for (name, series) in all {
        let last = series.samples.back().expect("an event is noted with its first sample");
        ctx.reply.array(4);
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.int(last.unix_s);
        ctx.reply.int(last.millis as i64);
        ctx.reply.int(series.worst_ms as i64);
    }
    Ok(())
}

fn reset(ctx: &mut Ctx<'_>) -> CmdResult {
    let monitor = &mut ctx.core.latency;
    let count = match ctx.argv.len() {
        2 => monitor.reset_all(),
        _ => ctx.argv.tail(2).iter().filter(|event| monitor.reset(event)).count(),
    };
    ctx.reply.int(count as i64);
    Ok(())
}

fn doctor(ctx: &mut Ctx<'_>) -> CmdResult {
    let text = diagnosis(&ctx.core.latency, ctx.core.slow_us);
    ctx.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

fn diagnosis(monitor: &LatencyMonitor, slow_us: u64) -> String {
    if !monitor.is_on() && monitor.all().len() == 0 {
        return "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it on.\n"
            .to_owned();
    }
    if monitor.all().len() == 0 {
        return "Nothing was slow since the monitor was turned on or reset.\n".to_owned();
    }
    let mut text = String::from("What was slow:\n\n");
    for (index, (name, series)) in monitor.all().enumerate() {
        let Summary { count, mean_ms, deviation_ms, period_s } = Summary::of(series);
        writeln!(
            text,
            "{}. {name}: {count} latency spikes (average {mean_ms}ms, mean deviation {deviation_ms}ms, period \
             {period_s:.2} sec). Worst all time event {}ms.",
            index + 1,
            series.worst_ms,
        )
        .expect("a string takes any text");
    }
    text.push('\n');
    if monitor.threshold_us() < slow_us {
        let line = "- The slow log does not note all that is slow here: CONFIG SET slowlog-log-slower-than";
        writeln!(text, "{line} {}.", monitor.threshold_us()).expect("a string takes any text");
    }
    text.push_str("- SLOWLOG GET shows the commands that took long.\n");
    text
}

/// The samples of an event in a few numbers.
struct Summary {
    count: usize,
    mean_ms: u64,
    /// Mean of the distances to the mean.
    deviation_ms: u64,
    /// Mean seconds between two samples.
    period_s: f64,
}

impl Summary {
    fn of(series: &Series) -> Summary {
        let samples = &series.samples;
        let count = samples.len();
        let mean_ms = samples.iter().map(|sample| sample.millis).sum::<u64>() / count.max(1) as u64;
        let distances = samples.iter().map(|sample| sample.millis.abs_diff(mean_ms));
        let deviation_ms = distances.sum::<u64>() / count.max(1) as u64;
        let span_s = match (samples.front(), samples.back()) {
            (Some(first), Some(last)) => last.unix_s - first.unix_s,
            _ => 0,
        };
        let period_s = if count > 1 { span_s as f64 / (count - 1) as f64 } else { 0.0 };
        Summary { count, mean_ms, deviation_ms, period_s }
    }
}

fn histogram(ctx: &mut Ctx<'_>) -> CmdResult {
    let wanted: Vec<&[u8]> = ctx.argv.tail(2).iter().collect();
    let all = || registry().entries().iter().zip(&ctx.core.stats.commands);
    let mut found: Vec<(&str, u64, &Histogram)> = Vec::new();
    let mut take = |wanted: Option<CommandId>| {
        for (command, stats) in all() {
            if let Some(histogram) = &stats.latency
                && wanted.is_none_or(|id| command.id == id || command.parent == Some(id))
            {
                found.push((&command.full_name, stats.calls, histogram));
            }
        }
    };
    if wanted.is_empty() {
        take(None);
    }
    // In the order they are asked for.
    let wanted = wanted.iter().filter_map(|name| ctx.core.commands().lookup_full_name(name));
    wanted.for_each(|command| take(Some(command.id)));
    ctx.reply.map(found.len());
    for (name, calls, histogram) in found {
        let rows = histogram.cumulative();
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.map(2);
        ctx.reply.bulk(b"calls");
        ctx.reply.int(calls as i64);
        ctx.reply.bulk(b"histogram_usec");
        ctx.reply.map(rows.len());
        for (micros, count) in rows {
            ctx.reply.int(micros as i64);
            ctx.reply.int(count as i64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use crate::testing::Harness;

    #[test]
    fn slow_commands_are_noted_by_their_kind() {
        let mut h = Harness::new();
        assert!(h.run("LATENCY DOCTOR").contains("The latency monitor is off."));
        h.run("CONFIG SET latency-monitor-threshold 20");
        assert!(h.run("LATENCY DOCTOR").contains("Nothing was slow"));
        assert_eq!(h.run("LATENCY LATEST"), r"*0\r\n");
        h.gauges.us_per_reading.store(25_000, Ordering::Relaxed);
        h.run("GET a");
        h.advance_ms(1000);
        h.gauges.us_per_reading.store(30_000, Ordering::Relaxed);
        h.run("GET a");
        h.run("LRANGE a 0 -1");
        h.gauges.us_per_reading.store(0, Ordering::Relaxed);
        assert_eq!(
            h.run("LATENCY HISTORY fast-command"),
            r"*2\r\n*2\r\n:1700000000\r\n:25\r\n*2\r\n:1700000001\r\n:30\r\n"
        );
        assert_eq!(
            h.run("LATENCY LATEST"),
            r"*2\r\n*4\r\n$7\r\ncommand\r\n:1700000001\r\n:30\r\n:30\r\n*4\r\n$12\r\nfast-command\r\n:1700000001\r\n:30\r\n:30\r\n"
        );
        let text = h.run("LATENCY DOCTOR");
        assert!(
            text.contains("2. fast-command: 2 latency spikes (average 27ms, mean deviation 2ms, period 1.00 sec). Worst all time event 30ms."),
            "{text}"
        );
        assert_eq!(h.run("LATENCY HISTORY nosuch"), r"*0\r\n");
        assert_eq!(h.run("LATENCY RESET nosuch command"), r":1\r\n");
        assert_eq!(h.run("LATENCY RESET"), r":1\r\n");
        assert!(h.run("LATENCY HELP").starts_with(r"*13\r\n"));
        assert!(h.run("LATENCY HELP x").contains(r"for \'latency|help\' command"));
    }

    #[test]
    fn histograms_count_upwards() {
        let mut h = Harness::new();
        h.run("CONFIG RESETSTAT");
        assert_eq!(
            h.run("LATENCY HISTOGRAM"),
            r"*2\r\n$16\r\nconfig|resetstat\r\n*4\r\n$5\r\ncalls\r\n:1\r\n$14\r\nhistogram_usec\r\n*2\r\n:1\r\n:1\r\n"
        );
        h.run("SET a 1");
        h.gauges.us_per_reading.store(100, Ordering::Relaxed);
        h.run("SET a 1");
        h.gauges.us_per_reading.store(0, Ordering::Relaxed);
        h.run("CLIENT ID");
        assert_eq!(
            h.run("LATENCY HISTOGRAM nosuch SET"),
            r"*2\r\n$3\r\nset\r\n*4\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n*4\r\n:1\r\n:1\r\n:132\r\n:2\r\n"
        );
        assert!(h.run("LATENCY HISTOGRAM client").starts_with(r"*2\r\n$9\r\nclient|id\r\n"));
        assert!(h.run("LATENCY HISTOGRAM client|id").starts_with(r"*2\r\n$9\r\nclient|id\r\n"));
        assert_eq!(h.run("LATENCY HISTOGRAM nosuch"), r"*0\r\n");
    }
}

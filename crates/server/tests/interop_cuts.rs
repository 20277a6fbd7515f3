//! 200 cuts of the link at random moments under a live writer: each gap lies in the backlog, so each is closed by a
//! partial resynchronisation.

mod peers;

use std::thread;
use std::time::{Duration, Instant};

use peers::agree::{assert_same, assert_same_expiries};
use peers::proxy::Proxy;
use peers::writes::{Writer, Writes, pour};
use peers::{Bed, Kind};

const CUTS: usize = 200;
const CUTS_BETWEEN_CHECKS: usize = 20;

fn cuts(upper: Kind, lower: Kind) {
    let Some(mut bed) = Bed::new(Duration::from_secs(240), &[upper, lower]) else { return };
    let primary = bed.start(upper, &[]);
    let replica = bed.start(lower, &[]);
    pour(&mut primary.client(), &mut Writes::new(10), 10_000);
    let proxy = Proxy::to(primary.port);
    replica.follow(proxy.port);
    assert_same(&primary, &replica, "after the full sync");
    // A replica that was a primary asks for its own history first, which is refused and counted.
    let before = primary.syncs();

    let writer = Writer::start(primary.port, 11, Duration::from_millis(10));
    for round in 0..CUTS / CUTS_BETWEEN_CHECKS {
        writer.resume();
        proxy.storm(round as u64);
        let goal = (round + 1) * CUTS_BETWEEN_CHECKS;
        let since = Instant::now();
        while proxy.cuts() < goal {
            assert!(since.elapsed() < Duration::from_secs(60), "{} of {goal} cuts in a minute", proxy.cuts());
            thread::sleep(Duration::from_millis(10));
        }
        writer.pause();
        proxy.calm();
        assert_same(&primary, &replica, &format!("after {} cuts", proxy.cuts()));
        assert_eq!(
            primary.syncs().full,
            1,
            "a gap within the backlog took a full sync ({} cuts)",
            proxy.cuts()
        );
    }
    assert_same_expiries(&primary, &replica, "after all cuts");

    let syncs = primary.syncs();
    eprintln!("{} cuts, {} times continued, the primary counts {syncs:?}", proxy.cuts(), proxy.continued());
    assert_eq!(proxy.full_syncs(), 1);
    assert_eq!(syncs.refused, before.refused);
    // The primary also counts replies that a cut swallowed; where the handshake was cut there was none.
    assert!(syncs.partial >= proxy.continued() as i64);
    assert!(proxy.continued() >= CUTS / 2, "too few cuts hit a link that was up");
}

mod cut_anywhere {
    crate::peers::pairs!(super::cuts);
}

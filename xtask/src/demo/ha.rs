//! `cargo xtask demo --ha`: two balancers with a VIP between them, live clients, and everything that may happen to the one
//! that answers.

use anyhow::{Context, Result};
use fairlead_tests::lab::ha::{
    AnswerWatch, Cut, CutLink, FairleadPair, HERD, Herd, HerdPlan, STREAM, Stream, gap, mac_of, overlap,
    switched_at,
};
use fairlead_tests::lab::{interrupt, wait_until};
use fairlead_tests::report::{Promise, Reach, Report};
use nix::sys::signal::Signal;
use std::thread::sleep;
use std::time::Duration;

/// What it promises: the rows of `cargo xtask bench ha`, once each. A single time says little: that is what the bench is for.
pub(super) const PROMISES: [Promise; 10] = [
    ("demo_kill_100ms_ms", "ms", Reach::AtMost(1_000.0)),
    ("demo_stop_100ms_ms", "ms", Reach::AtMost(1_000.0)),
    ("demo_cut_100ms_ms", "ms", Reach::AtMost(1_000.0)),
    ("demo_two_answering_max_ms", "ms", Reach::Exactly(0.0)),
    ("demo_handover_lost_packets", "packets", Reach::Exactly(0.0)),
    ("demo_broken_kill", "connections", Reach::Exactly(0.0)),
    ("demo_broken_stop", "connections", Reach::Exactly(0.0)),
    ("demo_broken_cut", "connections", Reach::Exactly(0.0)),
    ("demo_broken_handover", "connections", Reach::Exactly(0.0)),
    ("demo_broken_failback", "connections", Reach::Exactly(0.0)),
];

/// Between two adverts.
const ADVERT: Duration = Duration::from_millis(100);
/// Established connections, half of them idle.
const CONNECTIONS: usize = 500;
/// Between two datagrams of the stream.
const EVERY: Duration = Duration::from_millis(1);
/// A quiet time before and after each change.
const CALM: Duration = Duration::from_millis(500);
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(20);
/// How long the last answers of connections may take: TCP waits longer each time before it sends again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// What happens to the first node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Kill,
    Stop,
    Cut,
    Handover,
}

impl Event {
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Kill, "kill", "the daemon of the active balancer is killed (SIGKILL)"),
        (Self::Stop, "stop", "the daemon of the active balancer hangs (SIGSTOP), and goes on later"),
        (Self::Cut, "cut", "the link of the active balancer is cut, and it does not notice"),
        (Self::Handover, "handover", "the active balancer hands over: fairlead ha handover --all"),
    ];
}

/// Plays everything.
pub(super) fn play(report: &mut Report) -> Result<()> {
    eprintln!("== the lab: a client, two balancers that share a VIP, four backends");
    let mut pair = FairleadPair::new(ADVERT, "full")?;
    pair.settle()?;
    let client = pair.lab.client.clone();
    let herd = Herd::open(&client, client.v4.into(), (pair.vip(), HERD).into(), HerdPlan::new(CONNECTIONS))?;
    eprintln!("   {CONNECTIONS} connections are established, half of them idle");
    let mut two_answering = 0.0_f64;
    let (mut gone, mut back) = (0, 0);
    for (number, (event, name, what)) in Event::ALL.into_iter().enumerate() {
        interrupt::stand_still_if_interrupted();
        eprintln!("== {}. {what}", number + 1);
        let seen = over(&mut pair, event).with_context(|| name.to_owned())?;
        let broken = broken(&herd)?.saturating_sub(gone);
        gone += broken;
        eprintln!(
            "   the second balancer answered after {:.0} ms; nobody did for {:.0} ms, two for {:.0} ms; of {} datagrams {} were \
             lost; {broken} connections broke",
            ms(seen.switched),
            ms(seen.gap),
            ms(seen.both),
            seen.datagrams,
            seen.lost
        );
        report.counted(&format!("demo_broken_{name}"), broken)?;
        if event == Event::Handover {
            report.counted("demo_handover_lost_packets", seen.lost)?;
        } else {
            report.measured(&format!("demo_{name}_100ms_ms"), ms(seen.gap))?;
            // A node that is cut off can't know of the other one.
            two_answering = two_answering.max(ms(seen.both));
        }
        come_back(&mut pair, event, seen.link)?;
        let broken = self::broken(&herd)?.saturating_sub(gone);
        (gone, back) = (gone + broken, back + broken);
        eprintln!("   the first balancer is back and active; {broken} connections broke");
    }
    report.measured("demo_two_answering_max_ms", two_answering)?;
    report.counted("demo_broken_failback", back)?;
    for node in [0, 1] {
        eprintln!("== $ fairlead ha status   # on balancer {}", node + 1);
        for line in pair.node(node)?.ok(&["ha", "status"])?.lines() {
            eprintln!("   {line}");
        }
    }
    Ok(())
}

/// What a client saw of a failover.
struct Seen {
    switched: Duration,
    gap: Duration,
    both: Duration,
    datagrams: usize,
    lost: usize,
    link: Option<CutLink>,
}

/// The first node goes and the second takes over; the pool changes right before and right after.
fn over(pair: &mut FairleadPair, event: Event) -> Result<Seen> {
    let client = pair.lab.client.clone();
    let second = mac_of(pair.lab.balancers.get(1).context("a pair has two nodes")?)?;
    let watch = AnswerWatch::start(&client, pair.vip())?;
    let stream = Stream::start(&client, client.v4.into(), (pair.vip(), STREAM).into(), EVERY)?;
    sleep(CALM);
    pair.change_pool(&[0, 1], true)?;
    let at = watch.now();
    let mut link = None;
    match event {
        Event::Kill => pair.kill(0)?,
        Event::Stop => pair.node(0)?.signal(Signal::SIGSTOP)?,
        Event::Cut => {
            let first = pair.lab.balancers.first().context("a pair has two nodes")?;
            link = Some(Cut::Detached.apply(&pair.lab, first)?);
        }
        Event::Handover => drop(pair.node(0)?.ok(&["ha", "handover", "--all"])?),
    }
    wait_until("the second answers", TAKES_OVER_WITHIN, || {
        Ok(watch.last_answer_of(second).is_some_and(|last| last > at))
    })?;
    pair.change_pool(&[1], false)?;
    sleep(CALM);
    let streamed = stream.stop()?;
    let record = watch.stop()?;
    Ok(Seen {
        switched: switched_at(&record, at).context("it did not change hands")?.saturating_sub(at),
        gap: gap(&record, at).context("nobody answered before or after")?,
        both: overlap(&record, at..Duration::MAX).lasted,
        datagrams: streamed.sent.len(),
        lost: streamed.lost(),
        link,
    })
}

/// The first node is well again, and takes the VIP back once it has all flows.
fn come_back(pair: &mut FairleadPair, event: Event, link: Option<CutLink>) -> Result<()> {
    match event {
        Event::Stop => pair.node(0)?.signal(Signal::SIGCONT)?,
        Event::Handover => drop(pair.node(0)?.ok(&["ha", "resume", "--all"])?),
        Event::Kill | Event::Cut => {}
    }
    if let Some(link) = link {
        link.heal()?;
    }
    pair.start_missing()?;
    pair.change_pool(&[0], false)?;
    pair.settle().context("the way back")
}

fn broken(herd: &Herd) -> Result<usize> {
    let checkup = herd.check(ANSWERED_WITHIN)?;
    if !checkup.broken.is_empty() {
        eprintln!("   broken so far: {:?}", checkup.reasons());
    }
    Ok(checkup.broken.len())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

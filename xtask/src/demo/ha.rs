//! `cargo xtask demo --ha`: two balancers with a VIP between them, live clients, and everything that may happen to the one
//! that answers.

use anyhow::{Context, Result};
use fairlead_tests::lab::ha::{
    AnswerWatch, CutLink, FairleadPair, HERD, Herd, HerdPlan, How, Pair, STREAM, Stream, gap, mac_of,
    overlap, switched_at,
};
use fairlead_tests::lab::{interrupt, quick, wait_until};
use fairlead_tests::report::{Promise, Reach, Report};
use std::thread::sleep;
use std::time::Duration;

/// What it promises: the rows of `cargo xtask bench ha`, once each. Times have nothing to reach: a single one says little,
/// that is what the bench is for.
pub(super) const PROMISES: [Promise; 14] = [
    ("demo_kill_100ms_ms", "ms", Reach::Nothing),
    ("demo_stop_100ms_ms", "ms", Reach::Nothing),
    ("demo_cut_100ms_ms", "ms", Reach::Nothing),
    ("demo_handover_100ms_ms", "ms", Reach::Nothing),
    ("demo_failback_100ms_ms", "ms", Reach::Nothing),
    ("demo_two_answering_max_ms", "ms", Reach::Exactly(0.0)),
    ("demo_two_answering_planned_ms", "ms", Reach::Nothing),
    ("demo_two_answering_healed_ms", "ms", Reach::Nothing),
    ("demo_handover_lost_packets", "packets", Reach::Exactly(0.0)),
    ("demo_broken_kill", "connections", Reach::Exactly(0.0)),
    ("demo_broken_stop", "connections", Reach::Exactly(0.0)),
    ("demo_broken_cut", "connections", Reach::Exactly(0.0)),
    ("demo_broken_handover", "connections", Reach::Exactly(0.0)),
    ("demo_broken_failback", "connections", Reach::Exactly(0.0)),
];

/// What happens to the first node, and how it comes back.
const SCENES: [(How, &str, &str); 4] = [
    (
        How::Kill,
        "the daemon of the active balancer is killed (SIGKILL)",
        "it is started again, and takes the VIP back once it has all flows",
    ),
    (
        How::Stop,
        "the daemon of the active balancer hangs (SIGSTOP)",
        "it goes on (SIGCONT), finds its lease run out, and takes the VIP back once it has all flows",
    ),
    (
        How::Cut,
        "the link of the active balancer is cut, and it does not notice",
        "the link is healed: both are active, and the second yields",
    ),
    (
        How::HandOver,
        "the active balancer hands over: fairlead ha handover --all",
        "it is told to take the VIP back: fairlead ha resume --all",
    ),
];

/// Between two adverts.
const ADVERT: Duration = Duration::from_millis(100);
/// Established connections, half of them idle.
const CONNECTIONS: usize = 500;
/// The same where little is to be done.
const FEW_CONNECTIONS: usize = 100;
/// Between two datagrams of the stream.
const EVERY: Duration = Duration::from_millis(1);
/// A quiet time before and after each change.
const CALM: Duration = Duration::from_millis(500);
/// How long after it wakes up a stopped node may not answer, whatever it does later: shorter than it takes to hear that it
/// has all flows.
const AWAKE: Duration = Duration::from_millis(150);
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(20);
/// How long the last answers of connections may take: TCP waits longer each time before it sends again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Plays everything.
pub(super) fn play(report: &mut Report) -> Result<()> {
    eprintln!("== the lab: a client, two balancers that share a VIP, four backends");
    let mut pair = FairleadPair::new(ADVERT, "full")?;
    pair.settle()?;
    let mut clients = Clients::open(&pair)?;
    let mut sum = Sum::default();
    for (number, (how, there, back)) in SCENES.into_iter().enumerate() {
        interrupt::stand_still_if_interrupted();
        eprintln!("== {}. {there}", number + 1);
        let (seen, link) = go(&mut pair, how).with_context(|| how.name())?;
        let broken = clients.newly_broken()?;
        seen.tell("second", broken);
        report.measured(&format!("demo_{}_100ms_ms", how.name()), ms(seen.gap))?;
        report.counted(&format!("demo_broken_{}", how.name()), broken)?;
        eprintln!("   then {back}");
        let returned =
            come_back(&mut pair, how, link).with_context(|| format!("back after a {}", how.name()))?;
        let broken = clients.newly_broken()?;
        returned.tell("first", broken);
        pair.change_pool(&[0, 1], false)?;
        sum.add(how, &seen, &returned, broken);
    }
    sum.report(report)?;
    for node in [0, 1] {
        eprintln!("== $ fairlead ha status   # on balancer {}", node + 1);
        for line in pair.node(node)?.ok(&["ha", "status"])?.lines() {
            eprintln!("   {line}");
        }
    }
    Ok(())
}

/// The second takes over. Right before it the pool changes, and stays so until all connections are checked after the way
/// back: the tables would now send many of them to the new backend, so they depend on what the nodes told each other. A
/// link that was cut is to be healed.
fn go(pair: &mut FairleadPair, how: How) -> Result<(Seen, Option<CutLink>)> {
    let watching = Watching::begin(pair)?;
    pair.change_pool(&[0, 1], true)?;
    let at = watching.answers.now();
    let link = pair.disturb(how)?;
    watching.until_answered_by(pair, 1, at)?;
    Ok((watching.end(pair, at)?, link))
}

/// The first is well again and takes the VIP back, which is watched from the moment it wakes up.
fn come_back(pair: &mut FairleadPair, how: How, link: Option<CutLink>) -> Result<Seen> {
    let watching = Watching::begin(pair)?;
    let at = watching.answers.now();
    pair.bring_back(how, link)?;
    pair.settle()?;
    watching.until_answered_by(pair, 0, at)?;
    watching.end(pair, at)
}

/// Connections that live through all scenes.
struct Clients {
    herd: Herd,
    /// How many have been told to be broken.
    told: usize,
}

impl Clients {
    fn open(pair: &FairleadPair) -> Result<Self> {
        let client = &pair.lab.client;
        let plan = HerdPlan::new(if quick() { FEW_CONNECTIONS } else { CONNECTIONS });
        let herd = Herd::open(client, client.v4.into(), (pair.vip(), HERD).into(), plan)?;
        eprintln!("   {} connections are established, {} of them idle", plan.connections, plan.idle);
        eprintln!("   a UDP stream asks each millisecond, and who answers for the VIP is asked as often");
        Ok(Self { herd, told: 0 })
    }

    /// How many broke since they were last looked at.
    fn newly_broken(&mut self) -> Result<usize> {
        let checkup = self.herd.check(ANSWERED_WITHIN)?;
        // Without backends all are broken.
        interrupt::stand_still_if_interrupted();
        if !checkup.broken.is_empty() {
            eprintln!("   broken so far: {:?}", checkup.reasons());
        }
        let all = checkup.broken.len();
        let new = all.saturating_sub(self.told);
        self.told = all;
        Ok(new)
    }
}

/// A change of hands being watched by a client.
struct Watching {
    answers: AnswerWatch,
    stream: Stream,
}

/// What the client saw of it.
struct Seen {
    switched: Duration,
    gap: Duration,
    both: Duration,
    /// How long the first, if it answered right after the beginning, did beside the second.
    early: Duration,
    datagrams: usize,
    lost: usize,
}

impl Watching {
    /// Begins, and lets a quiet time go by.
    fn begin(pair: &FairleadPair) -> Result<Self> {
        let client = &pair.lab.client;
        let answers = AnswerWatch::start(client, pair.vip())?;
        let stream = Stream::start(client, client.v4.into(), (pair.vip(), STREAM).into(), EVERY)?;
        sleep(CALM);
        Ok(Self { answers, stream })
    }

    fn until_answered_by(&self, pair: &FairleadPair, node: usize, since: Duration) -> Result<()> {
        let mac = mac_of(pair.lab.balancers.get(node).context("a pair has two nodes")?)?;
        wait_until("the other one answers", TAKES_OVER_WITHIN, || {
            Ok(self.answers.last_answer_of(mac).is_some_and(|last| last > since))
        })
    }

    /// What came of what happened then, after another quiet time.
    fn end(self, pair: &FairleadPair, at: Duration) -> Result<Seen> {
        let first = mac_of(pair.lab.balancers.first().context("a pair has two nodes")?)?;
        sleep(CALM);
        let streamed = self.stream.stop()?;
        let record = self.answers.stop()?;
        interrupt::stand_still_if_interrupted();
        let right_after = at..at + AWAKE;
        let early = record.answers.iter().find(|one| one.mac == first && right_after.contains(&one.at));
        Ok(Seen {
            early: early.map_or(Duration::ZERO, |one| right_after.end.saturating_sub(one.at)),
            switched: switched_at(&record, at).context("it did not change hands")?.saturating_sub(at),
            gap: gap(&record, at).context("nobody answered before or after")?,
            both: overlap(&record, at..Duration::MAX).lasted,
            datagrams: streamed.sent.len(),
            lost: streamed.lost(),
        })
    }
}

impl Seen {
    fn tell(&self, who: &str, broken: usize) {
        let (switched, gap, both) = (ms(self.switched), ms(self.gap), ms(self.both));
        eprintln!(
            "   the {who} balancer answered after {switched:.0} ms; nobody did for {gap:.0} ms, two for {both:.3} ms"
        );
        eprintln!("   {} of {} datagrams were lost; {broken} connections broke", self.lost, self.datagrams);
    }
}

/// What is promised of all scenes together.
#[derive(Default)]
struct Sum {
    failback: Duration,
    /// After a death, and when a node that was stopped wakes up: never.
    two_answering: Duration,
    /// When both are well the better one goes first, and both answer until its first advert is heard.
    two_answering_planned: Duration,
    /// After a split, in which each was active on its side and could not know of the other one: until an advert is heard.
    two_answering_healed: Duration,
    lost: usize,
    broken: usize,
}

impl Sum {
    fn add(&mut self, how: How, there: &Seen, back: &Seen, broken: usize) {
        self.failback = self.failback.max(back.gap);
        self.broken += broken;
        let both = if how == How::Stop { there.both.max(back.early) } else { there.both };
        let there_is =
            if how == How::HandOver { &mut self.two_answering_planned } else { &mut self.two_answering };
        *there_is = both.max(*there_is);
        let back_is =
            if how == How::Cut { &mut self.two_answering_healed } else { &mut self.two_answering_planned };
        *back_is = back.both.max(*back_is);
        if how == How::HandOver {
            self.lost = there.lost + back.lost;
        }
    }

    fn report(&self, report: &mut Report) -> Result<()> {
        report.measured("demo_failback_100ms_ms", ms(self.failback))?;
        report.measured("demo_two_answering_max_ms", ms(self.two_answering))?;
        report.measured("demo_two_answering_planned_ms", ms(self.two_answering_planned))?;
        report.measured("demo_two_answering_healed_ms", ms(self.two_answering_healed))?;
        report.counted("demo_handover_lost_packets", self.lost)?;
        report.counted("demo_broken_failback", self.broken)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

//! The thread that keeps time for leases and adverts. It does nothing else: what takes long, or writes to the log, is
//! done by the daemon's loop.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_core::vrrp::{Family, Input, LATE, Lateness, Received, vrid_of};
use tokio::sync::oneshot;

use super::link::Links;
use super::roles::Roles;
use super::spec::{Deed, PeerNews, Tracked, UnitSpec, UnitView};
use super::unit::Unit;
use super::{Events, Leases};
use crate::ha::{MAX_DATAGRAM, RealTime, Waiter, boot_time, make_real_time};

/// Packets of one socket that are read before time is looked at again: a flood does not keep leases from being renewed.
const MAX_PACKETS_AT_ONCE: usize = 256;

/// What the thread is asked for.
enum Order {
    /// These are the units.
    Apply { units: Vec<UnitSpec>, done: Sender<()> },
    /// What is tracked of a unit, by name.
    Track { unit: String, tracked: Tracked },
    /// What flow sync knows of a unit's peers, by name.
    News { unit: String, news: PeerNews },
    /// A peer wants to give a unit to this node now.
    TakeOver { unit: String },
    /// A peer that is active for a unit restarts and will be back by then.
    Hold { unit: String, until: Duration },
    /// A command for one unit, or for all.
    Do { deed: Deed, unit: Option<String>, answer: oneshot::Sender<Result<Vec<String>, String>> },
    /// How everything is.
    View(oneshot::Sender<View>),
    /// End; leases go on for so long where peers know of it.
    Stop { hold: Option<Duration> },
}

/// How the thread and its units are.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// When this was, of CLOCK_BOOTTIME.
    pub(crate) now: Duration,
    /// What keeps the thread from being late.
    pub(crate) real_time: RealTime,
    /// By how much it woke late.
    pub(crate) lateness: Lateness,
    /// Adverts for virtual routers that are not configured here.
    pub(crate) unknown_routers: u64,
    /// The units.
    pub(crate) units: Vec<UnitView>,
}

/// What units act on.
pub(super) struct Shell {
    pub(super) leases: Leases,
    pub(super) roles: Roles,
    pub(super) links: Links,
    pub(super) events: Events,
}

/// The thread, from outside. Dropping it leaves the thread to end by itself, without a goodbye.
pub(crate) struct Thread {
    orders: Sender<Order>,
    bell: UnixStream,
    join: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts it in the network namespace of the thread that calls.
    pub(crate) fn start(leases: Leases, roles: Roles, events: Events) -> Result<Self> {
        let (bell, heard) = UnixStream::pair().context("cannot make a pair of sockets")?;
        for end in [&bell, &heard] {
            end.set_nonblocking(true).context("cannot make a socket non-blocking")?;
        }
        let (orders, inbox) = channel();
        let waiter = Waiter::new().context("cannot make a timer")?;
        let run = move || {
            let shell = Shell { leases, roles, links: Links::default(), events };
            Loop {
                units: Vec::new(),
                shell,
                real_time: make_real_time(),
                lateness: Lateness::default(),
                unknown_routers: 0,
            }
            .run(&inbox, heard, &waiter);
        };
        let join = std::thread::Builder::new()
            .name("fairlead-ha".to_owned())
            .spawn(run)
            .context("cannot start the thread that renews leases")?;
        Ok(Self { orders, bell, join: Some(join) })
    }

    fn order(&self, order: Order) {
        // A thread that is gone has been told to stop.
        let _ = self.orders.send(order);
        // A full bell has not been heard yet: it will.
        let _ = (&self.bell).write(&[1]);
    }

    /// Has these units from now on. Returns when they are.
    pub(crate) fn apply(&self, units: Vec<UnitSpec>) {
        let (done, applied) = channel();
        self.order(Order::Apply { units, done });
        let _ = applied.recv_timeout(Duration::from_secs(1));
    }

    pub(crate) fn track(&self, unit: &str, tracked: Tracked) {
        self.order(Order::Track { unit: unit.to_owned(), tracked });
    }

    pub(crate) fn news(&self, unit: &str, news: PeerNews) {
        self.order(Order::News { unit: unit.to_owned(), news });
    }

    /// Carries out a command: what was done in each unit, or why not.
    pub(crate) fn command(
        &self,
        deed: Deed,
        unit: Option<String>,
    ) -> oneshot::Receiver<Result<Vec<String>, String>> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Do { deed, unit, answer });
        answered
    }

    pub(crate) fn view(&self) -> oneshot::Receiver<View> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::View(answer));
        answered
    }

    pub(crate) fn take_over(&self, unit: &str) {
        self.order(Order::TakeOver { unit: unit.to_owned() });
    }

    pub(crate) fn hold(&self, unit: &str, until: Duration) {
        self.order(Order::Hold { unit: unit.to_owned(), until });
    }

    /// Ends the thread. Says goodbye for all units but those whose peers know that it will be back after `hold`.
    pub(crate) fn stop(mut self, hold: Option<Duration>) {
        self.order(Order::Stop { hold });
        if let Some(join) = self.join.take() {
            let _ = join.join();
        }
    }
}

struct Loop {
    units: Vec<Unit>,
    shell: Shell,
    real_time: RealTime,
    lateness: Lateness,
    unknown_routers: u64,
}

impl Loop {
    fn run(mut self, inbox: &Receiver<Order>, mut heard: UnixStream, waiter: &Waiter) {
        loop {
            // First the time, then what came until then, then what is due: a process that was stopped in between knows
            // of every packet of before, and acts by a time that is too early rather than too late.
            let now = boot_time();
            self.note_lateness(now);
            self.receive(now);
            for unit in &mut self.units {
                unit.tick(now, &mut self.shell);
            }
            let mut rung = [0; 64];
            let _ = heard.read(&mut rung);
            while let Ok(order) = inbox.try_recv() {
                if !self.obey(order) {
                    return;
                }
            }
            let deadline = self.units.iter().filter_map(Unit::next_deadline).min();
            let all = self.shell.links.descriptors().chain([heard.as_fd()]);
            let descriptors: Vec<_> = all.collect();
            if waiter.wait(&descriptors, deadline).is_err() {
                // Nothing to be done about it but not to spin.
                std::thread::sleep(LATE);
            }
        }
    }

    fn note_lateness(&mut self, now: Duration) {
        let due = self.units.iter().filter_map(Unit::next_deadline).min();
        // What woke it before was a packet or an order, which says nothing about punctuality.
        if let Some(late) = due.and_then(|due| now.checked_sub(due)) {
            self.lateness.note(now, late);
        }
    }

    fn receive(&mut self, now: Duration) {
        let mut buffer = [0; MAX_DATAGRAM];
        for key in self.shell.links.keys() {
            for _ in 0..MAX_PACKETS_AT_ONCE {
                let Some(datagram) = self.shell.links.receive(key, &mut buffer) else { break };
                let Some(payload) = buffer.get(datagram.payload_range.clone()) else { continue };
                let Some(vrid) = vrid_of(payload) else { continue };
                let received = Received {
                    source: datagram.source,
                    destination: datagram.destination,
                    hop_limit: datagram.hop_limit,
                    payload,
                };
                let mut taken = false;
                for unit in &mut self.units {
                    taken |= unit.receive(now, key.0, vrid, &received, &mut self.shell);
                }
                self.unknown_routers += u64::from(!taken);
            }
        }
    }

    /// `false`: end.
    fn obey(&mut self, order: Order) -> bool {
        let now = boot_time();
        match order {
            Order::Apply { units, done } => {
                self.apply(units, now);
                let _ = done.send(());
            }
            Order::Track { unit, tracked } => {
                if let Some(unit) = self.units.iter_mut().find(|known| known.spec.name == unit) {
                    unit.track(tracked, now, &mut self.shell);
                }
            }
            Order::News { unit, news } => {
                if let Some(unit) = self.units.iter_mut().find(|known| known.spec.name == unit) {
                    unit.hear_news(news, now, &mut self.shell);
                }
            }
            Order::TakeOver { unit } => {
                if let Some(unit) = self.units.iter_mut().find(|known| known.spec.name == unit) {
                    unit.hear_of(Input::TakeOver, now, &mut self.shell);
                }
            }
            Order::Hold { unit, until } => {
                if let Some(unit) = self.units.iter_mut().find(|known| known.spec.name == unit) {
                    unit.hear_of(Input::Hold { until }, now, &mut self.shell);
                }
            }
            Order::Do { deed, unit, answer } => drop(answer.send(self.command(deed, unit.as_deref(), now))),
            Order::View(answer) => drop(answer.send(self.view(now))),
            Order::Stop { hold } => {
                for unit in &mut self.units {
                    unit.stop(hold, now, &mut self.shell);
                }
                return false;
            }
        }
        true
    }

    fn apply(&mut self, specs: Vec<UnitSpec>, now: Duration) {
        // A unit whose decider changes is another one; its lease goes over.
        let stays = |unit: &Unit| {
            specs.iter().any(|spec| spec.name == unit.spec.name && spec.external == unit.spec.external)
        };
        let kept: BTreeSet<u32> = specs.iter().flat_map(|spec| &spec.groups).map(|group| group.row).collect();
        for mut unit in self.units.extract_if(.., |unit| !stays(unit)) {
            if unit.spec.groups.iter().any(|group| kept.contains(&group.row)) {
                unit.stop(None, now, &mut self.shell);
            } else {
                unit.remove(now, &mut self.shell);
            }
        }
        let wanted: BTreeSet<(u32, Family)> = specs.iter().flat_map(sockets_of).collect();
        self.shell.links.set(&wanted.into_iter().collect::<Vec<_>>());
        for spec in specs {
            match self.units.iter_mut().find(|unit| unit.spec.name == spec.name) {
                Some(unit) if unit.spec == spec => {}
                Some(unit) => unit.change(spec, now, &mut self.shell),
                None => self.units.push(Unit::start(spec, now, &mut self.shell)),
            }
        }
    }

    fn command(&mut self, deed: Deed, unit: Option<&str>, now: Duration) -> Result<Vec<String>, String> {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for known in &mut self.units {
            if unit.is_none_or(|unit| unit == known.spec.name) {
                match known.command(deed, now, &mut self.shell) {
                    Ok(what) => done.push(what),
                    Err(why) => refused.push(why),
                }
            }
        }
        if done.is_empty() && !refused.is_empty() {
            return Err(refused.join("; "));
        }
        done.extend(refused);
        Ok(done)
    }

    fn view(&self, now: Duration) -> View {
        View {
            now,
            real_time: self.real_time.clone(),
            lateness: self.lateness,
            unknown_routers: self.unknown_routers,
            units: self.units.iter().map(|unit| unit.view(now, &self.shell)).collect(),
        }
    }
}

/// What adverts of a unit are sent and heard by.
fn sockets_of(spec: &UnitSpec) -> Vec<(u32, Family)> {
    let mut sockets = Vec::new();
    for group in &spec.groups {
        let Some(interface) = &group.interface else { continue };
        for vip in &group.config.vips {
            sockets.push((interface.index, Family::of(*vip)));
        }
    }
    if spec.external { Vec::new() } else { sockets }
}

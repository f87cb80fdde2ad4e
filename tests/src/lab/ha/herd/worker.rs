//! The thread that serves all connections of a herd.

use super::connection::{Break, Connection};
use super::{BrokenOne, Checkup, HerdPlan, Shared};
use crate::lab::ha::rhythm::Rhythm;
use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// Connections that are served in one turn.
const MAX_EVENTS: usize = 256;
/// How long a turn waits at most: how coarse the rate is.
const TURN_MS: u8 = 2;
/// How often silent connections are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A check that somebody waits for.
pub(super) struct Order {
    pub(super) within: Duration,
    pub(super) answer: Sender<Checkup>,
}

pub(super) struct Worker {
    plan: HerdPlan,
    epoll: Epoll,
    /// `None` where one broke.
    connections: Vec<Option<Connection>>,
    shared: Arc<Shared>,
    begun: Instant,
    /// Requests sent by the rate so far.
    sent: u64,
    looked: Instant,
    bulk: Rhythm,
    checking: Option<(Instant, Order)>,
}

impl Worker {
    pub(super) fn new(plan: HerdPlan, connections: Vec<Connection>, shared: Arc<Shared>) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        for (index, connection) in connections.iter().enumerate() {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            epoll.add(&connection.stream, EpollEvent::new(flags, index as u64)).context("epoll")?;
        }
        let connections = connections.into_iter().map(Some).collect();
        let (now, bulk) = (Instant::now(), Rhythm::new(plan.bulk_every));
        Ok(Self { plan, epoll, connections, shared, begun: now, sent: 0, looked: now, bulk, checking: None })
    }

    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        while !self.shared.stop.load(Ordering::Acquire) {
            let count = self.epoll.wait(&mut events, EpollTimeout::from(TURN_MS)).unwrap_or(0);
            for event in events.iter().take(count) {
                if let Ok(index) = usize::try_from(event.data()) {
                    self.touch(index, |connection, shared| {
                        let answers = connection.receive()?;
                        shared.answers.fetch_add(answers, Ordering::AcqRel);
                        connection.send()
                    });
                }
            }
            self.keep_rate();
            self.keep_bulk();
            self.look_for_silence();
            if let Ok(order) = orders.try_recv() {
                self.connections.iter_mut().flatten().for_each(Connection::want_check);
                self.checking = Some((Instant::now() + order.within, order));
            }
            self.go_on_with_check();
        }
    }

    /// Does something with a connection that still lives; if that breaks it, notes and closes it.
    fn touch(&mut self, index: usize, act: impl FnOnce(&mut Connection, &Shared) -> Result<(), Break>) {
        let Some(place) = self.connections.get_mut(index) else { return };
        let Some(connection) = place else { return };
        if let Err(why) = act(connection, &self.shared) {
            let (from, backend) = (connection.from, connection.backend.clone());
            self.shared.broke(BrokenOne { from, backend, at: Instant::now(), why });
            *place = None;
        }
    }

    /// Sends the requests that are due, the talking connections taking turns. What could not be sent in time (the thread
    /// did not run) is left out but for one turn's worth.
    fn keep_rate(&mut self) {
        let talkers = self.plan.talkers();
        if talkers.is_empty() || self.plan.requests_per_second == 0 {
            return;
        }
        let due = self.begun.elapsed().as_secs_f64() * f64::from(self.plan.requests_per_second);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests")]
        let due = due as u64;
        let most = talkers.len() as u64;
        self.sent = self.sent.max(due.saturating_sub(most));
        while self.sent < due {
            let turn = usize::try_from(self.sent % most).unwrap_or(0);
            self.sent += 1;
            self.touch(talkers.start + turn, |connection, _| connection.ask(0));
        }
    }

    /// Those that send much begin anew with each beat, or later if they are not answered yet.
    fn keep_bulk(&mut self) {
        if !self.bulk.due() {
            return;
        }
        let octets = self.plan.bulk_octets;
        for index in self.plan.bulk() {
            self.touch(index, |connection, _| connection.ask(octets));
        }
    }

    fn look_for_silence(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let patience = self.plan.patience;
        for index in 0..self.connections.len() {
            self.touch(index, |connection, _| match connection.waits_since().map(|since| since.elapsed()) {
                Some(waited) if waited >= patience => Err(Break::Silent(waited)),
                _ => Ok(()),
            });
        }
    }

    fn go_on_with_check(&mut self) {
        let Some((deadline, order)) = self.checking.take() else { return };
        let mut open = Vec::new();
        for index in 0..self.connections.len() {
            self.touch(index, |connection, _| {
                if !connection.check()? {
                    open.push(index);
                }
                Ok(())
            });
        }
        if !open.is_empty() && Instant::now() < deadline {
            self.checking = Some((deadline, order));
            return;
        }
        for index in open {
            self.touch(index, |_, _| Err(Break::Silent(order.within)));
        }
        // Whoever asked has gone if it cannot be told.
        let _ = order.answer.send(self.shared.checkup(self.connections.len()));
    }
}

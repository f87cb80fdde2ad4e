//! One peer: which of its sessions this node talks to, and what comes from it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::context::Context;
use super::effect::{Effect, PeerStatus};
use super::link::Link;
use super::receiving::Receiving;
use super::sending::Sending;
use super::{PEER_SILENCE, SCAN_INTERVAL, Settings};
use crate::plan::ServiceKey;
use crate::sweep::FlowWord;
use crate::sync::apply::{bucket_bits, check_buckets};
use crate::sync::wire::{GroupSaid, Header, Hello, Message, Rejected, Window, WireError, node_id, seal};

/// Sessions that a peer had before, of which recorded datagrams are not taken.
const MAX_RETIRED: usize = 64;
/// Shortest time between two answers to a peer that does not know our session number: a replayed Hello is no lever.
const ANSWER_GAP: Duration = Duration::from_millis(20);

/// A peer by its address.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    counter: u64,
    retired: VecDeque<u64>,
    answered_at: Option<Duration>,
    pub(super) link: Option<Link>,
    sent: u64,
    received: u64,
    pub(super) rejected: Rejected,
}

impl Peer {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            counter: 0,
            retired: VecDeque::new(),
            answered_at: None,
            link: None,
            sent: 0,
            received: 0,
            rejected: Rejected::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.up)
    }

    /// Sends to the session that is known.
    pub(super) fn send(&mut self, own: &Settings, message: &[u8], effects: &mut VecDeque<Effect>) {
        let receiver = self.link.as_ref().map_or(0, |link| link.session);
        self.send_to(own, receiver, message, effects);
    }

    fn send_to(&mut self, own: &Settings, receiver: u64, message: &[u8], effects: &mut VecDeque<Effect>) {
        self.counter += 1;
        let header = Header {
            node: node_id(&own.cluster, &own.node),
            session: own.session,
            receiver,
            counter: self.counter,
        };
        match seal(&own.key, &header, message) {
            Ok(datagram) => {
                self.sent += 1;
                effects.push_back(Effect::Send { to: self.address, datagram });
            }
            Err(error) => effects.push_back(Effect::Warning(format!("a message cannot be sent: {error}"))),
        }
    }

    pub(super) fn hello<W>(&self, own: &Settings, context: &Context<'_, W>) -> Vec<u8> {
        let receiving = self.link.as_ref().map(|link| &link.receiving);
        let groups = context.groups.iter().map(|group| GroupSaid {
            name: group.name.clone(),
            priority: group.priority,
            active: group.active,
        });
        Message::Hello(Hello {
            cluster: own.cluster.clone(),
            node: own.node.clone(),
            bucket_bits: bucket_bits(context.table.words.len()),
            hash_complete: false,
            groups: groups.collect(),
            next_expected: receiving.map_or(0, |receiving| receiving.inbox.next_expected()),
            bulk_complete: receiving.is_some_and(|receiving| receiving.complete),
        })
        .encode()
    }

    /// A datagram that was made with the cluster's key.
    pub(super) fn take<W: FlowWord>(
        &mut self,
        now: Duration,
        own: &Settings,
        (header, message): (Header, Message),
        context: &Context<'_, W>,
        effects: &mut VecDeque<Effect>,
    ) -> Result<(), WireError> {
        if header.node == node_id(&own.cluster, &own.node) {
            return Err(WireError::Ourselves);
        }
        if let Message::Hello(hello) = &message {
            if hello.cluster != own.cluster {
                return Err(WireError::Cluster);
            }
            if header.receiver != own.session {
                // It proves nothing, and may be a recording: the answer lets the sender prove that it is there.
                if self.answered_at.is_none_or(|at| now >= at + ANSWER_GAP) {
                    self.answered_at = Some(now);
                    let answer = self.hello(own, context);
                    self.send_to(own, header.session, &answer, effects);
                }
                return Ok(());
            }
            self.meet(now, own, &header, hello, context, effects)?;
        }
        let link = self.link.as_mut().filter(|link| link.session == header.session);
        let link = link.filter(|_| header.receiver == own.session).ok_or(WireError::Session)?;
        let newest = link.window.is_newest(header.counter);
        if !link.window.take(header.counter) {
            return Err(WireError::Replay);
        }
        self.received += 1;
        link.last_heard = now;
        if !link.up {
            link.up = true;
            // Roles may have changed meanwhile, on both sides, and the peer need not have noticed any silence.
            link.sending.restart();
            link.receiving.spoil();
            effects.push_back(Effect::PeerUp(self.address));
        }
        self.act(now, own, (message, newest), context, effects);
        Ok(())
    }

    /// Whoever names our session number in a Hello is there now: with one that is not known it has started anew.
    fn meet<W>(
        &mut self,
        now: Duration,
        own: &Settings,
        header: &Header,
        hello: &Hello,
        context: &Context<'_, W>,
        effects: &mut VecDeque<Effect>,
    ) -> Result<(), WireError> {
        if self.link.as_ref().is_some_and(|link| link.session == header.session) {
            return Ok(());
        }
        if self.retired.contains(&header.session) {
            return Err(WireError::Session);
        }
        if let Some(old) = self.link.take() {
            self.retired.push_back(old.session);
            if self.retired.len() > MAX_RETIRED {
                self.retired.pop_front();
            }
            if old.up {
                effects.push_back(Effect::PeerDown(self.address));
            }
        }
        let fits = check_buckets(hello.bucket_bits, hello.hash_complete, context.table.words.len());
        if let Err(why) = fits {
            effects.push_back(Effect::Warning(format!("no flows are taken from {}: {why}", hello.node)));
        }
        self.link = Some(Link {
            session: header.session,
            up: false,
            last_heard: now,
            window: Window::default(),
            hello: hello.clone(),
            is_compatible: fits.is_ok(),
            sending: Sending::new(now, own.max_rate, own.told_of),
            receiving: Receiving::default(),
        });
        Ok(())
    }

    fn act<W: FlowWord>(
        &mut self,
        now: Duration,
        own: &Settings,
        (message, newest): (Message, bool),
        context: &Context<'_, W>,
        effects: &mut VecDeque<Effect>,
    ) {
        let (peer, Some(link)) = (self.address, &mut self.link) else { return };
        let again = match message {
            // One that was overtaken says what is not true any more.
            Message::Hello(hello) => {
                if newest {
                    link.listen(hello)
                } else {
                    Vec::new()
                }
            }
            Message::Sequenced(sequence, what) => {
                if link.is_compatible {
                    let claimed = link.claimed(context);
                    let spares = link.sending.has_legacy(context);
                    let said = link.receiving.take(now, (sequence, what), &claimed, context, spares);
                    effects.extend(said.into_iter().map(|said| Effect::Verdicts { peer, said }));
                }
                Vec::new()
            }
            Message::Nack { from, to } => {
                let most = from.saturating_add(crate::sync::stream::MAX_NACK - 1);
                link.sending.again(from, to.min(most))
            }
            Message::HandOver { group } => {
                effects.push_back(Effect::HandOverAsked { peer, group });
                Vec::new()
            }
            Message::HandOverReply { group, accepted } => {
                effects.push_back(Effect::HandOverReply { peer, group, accepted });
                Vec::new()
            }
            Message::Hold { group, time } => {
                effects.push_back(Effect::Hold { peer, group, time });
                Vec::new()
            }
        };
        again.iter().for_each(|message| self.send(own, message, effects));
    }

    /// What is to be sent and noticed now.
    pub(super) fn turn<W: FlowWord>(
        &mut self,
        now: Duration,
        own: &Settings,
        is_interval: bool,
        context: &Context<'_, W>,
        effects: &mut VecDeque<Effect>,
    ) {
        let (mut out, mut flows) = (Vec::new(), Vec::new());
        if let Some(link) = self.link.as_mut().filter(|link| link.up) {
            if now > link.last_heard + PEER_SILENCE {
                link.up = false;
                effects.push_back(Effect::PeerDown(self.address));
            } else {
                let nack = link.receiving.inbox.nack(now);
                out.extend(nack.map(|(from, to)| Message::Nack { from, to }.encode()));
                // Whoever cannot find the flows in its table is not sent any.
                if is_interval && bucket_bits(context.table.words.len()) >= link.hello.bucket_bits {
                    flows = link.sending.turn(now, context);
                }
            }
        }
        if is_interval {
            // First of all what makes the rest believed.
            out.push(self.hello(own, context));
            out.extend(flows);
        }
        out.iter().for_each(|message| self.send(own, message, effects));
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let link = self.link.as_ref().filter(|link| link.up)?;
        let silence = link.last_heard + PEER_SILENCE + SCAN_INTERVAL;
        Some(link.receiving.inbox.next_deadline().unwrap_or(silence).min(silence))
    }

    pub(super) fn status(&self, now: Duration, digests: &BTreeMap<ServiceKey, u64>) -> PeerStatus {
        let link = self.link.as_ref();
        PeerStatus {
            address: self.address,
            node: link.map(|link| link.hello.node.clone()),
            up: self.is_up(),
            last_heard: link.map(|link| link.last_heard),
            groups: link.map(|link| link.hello.groups.clone()).unwrap_or_default(),
            lag: link.map_or(0, |link| link.sending.lag()),
            behind: link.map_or(Duration::ZERO, |link| link.sending.behind(now)),
            differing: link.map(|link| link.differing(digests)).unwrap_or_default(),
            has_ours: link.is_some_and(|link| link.up && link.hello.bulk_complete),
            have_theirs: link.is_some_and(|link| link.receiving.complete),
            sent: self.sent,
            received: self.received,
            resent: link.map_or(0, |link| link.sending.resent),
            unplaced: link.map_or(0, |link| link.receiving.unplaced),
            rejected: self.rejected,
        }
    }
}

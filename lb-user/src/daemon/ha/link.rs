//! The interfaces that adverts and announcements go by: one socket for each family, and one for frames.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use lb_core::vrrp::Family;

use crate::ha::{Announcer, Datagram, VrrpSocket};

/// Packets in a row that can't be read before other things are looked after.
const MAX_BAD_PACKETS: usize = 64;

/// Sockets by interface, opened when they are first needed.
#[derive(Default)]
pub(super) struct Links {
    sockets: BTreeMap<(u32, Family), VrrpSocket>,
    announcers: BTreeMap<u32, Announcer>,
    /// Why a socket can't be had.
    refused: BTreeMap<(u32, Family), String>,
}

impl Links {
    /// Opens what is wanted, closes what is not.
    pub(super) fn set(&mut self, wanted: &[(u32, Family)]) {
        self.sockets.retain(|key, _| wanted.contains(key));
        self.announcers.retain(|index, _| wanted.iter().any(|(wanted, _)| wanted == index));
        self.refused.clear();
        for (index, family) in wanted {
            let Entry::Vacant(place) = self.sockets.entry((*index, *family)) else { continue };
            match VrrpSocket::open(*index, *family) {
                Ok(socket) => drop(place.insert(socket)),
                Err(error) => drop(self.refused.insert((*index, *family), error.to_string())),
            }
        }
    }

    /// Why there is no socket, if one is wanted and can't be had.
    pub(super) fn refusal(&self, index: u32, family: Family) -> Option<&str> {
        self.refused.get(&(index, family)).map(String::as_str)
    }

    /// Those that adverts come in by.
    pub(super) fn keys(&self) -> Vec<(u32, Family)> {
        self.sockets.keys().copied().collect()
    }

    /// What to wait for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.values().map(AsFd::as_fd)
    }

    /// The next packet that came in; `None` if there is none, or no socket.
    pub(super) fn receive(&self, key: (u32, Family), buffer: &mut [u8]) -> Option<Datagram> {
        let socket = self.sockets.get(&key)?;
        for _ in 0..MAX_BAD_PACKETS {
            match socket.receive(buffer) {
                Ok(datagram) => return datagram,
                // About one packet, or about an interface that is going, of which netlink tells: the next may be better.
                Err(_) => continue,
            }
        }
        None
    }

    pub(super) fn send(
        &self,
        index: u32,
        family: Family,
        source: IpAddr,
        destination: IpAddr,
        packet: &[u8],
    ) -> Result<(), String> {
        let socket = self.sockets.get(&(index, family)).ok_or("there is no socket for them")?;
        socket.send(source, destination, packet).map_err(|error| format!("to {destination}: {error}"))
    }

    /// Tells the link that this MAC is where a VIP is.
    pub(super) fn announce(&mut self, index: u32, mac: [u8; 6], vip: IpAddr) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{vip}: {error}");
        let announcer = match self.announcers.entry(index) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => place.insert(Announcer::open(index).map_err(failed)?),
        };
        announcer.announce(mac, vip).map_err(failed)
    }
}

//! Reading and writing the fields of a message. Numbers are big-endian; nothing read can be longer than what is there.

use std::net::IpAddr;

use super::WireError;
use crate::config::Protocol;
use crate::plan::ServiceKey;

/// What is left of a message.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.take().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Value),
        }
    }

    pub(super) fn address(&mut self) -> Result<IpAddr, WireError> {
        match self.u8()? {
            4 => self.take::<4>().map(IpAddr::from),
            6 => self.take::<16>().map(IpAddr::from),
            _ => Err(WireError::Value),
        }
    }

    pub(super) fn service(&mut self) -> Result<ServiceKey, WireError> {
        let (vip, port) = (self.address()?, self.u16()?);
        Ok(ServiceKey { vip, port, protocol: self.one_of(Protocol::ALL)? })
    }

    /// One of a few values, sent as its position.
    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> Result<T, WireError> {
        all.get(usize::from(self.u8()?)).copied().ok_or(WireError::Value)
    }

    pub(super) fn text(&mut self) -> Result<String, WireError> {
        let length = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| WireError::Value)
    }

    /// As many as a count in 16 bits says. The count is not believed: room is made as they come.
    pub(super) fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.u16()?;
        (0..count).map(|_| one(self)).collect()
    }
}

/// A message in the making. One that gets too long is refused when it is sealed.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.u8(4);
                self.bytes(&address.octets());
            }
            IpAddr::V6(address) => {
                self.u8(6);
                self.bytes(&address.octets());
            }
        }
    }

    pub(super) fn service(&mut self, service: &ServiceKey) {
        self.address(service.vip);
        self.u16(service.port);
        self.one_of(Protocol::ALL, service.protocol);
    }

    pub(super) fn one_of<T: Copy + PartialEq>(&mut self, all: &[T], value: T) {
        let position = all.iter().position(|one| *one == value);
        self.u8(position.and_then(|position| u8::try_from(position).ok()).unwrap_or(u8::MAX));
    }

    /// Cut off at 255 bytes, at a character: names are shorter, and whoever gets one shows it only.
    pub(super) fn text(&mut self, text: &str) {
        let length = (0..=text.len().min(255)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.u8(u8::try_from(length).unwrap_or(0));
        self.bytes(&text.as_bytes()[..length]);
    }

    pub(super) fn list<T>(&mut self, all: &[T], mut one: impl FnMut(&mut Self, &T)) {
        // More than that is far longer than a datagram, which is refused.
        self.u16(u16::try_from(all.len()).unwrap_or(u16::MAX));
        all.iter().for_each(|item| one(self, item));
    }
}

//! Frames from what a user has: hexadecimal digits, a capture, or addresses.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use etherparse::PacketBuilder;
use lb_core::config::Protocol;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::failure::UsageError;
use crate::bpf::dry_run::MAX_FRAME_BYTES;
use crate::trace::from_hex;

/// Frames of a capture at most: nobody reads more explanations.
const MAX_FRAMES: usize = 4_096;

/// Largest text with digits: as many frames as there may be in a capture, with offsets and columns.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Of what is neither a file nor digits, so many letters are shown.
const MAX_SHOWN_NAME: usize = 64;

/// Buffer for a capture: larger than any block of one frame.
const CAPTURE_BUFFER: usize = 1 << 18;

/// Source MAC of frames that are made here: a locally administered one.
const MADE_SOURCE: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

fn usage(message: String) -> anyhow::Error {
    UsageError(message).into()
}

/// Frames from a file, stdin (`-`), or the digits themselves.
///
/// # Errors
/// What cannot be read or is not hexadecimal.
pub(super) fn from_text(what: &str) -> Result<Vec<Vec<u8>>> {
    let mut text = String::new();
    if what == "-" {
        std::io::stdin().take(MAX_TEXT_BYTES).read_to_string(&mut text).context("cannot read stdin")?;
    } else if Path::new(what).exists() {
        let file = File::open(what).with_context(|| format!("cannot open {what}"))?;
        file.take(MAX_TEXT_BYTES).read_to_string(&mut text).with_context(|| format!("cannot read {what}"))?;
    } else {
        return frames_in(what).map_err(|error| {
            let name: String = what.chars().take(MAX_SHOWN_NAME).collect();
            usage(format!("there is no file {name:?}, and as digits: {error}"))
        });
    }
    frames_in(&text)
}

fn frames_in(text: &str) -> Result<Vec<Vec<u8>>> {
    let frames = blocks(text)?.iter().map(|block| frame_of(block)).collect::<Result<Vec<_>>>()?;
    if frames.is_empty() {
        return Err(usage("there is no frame: no hexadecimal digits".to_owned()));
    }
    Ok(frames)
}

/// The digits of each frame. In a dump they are on lines with an offset, and whatever else a tool writes about the
/// packets is left out; else an empty line separates frames.
fn blocks(text: &str) -> Result<Vec<String>> {
    let lines = || text.lines().map(str::trim);
    if lines().all(|line| dumped(line).is_none()) {
        let mut blocks = vec![String::new()];
        for line in lines() {
            match blocks.last_mut() {
                Some(last) if !line.is_empty() => last.push_str(line),
                _ => blocks.push(String::new()),
            }
        }
        blocks.retain(|block| !block.is_empty());
        return Ok(blocks);
    }
    let mut blocks: Vec<String> = Vec::new();
    for (offset, digits) in lines().filter_map(dumped) {
        if offset == 0 {
            blocks.push(String::new());
        }
        let before = blocks.last().map_or(0, |block| block.len() / 2);
        if offset != before {
            let message = format!(
                "a line of the dump begins at {offset:#x}, behind {before} bytes: something is missing (`hexdump -v` writes all)"
            );
            return Err(usage(message));
        }
        if let Some(last) = blocks.last_mut() {
            last.extend(digits.chars().filter(|letter| !letter.is_whitespace()));
        }
    }
    Ok(blocks)
}

/// Where the bytes on a line of a dump are in the frame, and their digits.
fn dumped(line: &str) -> Option<(usize, &str)> {
    // `0x0010:  4500 …` of tcpdump, `00000010: 4500 …` of xxd; a column of characters behind two spaces.
    if let Some((head, rest)) = line.split_once(": ")
        && let Ok(offset) = usize::from_str_radix(head.strip_prefix("0x").unwrap_or(head), 16)
    {
        let rest = rest.trim_start();
        return Some((offset, rest.split("  ").next().unwrap_or(rest)));
    }
    // `0010   45 00 …` of Wireshark, `00000010  45 00 …` of hexdump: two spaces may be in the middle, and a column of
    // characters is behind three, or between bars.
    let (head, rest) = line.split_at(line.find(|letter: char| !letter.is_ascii_hexdigit())?);
    let digits = rest.trim_start();
    if !(4..=8).contains(&head.len()) || rest.len() - digits.len() < 2 {
        return None;
    }
    let digits = digits.split("   ").next().unwrap_or(digits);
    Some((usize::from_str_radix(head, 16).ok()?, digits.split('|').next().unwrap_or(digits)))
}

fn frame_of(block: &str) -> Result<Vec<u8>> {
    let digits: String =
        block.replace("0x", "").chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
    let frame = from_hex(&digits).map_err(|reason| usage(format!("not a frame: {reason}")))?;
    checked(frame)
}

fn checked(frame: Vec<u8>) -> Result<Vec<u8>> {
    if frame.len() > MAX_FRAME_BYTES {
        let message = format!("a frame has {} bytes; {MAX_FRAME_BYTES} are the most", frame.len());
        return Err(usage(message));
    }
    Ok(frame)
}

/// All frames of a capture.
///
/// # Errors
/// If it cannot be read, is cut short, or is not of Ethernet.
pub(super) fn from_pcap(path: &Path) -> Result<Vec<Vec<u8>>> {
    let name = path.display();
    let size = fs::metadata(path).with_context(|| format!("cannot open {name}"))?.len();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let refused = |reason: String| usage(format!("{name} ({size} bytes) {reason}"));
    let mut reader = create_reader(CAPTURE_BUFFER, file)
        .map_err(|_| refused("is no capture: neither pcap nor pcapng".to_owned()))?;
    let mut frames = Vec::new();
    loop {
        let exhausted = reader.reader_exhausted();
        match reader.next() {
            Ok((consumed, block)) => {
                if let Some(frame) = frame_in(&block).map_err(refused)? {
                    frames.push(checked(frame)?);
                }
                reader.consume(consumed);
            }
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) if !exhausted => {
                reader.refill().map_err(|error| refused(format!("cannot be read: {error}")))?;
            }
            Err(PcapError::Incomplete(_) | PcapError::UnexpectedEof) => {
                return Err(refused(format!("is cut short behind frame {}", frames.len())));
            }
            Err(error) => return Err(refused(format!("is damaged behind frame {}: {error}", frames.len()))),
        }
        if frames.len() > MAX_FRAMES {
            return Err(refused(format!("has more than {MAX_FRAMES} frames: take fewer (`tcpdump -c`)")));
        }
    }
    if frames.is_empty() {
        return Err(refused("has no frames".to_owned()));
    }
    Ok(frames)
}

/// The frame of a block; `None` if the block has none.
fn frame_in(block: &PcapBlockOwned<'_>) -> Result<Option<Vec<u8>>, String> {
    let ethernet = |linktype: Linktype| match linktype {
        Linktype::ETHERNET => Ok(None),
        Linktype(other) => Err(format!(
            "is of link type {other}, not Ethernet: capture on the interface itself, not on \"any\""
        )),
    };
    let whole = |data: &[u8], captured: u32, length: u32| match data.get(..captured as usize) {
        Some(data) if captured >= length => Ok(Some(data.to_vec())),
        _ => Err(format!(
            "holds only {captured} of a frame's {length} bytes: capture whole frames (`tcpdump -s 0`)"
        )),
    };
    match block {
        PcapBlockOwned::LegacyHeader(header) => ethernet(header.network),
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => ethernet(interface.linktype),
        PcapBlockOwned::Legacy(packet) => whole(packet.data, packet.caplen, packet.origlen),
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            whole(packet.data, packet.caplen, packet.origlen)
        }
        PcapBlockOwned::NG(_) => Ok(None),
    }
}

/// Flags of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpFlags {
    syn: bool,
    ack: bool,
    fin: bool,
    rst: bool,
    psh: bool,
}

impl TcpFlags {
    /// Those of a packet that opens a connection.
    pub(super) const SYN: Self = Self { syn: true, ack: false, fin: false, rst: false, psh: false };
}

impl FromStr for TcpFlags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(letter) = text.chars().find(|letter| !"SAFRP".contains(*letter)) {
            return Err(format!("{letter:?} is none of S, A, F, R, P"));
        }
        let has = |letter| text.contains(letter);
        Ok(Self { syn: has('S'), ack: has('A'), fin: has('F'), rst: has('R'), psh: has('P') })
    }
}

/// A frame to be made.
pub(super) struct Made {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) flags: TcpFlags,
    pub(super) ttl: u8,
    pub(super) payload: usize,
    /// The interface that it is addressed to.
    pub(super) mac: [u8; 6],
}

/// Makes the frame, with right checksums.
///
/// # Errors
/// If the addresses are of two families, or the payload does not fit.
pub(super) fn make(made: &Made) -> Result<Vec<u8>> {
    let link = PacketBuilder::ethernet2(MADE_SOURCE, made.mac);
    let ip = match (made.from, made.to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            link.ipv4(from.ip().octets(), to.ip().octets(), made.ttl)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            link.ipv6(from.ip().octets(), to.ip().octets(), made.ttl)
        }
        (from, to) => bail!(usage(format!("{from} and {to} are not of one family"))),
    };
    let (from, to) = (made.from.port(), made.to.port());
    let data = vec![0; made.payload];
    let mut frame = Vec::new();
    let written = match made.protocol {
        Protocol::Udp => ip.udp(from, to).write(&mut frame, &data),
        Protocol::Tcp => {
            let mut tcp = ip.tcp(from, to, 1, 64_240);
            let TcpFlags { syn, ack, fin, rst, psh } = made.flags;
            tcp = if syn { tcp.syn() } else { tcp };
            tcp = if ack { tcp.ack(1) } else { tcp };
            tcp = if fin { tcp.fin() } else { tcp };
            tcp = if rst { tcp.rst() } else { tcp };
            tcp = if psh { tcp.psh() } else { tcp };
            tcp.write(&mut frame, &data)
        }
    };
    written.context("cannot make the frame")?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_taken_as_people_and_tools_write_them() {
        let bytes = [0x02, 0x00, 0x5e, 0xff, 0x10];
        for text in [
            "02005eff10",
            "0x02005eff10",
            "02 00 5E FF 10",
            "02:00:5e:ff:10",
            "0200 5eff\n10\n",
            "\t0x0000:  0200 5e\n\t0x0003:  ff10\n",
            "00000000: 0200 5eff 10                             ..^..\n",
            "12:00:00.1 IP 10.0.0.1 > 10.0.0.2: tcp\n\t0x0000:  0200 5eff 10  ..^..\n",
            "12:00:00.1 ARP, Request who-has 10.0.0.1 tell 10.0.0.2, length 28\n\t0x0000:  0200 5eff 10\n",
            "12:00:00.1 IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto TCP (6), length 40)\n    \
             10.0.0.1.1 > 10.0.0.2.2: Flags [S], cksum 0x1234 (correct)\n\t0x0000:  0200 5eff 10\n",
            "0000   02 00 5e ff                                       ..^.\n0004   10   .\n",
            "0000  02 00 5e ff 10                                    a: ..\n",
            "00000000  02 00 5e  ff 10                              |..^..|\n00000005\n",
        ] {
            assert_eq!(from_text(text).expect(text), [bytes], "{text}");
        }
        assert_eq!(from_text("0200\n\n03 04\n").expect("two"), [[2, 0], [3, 4]]);
        assert_eq!(from_text("0x0000:  0200\n0x0000:  0304\n").expect("two"), [[2, 0], [3, 4]]);
        assert_eq!(from_text("0000  02 00\n\n0000  03 04\n").expect("two"), [[2, 0], [3, 4]]);
    }

    #[test]
    fn what_is_no_frame_is_refused_with_the_reason() {
        for (text, reason) in [
            ("020", "3 hexadecimal digits"),
            ("02zz", "'z'"),
            ("", "no frame"),
            ("\n", "no frame"),
            ("no-such-frame.txt", "there is no file \"no-such-frame.txt\""),
            ("0010  02 00", "begins at 0x10, behind 0 bytes"),
            ("00000000  02 00  |..|\n*\n00000020  03 04  |..|", "begins at 0x20, behind 2 bytes"),
        ] {
            let error = from_text(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        let long = "00".repeat(MAX_FRAME_BYTES + 1);
        assert!(from_text(&long).expect_err("too long").to_string().contains("9239 bytes"));
    }

    #[test]
    fn a_made_frame_is_of_one_family_and_carries_its_flags() {
        let made = |to: &str| Made {
            from: "198.51.100.7:1".parse().expect("address"),
            to: to.parse().expect("address"),
            protocol: Protocol::Tcp,
            flags: "SA".parse().expect("flags"),
            ttl: 9,
            payload: 3,
            mac: [2; 6],
        };
        let frame = make(&made("192.0.2.1:80")).expect("a frame");
        assert_eq!((frame.len(), frame[22], frame[47]), (14 + 40 + 3, 9, 0x12));
        assert!(make(&made("[2001:db8::1]:80")).is_err());
        assert!("SX".parse::<TcpFlags>().is_err());
    }
}

//! Values of the file: from a TOML item to what it means, or the complaint about it.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml_edit::Item;

use super::model::{
    AdminState, AttachMode, CheckKind, HaMode, Mode, Protocol, Role, SyncMode, TableSize, UnknownPort,
    VrrpChecksum, WhenAllDown,
};
use super::status::StatusRanges;
use super::tables::{Complaint, suggestion};

/// Longest name of a service, group or node: it stands in tables and in URLs.
const MAX_NAME: usize = 64;
/// Longest name of an interface, from the kernel's `IFNAMSIZ` without the final zero.
const MAX_INTERFACE_NAME: usize = 15;
/// Longest path or host of an HTTP check: the request fits one segment.
const MAX_HTTP_TEXT: usize = 512;

/// Unit of VRRPv3's Max Advertise Interval, RFC 9568 section 5.2.7.
const HUNDREDTH: Duration = Duration::from_millis(10);

fn string(item: &Item) -> Result<&str, Complaint> {
    item.as_str().ok_or_else(|| {
        Complaint::new(format!("expected a string, found {}", shown(item)), "write the value in quotes")
    })
}

/// A value as it stands in the file, with its type where the value alone would puzzle.
fn shown(item: &Item) -> String {
    match item.as_value() {
        Some(value) if !value.is_inline_table() && !value.is_array() => {
            format!("{} {}", value.type_name(), value.to_string().trim())
        }
        _ => item.type_name().to_owned(),
    }
}

pub(super) fn boolean(item: &Item) -> Result<bool, Complaint> {
    let reason =
        || Complaint::new(format!("expected true or false, found {}", shown(item)), "write true or false");
    item.as_bool().ok_or_else(reason)
}

pub(super) fn integer(range: RangeInclusive<u32>) -> impl FnOnce(&Item) -> Result<u32, Complaint> {
    move |item| {
        let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
        let Some(number) = item.as_integer() else {
            return Err(Complaint::new(format!("expected a number, found {}", shown(item)), remedy));
        };
        match u32::try_from(number) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(Complaint::new(format!("{number} is out of range"), remedy)),
        }
    }
}

pub(super) fn port(item: &Item) -> Result<u16, Complaint> {
    let number = integer(1..=u32::from(u16::MAX))(item)?;
    u16::try_from(number).map_err(|_| Complaint::new(format!("{number} is no port"), "write 1 to 65535"))
}

/// Where to listen: an address of the machine, or the unspecified one for all of them, and a port.
pub(super) fn listen(item: &Item) -> Result<Option<SocketAddr>, Complaint> {
    let text = string(item)?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 && !address.ip().is_multicast() => Ok(Some(address)),
        _ => {
            let remedy =
                "write an address of this machine and a port, such as \"127.0.0.1:9273\" or \"[::1]:9273\"";
            Err(Complaint::new(format!("\"{}\" is nothing to listen on", text.escape_debug()), remedy))
        }
    }
}

/// Addresses of other nodes; those without a port have `port`.
pub(super) fn sync_peers(port: u16) -> impl FnOnce(&Item) -> Result<Vec<SocketAddr>, Complaint> {
    move |item| {
        let Some(list) = item.as_array() else {
            let reason = format!("expected a list of addresses, found {}", shown(item));
            return Err(Complaint::new(reason, "write them in brackets: [\"192.0.2.2:7301\"]"));
        };
        let peer = |value: &toml_edit::Value| {
            let text = value.as_str().unwrap_or_default();
            let alone = text.parse().map(|address: IpAddr| SocketAddr::new(address, port));
            let found = text.parse::<SocketAddr>().or(alone).ok().filter(|found| {
                let ip = found.ip();
                found.port() > 0 && !ip.is_multicast() && !ip.is_unspecified()
            });
            found.ok_or_else(|| {
                let remedy = "write another node's address, with its port if that is another one than this node's, such as \
                              \"192.0.2.2:7301\" or \"[2001:db8::2]:7301\"";
                Complaint::new(format!("{} is no address of a node", value.to_string().trim()), remedy)
            })
        };
        list.iter().map(peer).collect()
    }
}

/// Bits a second, with a unit, in bytes a second.
pub(super) fn rate(item: &Item) -> Result<u64, Complaint> {
    let remedy = "write a number of kbit, mbit or gbit, from \"100kbit\" to \"100gbit\", such as \"200mbit\"";
    let text = string(item).map_err(|complaint| Complaint::new(complaint.reason, remedy))?;
    let units = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000_u64)];
    let found = units.iter().find_map(|(unit, factor)| {
        text.strip_suffix(unit)?.trim_end().parse::<u64>().ok()?.checked_mul(*factor)
    });
    match found {
        Some(bits) if (100_000..=100_000_000_000).contains(&bits) => Ok(bits / 8),
        Some(_) => Err(Complaint::new(format!("\"{text}\" is out of range"), remedy)),
        None => Err(Complaint::new(format!("\"{}\" is no rate", text.escape_debug()), remedy)),
    }
}

/// Whole hundredths of a second, the unit in which VRRPv3 adverts say it.
pub(super) fn hundredths(
    range: RangeInclusive<Duration>,
) -> impl FnOnce(&Item) -> Result<Duration, Complaint> {
    move |item| {
        let found = duration(range)(item)?;
        if found.as_nanos().is_multiple_of(HUNDREDTH.as_nanos()) {
            return Ok(found);
        }
        let reason =
            format!("{} is no whole number of hundredths of a second", humantime::format_duration(found));
        Err(Complaint::new(reason, "write a multiple of 10ms, such as \"100ms\" or \"1s\""))
    }
}

/// An absolute path, as the daemon's working directory is nobody's business.
pub(super) fn absolute_path(item: &Item) -> Result<PathBuf, Complaint> {
    let text = string(item)?;
    if text.starts_with('/') && !text.ends_with('/') && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(Complaint::new(
        format!("\"{}\" is not the absolute path of a file", text.escape_debug()),
        "write the whole path, such as \"/etc/fairlead/cluster.key\"",
    ))
}

pub(super) fn duration(range: RangeInclusive<Duration>) -> impl FnOnce(&Item) -> Result<Duration, Complaint> {
    move |item| {
        let human = humantime::format_duration;
        let remedy =
            format!("write {} to {}, with unit, such as \"30s\"", human(*range.start()), human(*range.end()));
        let Some(text) = item.as_str() else {
            return Err(Complaint::new(format!("expected a duration, found {}", shown(item)), remedy));
        };
        match humantime::parse_duration(text) {
            Ok(duration) if range.contains(&duration) => Ok(duration),
            Ok(_) => Err(Complaint::new(format!("\"{text}\" is out of range"), remedy)),
            Err(error) => Err(Complaint::new(format!("\"{text}\" is not a duration: {error}"), remedy)),
        }
    }
}

/// A list of addresses of machines.
pub(super) fn addresses(item: &Item) -> Result<Vec<IpAddr>, Complaint> {
    let Some(list) = item.as_array() else {
        let reason = format!("expected a list of addresses, found {}", shown(item));
        return Err(Complaint::new(reason, "write them in brackets: [\"192.0.2.10\", \"2001:db8::10\"]"));
    };
    list.iter().map(|value| address(&Item::Value(value.clone()))).collect()
}

/// Address of a machine: one that a packet can be sent to, and not the balancer's own loopback.
pub(super) fn address(item: &Item) -> Result<IpAddr, Complaint> {
    let text = string(item)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        let remedy =
            "write an IPv4 or IPv6 address without port, prefix length or brackets, such as \"192.0.2.10\"";
        return Err(Complaint::new(format!("\"{text}\" is not an IP address"), remedy));
    };
    let kind = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => "a reserved address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6 form",
        _ => return Ok(address),
    };
    Err(Complaint::new(
        format!("{text} is {kind}"),
        "write a unicast address that other machines can route to",
    ))
}

pub(super) fn service_name(item: &Item) -> Result<String, Complaint> {
    name(item, "a service's name")
}

pub(super) fn group_name(item: &Item) -> Result<String, Complaint> {
    name(item, "a group's name")
}

pub(super) fn cluster_name(item: &Item) -> Result<String, Complaint> {
    name(item, "a cluster's name")
}

pub(super) fn node_name(item: &Item) -> Result<String, Complaint> {
    name(item, "a node's name")
}

pub(super) fn sync_group(item: &Item) -> Result<Option<String>, Complaint> {
    name(item, "a sync group's name").map(Some)
}

fn name(item: &Item, whose: &str) -> Result<String, Complaint> {
    let name = string(item)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['.', '-']) {
        return Ok(name.to_owned());
    }
    let remedy =
        format!("write up to {MAX_NAME} letters, digits, `-`, `_` and `.`, starting with a letter or digit");
    Err(Complaint::new(format!("\"{name}\" cannot be {whose}"), remedy))
}

pub(super) fn interface_name(item: &Item) -> Result<String, Complaint> {
    let name = string(item)?;
    let fits = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if (1..=MAX_INTERFACE_NAME).contains(&name.len()) && name.chars().all(fits) && name != "." && name != ".."
    {
        return Ok(name.to_owned());
    }
    Err(Complaint::new(
        format!("\"{name}\" cannot be an interface's name"),
        "write a name that `ip link` shows",
    ))
}

pub(super) fn http_path(item: &Item) -> Result<String, Complaint> {
    let path = string(item)?;
    if path.starts_with('/') && path.len() <= MAX_HTTP_TEXT && path.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(path.to_owned());
    }
    Err(Complaint::new(
        format!("\"{}\" cannot be the path of a request", path.escape_debug()),
        "start it with `/` and percent-encode spaces and special characters",
    ))
}

pub(super) fn http_host(item: &Item) -> Result<Option<String>, Complaint> {
    let host = string(item)?;
    if (1..=MAX_HTTP_TEXT).contains(&host.len()) && host.chars().all(|c| c.is_ascii_graphic() && c != '/') {
        return Ok(Some(host.to_owned()));
    }
    Err(Complaint::new(
        format!("\"{}\" cannot be a Host header", host.escape_debug()),
        "write a host name such as \"www.example.org\", without scheme and path",
    ))
}

pub(super) fn statuses(item: &Item) -> Result<StatusRanges, Complaint> {
    let remedy = "write status codes and ranges between 100 and 599, such as \"200-399\" or \"200,204\"";
    string(item)?.parse().map_err(|error: super::BadStatusRanges| Complaint::new(error.to_string(), remedy))
}

pub(super) fn table_size(item: &Item) -> Result<TableSize, Complaint> {
    let size = item.as_integer().and_then(|n| u32::try_from(n).ok()).and_then(TableSize::from_entries);
    size.ok_or_else(|| {
        let sizes: Vec<_> = TableSize::ALL.iter().map(ToString::to_string).collect();
        Complaint::new(
            format!("expected a table size, found {}", shown(item)),
            format!("write {}", one_of(&sizes)),
        )
    })
}

/// One of the words of an enum.
fn word<T>(item: &Item, known: &[&str], from_word: fn(&str) -> Option<T>) -> Result<T, Complaint> {
    let found = string(item)?;
    from_word(found).ok_or_else(|| {
        let quoted: Vec<_> = known.iter().map(|word| format!("\"{word}\"")).collect();
        let remedy = match suggestion(found, known) {
            near if near.starts_with("did") => format!("{near} Write {}", one_of(&quoted)),
            _ => format!("write {}", one_of(&quoted)),
        };
        Complaint::new(format!("\"{found}\" is not known here"), remedy)
    })
}

fn one_of(values: &[String]) -> String {
    match values {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

macro_rules! word_readers {
    ($($reader:ident -> $type:ident),+ $(,)?) => {$(
        pub(super) fn $reader(item: &Item) -> Result<$type, Complaint> {
            let known: Vec<&str> = $type::ALL.iter().map(|value| value.word()).collect();
            word(item, &known, $type::from_word)
        }
    )+};
}

word_readers! {
    role -> Role,
    attach_mode -> AttachMode,
    protocol -> Protocol,
    mode -> Mode,
    when_all_down -> WhenAllDown,
    unknown_port -> UnknownPort,
    check_kind -> CheckKind,
    admin_state -> AdminState,
    ha_mode -> HaMode,
    vrrp_checksum -> VrrpChecksum,
    sync_mode -> SyncMode,
}

pub(super) fn check_target(item: &Item) -> Result<super::CheckTarget, Complaint> {
    match string(item)? {
        "backend" => Ok(super::CheckTarget::Backend),
        "vip" => {
            let reason = "probes addressed to the VIP are not there yet";
            Err(Complaint::new(reason, "write \"backend\" or leave the key out"))
        }
        other => Err(Complaint::new(format!("\"{other}\" is not known here"), "write \"backend\"")),
    }
}

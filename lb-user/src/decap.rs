//! The decapsulator on a backend: attached by a command, kept by its pins, no daemon.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, MapType};
use aya::{Ebpf, Pod};
use ipnet::IpNet;
use lb_common::decap::DecapOutcome;
use lb_common::limits::{MAX_DECAP_PREFIXES, MAX_DECAP_VIPS};
use lb_common::reason::Action;
use tokio::runtime::Runtime;

use crate::api::ApiError;
use crate::api::types::{AttachedMode, Counter, CounterKind};
use crate::bpf::layout::Shape;
use crate::bpf::link::Attached;
use crate::bpf::mapped::Mapped;
use crate::bpf::pinned::{Pinned, misfit};
use crate::bpf::{pins, program};
use crate::cli::decap::{AttachOptions, Decapsulator, DetachOptions, StatusOptions};
use crate::net::{Link, Network};

/// Maps of the decapsulator; all are pinned.
const MAPS: [&str; 5] = ["DECAP_FROM4", "DECAP_FROM6", "DECAP_VIPS4", "DECAP_VIPS6", "DECAP_COUNTERS"];

/// Rows of the counters for each CPU.
const COUNTERS_PER_CPU: u32 = 8;

/// Attaches the decapsulator, or replaces the lists of one that is attached.
///
/// # Errors
/// If the interface is missing or runs another program, or rights are missing. A first attach that fails leaves nothing.
pub(crate) fn attach(options: &AttachOptions) -> Result<Decapsulator> {
    let link = find_link(&options.device)?;
    pins::make_sure_of_bpffs(&options.pin_dir)?;
    let directory = directory(&options.pin_dir, link.index)?;
    let fresh = !directory.exists();
    let attached = attach_in(options, &link, &directory);
    if attached.is_err() && fresh {
        remove(&directory).ok();
    }
    attached?;
    describe(&link.name, &directory)?
        .ok_or_else(|| anyhow!("the decapsulator on {} is gone again", link.name))
}

fn attach_in(options: &AttachOptions, link: &Link, directory: &Path) -> Result<()> {
    pins::make_directory(&directory.join("links"))?;
    let cpus = u32::try_from(cpus()?)?;
    check_pins(&link.name, directory, cpus)?;
    let mut ebpf = program::open_decapsulator(cpus, &MAPS, directory)?;
    program::load(&mut ebpf, program::DECAPSULATOR)?;
    // The lists before the link: from its first packet on the program must find them.
    fill(&mut ebpf, options)?;
    let (name, pins) = (program::DECAPSULATOR, directory.join("links"));
    Attached::new(&mut ebpf, name, link, options.mode, &pins, true)?.turn(&mut ebpf, name)
}

/// How the pinned maps must look: a wrong size would let look-ups write over other memory.
fn shapes(cpus: u32) -> [Shape; 5] {
    let prefixes =
        |name, key| Shape { name, kind: MapType::LpmTrie, key, value: 4, entries: MAX_DECAP_PREFIXES };
    let addresses = |name, key| Shape { name, kind: MapType::Hash, key, value: 4, entries: MAX_DECAP_VIPS };
    let entries = cpus.saturating_mul(COUNTERS_PER_CPU);
    [
        prefixes("DECAP_FROM4", 8),
        prefixes("DECAP_FROM6", 20),
        addresses("DECAP_VIPS4", 4),
        addresses("DECAP_VIPS6", 16),
        Shape { name: "DECAP_COUNTERS", kind: MapType::Array, key: 4, value: 8, entries },
    ]
}

/// Refuses pins that are not ours. One that is missing is made anew with the next program.
///
/// # Errors
/// What is there instead; nothing is changed.
fn check_pins(device: &str, directory: &Path, cpus: u32) -> Result<()> {
    for needed in shapes(cpus) {
        let path = directory.join(needed.name);
        if matches!(Pinned::at(&path)?, Pinned::Nothing) {
            continue;
        }
        if let Some(how) = misfit(&path, &needed)? {
            bail!(ApiError::conflict(
                format!("{} is no map of this fairlead: it {how}", path.display()),
                format!("remove it with `fairlead decap detach --dev {device}`, and attach anew"),
            ));
        }
    }
    Ok(())
}

/// Makes the lists what the command says: additions first, so that nothing that stays is missing for a moment.
fn fill(ebpf: &mut Ebpf, options: &AttachOptions) -> Result<()> {
    let mut vips4: HashMap<_, [u8; 4], u32> = HashMap::try_from(map(ebpf, "DECAP_VIPS4")?)?;
    let mut vips6: HashMap<_, [u8; 16], u32> = HashMap::try_from(map(ebpf, "DECAP_VIPS6")?)?;
    let mut from4: LpmTrie<_, [u8; 4], u32> = LpmTrie::try_from(map(ebpf, "DECAP_FROM4")?)?;
    let mut from6: LpmTrie<_, [u8; 16], u32> = LpmTrie::try_from(map(ebpf, "DECAP_FROM6")?)?;
    let full = |what: &str| format!("cannot add {what}: the list is full");
    for vip in &options.vips {
        match vip {
            IpAddr::V4(vip) => vips4.insert(vip.octets(), 1, 0),
            IpAddr::V6(vip) => vips6.insert(vip.octets(), 1, 0),
        }
        .with_context(|| full(&vip.to_string()))?;
    }
    for net in &options.from {
        let length = u32::from(net.prefix_len());
        match net.addr() {
            IpAddr::V4(address) => from4.insert(&Key::new(length, address.octets()), 1, 0),
            IpAddr::V6(address) => from6.insert(&Key::new(length, address.octets()), 1, 0),
        }
        .with_context(|| full(&net.to_string()))?;
    }
    for vip in keys(vips4.keys())? {
        if !options.vips.contains(&IpAddr::from(vip)) {
            vips4.remove(&vip)?;
        }
    }
    for vip in keys(vips6.keys())? {
        if !options.vips.contains(&IpAddr::from(vip)) {
            vips6.remove(&vip)?;
        }
    }
    for key in keys(from4.keys())? {
        if !options.from.contains(&net(IpAddr::from(key.data()), key.prefix_len())?) {
            from4.remove(&key)?;
        }
    }
    for key in keys(from6.keys())? {
        if !options.from.contains(&net(IpAddr::from(key.data()), key.prefix_len())?) {
            from6.remove(&key)?;
        }
    }
    Ok(())
}

fn map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| anyhow!("the BPF object has no map {name}"))
}

fn keys<K: Pod>(keys: impl Iterator<Item = Result<K, aya::maps::MapError>>) -> Result<Vec<K>> {
    keys.collect::<Result<_, _>>().context("cannot read a list")
}

fn net(address: IpAddr, length: u32) -> Result<IpNet> {
    Ok(IpNet::new(address, u8::try_from(length)?)?)
}

/// Detaches the decapsulator and removes its pins.
///
/// # Errors
/// If there is none, or its pins can't be removed.
pub(crate) fn detach(options: &DetachOptions) -> Result<()> {
    let link = find_link(&options.device)?;
    let directory = directory(&options.pin_dir, link.index)?;
    if !directory.exists() {
        bail!(ApiError::not_found(
            format!("no decapsulator of ours is attached to {}", options.device),
            "`fairlead decap status` shows where one is",
        ));
    }
    remove(&directory).with_context(|| format!("cannot remove {}", directory.display()))
}

/// Decapsulators of this network namespace.
///
/// # Errors
/// If a pin can't be read.
pub(crate) fn status(options: &StatusOptions) -> Result<Vec<Decapsulator>> {
    let mut found = Vec::new();
    for link in links()? {
        let directory = directory(&options.pin_dir, link.index)?;
        if directory.exists() {
            found.extend(describe(&link.name, &directory)?);
        }
    }
    Ok(found)
}

/// Reads an attached decapsulator back from its pins.
fn describe(device: &str, directory: &Path) -> Result<Option<Decapsulator>> {
    let Some(link) = links()?.into_iter().find(|link| link.name == device) else { return Ok(None) };
    check_pins(device, directory, u32::try_from(cpus()?)?)?;
    let pin = |name: &str| {
        let path = directory.join(name);
        MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))
    };
    let vips4: HashMap<_, [u8; 4], u32> = HashMap::try_from(Map::HashMap(pin("DECAP_VIPS4")?))?;
    let vips6: HashMap<_, [u8; 16], u32> = HashMap::try_from(Map::HashMap(pin("DECAP_VIPS6")?))?;
    let from4: LpmTrie<_, [u8; 4], u32> = LpmTrie::try_from(Map::LpmTrie(pin("DECAP_FROM4")?))?;
    let from6: LpmTrie<_, [u8; 16], u32> = LpmTrie::try_from(Map::LpmTrie(pin("DECAP_FROM6")?))?;
    let mut vips: Vec<IpAddr> =
        keys(vips4.keys())?.into_iter().map(|octets| Ipv4Addr::from(octets).into()).collect();
    vips.extend(keys(vips6.keys())?.into_iter().map(|octets| IpAddr::from(Ipv6Addr::from(octets))));
    let mut from = Vec::new();
    for key in keys(from4.keys())? {
        from.push(net(IpAddr::from(key.data()), key.prefix_len())?);
    }
    for key in keys(from6.keys())? {
        from.push(net(IpAddr::from(key.data()), key.prefix_len())?);
    }
    vips.sort_unstable();
    from.sort_unstable();
    let counters = pin("DECAP_COUNTERS")?;
    Ok(Some(Decapsulator {
        device: device.to_owned(),
        index: link.index,
        mode: match &link.xdp {
            Some(xdp) if xdp.native => AttachedMode::Native,
            Some(_) => AttachedMode::Generic,
            None => AttachedMode::Detached,
        },
        program_id: link.xdp.as_ref().map_or(0, |xdp| xdp.program_id),
        vips,
        from,
        counters: read_counters(&counters)?,
    }))
}

fn read_counters(map: &MapData) -> Result<Vec<Counter>> {
    let entries = map.info()?.max_entries();
    let rows = Mapped::<u64>::new(map.fd(), entries)?;
    let sum = |outcome: DecapOutcome| {
        (outcome as usize..rows.len())
            .step_by(COUNTERS_PER_CPU as usize)
            .map(|row| rows.word(row).load(Ordering::Relaxed))
            .sum()
    };
    let counter = |outcome: &DecapOutcome| Counter {
        name: outcome.name().to_owned(),
        kind: if outcome.action() == Action::Drop { CounterKind::Drop } else { CounterKind::Verdict },
        description: outcome.description().trim().to_owned(),
        packets: sum(*outcome),
    };
    Ok(DecapOutcome::ALL.iter().map(counter).collect())
}

/// Where the pins of an interface are. Interface indexes are unique only within a network namespace, of which the pin
/// directory knows nothing, so its inode is part of the name.
fn directory(pin_dir: &Path, ifindex: u32) -> Result<PathBuf> {
    let namespace =
        fs::metadata("/proc/thread-self/ns/net").context("cannot look at the network namespace")?.ino();
    Ok(pin_dir.join("decap").join(format!("n{namespace}i{ifindex}")))
}

fn remove(directory: &Path) -> Result<()> {
    for inner in [directory.join("links"), directory.to_owned()] {
        let Ok(entries) = fs::read_dir(&inner) else { continue };
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(&inner)?;
    }
    // Others may still be there.
    let mut parent = directory.parent();
    for _ in 0..2 {
        let Some(path) = parent else { break };
        if fs::remove_dir(path).is_err() {
            break;
        }
        parent = path.parent();
    }
    Ok(())
}

fn cpus() -> Result<usize> {
    aya::util::nr_cpus()
        .map_err(|(path, error)| anyhow::Error::from(error).context(format!("cannot read {path}")))
}

fn find_link(device: &str) -> Result<Link> {
    let links = links()?;
    let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    links.into_iter().find(|link| link.name == device).ok_or_else(|| {
        ApiError::not_found(
            format!("there is no interface \"{device}\""),
            format!("the interfaces are: {}", names.join(", ")),
        )
        .into()
    })
}

fn links() -> Result<Vec<Link>> {
    runtime()?.block_on(async {
        let (network, _) = Network::open().await.context("cannot talk to the kernel by netlink")?;
        network.links().await.context("cannot read the interfaces")
    })
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

//! What is pinned at a path. The kernel tells about any BPF object when it is asked about a map, and its numbers then
//! mean something else: so the kind comes first.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{MapData, MapType};
use aya::programs::links::{FdLink, LinkType, PinnedLink};

use super::layout::Shape;

/// What there is.
#[derive(Debug)]
pub enum Pinned {
    /// Nothing.
    Nothing,
    /// A map.
    Map(MapData),
    /// A link of an XDP program.
    XdpLink,
    /// Any other link.
    OtherLink,
    /// A program.
    Program,
    /// A directory.
    Directory,
    /// No BPF object, or one of a kind that was not known when this was written.
    Foreign,
}

impl Pinned {
    /// Looks, and follows links of the file system.
    ///
    /// # Errors
    /// If it is there and the kernel does not give it, for want of rights for instance.
    pub fn at(path: &Path) -> Result<Self> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(Self::Directory),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A link to nothing is in the way all the same.
                let there = fs::symlink_metadata(path).is_ok();
                return Ok(if there { Self::Foreign } else { Self::Nothing });
            }
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        }
        // Gives any object, and asks about it as about a map: nothing of the answer is used until its kind is known.
        let object = MapData::from_pin(path).with_context(|| format!("cannot open {}", path.display()))?;
        let name = fs::read_link(format!("/proc/self/fd/{}", object.fd().as_fd().as_raw_fd()))
            .context("cannot look at /proc/self/fd")?;
        Ok(match name.to_string_lossy().trim_start_matches("anon_inode:") {
            "bpf-map" => Self::Map(object),
            "bpf-prog" => Self::Program,
            "bpf-link" | "bpf_link" => match link_type(path)? {
                LinkType::Xdp => Self::XdpLink,
                _ => Self::OtherLink,
            },
            _ => Self::Foreign,
        })
    }
}

fn link_type(path: &Path) -> Result<LinkType> {
    let unreadable = || format!("cannot look at the link {}", path.display());
    let link = FdLink::from(PinnedLink::from_pin(path).with_context(unreadable)?);
    let info = link.info().with_context(unreadable)?;
    // A type that is not known is none that could be ours.
    Ok(info.link_type().unwrap_or(LinkType::Unspecified))
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Map(_) => "a map",
            Self::XdpLink => "a link of an XDP program",
            Self::OtherLink => "a link of something else than an XDP program",
            Self::Program => "a program",
            Self::Directory => "a directory",
            Self::Foreign => "no BPF object",
        })
    }
}

/// Arrays that may be mapped into memory (linux/bpf.h).
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// How what is at `path` differs from the map that should be there, for after the map's name; `None` if it does not.
///
/// # Errors
/// If the kernel does not tell.
pub fn misfit(path: &Path, needed: &Shape) -> Result<Option<String>> {
    let map = match Pinned::at(path)? {
        Pinned::Nothing => return Ok(Some("is missing".to_owned())),
        Pinned::Map(map) => map,
        other => {
            let path = path.display();
            return Ok(Some(format!(
                "is {other} and no map: remove or rename {path}, which fairlead did not pin"
            )));
        }
    };
    let info = map.info()?;
    let found = (info.map_type().ok(), info.key_size(), info.value_size(), info.max_entries());
    let mappable = info.map_flags() & BPF_F_MMAPABLE != 0;
    if found == (Some(needed.kind), needed.key, needed.value, needed.entries) {
        let fits = needed.kind != MapType::Array || mappable;
        return Ok((!fits).then(|| "is an array that can't be mapped into memory".to_owned()));
    }
    Ok(Some(if (found.0, found.1, found.2) == (Some(needed.kind), needed.key, needed.value) {
        format!("has {} entries, the configuration needs {}", found.3, needed.entries)
    } else {
        let kind =
            found.0.map_or_else(|| "map of a kind unknown here".to_owned(), |kind| format!("{kind:?}"));
        format!(
            "is a {kind} of {} entries with keys of {} and values of {} bytes, and should be a {:?} of {}, {} and {}",
            found.3, found.1, found.2, needed.kind, needed.entries, needed.key, needed.value
        )
    }))
}

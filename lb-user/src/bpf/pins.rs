//! The pins of an instance: where they are, who holds them, and whether they may be used again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aya::maps::{MapData, MapInfo};
use lb_common::limits::ABI_VERSION;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::layout::{Layout, Meta};
use super::link;
use super::mapped::Mapped;
use crate::api::ApiError;

/// Where bpffs is mounted if nobody has done it.
const BPFFS: &str = "/sys/fs/bpf";

/// How long a daemon that is stopping may still hold its lock: it gives answers on their way two seconds.
const LOCK_WAIT: Duration = Duration::from_millis(2_500);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The pin directory of one instance, locked against other daemons.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    instance: String,
    _lock: Flock<File>,
}

/// What an earlier daemon left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or maps that were never completed.
    Nothing,
    /// Complete maps of this version.
    Complete(Meta),
}

impl Pins {
    /// Makes the directory of `instance` below `pin_dir`, mounts bpffs if need be, and takes the lock.
    ///
    /// # Errors
    /// If another daemon of the instance holds the lock (a conflict), the path is on no bpffs, or rights are missing.
    pub fn open(pin_dir: &Path, instance: &str) -> Result<Self> {
        make_sure_of_bpffs(pin_dir)?;
        let root = pin_dir.join(instance);
        let lock = take_lock(&root, instance)?;
        for directory in [root.join("maps"), root.join("links"), root.join("watch")] {
            make_directory(&directory)?;
        }
        Ok(Self { root, instance: instance.to_owned(), _lock: lock })
    }

    /// Directory of the map pins.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Directory of the link pins.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Directory of the pins of links to tracepoints, which forward nothing.
    #[must_use]
    pub fn watch(&self) -> PathBuf {
        self.root.join("watch")
    }

    /// Whether a program is attached by a pinned link.
    ///
    /// # Errors
    /// If the directory can't be read.
    pub fn has_links(&self) -> Result<bool> {
        let links = self.links();
        let mut entries = fs::read_dir(&links).with_context(|| format!("cannot read {}", links.display()))?;
        Ok(entries.next().is_some())
    }

    /// Looks at what an earlier daemon left. Maps that were never completed are removed, unless a program runs on them.
    ///
    /// # Errors
    /// If maps are missing, or of another version or of other sizes than `layout`; the message says which, and what to do.
    pub fn find(&self, layout: &Layout) -> Result<Found> {
        let remedy = format!(
            "stop forwarding and start anew with `fairlead --instance {} stop --detach` (all flows are picked anew then)",
            self.instance
        );
        match self.meta()? {
            None if self.has_links()? => bail!(ApiError::conflict(
                format!(
                    "a program is attached by {}, but its map META is missing: the other maps cannot be trusted",
                    self.links().display()
                ),
                remedy,
            )),
            None => {
                self.remove_all()?;
                make_directory(&self.maps())?;
                make_directory(&self.links())?;
                make_directory(&self.watch())?;
                Ok(Found::Nothing)
            }
            Some(meta) if meta.abi != ABI_VERSION => bail!(ApiError::conflict(
                format!(
                    "the pinned maps in {} are of version {}, this fairlead needs version {ABI_VERSION}",
                    self.root.display(),
                    meta.abi
                ),
                format!("run the fairlead that made them, or {remedy}"),
            )),
            Some(meta) => {
                let wrong = self.mismatches(layout)?;
                if !wrong.is_empty() {
                    bail!(ApiError::conflict(
                        format!(
                            "the pinned maps in {} do not fit: {}",
                            self.root.display(),
                            wrong.join("; ")
                        ),
                        format!("set [limits] back to what is in force, or {remedy}"),
                    ));
                }
                Ok(Found::Complete(meta))
            }
        }
    }

    /// The META row, if its map is there and complete.
    fn meta(&self) -> Result<Option<Meta>> {
        let path = self.maps().join("META");
        if !path.exists() {
            return Ok(None);
        }
        let map = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let info = map.info()?;
        if (info.value_size() as usize, info.max_entries()) != (size_of::<Meta>(), 1) {
            bail!(ApiError::conflict(
                format!("{} is not a map of fairlead", path.display()),
                format!("remove {} if nothing uses it", self.root.display()),
            ));
        }
        let meta = Mapped::<Meta>::new(map.fd(), 1)?.read(0);
        Ok((meta.abi != 0).then_some(meta))
    }

    fn mismatches(&self, layout: &Layout) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for shape in layout.shapes() {
            let path = self.maps().join(shape.name);
            if !path.exists() {
                wrong.push(format!("{} is missing", shape.name));
                continue;
            }
            let info = MapInfo::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
            let found = (info.map_type()?, info.key_size(), info.value_size(), info.max_entries());
            let needed = (shape.kind, shape.key, shape.value, shape.entries);
            if found.3 != needed.3 && (found.0, found.1, found.2) == (needed.0, needed.1, needed.2) {
                wrong.push(format!(
                    "{} has {} entries, the configuration needs {}",
                    shape.name, found.3, needed.3
                ));
            } else if found != needed {
                wrong.push(format!("{} is {found:?} and should be {needed:?}", shape.name));
            }
        }
        Ok(wrong)
    }

    /// Removes all pins of the instance: what nothing else holds ends with them, attached programs too.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn remove_all(&self) -> Result<()> {
        // Links first: no program may run on maps that are half gone.
        remove_directory(&self.links(), link::unpin)?;
        remove_directory(&self.watch(), link::unpin)?;
        remove_directory(&self.maps(), |path| fs::remove_file(path))
    }

    /// Removes all pins and the directory itself.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn remove(self) -> Result<()> {
        self.remove_all()?;
        fs::remove_dir(&self.root).with_context(|| format!("cannot remove {}", self.root.display()))?;
        if let Some(parent) = self.root.parent() {
            // Other instances may still be there.
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}

/// Makes the directory of an instance and locks it. A daemon that is just stopping is waited for; if it removed the
/// directory meanwhile, the lock is on nothing, and a new one is made.
fn take_lock(root: &Path, instance: &str) -> Result<Flock<File>> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        make_directory(root)?;
        let directory = File::open(root).with_context(|| format!("cannot open {}", root.display()))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) if is_at(&lock, root) => return Ok(lock),
            Ok(_) => {}
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() < until => {}
            Err((_, Errno::EWOULDBLOCK)) => bail!(ApiError::conflict(
                format!("another daemon of instance \"{instance}\" is running: it holds {}", root.display()),
                "stop it with `fairlead stop`, or start this one with another --instance",
            )),
            Err((_, errno)) => return Err(errno).with_context(|| format!("cannot lock {}", root.display())),
        }
        sleep(LOCK_POLL);
    }
}

/// Whether an open directory is still the one at this path.
fn is_at(directory: &File, path: &Path) -> bool {
    let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    match (directory.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(found)) => identity(&open) == identity(&found),
        _ => false,
    }
}

/// Makes a directory that only its owner may look into: whoever can open a pin can change it.
///
/// # Errors
/// If it can't be made; most often because of missing rights.
pub fn make_directory(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot create {}", path.display()))
}

fn remove_directory(directory: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<()> {
    let removed = || match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                remove(&entry?.path())?;
            }
            fs::remove_dir(directory)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed().with_context(|| format!("cannot remove {}", directory.display()))
}

/// Mounts bpffs at its usual place if the pin directory is to be there and nobody has.
///
/// # Errors
/// If the directory is on another file system, or the mount is refused.
pub fn make_sure_of_bpffs(pin_dir: &Path) -> Result<()> {
    let on_bpffs = |path: &Path| statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    let existing = pin_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if on_bpffs(existing) {
        return Ok(());
    }
    if pin_dir.starts_with(BPFFS) && !on_bpffs(Path::new(BPFFS)) {
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .with_context(|| format!("cannot mount bpffs at {BPFFS}: run as root, or mount it yourself"))?;
        tracing::info!(path = BPFFS, "mounted bpffs");
        return Ok(());
    }
    bail!("{} is not on a BPF file system; name a directory below {BPFFS} with --pin-dir", pin_dir.display())
}

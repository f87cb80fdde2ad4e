//! The pins of an instance: where they are, who holds them, and whether they may be used again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::MapData;
use lb_common::limits::ABI_VERSION;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::layout::{Layout, META, Meta};
use super::link;
use super::mapped::Mapped;
use super::pinned::{Pinned, misfit};
use super::watch;
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
        Ok(self.contents()?.iter().any(|(_, place)| *place == Place::Link))
    }

    /// Looks at what an earlier daemon left. Maps that were never completed are removed, unless a program runs on them.
    /// What is not ours is named and left alone.
    ///
    /// # Errors
    /// If maps are missing, or of another version or of other sizes than `layout`, or something else is in their place;
    /// the message says which, and what to do.
    pub fn find(&self, layout: &Layout) -> Result<Found> {
        for path in self.strays()? {
            tracing::warn!(path = %path.display(), "not pinned by fairlead, and left alone; remove it if nobody needs it");
        }
        let remedy = format!(
            "stop forwarding and start anew with `fairlead --instance {} stop --detach` (all flows are picked anew then)",
            self.instance
        );
        let root = self.root.display();
        match self.meta(&remedy)? {
            None if self.has_links()? => bail!(ApiError::conflict(
                format!(
                    "a program is attached by {}, but its map META is missing or was never completed: the other maps cannot \
                     be trusted",
                    self.links().display()
                ),
                remedy,
            )),
            None => {
                self.remove_all()?;
                make_directory(&self.maps())?;
                make_directory(&self.links())?;
                make_directory(&self.watch())?;
                self.check_room(layout)?;
                Ok(Found::Nothing)
            }
            Some(meta) if meta.abi != ABI_VERSION => bail!(ApiError::conflict(
                format!(
                    "the pinned maps in {root} are of version {}, this fairlead needs version {ABI_VERSION}",
                    meta.abi
                ),
                format!("run the fairlead that made them, or {remedy}"),
            )),
            Some(meta) if !meta.is_plausible() => bail!(ApiError::conflict(
                format!(
                    "{} says version {ABI_VERSION} and else what fairlead never writes: the other maps cannot be trusted",
                    self.maps().join("META").display()
                ),
                remedy,
            )),
            Some(meta) => {
                let wrong = self.mismatches(layout)?;
                if !wrong.is_empty() {
                    bail!(ApiError::conflict(
                        format!("the pinned maps in {root} do not fit: {}", wrong.join("; ")),
                        format!("set [limits] back to what is in force, or {remedy}"),
                    ));
                }
                Ok(Found::Complete(meta))
            }
        }
    }

    /// The META row, if its map is there and complete.
    fn meta(&self, remedy: &str) -> Result<Option<Meta>> {
        let path = self.maps().join("META");
        if matches!(Pinned::at(&path)?, Pinned::Nothing) {
            return Ok(None);
        }
        if let Some(how) = misfit(&path, &META)? {
            bail!(ApiError::conflict(
                format!(
                    "the map META in {} {how}: without it the other maps cannot be trusted",
                    self.maps().display()
                ),
                format!("run the fairlead that made them, or {remedy}"),
            ));
        }
        let map = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let meta = Mapped::<Meta>::new(map.fd(), 1)?.read(0);
        Ok((meta.abi != 0).then_some(meta))
    }

    /// Whether the pinned maps are still what they should be.
    ///
    /// # Errors
    /// What is not.
    pub fn check(&self, layout: &Layout) -> Result<()> {
        let wrong = self.mismatches(layout)?;
        ensure!(
            wrong.is_empty(),
            "the pinned maps in {} do not fit: {}",
            self.root.display(),
            wrong.join("; ")
        );
        Ok(())
    }

    fn mismatches(&self, layout: &Layout) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for shape in layout.shapes() {
            if let Some(how) = misfit(&self.maps().join(shape.name), &shape)? {
                wrong.push(format!("{} {how}", shape.name));
            }
        }
        Ok(wrong)
    }

    /// Refuses a start that would take something else for its own maps.
    fn check_room(&self, layout: &Layout) -> Result<()> {
        for shape in layout.shapes() {
            let path = self.maps().join(shape.name);
            let found = Pinned::at(&path)?;
            if !matches!(found, Pinned::Nothing) {
                bail!(ApiError::conflict(
                    format!("{} is {found}, where a map of fairlead is to be", path.display()),
                    "remove or rename it, which fairlead did not pin",
                ));
            }
        }
        Ok(())
    }

    /// Everything below the directory of the instance, and whose it is.
    fn contents(&self) -> Result<Vec<(PathBuf, Place)>> {
        let mut found = Vec::new();
        let own = [self.maps(), self.links(), self.watch()];
        for directory in own.iter().chain([&self.root]) {
            let entries = match fs::read_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
            };
            for entry in entries {
                let path = entry.with_context(|| format!("cannot read {}", directory.display()))?.path();
                if !own.contains(&path) {
                    let place = self.place(directory, &path);
                    found.push((path, place));
                }
            }
        }
        Ok(found)
    }

    /// Whose a pin is. Maps have names in capitals, of whatever version they are, and links the number of an interface
    /// or the name of a program.
    fn place(&self, directory: &Path, path: &Path) -> Place {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let capitals = name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
        // What can't be looked at is not ours to remove.
        match Pinned::at(path) {
            Ok(Pinned::Map(_)) if *directory == self.maps() && capitals => Place::Map,
            Ok(Pinned::XdpLink) if *directory == self.links() && name.parse::<u32>().is_ok() => Place::Link,
            Ok(Pinned::OtherLink) if *directory == self.watch() && watch::is_ours(&name) => Place::Watch,
            _ => Place::Stray,
        }
    }

    /// What somebody else put into the directories of the instance.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn strays(&self) -> Result<Vec<PathBuf>> {
        let strays = self.contents()?.into_iter().filter(|(_, place)| *place == Place::Stray);
        Ok(strays.map(|(path, _)| path).collect())
    }

    /// Removes all pins of the instance: what nothing else holds ends with them, attached programs too. What is not
    /// ours stays.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn remove_all(&self) -> Result<()> {
        let contents = self.contents()?;
        let all = |wanted: Place| contents.iter().filter(move |(_, place)| *place == wanted);
        let failed = |path: &Path| format!("cannot remove {}", path.display());
        // Links first: no program may run on maps that are half gone.
        for (path, _) in all(Place::Link).chain(all(Place::Watch)) {
            link::unpin(path).with_context(|| failed(path))?;
        }
        for (path, _) in all(Place::Map) {
            fs::remove_file(path).with_context(|| failed(path))?;
        }
        for directory in [self.links(), self.watch(), self.maps()] {
            remove_if_empty(&directory).with_context(|| failed(&directory))?;
        }
        Ok(())
    }

    /// Removes all pins and the directory itself, unless somebody else put something there: what that is.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub fn remove(self) -> Result<Vec<PathBuf>> {
        self.remove_all()?;
        let strays = self.strays()?;
        for path in &strays {
            tracing::warn!(path = %path.display(), "not pinned by fairlead, and left alone");
        }
        remove_if_empty(&self.root).with_context(|| format!("cannot remove {}", self.root.display()))?;
        if let Some(parent) = self.root.parent() {
            // Other instances may still be there.
            let _ = fs::remove_dir(parent);
        }
        Ok(strays)
    }
}

/// Whose a pin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A map of fairlead.
    Map,
    /// What attaches fairlead's program.
    Link,
    /// What attaches a program of fairlead to a tracepoint.
    Watch,
    /// Somebody else's.
    Stray,
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

/// Removes a directory that is there and has nothing in it.
fn remove_if_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Ok(())
        }
        removed => removed,
    }
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

//! Pins that do not fit: refused with the remedy and left alone; and those that nobody needs any more.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use lb_common::limits::ABI_VERSION;
use lb_user::bpf::layout::Meta;
use lb_user::bpf::mapped::Mapped;

use crate::fixture::{HEAD, Stage, check};

/// Changes the version in the pinned META row.
fn set_version(stage: &Stage, abi: u32) -> Result<()> {
    let map = MapData::from_pin(stage.daemon.pins().join("main/maps/META"))?;
    let meta = Mapped::<Meta>::new(map.fd(), 1)?;
    meta.write(0, &Meta { abi, ..meta.read(0) }, 0);
    Ok(())
}

/// Every pin of the instance.
fn pins(stage: &Stage) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for part in ["maps", "links"] {
        for entry in fs::read_dir(stage.daemon.pins().join("main").join(part))? {
            all.insert(entry?.path());
        }
    }
    Ok(all)
}

/// Starts a daemon that must refuse what is pinned and leave it, with `parts` in what it says.
fn refused(stage: &mut Stage, parts: &[&str]) -> Result<()> {
    let (before, program) = (pins(stage)?, stage.xdp()?);
    let (code, said) = stage.daemon.refused()?;
    check("the daemon", (code, &said), 5, parts)?;
    ensure!(said.contains("stop --detach"), "no remedy: {said}");
    assert_eq!((pins(stage)?, stage.xdp()?), (before, program));
    stage.forwards().context("forwarding ended")?;
    stage.none_broke()
}

#[test]
fn pins_of_another_version_are_refused_by_both_versions_and_left_alone() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    let (ours, theirs) = (format!("version {ABI_VERSION}"), format!("version {}", ABI_VERSION + 7));
    set_version(&stage, ABI_VERSION + 7)?;
    refused(&mut stage, &[&ours, &theirs, "run the fairlead that made them"])?;
    set_version(&stage, ABI_VERSION)?;
    stage.daemon.start()?;
    stage.none_broke()
}

#[test]
fn maps_of_other_sizes_are_refused_by_both_sizes_and_left_alone() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    let text = stage.daemon.read_config()?;
    stage.daemon.write_config(&text.replace("flows = 65536", "flows = 131072"))?;
    refused(&mut stage, &["FLOWS has 8192 entries", "needs 16384", "[limits]"])?;
    stage.daemon.write_config(&text)?;
    stage.daemon.start()?;
    stage.none_broke()
}

#[test]
fn missing_pin_is_named_while_the_program_goes_on() -> Result<()> {
    for name in ["SERVICES", "BACKENDS", "META"] {
        let mut stage = Stage::running(1)?;
        stage.forwards()?;
        stage.daemon.kill();
        fs::remove_file(stage.daemon.pins().join("main/maps").join(name))?;
        refused(&mut stage, &[name, "missing"]).context(name)?;
        // The remedy works.
        stage.daemon.ok(&["stop", "--detach"])?;
        stage.nothing_left()?;
        stage.daemon.start()?;
        stage.forwards()?;
    }
    Ok(())
}

/// The pin of the link to the balancer's interface.
fn link_pin(stage: &Stage) -> Result<PathBuf> {
    let mut links = fs::read_dir(stage.daemon.pins().join("main/links"))?;
    Ok(links.next().context("no link is pinned")??.path())
}

#[test]
fn pins_of_another_kind_are_refused_by_name_and_left_alone() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    let (maps, link) = (stage.daemon.pins().join("main/maps"), link_pin(&stage)?);
    let saved = stage.daemon.pins().join("saved");
    // The file system of pins has links of both kinds.
    type Make<'m> = &'m dyn Fn(&Path) -> std::io::Result<()>;
    let map: Make<'_> = &|path| fs::hard_link(maps.join("SERVICES"), path);
    let hash: Make<'_> = &|path| fs::hard_link(maps.join("VIPS4"), path);
    let xdp: Make<'_> = &|path| fs::hard_link(&link, path);
    let folder: Make<'_> = &|path| fs::create_dir(path);
    let nothing: Make<'_> = &|path| symlink("gone", path);
    for (name, what, make) in [
        ("SERVICES", "is a Hash of", hash),
        ("VIPS4", "is a Array of", map),
        ("META", "META in", map),
        ("META", "META in", hash),
        ("BACKENDS", "is a link of an XDP program and no map", xdp),
        ("META", "is a link of an XDP program and no map", xdp),
        ("EGRESS", "is a directory and no map", folder),
        ("META", "is a directory and no map", folder),
        ("FLOWS", "is no BPF object and no map", nothing),
        ("META", "is no BPF object and no map", nothing),
    ] {
        let path = maps.join(name);
        fs::rename(&path, &saved)?;
        make(&path)?;
        refused(&mut stage, &[name, what]).with_context(|| format!("{name} {what}"))?;
        fs::remove_dir(&path).or_else(|_| fs::remove_file(&path))?;
        fs::rename(&saved, &path)?;
    }
    stage.daemon.start()?;
    stage.none_broke()
}

#[test]
fn pins_whose_description_is_garbage_are_refused_and_left_alone() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    let map = MapData::from_pin(stage.daemon.pins().join("main/maps/META"))?;
    let row = Mapped::<Meta>::new(map.fd(), 1)?;
    let right = row.read(0);
    for wrong in [
        Meta { reserved: 1, ..right },
        Meta { spare: [0, 0, 0, 0, 1], ..right },
        Meta { seed: [0, 0], ..right },
        Meta { abi: right.abi, reserved: u32::MAX, seed: [u64::MAX; 2], spare: [u64::MAX; 5] },
    ] {
        row.write(0, &wrong, 0);
        refused(&mut stage, &["META", "cannot be trusted"]).with_context(|| format!("{wrong:?}"))?;
    }
    row.write(0, &right, 0);
    stage.daemon.start()?;
    stage.none_broke()
}

#[test]
fn map_in_the_place_of_a_link_is_refused_and_not_removed() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    let (link, saved) = (link_pin(&stage)?, stage.daemon.pins().join("saved"));
    fs::rename(&link, &saved)?;
    fs::hard_link(stage.daemon.pins().join("main/maps/SERVICES"), &link)?;
    let (before, program) = (pins(&stage)?, stage.xdp()?);
    let (code, said) = stage.daemon.refused()?;
    let path = link.to_string_lossy().into_owned();
    check("the daemon", (code, &said), 5, &[&path, "is a map", "remove or rename it"])?;
    assert_eq!((pins(&stage)?, stage.xdp()?), (before, program));
    stage.forwards()?;
    fs::rename(&saved, &link)?;
    stage.daemon.start()?;
    stage.none_broke()
}

#[test]
fn strangers_pins_are_named_and_survive_start_stop_and_a_new_start() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    let main = stage.daemon.pins().join("main");
    let map = main.join("maps/COUNTERS");
    for map_pin in ["maps/counters_of_mine", "links/counters", "links/999999"] {
        fs::hard_link(&map, main.join(map_pin))?;
    }
    fs::create_dir(main.join("maps/FOLDER"))?;
    fs::create_dir(main.join("notes"))?;
    symlink("gone", main.join("maps/LINK"))?;
    let strays =
        ["maps/counters_of_mine", "links/counters", "links/999999", "maps/FOLDER", "notes", "maps/LINK"]
            .map(|name| main.join(name));
    let all_there = || strays.iter().all(|stray| fs::symlink_metadata(stray).is_ok());
    stage.daemon.start()?;
    stage.none_broke()?;
    for stray in &strays {
        ensure!(stage.daemon.log().contains(&*stray.to_string_lossy()), "{} is not named", stray.display());
    }
    ensure!(all_there(), "the start removed one");
    stage.daemon.kill();
    let all_named = |said: &str| -> Result<()> {
        for stray in &strays {
            ensure!(said.contains(&*stray.to_string_lossy()), "{} is not named: {said}", stray.display());
        }
        Ok(())
    };
    all_named(&stage.daemon.ok(&["stop", "--detach"])?).context("without a daemon")?;
    ensure!(all_there() && stage.xdp()?.is_none(), "the stop removed one, or did not detach");
    let left: BTreeSet<PathBuf> = pins(&stage)?;
    assert_eq!(left.len(), 5, "{left:?}");
    stage.daemon.start()?;
    stage.forwards()?;
    all_named(&stage.daemon.ok(&["stop", "--detach"])?).context("with a daemon")?;
    assert_eq!(stage.daemon.ended()?, 0);
    ensure!(all_there() && stage.xdp()?.is_none(), "the stop removed one, or did not detach");
    for stray in &strays {
        fs::remove_dir(stray).or_else(|_| fs::remove_file(stray))?;
    }
    Ok(())
}

#[test]
fn first_start_takes_nothing_for_its_map() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    let (main, saved) = (stage.daemon.pins().join("main"), stage.daemon.pins().join("saved"));
    fs::rename(main.join("maps/META"), &saved)?;
    // No link is pinned any more where links belong, so that the maps count as never completed.
    fs::rename(link_pin(&stage)?, stage.daemon.pins().join("link"))?;
    fs::remove_file(main.join("maps/SERVICES"))?;
    fs::hard_link(stage.daemon.pins().join("link"), main.join("maps/SERVICES"))?;
    let (code, said) = stage.daemon.refused()?;
    check(
        "the daemon",
        (code, &said),
        5,
        &["maps/SERVICES", "a link of an XDP program", "remove or rename it"],
    )?;
    ensure!(main.join("maps/SERVICES").exists(), "it was removed");
    fs::remove_file(main.join("maps/SERVICES"))?;
    fs::remove_file(stage.daemon.pins().join("link"))?;
    fs::remove_file(saved)?;
    stage.daemon.start()?;
    stage.forwards()
}

#[test]
fn interface_that_was_made_anew_meanwhile_is_attached_to_and_its_old_pin_goes() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    stage.daemon.kill();
    let before = pins(&stage)?;
    crate::interfaces::replace(&stage)?;
    ensure!(stage.xdp()?.is_none(), "the new interface has a program");
    stage.daemon.start()?;
    stage.forwards()?;
    let after = pins(&stage)?;
    let links =
        |all: &BTreeSet<PathBuf>| all.iter().filter(|pin| pin.to_string_lossy().contains("links")).count();
    assert_eq!((links(&before), links(&after)), (1, 1), "{after:?}");
    Ok(())
}

#[test]
fn pins_of_a_first_start_that_died_are_replaced() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.daemon.kill();
    set_version(&stage, 0)?;
    for link in fs::read_dir(stage.daemon.pins().join("main/links"))? {
        fs::remove_file(link?.path())?;
    }
    // Also sizes that are wanted differently now are no obstacle: nothing of it was ever in force.
    let text = stage.daemon.read_config()?;
    stage.daemon.write_config(&text.replace(HEAD, &HEAD.replace("flows = 65536", "flows = 131072")))?;
    stage.daemon.start()?;
    assert_eq!(stage.daemon.get("/v1/status")?["adopted"], false);
    stage.forwards()
}

#[test]
fn pin_folder_outside_the_bpf_file_system_is_refused_with_the_remedy() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.daemon.detach()?;
    let folder = stage.lab.folder().join("no-bpffs");
    stage.daemon.set_arguments(&["--pin-dir", &folder.to_string_lossy()]);
    let (code, said) = stage.daemon.refused()?;
    check("the daemon", (code, &said), 1, &["no-bpffs", "is not on a BPF file system", "--pin-dir"])?;
    ensure!(!folder.exists(), "{} was made", folder.display());
    stage.nothing_left()
}

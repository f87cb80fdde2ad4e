//! Pins that do not fit: refused with the remedy and left alone; and those that nobody needs any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

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

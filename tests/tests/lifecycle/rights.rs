//! Started by somebody who may not, or may just so.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use anyhow::{Result, ensure};
use fairlead_tests::lab::{Lab, binary};

use crate::fixture::{Stage, check, check_cli, plain};

#[test]
fn start_without_the_rights_says_which_are_missing_and_leaves_nothing() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let text = plain(&lab);
    let stage = Stage::set(lab, &text)?;
    let name = stage.balancer().ns.name().to_owned();
    for (dropped, netns, parts) in [
        ("-net_admin,-bpf,-perfmon", true, ["CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF", "run it as root"]),
        ("-bpf", true, ["needs CAP_BPF:", "run it as root"]),
        ("-all", false, ["CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF", "run it as root"]),
        ("-all", true, [name.as_str(), "run as root"]),
    ] {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", dropped]).arg(binary("fairlead")?).envs(stage.daemon.environment());
        command.args(["run", "--config"]).arg(stage.daemon.config_path());
        if netns {
            command.args(["--netns", &name]);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        check(dropped, (output.status.code().unwrap_or(-1), &said), 1, &parts)?;
        stage.nothing_left()?;
    }
    Ok(())
}

#[test]
fn daemon_with_the_documented_rights_only_forwards_and_changes_a_file_of_somebody_else() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    let text = plain(&lab);
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.set_launcher(&["setpriv", "--bounding-set", "-all,+net_admin,+bpf,+perfmon"]);
    chown(stage.daemon.config_path(), Some(1234), Some(4321))?;
    stage.daemon.start()?;
    stage.forwards()?;
    check_cli(&stage.daemon, &format!("backend drain lines {}", stage.backend(0)), 0, &[])?;
    ensure!(stage.daemon.read_config()?.contains("drain"), "the file is as it was");
    let metadata = fs::metadata(stage.daemon.config_path())?;
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (0, 0, 0o644));
    let (path, log) = (stage.daemon.config_path(), stage.daemon.log());
    for part in [&*path.to_string_lossy(), "chown 1234:4321", "CAP_CHOWN"] {
        ensure!(log.contains(part), "the log does not say {part:?}:\n{log}");
    }
    stage.none_broke()?;
    stage.daemon.detach()?;
    stage.nothing_left()
}

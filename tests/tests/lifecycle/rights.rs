//! Started by somebody who may not.

use std::process::Command;

use anyhow::Result;
use fairlead_tests::lab::{Lab, binary};

use crate::fixture::{Stage, check, plain};

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

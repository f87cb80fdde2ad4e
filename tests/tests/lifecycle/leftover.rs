//! What is left of a lab in which a daemon ran: nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::fixture::Stage;

/// Everything on this machine that carries the lab's name.
fn traces(name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in ["/run/netns", "/sys/fs/bpf", "/tmp"] {
        for entry in fs::read_dir(folder)?.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if file == name || file.starts_with(&format!("{name}-")) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    for entry in fs::read_dir("/proc")?.flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let mark = format!("FAIRLEAD_LAB={name}");
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            found.push(entry.path().display().to_string());
        }
    }
    Ok(found)
}

#[test]
fn nothing_is_left_of_a_lab_whose_daemon_ran_or_was_killed() -> Result<()> {
    for killed in [false, true] {
        let mut stage = Stage::running(1)?;
        stage.forwards()?;
        let folder = stage.lab.folder();
        let name = folder.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
        assert!(traces(&name)?.len() > 5, "{:?}", traces(&name)?);
        if killed {
            stage.daemon.kill();
        }
        drop(stage);
        assert_eq!(traces(&name)?, Vec::<String>::new());
        assert!(!Path::new(&folder).exists());
    }
    Ok(())
}

//! The end of the tunnel on a backend: `fairlead decap attach`.

use super::binaries::binary;
use super::plan::{PREFIX4, PREFIX6, Row, second4, second6};
use super::topology::{DEVICE, Host, Lab, SECOND};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// A decapsulating backend. The program goes with the backend's namespace, its pins with the lab.
#[derive(Debug)]
pub struct Decap {
    ns: String,
    device: &'static str,
    pins: PathBuf,
}

impl Decap {
    /// Accepts tunnels from every address of the segment, for all VIPs of the lab.
    ///
    /// # Errors
    /// What `fairlead decap attach` said.
    pub fn attach(lab: &Lab, host: &Host) -> Result<Self> {
        let vips: Vec<String> =
            lab.vips.iter().flat_map(|(v4, v6)| [v4.to_string(), v6.to_string()]).collect();
        let from =
            [format!("{}/{PREFIX4}", Row::Balancer.v4(0)), format!("{}/{PREFIX6}", Row::Balancer.v6(0))];
        Self::attach_for(lab, host, &vips, &from)
    }

    /// The same for tunnels that come by the second segment.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_second(lab: &Lab, host: &Host) -> Result<Self> {
        let vips: Vec<String> =
            lab.vips.iter().flat_map(|(v4, v6)| [v4.to_string(), v6.to_string()]).collect();
        let (v4, v6) = (second4(Row::Balancer.v4(0)), second6(Row::Balancer.v6(0)));
        Self::attach_to(lab, host, SECOND, &vips, &[format!("{v4}/{PREFIX4}"), format!("{v6}/{PREFIX6}")])
    }

    /// Accepts tunnels from the networks `from`, for the VIPs `vips`.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_for(lab: &Lab, host: &Host, vips: &[String], from: &[String]) -> Result<Self> {
        Self::attach_to(lab, host, DEVICE, vips, from)
    }

    fn attach_to(
        lab: &Lab,
        host: &Host,
        device: &'static str,
        vips: &[String],
        from: &[String],
    ) -> Result<Self> {
        let new = Self { ns: host.ns.name().to_owned(), device, pins: lab.pin_folder(&host.role)? };
        let mut arguments = vec!["decap", "attach", "--dev", device];
        arguments.extend(vips.iter().flat_map(|vip| ["--vip", vip.as_str()]));
        arguments.extend(from.iter().flat_map(|network| ["--from", network.as_str()]));
        new.run(&arguments)?;
        Ok(new)
    }

    /// Removes the program: tunnelled packets are no longer understood.
    ///
    /// # Errors
    /// What `fairlead decap detach` said.
    pub fn detach(&self) -> Result<()> {
        self.run(&["decap", "detach", "--dev", self.device]).map(drop)
    }

    /// `fairlead decap status`, as JSON.
    ///
    /// # Errors
    /// What it said, or no JSON.
    pub fn status(&self) -> Result<serde_json::Value> {
        let output = self.run(&["-o", "json", "decap", "status"])?;
        serde_json::from_str(&output).with_context(|| format!("decap status: {output:?}"))
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binary("fairlead")?);
        command.env("FAIRLEAD_PIN_DIR", &self.pins).args(arguments).args(["--netns", &self.ns]);
        let output = command.output().context("cannot start fairlead")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "fairlead {} in {} ended with {}: {}",
                arguments.join(" "),
                self.ns,
                output.status,
                said.trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

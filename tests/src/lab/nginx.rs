//! nginx on a backend: a page that names the backend, and an upload that is read to its last byte.

use super::http::{self, PATIENCE};
use super::leftover::LabName;
use super::process::Process;
use super::topology::{Host, Lab};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long nginx may take to serve its first page.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// A running nginx: `GET /` answers with the backend's role, `POST /upload` takes up to 16 MB and answers likewise.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    host: Host,
}

impl Nginx {
    /// Starts it on port 80 of every address of the host, with a folder and a configuration of its own.
    ///
    /// # Errors
    /// nginx is missing or does not start.
    pub fn start(lab: &Lab, host: &Host) -> Result<Self> {
        let folder = lab.folder().join(format!("nginx-{}", host.role));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let config = folder.join("nginx.conf");
        fs::write(&config, configuration(&folder, &host.role))?;
        let process = launch(lab.name(), host, &folder)?;
        Ok(Self { process, host: host.clone() })
    }

    /// Kills it with SIGKILL: the backend then refuses connections and resets what was open.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.process.kill();
        self.process =
            launch(lab.name(), &self.host, &lab.folder().join(format!("nginx-{}", self.host.role)))?;
        Ok(())
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn launch(lab: LabName, host: &Host, folder: &Path) -> Result<Process> {
    // A socket left by a killed nginx would keep the new one from listening.
    let _ = fs::remove_file(folder.join("upload.sock"));
    let mut command = host.ns.command("nginx");
    command
        .arg("-p")
        .arg(folder)
        .arg("-e")
        .arg(folder.join("error.log"))
        .arg("-c")
        .arg(folder.join("nginx.conf"));
    let mut process =
        Process::start(lab, &format!("nginx on {}", host.role), command, &folder.join("output.log"))?;
    let own = (host.v4, 80).into();
    process.wait_ready(STARTS_WITHIN, || host.ns.enter(|| http::get(None, own, "/", PATIENCE)).is_ok())?;
    Ok(process)
}

/// One process that does everything, so that SIGKILL takes all of nginx. The upload goes through a second, inner
/// server because only passing it on makes nginx read the whole body.
fn configuration(folder: &Path, name: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log warn;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
         access_log off;\ndefault_type text/plain;\nclient_max_body_size 16m;\nclient_body_buffer_size 2m;\n\
         client_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\nfastcgi_temp_path {folder}/fastcgi;\n\
         uwsgi_temp_path {folder}/uwsgi;\nscgi_temp_path {folder}/scgi;\n\
         server {{\n\
         listen 80 backlog=4096;\nlisten [::]:80 ipv6only=on backlog=4096;\n\
         location / {{ return 200 \"{name}\\n\"; }}\n\
         location /upload {{ proxy_pass http://unix:{folder}/upload.sock; }}\n\
         }}\n\
         server {{ listen unix:{folder}/upload.sock; location / {{ return 200 \"{name} $http_content_length\\n\"; }} }}\n\
         }}\n"
    )
}

//! Stand-ins for the daemon, the decapsulator and the look at the machine, until they are there.
//!
//! Delete this file and declare `mod daemon; mod decap; mod net;` in lib.rs instead of its `use`.

/// Stand-in for the daemon.
pub(crate) mod daemon {
    use crate::cli::run::RunOptions;

    /// Runs the daemon until it is stopped.
    pub(crate) fn run(options: RunOptions) -> anyhow::Result<()> {
        anyhow::bail!("the daemon is not part of this build: cannot run {}", options.config.display())
    }
}

/// Stand-in for the decapsulator.
pub(crate) mod decap {
    use crate::cli::decap::{AttachOptions, Decapsulator, DetachOptions, StatusOptions};

    /// Attaches the decapsulator, or changes the lists of one that is attached.
    pub(crate) fn attach(options: &AttachOptions) -> anyhow::Result<Decapsulator> {
        anyhow::bail!("the decapsulator is not part of this build: cannot attach to {}", options.device)
    }

    /// Detaches the decapsulator and removes its pins.
    pub(crate) fn detach(options: &DetachOptions) -> anyhow::Result<()> {
        anyhow::bail!("the decapsulator is not part of this build: cannot detach from {}", options.device)
    }

    /// Decapsulators of this network namespace.
    pub(crate) fn status(options: &StatusOptions) -> anyhow::Result<Vec<Decapsulator>> {
        anyhow::bail!("the decapsulator is not part of this build: no pins in {}", options.pin_dir.display())
    }
}

/// Stand-in for the look at the machine.
pub(crate) mod net {
    use lb_core::config::{Config, HostFacts};

    /// Interfaces of this network namespace, and the routes to the backends.
    pub(crate) fn host_facts(config: &Config) -> anyhow::Result<HostFacts> {
        let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
        anyhow::bail!("netlink is not part of this build: cannot look up {backends} routes")
    }
}

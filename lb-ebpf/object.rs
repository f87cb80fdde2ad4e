//! For build scripts: builds a BPF object for its own target and puts it where a crate includes it.
//!
//! The toolchain is rustup's nightly if it has rust-src (then core is built along), else a compiler whose distribution
//! ships core for the BPF target, as Debian's rustc-web does. `cargo xtask setup` installs either.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";

/// Builds the binary `bin` of this package, and copies its object to `name` in OUT_DIR.
pub(crate) fn build_for_inclusion(bin: &str, name: &str) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Asked for now: what was compiled in is where this script was built, which may have been another checkout.
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR")).join("..");
    for watched in ["lb-ebpf", "lb-common/src", "lb-common/Cargo.toml", "Cargo.lock", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo:rerun-if-env-changed=PATH");
    let object = match build(&root, &out, bin) {
        Ok(object) => object,
        Err(reason) => {
            // One line, without the dump of a failed script.
            println!(
                "cargo::error=the BPF programs were not built: {reason}; run `cargo xtask setup` and build again"
            );
            return;
        }
    };
    std::fs::copy(&object, out.join(name)).expect("the object was just built");
}

/// A compiler for the BPF target.
enum Toolchain {
    /// rustup's nightly with rust-src: core is built from source.
    Nightly,
    /// A compiler with a ready-made core.
    Prebuilt(PathBuf),
}

fn toolchain() -> Result<Toolchain, String> {
    let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]));
    if nightly.is_some_and(|root| root.join("lib/rustlib/src/rust/library").is_dir()) {
        return Ok(Toolchain::Nightly);
    }
    let rustc = PathBuf::from("/usr/bin/rustc");
    match sysroot(&mut Command::new(&rustc)) {
        Some(root) if root.join("lib/rustlib").join(TARGET).is_dir() => Ok(Toolchain::Prebuilt(rustc)),
        _ => Err(format!("no compiler with core for {TARGET}")),
    }
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).env_remove("RUSTC").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

fn build(root: &Path, out: &Path, bin: &str) -> Result<PathBuf, String> {
    let toolchain = toolchain()?;
    if Command::new("bpf-linker").arg("--version").output().is_err() {
        return Err("bpf-linker is not on PATH".to_owned());
    }
    let target_dir = out.join("bpf");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = match &toolchain {
        Toolchain::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        }
        Toolchain::Prebuilt(_) => Command::new(cargo),
    };
    command.current_dir(root).args(["build", "--quiet", "--release", "--package", "lb-ebpf", "--bin", bin]);
    command.args(["--target", TARGET, "--target-dir"]).arg(&target_dir);
    // Nothing of the host's build may leak into this one.
    let leaking = env::vars_os().map(|(name, _)| name).filter(|name| {
        name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_") && !matches!(name, "CARGO_HOME") && !name.starts_with("CARGO_NET_")
                || matches!(
                    name,
                    "RUSTC" | "RUSTDOC" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "RUSTFLAGS"
                )
        })
    });
    for name in leaking.collect::<Vec<_>>() {
        command.env_remove(name);
    }
    match toolchain {
        Toolchain::Nightly => {
            command.args(["-Z", "build-std=core"]);
            command.env_remove("RUSTUP_TOOLCHAIN");
        }
        Toolchain::Prebuilt(rustc) => {
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Cdebuginfo=2\u{1f}-Clinker=bpf-linker\u{1f}-Ctarget-cpu=v3");
    let status = command.status().map_err(|error| format!("cargo could not be started: {error}"))?;
    if !status.success() {
        return Err("its compiler reported the errors above".to_owned());
    }
    Ok(target_dir.join(TARGET).join("release").join(bin))
}

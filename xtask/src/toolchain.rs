//! The compiler of the BPF program: which one this machine offers. lb-user's build script follows the same rule.

use crate::machine::{cargo_bin, find_program};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The linker of BPF objects; its LLVM must match the compiler's, so the version is fixed.
pub(crate) const BPF_LINKER: &str = "0.10.3";

/// A compiler that can build for `bpfel-unknown-none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// rustup's nightly with rust-src: cargo builds `core` itself.
    Nightly(PathBuf),
    /// Debian's rustc with a prebuilt `core` for BPF.
    Debian(PathBuf),
}

/// The compiler that will be used: nightly only with its rust-src, else Debian's, else none.
pub(crate) fn compiler() -> Option<Compiler> {
    nightly(&rustup_home()?).or_else(|| debian(Path::new("/usr")))
}

fn rustup_home() -> Option<PathBuf> {
    let set = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    set.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".rustup")))
}

/// Nightly without rust-src cannot build `core`, so it does not count.
fn nightly(rustup_home: &Path) -> Option<Compiler> {
    let toolchain =
        rustup_home.join("toolchains").join(format!("nightly-{}-unknown-linux-gnu", env::consts::ARCH));
    let sources = toolchain.join("lib/rustlib/src/rust/library");
    sources.is_dir().then_some(Compiler::Nightly(toolchain))
}

fn debian(prefix: &Path) -> Option<Compiler> {
    let rustc = prefix.join("bin/rustc");
    let core = prefix.join("lib/rustlib/bpfel-unknown-none/lib");
    (rustc.is_file() && core.is_dir()).then_some(Compiler::Debian(rustc))
}

/// The version of the bpf-linker on PATH or in cargo's bin folder, if there is one.
pub(crate) fn linker_version() -> Option<String> {
    let installed = cargo_bin().map(|dir| dir.join("bpf-linker")).filter(|file| file.is_file());
    let output = Command::new(find_program("bpf-linker").or(installed)?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn scratch(name: &str) -> PathBuf {
        let dir = env::temp_dir().join(format!("xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("a scratch folder");
        dir
    }

    #[test]
    fn nightly_without_its_sources_is_not_chosen() {
        let home = scratch("nightly");
        let toolchain = home.join(format!("toolchains/nightly-{}-unknown-linux-gnu", env::consts::ARCH));
        fs::create_dir_all(toolchain.join("lib/rustlib/etc")).expect("folders");
        let without = nightly(&home);
        fs::create_dir_all(toolchain.join("lib/rustlib/src/rust/library")).expect("folders");
        let with = nightly(&home);
        fs::remove_dir_all(&home).expect("scratch removed");
        assert_eq!((without, with), (None, Some(Compiler::Nightly(toolchain))));
    }

    #[test]
    fn debian_compiler_without_the_bpf_core_is_not_chosen() {
        let prefix = scratch("debian");
        fs::create_dir_all(prefix.join("bin")).expect("folders");
        fs::write(prefix.join("bin/rustc"), "").expect("a file");
        let without = debian(&prefix);
        fs::create_dir_all(prefix.join("lib/rustlib/bpfel-unknown-none/lib")).expect("folders");
        let with = debian(&prefix);
        fs::remove_dir_all(&prefix).expect("scratch removed");
        assert_eq!((without, with), (None, Some(Compiler::Debian(prefix.join("bin/rustc")))));
    }
}

//! Flags for bpf-linker, which generates the code.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("bpf") {
        for flag in ["--btf", "--cpu-features=+allows-misaligned-mem-access"] {
            println!("cargo:rustc-link-arg-bins={flag}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}

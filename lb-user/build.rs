//! Builds the BPF programs and puts the object where the library includes it.

#[path = "../lb-ebpf/object.rs"]
mod object;

fn main() {
    object::build_for_inclusion("fairlead-bpf", "fairlead.bpf.o");
}
